"""One Gaussian move a recorded row: ``c <- a c + b xi`` for every coordinate."""

import numba
import numpy as np

from ..row import ROW_SIZE
from . import domains
from .advance import SUBSTEPS, add_parts
from .batch import write_normals
from .block import jump_block
from .edges import block_values, coefficients_of, groups_of, return_edges
from .jit import copy_values, inlined, internal, kernel
from .normals import GROUP
from .plan import EDGE, FIRST, KIND, LAM, LAST, START, STD, STOP
from .work import count_workers, make_work, scratch_of, share_of


@inlined
def _spread(values, level_ends, start, stop, lane, buffer):
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
def _jump_block(state, plan, b, a_rows, b_rows, level_ends, steps, work, worker, table):
    start = plan.blocks[b, START]
    stop = plan.blocks[b, STOP]
    lane = start % GROUP
    first_group, groups = groups_of(plan, b)
    lam = block_values(plan.blocks[b, LAM], plan.lam, plan.shared)
    std = block_values(plan.blocks[b, STD], plan.std, plan.shared)
    c = coefficients_of(state, plan, b, work.edges)
    a = work.moves[worker, 0]
    spread = work.moves[worker, 1]
    scratch = scratch_of(work, worker)
    if plan.blocks[b, EDGE] != 0:
        a[:] = 0.0
        spread[:] = 0.0
    for t in range(steps.size):
        if t < a_rows.shape[0]:
            _spread(a_rows[t], level_ends, start, stop, lane, a)
            _spread(b_rows[t], level_ends, start, stop, lane, spread)
        write_normals(work.normals[worker], 0, first_group, groups, domains.JUMP, steps[t], scratch)
        jump_block(
            plan.blocks[b, KIND], c, a, spread, lam, std, work.normals[worker], groups,
            plan.moment_weights[b], table[t],
        )  # fmt: skip


@internal()
def jump_share(worker, workers, state, plan, a, b, level_ends, steps, work, table):
    """Move a worker's share of the parts to each of ``steps`` in turn; sums go to ``table``.

    ``a`` and ``b`` have one row for every move, or a single row for all.
    """
    first, last = share_of(worker, workers, plan)
    for p in range(first, last):
        table[p] = 0.0
        for block in range(plan.parts[p, FIRST], plan.parts[p, LAST]):
            _jump_block(state, plan, block, a, b, level_ends, steps, work, worker, table[p])


@internal(parallel=True)
def jump_parts(workers, state, plan, a, b, level_ends, steps, work, table):
    """Move all parts, shared among workers."""
    if workers == 1:
        jump_share(0, 1, state, plan, a, b, level_ends, steps, work, table)
    else:
        for worker in numba.prange(workers):
            jump_share(worker, workers, state, plan, a, b, level_ends, steps, work, table)


@kernel()
def jump_rows(state, plan, level_ends, a, b, steps, key_0, key_1, out):
    """Move the state to each of ``steps`` in turn and write the row sums to ``out``."""
    table = np.empty((plan.parts.shape[0], min(SUBSTEPS, steps.size), ROW_SIZE))
    work = make_work(state, plan, key_0, key_1)
    for begin in range(0, steps.size, SUBSTEPS):
        end = min(steps.size, begin + SUBSTEPS)
        a_now = a if a.shape[0] == 1 else a[begin:end]
        b_now = b if b.shape[0] == 1 else b[begin:end]
        workers = count_workers(plan, end - begin)
        jump_parts(workers, state, plan, a_now, b_now, level_ends, steps[begin:end], work, table)
        for t in range(end - begin):
            add_parts(plan, table, t, out[begin + t])
    return_edges(work.edges, state, plan)
