"""Opening and reading HDF5 files that may be anything, with errors that name path and reason.

The class of a type is checked before anything looks at its values: h5py would take some opaque
types for pointers to Python objects. Datasets are read chunk by chunk past the filters of libhdf5,
whose gzip inflates without bound. Sizes and numbers of chunks are checked against the bytes that
the file has. Links are followed only inside the file.
"""

import contextlib
import itertools
import math
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5s, h5t, h5z
from numpy.typing import NDArray

from . import _lock
from ._deflate import encode, inflate, unshuffle
from ._files import AnyPath, absolute, open_regular
from ._object_header import CHUNKED, COMPACT, CONTIGUOUS, layout_classes
from ._superblock import SIZE, PatchedFile, Superblock
from ._threads import ForkError

#: Formats written: the oldest that can be read while it is written. Libraries since HDF5 1.10 read
#: it; the latest one of HDF5 2.0 is unknown to those before.
WRITTEN = ("v110", "latest")
#: gzip cannot compress by more than this factor.
MAX_COMPRESSION = 1100
#: What a file of any size may make of memory.
FREE = 2**20
#: Bytes of the file that a chunk takes at least: its entry in the index.
MIN_CHUNK = 8
MAX_ATTRIBUTE = 2**20
#: Numbers a chunk of a dataset that is written at once.
CHUNK = 2**16
PIPELINES: tuple[tuple[int, ...], ...] = (
    (),
    (h5z.FILTER_SHUFFLE,),
    (h5z.FILTER_DEFLATE,),
    (h5z.FILTER_SHUFFLE, h5z.FILTER_DEFLATE),
)
_NUMBERS = {
    "<i8": h5t.STD_I64LE,
    ">i8": h5t.STD_I64BE,
    "<f8": h5t.IEEE_F64LE,
    ">f8": h5t.IEEE_F64BE,
}


class Reader:
    """An HDF5 file open for reading, also while another process writes it.

    Parameters
    ----------
    path : path-like
    live : bool, optional
        Whether a writer has it open; by default the file's lock tells.

    Raises
    ------
    OSError
        If it does not exist or is not an HDF5 file.
    """

    def __init__(self, path: AnyPath, *, live: bool | None = None) -> None:
        self.path: Path = absolute(path)
        self._live = live
        try:
            self._descriptor = open_regular(self.path, follow=True)
        except PermissionError as error:
            raise PermissionError(f"{self.path} cannot be read: {error.strerror}") from error
        except OSError as error:
            raise FileNotFoundError(f"{self.path} does not exist or is not a file") from error
        try:
            self._file = self._opened()
        except (OSError, ValueError, RuntimeError) as error:
            os.close(self._descriptor)
            raise OSError(f"{self.path} is not a readable HDF5 file: {error}") from error
        except BaseException:
            os.close(self._descriptor)
            raise

    def _opened(self) -> h5py.File:
        status = os.fstat(self._descriptor)
        self.size: int = status.st_size
        #: Bytes on the disk: a file may have holes.
        self.stored: int = min(self.size, 512 * getattr(status, "st_blocks", 2**62))
        block = Superblock(os.pread(self._descriptor, SIZE, 0), self.size)
        if not block.is_being_written:
            return h5py.File(self.path, "r", libver="latest")
        live = _lock.is_held(self.path) if self._live is None else self._live
        if live is False:  # killed: nobody will complete what is damaged
            return h5py.File(PatchedFile(self._descriptor, block.closed()), "r", libver="latest")
        return h5py.File(self.path, "r", libver="latest", swmr=True)

    def __enter__(self) -> "Reader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        try:
            self._file.close()
        finally:
            os.close(self._descriptor)

    def root(self) -> h5py.Group:
        """Return the root group."""
        return h5py.Group(self._file.id)

    def check_group(self, name: str) -> None:
        """Raise KeyError unless the file itself has a group of that name."""
        self._group(name)

    def _group(self, name: str) -> Any:
        node: Any = self._file.id
        for part in filter(None, name.split("/")):
            if _info(node, part, name).type != h5o.TYPE_GROUP:
                raise KeyError(f"{name!r} is not a group")
            node = h5g.open(node, part.encode())
        return node

    def has(self, name: str) -> bool:
        """Whether the file itself has a group or dataset of a name in an existing group."""
        parent, _, last = name.rpartition("/")
        return _is_here(self._group(parent), last.encode())

    def attribute(self, node: str, name: str) -> Any:
        """Read an attribute of the root ("") or a group: text as str, numbers as int or float.

        Raises
        ------
        KeyError
            If there is none of that name.
        ValueError
            If it is not a single text or number of bounded size.
        """
        return _attribute(self._group(node), name)

    def dataset(self, name: str) -> "Stored":
        """Return a dataset that is safe to read.

        Raises
        ------
        KeyError
            If there is none of that name.
        ValueError
            If it is not of 64-bit numbers, needs other filters, or claims more than the file holds.
        """
        parent, _, last = name.rpartition("/")
        group = self._group(parent)
        info = _info(group, last, name)
        if info.type != h5o.TYPE_DATASET:
            raise KeyError(f"{name!r} is not a dataset")
        if not self._is_plain(info):
            raise ValueError(f"{name!r} keeps its values elsewhere")
        return Stored(self, name, h5d.open(group, last.encode()))

    def is_plain(self, name: str) -> bool:
        """Whether a name leads to a group, or to a dataset that is safe to open."""
        parent, _, last = name.rpartition("/")
        group = self._group(parent)
        return _is_here(group, last.encode()) and self._is_plain(_info(group, last, name))

    def _is_plain(self, info: Any) -> bool:
        if info.type == h5o.TYPE_GROUP:
            return True
        if info.type != h5o.TYPE_DATASET:
            return False
        classes = layout_classes(self._read_at, info.addr)
        return len(classes) == 1 and classes[0] in (COMPACT, CONTIGUOUS, CHUNKED)

    def read(self, name: str) -> NDArray[Any]:
        """Read a whole dataset after the checks of `dataset`."""
        return self.dataset(name).rows()

    def current_size(self) -> int:
        """Size of the file by now: a writer may have added to it."""
        return os.fstat(self._descriptor).st_size

    def _read_at(self, address: int, size: int) -> bytes:
        if not 0 <= address < self.current_size():
            raise ValueError("an address outside the file")
        return os.pread(self._descriptor, size, address)


def _is_here(group: Any, name: bytes) -> bool:
    """Whether a group itself holds something under a name: a link may lead anywhere."""
    return bool(group.links.exists(name)) and group.links.get_info(name).type == h5l.TYPE_HARD


def _info(group: Any, part: str, name: str) -> Any:
    """What a group holds under a name, unopened."""
    if not _is_here(group, part.encode()):
        raise KeyError(f"{name!r} is missing")
    return h5o.get_info(group, part.encode())


class Stored:
    """A dataset of 64-bit numbers.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
        Of the values that `rows` returns: int64 or float64.
    compression : {"gzip", "none"}
    """

    def __init__(self, reader: Reader, name: str, handle: Any) -> None:
        self._reader, self._name, self._id = reader, name, handle
        self._stored_dtype = self._number_type()
        self.dtype: np.dtype[Any] = self._stored_dtype.newbyteorder("=")
        space = handle.get_space()
        if space.get_simple_extent_type() != h5s.SIMPLE:
            raise ValueError(f"{name!r} is not an array")
        self.shape: tuple[int, ...] = tuple(map(int, space.get_simple_extent_dims()))
        creation = handle.get_create_plist()
        if creation.get_layout() != h5d.CHUNKED and creation.get_external_count():
            raise ValueError(f"{name!r} keeps its values elsewhere")
        self._filters = tuple(creation.get_filter(i)[0] for i in range(creation.get_nfilters()))
        if self._filters not in PIPELINES:
            raise ValueError(f"{name!r} needs filters that this package does not use")
        self.compression: str = "gzip" if h5z.FILTER_DEFLATE in self._filters else "none"
        self._chunk: tuple[int, ...] | None = None
        if creation.get_layout() == h5d.CHUNKED:
            self._chunk = tuple(map(int, creation.get_chunk()))
        self._check_size()

    def _number_type(self) -> np.dtype[Any]:
        kind = self._id.get_type()
        if kind.get_class() in (h5t.INTEGER, h5t.FLOAT):
            for name, known in _NUMBERS.items():
                if kind.equal(known):
                    return np.dtype(name)
        raise ValueError(f"{self._name!r} does not hold 64-bit numbers")

    def _check_size(self) -> None:
        claimed, there = 8 * math.prod(self.shape), self._reader.stored
        if claimed > FREE + MAX_COMPRESSION * there:
            raise ValueError(
                f"{self._name!r} claims {claimed} bytes, which {there} stored ones cannot hold"
            )
        if self._chunk is None:
            return
        size = 8 * math.prod(self._chunk)
        if size > FREE + MAX_COMPRESSION * there:
            raise ValueError(f"a chunk of {self._name!r} claims {size} bytes, the file has {there}")
        count = math.prod(-(-n // c) for n, c in zip(self.shape, self._chunk, strict=True))
        if MIN_CHUNK * count > FREE + self._reader.size:
            raise ValueError(f"{self._name!r} claims {count} chunks, more than the file can list")

    def rows(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Read rows ``start ... stop - 1``, by default all.

        Raises
        ------
        ValueError
            If a chunk is missing or damaged.
        """
        if not self.shape:
            return self._plain()
        stop = self.shape[0] if stop is None else min(stop, self.shape[0])
        if self._chunk is None:
            return self._plain()[start:stop]
        values = np.empty((max(0, stop - start), *self.shape[1:]), self.dtype)
        if values.size == 0:
            return values
        first = start - start % self._chunk[0]
        places = [range(first, stop, self._chunk[0])]
        places += [range(0, n, c) for n, c in zip(self.shape[1:], self._chunk[1:], strict=True)]
        for offset in itertools.product(*places):
            _place(values, self._decoded(offset), (offset[0] - start, *offset[1:]))
        return values

    def _plain(self) -> NDArray[Any]:
        """All values of a dataset that is not cut into chunks."""
        if self._reader.stored < 8 * math.prod(self.shape):
            raise ValueError(f"{self._name!r} is not as long as it says")
        values = np.empty(self.shape, self.dtype)
        self._id.read(h5s.ALL, h5s.ALL, values, h5t.py_create(self.dtype))
        return values

    def _decoded(self, offset: tuple[int, ...]) -> NDArray[Any]:
        """Values of the chunk at an offset."""
        assert self._chunk is not None
        size = 8 * math.prod(self._chunk)
        info = self._id.get_chunk_info_by_coord(offset)
        if info.byte_offset is None or info.byte_offset + info.size > self._reader.current_size():
            raise ValueError("a chunk is missing")
        if info.size > size + size // 512 + 64:
            raise ValueError("a chunk is larger than its values")
        mask, code = self._id.read_direct_chunk(offset)
        for number, filter_code in reversed(list(enumerate(self._filters))):
            if not mask >> number & 1:
                code = inflate(code, size) if filter_code == h5z.FILTER_DEFLATE else unshuffle(code)
        if len(code) != size:
            raise ValueError("a chunk does not hold as much as it should")
        return np.frombuffer(code, self._stored_dtype).reshape(self._chunk)


def _place(values: NDArray[Any], chunk: NDArray[Any], offset: tuple[int, ...]) -> None:
    """Copy a chunk to its place, as far as it lies inside."""
    target, source = [], []
    for at, length, size in zip(offset, chunk.shape, values.shape, strict=True):
        begin, end = max(0, at), min(size, at + length)
        target.append(slice(begin, end))
        source.append(slice(begin - at, end - at))
    values[tuple(target)] = chunk[tuple(source)]


def _attribute(node: Any, name: str) -> Any:
    if not h5a.exists(node, name.encode()):
        raise KeyError(f"attribute {name!r} is missing")
    handle = h5a.open(node, name.encode())
    if handle.get_space().get_simple_extent_type() != h5s.SCALAR:
        raise ValueError(f"attribute {name!r} is not a single value")
    kind = handle.get_type()
    size = kind.get_size()
    if kind.get_class() == h5t.STRING and not kind.is_variable_str() and size <= MAX_ATTRIBUTE:
        text = np.empty((), f"S{size}")
        handle.read(text, kind)
        return text.item().decode().strip()
    if kind.get_class() == h5t.INTEGER and size <= 8:
        signed = kind.get_sign() != h5t.SGN_NONE
        return _number(handle, np.int64 if signed else np.uint64)
    if kind.get_class() == h5t.FLOAT and size <= 8:
        return _number(handle, np.float64)
    raise ValueError(f"attribute {name!r} is neither a short text of fixed length nor a number")


def _number(handle: h5a.AttrID, dtype: Any) -> int | float:
    value = np.empty((), dtype)
    handle.read(value, h5t.py_create(value.dtype))
    number: int | float = value.item()
    return number


# --- writing ---------------------------------------------------------------------------------


class Output:
    """An HDF5 file open for writing, which reaches the disk only as far as all goes well.

    Attributes
    ----------
    file : h5py.File
    is_open : bool
        Whether it may be written to: not after `close`, nor in a forked child.
    """

    def __init__(self, path: Path, mode: str) -> None:
        self.file = h5py.File(path, mode, libver=WRITTEN)
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
