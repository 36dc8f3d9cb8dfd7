"""The engine `step` on mini-batches of data: one pass over the state a step.

A step needs ``w = sum s c zeta``, with ``s = sqrt(lambda)``, over all coordinates before it can
move the first. That would take a pass of its own, if it were the normals of the coordinates that
decided it. Here every block has one normal xi more, the noise along the block's own part
``v = s c`` of the state, and ``w = sum |v| xi`` is a sum over blocks, whose norms the last step has
left. The normals z of its coordinates then only say what is orthogonal to v:

    zeta = z + (xi - v'z / |v|) v / |v|,

independent standard normals as before, and in the gradient nothing but another multiple of
``lambda c`` for each block. The normals are made where the state is in cache; eigenvalues are not
read, but made from their roots.
"""

import numba
import numpy as np

from ..physics.layout import CROSS_ROW_SIZE, NOISY_AT, NUM_BANDS, NUM_NOISY, ROW_SIZE, WEIGHT_AT
from . import domains
from .batches import (
    S1,
    add_product,
    factors,
    gain_of,
    gradient,
    squared_norm,
    turn_of,
    write_constants,
)
from .blocks import (
    BAND,
    BLOCK,
    FIRST,
    KIND,
    LAM,
    LAST,
    STD,
    block_values,
    coefficients_of,
    groups_of,
    load_edges,
    return_edges,
)
from .jit import inlined, internal, kernel
from .loops import by_kind, make_work, scratch_of, share_of, step_once_of_roots, sum_block_of_roots
from .normals import (
    BATCH,
    COUNTERS,
    GROUP,
    LANES,
    box_muller,
    make_scratch,
    write_normals,
    write_words_of,
)
from .rules import copy_row, finish_step, is_finite
from .simd import (
    broadcast,
    horizontal_sum,
    load,
    load_doubles,
    lower_half,
    prefetch,
    store,
    store_doubles,
    upper_half,
    zeros,
)
from .step import add_parts
from .sums import (
    VELOCITY_DIRECT_WAY,
    VELOCITY_EQUAL_WAY,
    VELOCITY_NARROW_WAY,
    add_gradient,
    commit_noisy,
    no_noisy,
    velocity_moved,
)
from .velocity import finish_velocity_step


@inlined
def _add_product(total, c, std, z, i):
    return add_product(total, load_doubles(c, i, LANES), load(std, i, LANES), z)


@kernel()
def draw_block(normals, c, std, first_group, groups, step, scratch):
    """Write a block's normals of a step; return their ``v'z``, summed up while they are made."""
    words = write_words_of(first_group, groups, domains.STEP, step, scratch)
    s0 = zeros(0.0, LANES)
    s1 = zeros(0.0, LANES)
    s2 = zeros(0.0, LANES)
    s3 = zeros(0.0, LANES)
    for i in range(0, GROUP * groups, 2 * COUNTERS):
        z0, z1 = box_muller(load(words, i, COUNTERS), load(words, i + COUNTERS, COUNTERS))
        store(normals, i, z0)
        store(normals, i + COUNTERS, z1)
        s0 = _add_product(s0, c, std, lower_half(z0), i)
        s1 = _add_product(s1, c, std, upper_half(z0), i + LANES)
        s2 = _add_product(s2, c, std, lower_half(z1), i + 2 * LANES)
        s3 = _add_product(s3, c, std, upper_half(z1), i + 3 * LANES)
    return horizontal_sum((s0 + s1) + (s2 + s3))


@inlined
def _draw_along(xi, first_block, count, step, scratch):
    """Write the normals of some blocks, BATCH groups of them at most, along their states."""
    groups = (count - 1) // GROUP + 1
    write_normals(xi, first_block, first_block // GROUP, groups, domains.BATCH_BLOCK, step, scratch)


@internal()
def draw_batch(step, rows, norms, xi, scratch, key_0, key_1, batches, out):
    """Draw what a batch has along each block; write kd and rho."""
    size, label_std, twice_d, slope, _ = batches
    p = label_std * label_std
    w = 0.0
    for first in range(0, rows.shape[0], BATCH * GROUP):
        count = min(BATCH * GROUP, rows.shape[0] - first)
        _draw_along(xi, first, count, step, scratch)
        for b in range(first, first + count):
            p += rows[b, S1]
            w += norms[b] * np.float64(xi[b])
    u = squared_norm(step, key_0, key_1, twice_d, slope)
    out[0], out[1] = factors(p, w, u, size, label_std)


@internal()
def _sum_blocks(state, plan, work, rows, norms):
    """Set the sums of all blocks to those of the state, and the norms of its parts."""
    rows[:] = 0.0
    for b in range(plan.blocks.shape[0]):
        _, groups = groups_of(plan, b)
        sum_block_of_roots(
            plan.blocks[b, KIND], coefficients_of(state, plan, b, work.edges),
            block_values(plan.blocks[b, STD], plan.std, plan.shared),
            groups, plan.moment_weights[b], rows[b],
        )  # fmt: skip
        norms[b] = np.sqrt(rows[b, S1])


@internal()
def _advance_share(worker, workers, state, plan, step, etas, batch, xi, work, rows, norms, table):
    """Move a worker's share of the parts; sums of blocks go to `rows`, of parts to `table`."""
    first, last = share_of(worker, workers, plan)
    scratch = scratch_of(work, worker)
    normals = work.normals[worker]
    kd = batch[0]
    rho = batch[1]
    for p in range(first, last):
        for column in range(ROW_SIZE):
            table[p, 0, column] = 0.0
        eta = etas[plan.parts[p, BAND]]
        for b in range(plan.parts[p, FIRST], plan.parts[p, LAST]):
            first_group, groups = groups_of(plan, b)
            c = coefficients_of(state, plan, b, work.edges)
            std = block_values(plan.blocks[b, STD], plan.std, plan.shared)
            product = draw_block(normals, c, std, first_group, groups, step, scratch)
            gain = gain_of(kd, rho, turn_of(norms[b], np.float64(xi[b]), product))
            for column in range(ROW_SIZE):
                rows[b, column] = 0.0
            step_once_of_roots(
                plan.blocks[b, KIND], c, std,
                -(eta * gain), -(eta * rho), normals, groups, plan.moment_weights[b],
                rows[b],
            )  # fmt: skip
            norms[b] = np.sqrt(rows[b, S1])
            for column in range(ROW_SIZE):
                table[p, 0, column] += rows[b, column]


@internal()
def _advance_alone(workers, state, plan, step, etas, batch, xi, work, rows, norms, table):
    _advance_share(0, 1, state, plan, step, etas, batch, xi, work, rows, norms, table)


@internal(parallel=True)
def _advance_together(workers, state, plan, step, etas, batch, xi, work, rows, norms, table):
    for worker in numba.prange(workers):
        _advance_share(
            worker, workers, state, plan, step, etas, batch, xi, work, rows, norms, table
        )


@inlined
def _observe_block(c, lam, std, normals, groups, gain, spread, out):
    """Add ``sum lambda^p h^2``, p = 0, 1, 2, of the gradient of a step."""
    sums = no_noisy(zeros(0.0, LANES))
    gains = broadcast(gain, zeros(0.0, LANES))
    spreads = broadcast(spread, zeros(0.0, LANES))
    for i in range(0, GROUP * groups, LANES):
        lam_i = load(lam, i, LANES)
        c_i, std_i, z_i = load_doubles(c, i, LANES), load(std, i, LANES), load(normals, i, LANES)
        sums = add_gradient(sums, lam_i, gradient(c_i, lam_i, std_i, gains, spreads, z_i))
    commit_noisy(sums, out)


@internal()
def observe_blocks(state, plan, step, batch, xi, work, norms, table, row):
    """Sums of the gradient of a step over both bands."""
    scratch = scratch_of(work, 0)
    normals = work.normals[0]
    for p in range(plan.parts.shape[0]):
        table[p] = 0.0
        for b in range(plan.parts[p, FIRST], plan.parts[p, LAST]):
            first_group, groups = groups_of(plan, b)
            c = coefficients_of(state, plan, b, work.edges)
            std = block_values(plan.blocks[b, STD], plan.std, plan.shared)
            product = draw_block(normals, c, std, first_group, groups, step, scratch)
            gain = gain_of(batch[0], batch[1], turn_of(norms[b], np.float64(xi[b]), product))
            _observe_block(
                c, block_values(plan.blocks[b, LAM], plan.lam, plan.shared), std, normals, groups,
                gain, batch[1], table[p, 0],
            )  # fmt: skip
    add_parts(plan, table, row)


@inlined
def along_work(plan, row_size, key_0, key_1):
    """Sums and norms of blocks, their normals, and the scratch that these are drawn with."""
    blocks = plan.blocks.shape[0]
    rows = np.empty((blocks, row_size))
    xi = np.empty(blocks + 2 * GROUP, np.float32)
    return rows, np.empty(blocks), xi, make_scratch(key_0, key_1)


@kernel()
def observe_batch(state, plan, batches, step, key_0, key_1, out):
    """Write ``sum lambda^p h^2``, p = 0, 1, 2, of the gradient of a step to ``out``."""
    work = make_work(state, plan, 1, key_0, key_1)
    rows, norms, xi, scratch = along_work(plan, ROW_SIZE, key_0, key_1)
    batch = np.empty(2)
    row = np.empty((1, NUM_BANDS, NUM_NOISY))
    table = np.empty((plan.parts.shape[0], 1, NUM_NOISY))
    _sum_blocks(state, plan, work, rows, norms)
    draw_batch(step, rows, norms, xi, scratch, key_0, key_1, batches, batch)
    observe_blocks(state, plan, step, batch, xi, work, norms, table, row)
    copy_row(out, row[0])


@inlined
def _advance_batches(
    advance, workers, state, plan, batches, first_step, num_steps, ruling, record, key_0, key_1
):
    size, label_std, _, _, traces = batches
    rule, observes, memory, sums, step_size, weights = ruling
    wanted, out, out_steps, out_sizes = record
    parts = plan.parts.shape[0]
    work = make_work(state, plan, workers, key_0, key_1)
    rows, norms, xi, scratch = along_work(plan, ROW_SIZE, key_0, key_1)
    table = np.empty((parts, 1, ROW_SIZE))
    observed = np.empty((parts, 1, NUM_NOISY))
    row = np.empty((1, NUM_BANDS, ROW_SIZE))
    noisy = np.empty((1, NUM_BANDS, NUM_NOISY))
    etas = np.empty(NUM_BANDS)
    batch = np.empty(2)
    _sum_blocks(state, plan, work, rows, norms)
    draw_batch(first_step, rows, norms, xi, scratch, key_0, key_1, batches, batch)
    recorded = 0
    done = 0
    good = True
    while good and done < num_steps:
        etas[0] = step_size[0] * weights[0]
        etas[1] = step_size[0] * weights[1]
        advance(workers, state, plan, first_step + done, etas, batch, xi, work, rows, norms, table)
        add_parts(plan, table, row)
        done += 1
        step = first_step + done
        draw_batch(step, rows, norms, xi, scratch, key_0, key_1, batches, batch)
        write_constants(sums, row[0], size, label_std, traces)
        if observes and is_finite(row[0]):
            observe_blocks(state, plan, step, batch, xi, work, norms, observed, noisy)
            copy_row(sums[:, NOISY_AT:WEIGHT_AT], noisy[0])
        good, recorded = finish_step(
            step, row[0], rule, memory, sums, step_size, wanted, recorded, out, out_steps,
            out_sizes,
        )  # fmt: skip
    return_edges(work.edges, state, plan, 0, plan.blocks.shape[0])
    return done, recorded


@kernel()
def advance_batches(state, plan, batches, first_step, num_steps, ruling, record, key_0, key_1):
    """Apply SGD steps on mini-batches of data by a rule; as ``step.advance_adaptive``."""
    return _advance_batches(
        _advance_alone, 1, state, plan, batches, first_step, num_steps, ruling, record, key_0, key_1
    )


@kernel()
def advance_batches_in_threads(
    state, plan, batches, first_step, num_steps, ruling, record, key_0, key_1
):
    """Do as `advance_batches`, the parts shared among threads."""
    return _advance_batches(
        _advance_together, min(plan.threads, plan.parts.shape[0]), state, plan, batches, first_step,
        num_steps, ruling, record, key_0, key_1,
    )  # fmt: skip


# --- The engine `step` with a velocity, on mini-batches of data: one pass over both a step -------
#
# A batch is drawn as above, from a normal of every block and those of its coordinates.
# With what it has along the state of a block, the gradient there is ``h = gain lambda c + spread s
# z``; it moves coefficients and velocities as in `velocity`, and rows have three parts.


def _make(empty, powers_of, add, commit):
    """Build the loops of a way over one step and over the state alone, of ``s = sqrt(lambda)``."""

    @inlined
    def step(c, v, std, gain, spread, drift, factors, normals, groups, weights, row):
        zero = zeros(0.0, LANES)
        gains = broadcast(gain, zero)
        spreads = broadcast(spread, zero)
        drifts = broadcast(drift, zero)
        pulls = broadcast(factors[0], zero)
        carries = broadcast(factors[1], zero)
        decays = broadcast(factors[2], zero)
        sums = empty(zero)
        for i in range(0, GROUP * groups, LANES):
            std_i = load(std, i, LANES)
            lam_i = std_i * std_i
            prefetch(c, i + BLOCK)
            prefetch(v, i + BLOCK)
            prefetch(std, i + BLOCK)
            c_i = load_doubles(c, i, LANES)
            v_i = load_doubles(v, i, LANES)
            h = gradient(c_i, lam_i, std_i, gains, spreads, load(normals, i, LANES))
            c_i, v_i = velocity_moved(c, v, c_i, v_i, h, drifts, pulls, carries, decays)
            store_doubles(c, i, c_i)
            store_doubles(v, i, v_i)
            sums = add(sums, c_i, v_i, powers_of(lam_i, std_i, weights))
        commit(sums, weights, row)

    @inlined
    def sum_state(c, v, std, groups, weights, row):
        sums = empty(zeros(0.0, LANES))
        for i in range(0, GROUP * groups, LANES):
            std_i = load(std, i, LANES)
            powers = powers_of(std_i * std_i, std_i, weights)
            sums = add(sums, load_doubles(c, i, LANES), load_doubles(v, i, LANES), powers)
        commit(sums, weights, row)

    return step, sum_state


_step_direct, _sum_direct = _make(*VELOCITY_DIRECT_WAY)
_step_narrow, _sum_narrow = _make(*VELOCITY_NARROW_WAY)
_step_equal, _sum_equal = _make(*VELOCITY_EQUAL_WAY)
#: (kind, c, v, std, gain, spread, drift, factors, normals, groups, weights, row).
_step_block = by_kind(_step_direct, _step_narrow, _step_equal)
#: (kind, c, v, std, groups, weights, row).
_sum_block = by_kind(_sum_direct, _sum_narrow, _sum_equal)


@internal()
def _sum_velocity_blocks(state, velocity, plan, work, velocity_edges, rows, norms):
    """Set the sums of all blocks to those of state and velocity, and the norms of its parts."""
    rows[:] = 0.0
    for b in range(plan.blocks.shape[0]):
        _, groups = groups_of(plan, b)
        _sum_block(
            plan.blocks[b, KIND], coefficients_of(state, plan, b, work.edges),
            coefficients_of(velocity, plan, b, velocity_edges),
            block_values(plan.blocks[b, STD], plan.std, plan.shared),
            groups, plan.moment_weights[b], rows[b],
        )  # fmt: skip
        norms[b] = np.sqrt(rows[b, S1])


@internal()
def _advance_velocity_share(
    worker,
    workers,
    state,
    velocity,
    plan,
    factors,
    step,
    etas,
    batch,
    xi,
    work,
    velocity_edges,
    rows,
    norms,
    table,
):
    """Move a worker's share of the parts; sums of blocks go to `rows`, of parts to `table`."""
    first, last = share_of(worker, workers, plan)
    scratch = scratch_of(work, worker)
    normals = work.normals[worker]
    kd = batch[0]
    rho = batch[1]
    for p in range(first, last):
        for column in range(CROSS_ROW_SIZE):
            table[p, 0, column] = 0.0
        drift = -etas[plan.parts[p, BAND]]
        for b in range(plan.parts[p, FIRST], plan.parts[p, LAST]):
            first_group, groups = groups_of(plan, b)
            c = coefficients_of(state, plan, b, work.edges)
            std = block_values(plan.blocks[b, STD], plan.std, plan.shared)
            product = draw_block(normals, c, std, first_group, groups, step, scratch)
            gain = gain_of(kd, rho, turn_of(norms[b], np.float64(xi[b]), product))
            for column in range(CROSS_ROW_SIZE):
                rows[b, column] = 0.0
            _step_block(
                plan.blocks[b, KIND], c, coefficients_of(velocity, plan, b, velocity_edges), std,
                gain, rho, drift, factors, normals, groups, plan.moment_weights[b],
                rows[b],
            )  # fmt: skip
            norms[b] = np.sqrt(rows[b, S1])
            for column in range(CROSS_ROW_SIZE):
                table[p, 0, column] += rows[b, column]


@internal()
def _advance_velocity_alone(
    workers, state, velocity, plan, factors, step, etas, batch, xi, work, velocity_edges, rows,
    norms, table,
):  # fmt: skip
    _advance_velocity_share(
        0, 1, state, velocity, plan, factors, step, etas, batch, xi, work, velocity_edges, rows,
        norms, table,
    )  # fmt: skip


@internal(parallel=True)
def _advance_velocity_together(
    workers, state, velocity, plan, factors, step, etas, batch, xi, work, velocity_edges, rows,
    norms, table,
):  # fmt: skip
    for worker in numba.prange(workers):
        _advance_velocity_share(
            worker, workers, state, velocity, plan, factors, step, etas, batch, xi, work,
            velocity_edges, rows, norms, table,
        )  # fmt: skip


@inlined
def _advance(
    advance,
    workers,
    state,
    plan,
    velocity,
    factors,
    batches,
    first_step,
    num_steps,
    ruling,
    record,
    key_0,
    key_1,
):
    size, label_std, _, _, traces = batches
    rule, observes, memory, sums, step_size, weights = ruling
    wanted, out, out_steps, out_sizes = record
    parts = plan.parts.shape[0]
    work = make_work(state, plan, workers, key_0, key_1)
    velocity_edges = load_edges(velocity, plan)
    rows, norms, xi, scratch = along_work(plan, CROSS_ROW_SIZE, key_0, key_1)
    table = np.empty((parts, 1, CROSS_ROW_SIZE))
    observed = np.empty((parts, 1, NUM_NOISY))
    row = np.empty((1, NUM_BANDS, CROSS_ROW_SIZE))
    noisy = np.empty((1, NUM_BANDS, NUM_NOISY))
    etas = np.empty(NUM_BANDS)
    batch = np.empty(2)
    _sum_velocity_blocks(state, velocity, plan, work, velocity_edges, rows, norms)
    draw_batch(first_step, rows, norms, xi, scratch, key_0, key_1, batches, batch)
    recorded = 0
    done = 0
    good = True
    while good and done < num_steps:
        etas[0] = step_size[0] * weights[0]
        etas[1] = step_size[0] * weights[1]
        advance(
            workers, state, velocity, plan, factors, first_step + done, etas, batch, xi, work,
            velocity_edges, rows, norms, table,
        )  # fmt: skip
        add_parts(plan, table, row)
        done += 1
        step = first_step + done
        draw_batch(step, rows, norms, xi, scratch, key_0, key_1, batches, batch)
        write_constants(sums, row[0], size, label_std, traces)
        if observes and is_finite(row[0]):
            observe_blocks(state, plan, step, batch, xi, work, norms, observed, noisy)
            copy_row(sums[:, NOISY_AT:WEIGHT_AT], noisy[0])
        good, recorded = finish_velocity_step(
            step, row[0], rule, memory, sums, step_size, wanted, recorded, out, out_steps,
            out_sizes,
        )  # fmt: skip
    return_edges(work.edges, state, plan, 0, plan.blocks.shape[0])
    return_edges(velocity_edges, velocity, plan, 0, plan.blocks.shape[0])
    return done, recorded


@kernel()
def advance_velocity_batches(
    state, plan, velocity, factors, batches, first_step, num_steps, ruling, record, key_0, key_1
):
    """Apply steps with a velocity on mini-batches by a rule; as ``step.advance_adaptive``."""
    return _advance(
        _advance_velocity_alone, 1, state, plan, velocity, factors, batches, first_step, num_steps,
        ruling, record, key_0, key_1,
    )  # fmt: skip


@kernel()
def advance_velocity_batches_in_threads(
    state, plan, velocity, factors, batches, first_step, num_steps, ruling, record, key_0, key_1
):
    """Do as `advance_velocity_batches`, the parts shared among threads."""
    return _advance(
        _advance_velocity_together, min(plan.threads, plan.parts.shape[0]), state, plan, velocity,
        factors, batches, first_step, num_steps, ruling, record, key_0, key_1,
    )  # fmt: skip
