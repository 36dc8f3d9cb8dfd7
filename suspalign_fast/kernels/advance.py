"""SGD steps on eigen-coefficients, with the power sums of every recorded step."""

import numba
import numpy as np

from .block import step_block, sum_block
from .jit import inlined, kernel
from .normals import GROUP
from .plan import BAND, BLOCK, EDGE, FIRST, KIND, LAM, LAST, ROW, START, STD, STOP

#: Steps applied to a block while it is in cache.
SUBSTEPS = 64
#: Up to this many parts threads cost more than they bring.
SERIAL_PARTS = 3


@inlined
def _values(where, everywhere, shared):
    """Values of a block: in place, or shared."""
    if where >= 0:
        return everywhere[where : where + BLOCK]
    return shared[-1 - where : -1 - where + BLOCK]


@kernel()
def advance_part(
    state, plan, first_block, last_block, first_step, step_sizes, weight, slots, key_0, key_1, table
):
    """Apply steps to the blocks of a part; sums of steps with ``slots >= 0`` go to ``table``."""
    table[:] = 0.0
    buffer = np.zeros(BLOCK)
    for b in range(first_block, last_block):
        start = plan.blocks[b, START]
        stop = plan.blocks[b, STOP]
        kind = plan.blocks[b, KIND]
        edge = plan.blocks[b, EDGE] != 0
        first_group = start // GROUP
        groups = (stop - 1) // GROUP + 1 - first_group
        lane = start - GROUP * first_group
        lam = _values(plan.blocks[b, LAM], plan.lam, plan.shared)
        std = _values(plan.blocks[b, STD], plan.std, plan.shared)
        c = state[start:stop]
        if edge:
            buffer[:] = 0.0
            buffer[lane : lane + stop - start] = c
            c = buffer
        for t in range(step_sizes.size):
            step_block(
                kind if slots[t] >= 0 else -1, c, lam, std, first_group, groups,
                first_step + t, -(weight * step_sizes[t]), key_0, key_1, plan.weights[b], table[t],
            )  # fmt: skip
        if edge:
            state[start:stop] = buffer[lane : lane + stop - start]


@kernel(parallel=True)
def advance_parts(
    state, plan, first_step, step_sizes, weights, slots, key_0, key_1, table
):
    """Apply steps to all parts, in parallel where there are enough of them."""
    parts = plan.parts
    if parts.shape[0] <= SERIAL_PARTS:
        for p in range(parts.shape[0]):
            advance_part(
                state, plan, parts[p, FIRST], parts[p, LAST], first_step, step_sizes,
                weights[parts[p, BAND]], slots, key_0, key_1, table[p],
            )  # fmt: skip
    else:
        for p in numba.prange(parts.shape[0]):
            advance_part(
                state, plan, parts[p, FIRST], parts[p, LAST], first_step, step_sizes,
                weights[parts[p, BAND]], slots, key_0, key_1, table[p],
            )  # fmt: skip


@inlined
def _add_parts(plan, table, t, out):
    """Sums of both bands at substep t, parts added in their order."""
    out[:] = 0.0
    for p in range(plan.parts.shape[0]):
        for column in range(ROW):
            out[plan.parts[p, BAND], column] += table[p, t, column]


@kernel()
def advance_scheduled(
    state, plan, first_step, step_sizes, weights, slots, key_0, key_1, out
):
    """Apply SGD steps of known sizes in place.

    ``out[slots[t], band]`` receives the sums of the state after step ``first_step + t`` wherever
    ``slots[t] >= 0``.
    """
    table = np.empty((plan.parts.shape[0], min(SUBSTEPS, step_sizes.size), ROW))
    for begin in range(0, step_sizes.size, SUBSTEPS):
        end = min(step_sizes.size, begin + SUBSTEPS)
        advance_parts(
            state, plan, first_step + begin, step_sizes[begin:end], weights, slots[begin:end],
            key_0, key_1, table,
        )  # fmt: skip
        for t in range(begin, end):
            if slots[t] >= 0:
                _add_parts(plan, table, t - begin, out[slots[t]])


@kernel()
def sum_state(state, plan, out):
    """Write the sums of both bands of ``state`` to ``out``."""
    table = np.zeros((plan.parts.shape[0], 1, ROW))
    buffer = np.zeros(BLOCK)
    for p in range(plan.parts.shape[0]):
        for b in range(plan.parts[p, FIRST], plan.parts[p, LAST]):
            start = plan.blocks[b, START]
            stop = plan.blocks[b, STOP]
            first_group = start // GROUP
            lane = start - GROUP * first_group
            buffer[:] = 0.0
            buffer[lane : lane + stop - start] = state[start:stop]
            sum_block(
                plan.blocks[b, KIND], buffer,
                _values(plan.blocks[b, LAM], plan.lam, plan.shared),
                _values(plan.blocks[b, STD], plan.std, plan.shared),
                (stop - 1) // GROUP + 1 - first_group, plan.weights[b], table[p, 0],
            )  # fmt: skip
    _add_parts(plan, table, 0, out)
