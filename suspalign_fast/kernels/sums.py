"""A step, and what a vector of coordinates adds to the sums of a row, without and with a velocity.

A step is two numbers a band: ``c <- c + drift lambda c + spread s xi``. Plain SGD with step size
eta and a band's weight a has ``drift = spread = -eta a``. Whatever else a step may be (noise that
scales with the loss, an estimate instead of the size) is another pair.
"""

import numpy as np
from numpy.typing import NDArray

from ..physics.layout import NUM_BANDS, ROW_SIZE
from .blocks import OFFSET, SCALE
from .jit import inlined
from .simd import (
    broadcast,
    fma,
    horizontal_sum,
    load,
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


@inlined
def set_move(moves, at, step_size, weights):
    """Set a move of both bands, one of shape (moves, bands, 2), to that of a step of SGD."""
    for band in range(NUM_BANDS):
        minus_eta = -(weights[band] * step_size)
        moves[at, band, DRIFT] = minus_eta
        moves[at, band, SPREAD] = minus_eta


# --- A vector of coordinates: its step, and what it adds to the sums of a row --------------------
#
# The three ways to sum are those of ``blocks``. Each is four functions: no sums yet, the powers of
# an eigenvalue that serve all steps, the sums after one more vector, and what a row gets in the
# end.
#
# A vector has the lanes of a processor's registers, or a single one in a thread of a GPU.


# --- moves -------------------------------------------------------------------------------------


@inlined
def rounded(state, c):
    """A coefficient as the state can hold it."""
    return rounded_like(state, c)


@inlined
def moved(state, c, a, b, xi):
    """``c + a c + b xi``: in this form no step size is too small to be felt.

    A float32 state is rounded to after every step, so that it does not matter when it is stored.
    """
    return rounded_like(state, fma(a, c, fma(b, to_double(xi), c)))


@inlined
def velocity_moved(state, velocity, c, v, h, drift, pull, carry, decay):
    """``c + drift (pull h + carry v)`` and ``decay v + h``, h the noisy gradient."""
    moved_c = rounded(state, fma(drift, fma(pull, h, carry * v), c))
    return moved_c, rounded(velocity, fma(decay, v, h))


@inlined
def jumped(state, c, a, b, xi):
    """``a c + b xi`` as the state can hold it; what is zero stays so if ``a`` has overflowed."""
    return rounded_like(state, fma(zero_where_zero(a, c), c, b * to_double(xi)))


# --- direct sums S_1 ... S_4, R_4 ... R_6: the one place that says how each is made -----------


@inlined
def no_sums(zero):
    """Sums of nothing, one for each of ``layout.SUMS``; `zero` is a vector of zeros."""
    return (zero, zero, zero, zero, zero, zero, zero)


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
    q = c * c
    return (
        fma(q, powers[0], sums[0]),
        fma(q, powers[1], sums[1]),
        fma(q, powers[2], sums[2]),
        fma(q, powers[3], sums[3]),
        fma(q, powers[4], sums[4]),
        fma(q, powers[5], sums[5]),
        fma(q, powers[6], sums[6]),
    )


@inlined
def commit_sums(sums, weights, row):
    """Add the lanes of all sums to a row."""
    row[0] += horizontal_sum(sums[0])
    row[1] += horizontal_sum(sums[1])
    row[2] += horizontal_sum(sums[2])
    row[3] += horizontal_sum(sums[3])
    row[4] += horizontal_sum(sums[4])
    row[5] += horizontal_sum(sums[5])
    row[6] += horizontal_sum(sums[6])


@inlined
def write_sums(out, first, column, sums):
    """Set a column of a table from row `first` on to all sums."""
    out[first, column] = horizontal_sum(sums[0])
    out[first + 1, column] = horizontal_sum(sums[1])
    out[first + 2, column] = horizontal_sum(sums[2])
    out[first + 3, column] = horizontal_sum(sums[3])
    out[first + 4, column] = horizontal_sum(sums[4])
    out[first + 5, column] = horizontal_sum(sums[5])
    out[first + 6, column] = horizontal_sum(sums[6])


# --- four moments of a narrow block ------------------------------------------------------------


@inlined
def _no_moments(zero):
    return (zero, zero, zero, zero)


@inlined
def powers_of_x(lam, std, weights):
    """Return x, x^2 and x^3 of the eigenvalues of a narrow block."""
    x = fma(lam, broadcast(weights[SCALE], lam), broadcast(weights[OFFSET], lam))
    square = x * x
    return (x, square, square * x)


@inlined
def _add_moments(moments, c, powers):
    q = c * c
    return (
        moments[0] + q,
        fma(q, powers[0], moments[1]),
        fma(q, powers[1], moments[2]),
        fma(q, powers[2], moments[3]),
    )


@inlined
def add_weighted(total, weights, j, moment):
    """Add a moment, weighted for every sum, to a row."""
    weight = load(weights, ROW_SIZE * j, ROW_SIZE)
    return fma(weight, broadcast(horizontal_sum(moment), weight), total)


@inlined
def _commit_moments(moments, weights, row):
    total = load(row, 0, ROW_SIZE)
    total = add_weighted(total, weights, 0, moments[0])
    total = add_weighted(total, weights, 1, moments[1])
    total = add_weighted(total, weights, 2, moments[2])
    total = add_weighted(total, weights, 3, moments[3])
    store(row, 0, total)


# --- one moment of equal eigenvalues -----------------------------------------------------------


@inlined
def _no_squares(zero):
    return (zero,)


@inlined
def _no_powers(lam, std, weights):
    return (lam,)


@inlined
def _add_squares(squares, c, powers):
    return (fma(c, c, squares[0]),)


@inlined
def _commit_squares(squares, weights, row):
    store(row, 0, add_weighted(load(row, 0, ROW_SIZE), weights, 0, squares[0]))


DIRECT_WAY = (no_sums, powers, add_sums, commit_sums)
NARROW_WAY = (_no_moments, powers_of_x, _add_moments, _commit_moments)
EQUAL_WAY = (_no_squares, _no_powers, _add_squares, _commit_squares)

# --- the noisy gradient ------------------------------------------------------------------------


@inlined
def no_noisy(zero):
    """Noisy sums of nothing."""
    return (zero, zero, zero)


@inlined
def add_noisy(sums, c, lam, std, xi):
    """Add ``lambda^p h^2``, p = 0, 1, 2, of the noisy gradient ``h = lambda c + s xi``."""
    return add_gradient(sums, lam, fma(std, to_double(xi), lam * c))


@inlined
def add_gradient(sums, lam, h):
    """Add ``lambda^p h^2``, p = 0, 1, 2, of a noisy gradient h."""
    g = lam * h
    return fma(h, h, sums[0]), fma(g, h, sums[1]), fma(g, g, sums[2])


@inlined
def commit_noisy(sums, out):
    """Add the lanes of all noisy sums to a row."""
    out[0] += horizontal_sum(sums[0])
    out[1] += horizontal_sum(sums[1])
    out[2] += horizontal_sum(sums[2])


@inlined
def write_noisy(out, column, sums):
    """Set a column of a table to all noisy sums."""
    out[0, column] = horizontal_sum(sums[0])
    out[1, column] = horizontal_sum(sums[1])
    out[2, column] = horizontal_sum(sums[2])


# --- What a vector of coordinates with a velocity adds to the sums of a row ----------------------
#
# A row of a band has three parts of ROW_SIZE numbers, laid out alike: the sums of c^2, those of c v
# and those of v^2. The three ways to sum are those above; of c v and v^2 the direct
# way takes only what rows have (`layout.CROSS_SUMS`).


# --- direct sums ---------------------------------------------------------------------------------


@inlined
def _none_direct(zero):
    return (
        zero, zero, zero, zero, zero, zero, zero,
        zero, zero, zero, zero, zero,
        zero, zero, zero,
    )  # fmt: skip


@inlined
def _no_powers_yet(lam, std, weights):
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


@inlined
def _commit_direct(sums, weights, row):
    commit_sums(sums, weights, row)
    row[ROW_SIZE] += horizontal_sum(sums[7])
    row[ROW_SIZE + 1] += horizontal_sum(sums[8])
    row[ROW_SIZE + 2] += horizontal_sum(sums[9])
    row[ROW_SIZE + 4] += horizontal_sum(sums[10])
    row[ROW_SIZE + 5] += horizontal_sum(sums[11])
    row[2 * ROW_SIZE] += horizontal_sum(sums[12])
    row[2 * ROW_SIZE + 1] += horizontal_sum(sums[13])
    row[2 * ROW_SIZE + 4] += horizontal_sum(sums[14])


# --- four moments of a narrow block --------------------------------------------------------------


@inlined
def _none_narrow(zero):
    return (zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero)


@inlined
def _add_narrow(moments, c, v, powers):
    q = c * c
    x = c * v
    w = v * v
    return (
        moments[0] + q,
        fma(q, powers[0], moments[1]),
        fma(q, powers[1], moments[2]),
        fma(q, powers[2], moments[3]),
        moments[4] + x,
        fma(x, powers[0], moments[5]),
        fma(x, powers[1], moments[6]),
        fma(x, powers[2], moments[7]),
        moments[8] + w,
        fma(w, powers[0], moments[9]),
        fma(w, powers[1], moments[10]),
        fma(w, powers[2], moments[11]),
    )


@inlined
def _commit_four(weights, row, at, m0, m1, m2, m3):
    total = load(row, at, ROW_SIZE)
    total = add_weighted(total, weights, 0, m0)
    total = add_weighted(total, weights, 1, m1)
    total = add_weighted(total, weights, 2, m2)
    store(row, at, add_weighted(total, weights, 3, m3))


@inlined
def _commit_narrow(moments, weights, row):
    _commit_four(weights, row, 0, moments[0], moments[1], moments[2], moments[3])
    _commit_four(weights, row, ROW_SIZE, moments[4], moments[5], moments[6], moments[7])
    _commit_four(weights, row, 2 * ROW_SIZE, moments[8], moments[9], moments[10], moments[11])


# --- one moment of equal eigenvalues -------------------------------------------------------------


@inlined
def _none_equal(zero):
    return (zero, zero, zero)


@inlined
def _add_equal(squares, c, v, powers):
    return fma(c, c, squares[0]), fma(c, v, squares[1]), fma(v, v, squares[2])


@inlined
def _commit_equal(squares, weights, row):
    store(row, 0, add_weighted(load(row, 0, ROW_SIZE), weights, 0, squares[0]))
    at = ROW_SIZE
    store(row, at, add_weighted(load(row, at, ROW_SIZE), weights, 0, squares[1]))
    at = 2 * ROW_SIZE
    store(row, at, add_weighted(load(row, at, ROW_SIZE), weights, 0, squares[2]))


VELOCITY_DIRECT_WAY = (_none_direct, _no_powers_yet, _add_direct, _commit_direct)
VELOCITY_NARROW_WAY = (_none_narrow, powers_of_x, _add_narrow, _commit_narrow)
VELOCITY_EQUAL_WAY = (_none_equal, _no_powers, _add_equal, _commit_equal)
