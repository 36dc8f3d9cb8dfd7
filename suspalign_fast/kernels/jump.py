"""One Gaussian move a recorded row: ``c <- a c + b xi`` for every coordinate."""

import numba
import numpy as np

from .advance import SUBSTEPS, add_parts, block_values, load_block
from .batch import make_scratch, write_normals
from .block import jump_block
from .jit import copy_values, inlined, kernel
from .normals import GROUP, JUMP_DOMAIN
from .plan import BLOCK, EDGE, FIRST, KIND, LAM, LAST, ROW, START, STD, STOP


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


@kernel()
def jump_part(state, plan, first_block, last_block, a, b, level_ends, steps, key_0, key_1, table):
    """Move the blocks of a part to each of ``steps`` in turn; row sums go to ``table``.

    ``a`` and ``b`` have one row for every move, or a single row for all.
    """
    table[:] = 0.0
    buffer = np.zeros(BLOCK, state.dtype)
    a_buffer = np.zeros(BLOCK)
    b_buffer = np.zeros(BLOCK)
    normals = np.empty(BLOCK, np.float32)
    scratch = make_scratch(key_0, key_1)
    for block in range(first_block, last_block):
        start = plan.blocks[block, START]
        stop = plan.blocks[block, STOP]
        edge = plan.blocks[block, EDGE] != 0
        first_group = start // GROUP
        groups = (stop - 1) // GROUP + 1 - first_group
        lane = start - GROUP * first_group
        lam = block_values(plan.blocks[block, LAM], plan.lam, plan.shared)
        std = block_values(plan.blocks[block, STD], plan.std, plan.shared)
        c = state[start:stop]
        if edge:
            load_block(buffer, state, plan, block)
            a_buffer[:] = 0.0
            b_buffer[:] = 0.0
            c = buffer
        for t in range(steps.size):
            if t < a.shape[0]:
                _spread(a[t], level_ends, start, stop, lane, a_buffer)
                _spread(b[t], level_ends, start, stop, lane, b_buffer)
            write_normals(normals, 0, first_group, groups, JUMP_DOMAIN, steps[t], scratch)
            jump_block(
                plan.blocks[block, KIND], c, a_buffer, b_buffer, lam, std, normals, groups,
                plan.weights[block], table[t],
            )  # fmt: skip
        if edge:
            copy_values(state, start, buffer, lane, stop - start)


@kernel(parallel=True)
def jump_rows(state, plan, a, b, level_ends, steps, key_0, key_1, out):
    """Move the state to each of ``steps`` in turn and write the row sums to ``out``."""
    parts = plan.parts
    table = np.empty((parts.shape[0], min(SUBSTEPS, steps.size), ROW))
    for begin in range(0, steps.size, SUBSTEPS):
        end = min(steps.size, begin + SUBSTEPS)
        a_now = a if a.shape[0] == 1 else a[begin:end]
        b_now = b if b.shape[0] == 1 else b[begin:end]
        if parts.shape[0] <= plan.serial_parts:
            for p in range(parts.shape[0]):
                jump_part(
                    state, plan, parts[p, FIRST], parts[p, LAST], a_now, b_now, level_ends,
                    steps[begin:end], key_0, key_1, table[p],
                )  # fmt: skip
        else:
            for p in numba.prange(parts.shape[0]):
                jump_part(
                    state, plan, parts[p, FIRST], parts[p, LAST], a_now, b_now, level_ends,
                    steps[begin:end], key_0, key_1, table[p],
                )  # fmt: skip
        for t in range(end - begin):
            add_parts(plan, table, t, out[begin + t])
