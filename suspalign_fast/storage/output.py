"""HDF5 files open for writing, and what is written to them at once."""

import contextlib
import itertools
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5s
from numpy.typing import NDArray

from ..base.reports import ForkError
from .deflate import encode

# --- Writing blocks of a dataset whose place is known, at a tenth of what any kind of index
# costs.


class Block:
    """Writes blocks of one dataset of fixed shape."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._id = dataset.id
        self._space = dataset.id.get_space()
        self._ndim = dataset.ndim

    def write(self, at: tuple[int, ...], values: NDArray[Any]) -> None:
        """Write the last dimensions of a block that begins at an index, zeros following it."""
        start = (*at, *(0 for _ in range(self._ndim - len(at))))
        count = (*(1 for _ in range(self._ndim - values.ndim)), *values.shape)
        self._space.select_hyperslab(start, count)
        self._id.write(h5s.create_simple(count), self._space, np.ascontiguousarray(values))


#: Formats written: the oldest that can be read while it is written. Libraries since HDF5 1.10 read
#: it; the latest one of HDF5 2.0 is unknown to those before.
WRITTEN = ("v110", "latest")
#: Numbers a chunk of a dataset that is written at once.
CHUNK = 2**16


class Output:
    """An HDF5 file open for writing, which reaches the disk only as far as all goes well.

    Attributes
    ----------
    file : h5py.File
    is_open : bool
        Whether it may be written to: not after `close`, nor in a forked child.
    """

    def __init__(self, path: Path, mode: str) -> None:
        self.file = h5py.File(path, mode, libver=WRITTEN, track_order=True)
        self.descriptor = self.file.id.get_vfd_handle()
        self.is_open = True
        self._process = os.getpid()
        _outputs.add(self)

    def check_process(self) -> None:
        """Raise ForkError in a process that was forked from the one that opened the file."""
        if os.getpid() != self._process:
            raise ForkError("a forked process cannot go on with its parent's run")

    def close(self) -> None:
        """Write what libhdf5 still holds, and close the file."""
        with self.abandoned_on_failure():
            self.file.close()
            self.is_open = False

    def abandon(self) -> None:
        """Let nothing more reach the file, and close it.

        After a failed write libhdf5 goes on trying, and crashes when the file is closed. The file's
        descriptor is therefore pointed at the null device: what was there stays untouched.
        """
        if self.file:
            self.disconnect()
        with contextlib.suppress(Exception):
            self.file.close()
        self.is_open = False

    def disconnect(self) -> None:
        """Point the file's descriptor, in this process, at the null device."""
        if not self.is_open:
            return
        null = os.open(os.devnull, os.O_RDWR)
        try:
            os.dup2(null, self.descriptor, inheritable=False)
        finally:
            os.close(null)

    @contextlib.contextmanager
    def abandoned_on_failure(self) -> Iterator[None]:
        """Abandon the file if the block fails, or if an exception from outside cuts it short."""
        try:
            yield
        except BaseException:
            self.abandon()
            raise


_outputs: "weakref.WeakSet[Output]" = weakref.WeakSet()


def _leave_to_the_parent() -> None:
    """Keep what a forked child has of open files from reaching them when it ends."""
    for output in list(_outputs):
        output.disconnect()
        output.is_open = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_the_parent)


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


# --- One growing dataset of a trace, written chunk by chunk past the library's filter pipeline ---
#
# A chunk that fills up at once is compressed. One that is committed while it fills is stored raw
# and rewritten in place: a compressed one would change its size, and a file that others read while
# it grows cannot use the old place again.


COMPRESSIONS = ("gzip", "none")
#: Filter mask of a chunk that skips all filters.
_RAW = 0xFFFFFFFF


class Column:
    """Appends rows to a new dataset of 64-bit numbers.

    Parameters
    ----------
    shape : tuple of int
        Shape of a row. Every component has chunks of its own.
    compression : {"gzip", "none"}
    """

    def __init__(
        self,
        group: h5py.Group,
        name: str,
        dtype: Any,
        shape: tuple[int, ...],
        chunk_rows: int,
        compression: str,
    ) -> None:
        self._compress = compression == "gzip"
        self._group, self._name = group, name
        self._dataset = group.create_dataset(
            name,
            shape=(0, *shape),
            maxshape=(None, *shape),
            chunks=(chunk_rows, *(1 for _ in shape)),
            dtype=dtype,
            compression=compression if self._compress else None,
            shuffle=self._compress,
        )
        self._components = list(itertools.product(*map(range, shape)))
        #: Rows of the chunk that is not full, and whether they are in the file, raw.
        self._tail = np.empty((0, *shape), dtype)
        self._tail_is_raw = False

    def append(self, values: NDArray[Any], *, last: bool) -> None:
        """Write rows.

        Parameters
        ----------
        values : ndarray, shape (rows, ...)
        last : bool
            Whether none will follow: an incomplete chunk is then compressed, too.
        """
        if len(values) == 0:
            return
        chunk_rows = self._dataset.chunks[0]
        first = len(self._dataset) - len(self._tail)
        rows = np.concatenate([self._tail, values])
        self._dataset.resize(first + len(rows), axis=0)
        for start in range(0, len(rows), chunk_rows):
            chunk = rows[start : start + chunk_rows]
            raw = not self._compress or (start == 0 and self._tail_is_raw)
            raw |= len(chunk) < chunk_rows and not last
            for component, part in zip(self._components, _flat(chunk), strict=True):
                piece = np.zeros(chunk_rows, rows.dtype)
                piece[: len(chunk)] = part
                self._write((first + start, *component), piece, raw)
        full = len(rows) - len(rows) % chunk_rows
        self._tail = rows[full:].copy()
        self._tail_is_raw = len(self._tail) > 0 and raw
        if self._tail_is_raw:
            self._reopen()

    def _reopen(self) -> None:
        """Make libhdf5 forget the filter mask that it takes the chunk to have.

        Readers in the same process share what it remembers of an open dataset.
        """
        self._dataset.id.close()
        self.attach(self._group)

    def attach(self, group: h5py.Group) -> None:
        """Go on in a file that was closed and opened again."""
        self._group = group
        self._dataset = group[self._name]

    def _write(self, offset: tuple[int, ...], piece: NDArray[Any], raw: bool) -> None:
        if raw:
            self._dataset.id.write_direct_chunk(offset, piece, _RAW if self._compress else 0)
        else:
            self._dataset.id.write_direct_chunk(offset, encode(piece))


def _flat(rows: NDArray[Any]) -> NDArray[Any]:
    """Return rows with their components first, shape (components, rows)."""
    return rows.reshape(len(rows), -1).T
