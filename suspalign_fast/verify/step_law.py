"""Exact chances of what one step does."""

import numpy as np
from numpy.typing import NDArray

from ..kernels.tail import tails
from .probed import Planes, Probed

Array = NDArray[np.float64]


class StepLaw:
    """Exact chances of the outcomes of one step from a state, level by level."""

    def __init__(self, engine: Probed) -> None:
        problem = engine.run.problem
        spectrum = problem.spectrum
        self.engine = engine
        self.factors = engine.run.optimizer.factors
        self.lam, self.std = spectrum.eigenvalues, problem.stds
        self.count = spectrum.multiplicities.astype(np.float64)
        self.split = spectrum.num_dominant_levels
        self._starts = np.cumsum(spectrum.multiplicities) - spectrum.multiplicities

    def products(self, planes: Planes) -> Array:
        """Squared norms of each level's coefficients; with a velocity v ``c.v`` and ``v.v``, too.

        Shape (1 or 3, levels).
        """
        products = self.engine.products(planes)
        if products.shape[-1] == self.lam.size:
            return products
        sums: Array = np.add.reduceat(products, self._starts, axis=-1)
        return sums

    def of_alignment(
        self, products: Array, before: Array, step_size: float, repeats: int
    ) -> tuple[float, float, int]:
        """Chances that the alignment rises and falls; `before` are the squared gradients.

        Last comes how often the step is to be tried.
        """
        m_sq, v = self.gradient_after(products, step_size)
        above, below, _, _ = tails(
            1.0 / before[0], -1.0 / before[1], 0.0, m_sq, v, self.count, self.split
        )
        return above, below, repeats

    def of_loss(
        self, products: Array, before: float, step_size: float, band: int, repeats: int
    ) -> tuple[float, float, int]:
        """Chances that a band's loss rises and falls, and repeats; `before` is twice the loss."""
        m_sq, v = self._after(products, step_size)
        factors = (1.0 / before, 0.0) if band == 0 else (0.0, 1.0 / before)
        above, below, _, _ = tails(
            *factors, 1.0, self.lam * m_sq, self.lam * v, self.count, self.split
        )
        return above, below, repeats

    def gradient_after(self, products: Array, step_size: float) -> tuple[Array, Array]:
        """Total squared mean of each level's gradient after a step, and its variance."""
        m_sq, v = self._after(products, step_size)
        return self.lam**2 * m_sq, self.lam**2 * v

    @staticmethod
    def changes(after: Array, before: Array) -> Array:
        """Relative changes to be counted, one a repeat, of squares of one kind or two."""
        with np.errstate(divide="ignore", invalid="ignore"):
            growth = np.log(after / before)
        return growth if growth.ndim == 1 else growth[:, 0] - growth[:, 1]

    def largest_terms(self, products: Array, step_size: float) -> Array:
        """Return what the squared gradient of each level after a step is at most made of."""
        pull, carry = step_size * self.factors.pull, step_size * self.factors.carry
        squares = (1.0 + pull * self.lam) ** 2 * products[0] + carry**2 * products[-1]
        return self.lam**2 * (2.0 * squares + self.count * (pull * self.std) ** 2)

    def _after(self, products: Array, step_size: float) -> tuple[Array, Array]:
        """Total squared mean and variance of the coefficients of each level after a step."""
        pull, carry = step_size * self.factors.pull, step_size * self.factors.carry
        return moved_squares(products, 1.0 - pull * self.lam, carry), (pull * self.std) ** 2


def moved_squares(products: Array, kept: Array, carry: Array | float) -> Array:
    """Return the squared norms of ``kept c - carry v``, from `StepLaw.products`."""
    squares: Array = kept**2 * products[0]
    if len(products) > 1:
        squares = squares - 2.0 * kept * carry * products[1] + carry**2 * products[2]
    return np.maximum(squares, 0.0)
