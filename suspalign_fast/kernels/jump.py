"""One Gaussian move a recorded row: ``c <- a c + b xi`` for every coordinate."""

import numpy as np

from ..physics.layout import CROSS_ROW_SIZE
from . import domains
from .blocks import (
    BAND,
    BLOCK,
    EDGE,
    FIRST,
    KIND,
    LAM,
    LAST,
    START,
    STD,
    STOP,
    block_values,
    coefficients_of,
    groups_of,
    load_edges,
    return_edges,
)
from .jit import copy_values, inlined, kernel
from .loops import by_kind, jump_block, make_work, scratch_of
from .normals import GROUP, LANES, write_normals
from .powers import CC, CY, K_CC, K_YC, K_YY, NUM_PARTS, YC, YY, moves_of_size, set_gains
from .simd import (
    fma,
    load,
    load_doubles,
    prefetch,
    store_doubles,
    to_double,
    zero_where_zero,
    zeros,
)
from .step import SUBSTEPS
from .sums import VELOCITY_DIRECT_WAY, VELOCITY_EQUAL_WAY, VELOCITY_NARROW_WAY, rounded


@inlined
def spread_levels(values, level_ends, start, stop, lane, buffer):
    """Copy the values of coordinates ``start ... stop - 1`` to a buffer from ``lane`` on."""
    if level_ends.size == 0:
        copy_values(buffer, lane, values, start, stop - start)
        return
    level = np.searchsorted(level_ends, start, side="right")
    i = start
    while i < stop:
        end = min(stop, level_ends[level])
        buffer[lane + i - start : lane + end - start] = values[level]
        i = end
        level += 1


@inlined
def _jump_block(state, plan, b, a_rows, b_rows, level_ends, steps, work, table):
    start = plan.blocks[b, START]
    stop = plan.blocks[b, STOP]
    lane = start % GROUP
    first_group, groups = groups_of(plan, b)
    lam = block_values(plan.blocks[b, LAM], plan.lam, plan.shared)
    std = block_values(plan.blocks[b, STD], plan.std, plan.shared)
    c = coefficients_of(state, plan, b, work.edges)
    a = work.moves[0, 0]
    spread = work.moves[0, 1]
    scratch = scratch_of(work, 0)
    if plan.blocks[b, EDGE] != 0:
        a[:] = 0.0
        spread[:] = 0.0
    for t in range(steps.size):
        if t < a_rows.shape[0]:
            spread_levels(a_rows[t], level_ends, start, stop, lane, a)
            spread_levels(b_rows[t], level_ends, start, stop, lane, spread)
        write_normals(work.normals[0], 0, first_group, groups, domains.JUMP, steps[t], scratch)
        jump_block(
            plan.blocks[b, KIND], c, a, spread, lam, std, work.normals[0], groups,
            plan.moment_weights[b], table[t],
        )  # fmt: skip


@kernel()
def jump_parts(first, last, state, plan, level_ends, a_rows, b_rows, steps, key_0, key_1, table):
    """Move the parts ``first ... last - 1`` to each of ``steps`` in turn.

    ``a_rows`` and ``b_rows`` have one row for every move, or a single row for all. Sums of part p
    go to ``table[p]``, a row a move.
    """
    work = make_work(state, plan, 1, key_0, key_1)
    for begin in range(0, steps.size, SUBSTEPS):
        end = min(steps.size, begin + SUBSTEPS)
        a = a_rows if a_rows.shape[0] == 1 else a_rows[begin:end]
        b = b_rows if b_rows.shape[0] == 1 else b_rows[begin:end]
        for p in range(first, last):
            sums = table[p, begin:end]
            sums[:] = 0.0
            for block in range(plan.parts[p, FIRST], plan.parts[p, LAST]):
                _jump_block(state, plan, block, a, b, level_ends, steps[begin:end], work, sums)
    return_edges(work.edges, state, plan, plan.parts[first, FIRST], plan.parts[last - 1, LAST])


@kernel(error_model="numpy")
def jump_parts_by_size(
    first, last, state, plan, lengths, eta, weights, log, steps, key_0, key_1, table
):
    """Do as `jump_parts` with moves of one step size, whose coefficients are made block by block.

    ``lengths`` are the steps of the moves, ``weights`` those of both bands in the update, and
    ``log`` has the logarithm of ``|1 - eta weight lambda|`` of every coordinate.
    """
    work = make_work(state, plan, 1, key_0, key_1)
    scratch = scratch_of(work, 0)
    normals = work.normals[0]
    a, b = work.moves[0, 0], work.moves[0, 1]
    rates, pushes, logs = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    xs, gains = np.empty(BLOCK), np.empty(BLOCK)
    for p in range(first, last):
        table[p] = 0.0
        weight = weights[plan.parts[p, BAND]]
        for block in range(plan.parts[p, FIRST], plan.parts[p, LAST]):
            start, stop = plan.blocks[block, START], plan.blocks[block, STOP]
            first_group, groups = groups_of(plan, block)
            lam = block_values(plan.blocks[block, LAM], plan.lam, plan.shared)
            std = block_values(plan.blocks[block, STD], plan.std, plan.shared)
            c = coefficients_of(state, plan, block, work.edges)
            logs[:] = 0.0
            copy_values(logs, start % GROUP, log, start, stop - start)
            for i in range(BLOCK):
                inside = i < GROUP * groups
                rates[i] = weight * lam[i] if inside else 0.0
                pushes[i] = weight * std[i] if inside else 0.0
            set_gains(eta, rates, pushes, xs, gains)
            for t in range(steps.size):
                if t == 0 or lengths[t] != lengths[t - 1]:
                    moves_of_size(lengths[t], xs, gains, logs, a, b)
                write_normals(
                    normals, 0, first_group, groups, domains.JUMP, steps[t], scratch
                )  # fmt: skip
                jump_block(
                    plan.blocks[block, KIND], c, a, b, lam, std, normals, groups,
                    plan.moment_weights[block], table[p, t],
                )  # fmt: skip
    return_edges(work.edges, state, plan, plan.parts[first, FIRST], plan.parts[last - 1, LAST])


# --- The engine `jump` with a velocity: one Gaussian move of c and v a recorded row --------------
#
# A move is ``(c, v) <- A (c, v) + K (xi_1, xi_2)`` for every coordinate, A a matrix, K lower
# triangular: seven numbers, in the order of ``powers``.


@inlined
def _combined(a, c, b, v, noise):
    """``a c + b v + noise``; what is zero adds nothing even if its factor has overflowed."""
    return fma(zero_where_zero(a, c), c, fma(zero_where_zero(b, v), v, noise))


@inlined
def velocity_jumped(state, velocity, c, v, move, xi_c, xi_v):
    """Move c and v by seven numbers, in the order of ``powers``, and two normals."""
    cc, cy, yc, yy, k_cc, k_yc, k_yy = move
    first = to_double(xi_c)
    second = to_double(xi_v)
    moved_c = _combined(cc, c, cy, v, k_cc * first)
    moved_v = _combined(yc, c, yy, v, fma(k_yc, first, k_yy * second))
    return rounded(state, moved_c), rounded(velocity, moved_v)


def _make_jump(empty, powers_of, add, commit):
    """Build the loop of a way over one move."""

    @inlined
    def jump(c, v, move, lam, std, normals, groups, weights, row):
        sums = empty(zeros(0.0, LANES))
        for i in range(0, GROUP * groups, LANES):
            prefetch(c, i + BLOCK)
            prefetch(v, i + BLOCK)
            prefetch(lam, i + BLOCK)
            c_0 = load_doubles(c, i, LANES)
            v_0 = load_doubles(v, i, LANES)
            move_i = (
                load(move[CC], i, LANES), load(move[CY], i, LANES), load(move[YC], i, LANES),
                load(move[YY], i, LANES), load(move[K_CC], i, LANES), load(move[K_YC], i, LANES),
                load(move[K_YY], i, LANES),
            )  # fmt: skip
            c_i, v_i = velocity_jumped(
                c, v, c_0, v_0, move_i, load(normals, i, LANES), load(normals, BLOCK + i, LANES)
            )
            store_doubles(c, i, c_i)
            store_doubles(v, i, v_i)
            powers = powers_of(load(lam, i, LANES), load(std, i, LANES), weights)
            sums = add(sums, c_i, v_i, powers)
        commit(sums, weights, row)

    return jump


#: (kind, c, v, move, lam, std, normals, groups, weights, row).
_jump_velocity_block = by_kind(
    *(_make_jump(*way) for way in (VELOCITY_DIRECT_WAY, VELOCITY_NARROW_WAY, VELOCITY_EQUAL_WAY))
)


@inlined
def _move_block(
    state,
    velocity,
    plan,
    b,
    rows,
    first_row,
    level_ends,
    steps,
    work,
    velocity_edges,
    move,
    table,
):
    start = plan.blocks[b, START]
    stop = plan.blocks[b, STOP]
    first_group, groups = groups_of(plan, b)
    lam = block_values(plan.blocks[b, LAM], plan.lam, plan.shared)
    std = block_values(plan.blocks[b, STD], plan.std, plan.shared)
    c = coefficients_of(state, plan, b, work.edges)
    v = coefficients_of(velocity, plan, b, velocity_edges)
    normals = work.normals[0]
    scratch = scratch_of(work, 0)
    if plan.blocks[b, EDGE] != 0:
        move[:] = 0.0
    for t in range(steps.size):
        if t == 0 or rows[0].shape[0] > 1:
            for part in range(NUM_PARTS):
                values = rows[part][first_row + t]
                spread_levels(values, level_ends, start, stop, start % GROUP, move[part])
        write_normals(normals, 0, first_group, groups, domains.JUMP, steps[t], scratch)
        write_normals(normals, BLOCK, first_group, groups, domains.JUMP_ACROSS, steps[t], scratch)
        _jump_velocity_block(
            plan.blocks[b, KIND], c, v, move, lam, std, normals, groups, plan.moment_weights[b],
            table[t],
        )  # fmt: skip


@kernel()
def jump_velocity_parts(
    first,
    last,
    state,
    plan,
    velocity,
    level_ends,
    cc,
    cv,
    vc,
    vv,
    noise_cc,
    noise_vc,
    noise_vv,
    steps,
    key_0,
    key_1,
    table,
):
    """Move the parts ``first ... last - 1`` to each of ``steps`` in turn; as ``jump.jump_parts``.

    The seven numbers of a move have one row for every move, or a single row for all.
    """
    work = make_work(state, plan, 1, key_0, key_1)
    velocity_edges = load_edges(velocity, plan)
    rows = (cc, cv, vc, vv, noise_cc, noise_vc, noise_vv)
    move = np.empty((NUM_PARTS, BLOCK))
    for begin in range(0, steps.size, SUBSTEPS):
        end = min(steps.size, begin + SUBSTEPS)
        first_row = 0 if cc.shape[0] == 1 else begin
        for p in range(first, last):
            sums = table[p, begin:end]
            for t in range(end - begin):
                for column in range(CROSS_ROW_SIZE):
                    sums[t, column] = 0.0
            for block in range(plan.parts[p, FIRST], plan.parts[p, LAST]):
                _move_block(
                    state, velocity, plan, block, rows, first_row, level_ends, steps[begin:end],
                    work, velocity_edges, move, sums,
                )  # fmt: skip
    begin, end = plan.parts[first, FIRST], plan.parts[last - 1, LAST]
    return_edges(work.edges, state, plan, begin, end)
    return_edges(velocity_edges, velocity, plan, begin, end)
