"""Dimension scales: names and coordinates of the axes of datasets, which make HDF5 netCDF-4.

A scale is a dataset that holds the coordinates of a dimension. Datasets name the scales of their
axes (DIMENSION_LIST), and scales list the datasets (REFERENCE_LIST). Nothing of this is ever read
to read a dataset of ours.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5ds, h5s, h5t

#: Attributes by which datasets and scales point at one another.
LIST, REFERENCES = b"DIMENSION_LIST", b"REFERENCE_LIST"
#: Numbers of dimensions, each once in a file: that of a scale, and those of a scale of many axes.
NUMBER, NUMBERS = b"_Netcdf4Dimid", b"_Netcdf4Coordinates"
#: Attributes that describe a dataset.
DESCRIPTIVE = (b"units", b"long_name")


def make(dataset: h5py.Dataset, name: str, number: int) -> None:
    """Make a dataset the scale of a dimension.

    Parameters
    ----------
    dataset : h5py.Dataset
    name : str
        Of the dimension.
    number : int
        That no dimension in the file has yet.
    """
    h5ds.set_scale(dataset.id, name.encode())
    _write(dataset.id, NUMBER, h5t.STD_I32LE, np.int32(number))


def attach(dataset: h5py.Dataset, scales: Sequence[h5py.Dataset]) -> None:
    """Name the dimension of every axis of a dataset by its scale."""
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
        _write(dataset.id, name.encode(), kind, np.array(code, f"S{len(code) or 1}"))


def _write(node: Any, name: bytes, kind: Any, value: Any) -> None:
    h5a.create(node, name, kind, h5s.create(h5s.SCALAR)).write(np.asarray(value), kind)
