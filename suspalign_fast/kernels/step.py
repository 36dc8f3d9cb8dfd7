"""SGD step by step on eigen-coefficients, with the power sums of every recorded step.

Here are steps of known sizes and the sums of a state; `rule_steps` has steps under a rule.

With the noisy gradient ``h = lambda c + s xi`` a step is ``c <- c - eta h``; with a velocity it is
``c <- c - eta (p h + q v)`` and ``v <- beta v + h``, where p, q and beta are the factors of the
optimizer. Step sizes are known in advance, or a rule chooses each from the row before it.

Entry points take state and velocity (the state once more where there is none), the plan, the
factors, and the mini-batches (None where noise is additive).
"""

import numpy as np

from ..physics.layout import (
    CROSS_ROW_SIZE,
    ROW_SIZE,
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
)
from .jit import copy_values, inlined, kernel
from .loops import (
    TILE,
    make_planes,
    make_step,
    make_sum,
    make_work,
    numbers_for,
    skip_pair,
    step_tile,
)
from .normals import scratch_of, write_normals
from .sums import DRIFT, SPREAD

#: Steps applied to a block while it is in cache.
SUBSTEPS = 64


def row_size_of(has_velocity):
    """Numbers of a band in a row."""
    return CROSS_ROW_SIZE if has_velocity else ROW_SIZE


# --- Steps of known sizes: many of them pass over a block before it is left ----------------------


@inlined
def _is_tile(moves, t, band):
    """Whether TILE equal moves of a band follow."""
    if t + TILE > moves.shape[0]:
        return False
    same = True
    for i in range(1, TILE):
        same &= moves[t + i, band, DRIFT] == moves[t, band, DRIFT]
        same &= moves[t + i, band, SPREAD] == moves[t, band, SPREAD]
    return same


@inlined
def _set_factors(a, b, lam, std, drift, spread):
    """Set the factors of coefficient and normal in one move."""
    for i in range(BLOCK):
        a[i] = drift * lam[i]
        b[i] = spread * std[i]


@inlined
def _draw_steps(normals, first_group, groups, first_step, count, scratch):
    """Write the normals of some steps of a block."""
    for i in range(count):
        write_normals(
            normals, i * BLOCK, first_group, groups, domains.STEP, first_step + i, scratch
        )


_step_block = make_step(False, False)
_velocity_step_near = make_step(True, False, is_far=False)
_velocity_numbers = numbers_for(True)


@inlined
def _advance_block(planes, plan, b, band, factors, first_step, moves, slots, room, table):
    """Apply steps to a block; ``room`` holds memory for factors, normals and the generator."""
    c = coefficients_of(planes.state, plan.blocks, b, planes.edges)
    lam = block_values(plan.blocks[b, LAM], plan.lam, plan.shared)
    std = block_values(plan.blocks[b, STD], plan.std, plan.shared)
    first_group, groups = groups_of(plan.blocks, b, plan.first_group)
    kind_of_block, weights = plan.blocks[b, KIND], plan.moment_weights[b]
    of_c, of_xi, normals, scratch = room
    drift = np.nan
    spread = np.nan
    t = 0
    while t < moves.shape[0]:
        length = TILE if _is_tile(moves, t, band) else 1
        _draw_steps(normals, first_group, groups, first_step + t, length, scratch)
        # Sums that nobody wants are taken in the cheapest way.
        kind = EQUAL
        for i in range(length):
            if slots[t + i] >= 0:
                kind = kind_of_block
        if length == TILE:
            if drift != moves[t, band, DRIFT] or spread != moves[t, band, SPREAD]:
                drift = moves[t, band, DRIFT]
                spread = moves[t, band, SPREAD]
                _set_factors(of_c, of_xi, lam, std, drift, spread)
            rows = table[t : t + TILE]
            step_tile(kind, c, lam, std, of_c, of_xi, normals, groups, weights, rows)
        else:
            numbers = moves[t, band, DRIFT], moves[t, band, SPREAD]
            _step_block(kind, c, c, lam, std, numbers, normals, groups, weights, table[t])
        t += length


@inlined
def _advance_velocity_block(planes, plan, b, band, factors, first_step, moves, slots, room, table):
    """Do as `_advance_block`, with a velocity."""
    c = coefficients_of(planes.state, plan.blocks, b, planes.edges)
    v = coefficients_of(planes.velocity, plan.blocks, b, planes.velocity_edges)
    lam = block_values(plan.blocks[b, LAM], plan.lam, plan.shared)
    std = block_values(plan.blocks[b, STD], plan.std, plan.shared)
    first_group, groups = groups_of(plan.blocks, b, plan.first_group)
    kind_of_block, weights = plan.blocks[b, KIND], plan.moment_weights[b]
    _, _, normals, scratch = room
    t = 0
    while t < moves.shape[0]:
        length = 2 if t + 1 < moves.shape[0] and slots[t] < 0 and slots[t + 1] < 0 else 1
        _draw_steps(normals, first_group, groups, first_step + t, length, scratch)
        numbers = _velocity_numbers(moves[t, band, DRIFT], 1.0, 1.0, factors)
        if length == 2:
            second = _velocity_numbers(moves[t + 1, band, DRIFT], 1.0, 1.0, factors)
            skip_pair(c, v, lam, std, numbers, second, normals, groups)
        else:
            kind = kind_of_block if slots[t] >= 0 else EQUAL
            _velocity_step_near(kind, c, v, lam, std, numbers, normals, groups, weights, table[t])
        t += length


def _make_parts(has_velocity, advance_block):
    """Build the loop over parts and steps of known sizes."""
    row_size = row_size_of(has_velocity)
    take_planes, return_planes = make_planes(has_velocity)

    @inlined
    def advance(
        first, last, state, velocity, plan, factors, batches, first_step, moves, slots, key_0,
        key_1, table,
    ):  # fmt: skip
        work = make_work(1, 0, row_size, key_0, key_1)
        planes = take_planes(state, velocity, plan)
        room = work.moves[0, 0], work.moves[0, 1], work.normals[0], scratch_of(work, 0)
        sums = np.empty((min(SUBSTEPS, moves.shape[0]), row_size))
        for begin in range(0, moves.shape[0], SUBSTEPS):
            end = min(moves.shape[0], begin + SUBSTEPS)
            for p in range(first, last):
                sums[:] = 0.0
                for b in range(plan.parts[p, FIRST], plan.parts[p, LAST]):
                    advance_block(
                        planes, plan, b, plan.parts[p, BAND], factors, first_step + begin,
                        moves[begin:end], slots[begin:end], room, sums,
                    )  # fmt: skip
                for t in range(begin, end):
                    if slots[t] >= 0:
                        copy_values(table[p, slots[t]], 0, sums[t - begin], 0, row_size)
        return_planes(planes, plan, plan.parts[first, FIRST], plan.parts[last - 1, LAST])

    return advance


_parts = _make_parts(False, _advance_block)
_velocity_parts = _make_parts(True, _advance_velocity_block)


@kernel()
def advance_parts(
    first, last, state, velocity, plan, factors, batches, first_step, moves, slots, key_0, key_1,
    table,
):  # fmt: skip
    """Apply SGD steps of known moves, shape (steps, bands, 2), to some of the parts, in place.

    ``table[p, slots[t]]`` receives the sums of part p after step ``first_step + t`` wherever
    ``slots[t] >= 0``, for the parts ``first ... last - 1``.
    """
    _parts(
        first, last, state, velocity, plan, factors, batches, first_step, moves, slots, key_0,
        key_1, table,
    )  # fmt: skip


@kernel()
def advance_velocity_parts(
    first, last, state, velocity, plan, factors, batches, first_step, moves, slots, key_0, key_1,
    table,
):  # fmt: skip
    """Do as `advance_parts`, with a velocity."""
    _velocity_parts(
        first, last, state, velocity, plan, factors, batches, first_step, moves, slots, key_0,
        key_1, table,
    )  # fmt: skip


@kernel()
def add_parts(plan, table, out):
    """Set rows of both bands to the sums of all parts, added in their order."""
    out[:] = 0.0
    for p in range(plan.parts.shape[0]):
        band = plan.parts[p, BAND]
        for t in range(out.shape[0]):
            for column in range(out.shape[2]):
                out[t, band, column] += table[p, t, column]


# --- The sums of a state -------------------------------------------------------------------------


def make_sum_block(has_velocity, is_batch):
    """Build what adds the sums of a block's state to a row."""
    sum_state = make_sum(has_velocity, is_batch)

    @inlined
    def sum_block(planes, plan, b, row):
        _, groups = groups_of(plan.blocks, b, plan.first_group)
        c = coefficients_of(planes.state, plan.blocks, b, planes.edges)
        v = coefficients_of(planes.velocity, plan.blocks, b, planes.velocity_edges)
        lam = block_values(plan.blocks[b, LAM], plan.lam, plan.shared)
        std = block_values(plan.blocks[b, STD], plan.std, plan.shared)
        sum_state(plan.blocks[b, KIND], c, v, lam, std, groups, plan.moment_weights[b], row)

    return sum_block


def _make_sum_parts(has_velocity):
    """Build the loop of sums over parts."""
    sum_block = make_sum_block(has_velocity, False)
    take_planes, _ = make_planes(has_velocity)

    @inlined
    def sum_parts(state, velocity, plan, table):
        planes = take_planes(state, velocity, plan)
        for p in range(plan.parts.shape[0]):
            for b in range(plan.parts[p, FIRST], plan.parts[p, LAST]):
                sum_block(planes, plan, b, table[p, 0])

    return sum_parts


_sum_parts = _make_sum_parts(False)
_sum_velocity_parts = _make_sum_parts(True)


@kernel()
def sum_parts(state, velocity, plan, table):
    """Add the sums of ``state`` to ``table[p, 0]`` for every part p."""
    _sum_parts(state, velocity, plan, table)


@kernel()
def sum_velocity_parts(state, velocity, plan, table):
    """Do as `sum_parts`, with a velocity."""
    _sum_velocity_parts(state, velocity, plan, table)
