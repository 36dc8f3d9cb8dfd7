"""The engine `step` with a velocity, on mini-batches of data: one pass over both a step.

A batch is drawn as in `data_steps`, from a normal of every block and those of its coordinates. With
what it has along the state of a block, the gradient there is ``h = gain lambda c + spread s z``; it
moves coefficients and velocities as in `momentum`, and rows have three parts.
"""

import numba
import numpy as np

from ..row import CROSS_ROW_SIZE, NOISY_AT, NUM_BANDS, NUM_NOISY, WEIGHT_AT
from .advance import add_parts
from .batch import LANES
from .block import by_kind
from .coordinates import velocity_moved
from .data_noise import S1, gain_of, gradient, turn_of, write_constants
from .data_steps import along_work, draw_batch, draw_block, observe_blocks
from .edges import block_values, coefficients_of, groups_of, load_edges, return_edges
from .jit import inlined, internal, kernel
from .momentum import finish_velocity_step
from .momentum_sums import DIRECT_WAY, EQUAL_WAY, NARROW_WAY
from .normals import GROUP
from .plan import BAND, BLOCK, FIRST, KIND, LAST, STD
from .rules import copy_row, is_finite
from .simd import broadcast, load, load_doubles, prefetch, store_doubles, zeros
from .work import make_work, scratch_of, share_of


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


_step_direct, _sum_direct = _make(*DIRECT_WAY)
_step_narrow, _sum_narrow = _make(*NARROW_WAY)
_step_equal, _sum_equal = _make(*EQUAL_WAY)
#: (kind, c, v, std, gain, spread, drift, factors, normals, groups, weights, row).
_step_block = by_kind(_step_direct, _step_narrow, _step_equal)
#: (kind, c, v, std, groups, weights, row).
_sum_block = by_kind(_sum_direct, _sum_narrow, _sum_equal)


@internal()
def _sum_blocks(state, velocity, plan, work, velocity_edges, rows, norms):
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
def _advance_share(
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
def _advance_alone(
    workers, state, velocity, plan, factors, step, etas, batch, xi, work, velocity_edges, rows,
    norms, table,
):  # fmt: skip
    _advance_share(
        0, 1, state, velocity, plan, factors, step, etas, batch, xi, work, velocity_edges, rows,
        norms, table,
    )  # fmt: skip


@internal(parallel=True)
def _advance_together(
    workers, state, velocity, plan, factors, step, etas, batch, xi, work, velocity_edges, rows,
    norms, table,
):  # fmt: skip
    for worker in numba.prange(workers):
        _advance_share(
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
    _sum_blocks(state, velocity, plan, work, velocity_edges, rows, norms)
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
    """Apply steps with a velocity on mini-batches by a rule; as ``advance.advance_adaptive``."""
    return _advance(
        _advance_alone, 1, state, plan, velocity, factors, batches, first_step, num_steps, ruling,
        record, key_0, key_1,
    )  # fmt: skip


@kernel()
def advance_velocity_batches_in_threads(
    state, plan, velocity, factors, batches, first_step, num_steps, ruling, record, key_0, key_1
):
    """Do as `advance_velocity_batches`, the parts shared among threads."""
    return _advance(
        _advance_together, min(plan.threads, plan.parts.shape[0]), state, plan, velocity, factors,
        batches, first_step, num_steps, ruling, record, key_0, key_1,
    )  # fmt: skip
