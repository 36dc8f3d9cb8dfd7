"""SGD steps on a block whose normals are there, and three ways to add up its power sums.

The ways are those of ``plan``: powers of an eigenvalue are computed once a coordinate, the sums of
every step take one multiply-add each. `_make` turns a way into the loops over a block.
"""

from .batch import LANES
from .jit import inlined
from .normals import GROUP
from .plan import BLOCK, EQUAL, NARROW, OFFSET, ROW, SCALE
from .simd import (
    broadcast,
    fma,
    horizontal_sum,
    load,
    load_doubles,
    prefetch,
    rounded_like,
    store,
    store_doubles,
    to_double,
    zeros,
)

#: Steps of one size that `step_tile` takes together.
TILE = 4

# --- ways to sum: nothing yet, powers of a vector of coordinates, what to add, what a row gets ---


@inlined
def _no_sums():
    zero = zeros(0.0, LANES)
    return (zero, zero, zero, zero, zero, zero, zero)


@inlined
def _powers(lam, std, weights):
    square = lam * lam
    u = std * square
    v = u * u
    w = v * lam
    return (lam, square, square * lam, square * square, v, w, w * lam)


@inlined
def _add_direct(sums, c, powers):
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
def _commit_direct(sums, weights, row):
    row[0] += horizontal_sum(sums[0])
    row[1] += horizontal_sum(sums[1])
    row[2] += horizontal_sum(sums[2])
    row[3] += horizontal_sum(sums[3])
    row[4] += horizontal_sum(sums[4])
    row[5] += horizontal_sum(sums[5])
    row[6] += horizontal_sum(sums[6])


@inlined
def _no_moments():
    zero = zeros(0.0, LANES)
    return (zero, zero, zero, zero)


@inlined
def _powers_of_x(lam, std, weights):
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
def _add_weighted(total, weights, j, moment):
    weight = load(weights, ROW * j, ROW)
    return fma(weight, broadcast(horizontal_sum(moment), weight), total)


@inlined
def _commit_moments(moments, weights, row):
    total = load(row, 0, ROW)
    total = _add_weighted(total, weights, 0, moments[0])
    total = _add_weighted(total, weights, 1, moments[1])
    total = _add_weighted(total, weights, 2, moments[2])
    total = _add_weighted(total, weights, 3, moments[3])
    store(row, 0, total)


@inlined
def _no_squares():
    return (zeros(0.0, LANES),)


@inlined
def _no_powers(lam, std, weights):
    return (lam,)


@inlined
def _add_squares(squares, c, powers):
    return (fma(c, c, squares[0]),)


@inlined
def _commit_squares(squares, weights, row):
    store(row, 0, _add_weighted(load(row, 0, ROW), weights, 0, squares[0]))


_DIRECT_WAY = (_no_sums, _powers, _add_direct, _commit_direct)
_NARROW_WAY = (_no_moments, _powers_of_x, _add_moments, _commit_moments)
_EQUAL_WAY = (_no_squares, _no_powers, _add_squares, _commit_squares)


# --- loops over a block ------------------------------------------------------------------------


@inlined
def _moved(state, c, a, b, normals, i):
    """``c + a c + b xi``: in this form no step size is too small to be felt.

    A float32 state is rounded to after every step, so that it does not matter when it is stored.
    """
    return rounded_like(state, fma(a, c, fma(b, to_double(load(normals, i, LANES)), c)))


def _make(empty, powers_of, add, commit):
    """Build the loops of a way: over a tile, over one step, over a jump, over the state alone."""

    @inlined
    def step_tile(c, lam, std, drift, spread, normals, groups, weights, rows):
        sums_0 = empty()
        sums_1 = empty()
        sums_2 = empty()
        sums_3 = empty()
        for i in range(0, GROUP * groups, LANES):
            powers = powers_of(load(lam, i, LANES), load(std, i, LANES), weights)
            a = load(drift, i, LANES)
            b = load(spread, i, LANES)
            c_i = _moved(c, load_doubles(c, i, LANES), a, b, normals, i)
            sums_0 = add(sums_0, c_i, powers)
            c_i = _moved(c, c_i, a, b, normals, BLOCK + i)
            sums_1 = add(sums_1, c_i, powers)
            c_i = _moved(c, c_i, a, b, normals, 2 * BLOCK + i)
            sums_2 = add(sums_2, c_i, powers)
            c_i = _moved(c, c_i, a, b, normals, 3 * BLOCK + i)
            sums_3 = add(sums_3, c_i, powers)
            store_doubles(c, i, c_i)
        commit(sums_0, weights, rows[0])
        commit(sums_1, weights, rows[1])
        commit(sums_2, weights, rows[2])
        commit(sums_3, weights, rows[3])

    @inlined
    def step_once(c, lam, std, minus_eta, normals, groups, weights, row):
        factor = broadcast(minus_eta, zeros(0.0, LANES))
        sums = empty()
        for i in range(0, GROUP * groups, LANES):
            lam_i = load(lam, i, LANES)
            std_i = load(std, i, LANES)
            # A single step passes over all memory: the next block's, while noise is being made.
            prefetch(c, i + BLOCK)
            prefetch(lam, i + BLOCK)
            prefetch(std, i + BLOCK)
            c_i = _moved(c, load_doubles(c, i, LANES), factor * lam_i, factor * std_i, normals, i)
            store_doubles(c, i, c_i)
            sums = add(sums, c_i, powers_of(lam_i, std_i, weights))
        commit(sums, weights, row)

    @inlined
    def jump(c, a, b, lam, std, normals, groups, weights, row):
        sums = empty()
        for i in range(0, GROUP * groups, LANES):
            xi = to_double(load(normals, i, LANES))
            prefetch(c, i + BLOCK)
            prefetch(lam, i + BLOCK)
            c_i = fma(load(a, i, LANES), load_doubles(c, i, LANES), load(b, i, LANES) * xi)
            c_i = rounded_like(c, c_i)
            store_doubles(c, i, c_i)
            powers = powers_of(load(lam, i, LANES), load(std, i, LANES), weights)
            sums = add(sums, c_i, powers)
        commit(sums, weights, row)

    @inlined
    def sum_state(c, lam, std, groups, weights, row):
        sums = empty()
        for i in range(0, GROUP * groups, LANES):
            powers = powers_of(load(lam, i, LANES), load(std, i, LANES), weights)
            sums = add(sums, load_doubles(c, i, LANES), powers)
        commit(sums, weights, row)

    return step_tile, step_once, jump, sum_state


_tile_direct, _once_direct, _jump_direct, _sum_direct = _make(*_DIRECT_WAY)
_tile_narrow, _once_narrow, _jump_narrow, _sum_narrow = _make(*_NARROW_WAY)
_tile_equal, _once_equal, _jump_equal, _sum_equal = _make(*_EQUAL_WAY)


def _by_kind(direct, narrow, equal):
    """Build the loop that takes the way of a block's kind."""

    @inlined
    def loop(kind, *arguments):
        if kind == EQUAL:
            equal(*arguments)
        elif kind == NARROW:
            narrow(*arguments)
        else:
            direct(*arguments)

    return loop


#: Apply TILE steps of one size to a block and add its sums to ``rows``: (kind, c, lam, std, drift,
#: spread, normals, groups, weights, rows). ``drift`` and ``spread`` hold -eta lambda and -eta s,
#: ``normals`` TILE times BLOCK float32.
step_tile = _by_kind(_tile_direct, _tile_narrow, _tile_equal)
#: Apply one step to a block and add its sums to ``row``: (kind, c, lam, std, minus_eta, normals,
#: groups, weights, row).
step_once = _by_kind(_once_direct, _once_narrow, _once_equal)
#: Set ``c`` to ``a c + b xi`` and add the sums of a block to ``row``: (kind, c, a, b, lam, std,
#: normals, groups, weights, row).
jump_block = _by_kind(_jump_direct, _jump_narrow, _jump_equal)
#: Add the sums of a block's state to ``row``: (kind, c, lam, std, groups, weights, row).
sum_block = _by_kind(_sum_direct, _sum_narrow, _sum_equal)


@inlined
def observe_block(c, lam, std, normals, groups, out):
    """Add ``sum lambda^p h^2``, p = 0, 1, 2, of the noisy gradient h of a step to ``out``."""
    h0 = zeros(0.0, LANES)
    h1 = h0
    h2 = h0
    for i in range(0, GROUP * groups, LANES):
        lam_i = load(lam, i, LANES)
        prefetch(c, i + BLOCK)
        prefetch(lam, i + BLOCK)
        xi = to_double(load(normals, i, LANES))
        h = fma(load(std, i, LANES), xi, lam_i * load_doubles(c, i, LANES))
        g = lam_i * h
        h0 = fma(h, h, h0)
        h1 = fma(g, h, h1)
        h2 = fma(g, g, h2)
    out[0] += horizontal_sum(h0)
    out[1] += horizontal_sum(h1)
    out[2] += horizontal_sum(h2)
