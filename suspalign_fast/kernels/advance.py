"""SGD steps on eigen-coefficients, with the power sums of every recorded step."""

import numba
import numpy as np

from ..row import NOISY_AT, NUM_BANDS, NUM_NOISY, ROW_SIZE, WEIGHT_AT
from . import domains
from .batch import make_scratch, write_normals
from .block import TILE, observe_block, step_once, step_tile, sum_block
from .edges import block_values, coefficients_of, groups_of, load_edges, return_edges
from .jit import inlined, internal, kernel
from .move import DRIFT, NUM_PARTS, SPREAD, set_move
from .plan import BAND, BLOCK, EQUAL, FIRST, KIND, LAM, LAST, STD
from .rules import finish_step, is_finite
from .small import advance_small, is_small
from .work import count_workers, make_work, scratch_of, share_of

#: Steps applied to a block while it is in cache.
SUBSTEPS = 64


@inlined
def is_tile(moves, t, band):
    """Whether TILE equal moves of a band follow."""
    if t + TILE > moves.shape[0]:
        return False
    same = True
    for i in range(1, TILE):
        same &= moves[t + i, band, DRIFT] == moves[t, band, DRIFT]
        same &= moves[t + i, band, SPREAD] == moves[t, band, SPREAD]
    return same


@inlined
def set_factors(a, b, lam, std, drift, spread):
    """Set the factors of coefficient and normal in one move."""
    for i in range(BLOCK):
        a[i] = drift * lam[i]
        b[i] = spread * std[i]


@inlined
def _advance_block(
    state, plan, block, band, first_step, moves, slots, scratch, edges, a, b, normals, table
):
    first_group, groups = groups_of(plan, block)
    lam = block_values(plan.blocks[block, LAM], plan.lam, plan.shared)
    std = block_values(plan.blocks[block, STD], plan.std, plan.shared)
    c = coefficients_of(state, plan, block, edges)
    drift = np.nan
    spread = np.nan
    t = 0
    while t < moves.shape[0]:
        length = TILE if is_tile(moves, t, band) else 1
        # Sums that nobody wants are taken in the cheapest way.
        kind = EQUAL
        for i in range(length):
            if slots[t + i] >= 0:
                kind = plan.blocks[block, KIND]
            write_normals(
                normals,
                i * BLOCK,
                first_group,
                groups,
                domains.STEP,
                first_step + t + i,
                scratch,
            )
        if length == TILE:
            if drift != moves[t, band, DRIFT] or spread != moves[t, band, SPREAD]:
                drift = moves[t, band, DRIFT]
                spread = moves[t, band, SPREAD]
                set_factors(a, b, lam, std, drift, spread)
            step_tile(
                kind, c, lam, std, a, b, normals, groups, plan.moment_weights[block],
                table[t : t + TILE],
            )  # fmt: skip
        else:
            step_once(
                kind, c, lam, std, moves[t, band, DRIFT], moves[t, band, SPREAD], normals, groups,
                plan.moment_weights[block], table[t],
            )  # fmt: skip
        t += length


@internal()
def advance_share(worker, workers, state, plan, first_step, moves, slots, work, table):
    """Apply steps to a worker's share of the parts.

    Sums of part ``p`` at steps with ``slots >= 0`` go to ``table[p]``.
    """
    first, last = share_of(worker, workers, plan)
    scratch = scratch_of(work, worker)
    edges = work.edges
    a = work.moves[worker, 0]
    b = work.moves[worker, 1]
    normals = work.normals[worker]
    for p in range(first, last):
        table[p] = 0.0
        for block in range(plan.parts[p, FIRST], plan.parts[p, LAST]):
            _advance_block(
                state, plan, block, plan.parts[p, BAND], first_step, moves, slots, scratch, edges,
                a, b, normals, table[p],
            )  # fmt: skip


@internal(parallel=True)
def advance_parts(workers, state, plan, first_step, moves, slots, work, table):
    """Apply steps to all parts, shared among workers."""
    if workers == 1:
        advance_share(0, 1, state, plan, first_step, moves, slots, work, table)
    else:
        for worker in numba.prange(workers):
            advance_share(worker, workers, state, plan, first_step, moves, slots, work, table)


@inlined
def add_parts(plan, table, t, out):
    """Sums of both bands at substep t, parts added in their order."""
    out[:] = 0.0
    for p in range(plan.parts.shape[0]):
        for column in range(ROW_SIZE):
            out[plan.parts[p, BAND], column] += table[p, t, column]


@kernel()
def advance_known(state, plan, first_step, moves, slots, key_0, key_1, out):
    """Apply SGD steps of known moves, shape (steps, bands, 2), in place.

    ``out[slots[t], band]`` receives the sums of the state after step ``first_step + t`` wherever
    ``slots[t] >= 0``.
    """
    table = np.empty((plan.parts.shape[0], min(SUBSTEPS, moves.shape[0]), ROW_SIZE))
    work = make_work(state, plan, key_0, key_1)
    for begin in range(0, moves.shape[0], SUBSTEPS):
        end = min(moves.shape[0], begin + SUBSTEPS)
        advance_parts(
            count_workers(plan, end - begin), state, plan, first_step + begin,
            moves[begin:end], slots[begin:end], work, table,
        )  # fmt: skip
        for t in range(begin, end):
            if slots[t] >= 0:
                add_parts(plan, table, t - begin, out[slots[t]])
    return_edges(work.edges, state, plan)


@internal()
def observe_share(worker, workers, state, plan, step, work, table):
    """Sums of the noisy gradient over a worker's share of the parts."""
    first, last = share_of(worker, workers, plan)
    scratch = scratch_of(work, worker)
    normals = work.normals[worker]
    for p in range(first, last):
        table[p] = 0.0
        for b in range(plan.parts[p, FIRST], plan.parts[p, LAST]):
            first_group, groups = groups_of(plan, b)
            write_normals(normals, 0, first_group, groups, domains.STEP, step, scratch)
            observe_block(
                coefficients_of(state, plan, b, work.edges),
                block_values(plan.blocks[b, LAM], plan.lam, plan.shared),
                block_values(plan.blocks[b, STD], plan.std, plan.shared),
                normals, groups, table[p],
            )  # fmt: skip


@internal(parallel=True)
def observe_parts(workers, state, plan, step, work, table):
    """Sums of the noisy gradient over all parts, shared among workers."""
    if workers == 1:
        observe_share(0, 1, state, plan, step, work, table)
    else:
        for worker in numba.prange(workers):
            observe_share(worker, workers, state, plan, step, work, table)


@inlined
def _observe(state, plan, step, work, table, out):
    observe_parts(count_workers(plan, 1), state, plan, step, work, table)
    out[:] = 0.0
    for p in range(plan.parts.shape[0]):
        for column in range(NUM_NOISY):
            out[plan.parts[p, BAND], column] += table[p, column]


@kernel()
def observe(state, plan, step, key_0, key_1, out):
    """Write ``sum lambda^p h^2``, p = 0, 1, 2, of the noisy gradient of a step to ``out``."""
    table = np.empty((plan.parts.shape[0], NUM_NOISY))
    _observe(state, plan, step, make_work(state, plan, key_0, key_1), table, out)


@kernel()
def advance_adaptive(state, plan, first_step, num_steps, ruling, record, key_0, key_1):
    """Apply SGD steps whose sizes a rule chooses from the row, in place.

    What changes from step to step in the `Ruling` is kept up to date; rows go to the `Record`.
    Stops early after a step whose sums are not finite or whose next size is not.

    Returns
    -------
    tuple of int
        Steps done and rows recorded.
    """
    if is_small(plan):
        return advance_small(
            state, plan, first_step, num_steps, ruling, record, load_edges(state, plan),
            make_scratch(key_0, key_1),
        )  # fmt: skip
    table = np.empty((plan.parts.shape[0], 1, ROW_SIZE))
    observed = np.empty((plan.parts.shape[0], NUM_NOISY))
    work = make_work(state, plan, key_0, key_1)
    workers = count_workers(plan, 1)
    slots = np.zeros(1, np.int64)
    moves = np.empty((1, NUM_BANDS, NUM_PARTS))
    row = np.empty((NUM_BANDS, ROW_SIZE))
    rows = 0
    # Taken apart once: every look into a tuple counts references.
    rule, observes, memory, sums, step_size, weights = ruling
    wanted, out, out_steps, out_sizes = record
    for t in range(num_steps):
        step = first_step + t + 1
        set_move(moves, 0, step_size[0], weights)
        advance_parts(workers, state, plan, step - 1, moves, slots, work, table)
        add_parts(plan, table, 0, row)
        if observes and is_finite(row):
            _observe(state, plan, step, work, observed, sums[:, NOISY_AT:WEIGHT_AT])
        good, rows = finish_step(
            step, row, rule, memory, sums, step_size, wanted, rows, out, out_steps, out_sizes
        )
        if not good:
            return_edges(work.edges, state, plan)
            return t + 1, rows
    return_edges(work.edges, state, plan)
    return num_steps, rows


@kernel()
def sum_state(state, plan, out):
    """Write the sums of both bands of ``state`` to ``out``."""
    table = np.zeros((plan.parts.shape[0], 1, ROW_SIZE))
    edges = load_edges(state, plan)
    for p in range(plan.parts.shape[0]):
        for b in range(plan.parts[p, FIRST], plan.parts[p, LAST]):
            _, groups = groups_of(plan, b)
            sum_block(
                plan.blocks[b, KIND], coefficients_of(state, plan, b, edges),
                block_values(plan.blocks[b, LAM], plan.lam, plan.shared),
                block_values(plan.blocks[b, STD], plan.std, plan.shared),
                groups, plan.moment_weights[b], table[p, 0],
            )  # fmt: skip
    add_parts(plan, table, 0, out)
