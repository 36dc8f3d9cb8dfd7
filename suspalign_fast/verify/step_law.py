"""Exact chances of what one step does."""

import numpy as np
from numpy.typing import NDArray

from ..kernels.tail import tails
from .probed import Probed

Array = NDArray[np.float64]


class StepLaw:
    """Exact chances of the outcomes of one step from a state, level by level."""

    def __init__(self, engine: Probed) -> None:
        problem = engine.run.problem
        spectrum = problem.spectrum
        self.engine = engine
        self.lam, self.std = spectrum.eigenvalues, problem.stds
        self.count = spectrum.multiplicities.astype(np.float64)
        self.split = spectrum.num_dominant_levels
        self._starts = np.cumsum(spectrum.multiplicities) - spectrum.multiplicities

    def squares(self, state: Array) -> Array:
        """Squared norm of the coefficients of each level of a state."""
        squares = self.engine.squares(state)
        if squares.size == self.lam.size:
            return squares
        sums: Array = np.add.reduceat(squares, self._starts)
        return sums

    def of_alignment(
        self, squares: Array, before: Array, step_size: float, repeats: int
    ) -> tuple[float, float, int]:
        """Chances that the alignment rises and falls; `before` are the squared gradients.

        Last comes how often the step is to be tried.
        """
        m_sq, v = self._next(squares, step_size)
        above, below, _, _ = tails(
            1.0 / before[0], -1.0 / before[1], 0.0, self.lam**2 * m_sq, self.lam**2 * v,
            self.count, self.split,
        )  # fmt: skip
        return above, below, repeats

    def of_loss(
        self, squares: Array, before: float, step_size: float, band: int, repeats: int
    ) -> tuple[float, float, int]:
        """Chances that a band's loss rises and falls, and repeats; `before` is twice the loss."""
        m_sq, v = self._next(squares, step_size)
        factors = (1.0 / before, 0.0) if band == 0 else (0.0, 1.0 / before)
        above, below, _, _ = tails(
            *factors, 1.0, self.lam * m_sq, self.lam * v, self.count, self.split
        )
        return above, below, repeats

    @staticmethod
    def changes(after: Array, before: Array) -> Array:
        """Relative changes to be counted, one a repeat, of squares of one kind or two."""
        with np.errstate(divide="ignore", invalid="ignore"):
            growth = np.log(after / before)
        return growth if growth.ndim == 1 else growth[:, 0] - growth[:, 1]

    def _next(self, squares: Array, step_size: float) -> tuple[Array, Array]:
        """Total squared mean and variance of the coefficients of each level after a step."""
        return (1.0 - step_size * self.lam) ** 2 * squares, (step_size * self.std) ** 2
