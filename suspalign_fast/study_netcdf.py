"""Studies in netCDF files of whatever origin: telling them from traces, and reading them."""

from pathlib import Path
from typing import Any

from .labelled import check_reader, load_xarray
from .storage import Reader, files
from .storage.growing import one_line
from .study import FORMAT, open_study

#: First bytes of netCDF files that are not HDF5.
_OLDER = b"CDF"
#: What netCDF-4 libraries leave in the root of their files.
_NETCDF = "_NCProperties"


def is_study(path: Path) -> bool:
    """Whether a file is that of a sweep, or other netCDF, as ``Dataset.to_netcdf`` writes it.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    if _is_older(path):
        return True
    with Reader(path) as file:
        found = file.format_name()
        return found == FORMAT or (not found and _has(file, _NETCDF))


def is_own(path: Path) -> bool:
    """Whether a file is one that a sweep writes, or wrote.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with Reader(path) as file:
        return file.format_name() == FORMAT


def _is_older(path: Path) -> bool:
    return (files.first_bytes(path, len(_OLDER)) or b"") == _OLDER


def _has(file: Reader, name: str) -> bool:
    try:
        file.attribute("", name)
    except (KeyError, ValueError):
        return False
    return True


def read_study(path: Path) -> Any:
    """Read the dataset of a study, also while a sweep writes its file.

    Raises
    ------
    OSError
        If the file cannot be read, or is none of a study.
    ImportError
        If xarray or h5netcdf is not installed.
    """
    xarray = load_xarray()
    is_ours = not _is_older(path) and is_own(path)
    if not _is_older(path):
        check_reader()
    try:
        with open_study(path) if is_ours else xarray.open_dataset(path) as opened:
            dataset = opened.load()
    except OSError:
        raise
    except Exception as error:  # whatever a file makes the libraries raise
        raise OSError(f"{path} is not a readable netCDF file: {one_line(error)}") from error
    if "step" not in dataset.dims:
        raise OSError(f"{path} is not a study: it has no dimension 'step'")
    return dataset
