"""The engine `levels` with a velocity: whole levels of coefficients and velocities at once.

The m equal coordinates of a level matter only through the three products of the vectors c and v, or
through their triangular factor: the norm of c, and what v has along c and across it. With noise
z_1 along c, z_2 along the rest of v and X, a chi-square of m - 2 degrees of freedom, in all other
directions, the columns of

    ( |c|  along  )                       ( z_1     )
    (  0   across ) ,   with the noise    ( z_2     )
    (  0     0    )                       ( sqrt(X) )

move as coordinates do, and the factor of what they become is that of the next state: its last entry
is made of 2 x 2 minors, without cancellation. A level of a single coordinate has z_1 alone; one of
two, or of a real number of them up to two, has all noise across along z_2. Mini-batches of data
(``batches``) multiply the gradient by kd and its noise by rho.
"""

import numpy as np

from ..physics.layout import CROSS_ROW_SIZE, NOISY_AT, NUM_BANDS, NUM_SUMS, ROW_SIZE, WEIGHT_AT
from . import domains
from .batches import factors as batch_factors
from .batches import residual_variance, squared_norm, write_constants
from .chi_square import HALF, draw_step, draw_until, draw_work
from .jit import inlined, internal, kernel
from .levels import from_lanes, to_lanes
from .normals import BATCH, GROUP, make_scratch, write_normals
from .rules import is_finite
from .simd import (
    broadcast,
    fma,
    horizontal_sum,
    load,
    select_zero,
    square_root,
    store,
    to_double,
    zeros,
)
from .velocity import finish_velocity_step


@inlined
def _no_sums(zero):
    return (
        zero, zero, zero, zero, zero, zero, zero,
        zero, zero, zero, zero, zero,
        zero, zero, zero,
    )  # fmt: skip


@inlined
def _add(sums, q, r, w, weights, lane):
    """Add vectors of ``c.c``, ``c.v`` and ``v.v``, as ``sums`` does."""
    first = NUM_SUMS * lane
    w1 = load(weights, first, HALF)
    w2 = load(weights, first + HALF, HALF)
    w3 = load(weights, first + 2 * HALF, HALF)
    w5 = load(weights, first + 4 * HALF, HALF)
    w6 = load(weights, first + 5 * HALF, HALF)
    return (
        fma(q, w1, sums[0]),
        fma(q, w2, sums[1]),
        fma(q, w3, sums[2]),
        fma(q, load(weights, first + 3 * HALF, HALF), sums[3]),
        fma(q, w5, sums[4]),
        fma(q, w6, sums[5]),
        fma(q, load(weights, first + 6 * HALF, HALF), sums[6]),
        fma(r, w1, sums[7]),
        fma(r, w2, sums[8]),
        fma(r, w3, sums[9]),
        fma(r, w5, sums[10]),
        fma(r, w6, sums[11]),
        fma(w, w1, sums[12]),
        fma(w, w2, sums[13]),
        fma(w, w5, sums[14]),
    )


@inlined
def _write(sums, out):
    for column in range(CROSS_ROW_SIZE):
        out[column] = 0.0
    out[0] = horizontal_sum(sums[0])
    out[1] = horizontal_sum(sums[1])
    out[2] = horizontal_sum(sums[2])
    out[3] = horizontal_sum(sums[3])
    out[4] = horizontal_sum(sums[4])
    out[5] = horizontal_sum(sums[5])
    out[6] = horizontal_sum(sums[6])
    out[ROW_SIZE] = horizontal_sum(sums[7])
    out[ROW_SIZE + 1] = horizontal_sum(sums[8])
    out[ROW_SIZE + 2] = horizontal_sum(sums[9])
    out[ROW_SIZE + 4] = horizontal_sum(sums[10])
    out[ROW_SIZE + 5] = horizontal_sum(sums[11])
    out[2 * ROW_SIZE] = horizontal_sum(sums[12])
    out[2 * ROW_SIZE + 1] = horizontal_sum(sums[13])
    out[2 * ROW_SIZE + 4] = horizontal_sum(sums[14])


@inlined
def _sum_band(norm, along, across, first, last, weights, out):
    sums = _no_sums(zeros(0.0, HALF))
    for lane in range(first, last, HALF):
        n = load(norm, lane, HALF)
        a = load(along, lane, HALF)
        o = load(across, lane, HALF)
        sums = _add(sums, n * n, n * a, fma(a, a, o * o), weights, lane)
    _write(sums, out)


@inlined
def _step_band(
    norm,
    along,
    across,
    first,
    last,
    eta,
    factors,
    kd,
    rho,
    lam,
    std,
    xi,
    chi,
    drawn,
    cross,
    weights,
    out,
):
    zero = zeros(0.0, HALF)
    sums = _no_sums(zero)
    drift = broadcast(-eta, zero)
    pull = broadcast(factors[0], zero)
    carry = broadcast(factors[1], zero)
    decay = broadcast(factors[2], zero)
    gain = broadcast(kd, zero)
    spread = broadcast(rho, zero)
    one = broadcast(1.0, zero)
    for lane in range(first, last, HALF):
        s = spread * load(std, lane, HALF)
        n = load(norm, lane, HALF)
        a = load(along, lane, HALF)
        o = load(across, lane, HALF)
        h1 = fma(gain * load(lam, lane, HALF), n, s * load(xi, drawn + lane, HALF))
        h2 = s * to_double(load(cross, lane, HALF))
        h3 = s * square_root(load(chi, drawn + lane, HALF))
        x1 = fma(drift, fma(pull, h1, carry * a), n)
        x2 = drift * fma(pull, h2, carry * o)
        x3 = drift * (pull * h3)
        y1 = fma(decay, a, h1)
        y2 = fma(decay, o, h2)
        y3 = h3
        q = fma(x1, x1, fma(x2, x2, x3 * x3))
        r = fma(x1, y1, fma(x2, y2, x3 * y3))
        w = fma(y1, y1, fma(y2, y2, y3 * y3))
        m12 = x1 * y2 - x2 * y1
        m13 = x1 * y3 - x3 * y1
        m23 = x2 * y3 - x3 * y2
        minors = square_root(fma(m12, m12, fma(m13, m13, m23 * m23)))
        n = square_root(q)
        inverse = select_zero(n, zero, one / n)
        store(norm, lane, n)
        store(along, lane, select_zero(n, square_root(w), r * inverse))
        store(across, lane, minors * inverse)
        sums = _add(sums, q, r, w, weights, lane)
    _write(sums, out)


@inlined
def _observe_band(norm, first, last, kd, rho, lam, std, xi, chi, drawn, cross, out):
    """Write ``sum lambda^p h^2``, p = 0, 1, 2, of the noisy gradient."""
    s0 = zeros(0.0, HALF)
    s1 = s0
    s2 = s0
    gain = broadcast(kd, s0)
    spread = broadcast(rho, s0)
    for lane in range(first, last, HALF):
        lam_i = load(lam, lane, HALF)
        s = spread * load(std, lane, HALF)
        h1 = fma(gain * lam_i, load(norm, lane, HALF), s * load(xi, drawn + lane, HALF))
        h2 = s * to_double(load(cross, lane, HALF))
        h_sq = fma(h1, h1, fma(h2, h2, s * s * load(chi, drawn + lane, HALF)))
        s0, s1, s2 = s0 + h_sq, fma(lam_i, h_sq, s1), fma(lam_i * lam_i, h_sq, s2)
    out[0] = horizontal_sum(s0)
    out[1] = horizontal_sum(s1)
    out[2] = horizontal_sum(s2)


@internal()
def _draw_across(cross, begin, step, merged, chi, drawn, scratch):
    """Draw the noise across of all lanes; of those `merged` their chi-squares are all of it."""
    groups = (cross.size - 1) // GROUP
    for first in range(0, groups, BATCH):
        count = min(BATCH, groups - first)
        write_normals(
            cross, GROUP * first, begin // GROUP + first, count, domains.LEVEL_ACROSS, step, scratch
        )
    for lane in merged:
        root = np.sqrt(chi[drawn + lane])
        cross[lane] = np.float32(root) if cross[lane] > 0.0 else -np.float32(root)
        chi[drawn + lane] = 0.0


@inlined
def _product(norm, std, xi, drawn):
    """``sum s |c| z_1`` of all lanes."""
    total = zeros(0.0, HALF)
    for lane in range(0, norm.size, HALF):
        a = load(std, lane, HALF) * load(norm, lane, HALF)
        total = fma(a, load(xi, drawn + lane, HALF), total)
    return horizontal_sum(total)


@inlined
def _room_across(size):
    return np.zeros(GROUP * (-(-size // GROUP) + 1) + 1, np.float32)


@kernel()
def sum_velocity_levels(norm, along, across, levels, out):
    """Write the sums of both bands of levels and their velocities to ``out``."""
    size = levels.lam.size
    n, a, o = np.zeros(size), np.zeros(size), np.zeros(size)
    to_lanes(n, norm, levels.lane)
    to_lanes(a, along, levels.lane)
    to_lanes(o, across, levels.lane)
    _sum_band(n, a, o, 0, levels.bulk_at, levels.sum_weights, out[0])
    _sum_band(n, a, o, levels.bulk_at, size, levels.sum_weights, out[1])


@inlined
def _factors_of_batch(is_batch, row, norm, std, xi, drawn, step, batches, key_0, key_1):
    """Kd and rho of a step; ones where noise is additive."""
    if not is_batch:
        return 1.0, 1.0
    size, label_std, twice_d, slope, _ = batches
    u = squared_norm(step, key_0, key_1, twice_d, slope)
    w = _product(norm, std, xi, drawn)
    return batch_factors(residual_variance(row, label_std), w, u, size, label_std)


@kernel()
def observe_velocity_levels(
    norm, along, across, levels, merged, factors, batches, is_batch, step, key_0, key_1, out
):
    """Write ``sum lambda^p h^2``, p = 0, 1, 2, of the gradient of a step to ``out``."""
    lam, std, lane, freedom, proposals, boosted, weights, bulk_at, _, begin = levels
    size = lam.size
    n, a, o = np.zeros(size), np.zeros(size), np.zeros(size)
    to_lanes(n, norm, lane)
    to_lanes(a, along, lane)
    to_lanes(o, across, lane)
    prepared, keys, words, xi, chi, _ = draw_work(size, 1, key_0, key_1)
    draw_step(
        begin, proposals, freedom, boosted, np.uint64(step + 1), key_0, key_1, prepared, keys,
        words, xi, chi,
    )  # fmt: skip
    cross = _room_across(size)
    _draw_across(cross, begin, step + 1, merged, chi, 0, make_scratch(key_0, key_1))
    row = np.empty((NUM_BANDS, CROSS_ROW_SIZE))
    _sum_band(n, a, o, 0, bulk_at, weights, row[0])
    _sum_band(n, a, o, bulk_at, size, weights, row[1])
    kd, rho = _factors_of_batch(is_batch, row, n, std, xi, 0, step, batches, key_0, key_1)
    _observe_band(n, 0, bulk_at, kd, rho, lam, std, xi, chi, 0, cross, out[0])
    _observe_band(n, bulk_at, size, kd, rho, lam, std, xi, chi, 0, cross, out[1])


@kernel()
def advance_velocity_levels(
    norm,
    along,
    across,
    levels,
    merged,
    factors,
    batches,
    is_batch,
    first_step,
    num_steps,
    ruling,
    record,
    key_0,
    key_1,
):
    """Apply steps with a velocity to levels; as ``step.advance_adaptive``."""
    lam, std, lane, freedom, proposals, boosted, weights, bulk_at, depth, begin = levels
    rule, observes, memory, sums, step_size, update = ruling
    wanted, out, out_steps, out_sizes = record
    size = lam.size
    n, a, o = np.zeros(size), np.zeros(size), np.zeros(size)
    to_lanes(n, norm, lane)
    to_lanes(a, along, lane)
    to_lanes(o, across, lane)
    prepared, keys, words, xi, chi, ahead = draw_work(size, depth, key_0, key_1)
    cross, scratch = _room_across(size), make_scratch(key_0, key_1)
    row = np.empty((NUM_BANDS, CROSS_ROW_SIZE))
    noisy = sums[:, NOISY_AT:WEIGHT_AT]
    _sum_band(n, a, o, 0, bulk_at, weights, row[0])
    _sum_band(n, a, o, bulk_at, size, weights, row[1])
    drawn_to = 0
    done = 0
    rows = 0
    good = True
    step = first_step
    drawn_to = draw_until(
        step + 1, drawn_to, begin, lane, proposals, freedom, boosted, ahead, key_0, key_1, prepared,
        keys, words, xi, chi,
    )  # fmt: skip
    drawn = 0
    _draw_across(cross, begin, step + 1, merged, chi, drawn, scratch)
    kd, rho = _factors_of_batch(is_batch, row, n, std, xi, drawn, step, batches, key_0, key_1)
    while good and done < num_steps:
        _step_band(
            n, a, o, 0, bulk_at, update[0] * step_size[0], factors, kd, rho, lam, std, xi, chi,
            drawn, cross, weights, row[0],
        )  # fmt: skip
        _step_band(
            n, a, o, bulk_at, size, update[1] * step_size[0], factors, kd, rho, lam, std, xi, chi,
            drawn, cross, weights, row[1],
        )  # fmt: skip
        done += 1
        step = first_step + done
        drawn_to = draw_until(
            step + 1, drawn_to, begin, lane, proposals, freedom, boosted, ahead, key_0, key_1,
            prepared, keys, words, xi, chi,
        )  # fmt: skip
        drawn = done % depth * size
        _draw_across(cross, begin, step + 1, merged, chi, drawn, scratch)
        kd, rho = _factors_of_batch(is_batch, row, n, std, xi, drawn, step, batches, key_0, key_1)
        if is_batch:
            write_constants(sums, row, batches[0], batches[1], batches[4])
        if observes and is_finite(row):
            _observe_band(n, 0, bulk_at, kd, rho, lam, std, xi, chi, drawn, cross, noisy[0])
            _observe_band(n, bulk_at, size, kd, rho, lam, std, xi, chi, drawn, cross, noisy[1])
        good, rows = finish_velocity_step(
            step, row, rule, memory, sums, step_size, wanted, rows, out, out_steps, out_sizes
        )
    from_lanes(norm, n, lane)
    from_lanes(along, a, lane)
    from_lanes(across, o, lane)
    return done, rows
