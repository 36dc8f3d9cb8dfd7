"""HDF5 files open for writing, and what is written to them at once."""

import contextlib
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from .._errors import ForkError
from .deflate import encode

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
