"""Opening and reading HDF5 files that may be anything, with errors that name path and reason.

Nothing is read before its size is checked against what the file could hold, links are followed
only inside the file, and only the filters this package writes are run.
"""

import math
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ._deflate import encode

#: gzip cannot compress by more than this factor.
MAX_COMPRESSION = 1100
MAX_ATTRIBUTE = 2**20
#: Numbers a chunk of a dataset that is written at once.
CHUNK = 2**16
#: Raw data, gzip, shuffle, checksum, lzf.
FILTERS = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, 32000)


def check_new(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Return the path of a file to be made; raise OSError where `create` would."""
    target = Path(path)
    if "\0" in str(target) or not target.name:
        raise ValueError(f"path must name a file, got {str(target)!r}")
    if target.exists() and not target.is_file():
        raise OSError(f"{target} cannot be written: it is not a regular file")
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} already exists; choose another path or allow overwriting")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target} cannot be written: {target.parent} is not a directory")
    return target


def create(path: str | os.PathLike[str], *, overwrite: bool) -> h5py.File:
    """Create an HDF5 file; refuse to replace an existing one unless told to.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is false.
    OSError
        If it cannot be created.
    """
    target = check_new(path, overwrite=overwrite)
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
        mode = _mode(target)
        return h5py.File(target, "r", libver="latest", swmr=mode == _BEING_WRITTEN)
    except (OSError, ValueError, RuntimeError) as error:
        raise OSError(f"{target} is not a readable HDF5 file: {error}") from error


_CLOSED, _BEING_WRITTEN = range(2)


def _mode(path: Path) -> int:
    """Whether a writer has the file open, or was killed: told by the superblock.

    Libhdf5 retries for minutes in files that are shorter than they say, so those are refused here.
    """
    with open(path, "rb") as file:
        head = file.read(48)
        size = os.fstat(file.fileno()).st_size
    if head[:8] != b"\x89HDF\r\n\x1a\n":
        raise OSError("it does not start like one")
    if len(head) < 48 or head[8] not in (2, 3) or head[9] != 8:
        return _CLOSED
    end = int.from_bytes(head[28:36], "little")
    if end > size:
        raise OSError(f"it is truncated: {size} of {end} bytes are there")
    return _BEING_WRITTEN if head[8] == 3 and head[11] & 1 else _CLOSED


def group(file: h5py.File, name: str) -> h5py.Group:
    """Return a group of the file itself.

    Raises
    ------
    KeyError
        If there is none of that name.
    """
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise KeyError(f"{name!r} is missing")
    node = file[name]
    if not isinstance(node, h5py.Group):
        raise KeyError(f"{name!r} is not a group")
    return node


def dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """Return a dataset that is safe to read.

    Raises
    ------
    KeyError
        If there is none of that name.
    ValueError
        If it leads out of the file, needs other filters, or claims more than the file can hold.
    """
    group: Any = file
    for part in name.split("/"):
        if not isinstance(group, h5py.Group):
            raise KeyError(f"{name!r} is missing")
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise KeyError(f"{name!r} is missing")
        group = group[part]
    if not isinstance(group, h5py.Dataset):
        raise KeyError(f"{name!r} is not a dataset")
    if group.is_virtual or group.external:
        raise ValueError(f"{name!r} keeps its values in other files")
    creation = group.id.get_create_plist()
    for i in range(creation.get_nfilters()):
        if creation.get_filter(i)[0] not in FILTERS:
            raise ValueError(f"{name!r} needs a filter that this package does not use")
    if group.dtype.kind not in "iuf" or group.dtype.itemsize != 8 or group.shape is None:
        raise ValueError(f"{name!r} has type {group.dtype}, expected 64-bit numbers")
    stored = min(group.id.get_storage_size(), os.stat(file.filename).st_size)
    _check_size(name, 8 * math.prod(group.shape), stored)
    if group.chunks is not None:
        _check_size(f"a chunk of {name!r}", 8 * math.prod(group.chunks), 2**16 + stored)
    return group


def _check_size(what: str, claimed: int, stored: int) -> None:
    if claimed > MAX_COMPRESSION * stored:
        raise ValueError(f"{what} claims {claimed} bytes, which {stored} stored ones cannot hold")


def read(file: h5py.File, name: str) -> NDArray[Any]:
    """Read a whole dataset after the checks of `dataset`."""
    values: NDArray[Any] = dataset(file, name)[()]
    return values


def write(group: h5py.Group, name: str, values: NDArray[Any], *, compression: str = "gzip") -> None:
    """Write a vector of 64-bit numbers as a dataset, compressed or not."""
    size = max(1, min(CHUNK, values.size))
    compress = compression == "gzip"
    created = group.create_dataset(
        name,
        values.shape,
        values.dtype,
        chunks=(size,) if compress else None,
        compression="gzip" if compress else None,
        shuffle=compress,
    )
    constant = values.strides == (0,)
    code = b""
    for start in range(0, values.size, size):
        part = np.ascontiguousarray(values[start : start + size])
        if not compress:
            created[start : start + part.size] = part
            continue
        if not (code and constant and part.size == size):
            piece = np.zeros(size, values.dtype)
            piece[: part.size] = part
            code = encode(piece)
        created.id.write_direct_chunk((start,), code)


def text(value: str) -> np.bytes_:
    """Return a text as the fixed-length string that attributes of our files are."""
    return np.bytes_(value.encode())


def attribute(node: h5py.HLObject, name: str) -> Any:
    """Read an attribute of bounded size: text as str, numbers as int or float.

    Raises
    ------
    KeyError
        If there is none of that name.
    ValueError
        If it is not a single text or number of bounded size.
    """
    if name not in node.attrs:
        raise KeyError(f"attribute {name!r} is missing")
    handle = node.attrs.get_id(name)
    kind = h5py.check_string_dtype(handle.dtype)
    if kind is not None and kind.length is None:
        # Libhdf5 can loop forever in a damaged heap of such texts; ours are of fixed length.
        raise ValueError(f"attribute {name!r} is a text of variable length")
    if handle.get_storage_size() > MAX_ATTRIBUTE or handle.shape != ():
        raise ValueError(f"attribute {name!r} is not a single value of bounded size")
    value = node.attrs[name]
    if isinstance(value, bytes):
        return value.decode().strip()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, str):
        return value
    raise ValueError(f"attribute {name!r} is neither text nor a number")
