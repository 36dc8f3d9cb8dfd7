"""SGD step by step on eigen-coefficients, with the power sums of every recorded step.

With the noisy gradient ``h = lambda c + s xi`` a step is ``c <- c - eta h``; with a velocity it is
``c <- c - eta (p h + q v)`` and ``v <- beta v + h``, where p, q and beta are the factors of the
optimizer. Step sizes are known in advance, or a rule chooses each from the row before it.

Entry points take state and velocity (the state once more where there is none), the plan, the
factors, and the mini-batches (None where noise is additive).
"""

import numba
import numpy as np

from ..physics.layout import (
    CROSS_ROW_SIZE,
    NOISY_AT,
    NUM_BANDS,
    NUM_NOISY,
    ROW_SIZE,
    WEIGHT_AT,
)
from . import domains
from .batches import S1, draw_batch, draw_block, gain_of, turn_of, write_constants
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
)
from .jit import copy_values, inlined, internal, kernel
from .loops import (
    TILE,
    make_observe,
    make_planes,
    make_step,
    make_sum,
    make_work,
    numbers_for,
    share_of,
    skip_pair,
    step_tile,
)
from .normals import BATCH, GROUP, scratch_of, write_normals
from .rules import copy_row, is_finite, make_finish
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


def _make_sum_block(has_velocity, is_batch):
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
    sum_block = _make_sum_block(has_velocity, False)
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


# --- Steps under a rule: all parts take each step together ---------------------------------------

#: What a step is to all coordinates: minus its size in both bands, then the factors of a batch.
BATCH_AT = NUM_BANDS


def _make_rule_loop(has_velocity, is_batch, in_threads):
    """Build the loop of a rule, and what it observes at a state."""
    row_size = row_size_of(has_velocity)
    take_planes, return_planes = make_planes(has_velocity)
    step_block = make_step(has_velocity, is_batch)
    sum_block = _make_sum_block(has_velocity, is_batch)
    observe_block = make_observe(is_batch)
    numbers_of = numbers_for(has_velocity)
    finish_step = make_finish(has_velocity)

    @inlined
    def draw(normals, c, std, first_group, groups, step, scratch, along, b, numbers):
        """Write the normals of a block; return what its gradient has of ``lambda c``."""
        if is_batch:
            norms, xi = along
            product = draw_block(normals, c, std, first_group, groups, step, scratch)
            turn = turn_of(norms[b], np.float64(xi[b]), product)
            return gain_of(numbers[BATCH_AT], numbers[BATCH_AT + 1], turn)
        write_normals(normals, 0, first_group, groups, domains.STEP, step, scratch)
        return 1.0

    @internal()
    def advance_share(worker, workers, planes, plan, factors, step, numbers, work, table):
        """Apply the step after `step` to a worker's share of the parts; sums go to ``table``."""
        first, last = share_of(worker, workers, plan)
        # Taken apart once: every look into a tuple counts references.
        blocks, _, parts, all_lam, all_std, shared, weights, _, group_0 = plan
        state, velocity, edges, velocity_edges = planes
        normals, scratch = work.normals[worker], scratch_of(work, worker)
        rows, norms, along = work.rows, work.norms, (work.norms, work.xi)
        spread = numbers[BATCH_AT + 1] if is_batch else 1.0
        for p in range(first, last):
            total = table[p, 0]
            for column in range(row_size):
                total[column] = 0.0
            minus_eta = numbers[parts[p, BAND]]
            for b in range(parts[p, FIRST], parts[p, LAST]):
                first_group, groups = groups_of(blocks, b, group_0)
                c = coefficients_of(state, blocks, b, edges)
                v = coefficients_of(velocity, blocks, b, velocity_edges) if has_velocity else c
                lam = block_values(blocks[b, LAM], all_lam, shared)
                std = block_values(blocks[b, STD], all_std, shared)
                gain = draw(normals, c, std, first_group, groups, step, scratch, along, b, numbers)
                row = total
                if is_batch:
                    row = rows[b]
                    for column in range(row_size):
                        row[column] = 0.0
                step_block(
                    blocks[b, KIND], c, v, lam, std, numbers_of(minus_eta, gain, spread, factors),
                    normals, groups, weights[b], row,
                )  # fmt: skip
                if is_batch:
                    norms[b] = np.sqrt(row[S1])
                    for column in range(row_size):
                        total[column] += row[column]

    @internal()
    def observe_share(worker, workers, planes, plan, step, numbers, work, table):
        """Sums of the noisy gradient over a worker's share of the parts."""
        first, last = share_of(worker, workers, plan)
        blocks, _, parts, all_lam, all_std, shared, _, _, group_0 = plan
        state, edges = planes.state, planes.edges
        normals, scratch = work.normals[worker], scratch_of(work, worker)
        along = work.norms, work.xi
        spread = numbers[BATCH_AT + 1] if is_batch else 1.0
        for p in range(first, last):
            table[p] = 0.0
            for b in range(parts[p, FIRST], parts[p, LAST]):
                first_group, groups = groups_of(blocks, b, group_0)
                c = coefficients_of(state, blocks, b, edges)
                lam = block_values(blocks[b, LAM], all_lam, shared)
                std = block_values(blocks[b, STD], all_std, shared)
                gain = draw(normals, c, std, first_group, groups, step, scratch, along, b, numbers)
                observe_block(c, lam, std, gain, spread, normals, groups, table[p, 0])

    @internal(parallel=in_threads)
    def advance_all(workers, planes, plan, factors, step, numbers, work, table):
        for worker in numba.prange(workers):
            advance_share(worker, workers, planes, plan, factors, step, numbers, work, table)

    @internal(parallel=in_threads)
    def observe_all(workers, planes, plan, step, numbers, work, table):
        for worker in numba.prange(workers):
            observe_share(worker, workers, planes, plan, step, numbers, work, table)

    @inlined
    def start(workers, state, velocity, plan, step, batches, key_0, key_1):
        """Return planes, working memory and numbers; a batch is drawn at the state."""
        planes = take_planes(state, velocity, plan)
        blocks = plan.blocks.shape[0] if is_batch else 0
        work = make_work(workers, blocks, row_size, key_0, key_1)
        numbers = np.empty(NUM_BANDS + 2)
        if is_batch:
            work.rows[:] = 0.0
            for b in range(blocks):
                sum_block(planes, plan, b, work.rows[b])
                work.norms[b] = np.sqrt(work.rows[b, S1])
            draw_batch(step, work, key_0, key_1, batches, numbers[BATCH_AT:])
        return planes, work, numbers

    @inlined
    def observe(state, velocity, plan, factors, batches, step, key_0, key_1, out):
        planes, work, numbers = start(1, state, velocity, plan, step, batches, key_0, key_1)
        table = np.empty((plan.parts.shape[0], 1, NUM_NOISY))
        row = np.empty((1, NUM_BANDS, NUM_NOISY))
        observe_share(0, 1, planes, plan, step, numbers, work, table)
        add_parts(plan, table, row)
        copy_row(out, row[0])

    @inlined
    def advance(
        state, velocity, plan, factors, batches, first_step, num_steps, ruling, record, key_0, key_1
    ):
        parts = plan.parts.shape[0]
        workers = min(plan.threads, parts) if in_threads else 1
        planes, work, numbers = start(
            workers, state, velocity, plan, first_step, batches, key_0, key_1
        )
        table = np.empty((parts, 1, row_size))
        observed = np.empty((parts, 1, NUM_NOISY))
        row = np.empty((1, NUM_BANDS, row_size))
        noisy = np.empty((1, NUM_BANDS, NUM_NOISY))
        # Taken apart once: every look into a tuple counts references.
        rule, observes, memory, sums, step_size, weights = ruling
        wanted, out, out_steps, out_sizes = record
        rows = 0
        done = 0
        good = True
        while good and done < num_steps:
            for band in range(NUM_BANDS):
                numbers[band] = -(weights[band] * step_size[0])
            advance_all(workers, planes, plan, factors, first_step + done, numbers, work, table)
            add_parts(plan, table, row)
            done += 1
            step = first_step + done
            if is_batch:
                draw_batch(step, work, key_0, key_1, batches, numbers[BATCH_AT:])
                write_constants(sums, row[0], batches.size, batches.label_std, batches.traces)
            if observes and is_finite(row[0]):
                observe_all(workers, planes, plan, step, numbers, work, observed)
                add_parts(plan, observed, noisy)
                copy_row(sums[:, NOISY_AT:WEIGHT_AT], noisy[0])
            good, rows = finish_step(
                step, row[0], rule, memory, sums, step_size, wanted, rows, out, out_steps, out_sizes
            )
        return_planes(planes, plan, 0, plan.blocks.shape[0])
        return done, rows

    return advance, observe


_plain, _observe = _make_rule_loop(False, False, False)
_plain_in_threads, _ = _make_rule_loop(False, False, True)
_velocity, _ = _make_rule_loop(True, False, False)
_velocity_in_threads, _ = _make_rule_loop(True, False, True)
_batches, _observe_batch = _make_rule_loop(False, True, False)
_batches_in_threads, _ = _make_rule_loop(False, True, True)
_velocity_batches, _ = _make_rule_loop(True, True, False)
_velocity_batches_in_threads, _ = _make_rule_loop(True, True, True)


@kernel()
def advance_adaptive(*arguments):
    """Apply SGD steps whose sizes a rule chooses from the row, in place.

    ``(state, velocity, plan, factors, batches, first_step, num_steps, ruling, record, key_0,
    key_1)``. What changes from step to step in the `Ruling` is kept up to date; rows go to the
    `Record`. Stops early after a step whose sums are not finite or whose next size is not.

    Returns
    -------
    tuple of int
        Steps done and rows recorded.
    """
    return _plain(*arguments)


@kernel()
def advance_adaptive_in_threads(*arguments):
    """Do as `advance_adaptive`, the parts shared among threads."""
    return _plain_in_threads(*arguments)


@kernel()
def advance_velocity(*arguments):
    """Do as `advance_adaptive`, with a velocity."""
    return _velocity(*arguments)


@kernel()
def advance_velocity_in_threads(*arguments):
    """Do as `advance_velocity`, the parts shared among threads."""
    return _velocity_in_threads(*arguments)


@kernel()
def advance_batches(*arguments):
    """Do as `advance_adaptive`, on mini-batches of data."""
    return _batches(*arguments)


@kernel()
def advance_batches_in_threads(*arguments):
    """Do as `advance_batches`, the parts shared among threads."""
    return _batches_in_threads(*arguments)


@kernel()
def advance_velocity_batches(*arguments):
    """Do as `advance_batches`, with a velocity."""
    return _velocity_batches(*arguments)


@kernel()
def advance_velocity_batches_in_threads(*arguments):
    """Do as `advance_velocity_batches`, the parts shared among threads."""
    return _velocity_batches_in_threads(*arguments)


@kernel()
def observe(*arguments):
    """Write ``sum lambda^p h^2``, p = 0, 1, 2, of the noisy gradient of a step.

    ``(state, velocity, plan, factors, batches, step, key_0, key_1, out)``.
    """
    _observe(*arguments)


@kernel()
def observe_batch(*arguments):
    """Do as `observe`, on mini-batches of data."""
    _observe_batch(*arguments)


# --- Steps under a rule of a problem with one block a band ---------------------------------------
#
# All is looked up once, not every step. Both blocks take their normals from one buffer, and where
# the rule observes the noisy gradient of a step, the step takes the normals that the rule has seen.
# The numbers are those of `advance_adaptive`.


def is_small(plan: Plan) -> bool:
    """Whether there is one block a band, and one buffer holds the normals of both."""
    return bool(plan.blocks.shape[0] == NUM_BANDS and plan.blocks[1, STOP] <= BATCH * GROUP)


_take_planes, _return_planes = make_planes(False)
_observe_block = make_observe(False)
_finish_step = make_finish(False)


@inlined
def _small_block(planes, plan, b, normals):
    """What a step needs of a block: kind, coefficients, lambda, s, normals, groups, weights."""
    first, groups = groups_of(plan.blocks, b, plan.first_group)
    c = coefficients_of(planes.state, plan.blocks, b, planes.edges)
    lam = block_values(plan.blocks[b, LAM], plan.lam, plan.shared)
    std = block_values(plan.blocks[b, STD], plan.std, plan.shared)
    kind, weights = plan.blocks[b, KIND], plan.moment_weights[b]
    return kind, c, lam, std, normals[GROUP * first :], groups, weights


@kernel()
def advance_small(
    state, velocity, plan, factors, batches, first_step, num_steps, ruling, record, key_0, key_1
):
    """Apply steps whose sizes a rule chooses; as `advance_adaptive`."""
    planes = _take_planes(state, velocity, plan)
    work = make_work(1, 0, ROW_SIZE, key_0, key_1)
    scratch = scratch_of(work, 0)
    rule, observes, memory, sums, step_size, weights = ruling
    wanted, out, out_steps, out_sizes = record
    normals = work.normals[0]
    kind_d, c_d, lam_d, std_d, normals_d, groups_d, moments_d = _small_block(
        planes, plan, 0, normals
    )
    kind_b, c_b, lam_b, std_b, normals_b, groups_b, moments_b = _small_block(
        planes, plan, 1, normals
    )
    groups = (plan.blocks[1, STOP] - 1) // GROUP + 1
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
        move_d = -(weights[0] * step_size[0])
        move_b = -(weights[1] * step_size[0])
        row[:] = 0.0
        _step_block(
            kind_d, c_d, c_d, lam_d, std_d, (move_d, move_d), normals_d, groups_d, moments_d, row_d
        )
        _step_block(
            kind_b, c_b, c_b, lam_b, std_b, (move_b, move_b), normals_b, groups_b, moments_b, row_b
        )
        done += 1
        are_drawn = False
        if observes and is_finite(row):
            write_normals(normals, 0, 0, groups, domains.STEP, first_step + done, scratch)
            are_drawn = True
            noisy[:] = 0.0
            _observe_block(c_d, lam_d, std_d, 1.0, 1.0, normals_d, groups_d, noisy_d)
            _observe_block(c_b, lam_b, std_b, 1.0, 1.0, normals_b, groups_b, noisy_b)
        good, rows = _finish_step(
            first_step + done, row, rule, memory, sums, step_size, wanted, rows, out, out_steps,
            out_sizes,
        )  # fmt: skip
    _return_planes(planes, plan, 0, NUM_BANDS)
    return done, rows
