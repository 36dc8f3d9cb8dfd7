"""Coefficients of the moves between recorded rows, a batch of rows at a time."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..step_size import ConstantStep, KnownStepSize
from ..transition import transition

Array = NDArray[np.float64]

#: Coefficients computed ahead, at most.
MAX_VALUES = 2**22


class Moves:
    """Moves of levels from row to row under step sizes known in advance.

    Parameters
    ----------
    rule : KnownStepSize
    rate, push : ndarray of float64, shape (levels,)
        See `transition`.
    """

    def __init__(self, rule: KnownStepSize, rate: Array, push: Array) -> None:
        self.rule: KnownStepSize = rule
        self.rate: Array = rate
        self.push: Array = push
        #: Step of the last row moved to.
        self.now: NDArray[np.int64] = np.zeros(1, np.int64)
        self._last: tuple[int, Array, Array] = (-1, rate, push)

    def to(self, steps: NDArray[np.int64]) -> Iterator[tuple[slice, Array, Array]]:
        """Yield batches of rows with a and b, one row of them for each move or one for all."""
        gaps = np.diff(steps, prepend=self.now[0])
        size = max(1, MAX_VALUES // self.rate.size)
        own: Array | None = None
        row = 0
        while row < steps.size:
            equal = self._equal(gaps[row:])
            if equal:
                batch = slice(row, row + equal)
                a, b = self._between(int(steps[row] - gaps[row]), int(gaps[row]))
                yield batch, a[None], b[None]
            else:
                batch = slice(row, row + size)
                if own is None:
                    own = np.empty((2, min(size, steps.size), self.rate.size))
                for i, (stop, gap) in enumerate(zip(steps[batch], gaps[batch], strict=True)):
                    out = own[0, i], own[1, i]
                    transition(self.rule, int(stop - gap), int(stop), *self._rates, out)
                yield batch, own[0, : i + 1], own[1, : i + 1]
            row = batch.stop
        if steps.size:
            self.now[0] = steps[-1]

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
        if type(self.rule) is ConstantStep and self._last[0] == gap:
            return self._last[1:]
        self._last = (-1, *self._rates)  # gives up the memory of the last ones
        a, b = transition(self.rule, start, start + gap, *self._rates)
        self._last = (gap, a, b)
        return a, b

    @property
    def _rates(self) -> tuple[Array, Array]:
        return self.rate, self.push
