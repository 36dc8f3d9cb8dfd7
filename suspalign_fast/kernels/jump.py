"""One Gaussian move a recorded row: ``c <- a c + b xi`` for every coordinate."""

import numpy as np

from . import domains
from .advance import SUBSTEPS
from .batch import write_normals
from .block import jump_block
from .edges import block_values, coefficients_of, groups_of, return_edges
from .jit import copy_values, inlined, kernel
from .normals import GROUP
from .plan import BAND, BLOCK, EDGE, FIRST, KIND, LAM, LAST, START, STD, STOP
from .powers import moves_of_size, set_gains
from .work import make_work, scratch_of


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
