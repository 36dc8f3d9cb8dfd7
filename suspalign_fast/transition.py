"""Many steps of known size as one move, ``c(t + n) = a c(t) + b xi``.

With a constant step size ``a = (1 - eta lambda)^n`` and ``b^2 = eta^2 s^2 (1 - a^2) /
(1 - (1 - eta lambda)^2)``; with a schedule a is the product of the factors and every step takes
``b^2`` to ``(1 - eta lambda)^2 b^2 + eta^2 s^2``.
"""

import numpy as np
from numpy.typing import NDArray

from .kernels.powers import write_moves
from .step_size import ConstantStep, KnownStepSize

Array = NDArray[np.float64]
#: Levels worked on at once, so that temporaries stay small.
PIECE = 2**16


def log_factor(x: Array) -> Array:
    """Return the logarithm of ``|1 - x|``, with all its digits, for x of at least 0."""
    with np.errstate(divide="ignore"):
        return np.where(x < 1.0, np.log1p(-np.minimum(x, 1.0)), np.log1p(np.maximum(x, 1.0) - 2.0))


def log_factors(size: float, rate: Array) -> Array:
    """Return the logarithms of ``|1 - size rate|``, a piece at a time."""
    log = np.empty_like(rate)
    for first in range(0, rate.size, PIECE):
        part = slice(first, first + PIECE)
        log[part] = log_factor(size * rate[part])
    return log


def product(factor: Array, value: Array) -> Array:
    """``factor * value``, zero where either is, even if the other has overflowed."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.where((value == 0.0) | (factor == 0.0), 0.0, factor * value)


def transition(
    rule: KnownStepSize,
    start: int,
    stop: int,
    rate: Array,
    push: Array,
    out: tuple[Array, Array] | None = None,
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
    out : tuple of two ndarray of float64, shape (levels,), optional
        Where to write them.

    Returns
    -------
    a, b : ndarray of float64, shape (levels,)
    """
    a, b = (np.empty_like(rate), np.empty_like(rate)) if out is None else out
    if start == stop:
        a[:], b[:] = 1.0, 0.0
        return a, b
    for first in range(0, rate.size, PIECE):  # temporaries of a piece alone
        part = slice(first, first + PIECE)
        a[part], b[part] = _transition(rule, start, stop, rate[part], push[part])
    return a, b


def _transition(
    rule: KnownStepSize, start: int, stop: int, rate: Array, push: Array
) -> tuple[Array, Array]:
    if type(rule) is ConstantStep:
        steps = np.array([float(stop - start)])
        moves = np.empty((2, 1, rate.size))
        log = log_factor(rule.value * rate)
        write_moves(0, rate.size, steps, rule.value, rate, push, log, moves[0], moves[1])
        return moves[0, 0], moves[1, 0]
    a, b_sq = np.ones_like(rate), np.zeros_like(rate)
    with np.errstate(over="ignore", invalid="ignore"):
        for eta in rule.values(start, stop):
            factor = 1.0 - eta * rate
            a = product(factor, a)
            b_sq = product(factor * factor, b_sq) + (eta * push) ** 2
    return a, np.sqrt(b_sq)
