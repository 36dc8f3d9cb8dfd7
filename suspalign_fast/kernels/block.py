"""One SGD step on a block, and three ways to add up its power sums (see ``plan``)."""

from .jit import inlined
from .normals import COUNTERS, GROUP, STEP_DOMAIN, group_normals
from .plan import EQUAL, NARROW, OFFSET, ROW, SCALE
from .simd import (
    broadcast,
    fma,
    horizontal_sum,
    load,
    lower_half,
    store,
    to_double,
    upper_half,
    zeros,
)

#: Lanes of the float64 vectors.
LANES = COUNTERS // 2


# --- accumulators: what to add for each vector of coefficients, and the result added to a row ----


@inlined
def _no_sums(weights):
    zero = zeros(0.0, LANES)
    return (zero, zero, zero, zero, zero, zero, zero)


@inlined
def _add_direct(sums, c, lam, std, weights):
    s1, s2, s3, s4, r4, r5, r6 = sums
    g = lam * c
    h = lam * g
    u = std * h
    w = lam * u
    return (
        fma(g, c, s1),
        fma(g, g, s2),
        fma(g, h, s3),
        fma(h, h, s4),
        fma(u, u, r4),
        fma(u, w, r5),
        fma(w, w, r6),
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
def _no_moments(weights):
    zero = zeros(0.0, LANES)
    return (zero, zero, zero, zero, zero)


@inlined
def _add_moments(moments, c, lam, std, weights):
    m0, m1, m2, m3, m4 = moments
    x = fma(lam, broadcast(weights[SCALE], lam), broadcast(weights[OFFSET], lam))
    q0 = c * c
    q1 = q0 * x
    q2 = q1 * x
    q3 = q2 * x
    return m0 + q0, m1 + q1, m2 + q2, m3 + q3, fma(q3, x, m4)


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
    total = _add_weighted(total, weights, 4, moments[4])
    store(row, 0, total)


@inlined
def _no_squares(weights):
    return (zeros(0.0, LANES),)


@inlined
def _add_squares(squares, c, lam, std, weights):
    return (fma(c, c, squares[0]),)


@inlined
def _commit_squares(squares, weights, row):
    store(row, 0, _add_weighted(load(row, 0, ROW), weights, 0, squares[0]))


@inlined
def _nothing(weights):
    return (0,)


@inlined
def _add_nothing(sums, c, lam, std, weights):
    return sums


@inlined
def _commit_nothing(sums, weights, row):
    pass


# --- loops over a block ------------------------------------------------------------------------


def _make_step(empty, add, commit):
    """Build the loop that applies one step to a block and adds up its new state."""

    @inlined
    def step_lanes(c, lam, std, i, xi, minus_eta, weights, sums):
        lam_i = load(lam, i, LANES)
        std_i = load(std, i, LANES)
        c_i = load(c, i, LANES)
        c_i = fma(minus_eta, fma(std_i, xi, lam_i * c_i), c_i)
        store(c, i, c_i)
        return add(sums, c_i, lam_i, std_i, weights)

    @inlined
    def step_word(c, lam, std, i, z, minus_eta, weights, sums):
        sums = step_lanes(c, lam, std, i, to_double(lower_half(z)), minus_eta, weights, sums)
        i += LANES
        return step_lanes(c, lam, std, i, to_double(upper_half(z)), minus_eta, weights, sums)

    @inlined
    def step_block(c, lam, std, first_group, groups, step, minus_eta, key_0, key_1, weights, row):
        factor = broadcast(minus_eta, zeros(0.0, LANES))
        sums = empty(weights)
        for group in range(groups):
            z0, z1, z2, z3 = group_normals(first_group + group, STEP_DOMAIN, step, key_0, key_1)
            i = GROUP * group
            sums = step_word(c, lam, std, i, z0, factor, weights, sums)
            sums = step_word(c, lam, std, i + COUNTERS, z1, factor, weights, sums)
            sums = step_word(c, lam, std, i + 2 * COUNTERS, z2, factor, weights, sums)
            sums = step_word(c, lam, std, i + 3 * COUNTERS, z3, factor, weights, sums)
        commit(sums, weights, row)

    return step_block


def _make_sum(empty, add, commit):
    """Build the loop that adds up the state of a block."""

    @inlined
    def sum_block(c, lam, std, groups, weights, row):
        sums = empty(weights)
        for i in range(0, GROUP * groups, LANES):
            sums = add(sums, load(c, i, LANES), load(lam, i, LANES), load(std, i, LANES), weights)
        commit(sums, weights, row)

    return sum_block


@inlined
def _observe_word(c, lam, std, i, z, sums):
    h0, h1, h2 = sums
    for half in (lower_half(z), upper_half(z)):
        lam_i = load(lam, i, LANES)
        h = fma(load(std, i, LANES), to_double(half), lam_i * load(c, i, LANES))
        g = lam_i * h
        h0 = fma(h, h, h0)
        h1 = fma(g, h, h1)
        h2 = fma(g, g, h2)
        i += LANES
    return h0, h1, h2


@inlined
def observe_block(c, lam, std, first_group, groups, step, key_0, key_1, out):
    """Add ``sum lambda^p h^2``, p = 0, 1, 2, of the noisy gradient h of a step to ``out``."""
    zero = zeros(0.0, LANES)
    sums = (zero, zero, zero)
    for group in range(groups):
        z0, z1, z2, z3 = group_normals(first_group + group, STEP_DOMAIN, step, key_0, key_1)
        i = GROUP * group
        sums = _observe_word(c, lam, std, i, z0, sums)
        sums = _observe_word(c, lam, std, i + COUNTERS, z1, sums)
        sums = _observe_word(c, lam, std, i + 2 * COUNTERS, z2, sums)
        sums = _observe_word(c, lam, std, i + 3 * COUNTERS, z3, sums)
    out[0] += horizontal_sum(sums[0])
    out[1] += horizontal_sum(sums[1])
    out[2] += horizontal_sum(sums[2])


_DIRECT_WAY = (_no_sums, _add_direct, _commit_direct)
_NARROW_WAY = (_no_moments, _add_moments, _commit_moments)
_EQUAL_WAY = (_no_squares, _add_squares, _commit_squares)
_NO_WAY = (_nothing, _add_nothing, _commit_nothing)

#: Ways to sum DIRECT, NARROW and EQUAL blocks.
SUM_WAYS = (_DIRECT_WAY, _NARROW_WAY, _EQUAL_WAY)

_step_direct, _step_narrow, _step_equal, _step_only = (
    _make_step(*way) for way in (_DIRECT_WAY, _NARROW_WAY, _EQUAL_WAY, _NO_WAY)
)
_sum_direct, _sum_narrow, _sum_equal = (
    _make_sum(*way) for way in (_DIRECT_WAY, _NARROW_WAY, _EQUAL_WAY)
)


@inlined
def step_block(kind, c, lam, std, first_group, groups, step, minus_eta, key_0, key_1, weights, row):
    """Apply one step to a block; unless `kind` is negative add its sums to ``row``."""
    if kind < 0:
        _step_only(c, lam, std, first_group, groups, step, minus_eta, key_0, key_1, weights, row)
    elif kind == EQUAL:
        _step_equal(c, lam, std, first_group, groups, step, minus_eta, key_0, key_1, weights, row)
    elif kind == NARROW:
        _step_narrow(c, lam, std, first_group, groups, step, minus_eta, key_0, key_1, weights, row)
    else:
        _step_direct(c, lam, std, first_group, groups, step, minus_eta, key_0, key_1, weights, row)


@inlined
def sum_block(kind, c, lam, std, groups, weights, row):
    """Add the sums of a block's state to ``row``."""
    if kind == EQUAL:
        _sum_equal(c, lam, std, groups, weights, row)
    elif kind == NARROW:
        _sum_narrow(c, lam, std, groups, weights, row)
    else:
        _sum_direct(c, lam, std, groups, weights, row)
