"""What others put into a trace file - attributes, groups, datasets - and how it is carried over.

It may be of any type, and libhdf5 could loop in a damaged one. So the copying is done by a process
of its own, with a deadline. References are left out: they would point into the old file. Those
between datasets and their dimension scales are made anew.

Texts that describe a dataset of ours stay as they are in the old file: they may be of others, too.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5o, h5s, h5t

from . import carried_scales
from .netcdf import DESCRIPTIVE, LIST
from .output import WRITTEN
from .reader import Reader, attribute_of

SECONDS = 300.0


class NotCopiedError(OSError):
    """What others put into a file could not be copied."""


def carry_over(old: Path, new: Path) -> None:
    """Copy what `old` has and `new` lacks into `new`, which nobody has open.

    Raises
    ------
    NotCopiedError
        If it cannot be copied.
    """
    with Reader(old, live=False) as source, h5py.File(new, "r") as target:
        try:
            if next(_missing(source, "", target), None) is None:
                return
        except Exception as error:  # whatever a damaged file makes the library raise
            raise _not_copied(old, error) from error
    command = [sys.executable, "-m", __name__, str(old), str(new)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        reason = f"it took more than {SECONDS:g} s"
    else:
        if done.returncode == 0:
            return
        reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
    raise _not_copied(old, reason)


def _not_copied(old: Path, reason: object) -> NotCopiedError:
    return NotCopiedError(f"{old} cannot be resumed: what others put into it is damaged: {reason}")


#: Two groups or datasets of one name, and the name of what only the first has: a link or not.
_Missing = tuple[Any, Any, bytes, bool]


def _missing(source: Reader, path: str, new: Any) -> Iterator[_Missing]:
    """Yield every attribute and link of one file that the other has to take, outermost first."""
    old = source.root()[path or "/"]
    for name in _attribute_names(old.id):
        if not h5a.exists(new.id, name) or (name in DESCRIPTIVE and _differ(old.id, new.id, name)):
            yield old, new, name, False
    if not isinstance(new, h5py.Group):
        return
    for name in list(old):
        inner = f"{path}/{name}".lstrip("/")
        if name not in new:
            yield old, new, name.encode(), True
        elif source.is_plain(inner):
            yield from _missing(source, inner, new[name])


def _differ(old: Any, new: Any, name: bytes) -> bool:
    """Whether two attributes are not the same short text of fixed length."""
    try:
        texts = [attribute_of(node, name.decode()) for node in (old, new)]
    except ValueError:
        return True
    return bool(texts[0] != texts[1])


def _attribute_names(node: Any) -> list[bytes]:
    names: list[bytes] = []
    h5a.iterate(node, lambda name, *_: names.append(name))
    return names


def _copy_attribute(old: Any, new: Any, name: bytes) -> None:
    source = h5a.open(old, name)
    kind, space = source.get_type(), source.get_space()
    if kind.get_class() == h5t.REFERENCE or kind.detect_class(h5t.REFERENCE):
        return
    if h5a.exists(new, name):
        h5a.delete(new, name)
    target = h5a.create(new, name, kind, space)
    if space.get_simple_extent_type() == h5s.NULL:
        return
    values = np.zeros(space.get_simple_extent_dims() or (), f"V{kind.get_size()}")
    source.read(values, kind)
    target.write(values, kind)


def _copy_link(old: h5py.Group, new: h5py.Group, name: bytes) -> None:
    link = old.get(name, getlink=True)
    if isinstance(link, h5py.HardLink):
        h5o.copy(old.id, name, new.id, name)
    else:
        new[name] = link


def _datasets(old: h5py.Group, new: h5py.Group, name: bytes) -> list[carried_scales.Pair]:
    """Return all datasets that were copied with a link, each beside its copy."""
    if not isinstance(old.get(name, getlink=True), h5py.HardLink):
        return []
    pairs = []

    def add(inner: str, copy: Any) -> None:
        if isinstance(copy, h5py.Dataset):
            pairs.append((old[f"{name.decode()}/{inner}".rstrip("/")], copy))

    add("", new[name])
    if isinstance(new[name], h5py.Group):
        new[name].visititems(add)
    return pairs


def main() -> None:
    """Copy as `carry_over` does, in a process of its own."""
    old, new = sys.argv[1:]
    with Reader(old, live=False) as source, h5py.File(new, "r+", libver=WRITTEN) as target:
        copies: list[carried_scales.Pair] = []
        attached: list[carried_scales.Pair] = []
        for here, there, name, is_link in list(_missing(source, "", target)):
            if is_link:
                _copy_link(here, there, name)
                copies += _datasets(here, there, name)
            elif name == LIST:
                attached.append((here, there))
            else:
                _copy_attribute(here.id, there.id, name)
        for _, copy in copies:
            carried_scales.detach(copy)
        for pair in copies + attached:
            carried_scales.attach_again(pair)
        carried_scales.renumber(target, [copy for _, copy in copies])


if __name__ == "__main__":
    main()
