"""A block: about a thousand coordinates of one band that stay in L1 cache for many steps.

The block's buffer holds coefficients, eigenvalues, noise standard deviations and scaled
eigenvalue offsets of whole groups of coordinates. Where a band starts or ends inside a group the
rest is zero, which stays zero under the update and adds nothing to any sum.

The seven sums of a row cost seven multiply-adds a coordinate when added up directly. In a block
whose eigenvalues lie close together they are, to 1e-12, combinations of few moments
``m_j = sum c^2 x^j`` with ``x = (lambda - center) / half_width`` in [-1, 1]: one moment where all
eigenvalues are equal, five where they are narrow,

    S_p = sum_j binom(p, j) center^(p-j) half_width^j m_j,

with x^5 and x^6 replaced by the polynomials of degree 4 nearest to them (Chebyshev), which err by
1/16 and 1/32. Only a wide block needs the direct sums.
"""

import numpy as np

from .jit import inlined, kernel
from .normals import COUNTERS, GROUP
from .simd import broadcast, fma, horizontal_sum, load, store, zeros

BLOCK = 1024
#: Lanes of the float64 vectors.
LANES = COUNTERS // 2
#: S_1, S_2, S_3, S_4, R_4, R_5, R_6; rows are padded to eight.
NUM_SUMS = 7
ROW = 8

# Sections of a block buffer.
LAM = BLOCK
STD = 2 * BLOCK
OFFSET = 3 * BLOCK
WEIGHTS = 4 * BLOCK
BLOCK_BUFFER = 4 * BLOCK + 5 * ROW

# How the noise standard deviation of a coordinate is found.
ISOTROPIC = 0
HESSIAN = 1
DIAGONAL = 2

# How the sums of a block are taken.
DIRECT = 0
EQUAL = 1
NARROW = 2

#: Largest half_width / center with 21 r^5 / 16 + 7 r^6 / 32 + r^7 below 1e-12.
NARROW_RATIO = 3.7e-3


@inlined
def aligned_block():
    """Return a block buffer that starts at a cache line, as 512-bit loads like it."""
    raw = np.empty(BLOCK_BUFFER + 8)
    start = (8 - (raw.ctypes.data // 8) % 8) % 8
    return raw[start : start + BLOCK_BUFFER]


@kernel()
def load_block(block, first, start, stop, state, eigenvalues, level_ends, noise):
    """Fill ``block`` with coordinates ``start ... stop - 1``, ``first`` being its first lane.

    Returns how its sums are to be taken.
    """
    kind, scale, stds = noise
    block[:] = 0.0
    level = start
    if level_ends.size > 0:
        level = np.searchsorted(level_ends, start, side="right")
    largest = eigenvalues[level]
    for i in range(start, stop):
        if level_ends.size == 0:
            level = i
        elif i >= level_ends[level]:
            level += 1
        lane = i - first
        block[lane] = state[i]
        block[LAM + lane] = eigenvalues[level]
        if kind == ISOTROPIC:
            block[STD + lane] = scale
        elif kind == HESSIAN:
            block[STD + lane] = scale * np.sqrt(eigenvalues[level])
        else:
            block[STD + lane] = stds[level]
    center = 0.5 * (largest + eigenvalues[level])
    half_width = 0.5 * (largest - eigenvalues[level])
    if kind == DIAGONAL or half_width > NARROW_RATIO * center:
        return DIRECT
    _moment_weights(block[WEIGHTS:], center, half_width, scale * scale, kind == HESSIAN)
    if half_width == 0.0:
        return EQUAL
    for lane in range(start - first, stop - first):
        block[OFFSET + lane] = (block[LAM + lane] - center) / half_width
    return NARROW


@inlined
def _moment_weights(weights, center, half_width, variance, hessian_noise):
    """Weights of moments m_0 ... m_4 (rows) in the seven sums (columns)."""
    for column in range(NUM_SUMS):
        power = column + 1 if column < 4 else column + (1 if hessian_noise else 0)
        factor = 1.0 if column < 4 else variance
        binomial = 1.0
        for j in range(power + 1):
            term = factor * binomial * center ** (power - j) * half_width**j
            binomial = binomial * (power - j) / (j + 1)
            if j < 5:
                weights[ROW * j + column] += term
            elif j == 5:
                weights[ROW * 3 + column] += 1.25 * term
                weights[ROW * 1 + column] -= 0.3125 * term
            elif j == 6:
                weights[ROW * 4 + column] += 1.5 * term
                weights[ROW * 2 + column] -= 0.5625 * term
                weights[column] += 0.03125 * term


# --- accumulators: three ways to add coordinates up, and to add the result to a row -----------


@inlined
def no_sums():
    """Return empty accumulators of direct sums."""
    zero = zeros(0.0, LANES)
    return (zero, zero, zero, zero, zero, zero, zero)


@inlined
def add_direct(sums, block, i, c):
    """Add coordinates ``i ...`` to the seven sums."""
    s1, s2, s3, s4, r4, r5, r6 = sums
    lam = load(block, LAM + i, LANES)
    g = lam * c
    h = lam * g
    u = load(block, STD + i, LANES) * h
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
def commit_direct(sums, block, row):
    """Add direct sums to a row."""
    row[0] += horizontal_sum(sums[0])
    row[1] += horizontal_sum(sums[1])
    row[2] += horizontal_sum(sums[2])
    row[3] += horizontal_sum(sums[3])
    row[4] += horizontal_sum(sums[4])
    row[5] += horizontal_sum(sums[5])
    row[6] += horizontal_sum(sums[6])


@inlined
def no_moments():
    """Return empty accumulators of five moments."""
    zero = zeros(0.0, LANES)
    return (zero, zero, zero, zero, zero)


@inlined
def add_moments(moments, block, i, c):
    """Add coordinates ``i ...`` to the five moments."""
    m0, m1, m2, m3, m4 = moments
    x = load(block, OFFSET + i, LANES)
    q0 = c * c
    q1 = q0 * x
    q2 = q1 * x
    q3 = q2 * x
    return m0 + q0, m1 + q1, m2 + q2, m3 + q3, fma(q3, x, m4)


@inlined
def _add_weighted(total, block, j, moment):
    weight = load(block, WEIGHTS + ROW * j, ROW)
    return fma(weight, broadcast(horizontal_sum(moment), weight), total)


@inlined
def commit_moments(moments, block, row):
    """Turn five moments into the seven sums and add them to a row."""
    total = load(row, 0, ROW)
    total = _add_weighted(total, block, 0, moments[0])
    total = _add_weighted(total, block, 1, moments[1])
    total = _add_weighted(total, block, 2, moments[2])
    total = _add_weighted(total, block, 3, moments[3])
    total = _add_weighted(total, block, 4, moments[4])
    store(row, 0, total)


@inlined
def no_squares():
    """Return an empty accumulator of squares."""
    return (zeros(0.0, LANES),)


@inlined
def add_squares(squares, block, i, c):
    """Add coordinates ``i ...`` to the sum of squares."""
    return (fma(c, c, squares[0]),)


@inlined
def commit_squares(squares, block, row):
    """Turn the sum of squares at one eigenvalue into the seven sums and add them to a row."""
    store(row, 0, _add_weighted(load(row, 0, ROW), block, 0, squares[0]))


def _make_sum_block(empty, add, commit):
    @inlined
    def sum_block(block, num_groups, row):
        sums = empty()
        for i in range(0, GROUP * num_groups, LANES):
            sums = add(sums, block, i, load(block, i, LANES))
        commit(sums, block, row)

    return sum_block


_sum_direct = _make_sum_block(no_sums, add_direct, commit_direct)
_sum_moments = _make_sum_block(no_moments, add_moments, commit_moments)
_sum_squares = _make_sum_block(no_squares, add_squares, commit_squares)


@inlined
def sum_block(kind, block, num_groups, row):
    """Add the sums of a block's state to ``row``."""
    if kind == EQUAL:
        _sum_squares(block, num_groups, row)
    elif kind == NARROW:
        _sum_moments(block, num_groups, row)
    else:
        _sum_direct(block, num_groups, row)
