"""Opening HDF5 files with errors that name the path and the reason."""

import os
from pathlib import Path

import h5py


def create(path: str | os.PathLike[str], *, overwrite: bool) -> h5py.File:
    """Create an HDF5 file; refuse to replace an existing one unless told to.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is false.
    OSError
        If it cannot be created.
    """
    target = Path(path)
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} already exists; choose another path or allow overwriting")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target} cannot be written: {target.parent} is not a directory")
    try:
        return h5py.File(target, "w", libver="latest")
    except OSError as error:
        raise OSError(f"{target} cannot be written: {error}") from error


def open_for_reading(path: str | os.PathLike[str]) -> h5py.File:
    """Open an HDF5 file for reading, also while another process writes it.

    Raises
    ------
    OSError
        If it does not exist or is not an HDF5 file.
    """
    target = Path(path)
    if not target.is_file():
        raise FileNotFoundError(f"{target} does not exist or is not a file")
    try:
        return h5py.File(target, "r", libver="latest", swmr=True)
    except (OSError, ValueError):
        pass
    try:
        return h5py.File(target, "r")
    except (OSError, ValueError) as error:
        raise OSError(f"{target} is not a readable HDF5 file: {error}") from error
