"""The engine `jump` with a velocity: one Gaussian move of c and v a recorded row.

A move is ``(c, v) <- A (c, v) + K (xi_1, xi_2)`` for every coordinate, A a matrix, K lower
triangular: seven numbers, in the order of ``momentum_powers``.
"""

import numpy as np

from ..row import CROSS_ROW_SIZE
from . import domains
from .advance import SUBSTEPS
from .batch import LANES, write_normals
from .block import by_kind
from .coordinates import rounded
from .edges import block_values, coefficients_of, groups_of, load_edges, return_edges
from .jit import inlined, kernel
from .jump import spread_levels
from .momentum_powers import CC, CY, K_CC, K_YC, K_YY, NUM_PARTS, YC, YY
from .momentum_sums import DIRECT_WAY, EQUAL_WAY, NARROW_WAY
from .normals import GROUP
from .plan import BLOCK, EDGE, FIRST, KIND, LAM, LAST, START, STD, STOP
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
from .work import make_work, scratch_of


@inlined
def _combined(a, c, b, v, noise):
    """``a c + b v + noise``; what is zero adds nothing even if its factor has overflowed."""
    return fma(zero_where_zero(a, c), c, fma(zero_where_zero(b, v), v, noise))


@inlined
def velocity_jumped(state, velocity, c, v, move, xi_c, xi_v):
    """Move c and v by seven numbers, in the order of ``momentum_powers``, and two normals."""
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
_jump_block = by_kind(*(_make_jump(*way) for way in (DIRECT_WAY, NARROW_WAY, EQUAL_WAY)))


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
        _jump_block(
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
