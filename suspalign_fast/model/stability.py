"""How far a step size is from where expected losses grow without end.

In mean square, that is: with noise that does not depend on the state the edge is ``2 / lambda_1``.
Under mini-batches of B samples of data each direction loses ``x (2 - x (1 + 1/B))`` of its loss in
a step, ``x = eta lambda``, and gains from the loss of all, which the stationary state returns as

    K = (1/B) sum x / (2 - x (1 + 1/B))

of a unit of loss: stable where no term is infinite and K is below 1 (docs/model.md, section 6).

With momentum a gradient noise of variance 1 leaves a variance ``eta^2 h`` of a coefficient, h from
`rest_covariance`, so that of its own loss a direction returns ``r = x^2 h / B``. Then
``K = sum r / (1 - r)``, and no r may reach 1.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..base import checks
from .optimizer import PLAIN, Optimizer
from .spectrum.spectrum import Spectrum

Array = NDArray[np.float64]
Weights = tuple[float, float]
FULL: Weights = (1.0, 1.0)


class Stability(NamedTuple):
    """How far a step size is from the largest stable one.

    Attributes
    ----------
    feedback : float
        Loss that the noise of a unit of loss leaves in the long run, K; stable below 1. Zero where
        noise does not depend on the state, infinite where a single direction is unstable by
        itself. Near 1 an expectation is not what a typical run does: its tails are heavy.
    largest : float
        Step size at the edge, eta_max; infinite where none is too large.
    """

    feedback: float
    largest: float

    @property
    def is_stable(self) -> bool:
        """Whether expected losses stay finite."""
        return self.feedback < 1.0


def rest_covariance(x: Array, optimizer: Optimizer) -> tuple[Array, Array, Array]:
    """Return variance of c, covariance of c and ``y = eta v``, variance of y, for noise at rest.

    In units of ``(eta s)^2``; `x` is ``eta lambda``, and the first is infinite where it is 0. The
    moves of a step have the determinant ``beta - x w``, ``w = p beta - q``, and ``p (1 - beta) + q
    = 1`` for all optimizers. Then c is an ARMA(2, 1) process with the innovations ``-p xi(t) + w
    xi(t - 1)``, and y one with ``xi(t) - xi(t - 1)``.
    """
    p, q, beta = optimizer.factors
    w = p * beta - q
    scale = (1.0 - beta + w * x) * (2.0 * (1.0 + beta) - (p + w) * x)
    with np.errstate(divide="ignore"):
        c_sq = (1.0 + beta + w * (p + w) * x) / (x * scale)
    return c_sq, -(p + w) / scale, 2.0 / scale


def additive(
    spectrum: Spectrum,
    step_size: float,
    weights: Weights = FULL,
    optimizer: Optimizer = PLAIN,
) -> Stability:
    """Return the stability under noise that does not depend on the state."""
    eta = checks.real("step_size", step_size)
    firsts = (0, spectrum.num_dominant_levels)  # of both bands, in descending order
    top = max(
        weight * float(spectrum.eigenvalues[at])
        for weight, at in zip(weights, firsts, strict=True)
        if at < spectrum.num_levels
    )
    largest = optimizer.largest / top if top > 0.0 else float(np.inf)
    return Stability(0.0 if eta < largest else float(np.inf), largest)


def of_batches(
    spectrum: Spectrum,
    step_size: float,
    batch_size: int,
    weights: Weights = FULL,
    optimizer: Optimizer = PLAIN,
) -> Stability:
    """Return the stability under mini-batches of data."""
    eta = checks.real("step_size", step_size)
    batch = checks.integer("batch_size", batch_size, 1)
    unit = spectrum.per_level(weights) * spectrum.eigenvalues
    feedback = _feedback_of(unit, spectrum, batch, optimizer)
    return Stability(feedback(eta), _largest(unit, batch, optimizer, feedback))


def returned_loss(x: Array, batch: int, optimizer: Optimizer) -> Array:
    """Return the share of each level's loss that its own noise keeps up, below 1 where stable."""
    with np.errstate(invalid="ignore"):
        share = x * (x * rest_covariance(x, optimizer)[0]) / batch
    return np.where(x > 0.0, np.where(x < optimizer.largest, share, np.inf), 0.0)


def _feedback_of(
    unit: Array, spectrum: Spectrum, batch: int, optimizer: Optimizer
) -> Callable[[float], float]:
    """Return K as a function of the step size."""

    def plain(eta: float) -> float:
        x = eta * unit
        left = 2.0 - x * (1.0 + 1.0 / batch)
        if (left <= 0.0).any():
            return float(np.inf)
        return float((spectrum.multiplicities * x / left).sum() / batch)

    def with_velocity(eta: float) -> float:
        share = returned_loss(eta * unit, batch, optimizer)
        if (share >= 1.0).any():
            return float(np.inf)
        return float((spectrum.multiplicities * (share / (1.0 - share))).sum())

    return with_velocity if optimizer.has_velocity else plain


def _largest(
    unit: Array, batch: int, optimizer: Optimizer, feedback: Callable[[float], float]
) -> float:
    """Where K, which grows with the step size, is 1: between bounds that halve."""
    top = float(unit.max())
    if top == 0.0:
        return float(np.inf)
    alone = 1.0 if optimizer.has_velocity else 1.0 + 1.0 / batch
    low, high = 0.0, optimizer.largest / (top * alone)
    while True:
        middle = 0.5 * (low + high)
        if middle in (low, high):
            return low
        if feedback(middle) < 1.0:
            low = middle
        else:
            high = middle
