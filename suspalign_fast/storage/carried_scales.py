"""Dimension scales of datasets that were copied from one file to another.

A copy of a reference points nowhere, or at whatever has come to that address. So datasets are
attached anew to the scales of the same paths. What the old file says may be anything, and what
cannot be followed is left out.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5ds

from .netcdf import LIST, NUMBER, NUMBERS, REFERENCES

#: A dataset and its copy.
Pair = tuple[h5py.Dataset, h5py.Dataset]


def detach(copy: h5py.Dataset) -> None:
    """Remove the references that came along with a copy."""
    for name in (LIST, REFERENCES):
        if h5a.exists(copy.id, name):
            h5a.delete(copy.id, name)


def attach_again(pair: Pair) -> None:
    """Attach a copy to the scales that have the paths of those of the original."""
    old, new = pair
    for axis, path in _scales_of(old):
        try:
            h5ds.attach_scale(new.id, new.file[path].id, axis)
        except Exception:  # it was not copied, or can be no scale
            continue


def _scales_of(dataset: h5py.Dataset) -> Iterator[tuple[int, str]]:
    """Yield axis and path of every scale of a dataset."""
    try:
        axes = list(dataset.attrs[LIST.decode()])
    except Exception:  # there are none, or whatever the library raises
        return
    for axis, references in enumerate(axes):
        for reference in references:
            try:
                yield axis, dataset.file[reference].name
            except Exception:  # of a scale that is gone
                continue


def renumber(file: h5py.File, copies: Iterable[h5py.Dataset]) -> None:
    """Change the numbers of copied dimensions if others in the file have them."""
    copied = {dataset.name: dataset for dataset in copies}
    numbers: dict[bool, set[int]] = {False: set(), True: set()}

    def collect(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and h5ds.is_scale(node.id):
            numbers[f"/{name}" in copied].update(_numbers(node, NUMBER))

    file.visititems(collect)
    if not numbers[True] & numbers[False]:
        return
    shift = max(numbers[False]) + 1
    for dataset in copied.values():
        for name in (NUMBER, NUMBERS):
            found = _numbers(dataset, name)
            if found:
                moved = [n + shift if n in numbers[True] else n for n in found]
                shape = dataset.attrs[name.decode()].shape
                dataset.attrs.modify(name.decode(), np.reshape(moved, shape).astype(np.int32))


def _numbers(dataset: h5py.Dataset, name: bytes) -> list[int]:
    try:
        values = np.asarray(dataset.attrs[name.decode()])
    except Exception:  # there is none, or of a type that no library has
        return []
    return [int(n) for n in values.ravel()] if values.dtype.kind in "iu" else []
