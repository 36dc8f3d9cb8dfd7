"""Many steps of known size as one move, ``c(t + n) = a c(t) + b xi`` (DESIGN section 3)."""

import numpy as np
from numpy.typing import NDArray

from .step_size import ConstantStep, KnownStepSize

Array = NDArray[np.float64]


def power_and_sum(x: Array, n: int) -> tuple[Array, Array]:
    """Return ``(1 - x)^n`` and ``sum_{j < n} (1 - x)^(2 j)``, keeping their digits at every x.

    Parameters
    ----------
    x : ndarray of float64
        Step size times eigenvalue, at least 0.
    n : int
        Number of steps, at least 0.
    """
    if n == 0:
        return np.ones_like(x), np.zeros_like(x)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        log_a = np.where(x < 1.0, np.log1p(-np.minimum(x, 1.0)), np.log1p(x - 2.0))
        power = np.exp(n * log_a)
        total = -np.expm1(2.0 * n * log_a) / (x * (2.0 - x))
    if n % 2:
        power = np.where(x > 1.0, -power, power)
    return power, np.where((x == 0.0) | (x == 2.0), float(n), total)


def product(factor: Array, value: Array) -> Array:
    """``factor * value``, zero where the value is, even if the factor has overflowed."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.where(value == 0.0, 0.0, factor * value)


def transition(
    rule: KnownStepSize, start: int, stop: int, rate: Array, push: Array
) -> tuple[Array, Array]:
    """Return a and b of the move from step `start` to step `stop`.

    Parameters
    ----------
    rule : KnownStepSize
    start, stop : int
    rate : ndarray of float64, shape (levels,)
        Decay per unit of step size: eigenvalue times update weight.
    push : ndarray of float64, shape (levels,)
        Noise entering per unit of step size: standard deviation times update weight.

    Returns
    -------
    a, b : ndarray of float64, shape (levels,)
    """
    if isinstance(rule, ConstantStep):
        power, total = power_and_sum(rule.value * rate, stop - start)
        return power, product(np.sqrt(total), rule.value * push)
    a, b_sq = np.ones_like(rate), np.zeros_like(rate)
    for eta in rule.values(start, stop):
        factor = 1.0 - eta * rate
        a *= factor
        b_sq = factor * factor * b_sq + (eta * push) ** 2
    return a, np.sqrt(b_sq)
