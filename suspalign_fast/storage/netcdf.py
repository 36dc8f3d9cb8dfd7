"""Dimensions of netCDF-4, made before a file is open to readers.

A dimension is a dataset, its scale. Datasets name the scales of their axes (DIMENSION_LIST), and
scales list the datasets (REFERENCE_LIST). Each has a number that no other in the file has: where
some have none, the netCDF library takes one for another.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5ds, h5s, h5t
from numpy.typing import NDArray

#: What netCDF calls a dimension that has no values.
_NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable.{size:10d}"
#: Attributes by which datasets and scales point at one another.
LIST, REFERENCES = b"DIMENSION_LIST", b"REFERENCE_LIST"
#: The number of a dimension, and those of a variable that is the scale of one of its own.
NUMBER, NUMBERS = b"_Netcdf4Dimid", b"_Netcdf4Coordinates"
#: Attributes that describe a dataset.
DESCRIPTIVE = (b"units", b"long_name")


def add_dimension(group: h5py.Group, name: str, size: int, number: int) -> None:
    """Add a dimension without values."""
    scale = group.create_dataset(name, shape=(size,), dtype=">f4")
    make_scale(scale, _NO_VARIABLE.format(size=size), number)


def add_coordinate(
    group: h5py.Group, name: str, values: NDArray[Any] | Sequence[Any], number: int
) -> None:
    """Add a dimension with values: numbers or texts."""
    array = np.asarray(values)
    if array.dtype.kind in "US":
        texts = np.array([str(value) for value in values], dtype=object)
        scale = group.create_dataset(name, data=texts, dtype=h5py.string_dtype())
    else:
        scale = group.create_dataset(
            name, data=array.astype(np.int64) if _is_bool(array) else array
        )
    make_scale(scale, name, number)


def make_scale(dataset: h5py.Dataset, name: str, number: int) -> None:
    """Make a dataset that is there the scale of a dimension."""
    h5ds.set_scale(dataset.id, name.encode())
    _write(dataset, NUMBER, h5t.STD_I32LE, np.array(number, np.int32))


def attach(dataset: h5py.Dataset, scales: Sequence[h5py.Dataset]) -> None:
    """Name the dimensions of a dataset by their scales."""
    for axis, scale in enumerate(scales):
        h5ds.attach_scale(dataset.id, scale.id, axis)


def describe(dataset: h5py.Dataset, texts: Mapping[str, str]) -> None:
    """Write texts of fixed length as attributes."""
    for name, value in texts.items():
        code = value.encode()
        kind = h5t.C_S1.copy()
        kind.set_size(len(code) or 1)
        kind.set_strpad(h5t.STR_NULLPAD)
        kind.set_cset(h5t.CSET_ASCII if value.isascii() else h5t.CSET_UTF8)
        _write(dataset, name.encode(), kind, np.array(code, f"S{len(code) or 1}"))


def _write(dataset: h5py.Dataset, name: bytes, kind: Any, value: NDArray[Any]) -> None:
    h5a.create(dataset.id, name, kind, h5s.create(h5s.SCALAR)).write(value, kind)


def as_characters(texts: NDArray[Any], length: int) -> NDArray[Any]:
    """Return texts as arrays of single bytes, one more dimension of a fixed length."""
    encoded = [text.encode()[:length].ljust(length, b"\0") for text in texts.ravel().tolist()]
    return np.frombuffer(b"".join(encoded), "S1").reshape(*texts.shape, length)


def as_texts(characters: NDArray[Any]) -> NDArray[Any]:
    """Return what `as_characters` was given."""
    length = characters.shape[-1]
    joined = np.ascontiguousarray(characters).view(f"S{length}")[..., 0]
    decoded = [text.decode(errors="replace") for text in joined.ravel().tolist()]
    return np.array(decoded, dtype=f"U{length}").reshape(joined.shape)


def _is_bool(array: NDArray[Any]) -> bool:
    return array.dtype.kind == "b"
