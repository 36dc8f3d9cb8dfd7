"""A step, and what a vector of coordinates adds to the sums of a row, without and with a velocity.

A step is two numbers a band: ``c <- c + drift lambda c + spread s xi``. Plain SGD with step size
eta and a band's weight a has ``drift = spread = -eta a``. Whatever else a step may be (noise that
scales with the loss, an estimate instead of the size) is another pair.
"""

import numpy as np
from numpy.typing import NDArray

from ..physics.layout import NUM_BANDS, NUM_NOISY, NUM_SUMS, ROW_SIZE, VELOCITY_COLUMNS
from .blocks import NUM_MOMENTS, OFFSET, SCALE
from .jit import inlined
from .simd import (
    add_lanes,
    broadcast,
    fma,
    fma_each,
    horizontal_sum,
    load,
    repeat,
    rounded_like,
    store,
    to_double,
    zero_where_zero,
)

DRIFT, SPREAD = range(2)
NUM_PARTS = 2


def moves_of(
    step_sizes: NDArray[np.float64], weights: tuple[float, float] | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the moves of steps of known sizes, shape (steps, bands, 2)."""
    moves = np.empty((step_sizes.size, NUM_BANDS, NUM_PARTS))
    np.multiply(step_sizes[:, None], -np.asarray(weights), out=moves[:, :, DRIFT])
    moves[:, :, SPREAD] = moves[:, :, DRIFT]
    return moves


# --- Steps of a vector of coordinates ------------------------------------------------------------
#
# A vector has the lanes of a processor's registers, or a single one in a thread of a GPU.


@inlined
def moved(state, c, a, b, xi):
    """``c + a c + b xi``: in this form no step size is too small to be felt.

    A float32 state is rounded to after every step, so that it does not matter when it is stored.
    """
    return rounded_like(state, fma(a, c, fma(b, to_double(xi), c)))


@inlined
def velocity_moved(state, velocity, c, v, h, drift, pull, carry, decay):
    """``c + drift (pull h + carry v)`` and ``decay v + h``, h the noisy gradient."""
    moved_c = rounded_like(state, fma(drift, fma(pull, h, carry * v), c))
    return moved_c, rounded_like(velocity, fma(decay, v, h))


@inlined
def jumped(state, c, a, b, xi):
    """``a c + b xi`` as the state can hold it; what is zero stays so if ``a`` has overflowed."""
    return rounded_like(state, fma(zero_where_zero(a, c), c, b * to_double(xi)))


# --- The sums of a row --------------------------------------------------------------------------
#
# There are three ways to sum (`blocks`), each without and with a velocity. A way is four functions:
# no sums yet, powers of an eigenvalue that serve all steps, the sums after one more vector of c and
# v, and what a row gets in the end. Where there is no velocity, v is c and nothing depends on it.
#
# With a velocity a row has three parts, laid out alike: sums of c^2, of c v and of v^2.

#: ``(zero, zero, ...)``, one for each of ``layout.SUMS``.
no_sums = repeat(NUM_SUMS)
_no_moments = repeat(NUM_MOMENTS)
_three = repeat(3)


@inlined
def powers(lam, std, weights):
    """Return ``lambda^1 ... lambda^4`` and ``lambda^p s^2``, p = 4, 5, 6."""
    square = lam * lam
    u = std * square
    v = u * u
    w = v * lam
    return (lam, square, square * lam, square * square, v, w, w * lam)


@inlined
def add_sums(sums, c, powers):
    """Return the sums with the squares of c added."""
    return fma_each(c * c, powers, sums)


@inlined
def _add_powers(sums, c, v, powers):
    return fma_each(c * c, powers, sums)


_add_lanes = add_lanes(range(NUM_SUMS))


@inlined
def _commit_sums(sums, weights, row):
    _add_lanes(row, sums)


# With a velocity: the sums of ``layout.VELOCITY_COLUMNS``.


@inlined
def _lam_and_std(lam, std, weights):
    return lam, std


@inlined
def _add_direct(sums, c, v, powers):
    lam, std = powers
    # Products in the order in which few of them are held at a time.
    g = lam * c
    w = lam * v
    gg = lam * g
    r = std * gg
    rr = lam * r
    y = std * (lam * w)
    return (
        fma(c, g, sums[0]),
        fma(g, g, sums[1]),
        fma(g, gg, sums[2]),
        fma(gg, gg, sums[3]),
        fma(r, r, sums[4]),
        fma(r, rr, sums[5]),
        fma(rr, rr, sums[6]),
        fma(g, v, sums[7]),
        fma(g, w, sums[8]),
        fma(gg, w, sums[9]),
        fma(r, y, sums[10]),
        fma(rr, y, sums[11]),
        fma(v, w, sums[12]),
        fma(w, w, sums[13]),
        fma(y, y, sums[14]),
    )


_add_velocity_lanes = add_lanes(VELOCITY_COLUMNS)


@inlined
def _commit_direct(sums, weights, row):
    _add_velocity_lanes(row, sums)


# Four moments of a narrow block.


@inlined
def _powers_of_x(lam, std, weights):
    """Return 1, x, x^2 and x^3 of the eigenvalues of a narrow block."""
    x = fma(lam, broadcast(weights[SCALE], lam), broadcast(weights[OFFSET], lam))
    square = x * x
    return (broadcast(1.0, lam), x, square, square * x)


@inlined
def _add_weighted(total, weights, j, moment):
    """Add a moment, weighted for every sum, to a row."""
    weight = load(weights, ROW_SIZE * j, ROW_SIZE)
    return fma(weight, broadcast(horizontal_sum(moment), weight), total)


@inlined
def _commit_part(moments, weights, row, at):
    total = load(row, at, ROW_SIZE)
    total = _add_weighted(total, weights, 0, moments[0])
    total = _add_weighted(total, weights, 1, moments[1])
    total = _add_weighted(total, weights, 2, moments[2])
    store(row, at, _add_weighted(total, weights, 3, moments[3]))


@inlined
def _commit_moments(moments, weights, row):
    _commit_part(moments, weights, row, 0)


@inlined
def _no_parts(zero):
    return _three(_no_moments(zero))


@inlined
def _add_parts(moments, c, v, powers):
    return (
        fma_each(c * c, powers, moments[0]),
        fma_each(c * v, powers, moments[1]),
        fma_each(v * v, powers, moments[2]),
    )


@inlined
def _commit_parts(moments, weights, row):
    _commit_part(moments[0], weights, row, 0)
    _commit_part(moments[1], weights, row, ROW_SIZE)
    _commit_part(moments[2], weights, row, 2 * ROW_SIZE)


# One moment of equal eigenvalues.


@inlined
def _no_square(zero):
    return (zero,)


@inlined
def _no_powers(lam, std, weights):
    return (lam,)


@inlined
def _add_square(squares, c, v, powers):
    return (fma(c, c, squares[0]),)


@inlined
def _add_squares(squares, c, v, powers):
    return fma(c, c, squares[0]), fma(c, v, squares[1]), fma(v, v, squares[2])


@inlined
def _commit_square_at(square, weights, row, at):
    store(row, at, _add_weighted(load(row, at, ROW_SIZE), weights, 0, square))


@inlined
def _commit_square(squares, weights, row):
    _commit_square_at(squares[0], weights, row, 0)


@inlined
def _commit_squares(squares, weights, row):
    _commit_square_at(squares[0], weights, row, 0)
    _commit_square_at(squares[1], weights, row, ROW_SIZE)
    _commit_square_at(squares[2], weights, row, 2 * ROW_SIZE)


#: The ways in the order (direct, narrow, equal), without and with a velocity.
WAYS = (
    (no_sums, powers, _add_powers, _commit_sums),
    (_no_moments, _powers_of_x, _add_powers, _commit_moments),
    (_no_square, _no_powers, _add_square, _commit_square),
)
VELOCITY_DIRECT_WAY = (
    repeat(len(VELOCITY_COLUMNS)), _lam_and_std, _add_direct, _commit_direct,
)  # fmt: skip
VELOCITY_WAYS = (
    VELOCITY_DIRECT_WAY,
    (_no_parts, _powers_of_x, _add_parts, _commit_parts),
    (_three, _no_powers, _add_squares, _commit_squares),
)


def ways_of(has_velocity: bool) -> tuple[tuple[object, ...], ...]:
    """Return the three ways to sum."""
    return VELOCITY_WAYS if has_velocity else WAYS


# --- the noisy gradient ------------------------------------------------------------------------


no_noisy = repeat(NUM_NOISY)
_add_noisy_lanes = add_lanes(range(NUM_NOISY))


@inlined
def additive_gradient(c, lam, std, gain, spread, xi):
    """Noisy gradient ``h = lambda c + s xi``; takes what ``batches.gradient`` takes."""
    return fma(std, to_double(xi), lam * c)


@inlined
def add_gradient(sums, lam, h):
    """Add ``lambda^p h^2``, p = 0, 1, 2, of a noisy gradient h."""
    g = lam * h
    return fma(h, h, sums[0]), fma(g, h, sums[1]), fma(g, g, sums[2])


@inlined
def commit_noisy(sums, out):
    """Add the lanes of all noisy sums to a row."""
    _add_noisy_lanes(out, sums)
