"""The engine `step` with a velocity: of known sizes and under a rule.

With the noisy gradient ``h = lambda c + s xi``, a step is ``c <- c + drift (p h + q v)`` and
``v <- beta v + h``; p, q and beta are the factors of the optimizer. Rows have three parts
(`sums`).
"""

import numba
import numpy as np

from ..physics.layout import (
    CROSS_AT,
    CROSS_COLUMNS,
    CROSS_ROW_SIZE,
    NOISY_AT,
    NUM_BANDS,
    NUM_NOISY,
    ROW_SIZE,
    WEIGHT_AT,
)
from . import domains
from .blocks import (
    BAND,
    BLOCK,
    EQUAL,
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
from .jit import copy_values, inlined, internal, kernel
from .loops import by_kind, make_work, scratch_of, share_of
from .normals import GROUP, LANES, write_normals
from .rules import call_rule, copy_row, is_finite
from .simd import broadcast, fma, load, load_doubles, prefetch, store_doubles, to_double, zeros
from .step import SUBSTEPS, add_parts, observe_alone, observe_together
from .sums import (
    DRIFT,
    NUM_PARTS,
    VELOCITY_DIRECT_WAY,
    VELOCITY_EQUAL_WAY,
    VELOCITY_NARROW_WAY,
    set_move,
    velocity_moved,
)


def _make_step(empty, powers_of, add, commit, is_far):
    """Build the loop of a way over one step; far from cache the next block is fetched meanwhile."""

    @inlined
    def step(c, v, lam, std, drift, factors, normals, groups, weights, row):
        zero = zeros(0.0, LANES)
        drifts = broadcast(drift, zero)
        pulls = broadcast(factors[0], zero)
        carries = broadcast(factors[1], zero)
        decays = broadcast(factors[2], zero)
        sums = empty(zero)
        for i in range(0, GROUP * groups, LANES):
            lam_i = load(lam, i, LANES)
            std_i = load(std, i, LANES)
            if is_far:
                prefetch(c, i + BLOCK)
                prefetch(v, i + BLOCK)
                prefetch(lam, i + BLOCK)
                prefetch(std, i + BLOCK)
            c_i = load_doubles(c, i, LANES)
            v_i = load_doubles(v, i, LANES)
            h = fma(std_i, to_double(load(normals, i, LANES)), lam_i * c_i)
            c_i, v_i = velocity_moved(c, v, c_i, v_i, h, drifts, pulls, carries, decays)
            store_doubles(c, i, c_i)
            store_doubles(v, i, v_i)
            sums = add(sums, c_i, v_i, powers_of(lam_i, std_i, weights))
        commit(sums, weights, row)

    return step


@inlined
def _skip_pair(c, v, lam, std, drift_0, drift_1, factors, normals, groups):
    """Two steps whose rows nobody wants: coordinates stay in registers between them."""
    zero = zeros(0.0, LANES)
    drifts_0 = broadcast(drift_0, zero)
    drifts_1 = broadcast(drift_1, zero)
    pulls = broadcast(factors[0], zero)
    carries = broadcast(factors[1], zero)
    decays = broadcast(factors[2], zero)
    for i in range(0, GROUP * groups, LANES):
        lam_i = load(lam, i, LANES)
        std_i = load(std, i, LANES)
        c_i = load_doubles(c, i, LANES)
        v_i = load_doubles(v, i, LANES)
        h = fma(std_i, to_double(load(normals, i, LANES)), lam_i * c_i)
        c_i, v_i = velocity_moved(c, v, c_i, v_i, h, drifts_0, pulls, carries, decays)
        h = fma(std_i, to_double(load(normals, BLOCK + i, LANES)), lam_i * c_i)
        c_i, v_i = velocity_moved(c, v, c_i, v_i, h, drifts_1, pulls, carries, decays)
        store_doubles(c, i, c_i)
        store_doubles(v, i, v_i)


def _make_sum(empty, powers_of, add, commit):
    """Build the loop of a way over the state alone."""

    @inlined
    def sum_state(c, v, lam, std, groups, weights, row):
        sums = empty(zeros(0.0, LANES))
        for i in range(0, GROUP * groups, LANES):
            powers = powers_of(load(lam, i, LANES), load(std, i, LANES), weights)
            sums = add(sums, load_doubles(c, i, LANES), load_doubles(v, i, LANES), powers)
        commit(sums, weights, row)

    return sum_state


_WAYS = (VELOCITY_DIRECT_WAY, VELOCITY_NARROW_WAY, VELOCITY_EQUAL_WAY)
#: (kind, c, v, lam, std, drift, factors, normals, groups, weights, row).
_step_block = by_kind(*(_make_step(*way, False) for way in _WAYS))
_far_step_block = by_kind(*(_make_step(*way, True) for way in _WAYS))
#: (kind, c, v, lam, std, groups, weights, row).
_sum_block = by_kind(*(_make_sum(*way) for way in _WAYS))


@inlined
def _advance_block(
    state,
    velocity,
    plan,
    block,
    band,
    factors,
    first_step,
    moves,
    slots,
    scratch,
    edges,
    velocity_edges,
    normals,
    table,
):
    first_group, groups = groups_of(plan, block)
    lam = block_values(plan.blocks[block, LAM], plan.lam, plan.shared)
    std = block_values(plan.blocks[block, STD], plan.std, plan.shared)
    c = coefficients_of(state, plan, block, edges)
    v = coefficients_of(velocity, plan, block, velocity_edges)
    t = 0
    while t < moves.shape[0]:
        write_normals(normals, 0, first_group, groups, domains.STEP, first_step + t, scratch)
        if t + 1 < moves.shape[0] and slots[t] < 0 and slots[t + 1] < 0:
            write_normals(
                normals, BLOCK, first_group, groups, domains.STEP, first_step + t + 1, scratch
            )
            _skip_pair(
                c, v, lam, std, moves[t, band, DRIFT], moves[t + 1, band, DRIFT], factors, normals,
                groups,
            )  # fmt: skip
            t += 2
            continue
        # Sums that nobody wants are taken in the cheapest way.
        kind = plan.blocks[block, KIND] if slots[t] >= 0 else EQUAL
        _step_block(
            kind, c, v, lam, std, moves[t, band, DRIFT], factors, normals, groups,
            plan.moment_weights[block], table[t],
        )  # fmt: skip
        t += 1


@kernel()
def advance_velocity_parts(
    first, last, state, plan, velocity, factors, first_step, moves, slots, key_0, key_1, table
):
    """Apply steps of known moves to some of the parts; as ``step.advance_parts``."""
    work = make_work(state, plan, 1, key_0, key_1)
    scratch = scratch_of(work, 0)
    velocity_edges = load_edges(velocity, plan)
    normals = work.normals[0]
    sums = np.empty((min(SUBSTEPS, moves.shape[0]), CROSS_ROW_SIZE))
    for begin in range(0, moves.shape[0], SUBSTEPS):
        end = min(moves.shape[0], begin + SUBSTEPS)
        for p in range(first, last):
            sums[:] = 0.0
            for block in range(plan.parts[p, FIRST], plan.parts[p, LAST]):
                _advance_block(
                    state, velocity, plan, block, plan.parts[p, BAND], factors, first_step + begin,
                    moves[begin:end], slots[begin:end], scratch, work.edges, velocity_edges,
                    normals, sums,
                )  # fmt: skip
            for t in range(begin, end):
                if slots[t] >= 0:
                    copy_values(table[p, slots[t]], 0, sums[t - begin], 0, CROSS_ROW_SIZE)
    begin, end = plan.parts[first, FIRST], plan.parts[last - 1, LAST]
    return_edges(work.edges, state, plan, begin, end)
    return_edges(velocity_edges, velocity, plan, begin, end)


@internal()
def _advance_share(
    worker, workers, state, velocity, plan, factors, step, moves, work, velocity_edges, table
):
    first, last = share_of(worker, workers, plan)
    scratch = scratch_of(work, worker)
    normals = work.normals[worker]
    for p in range(first, last):
        table[p] = 0.0
        band = plan.parts[p, BAND]
        for block in range(plan.parts[p, FIRST], plan.parts[p, LAST]):
            first_group, groups = groups_of(plan, block)
            write_normals(normals, 0, first_group, groups, domains.STEP, step, scratch)
            _far_step_block(
                plan.blocks[block, KIND], coefficients_of(state, plan, block, work.edges),
                coefficients_of(velocity, plan, block, velocity_edges),
                block_values(plan.blocks[block, LAM], plan.lam, plan.shared),
                block_values(plan.blocks[block, STD], plan.std, plan.shared),
                moves[0, band, DRIFT], factors, normals, groups, plan.moment_weights[block],
                table[p, 0],
            )  # fmt: skip


@internal()
def _advance_alone(
    workers, state, velocity, plan, factors, step, moves, work, velocity_edges, table
):
    _advance_share(0, 1, state, velocity, plan, factors, step, moves, work, velocity_edges, table)


@internal(parallel=True)
def _advance_together(
    workers, state, velocity, plan, factors, step, moves, work, velocity_edges, table
):
    for worker in numba.prange(workers):
        _advance_share(
            worker, workers, state, velocity, plan, factors, step, moves, work, velocity_edges,
            table,
        )  # fmt: skip


@inlined
def finish_velocity_step(step, row, rule, memory, sums, step_size, wanted, rows, out, steps, sizes):
    """Do as ``rules.finish_step`` with a row of three parts."""
    for band in range(NUM_BANDS):
        copy_values(sums[band], 0, row[band], 0, ROW_SIZE)
        for i in range(len(CROSS_COLUMNS)):
            sums[band, CROSS_AT + i] = row[band, CROSS_COLUMNS[i]]
    finite = is_finite(row)
    if finite:
        step_size[0] = call_rule(rule, step, sums, memory, memory.size)
    if (rows < wanted.size and step == wanted[rows]) or not finite:
        copy_row(out[rows], row)
        steps[rows] = step
        sizes[rows] = step_size[0]
        rows += 1
    return finite and np.isfinite(step_size[0]) and step_size[0] >= 0.0, rows


@inlined
def _adaptive(
    advance,
    observe,
    workers,
    state,
    plan,
    velocity,
    factors,
    first_step,
    num_steps,
    ruling,
    record,
    key_0,
    key_1,
):
    table = np.empty((plan.parts.shape[0], 1, CROSS_ROW_SIZE))
    observed = np.empty((plan.parts.shape[0], 1, NUM_NOISY))
    work = make_work(state, plan, workers, key_0, key_1)
    velocity_edges = load_edges(velocity, plan)
    moves = np.empty((1, NUM_BANDS, NUM_PARTS))
    row = np.empty((1, NUM_BANDS, CROSS_ROW_SIZE))
    rule, observes, memory, sums, step_size, weights = ruling
    wanted, out, out_steps, out_sizes = record
    noisy = np.empty((1, NUM_BANDS, NUM_NOISY))
    rows = 0
    done = 0
    good = True
    while good and done < num_steps:
        set_move(moves, 0, step_size[0], weights)
        advance(
            workers, state, velocity, plan, factors, first_step + done, moves, work, velocity_edges,
            table,
        )  # fmt: skip
        add_parts(plan, table, row)
        done += 1
        if observes and is_finite(row[0]):
            observe(workers, state, plan, first_step + done, work, observed)
            add_parts(plan, observed, noisy)
            copy_row(sums[:, NOISY_AT:WEIGHT_AT], noisy[0])
        good, rows = finish_velocity_step(
            first_step + done, row[0], rule, memory, sums, step_size, wanted, rows, out, out_steps,
            out_sizes,
        )  # fmt: skip
    return_edges(work.edges, state, plan, 0, plan.blocks.shape[0])
    return_edges(velocity_edges, velocity, plan, 0, plan.blocks.shape[0])
    return done, rows


@kernel()
def advance_velocity(
    state, plan, velocity, factors, first_step, num_steps, ruling, record, key_0, key_1
):
    """Apply steps whose sizes a rule chooses from the row; as ``step.advance_adaptive``."""
    return _adaptive(
        _advance_alone, observe_alone, 1, state, plan, velocity, factors, first_step, num_steps,
        ruling, record, key_0, key_1,
    )  # fmt: skip


@kernel()
def advance_velocity_in_threads(
    state, plan, velocity, factors, first_step, num_steps, ruling, record, key_0, key_1
):
    """Do as `advance_velocity`, the parts shared among threads."""
    return _adaptive(
        _advance_together, observe_together, min(plan.threads, plan.parts.shape[0]), state, plan,
        velocity, factors, first_step, num_steps, ruling, record, key_0, key_1,
    )  # fmt: skip


@kernel()
def sum_velocity(state, plan, velocity, out):
    """Write the sums of both bands of a state and its velocity to ``out``."""
    table = np.zeros((plan.parts.shape[0], 1, CROSS_ROW_SIZE))
    edges = load_edges(state, plan)
    velocity_edges = load_edges(velocity, plan)
    for p in range(plan.parts.shape[0]):
        for b in range(plan.parts[p, FIRST], plan.parts[p, LAST]):
            _, groups = groups_of(plan, b)
            _sum_block(
                plan.blocks[b, KIND], coefficients_of(state, plan, b, edges),
                coefficients_of(velocity, plan, b, velocity_edges),
                block_values(plan.blocks[b, LAM], plan.lam, plan.shared),
                block_values(plan.blocks[b, STD], plan.std, plan.shared),
                groups, plan.moment_weights[b], table[p, 0],
            )  # fmt: skip
    row = np.empty((1, NUM_BANDS, CROSS_ROW_SIZE))
    add_parts(plan, table, row)
    copy_row(out, row[0])
