"""What one thread of a GPU does with a block of the plan in steps on mini-batches of data.

As ``threads``, but with blocks of the plan (``blocks``) instead of parts, since each of them has a
normal of its own along its state (``batch_steps``). Thread `column` of `columns`, a multiple of 16,
first draws its coordinates' normals, which it keeps in ``normals[at + i]`` of coordinate i, and
adds up its share of ``v'z``; once that is known of the whole block, it moves them. ``planes`` and
``factors`` are as in ``velocity``; eigenvalues are made from their roots, ``std``.

Sums are added up over several blocks in tuples of float64.
"""

import functools
import math
from typing import Any, NamedTuple

import numba
from numba import cuda, float32, float64, uint32

from ...physics.layout import NUM_NOISY, NUM_SUMS
from .. import batches as data_noise
from .. import domains
from ..batches import add_product, gradient
from ..blocks import BAND, BLOCK, FIRST, LAST
from ..jit import SIMULATED, for_gpu, inlined
from ..normals import COUNTERS, GROUP
from ..simd import broadcast, horizontal_sum, load, load_doubles, store, to_double, zeros
from ..sums import add_gradient, no_noisy, no_sums
from .plain import PLAIN
from .rules import make_asking, make_reading, read_noisy
from .threads import draw_step, make_pass, make_quiet_pass, normals_of
from .together import LANES, add_columns, from_kernel, kernel, together, width_of
from .velocity import NUM_VELOCITY_SUMS, VELOCITY

# --- normals -------------------------------------------------------------------------------------


@inlined
def _take_normal(total, i, given, z):
    state, std, normals, at = given
    store(normals, at + i, z)
    return add_product(total, load_doubles(state, i, 1), load(std, i, 1), z)


_draw_pass = make_pass(draw_step, _take_normal)


@for_gpu
def draw_block(column, columns, start, stop, given, stream):
    """Write a thread's normals of a block; return its share of ``v'z``.

    `given` is the state, the standard deviations, room for normals, and where that of coordinate 0
    would lie there.
    """
    return horizontal_sum(_draw_pass(zeros(0.0, 1), column, columns, start, stop, given, stream))


@inlined
def _normal_at(i, domain, low, high, key_0, key_1):
    """Normal of one coordinate."""
    counter = i // GROUP * COUNTERS + i % COUNTERS
    z = normals_of(counter, domain, low, high, key_0, key_1)
    word = i % GROUP // COUNTERS
    lower = z[0] if word == 0 else z[1]
    upper = z[2] if word == 2 else z[3]
    return horizontal_sum(to_double(lower if word < 2 else upper))


@for_gpu
def draw_along(column, columns, first, last, low, high, key_0, key_1, norms, xi):
    """Write a thread's normals of blocks ``first ... last - 1`` along their states.

    Returns its share of w.
    """
    total = 0.0
    block = first + column
    while block < last:
        xi[block] = _normal_at(block, domains.BATCH_BLOCK, low, high, key_0, key_1)
        total += norms[block] * xi[block]
        block += columns
    return total


# --- steps ---------------------------------------------------------------------------------------


def make_batch_pass(motion):
    """Build the pass of a thread that moves coordinates along their gradient, if they move."""
    fetch, keep, _, _, _, move_along, _, powers, add = motion

    @inlined
    def take(s, i, given):
        moves, planes, factors, std, gradient, normals, at = given
        std_i = load(std, i, 1)
        lam_i = std_i * std_i
        x = fetch(planes, i)
        if moves:
            z = load(normals, at + i, 1)
            x = move_along(planes, factors, x, lam_i, std_i, gradient, z)
            keep(planes, i, x)
        return add(s, x, powers(lam_i, std_i, None))

    return make_quiet_pass(take)


_plain_pass, _velocity_pass = make_batch_pass(PLAIN), make_batch_pass(VELOCITY)
_no_velocity_sums = VELOCITY.empty


@for_gpu
def take_block(column, columns, start, stop, given, totals, sums, row):
    """Move a block along its gradient if it moves; return `totals` with the sums of it added.

    Its S_1 alone goes to ``sums[row, column]``. `given` is whether it moves, planes, factors,
    standard deviations, the gradient (step size, gain and rho), normals and where they begin.
    """
    s = _plain_pass(no_sums(zeros(0.0, 1)), column, columns, start, stop, given)
    sums[row, column] = horizontal_sum(s[0])
    return (
        totals[0] + horizontal_sum(s[0]),
        totals[1] + horizontal_sum(s[1]),
        totals[2] + horizontal_sum(s[2]),
        totals[3] + horizontal_sum(s[3]),
        totals[4] + horizontal_sum(s[4]),
        totals[5] + horizontal_sum(s[5]),
        totals[6] + horizontal_sum(s[6]),
    )


@for_gpu
def take_velocity_block(column, columns, start, stop, given, totals, sums, row):
    """Do as `take_block` with a velocity; sums are in the order of ``velocity``."""
    s = _velocity_pass(_no_velocity_sums(zeros(0.0, 1)), column, columns, start, stop, given)
    sums[row, column] = horizontal_sum(s[0])
    return (
        totals[0] + horizontal_sum(s[0]),
        totals[1] + horizontal_sum(s[1]),
        totals[2] + horizontal_sum(s[2]),
        totals[3] + horizontal_sum(s[3]),
        totals[4] + horizontal_sum(s[4]),
        totals[5] + horizontal_sum(s[5]),
        totals[6] + horizontal_sum(s[6]),
        totals[7] + horizontal_sum(s[7]),
        totals[8] + horizontal_sum(s[8]),
        totals[9] + horizontal_sum(s[9]),
        totals[10] + horizontal_sum(s[12]),
        totals[11] + horizontal_sum(s[13]),
        totals[12] + horizontal_sum(s[10]),
        totals[13] + horizontal_sum(s[11]),
        totals[14] + horizontal_sum(s[14]),
    )


@inlined
def _take_gradient(s, i, given):
    state, std, gain, rho, normals, at = given
    std_i = load(std, i, 1)
    lam_i = std_i * std_i
    c = load_doubles(state, i, 1)
    z = load(normals, at + i, 1)
    h = gradient(c, lam_i, std_i, broadcast(gain, c), broadcast(rho, c), z)
    return add_gradient(s, lam_i, h)


_observe_pass = make_quiet_pass(_take_gradient)


@for_gpu
def observe_block(column, columns, start, stop, given, totals):
    """Return `totals` with the sums of a block's gradient added.

    `given` is the state, standard deviations, gain, rho, normals and where they begin.
    """
    s = _observe_pass(no_noisy(zeros(0.0, 1)), column, columns, start, stop, given)
    return (
        totals[0] + horizontal_sum(s[0]),
        totals[1] + horizontal_sum(s[1]),
        totals[2] + horizontal_sum(s[2]),
    )


# --- sums of a column: constant places, so that totals stay in registers -------------------------


@inlined
def _add(sums, row, column, total, is_first):
    before = 0.0 if is_first else sums[row, column]
    sums[row, column] = before + total


@for_gpu
def add_noisy_totals(sums, column, totals, is_first):
    """Add totals of `observe_block` to a column of the first rows, or set it."""
    _add(sums, 0, column, totals[0], is_first)
    _add(sums, 1, column, totals[1], is_first)
    _add(sums, 2, column, totals[2], is_first)


@for_gpu
def add_totals(sums, column, totals, is_first):
    """Add totals of `take_block` to a column of the first rows, or set it."""
    _add(sums, 0, column, totals[0], is_first)
    _add(sums, 1, column, totals[1], is_first)
    _add(sums, 2, column, totals[2], is_first)
    _add(sums, 3, column, totals[3], is_first)
    _add(sums, 4, column, totals[4], is_first)
    _add(sums, 5, column, totals[5], is_first)
    _add(sums, 6, column, totals[6], is_first)


@for_gpu
def add_velocity_totals(sums, column, totals, is_first):
    """Add totals of `take_velocity_block` to a column of the first rows, or set it."""
    _add(sums, 0, column, totals[0], is_first)
    _add(sums, 1, column, totals[1], is_first)
    _add(sums, 2, column, totals[2], is_first)
    _add(sums, 3, column, totals[3], is_first)
    _add(sums, 4, column, totals[4], is_first)
    _add(sums, 5, column, totals[5], is_first)
    _add(sums, 6, column, totals[6], is_first)
    _add(sums, 7, column, totals[7], is_first)
    _add(sums, 8, column, totals[8], is_first)
    _add(sums, 9, column, totals[9], is_first)
    _add(sums, 10, column, totals[10], is_first)
    _add(sums, 11, column, totals[11], is_first)
    _add(sums, 12, column, totals[12], is_first)
    _add(sums, 13, column, totals[13], is_first)
    _add(sums, 14, column, totals[14], is_first)


# --- Kernels for a GPU of steps on mini-batches of data (``batch_steps``) ------------------------
#
# All blocks of threads wait for each other once a step, as under a rule (``rules``): a step
# needs w, a sum over all blocks of the plan. Each of these is the work of a team of threads, and a
# block of threads has several teams. It owns parts of some blocks of the plan, one after the other,
# whose norms and normals along the state nobody else needs; what it leaves for others are the sums
# of its parts, of which w is one more.


#: Teams of a block of threads, and threads of a team: a thread may have 168 registers.
TEAMS, COLUMNS = (2, 16) if SIMULATED else (3, 128)
THREADS = TEAMS * COLUMNS

_STRIDE = COLUMNS + LANES
_NORMALS = TEAMS * BLOCK

_draw_block = from_kernel(draw_block)
_draw_along = from_kernel(draw_along)
_observe_block = from_kernel(observe_block)
_turn_of = from_kernel(for_gpu(data_noise.turn_of.py_func))
_gain_of = from_kernel(for_gpu(data_noise.gain_of.py_func))


class BatchWay(NamedTuple):
    """What a kind of step on mini-batches is to blocks of threads.

    Attributes
    ----------
    num_sums : int
        Sums that a coordinate adds to.
    take_block, add_totals : function
        As `take_block` and `add_totals`.
    """

    num_sums: int
    take_block: Any
    add_totals: Any

    @property
    def width(self) -> int:
        """Numbers that hold the sums and w."""
        return width_of(self.num_sums + 1)


PLAIN_BATCHES = BatchWay(
    NUM_SUMS,
    from_kernel(take_block),
    from_kernel(add_totals),
)
VELOCITY_BATCHES = BatchWay(
    NUM_VELOCITY_SUMS,
    from_kernel(take_velocity_block),
    from_kernel(add_velocity_totals),
)


def _write_batch(batch, ws, row, u, numbers, traces):
    size, label_std = numbers[0], numbers[1]
    p = data_noise.residual_variance(row, label_std)
    batch[0], batch[1] = data_noise.factors(p, ws[0] + ws[1], u, size, label_std)
    data_noise.write_constants(row, row, size, label_std, traces)


#: Write kd and rho of the next step, and to a rule's row its constants.
_write_batch_of = from_kernel(for_gpu(_write_batch))


@together
def _place_of(start, team):
    """Where the normals of a team would have that of coordinate 0."""
    return team * BLOCK - start // BLOCK * BLOCK


@together
def _draw(
    thread, state, std, blocks, first, last, step, keys, norms, xi, normals, sums, lanes,
    turns,
):  # fmt: skip
    """Draw the normals of a step for a block a team, from `first` on; call with all threads.

    Returns what a team's block has along its state beside them, see `kernels.batches.turn_of`.
    """
    team, column = thread // COLUMNS, thread % COLUMNS
    count = min(TEAMS, last - first)
    if team < count:
        start, stop = blocks[first + team, FIRST], blocks[first + team, LAST]
        sums[team, column] = _draw_block(
            column, COLUMNS, start, stop, (state, std, normals, _place_of(start, team)),
            (step & 0xFFFFFFFF, step >> 32, keys[0], keys[1]),
        )  # fmt: skip
    product = add_columns(sums, lanes, count, thread, COLUMNS)
    if thread < count:
        turns[thread] = _turn_of(norms[first + thread], xi[first + thread], product)
    cuda.syncthreads()
    return turns[team] if team < count else 0.0


def _make_team_sum(add_totals):
    """Build the sum over all threads of what each has in a tuple of totals."""

    @together
    def add_teams(sums, lanes, totals, count, thread):
        """Add up the totals; call with all threads.

        The first team may have a sum of its own in rows after them. Returns, to thread
        ``j < count``, the sum of row j.
        """
        team, column = thread // COLUMNS, thread % COLUMNS
        for other in range(TEAMS):
            if team == other:
                add_totals(sums, column, totals, other == 0)
            cuda.syncthreads()
        return add_columns(sums, lanes, count, thread, COLUMNS)

    return add_teams


_add_noisy_teams = _make_team_sum(from_kernel(add_noisy_totals))


@functools.lru_cache(maxsize=16)
def make_batches(rule, observes, way):
    """Build the kernel of steps on mini-batches of sizes that a rule chooses.

    As ``rules.make_adaptive``, with these differences. ``blocks`` are those of the plan, with
    their band and coordinates, ``parts`` pieces of that list, of one band each. ``batches`` are an
    array of batch size and label_std, and the traces of `kernels.batches.Batches`; ``us`` are the
    chi-squares of the first step and all after it, one more than there are steps. ``norms`` and
    ``xi`` are room for a number a block. There may be one memory for all blocks of threads, if the
    rule changes nothing in it. With no steps to do, the tables get the sums of the state and, where
    the rule observes, of its noisy gradient.

    What is the same in all steps lies in memory, for what follows from it (keys of all rounds,
    quotients) would otherwise take registers all the time.
    """
    take_block, num_sums, width = way.take_block, way.num_sums, way.width
    read, ask = make_reading(num_sums, width), make_asking(rule, num_sums)
    add_teams = _make_team_sum(way.add_totals)
    num_rows, num_lanes = max(num_sums + 1, TEAMS), 2 * width * LANES
    none, none_noisy = (0.0,) * num_sums, (0.0,) * NUM_NOISY
    # Not the first thread, which waits for other blocks on behalf of its own.
    asker = THREADS - 1

    @together
    def take_part(
        moves, thread, planes, factors, std, blocks, first, last, step, keys, norms, xi,
        eta, batch, normals, sums, lanes, turns,
    ):  # fmt: skip
        """Do the step before `step` in a part, unless it only is summed up; draw w of the next.

        Returns, to thread j, sum j of the part, w being the last.
        """
        team, column = thread // COLUMNS, thread % COLUMNS
        totals = none
        b = first
        while b < last:
            count = min(TEAMS, last - b)
            gain, rho = 0.0, 0.0
            if moves:
                turn = _draw(
                    thread, planes[0], std, blocks, b, last, step - 1, keys, norms, xi,
                    normals, sums, lanes, turns,
                )  # fmt: skip
                gain, rho = _gain_of(batch[0], batch[1], turn), batch[1]
            if team < count:
                start, stop = blocks[b + team, FIRST], blocks[b + team, LAST]
                at = _place_of(start, team)
                given = (moves, planes, factors, std, (eta, gain, rho), normals, at)
                totals = take_block(column, COLUMNS, start, stop, given, totals, sums, team)
            s1 = add_columns(sums, lanes, count, thread, COLUMNS)
            if thread < count:
                norms[b + thread] = math.sqrt(s1)
            b += TEAMS
        cuda.syncthreads()
        if team == 0:
            sums[num_sums, column] = _draw_along(
                column, COLUMNS, first, last, step & 0xFFFFFFFF, step >> 32, keys[0], keys[1],
                norms, xi,
            )  # fmt: skip
        return add_teams(sums, lanes, totals, num_sums + 1, thread)

    @together
    def observe_part(
        thread, state, std, blocks, first, last, step, keys, norms, xi, batch, normals,
        sums, lanes, turns,
    ):  # fmt: skip
        """Return, to thread j, sum j of the gradient of a step in a part."""
        team, column = thread // COLUMNS, thread % COLUMNS
        totals = none_noisy
        b = first
        while b < last:
            turn = _draw(
                thread, state, std, blocks, b, last, step, keys, norms, xi, normals, sums,
                lanes, turns,
            )  # fmt: skip
            if b + team < last:
                start, stop = blocks[b + team, FIRST], blocks[b + team, LAST]
                gain = _gain_of(batch[0], batch[1], turn)
                given = (state, std, gain, batch[1], normals, _place_of(start, team))
                totals = _observe_block(column, COLUMNS, start, stop, given, totals)
            cuda.syncthreads()  # for other threads may draw the next normals in these places
            b += TEAMS
        return _add_noisy_teams(sums, lanes, totals, NUM_NOISY, thread)

    @kernel(THREADS, 1, cache=False)
    def advance_batches(
        planes, factors, std, blocks, parts, batches, us, weights, first_step, num_steps, recorded,
        key_0, key_1, norms, xi, table, noisy, tables, memories, step_sizes, out, out_steps,
        out_sizes, progress,
    ):  # fmt: skip
        normals = cuda.shared.array(_NORMALS, float32)
        sums = cuda.shared.array((num_rows, _STRIDE), float64)
        lanes = cuda.shared.array(num_lanes, float64)
        turns = cuda.shared.array(TEAMS, float64)
        batch = cuda.shared.array(2, float64)  # kd and rho of the next step
        ws = cuda.shared.array(2, float64)
        keys = cuda.shared.array(2, uint32)
        flags = cuda.shared.array(2, numba.boolean)  # whether the row is finite, and to go on
        grid = cuda.cg.this_grid()
        block = cuda.blockIdx.x
        thread = cuda.threadIdx.x
        memory = memories[min(block, memories.shape[0] - 1)]
        if thread == 0:
            keys[0], keys[1] = key_0, key_1
        cuda.syncthreads()
        rows = 0
        done = 0
        going = True
        while going:
            moves = done > 0  # first the state is summed up as it is
            step = first_step + done
            # Blocks ahead may write the sums of the next step while others still read these.
            half = done % 2
            p = block
            while p < parts.shape[0]:
                total = take_part(
                    moves, thread, planes, factors, std, blocks, parts[p, FIRST], parts[p, LAST],
                    step, keys, norms, xi, step_sizes[block] * weights[parts[p, BAND]],
                    batch, normals, sums, lanes, turns,
                )  # fmt: skip
                if thread <= num_sums:
                    table[half, p, thread] = total
                p += cuda.gridDim.x
            grid.sync()
            total = read(table[half], parts, thread, lanes, flags, tables[block])
            finite = flags[0]
            if thread < 2 * width and thread % width == num_sums:
                ws[thread // width] = total
            cuda.syncthreads()
            if thread == asker:
                _write_batch_of(batch, ws, tables[block], us[done], batches[0], batches[1])
            if observes and finite:
                cuda.syncthreads()
                p = block
                while p < parts.shape[0]:
                    total = observe_part(
                        thread, planes[0], std, blocks, parts[p, FIRST], parts[p, LAST], step,
                        keys, norms, xi, batch, normals, sums, lanes, turns,
                    )  # fmt: skip
                    if thread < NUM_NOISY:
                        noisy[half, p, thread] = total
                    p += cuda.gridDim.x
                grid.sync()
                read_noisy(noisy[half], parts, thread, lanes, tables[block])
            record = moves and (not finite or step == recorded[rows])
            if thread == asker:
                flags[1] = True
                if moves:
                    ask(
                        step, finite, record and block == 0, rows, tables[block], memory,
                        step_sizes, out, out_steps, out_sizes, flags,
                    )  # fmt: skip
            cuda.syncthreads()
            going = flags[1] and done < num_steps
            if record:
                rows += 1
            if going:
                done += 1
        if block == 0 and thread == asker:
            progress[0] = done
            progress[1] = rows

    return advance_batches
