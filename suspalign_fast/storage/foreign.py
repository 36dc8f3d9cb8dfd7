"""What others put into a trace file - attributes, groups, datasets - and how it is carried over.

It may be of any type, and libhdf5 could loop in a damaged one. So the copying is done by a process
of its own, with a deadline. References are left out: they would point into the old file. Those
between datasets and their dimension scales are made anew.

Texts that describe a dataset of ours stay as they are in the old file: they may be of others, too.
"""

import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5ds, h5o, h5s, h5t

from .netcdf import DESCRIPTIVE, LIST, NUMBER, NUMBERS, REFERENCES
from .output import WRITTEN
from .reader import Reader, attribute_of

# --- Dimension scales of datasets that were copied from one file to another ----------------------
#
# A copy of a reference points nowhere, or at whatever has come to that address. So datasets are
# attached anew to the scales of the same paths. What the old file says may be anything, and what
# cannot be followed is left out.


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


SECONDS = 300.0


class NotCopiedError(OSError):
    """What others put into a file could not be copied."""


def carry_over(old: Path, new: Path) -> None:
    """Copy what `old` has and `new` lacks into `new`, which nobody has open.

    Raises NotCopiedError if it cannot be copied.
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


def _datasets(old: h5py.Group, new: h5py.Group, name: bytes) -> list[Pair]:
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
        copies: list[Pair] = []
        attached: list[Pair] = []
        for here, there, name, is_link in list(_missing(source, "", target)):
            if is_link:
                _copy_link(here, there, name)
                copies += _datasets(here, there, name)
            elif name == LIST:
                attached.append((here, there))
            else:
                _copy_attribute(here.id, there.id, name)
        for _, copy in copies:
            detach(copy)
        for pair in copies + attached:
            attach_again(pair)
        renumber(target, [copy for _, copy in copies])


if __name__ == "__main__":
    main()
