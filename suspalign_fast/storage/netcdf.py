"""Dimensions of netCDF-4, made before a file is open to readers."""

from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

#: What netCDF calls a dimension that has no values.
_NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable.{size:10d}"


def add_dimension(group: h5py.Group, name: str, size: int) -> None:
    """Add a dimension without values."""
    scale = group.create_dataset(name, shape=(size,), dtype=">f4")
    scale.make_scale(_NO_VARIABLE.format(size=size))


def add_coordinate(group: h5py.Group, name: str, values: NDArray[Any] | Sequence[Any]) -> None:
    """Add a dimension with values: numbers or texts."""
    array = np.asarray(values)
    if array.dtype.kind in "US":
        texts = np.array([str(value) for value in values], dtype=object)
        scale = group.create_dataset(name, data=texts, dtype=h5py.string_dtype())
    else:
        scale = group.create_dataset(
            name, data=array.astype(np.int64) if _is_bool(array) else array
        )
    scale.make_scale(name)


def attach(dataset: h5py.Dataset, names: Sequence[str]) -> None:
    """Name the dimensions of a dataset by those of its group."""
    for dimension, name in zip(dataset.dims, names, strict=True):
        dimension.attach_scale(dataset.parent[name])


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
