"""SGD steps on eigen-coefficients, with the power sums of every recorded step."""

import numba
import numpy as np

from .batch import make_scratch, write_normals
from .block import TILE, observe_block, step_once, step_tile, sum_block
from .jit import copy_values, inlined, kernel
from .normals import GROUP, STEP_DOMAIN
from .plan import BAND, BLOCK, EDGE, FIRST, KIND, LAM, LAST, ROW, START, STD, STOP
from .rules import NOISY, finish_step, is_finite

#: Steps applied to a block while it is in cache.
SUBSTEPS = 64


@inlined
def block_values(where, everywhere, shared):
    """Values of a block: in place, or shared."""
    if where >= 0:
        return everywhere[where : where + BLOCK]
    return shared[-1 - where : -1 - where + BLOCK]


@inlined
def load_block(buffer, state, plan, b):
    """Copy a block's state to a buffer of whole groups; return its first group and their number."""
    start = plan.blocks[b, START]
    stop = plan.blocks[b, STOP]
    first_group = start // GROUP
    lane = start - GROUP * first_group
    buffer[:] = 0.0
    copy_values(buffer, lane, state, start, stop - start)
    return first_group, (stop - 1) // GROUP + 1 - first_group


@inlined
def is_tile(step_sizes, t):
    """Whether TILE steps of one size follow."""
    if t + TILE > step_sizes.size:
        return False
    same = True
    for i in range(1, TILE):
        same &= step_sizes[t + i] == step_sizes[t]
    return same


@inlined
def set_moves(drift, spread, lam, std, minus_eta):
    """Set the factors of coefficient and normal in one step."""
    for i in range(BLOCK):
        drift[i] = minus_eta * lam[i]
        spread[i] = minus_eta * std[i]


@kernel()
def advance_part(
    state, plan, first_block, last_block, first_step, step_sizes, weight, slots, key_0, key_1, table
):
    """Apply steps to the blocks of a part; sums of steps with ``slots >= 0`` go to ``table``."""
    table[:] = 0.0
    buffer = np.zeros(BLOCK, state.dtype)
    drift = np.empty(BLOCK)
    spread = np.empty(BLOCK)
    normals = np.empty(TILE * BLOCK, np.float32)
    scratch = make_scratch(key_0, key_1)
    for b in range(first_block, last_block):
        start = plan.blocks[b, START]
        stop = plan.blocks[b, STOP]
        kind = plan.blocks[b, KIND]
        first_group = start // GROUP
        groups = (stop - 1) // GROUP + 1 - first_group
        lam = block_values(plan.blocks[b, LAM], plan.lam, plan.shared)
        std = block_values(plan.blocks[b, STD], plan.std, plan.shared)
        c = state[start:stop]
        if plan.blocks[b, EDGE] != 0:
            load_block(buffer, state, plan, b)
            c = buffer
        size = np.nan
        t = 0
        while t < step_sizes.size:
            minus_eta = -(weight * step_sizes[t])
            if is_tile(step_sizes, t):
                if size != step_sizes[t]:
                    size = step_sizes[t]
                    set_moves(drift, spread, lam, std, minus_eta)
                recorded = False
                for i in range(TILE):
                    recorded |= slots[t + i] >= 0
                    write_normals(
                        normals, i * BLOCK, first_group, groups, STEP_DOMAIN,
                        first_step + t + i, scratch,
                    )  # fmt: skip
                step_tile(
                    kind if recorded else -1, c, lam, std, drift, spread, normals, groups,
                    plan.weights[b], table[t : t + TILE],
                )  # fmt: skip
                t += TILE
            else:
                write_normals(normals, 0, first_group, groups, STEP_DOMAIN, first_step + t, scratch)
                step_once(
                    kind if slots[t] >= 0 else -1, c, lam, std, minus_eta, normals, groups,
                    plan.weights[b], table[t],
                )  # fmt: skip
                t += 1
        if plan.blocks[b, EDGE] != 0:
            lane = start - GROUP * first_group
            copy_values(state, start, buffer, lane, stop - start)


@kernel(parallel=True)
def advance_parts(state, plan, first_step, step_sizes, weights, slots, key_0, key_1, table):
    """Apply steps to all parts, in parallel where there are enough of them."""
    parts = plan.parts
    if parts.shape[0] <= plan.serial_parts:
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
def add_parts(plan, table, t, out):
    """Sums of both bands at substep t, parts added in their order."""
    out[:] = 0.0
    for p in range(plan.parts.shape[0]):
        for column in range(ROW):
            out[plan.parts[p, BAND], column] += table[p, t, column]


@kernel()
def advance_scheduled(state, plan, first_step, step_sizes, weights, slots, key_0, key_1, out):
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
                add_parts(plan, table, t - begin, out[slots[t]])


@kernel()
def _observe_part(state, plan, p, step, key_0, key_1, out):
    buffer = np.empty(BLOCK, state.dtype)
    normals = np.empty(BLOCK, np.float32)
    scratch = make_scratch(key_0, key_1)
    for b in range(plan.parts[p, FIRST], plan.parts[p, LAST]):
        first_group, groups = load_block(buffer, state, plan, b)
        write_normals(normals, 0, first_group, groups, STEP_DOMAIN, step, scratch)
        observe_block(
            buffer,
            block_values(plan.blocks[b, LAM], plan.lam, plan.shared),
            block_values(plan.blocks[b, STD], plan.std, plan.shared),
            normals, groups, out,
        )  # fmt: skip


@kernel(parallel=True)
def _observe_parts(state, plan, step, key_0, key_1, table):
    # Nothing but the loops: Numba would run every array expression here in parallel, too.
    if plan.parts.shape[0] <= plan.serial_parts:
        for p in range(plan.parts.shape[0]):
            _observe_part(state, plan, p, step, key_0, key_1, table[p])
    else:
        for p in numba.prange(plan.parts.shape[0]):
            _observe_part(state, plan, p, step, key_0, key_1, table[p])


@kernel()
def observe(state, plan, step, key_0, key_1, out):
    """Write ``sum lambda^p h^2``, p = 0, 1, 2, of the noisy gradient of a step to ``out``."""
    table = np.zeros((plan.parts.shape[0], 3))
    _observe_parts(state, plan, step, key_0, key_1, table)
    out[:] = 0.0
    for p in range(plan.parts.shape[0]):
        for column in range(3):
            out[plan.parts[p, BAND], column] += table[p, column]


@kernel()
def advance_adaptive(
    state, plan, weights, first_step, num_steps, rule, observes, memory, sums, step_size,
    recorded, key_0, key_1, out, out_steps, out_sizes,
):  # fmt: skip
    """Apply SGD steps whose sizes a rule chooses from the row, in place.

    ``sums`` is the table a rule reads, with the sums of ``state``; ``step_size[0]`` the size of
    the next step. Both and the rule's ``memory`` are kept up to date. Rows at the ``recorded``
    steps go to the three outputs. Stops early after a step whose sums are not finite or whose
    next size is not.

    Returns
    -------
    tuple of int
        Steps done and rows recorded.
    """
    table = np.empty((plan.parts.shape[0], 1, ROW))
    slots = np.zeros(1, np.int64)
    row = np.empty((2, ROW))
    rows = 0
    for t in range(num_steps):
        step = first_step + t + 1
        advance_parts(state, plan, step - 1, step_size, weights, slots, key_0, key_1, table)
        add_parts(plan, table, 0, row)
        if observes and is_finite(row):
            observe(state, plan, step, key_0, key_1, sums[:, NOISY : NOISY + 3])
        good, rows = finish_step(
            step, row, rule, memory, sums, step_size, recorded, rows, out, out_steps, out_sizes
        )
        if not good:
            return t + 1, rows
    return num_steps, rows


@kernel()
def sum_state(state, plan, out):
    """Write the sums of both bands of ``state`` to ``out``."""
    table = np.zeros((plan.parts.shape[0], 1, ROW))
    buffer = np.zeros(BLOCK, state.dtype)
    for p in range(plan.parts.shape[0]):
        for b in range(plan.parts[p, FIRST], plan.parts[p, LAST]):
            _, groups = load_block(buffer, state, plan, b)
            sum_block(
                plan.blocks[b, KIND], buffer,
                block_values(plan.blocks[b, LAM], plan.lam, plan.shared),
                block_values(plan.blocks[b, STD], plan.std, plan.shared),
                groups, plan.weights[b], table[p, 0],
            )  # fmt: skip
    add_parts(plan, table, 0, out)
