"""Reading datasets that may claim anything: nothing is read that the file cannot hold.

They are read chunk by chunk past the filters of libhdf5, whose gzip inflates without bound. Sizes
and numbers of chunks are checked against the bytes that the file has.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from h5py import h5d, h5s, h5t, h5z
from numpy.typing import NDArray

from .deflate import inflate, unshuffle
from .untrusted import Heap

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
        found = _number_type(self._id.get_type(), _NUMBERS)
        if found is None:
            raise ValueError(f"{self._name!r} does not hold 64-bit numbers")
        return found

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

        Raises ValueError if a chunk is missing or damaged.
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


def _number_type(kind: Any, known: Mapping[str, Any]) -> np.dtype[Any] | None:
    """Return the type of numbers of a known kind; None of any other."""
    if kind.get_class() not in (h5t.INTEGER, h5t.FLOAT):
        return None
    return next((np.dtype(name) for name, one in known.items() if kind.equal(one)), None)


def place(values: NDArray[Any], chunk: NDArray[Any], offset: tuple[int, ...]) -> None:
    """Copy a chunk to its place, as far as it lies inside."""
    target, source = [], []
    for at, length, size in zip(offset, chunk.shape, values.shape, strict=True):
        begin, end = max(0, at), min(size, at + length)
        target.append(slice(begin, end))
        source.append(slice(begin - at, end - at))
    values[tuple(target)] = chunk[tuple(source)]


# --- Reading datasets of numbers or texts, parts of which may never have been written ------------
#
# What is not there has the dataset's fill value, so that a dataset may be larger than its file. So
# whoever reads one has to know which shape it should have.


_VARIABLE_NUMBERS = {
    f"{order}{letter}{size}": getattr(h5t, f"{name}{8 * size}{end}")
    for order, end in (("<", "LE"), (">", "BE"))
    for letter, name, sizes in (
        ("i", "STD_I", (1, 2, 4, 8)), ("u", "STD_U", (1, 2, 4, 8)), ("f", "IEEE_F", (4, 8)),
    )
    for size in sizes
}  # fmt: skip
#: Bytes of a text of fixed length, at most, and of the reference that stands for one of any.
MAX_TEXT, REFERENCE = 2**16, 16


class Variable(Stored):
    """A dataset of numbers or texts.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
        Of the values that `region` returns: numbers, bytes of a fixed length, or object for str.
    """

    def __init__(self, file: Any, name: str, handle: Any) -> None:
        self._is_text = False
        super().__init__(file, name, handle)
        self._chunks: dict[tuple[int, ...], Any] | None = None
        self._heap = Heap(file.read_at, file.current_size())
        if self._is_text:
            self.dtype = np.dtype(object)

    @property
    def is_chunked(self) -> bool:
        """Whether it is cut into chunks."""
        return self._chunk is not None

    def _element_type(self) -> np.dtype[Any]:
        kind = self._id.get_type()
        if (found := _number_type(kind, _VARIABLE_NUMBERS)) is not None:
            return found
        if kind.get_class() == h5t.STRING:
            self._is_text = bool(kind.is_variable_str())
            if self._is_text:
                return np.dtype(f"V{REFERENCE}")
            if 0 < kind.get_size() <= MAX_TEXT:
                return np.dtype(f"S{kind.get_size()}")
        raise ValueError(f"{self._name!r} does not hold numbers or texts")

    def _check_size(self) -> None:
        if self._chunk is not None:
            self._check_chunk()

    def read(self) -> NDArray[Any]:
        """Read all of it."""
        return self.region([(0, n) for n in self.shape])

    def region(self, bounds: Sequence[tuple[int, int]]) -> NDArray[Any]:
        """Read what lies between two indices along every axis.

        Raises ValueError if something of it is damaged.
        """
        if self._chunk is None:
            return self._as_values(self._plain()[tuple(slice(*b) for b in bounds)])
        shape = [max(0, stop - start) for start, stop in bounds]
        values = np.full(shape, self._fill(), self._stored_dtype)
        if values.size:
            chunks = self._listed()
            ranges = [
                range(start - start % size, stop, size)
                for (start, stop), size in zip(bounds, self._chunk, strict=True)
            ]
            for offset in itertools.product(*ranges):
                if offset in chunks:
                    at = tuple(o - b[0] for o, b in zip(offset, bounds, strict=True))
                    place(values, self._chunk_of(chunks[offset]), at)
        return self._as_values(values)

    def _as_values(self, stored: NDArray[Any]) -> NDArray[Any]:
        if not self._is_text:
            return stored.astype(self.dtype)
        texts = np.empty(stored.shape, object)
        code = np.ascontiguousarray(stored).tobytes()
        texts.ravel()[:] = [
            self._heap.text(code[at : at + REFERENCE]) for at in range(0, len(code), REFERENCE)
        ]
        return texts

    def _fill(self) -> Any:
        if self._stored_dtype.kind not in "iuf":
            return np.zeros((), self._stored_dtype)[()]
        value = np.zeros((), self.dtype)
        self._id.get_create_plist().get_fill_value(value)
        return value[()]

    def _plain(self) -> NDArray[Any]:
        """All values of a dataset that is not cut into chunks."""
        size = self._item * math.prod(self.shape)
        if size == 0:
            return np.empty(self.shape, self._stored_dtype)
        if self._id.get_create_plist().get_layout() == h5d.COMPACT:
            if self._is_text or size > self._file.stored:
                raise ValueError(f"{self._name!r} does not hold numbers or texts in a known way")
            values = np.empty(self.shape, self.dtype)
            self._id.read(h5s.ALL, h5s.ALL, values, h5t.py_create(self.dtype))
            return values
        offset = self._id.get_offset()
        if offset is None or offset + size > self._file.current_size():
            raise ValueError(f"{self._name!r} is not as long as it says")
        code = self._file.read_at(offset, size)
        return np.frombuffer(code, self._stored_dtype).reshape(self.shape)

    def _listed(self) -> dict[tuple[int, ...], Any]:
        """Return the chunks that are in the file by their offsets."""
        if self._chunks is None:
            found: dict[tuple[int, ...], Any] = {}

            def add(info: Any) -> bool | None:
                found[tuple(map(int, info.chunk_offset))] = info
                return True if len(found) > self._file.size else None

            if hasattr(self._id, "chunk_iter"):
                self._id.chunk_iter(add)
            else:
                for number in range(min(self._id.get_num_chunks(), self._file.size)):
                    add(self._id.get_chunk_info(number))
            self._chunks = found
        return self._chunks

    def _chunk_of(self, info: Any) -> NDArray[Any]:
        """Values of a chunk that is in the file; zeros where the file was cut short."""
        self._check_code(info)
        code = self._file.read_at(info.byte_offset, info.size)
        if len(code) < info.size:
            if not self._file.is_cut:
                raise ValueError("a chunk is missing")
            code = code.ljust(info.size, b"\0")
        return self._unfiltered(info.filter_mask, code)
