"""Reading datasets that may claim anything: nothing is read that the file cannot hold.

They are read chunk by chunk past the filters of libhdf5, whose gzip inflates without bound. Sizes
and numbers of chunks are checked against the bytes that the file has.
"""

import itertools
import math
from typing import Any, Protocol

import numpy as np
from h5py import h5d, h5s, h5t, h5z
from numpy.typing import NDArray

from .deflate import inflate, unshuffle

#: gzip cannot compress by more than this factor.
MAX_COMPRESSION = 1100
#: What a file of any size may make of memory.
FREE = 2**20
#: Bytes of the file that a chunk takes at least: its entry in the index.
MIN_CHUNK = 8
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


class SizedFile(Protocol):
    """What a dataset must know of its file.

    Attributes
    ----------
    size : int
        Length when it was opened.
    stored : int
        Bytes on the disk.
    is_cut : bool
        Whether some of it is missing.
    """

    size: int
    stored: int
    is_cut: bool

    def current_size(self) -> int:
        """Length by now."""

    def read_at(self, address: int, size: int) -> bytes:
        """Bytes at a place."""


class Stored:
    """A dataset of 64-bit numbers.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
        Of the values that `rows` returns: int64 or float64.
    compression : {"gzip", "none"}
    """

    def __init__(self, file: SizedFile, name: str, handle: Any) -> None:
        self._file, self._name, self._id = file, name, handle
        self._stored_dtype = self._element_type()
        self._item = self._stored_dtype.itemsize
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

    def _element_type(self) -> np.dtype[Any]:
        kind = self._id.get_type()
        if kind.get_class() in (h5t.INTEGER, h5t.FLOAT):
            for name, known in _NUMBERS.items():
                if kind.equal(known):
                    return np.dtype(name)
        raise ValueError(f"{self._name!r} does not hold 64-bit numbers")

    def _check_size(self) -> None:
        claimed, there = self._item * math.prod(self.shape), self._file.stored
        if claimed > FREE + MAX_COMPRESSION * there:
            raise ValueError(
                f"{self._name!r} claims {claimed} bytes, which {there} stored ones cannot hold"
            )
        if self._chunk is None:
            return
        self._check_chunk()
        count = math.prod(-(-n // c) for n, c in zip(self.shape, self._chunk, strict=True))
        if MIN_CHUNK * count > FREE + self._file.size:
            raise ValueError(f"{self._name!r} claims {count} chunks, more than the file can list")

    def _check_chunk(self) -> None:
        assert self._chunk is not None
        size, there = self._item * math.prod(self._chunk), self._file.stored
        if size > FREE + MAX_COMPRESSION * there:
            raise ValueError(f"a chunk of {self._name!r} claims {size} bytes, the file has {there}")

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
            place(values, self._decoded(offset), (offset[0] - start, *offset[1:]))
        return values

    def _plain(self) -> NDArray[Any]:
        """All values of a dataset that is not cut into chunks."""
        if self._file.stored < self._item * math.prod(self.shape):
            raise ValueError(f"{self._name!r} is not as long as it says")
        values = np.empty(self.shape, self.dtype)
        self._id.read(h5s.ALL, h5s.ALL, values, h5t.py_create(self.dtype))
        return values

    def _decoded(self, offset: tuple[int, ...]) -> NDArray[Any]:
        """Values of the chunk at an offset."""
        assert self._chunk is not None
        info = self._id.get_chunk_info_by_coord(offset)
        if info.byte_offset is None or info.byte_offset + info.size > self._file.current_size():
            raise ValueError("a chunk is missing")
        self._check_code(info)
        return self._unfiltered(*self._id.read_direct_chunk(offset))

    def _check_code(self, info: Any) -> None:
        """Raise ValueError if a chunk claims more bytes than its values could need."""
        assert self._chunk is not None
        size = self._item * math.prod(self._chunk)
        if info.size > size + size // 512 + 64:
            raise ValueError("a chunk is larger than its values")

    def _unfiltered(self, mask: int, code: bytes) -> NDArray[Any]:
        """Return the values of a chunk from its bytes in the file."""
        assert self._chunk is not None
        size = self._item * math.prod(self._chunk)
        for number, filter_code in reversed(list(enumerate(self._filters))):
            if mask >> number & 1:
                continue
            is_deflated = filter_code == h5z.FILTER_DEFLATE
            code = inflate(code, size) if is_deflated else unshuffle(code, self._item)
        if len(code) != size:
            raise ValueError("a chunk does not hold as much as it should")
        return np.frombuffer(code, self._stored_dtype).reshape(self._chunk)


def place(values: NDArray[Any], chunk: NDArray[Any], offset: tuple[int, ...]) -> None:
    """Copy a chunk to its place, as far as it lies inside."""
    target, source = [], []
    for at, length, size in zip(offset, chunk.shape, values.shape, strict=True):
        begin, end = max(0, at), min(size, at + length)
        target.append(slice(begin, end))
        source.append(slice(begin - at, end - at))
    values[tuple(target)] = chunk[tuple(source)]
