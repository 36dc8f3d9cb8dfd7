"""One growing dataset of a trace, written chunk by chunk past the library's filter pipeline.

A chunk that fills up at once is compressed. One that is committed while it fills is stored raw and
rewritten in place: a compressed one would change its size, and a file that others read while it
grows cannot use the old place again.
"""

import itertools
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from .deflate import encode

COMPRESSIONS = ("gzip", "none")
#: Filter mask of a chunk that skips all filters.
_RAW = 0xFFFFFFFF


class Column:
    """Appends rows to a new dataset of 64-bit numbers.

    Parameters
    ----------
    group : h5py.Group
    name : str
    dtype : dtype
    shape : tuple of int
        Shape of a row. Every component has chunks of its own.
    chunk_rows : int
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
