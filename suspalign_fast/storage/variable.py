"""Reading datasets of numbers or texts, parts of which may never have been written.

What is not there has the dataset's fill value, so that a dataset may be larger than its file. So
whoever reads one has to know which shape it should have.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from h5py import h5d, h5s, h5t
from numpy.typing import NDArray

from .dataset import Stored, place
from .heap import Heap

_NUMBERS = {
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
        if kind.get_class() in (h5t.INTEGER, h5t.FLOAT):
            for name, known in _NUMBERS.items():
                if kind.equal(known):
                    return np.dtype(name)
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

        Raises
        ------
        ValueError
            If something of it is damaged.
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
