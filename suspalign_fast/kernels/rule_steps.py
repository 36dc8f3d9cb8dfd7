"""Steps whose sizes a rule chooses: all parts take each step together.

Entry points take what those of `step` do.
"""

import numba
import numpy as np

from ..physics.layout import (
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
from .jit import inlined, internal, kernel
from .loops import (
    make_observe,
    make_planes,
    make_step,
    make_work,
    numbers_for,
    share_of,
)
from .normals import BATCH, GROUP, scratch_of, write_normals
from .rules import copy_row, is_finite, make_finish
from .step import add_parts, make_sum_block, row_size_of

# --- Steps under a rule: all parts take each step together ---------------------------------------

#: What a step is to all coordinates: minus its size in both bands, then the factors of a batch.
BATCH_AT = NUM_BANDS


def _make_rule_loop(has_velocity, is_batch, in_threads):
    """Build the loop of a rule, and what it observes at a state."""
    row_size = row_size_of(has_velocity)
    take_planes, return_planes = make_planes(has_velocity)
    step_block = make_step(has_velocity, is_batch)
    sum_block = make_sum_block(has_velocity, is_batch)
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
_step_block = make_step(False, False)


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
