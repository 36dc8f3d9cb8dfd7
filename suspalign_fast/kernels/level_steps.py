"""Steps of whole levels under a rule, without and with a velocity, also on mini-batches of data.

With a velocity the m equal coordinates of a level matter through the three products of the vectors
c and v, or through their triangular factor: the norm of c, and what v has along c and across it.
With noise z_1 along c, z_2 along the rest of v and X, a chi-square of m - 2 degrees of freedom, in
all other directions, the columns of

    ( |c|  along  )                       ( z_1     )
    (  0   across ) ,   with the noise    ( z_2     )
    (  0     0    )                       ( sqrt(X) )

move as coordinates do, and the factor of what they become is that of the next state: its last entry
is made of 2 x 2 minors, without cancellation. A level of a single coordinate has z_1 alone; one of
two, or of a real number of them up to two, has all noise across along z_2.

Mini-batches of data multiply the gradient by kd and its noise by rho (`batches`); both are 1 for
additive noise. A level's normal is the noise along its direction, so that a batch has ``w = sum
sqrt(lambda_l Q_l) xi_l``; its chi-square is the rest of the noise as ever.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..physics.layout import CROSS_ROW_SIZE, NOISY_AT, NUM_BANDS, NUM_NOISY, ROW_SIZE, WEIGHT_AT
from . import domains
from .batches import factors as batch_factors
from .batches import residual_variance, squared_norm, write_constants
from .chi_square import HALF, draw_until, make_draws
from .jit import inlined, internal, kernel
from .levels import from_lanes, level_moved, make_sums, to_lanes
from .normals import BATCH, GROUP, make_scratch, write_normals
from .rules import is_finite, make_finish
from .simd import (
    broadcast,
    broadcast_each,
    fma,
    horizontal_sum,
    load,
    select_zero,
    square_root,
    store,
    to_double,
    write_lanes,
    zero_where_zero,
    zeros,
)
from .sums import no_noisy


class Lanes(NamedTuple):
    """A state in lanes: ``(norm, square, square)``, or ``(norm, along, across)``."""

    norm: NDArray[np.float64]
    along: NDArray[np.float64]
    across: NDArray[np.float64]


def _make_sum_band(has_velocity):
    """Build what writes the sums of a band of lanes."""
    empty, add, write = make_sums(has_velocity)

    @inlined
    def sum_band(lanes, first, last, weights, out):
        sums = empty(zeros(0.0, HALF))
        for lane in range(first, last, HALF):
            if has_velocity:
                n = load(lanes.norm, lane, HALF)
                a = load(lanes.along, lane, HALF)
                o = load(lanes.across, lane, HALF)
                sums = add(sums, n * n, n * a, fma(a, a, o * o), weights, lane)
            else:
                q = load(lanes.along, lane, HALF)
                sums = add(sums, q, q, q, weights, lane)
        write(sums, out)

    return sum_band


# --- Steps of a band -----------------------------------------------------------------------------


@inlined
def _moved_pair(n, a, o, noise, numbers):
    """Return the products ``c.c``, ``c.v`` and ``v.v`` after a step, and the next factor."""
    h1, h2, h3 = noise
    drift, pull, carry, decay = numbers
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
    zero = zeros(0.0, HALF)
    inverse = select_zero(n, zero, broadcast(1.0, zero) / n)
    return q, r, w, n, select_zero(n, square_root(w), r * inverse), minors * inverse


def _make_step_band(has_velocity, is_batch):
    """Build a step of the lanes ``first ... last - 1``, whose sums go to ``out``.

    ``move`` is minus the step size, kd and rho; ``xi``, ``chi`` and ``cross`` are what was drawn,
    from ``drawn`` on. Arguments are not tuples: to take one apart at every step counts references.
    """
    empty, add, write = make_sums(has_velocity)

    @inlined
    def plain(
        norm, square, _, first, last, move, factors, lam, std, weights, xi, chi, cross, drawn, out
    ):
        zero = zeros(0.0, HALF)
        one = broadcast(1.0, zero)
        drift, spread = broadcast_each((move[0] * move[1], move[0] * move[2]), zero)
        sums = empty(zero)
        for lane in range(first, last, HALF):
            root = load(norm, lane, HALF)
            a = fma(drift, load(lam, lane, HALF), one)
            if not is_batch:
                a = zero_where_zero(a, root)  # it may be infinite
            b = spread * load(std, lane, HALF)
            q = level_moved(root, a, b, load(xi, drawn + lane, HALF), load(chi, drawn + lane, HALF))
            store(square, lane, q)
            store(norm, lane, square_root(q))
            sums = add(sums, q, q, q, weights, lane)
        write(sums, out)

    @inlined
    def with_velocity(
        norm, along, across, first, last, move, factors, lam, std, weights, xi, chi, cross, drawn,
        out,
    ):  # fmt: skip
        zero = zeros(0.0, HALF)
        gain, spread = broadcast_each((move[1], move[2]), zero)
        numbers = broadcast_each((move[0], factors[0], factors[1], factors[2]), zero)
        sums = empty(zero)
        for lane in range(first, last, HALF):
            s = spread * load(std, lane, HALF)
            n = load(norm, lane, HALF)
            a = load(along, lane, HALF)
            o = load(across, lane, HALF)
            h1 = fma(gain * load(lam, lane, HALF), n, s * load(xi, drawn + lane, HALF))
            h2 = s * to_double(load(cross, lane, HALF))
            h3 = s * square_root(load(chi, drawn + lane, HALF))
            q, r, w, n, a, o = _moved_pair(n, a, o, (h1, h2, h3), numbers)
            store(norm, lane, n)
            store(along, lane, a)
            store(across, lane, o)
            sums = add(sums, q, r, w, weights, lane)
        write(sums, out)

    return with_velocity if has_velocity else plain


_write_noisy = write_lanes(range(NUM_NOISY))


def _make_observe_band(has_velocity, is_batch):
    """Build what writes ``sum lambda^p h^2``, p = 0, 1, 2, of the noisy gradient of a band."""

    @inlined
    def observe_band(norm, first, last, move, lam, std, xi, chi, cross, drawn, out):
        zero = zeros(0.0, HALF)
        gain, spread = broadcast_each((move[1], move[2]), zero)
        sums = no_noisy(zero)
        for lane in range(first, last, HALF):
            lam_i = load(lam, lane, HALF)
            root = load(norm, lane, HALF)
            b = spread * load(std, lane, HALF)
            xi_i, chi_i = load(xi, drawn + lane, HALF), load(chi, drawn + lane, HALF)
            if has_velocity:
                h1 = fma(gain * lam_i, root, b * xi_i)
                h2 = b * to_double(load(cross, lane, HALF))
                h_sq = fma(h1, h1, fma(h2, h2, b * b * chi_i))
            else:
                a = gain * lam_i
                if not is_batch:
                    a = zero_where_zero(a, root)
                h_sq = level_moved(root, a, b, xi_i, chi_i)
            sums = (sums[0] + h_sq, fma(lam_i, h_sq, sums[1]), fma(lam_i * lam_i, h_sq, sums[2]))
        _write_noisy(out, sums)

    return observe_band


# --- What a batch needs, and noise across velocities ---------------------------------------------


@inlined
def _plain_product(norm, std, xi, drawn):
    """``sum s |c| xi`` of all lanes."""
    s0 = zeros(0.0, HALF)
    s1 = zeros(0.0, HALF)
    for lane in range(0, norm.size, 2 * HALF):
        a = load(std, lane, HALF) * load(norm, lane, HALF)
        b = load(std, lane + HALF, HALF) * load(norm, lane + HALF, HALF)
        s0 = fma(a, load(xi, drawn + lane, HALF), s0)
        s1 = fma(b, load(xi, drawn + lane + HALF, HALF), s1)
    return horizontal_sum(s0 + s1)


@inlined
def _velocity_product(norm, std, xi, drawn):
    """Do as `_plain_product`, in the order of sums that runs with a velocity have."""
    total = zeros(0.0, HALF)
    for lane in range(0, norm.size, HALF):
        a = load(std, lane, HALF) * load(norm, lane, HALF)
        total = fma(a, load(xi, drawn + lane, HALF), total)
    return horizontal_sum(total)


@internal()
def _draw_across(cross, levels, step, chi, drawn, scratch):
    """Draw the noise across of all lanes; of `merged` ones their chi-squares are all of it."""
    groups = (cross.size - 1) // GROUP
    for first in range(0, groups, BATCH):
        count = min(BATCH, groups - first)
        write_normals(
            cross, GROUP * first, levels.begin // GROUP + first, count, domains.LEVEL_ACROSS, step,
            scratch,
        )  # fmt: skip
    for lane in levels.merged:
        root = np.sqrt(chi[drawn + lane])
        cross[lane] = np.float32(root) if cross[lane] > 0.0 else -np.float32(root)
        chi[drawn + lane] = 0.0


# --- The loop of a rule --------------------------------------------------------------------------


def _make_loop(has_velocity, is_batch):
    """Build the loop of a rule, what it observes at a state, and the sums of that."""
    row_size = CROSS_ROW_SIZE if has_velocity else ROW_SIZE
    sum_band = _make_sum_band(has_velocity)
    step_band = _make_step_band(has_velocity, is_batch)
    observe_band = _make_observe_band(has_velocity, is_batch)
    product = _velocity_product if has_velocity else _plain_product
    finish_step = make_finish(has_velocity)
    # Whole groups of normals, and room for the last odd one.
    groups, more = (1, GROUP + 1) if has_velocity else (0, 0)

    @inlined
    def take_lanes(state, along, across, levels):
        """Lay a state out: squares of levels, or norms with what velocities have along, across."""
        size, lane = levels.lam.size, levels.lane
        x, y = np.zeros(size), np.zeros(size)
        if has_velocity:
            z = np.zeros(size)
            to_lanes(x, state, lane)
            to_lanes(y, along, lane)
            to_lanes(z, across, lane)
            return Lanes(x, y, z)
        to_lanes(y, state, lane)
        for first in range(0, size, HALF):
            store(x, first, square_root(load(y, first, HALF)))
        return Lanes(x, y, y)

    @inlined
    def return_lanes(lanes, state, along, across, lane):
        if has_velocity:
            from_lanes(state, lanes.norm, lane)
            from_lanes(along, lanes.along, lane)
            from_lanes(across, lanes.across, lane)
        else:
            from_lanes(state, lanes.along, lane)

    @inlined
    def sum_lanes(lanes, levels, out):
        weights, bulk_at = levels.sum_weights, levels.bulk_at
        sum_band(lanes, 0, bulk_at, weights, out[0])
        sum_band(lanes, bulk_at, levels.lam.size, weights, out[1])

    @inlined
    def sum_levels(state, along, across, levels, out):
        sum_lanes(take_lanes(state, along, across, levels), levels, out)

    @inlined
    def batch_of(row, x, std, xi, drawn, step, batches, key_0, key_1):
        """Kd and rho of a step on a mini-batch."""
        u = squared_norm(step, key_0, key_1, batches.twice_d, batches.slope)
        w = product(x, std, xi, drawn)
        p = residual_variance(row, batches.label_std)
        return batch_factors(p, w, u, batches.size, batches.label_std)

    @inlined
    def observe(state, along, across, levels, factors, batches, step, key_0, key_1, out):
        size, bulk_at = levels.lam.size, levels.bulk_at
        lanes = take_lanes(state, along, across, levels)
        draws = make_draws(size, 1, key_0, key_1)
        draw_until(step + 1, 0, levels, draws, key_0, key_1)
        cross = np.zeros(groups * (size + GROUP - 1) // GROUP * GROUP + more, np.float32)
        if has_velocity:
            scratch = make_scratch(key_0, key_1)
            _draw_across(cross, levels, step + 1, draws.chi, 0, scratch)
        lam, std, norm, xi, chi = levels.lam, levels.std, lanes.norm, draws.xi, draws.chi
        kd, rho = 1.0, 1.0
        if is_batch:
            row = np.empty((NUM_BANDS, row_size))
            sum_lanes(lanes, levels, row)
            kd, rho = batch_of(row, norm, std, xi, 0, step, batches, key_0, key_1)
        move = 0.0, kd, rho
        observe_band(norm, 0, bulk_at, move, lam, std, xi, chi, cross, 0, out[0])
        observe_band(norm, bulk_at, size, move, lam, std, xi, chi, cross, 0, out[1])

    @inlined
    def advance(
        state, along, across, levels, factors, batches, first_step, num_steps, ruling, record,
        key_0, key_1,
    ):  # fmt: skip
        # Taken apart once: every look into a tuple counts references.
        lam, std, lane, _, _, _, weights, _, bulk_at, depth, _ = levels
        rule, observes, memory, sums, step_size, update = ruling
        wanted, out, out_steps, out_sizes = record
        size = lam.size
        lanes = take_lanes(state, along, across, levels)
        x, y, z = lanes
        draws = make_draws(size, depth, key_0, key_1)
        xi, chi, cross = (
            draws.xi,
            draws.chi,
            np.zeros(groups * (size + GROUP - 1) // GROUP * GROUP + more, np.float32),
        )
        row = np.empty((NUM_BANDS, row_size))
        row_d, row_b = row[0], row[1]
        noisy = sums[:, NOISY_AT:WEIGHT_AT]
        noisy_d, noisy_b = noisy[0], noisy[1]
        drawn_to = draw_until(first_step + 1, 0, levels, draws, key_0, key_1)
        drawn = 0
        if has_velocity:
            scratch = make_scratch(key_0, key_1)
            _draw_across(cross, levels, first_step + 1, chi, drawn, scratch)
        kd, rho = 1.0, 1.0
        if is_batch:
            sum_lanes(lanes, levels, row)
            kd, rho = batch_of(row, x, std, xi, drawn, first_step, batches, key_0, key_1)
        rows = 0
        done = 0
        good = True
        while good and done < num_steps:
            move = -(update[0] * step_size[0]), kd, rho
            step_band(
                x, y, z, 0, bulk_at, move, factors, lam, std, weights, xi, chi, cross, drawn, row_d
            )
            move = -(update[1] * step_size[0]), kd, rho
            step_band(
                x, y, z, bulk_at, size, move, factors, lam, std, weights, xi, chi, cross, drawn,
                row_b,
            )  # fmt: skip
            done += 1
            step = first_step + done
            drawn_to = draw_until(step + 1, drawn_to, levels, draws, key_0, key_1)
            drawn = done % depth * size
            if has_velocity:
                _draw_across(cross, levels, step + 1, chi, drawn, scratch)
            if is_batch:
                kd, rho = batch_of(row, x, std, xi, drawn, step, batches, key_0, key_1)
                write_constants(sums, row, batches.size, batches.label_std, batches.traces)
            if observes and is_finite(row):
                move = 0.0, kd, rho
                observe_band(x, 0, bulk_at, move, lam, std, xi, chi, cross, drawn, noisy_d)
                observe_band(x, bulk_at, size, move, lam, std, xi, chi, cross, drawn, noisy_b)
            good, rows = finish_step(
                step, row, rule, memory, sums, step_size, wanted, rows, out, out_steps, out_sizes
            )
        return_lanes(lanes, state, along, across, lane)
        return done, rows

    return advance, observe, sum_levels


_advance, _observe, _sum_levels = _make_loop(False, False)
_advance_batches, _observe_batch, _ = _make_loop(False, True)
_advance_velocity, _observe_velocity, _sum_velocity_levels = _make_loop(True, False)
_advance_velocity_batches, _observe_velocity_batch, _ = _make_loop(True, True)


@kernel()
def advance_levels(*arguments):
    """Apply SGD steps whose sizes a rule chooses from the row; as ``rule_steps.advance_adaptive``.

    ``(state, along, across, levels, factors, batches, first_step, num_steps, ruling, record, key_0,
    key_1)``; without a velocity all three planes are the state, squares of levels.
    """
    return _advance(*arguments)


@kernel()
def advance_level_batches(*arguments):
    """Do as `advance_levels`, on mini-batches of data."""
    return _advance_batches(*arguments)


@kernel()
def advance_velocity_levels(*arguments):
    """Do as `advance_levels`, with a velocity."""
    return _advance_velocity(*arguments)


@kernel()
def advance_velocity_level_batches(*arguments):
    """Do as `advance_velocity_levels`, on mini-batches of data."""
    return _advance_velocity_batches(*arguments)


@kernel()
def observe_levels(*arguments):
    """Write ``sum lambda^p h^2``, p = 0, 1, 2, of the noisy gradient of a step.

    ``(state, along, across, levels, factors, batches, step, key_0, key_1, out)``.
    """
    _observe(*arguments)


@kernel()
def observe_level_batch(*arguments):
    """Do as `observe_levels`, on mini-batches of data."""
    _observe_batch(*arguments)


@kernel()
def observe_velocity_levels(*arguments):
    """Do as `observe_levels`, with a velocity."""
    _observe_velocity(*arguments)


@kernel()
def observe_velocity_level_batch(*arguments):
    """Do as `observe_velocity_levels`, on mini-batches of data."""
    _observe_velocity_batch(*arguments)


@kernel()
def sum_levels(*arguments):
    """Write the sums of both bands: ``(state, along, across, levels, out)``."""
    _sum_levels(*arguments)


@kernel()
def sum_velocity_levels(*arguments):
    """Do as `sum_levels`, with a velocity."""
    _sum_velocity_levels(*arguments)
