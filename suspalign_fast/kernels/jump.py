"""One Gaussian move a recorded row: ``c <- a c + b xi`` for every coordinate."""

import numba
import numpy as np

from .advance import SERIAL_PARTS, SUBSTEPS, add_parts, block_values, load_block
from .block import LANES, SUM_WAYS
from .jit import inlined, kernel
from .normals import COUNTERS, GROUP, JUMP_DOMAIN, group_normals
from .plan import BLOCK, EDGE, EQUAL, FIRST, KIND, LAM, LAST, NARROW, ROW, START, STD, STOP
from .simd import fma, load, lower_half, store, to_double, upper_half


def _make_jump(empty, add, commit):
    """Build the loop that moves a block and adds up its new state."""

    @inlined
    def jump_lanes(c, a, b, lam, std, i, xi, weights, sums):
        c_i = fma(load(a, i, LANES), load(c, i, LANES), load(b, i, LANES) * xi)
        store(c, i, c_i)
        return add(sums, c_i, load(lam, i, LANES), load(std, i, LANES), weights)

    @inlined
    def jump_word(c, a, b, lam, std, i, z, weights, sums):
        sums = jump_lanes(c, a, b, lam, std, i, to_double(lower_half(z)), weights, sums)
        i += LANES
        return jump_lanes(c, a, b, lam, std, i, to_double(upper_half(z)), weights, sums)

    @inlined
    def jump_block(c, a, b, lam, std, first_group, groups, step, key_0, key_1, weights, row):
        sums = empty(weights)
        for group in range(groups):
            z0, z1, z2, z3 = group_normals(first_group + group, JUMP_DOMAIN, step, key_0, key_1)
            i = GROUP * group
            sums = jump_word(c, a, b, lam, std, i, z0, weights, sums)
            sums = jump_word(c, a, b, lam, std, i + COUNTERS, z1, weights, sums)
            sums = jump_word(c, a, b, lam, std, i + 2 * COUNTERS, z2, weights, sums)
            sums = jump_word(c, a, b, lam, std, i + 3 * COUNTERS, z3, weights, sums)
        commit(sums, weights, row)

    return jump_block


_jump_direct, _jump_narrow, _jump_equal = (_make_jump(*way) for way in SUM_WAYS)


@inlined
def _jump_block(kind, c, a, b, lam, std, first_group, groups, step, key_0, key_1, weights, row):
    if kind == EQUAL:
        _jump_equal(c, a, b, lam, std, first_group, groups, step, key_0, key_1, weights, row)
    elif kind == NARROW:
        _jump_narrow(c, a, b, lam, std, first_group, groups, step, key_0, key_1, weights, row)
    else:
        _jump_direct(c, a, b, lam, std, first_group, groups, step, key_0, key_1, weights, row)


@inlined
def _spread(values, level_ends, start, stop, lane, buffer):
    """Copy the values of coordinates ``start ... stop - 1`` to a buffer from ``lane`` on."""
    if level_ends.size == 0:
        buffer[lane : lane + stop - start] = values[start:stop]
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
    buffer = np.zeros(BLOCK)
    a_buffer = np.zeros(BLOCK)
    b_buffer = np.zeros(BLOCK)
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
            _jump_block(
                plan.blocks[block, KIND], c, a_buffer, b_buffer, lam, std, first_group, groups,
                steps[t], key_0, key_1, plan.weights[block], table[t],
            )  # fmt: skip
        if edge:
            state[start:stop] = buffer[lane : lane + stop - start]


@kernel(parallel=True)
def jump_rows(state, plan, a, b, level_ends, steps, key_0, key_1, out):
    """Move the state to each of ``steps`` in turn and write the row sums to ``out``."""
    parts = plan.parts
    table = np.empty((parts.shape[0], min(SUBSTEPS, steps.size), ROW))
    for begin in range(0, steps.size, SUBSTEPS):
        end = min(steps.size, begin + SUBSTEPS)
        a_now = a if a.shape[0] == 1 else a[begin:end]
        b_now = b if b.shape[0] == 1 else b[begin:end]
        if parts.shape[0] <= SERIAL_PARTS:
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
