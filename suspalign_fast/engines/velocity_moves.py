"""Coefficients of the moves of c and v between recorded rows."""

import numpy as np
from numpy.typing import NDArray

from ..kernels.momentum_powers import NUM_PARTS, write_velocity_moves
from ..momentum_moves import momentum_transition
from ..run import Run
from ..step_size import ConstantStep, KnownStepSize
from ..transition import product
from .moves import Array, Moves

#: Parts of a move that noise makes: they come last.
NOISY = 3
#: Levels of a schedule worked on at once: its many temporaries stay in cache.
PIECE = 2**13


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
        problem, optimizer, rule = self.run.problem, self.run.optimizer, self.rule
        lam, std, split = (
            problem.spectrum.eigenvalues, problem.stds, problem.spectrum.num_dominant_levels
        )  # fmt: skip
        weights = np.array(self.run.update)
        if type(rule) is ConstantStep:
            model = lam, std, split, rule.value * weights, *map(float, optimizer.factors)
            self._share(lambda first, last: write_velocity_moves(first, last, gaps, *model, out))
            return

        def write(first: int, last: int) -> None:
            for begin in range(first, last, PIECE):
                part = slice(begin, min(begin + PIECE, last))
                weight = weights[(np.arange(part.start, part.stop) >= split).astype(int)]
                for i, (stop, gap) in enumerate(zip(steps.tolist(), gaps.tolist(), strict=True)):
                    move = momentum_transition(rule, stop - gap, stop, lam[part], weight, optimizer)
                    out[:-NOISY, i, part] = move[:-NOISY]
                    out[-NOISY:, i, part] = [product(std[part], k) for k in move[-NOISY:]]

        self._share(write)
