"""One Gaussian move a recorded row, for every coordinate, without and with a velocity.

A move is ``c <- a c + b xi``: two numbers. With a velocity it is ``(c, v) <- A (c, v) + K (xi_1,
xi_2)``, A a matrix, K lower triangular: seven numbers, in the order of `powers`.
"""

import numpy as np

from ..physics.layout import ROW_SIZE
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
)
from .jit import copy_values, inlined, kernel
from .loops import by_kind, make_planes, make_work
from .normals import GROUP, LANES, scratch_of, write_normals
from .powers import CC, CY, K_CC, K_YC, K_YY, NUM_PARTS, YC, YY, moves_of_size, set_gains
from .simd import (
    fma,
    load,
    load_doubles,
    prefetch,
    rounded_like,
    store_doubles,
    to_double,
    zero_where_zero,
    zeros,
)
from .step import SUBSTEPS, row_size_of
from .sums import jumped, ways_of

# --- The moves of a vector of coordinates --------------------------------------------------------


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
    return rounded_like(state, moved_c), rounded_like(velocity, moved_v)


@inlined
def _jump_plain(c, v, c_i, v_i, move, normals, i):
    """Move a vector of c by rows of the numbers of a block."""
    a, b = load(move[0], i, LANES), load(move[1], i, LANES)
    c_i = jumped(c, c_i, a, b, load(normals, i, LANES))
    return c_i, c_i


@inlined
def _jump_with_velocity(c, v, c_i, v_i, move, normals, i):
    """Move a vector of c and v by rows of the numbers of a block."""
    move_i = (
        load(move[CC], i, LANES), load(move[CY], i, LANES), load(move[YC], i, LANES),
        load(move[YY], i, LANES), load(move[K_CC], i, LANES), load(move[K_YC], i, LANES),
        load(move[K_YY], i, LANES),
    )  # fmt: skip
    xi_1, xi_2 = load(normals, i, LANES), load(normals, BLOCK + i, LANES)
    return velocity_jumped(c, v, c_i, v_i, move_i, xi_1, xi_2)


# --- Blocks and parts ----------------------------------------------------------------------------


def _make_jump(has_velocity):
    """Build ``jump(kind, c, v, move, lam, std, normals, groups, weights, row)``."""
    jump_vector = _jump_with_velocity if has_velocity else _jump_plain

    def make(empty, powers_of, add, commit):
        @inlined
        def jump(c, v, move, lam, std, normals, groups, weights, row):
            sums = empty(zeros(0.0, LANES))
            for i in range(0, GROUP * groups, LANES):
                prefetch(c, i + BLOCK)
                if has_velocity:
                    prefetch(v, i + BLOCK)
                prefetch(lam, i + BLOCK)
                c_i = load_doubles(c, i, LANES)
                v_i = load_doubles(v, i, LANES) if has_velocity else c_i
                c_i, v_i = jump_vector(c, v, c_i, v_i, move, normals, i)
                store_doubles(c, i, c_i)
                if has_velocity:
                    store_doubles(v, i, v_i)
                powers = powers_of(load(lam, i, LANES), load(std, i, LANES), weights)
                sums = add(sums, c_i, v_i, powers)
            commit(sums, weights, row)

        return jump

    return by_kind(ways_of(has_velocity), make)


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


def _make_parts(has_velocity):
    """Build the loop over parts and moves."""
    row_size = row_size_of(has_velocity)
    num_numbers = NUM_PARTS if has_velocity else 2
    jump_block = _make_jump(has_velocity)
    take_planes, return_planes = make_planes(has_velocity)

    @inlined
    def move_block(b, planes, plan, level_ends, coefficients, first_row, steps, work, move, table):
        start = plan.blocks[b, START]
        stop = plan.blocks[b, STOP]
        first_group, groups = groups_of(plan.blocks, b, plan.first_group)
        c = coefficients_of(planes.state, plan.blocks, b, planes.edges)
        v = coefficients_of(planes.velocity, plan.blocks, b, planes.velocity_edges)
        lam = block_values(plan.blocks[b, LAM], plan.lam, plan.shared)
        std = block_values(plan.blocks[b, STD], plan.std, plan.shared)
        normals, scratch = work.normals[0], scratch_of(work, 0)
        if plan.blocks[b, EDGE] != 0:
            move[:] = 0.0
        for t in range(steps.size):
            if t == 0 or coefficients.shape[1] > 1:
                for part in range(num_numbers):
                    values = coefficients[part, first_row + t]
                    spread_levels(values, level_ends, start, stop, start % GROUP, move[part])
            write_normals(normals, 0, first_group, groups, domains.JUMP, steps[t], scratch)
            if has_velocity:
                write_normals(
                    normals, BLOCK, first_group, groups, domains.JUMP_ACROSS, steps[t], scratch
                )
            jump_block(
                plan.blocks[b, KIND], c, v, move, lam, std, normals, groups,
                plan.moment_weights[b], table[t],
            )  # fmt: skip

    @inlined
    def advance(
        first, last, state, velocity, plan, level_ends, coefficients, steps, key_0, key_1, table
    ):
        work = make_work(1, 0, row_size, key_0, key_1)
        planes = take_planes(state, velocity, plan)
        move = np.zeros((num_numbers, BLOCK))
        for begin in range(0, steps.size, SUBSTEPS):
            end = min(steps.size, begin + SUBSTEPS)
            first_row = 0 if coefficients.shape[1] == 1 else begin
            for p in range(first, last):
                sums = table[p, begin:end]
                for t in range(end - begin):
                    for column in range(row_size):
                        sums[t, column] = 0.0
                for block in range(plan.parts[p, FIRST], plan.parts[p, LAST]):
                    move_block(
                        block, planes, plan, level_ends, coefficients, first_row, steps[begin:end],
                        work, move, sums,
                    )  # fmt: skip
        return_planes(planes, plan, plan.parts[first, FIRST], plan.parts[last - 1, LAST])

    return advance


_parts = _make_parts(False)
_velocity_parts = _make_parts(True)


@kernel()
def jump_parts(
    first, last, state, velocity, plan, level_ends, coefficients, steps, key_0, key_1, table
):
    """Move the parts ``first ... last - 1`` to each of ``steps`` in turn.

    ``coefficients`` has shape (2, rows, levels), with one row for every move or a single one for
    all. Sums of part p go to ``table[p]``, a row a move.
    """
    _parts(first, last, state, velocity, plan, level_ends, coefficients, steps, key_0, key_1, table)


@kernel()
def jump_velocity_parts(
    first, last, state, velocity, plan, level_ends, coefficients, steps, key_0, key_1, table
):
    """Do as `jump_parts`, with a velocity: ``coefficients`` has shape (7, rows, levels)."""
    _velocity_parts(
        first, last, state, velocity, plan, level_ends, coefficients, steps, key_0, key_1, table
    )


_jump_block = _make_jump(False)
_take_planes, _return_planes = make_planes(False)


@kernel(error_model="numpy")
def jump_parts_by_size(
    first, last, state, velocity, plan, level_ends, lengths, eta, weights, log, steps, key_0, key_1,
    table,
):  # fmt: skip
    """Do as `jump_parts` with moves of one step size, whose coefficients are made block by block.

    ``lengths`` are the steps of the moves, ``weights`` those of both bands in the update, and
    ``log`` has the logarithm of ``|1 - eta weight lambda|`` of every coordinate.
    """
    work = make_work(1, 0, ROW_SIZE, key_0, key_1)
    planes = _take_planes(state, velocity, plan)
    scratch = scratch_of(work, 0)
    normals, move = work.normals[0], work.moves[0]
    a, b = move[0], move[1]
    rates, pushes, logs = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    xs, gains = np.empty(BLOCK), np.empty(BLOCK)
    for p in range(first, last):
        table[p] = 0.0
        weight = weights[plan.parts[p, BAND]]
        for block in range(plan.parts[p, FIRST], plan.parts[p, LAST]):
            start, stop = plan.blocks[block, START], plan.blocks[block, STOP]
            first_group, groups = groups_of(plan.blocks, block, plan.first_group)
            c = coefficients_of(planes.state, plan.blocks, block, planes.edges)
            lam = block_values(plan.blocks[block, LAM], plan.lam, plan.shared)
            std = block_values(plan.blocks[block, STD], plan.std, plan.shared)
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
                write_normals(normals, 0, first_group, groups, domains.JUMP, steps[t], scratch)
                _jump_block(
                    plan.blocks[block, KIND], c, c, move, lam, std, normals, groups,
                    plan.moment_weights[block], table[p, t],
                )  # fmt: skip
    _return_planes(planes, plan, plan.parts[first, FIRST], plan.parts[last - 1, LAST])
