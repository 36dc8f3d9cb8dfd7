"""Many steps of known size as one move, ``c(t + n) = a c(t) + b xi``.

With a constant step size ``a = (1 - eta lambda)^n`` and ``b^2 = eta^2 s^2 (1 - a^2) /
(1 - (1 - eta lambda)^2)``; with a schedule a is the product of the factors and every step takes
``b^2`` to ``(1 - eta lambda)^2 b^2 + eta^2 s^2``.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..kernels.powers import (
    CC,
    CY,
    K_CC,
    K_YC,
    K_YY,
    NUM_PARTS,
    YC,
    YY,
    write_momentum_moves,
    write_moves,
)
from .optimizer import Optimizer
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
    """Return a and b, shape (levels,), of the move from step `start` to step `stop`.

    `rate` and `push` are decay and noise per unit of step size: eigenvalue and standard deviation,
    each times the weight of the update.
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


# --- Many steps of known size with momentum as one move of coefficient and velocity --------------
#
# ``(c, v)(t + n) = A (c, v)(t) + s K xi``: A is a product of steps, K the lower Cholesky factor of
# the noise that they add up, for a gradient noise of standard deviation 1. With a constant step
# size both have all their digits whatever n is (``kernels.powers``); with a schedule step
# follows upon step, and K is what is kept, not its square.


Row = tuple[Array, ...]


class MomentumMove(NamedTuple):
    """A move of c and v: the matrix A, and the lower triangular K; shapes (levels,)."""

    cc: Array
    cv: Array
    vc: Array
    vv: Array
    noise_cc: Array
    noise_vc: Array
    noise_vv: Array


def momentum_powers(optimizer: Optimizer, steps: NDArray[np.int64], x: Array) -> Array:
    """Return moves of c and ``y = eta v`` by steps of one size, shape (7, moves, levels).

    `x` is the product of step size, weight and eigenvalue. The rows are the matrix and K of a noise
    ``eta s`` of 1; infinite where they have overflowed.
    """
    out = np.empty((NUM_PARTS, steps.size, x.size))
    factors = (float(factor) for factor in optimizer.factors)
    write_momentum_moves(0, x.size, steps.astype(np.int64), x, *factors, out)
    return out


def momentum_transition(
    rule: KnownStepSize,
    start: int,
    stop: int,
    lam: Array,
    weight: Array,
    optimizer: Optimizer,
    before: MomentumMove | None = None,
) -> MomentumMove:
    """Return the move from step `start` to step `stop`, after a move `before` if one is given."""
    move = _identity(lam) if before is None else before
    if start == stop:
        return move
    if type(rule) is ConstantStep:
        etas = rule.value * weight
        found = _scaled(momentum_powers(optimizer, np.array([stop - start]), etas * lam)[:, 0],
                        etas, lam, optimizer)  # fmt: skip
        return found if before is None else joined(move, found)
    for eta in rule.values(start, stop):
        move = joined(move, one_step(eta * weight, lam, optimizer))
    return move


def one_step(etas: Array, lam: Array, optimizer: Optimizer) -> MomentumMove:
    """Return the move of one step with a size for each level."""
    p, q, beta = optimizer.factors
    one = np.ones_like(lam)
    return MomentumMove(
        1.0 - p * etas * lam, -q * etas, lam, beta * one, p * etas, -one, np.zeros_like(lam)
    )


def joined(first: MomentumMove, second: MomentumMove) -> MomentumMove:
    """Return one move and then another as one; infinite where it overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        c = second.cc, second.cv
        v = second.vc, second.vv
        power = [
            product(row[0], above) + product(row[1], below)
            for row in (c, v)
            for above, below in ((first.cc, first.vc), (first.cv, first.vv))
        ]
        rows = [
            (
                product(row[0], first.noise_cc) + product(row[1], first.noise_vc),
                product(row[1], first.noise_vv),
            )
            for row in (c, v)
        ]
        factor = triangular(
            (*rows[0], second.noise_cc), (*rows[1], second.noise_vc, second.noise_vv)
        )
    return MomentumMove(*(np.where(np.isnan(part), np.inf, part) for part in (*power, *factor)))


def triangular(c: Row, v: Row) -> tuple[Array, Array, Array]:
    """Return the lower triangular factor of the Gram matrix of two rows; the first may be shorter.

    The last entry, the area that the rows span over the length of the first, is a root of a sum of
    squares (Lagrange's identity): no difference in which digits go.
    """
    length = np.sqrt(sum(x * x for x in c))
    along = sum(x * y for x, y in zip(c, v, strict=False))
    minors = [
        c[i] * v[j] - (c[j] * v[i] if j < len(c) else 0.0)
        for i in range(len(c))
        for j in range(i + 1, len(v))
    ]
    area = np.sqrt(sum(x * x for x in minors))
    alone = np.sqrt(sum(x * x for x in v))
    some = length > 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        return (
            length, np.where(some, along / length, 0.0), np.where(some, area / length, alone)
        )  # fmt: skip


def _identity(lam: Array) -> MomentumMove:
    one, zero = np.ones_like(lam), np.zeros_like(lam)
    return MomentumMove(one, zero, zero, one, zero, zero, zero)


def _scaled(parts: Array, etas: Array, lam: Array, optimizer: Optimizer) -> MomentumMove:
    """A move of c and ``eta v`` as one of c and v, also where nothing moves c."""
    carry = optimizer.factors.carry
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # Both entries beside the diagonal are multiples of one polynomial of x.
        still = product(lam, -parts[CY] / carry) if carry else lam
        vc = np.where(etas > 0.0, parts[YC] / etas, still)
        k_cc, k_yc, k_yy = parts[K_CC], parts[K_YC], parts[K_YY]
        k_yc, k_yy = np.where(etas > 0.0, (k_yc, k_yy), (0.0 * etas, np.hypot(k_yc, k_yy)))
        return MomentumMove(
            parts[CC], product(etas, parts[CY]), vc, parts[YY], product(etas, k_cc), k_yc, k_yy
        )
