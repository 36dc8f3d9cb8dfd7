"""Coefficients of the moves between recorded rows, a batch of rows at a time."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..base import threads as _threads
from ..kernels.powers import NUM_PARTS, write_moves, write_scheduled_moves, write_velocity_moves
from ..model.moves import PIECE, log_factors, transition
from ..model.run import Run
from ..model.step_size import ConstantStep, KnownStepSize

Array = NDArray[np.float64]

#: Coefficients computed ahead, if a row has no more: so many stay in cache.
MAX_VALUES = 2**16


class Moves(ABC):
    """Moves of levels from row to row under step sizes known in advance.

    Parameters
    ----------
    rule : KnownStepSize
    num_levels : int
    threads : int
        Threads that may share the work.
    """

    #: Numbers that are the move of a level.
    num_parts: ClassVar[int]

    def __init__(self, rule: KnownStepSize, num_levels: int, threads: int = 1) -> None:
        self.rule: KnownStepSize = rule
        self.num_levels: int = num_levels
        self.threads: int = threads
        #: Step of the last row moved to.
        self.now: NDArray[np.int64] = np.zeros(1, np.int64)
        self._own: Array = np.empty(0)
        #: Length of the moves of a constant size whose coefficients are the first there, or 0.
        self._gap: int = 0

    def to(self, steps: NDArray[np.int64]) -> Iterator[tuple[slice, Array]]:
        """Yield batches of rows with coefficients, one row of them for each move or one for all.

        Their shape is (num_parts, rows, levels); the next batch may be written over them.
        """
        gaps = np.diff(steps, prepend=self.now[0])
        most = max(1, MAX_VALUES // self.num_levels)
        row = 0
        while row < steps.size:
            equal = self._equal(gaps[row:])
            batch = slice(row, row + (equal or most))
            if equal:
                out = self._room(1)
                if self._gap != gaps[row]:
                    self._write_lasting(int(steps[row]), int(gaps[row]), out)
                self._gap = int(gaps[row])
            else:
                out = self._room(steps[batch].size)
                self._gap = 0
                self._write(steps[batch], gaps[batch], out)
            yield batch, out
            row = batch.stop
        if steps.size:
            self.now[0] = steps[-1]

    @abstractmethod
    def _write(self, steps: NDArray[np.int64], gaps: NDArray[np.int64], out: Array) -> None:
        """Write coefficients of moves that are `gaps` long and end at `steps`."""

    def _write_lasting(self, stop: int, gap: int, out: Array) -> None:
        """Write coefficients of the moves of a stride, of which the first ends at `stop`."""
        self._write(np.array([stop]), np.array([gap]), out)

    def _room(self, rows: int) -> Array:
        """Return memory for the coefficients of so many moves."""
        shape = self.num_parts, rows, self.num_levels
        if self._own.size < math.prod(shape):
            self._own = np.empty(shape).reshape(-1)
        return self._own[: math.prod(shape)].reshape(shape)

    def _share(self, write: Callable[[int, int], None]) -> None:
        """Call ``write(first, last)`` for all levels, in threads where they are many."""
        _threads.share(self.num_levels, self.threads if self.num_levels > PIECE else 1, write)

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
        return equal if equal > 1 or gaps.size == 1 or self._gap == gaps[0] else 0


class PlainMoves(Moves):
    """Moves ``c <- a c + b xi``: a and b.

    Parameters
    ----------
    rule : KnownStepSize
    rate, push : ndarray of float64, shape (levels,)
        See `model.moves`.
    threads : int
    """

    num_parts = 2

    def __init__(self, rule: KnownStepSize, rate: Array, push: Array, threads: int = 1) -> None:
        super().__init__(rule, rate.size, threads)
        self.rate: Array = rate
        self.push: Array = push
        self._log: Array | None = None

    def _write(self, steps: NDArray[np.int64], gaps: NDArray[np.int64], out: Array) -> None:
        """Write coefficients of moves that are `gaps` long and end at `steps`."""
        a, b = out
        rates = self.rate, self.push
        if type(self.rule) is not ConstantStep:
            for i, (stop, gap) in enumerate(zip(steps.tolist(), gaps.tolist(), strict=True)):
                transition(self.rule, stop - gap, stop, *rates, (a[i], b[i]))
            return
        eta = self.rule.value
        if self._log is None:
            self._log = log_factors(eta, self.rate)
        log, lengths = self._log, gaps.astype(np.float64)
        self._share(lambda first, last: write_moves(first, last, lengths, eta, *rates, log, a, b))

    def _write_lasting(self, stop: int, gap: int, out: Array) -> None:
        """Write coefficients of the moves of a stride, without memory for logarithms."""
        if self._log is not None:
            super()._write_lasting(stop, gap, out)
            return
        transition(self.rule, stop - gap, stop, self.rate, self.push, (out[0, 0], out[1, 0]))


# --- Coefficients of the moves of c and v between recorded rows ----------------------------------


class VelocityMoves(Moves):
    """Moves ``(c, v) <- A (c, v) + K (xi_1, xi_2)``: A row by row, and the lower triangular K.

    Parameters
    ----------
    run : Run
    threads : int
    """

    num_parts = NUM_PARTS

    def __init__(self, run: Run, threads: int = 1) -> None:
        assert isinstance(run.step_size, KnownStepSize)
        super().__init__(run.step_size, run.problem.spectrum.num_levels, threads)
        self.run: Run = run

    def _write(self, steps: NDArray[np.int64], gaps: NDArray[np.int64], out: Array) -> None:
        """Write coefficients of moves that are `gaps` long and end at `steps`."""
        problem, rule, weights = self.run.problem, self.rule, np.array(self.run.update)
        split = problem.spectrum.num_dominant_levels
        model = problem.spectrum.eigenvalues, problem.stds, split
        factors = [float(factor) for factor in self.run.optimizer.factors]
        if type(rule) is ConstantStep:
            more = *model, rule.value * weights, *factors, out
            self._share(lambda first, last: write_velocity_moves(first, last, gaps, *more))
            return
        sizes = [
            np.ascontiguousarray(rule.values(stop - gap, stop), np.float64)
            for stop, gap in zip(steps.tolist(), gaps.tolist(), strict=True)
        ]

        def write(first: int, last: int) -> None:
            for i, some in enumerate(sizes):
                write_scheduled_moves(first, last, some, *model, weights, *factors, i, out)

        self._share(write)
