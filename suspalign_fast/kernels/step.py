"""SGD steps on eigen-coefficients, with the power sums of every recorded step."""

import numba
import numpy as np

from ..physics.layout import NOISY_AT, NUM_BANDS, NUM_NOISY, ROW_SIZE, WEIGHT_AT
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
    STOP,
    Plan,
    block_values,
    coefficients_of,
    groups_of,
    load_edges,
    return_edges,
)
from .jit import copy_values, inlined, internal, kernel
from .loops import (
    TILE,
    make_work,
    observe_block,
    scratch_of,
    share_of,
    step_once,
    step_tile,
    sum_block,
)
from .normals import BATCH, GROUP, make_scratch, write_normals
from .rules import copy_row, finish_step, is_finite
from .sums import DRIFT, NUM_PARTS, SPREAD, set_move

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


@kernel()
def advance_parts(first, last, state, plan, first_step, moves, slots, key_0, key_1, table):
    """Apply SGD steps of known moves, shape (steps, bands, 2), to some of the parts, in place.

    ``table[p, slots[t]]`` receives the sums of part p after step ``first_step + t`` wherever
    ``slots[t] >= 0``, for the parts ``first ... last - 1``.
    """
    work = make_work(state, plan, 1, key_0, key_1)
    scratch = scratch_of(work, 0)
    edges = work.edges
    a = work.moves[0, 0]
    b = work.moves[0, 1]
    normals = work.normals[0]
    sums = np.empty((min(SUBSTEPS, moves.shape[0]), ROW_SIZE))
    for begin in range(0, moves.shape[0], SUBSTEPS):
        end = min(moves.shape[0], begin + SUBSTEPS)
        for p in range(first, last):
            sums[:] = 0.0
            for block in range(plan.parts[p, FIRST], plan.parts[p, LAST]):
                _advance_block(
                    state, plan, block, plan.parts[p, BAND], first_step + begin, moves[begin:end],
                    slots[begin:end], scratch, edges, a, b, normals, sums,
                )  # fmt: skip
            for t in range(begin, end):
                if slots[t] >= 0:
                    copy_values(table[p, slots[t]], 0, sums[t - begin], 0, ROW_SIZE)
    return_edges(edges, state, plan, plan.parts[first, FIRST], plan.parts[last - 1, LAST])


@kernel()
def add_parts(plan, table, out):
    """Set rows of both bands to the sums of all parts, added in their order."""
    out[:] = 0.0
    for p in range(plan.parts.shape[0]):
        band = plan.parts[p, BAND]
        for t in range(out.shape[0]):
            for column in range(out.shape[2]):
                out[t, band, column] += table[p, t, column]


@internal()
def advance_share(worker, workers, state, plan, step, moves, work, table):
    """Apply the step after `step` to a worker's share of the parts; their sums go to ``table``."""
    first, last = share_of(worker, workers, plan)
    scratch = scratch_of(work, worker)
    normals = work.normals[worker]
    for p in range(first, last):
        table[p] = 0.0
        band = plan.parts[p, BAND]
        for block in range(plan.parts[p, FIRST], plan.parts[p, LAST]):
            first_group, groups = groups_of(plan, block)
            write_normals(normals, 0, first_group, groups, domains.STEP, step, scratch)
            step_once(
                plan.blocks[block, KIND], coefficients_of(state, plan, block, work.edges),
                block_values(plan.blocks[block, LAM], plan.lam, plan.shared),
                block_values(plan.blocks[block, STD], plan.std, plan.shared),
                moves[0, band, DRIFT], moves[0, band, SPREAD], normals, groups,
                plan.moment_weights[block], table[p, 0],
            )  # fmt: skip


@internal()
def advance_alone(workers, state, plan, step, moves, work, table):
    """Apply a step to all parts."""
    advance_share(0, 1, state, plan, step, moves, work, table)


@internal(parallel=True)
def advance_together(workers, state, plan, step, moves, work, table):
    """Apply a step to all parts, shared among workers."""
    for worker in numba.prange(workers):
        advance_share(worker, workers, state, plan, step, moves, work, table)


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
                normals, groups, table[p, 0],
            )  # fmt: skip


@internal()
def observe_alone(workers, state, plan, step, work, table):
    """Sums of the noisy gradient over all parts."""
    observe_share(0, 1, state, plan, step, work, table)


@internal(parallel=True)
def observe_together(workers, state, plan, step, work, table):
    """Sums of the noisy gradient over all parts, shared among workers."""
    for worker in numba.prange(workers):
        observe_share(worker, workers, state, plan, step, work, table)


@kernel()
def observe(state, plan, step, key_0, key_1, out):
    """Write ``sum lambda^p h^2``, p = 0, 1, 2, of the noisy gradient of a step to ``out``."""
    table = np.empty((plan.parts.shape[0], 1, NUM_NOISY))
    row = np.empty((1, NUM_BANDS, NUM_NOISY))
    observe_share(0, 1, state, plan, step, make_work(state, plan, 1, key_0, key_1), table)
    add_parts(plan, table, row)
    copy_row(out, row[0])


@inlined
def _adaptive(
    advance, observe, workers, state, plan, first_step, num_steps, ruling, record, key_0, key_1
):
    table = np.empty((plan.parts.shape[0], 1, ROW_SIZE))
    observed = np.empty((plan.parts.shape[0], 1, NUM_NOISY))
    work = make_work(state, plan, workers, key_0, key_1)
    moves = np.empty((1, NUM_BANDS, NUM_PARTS))
    row = np.empty((1, NUM_BANDS, ROW_SIZE))
    # Taken apart once: every look into a tuple counts references.
    rule, observes, memory, sums, step_size, weights = ruling
    wanted, out, out_steps, out_sizes = record
    noisy = np.empty((1, NUM_BANDS, NUM_NOISY))
    rows = 0
    done = 0
    good = True
    while good and done < num_steps:
        set_move(moves, 0, step_size[0], weights)
        advance(workers, state, plan, first_step + done, moves, work, table)
        add_parts(plan, table, row)
        done += 1
        if observes and is_finite(row[0]):
            observe(workers, state, plan, first_step + done, work, observed)
            add_parts(plan, observed, noisy)
            copy_row(sums[:, NOISY_AT:WEIGHT_AT], noisy[0])
        good, rows = finish_step(
            first_step + done, row[0], rule, memory, sums, step_size, wanted, rows, out, out_steps,
            out_sizes,
        )  # fmt: skip
    return_edges(work.edges, state, plan, 0, plan.blocks.shape[0])
    return done, rows


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
    return _adaptive(
        advance_alone, observe_alone, 1, state, plan, first_step, num_steps, ruling, record,
        key_0, key_1,
    )  # fmt: skip


@kernel()
def advance_adaptive_in_threads(state, plan, first_step, num_steps, ruling, record, key_0, key_1):
    """Do as `advance_adaptive`, the parts shared among threads."""
    return _adaptive(
        advance_together, observe_together, min(plan.threads, plan.parts.shape[0]), state, plan,
        first_step, num_steps, ruling, record, key_0, key_1,
    )  # fmt: skip


@kernel()
def sum_parts(state, plan, table):
    """Add the sums of ``state`` to ``table[p, 0]`` for every part p."""
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


# --- Steps under a rule of a problem with one block a band: all is looked up once, not every
# step.
#
# Both blocks take their normals from one buffer, and where the rule observes the noisy gradient of
# a step, the step takes the normals that the rule has seen. The numbers are those of
# ``advance_adaptive``.


def is_small(plan: Plan) -> bool:
    """Whether there is one block a band, and one buffer holds the normals of both."""
    return bool(plan.blocks.shape[0] == NUM_BANDS and plan.blocks[1, STOP] <= BATCH * GROUP)


@inlined
def _block(state, plan, b, edges, normals):
    """What a step needs of a block: kind, coefficients, lambda, s, normals, groups, weights."""
    first, groups = groups_of(plan, b)
    return (
        plan.blocks[b, KIND],
        coefficients_of(state, plan, b, edges),
        block_values(plan.blocks[b, LAM], plan.lam, plan.shared),
        block_values(plan.blocks[b, STD], plan.std, plan.shared),
        normals[GROUP * first :],
        groups,
        plan.moment_weights[b],
    )


@kernel()
def advance_small(state, plan, first_step, num_steps, ruling, record, key_0, key_1):
    """Apply steps whose sizes a rule chooses; as ``advance_adaptive``."""
    edges = load_edges(state, plan)
    scratch = make_scratch(key_0, key_1)
    rule, observes, memory, sums, step_size, weights = ruling
    wanted, out, out_steps, out_sizes = record
    normals = np.empty((BATCH + 1) * GROUP, np.float32)
    kind_d, c_d, lam_d, std_d, normals_d, groups_d, moments_d = _block(
        state, plan, 0, edges, normals
    )
    kind_b, c_b, lam_b, std_b, normals_b, groups_b, moments_b = _block(
        state, plan, 1, edges, normals
    )
    groups = (plan.blocks[1, STOP] - 1) // GROUP + 1
    moves = np.empty((1, NUM_BANDS, NUM_PARTS))
    row = np.empty((NUM_BANDS, ROW_SIZE))
    row_d, row_b = row[0], row[1]
    noisy = sums[:, NOISY_AT : NOISY_AT + NUM_NOISY]
    noisy_d, noisy_b = noisy[0], noisy[1]
    are_drawn = False
    rows = 0
    done = 0
    good = True
    while good and done < num_steps:
        if not are_drawn:
            write_normals(normals, 0, 0, groups, domains.STEP, first_step + done, scratch)
        set_move(moves, 0, step_size[0], weights)
        row[:] = 0.0
        step_once(
            kind_d, c_d, lam_d, std_d, moves[0, 0, DRIFT], moves[0, 0, SPREAD], normals_d,
            groups_d, moments_d, row_d,
        )  # fmt: skip
        step_once(
            kind_b, c_b, lam_b, std_b, moves[0, 1, DRIFT], moves[0, 1, SPREAD], normals_b,
            groups_b, moments_b, row_b,
        )  # fmt: skip
        done += 1
        are_drawn = False
        if observes and is_finite(row):
            write_normals(normals, 0, 0, groups, domains.STEP, first_step + done, scratch)
            are_drawn = True
            noisy[:] = 0.0
            observe_block(c_d, lam_d, std_d, normals_d, groups_d, noisy_d)
            observe_block(c_b, lam_b, std_b, normals_b, groups_b, noisy_b)
        good, rows = finish_step(
            first_step + done, row, rule, memory, sums, step_size, wanted, rows, out, out_steps,
            out_sizes,
        )  # fmt: skip
    return_edges(edges, state, plan, 0, NUM_BANDS)
    return done, rows
