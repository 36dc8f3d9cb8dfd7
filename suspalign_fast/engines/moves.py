"""Coefficients of the moves between recorded rows, a batch of rows at a time."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .. import _threads
from ..kernels.powers import write_moves
from ..step_size import ConstantStep, KnownStepSize
from ..transition import PIECE, log_factors, transition

Array = NDArray[np.float64]

#: Coefficients computed ahead, if a row has no more: so many stay in cache.
MAX_VALUES = 2**16


class Moves:
    """Moves of levels from row to row under step sizes known in advance.

    Parameters
    ----------
    rule : KnownStepSize
    rate, push : ndarray of float64, shape (levels,)
        See `transition`.
    threads : int
        Threads that may share the work.
    """

    def __init__(self, rule: KnownStepSize, rate: Array, push: Array, threads: int = 1) -> None:
        self.rule: KnownStepSize = rule
        self.rate: Array = rate
        self.push: Array = push
        self.threads: int = threads
        self._log: Array | None = None
        self._own: Array | None = None
        #: Step of the last row moved to.
        self.now: NDArray[np.int64] = np.zeros(1, np.int64)
        self._last: tuple[int, Array, Array] = (-1, rate, push)

    def to(self, steps: NDArray[np.int64]) -> Iterator[tuple[slice, Array, Array]]:
        """Yield batches of rows with a and b, one row of them for each move or one for all."""
        gaps = np.diff(steps, prepend=self.now[0])
        size = max(1, MAX_VALUES // self.rate.size)
        row = 0
        while row < steps.size:
            equal = self._equal(gaps[row:])
            if equal:
                batch = slice(row, row + equal)
                a, b = self._between(int(steps[row] - gaps[row]), int(gaps[row]))
                yield batch, a[None], b[None]
            else:
                batch = slice(row, row + size)
                if self._own is None or self._own.shape[1] < steps[batch].size:
                    self._own = np.empty((2, min(size, steps.size), self.rate.size))
                a, b = self._own[:, : steps[batch].size]
                self._write(steps[batch], gaps[batch], a, b)
                yield batch, a, b
            row = batch.stop
        if steps.size:
            self.now[0] = steps[-1]

    def _write(self, steps: NDArray[np.int64], gaps: NDArray[np.int64], a: Array, b: Array) -> None:
        """Write coefficients of moves that are `gaps` long and end at `steps`."""
        if type(self.rule) is not ConstantStep:
            for i, (stop, gap) in enumerate(zip(steps.tolist(), gaps.tolist(), strict=True)):
                transition(self.rule, stop - gap, stop, *self._rates, (a[i], b[i]))
            return
        eta = self.rule.value
        if self._log is None:
            self._log = log_factors(eta, self.rate)
        log, lengths = self._log, gaps.astype(np.float64)

        def write(first: int, last: int) -> None:
            write_moves(first, last, lengths, eta, *self._rates, log, a, b)

        _threads.share(self.rate.size, self.threads if self.rate.size > PIECE else 1, write)

    def sizes_at(self, steps: NDArray[np.int64]) -> Array:
        """Return the step sizes assigned at rows."""
        if type(self.rule) is ConstantStep:
            return np.full(steps.size, self.rule.value)
        return np.array([self.rule.values(t, t + 1)[0] for t in steps.tolist()])

    def _equal(self, gaps: NDArray[np.int64]) -> int:
        """Number of moves ahead with the same coefficients, 0 if just the next one has them."""
        if type(self.rule) is not ConstantStep:
            return 0
        changes = np.flatnonzero(gaps != gaps[0])
        equal = int(changes[0]) if changes.size else gaps.size
        return equal if equal > 1 or gaps.size == 1 or self._last[0] == gaps[0] else 0

    def _between(self, start: int, gap: int) -> tuple[Array, Array]:
        if self._last[0] == gap:
            return self._last[1:]
        self._last = (-1, *self._rates)  # gives up the memory of the last ones
        if self._log is None:
            a, b = transition(self.rule, start, start + gap, *self._rates)
        else:
            a, b = np.empty((2, self.rate.size))
            self._write(np.array([start + gap]), np.array([gap]), a[None], b[None])
        self._last = (gap, a, b)
        return a, b

    @property
    def _rates(self) -> tuple[Array, Array]:
        return self.rate, self.push
