"""What a vector of coordinates with a velocity adds to the sums of a row.

A row of a band has three parts of ROW_SIZE numbers, laid out alike: the sums of c^2, those of c v
and those of v^2. The three ways to sum are those of ``coordinates``; of c v and v^2 the direct way
takes only what rows have (`row.CROSS_SUMS`).
"""

from ..row import ROW_SIZE
from .coordinates import add_weighted, commit_sums, powers_of_x
from .jit import inlined
from .simd import fma, horizontal_sum, load, store

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
def _no_powers(lam, std, weights):
    return (lam,)


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


DIRECT_WAY = (_none_direct, _no_powers_yet, _add_direct, _commit_direct)
NARROW_WAY = (_none_narrow, powers_of_x, _add_narrow, _commit_narrow)
EQUAL_WAY = (_none_equal, _no_powers, _add_equal, _commit_equal)
