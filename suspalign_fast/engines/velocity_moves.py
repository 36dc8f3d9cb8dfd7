"""Coefficients of the moves of c and v between recorded rows."""

import numpy as np
from numpy.typing import NDArray

from ..kernels.momentum_powers import NUM_PARTS, write_scheduled_moves, write_velocity_moves
from ..run import Run
from ..step_size import ConstantStep, KnownStepSize
from .moves import Array, Moves


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
