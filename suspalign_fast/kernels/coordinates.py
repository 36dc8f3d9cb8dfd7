"""A vector of coordinates: its step, and what it adds to the sums of a row.

The three ways to sum are those of ``plan``. Each is four functions: no sums yet, the powers of an
eigenvalue that serve all steps, the sums after one more vector, and what a row gets in the end.

A vector has the lanes of a processor's registers, or a single one in a thread of a GPU.
"""

from ..row import ROW_SIZE
from .jit import inlined
from .plan import OFFSET, SCALE
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
    """Sums of nothing, one for each of ``row.SUMS``; `zero` is a vector of zeros."""
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
