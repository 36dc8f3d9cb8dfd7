"""Values of a study: read run by run, those alone that are done, and checked by their sums."""

import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..storage.dataset import Variable

#: Datasets of checksums, of runs and of exact theory; what they hold where there is none.
SUMS, EXACT_SUMS = "crc32", "exact_crc32"
NO_SUM = -1
#: Numbers that are read at once, about.
PIECE = 2**20


def sum_of(values: NDArray[np.float64]) -> int:
    """Return the checksum of all rows of one variable of a run, NaN where there is none."""
    return zlib.crc32(np.ascontiguousarray(values, dtype="<f8").tobytes())


class Values:
    """A variable of a study.

    Parameters
    ----------
    is_there : ndarray of bool, shape (*points, seeds) or (*points,)
        Which of its runs, or points, are done: all others are NaN.
    sums : ndarray of int64 of the same shape, optional
        Checksums, NO_SUM where there is none.
    """

    def __init__(
        self,
        stored: Variable,
        name: str,
        is_there: NDArray[np.bool_],
        sums: NDArray[np.int64] | None,
    ) -> None:
        self._stored, self._name = stored, name
        self._is_there, self._sums = is_there, sums
        self.shape = stored.shape

    def rows(self, at: tuple[int, ...], first: int, stop: int) -> NDArray[np.float64]:
        """Read whole runs, or points: their last index goes from one number to another.

        Raises ValueError if they are not what was written.
        """
        inner = self.shape[self._is_there.ndim :]
        bounds = [(i, i + 1) for i in at] + [(first, stop)] * (self._is_there.ndim > len(at))
        found = self._stored.region([*bounds, *((0, n) for n in inner)])
        values: NDArray[np.float64] = found.reshape(-1, *inner)
        here: Any = (*at, slice(first, stop)) if self._is_there.ndim > len(at) else at
        is_there = np.atleast_1d(self._is_there[here])
        values[~is_there] = np.nan
        if self._sums is not None:
            for number, wanted in enumerate(np.atleast_1d(self._sums[here])):
                if is_there[number] and wanted not in (NO_SUM, sum_of(values[number])):
                    place = (*at, first + number)[: self._is_there.ndim]
                    raise ValueError(f"{self._name!r} at {place} is not what was written")
        return values

    def pieces(self, wanted: list[NDArray[np.intp]]) -> Iterator[tuple[Any, Any, Any]]:
        """Yield where some runs go, and what to read of them: bounded parts of the whole.

        Parameters
        ----------
        wanted : list of ndarray
            Indices along the axes of `is_there`.
        """
        if not wanted:
            yield (), (), (0, 1)
            return
        *outer, last = wanted
        most = max(1, PIECE // max(1, int(np.prod(self.shape[self._is_there.ndim :]))))
        for place in np.ndindex(*(len(indices) for indices in outer)):
            at = tuple(int(indices[i]) for indices, i in zip(outer, place, strict=True))
            for begin, end in _together(last, most):
                bounds = int(last[begin]), int(last[end - 1]) + 1
                yield (*place, slice(begin, end)), at, bounds

    def chosen(self, wanted: list[NDArray[np.intp]]) -> NDArray[np.float64]:
        """Read what lies at some indices along every axis."""
        found = np.empty([len(indices) for indices in wanted])
        ndim = self._is_there.ndim
        if not found.size:
            return found
        inner = np.ix_(*wanted[ndim:])
        for place, at, bounds in self.pieces(wanted[:ndim]):
            rows = self.rows(at, *bounds)
            parts = np.array([row[inner] for row in rows])
            found[place] = parts if ndim else parts[0]
        return found


def _together(indices: NDArray[np.intp], most: int) -> Iterable[tuple[int, int]]:
    """Yield begin and end of parts in which each index follows the one before, `most` at once."""
    cuts = np.flatnonzero(np.diff(indices) != 1) + 1
    for begin, end in zip([0, *cuts], [*cuts, len(indices)], strict=True):
        for start in range(begin, end, most):
            yield start, min(end, start + most)
