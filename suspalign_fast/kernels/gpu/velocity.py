"""What one thread of a GPU does with a part of the coordinates and their velocity.

As ``threads``, but with two planes, c and v, and the three factors of the optimizer, pull, carry
and decay, as tuples. Sums are those of a row in the order in which rows have them: of c^2, then
`layout.CROSS_SUMS`.
"""

from numba import cuda, float64

from ...physics.layout import CROSS_SUMS, NUM_SUMS
from .. import domains
from ..blocks import BAND, FIRST, LAST
from ..jit import SIMULATED, for_gpu, inlined
from ..jump import velocity_jumped
from ..normals import COUNTERS
from ..simd import (
    broadcast,
    fma,
    horizontal_sum,
    load,
    load_doubles,
    store_doubles,
    to_double,
    zeros,
)
from ..sums import DRIFT, SPREAD, VELOCITY_DIRECT_WAY, velocity_moved, write_sums
from .threads import (
    WORDS,
    coordinate_of,
    first_counter,
    is_inside,
    last_counter,
    normals_of,
    value_at,
)
from .together import (
    BLOCKS,
    LANES,
    THREADS,
    Way,
    add_columns,
    from_kernel,
    kernel,
    make_add_parts,
    width_of,
)

#: Sums of a coordinate.
NUM_VELOCITY_SUMS = NUM_SUMS + len(CROSS_SUMS.terms)
#: Steps that `take_velocity_tile` applies: the sums of more would not stay in registers.
VELOCITY_TILE = 2

_no_sums, _powers, _add_sums, _ = VELOCITY_DIRECT_WAY


@inlined
def _write_sums(out, first, column, sums):
    """Set a column of a table from row `first` on to all sums."""
    write_sums(out, first, column, sums)
    out[first + 7, column] = horizontal_sum(sums[7])
    out[first + 8, column] = horizontal_sum(sums[8])
    out[first + 9, column] = horizontal_sum(sums[9])
    out[first + 10, column] = horizontal_sum(sums[12])
    out[first + 11, column] = horizontal_sum(sums[13])
    out[first + 12, column] = horizontal_sum(sums[10])
    out[first + 13, column] = horizontal_sum(sums[11])
    out[first + 14, column] = horizontal_sum(sums[14])


@inlined
def _moved(planes, factors, c, v, lam, std, drift, xi):
    h = fma(std, to_double(xi), lam * c)
    return velocity_moved(
        planes[0], planes[1], c, v, h, broadcast(drift, lam), broadcast(factors[0], lam),
        broadcast(factors[1], lam), broadcast(factors[2], lam),
    )  # fmt: skip


@inlined
def _step_of_thread(sums, planes, factors, lam, std, i, start, stop, drift, xi):
    if is_inside(i, start, stop):
        lam_i = load(lam, i, 1)
        std_i = value_at(std, i)
        c = load_doubles(planes[0], i, 1)
        v = load_doubles(planes[1], i, 1)
        c, v = _moved(planes, factors, c, v, lam_i, std_i, drift, xi)
        store_doubles(planes[0], i, c)
        store_doubles(planes[1], i, v)
        sums = _add_sums(sums, c, v, _powers(lam_i, std_i, None))
    return sums


@for_gpu
def take_velocity_step(
    thread, threads, planes, factors, lam, std, start, stop, drift, spread, low, high, key_0,
    key_1, sums,
):  # fmt: skip
    """Apply one move, of which noise and gradient take the same part; `spread` is not read."""
    counter = first_counter(start, thread)
    last = last_counter(stop)
    i = coordinate_of(counter)
    s = _no_sums(zeros(0.0, 1))
    while counter < last:
        z = normals_of(counter, domains.STEP, low, high, key_0, key_1)
        s = _step_of_thread(s, planes, factors, lam, std, i, start, stop, drift, z[0])
        s = _step_of_thread(s, planes, factors, lam, std, i + COUNTERS, start, stop, drift, z[1])
        s = _step_of_thread(
            s, planes, factors, lam, std, i + 2 * COUNTERS, start, stop, drift, z[2]
        )
        s = _step_of_thread(
            s, planes, factors, lam, std, i + 3 * COUNTERS, start, stop, drift, z[3]
        )
        counter += threads
        i += WORDS * threads
    _write_sums(sums, 0, thread, s)


@inlined
def _tile_of_thread(s, planes, factors, lam, std, i, start, stop, drifts, xi_0, xi_1):
    s_0, s_1 = s
    if is_inside(i, start, stop):
        lam_i = load(lam, i, 1)
        std_i = value_at(std, i)
        p = _powers(lam_i, std_i, None)
        c = load_doubles(planes[0], i, 1)
        v = load_doubles(planes[1], i, 1)
        c, v = _moved(planes, factors, c, v, lam_i, std_i, drifts[0], xi_0)
        s_0 = _add_sums(s_0, c, v, p)
        c, v = _moved(planes, factors, c, v, lam_i, std_i, drifts[1], xi_1)
        s_1 = _add_sums(s_1, c, v, p)
        store_doubles(planes[0], i, c)
        store_doubles(planes[1], i, v)
    return s_0, s_1


@for_gpu
def take_velocity_tile(
    thread, threads, planes, factors, lam, std, start, stop, band, moves, t, low, high, key_0,
    key_1, sums,
):  # fmt: skip
    """Apply VELOCITY_TILE steps, of ``moves[t:]``; their sums go to NUM_VELOCITY_SUMS rows each."""
    drifts = (moves[t, band, DRIFT], moves[t + 1, band, DRIFT])
    counter = first_counter(start, thread)
    last = last_counter(stop)
    i = coordinate_of(counter)
    none = _no_sums(zeros(0.0, 1))
    s = (none, none)
    while counter < last:
        z_0 = normals_of(counter, domains.STEP, low, high, key_0, key_1)
        z_1 = normals_of(counter, domains.STEP, low + 1, high, key_0, key_1)
        s = _tile_of_thread(s, planes, factors, lam, std, i, start, stop, drifts, z_0[0], z_1[0])
        s = _tile_of_thread(
            s, planes, factors, lam, std, i + COUNTERS, start, stop, drifts, z_0[1], z_1[1]
        )
        s = _tile_of_thread(
            s, planes, factors, lam, std, i + 2 * COUNTERS, start, stop, drifts, z_0[2], z_1[2]
        )
        s = _tile_of_thread(
            s, planes, factors, lam, std, i + 3 * COUNTERS, start, stop, drifts, z_0[3], z_1[3]
        )
        counter += threads
        i += WORDS * threads
    _write_sums(sums, 0, thread, s[0])
    _write_sums(sums, NUM_VELOCITY_SUMS, thread, s[1])


@inlined
def _jump_of_thread(s, planes, move, lam, std, i, start, stop, xi_c, xi_v):
    if is_inside(i, start, stop):
        move_i = (
            load(move[0], i, 1), load(move[1], i, 1), load(move[2], i, 1), load(move[3], i, 1),
            load(move[4], i, 1), load(move[5], i, 1), load(move[6], i, 1),
        )  # fmt: skip
        c = load_doubles(planes[0], i, 1)
        v = load_doubles(planes[1], i, 1)
        c, v = velocity_jumped(planes[0], planes[1], c, v, move_i, xi_c, xi_v)
        store_doubles(planes[0], i, c)
        store_doubles(planes[1], i, v)
        s = _add_sums(s, c, v, _powers(load(lam, i, 1), value_at(std, i), None))
    return s


@for_gpu
def jump_velocity(
    thread, threads, planes, move, lam, std, start, stop, low, high, key_0, key_1, sums
):
    """Move coefficients and velocities by the seven arrays of `move`; sums go to the first rows."""
    counter = first_counter(start, thread)
    last = last_counter(stop)
    i = coordinate_of(counter)
    s = _no_sums(zeros(0.0, 1))
    while counter < last:
        x = normals_of(counter, domains.JUMP, low, high, key_0, key_1)
        y = normals_of(counter, domains.JUMP_ACROSS, low, high, key_0, key_1)
        s = _jump_of_thread(s, planes, move, lam, std, i, start, stop, x[0], y[0])
        s = _jump_of_thread(s, planes, move, lam, std, i + COUNTERS, start, stop, x[1], y[1])
        s = _jump_of_thread(s, planes, move, lam, std, i + 2 * COUNTERS, start, stop, x[2], y[2])
        s = _jump_of_thread(s, planes, move, lam, std, i + 3 * COUNTERS, start, stop, x[3], y[3])
        counter += threads
        i += WORDS * threads
    _write_sums(sums, 0, thread, s)


@for_gpu
def sum_velocity_of_thread(thread, threads, planes, lam, std, start, stop, sums):
    """Sums of coefficients and velocities go to the first rows."""
    s = _no_sums(zeros(0.0, 1))
    i = start + thread
    while i < stop:
        c = load_doubles(planes[0], i, 1)
        v = load_doubles(planes[1], i, 1)
        s = _add_sums(s, c, v, _powers(load(lam, i, 1), value_at(std, i), None))
        i += threads
    _write_sums(sums, 0, thread, s)


# --- Kernels for a GPU of steps with a velocity, as those of ``plain`` without -------------------
#
# ``planes`` are coefficients and velocities, ``factors`` pull, carry and decay of the optimizer. A
# row of a table holds the sums of a band without gaps.


WIDTH = width_of(NUM_VELOCITY_SUMS)
#: Threads of `add_velocity_parts`: one for each sum and lane.
PARTS_THREADS = LANES * WIDTH

_STRIDE = THREADS + LANES
_TILE_SUMS = VELOCITY_TILE * NUM_VELOCITY_SUMS
_TILE_LANES = _TILE_SUMS * LANES
_PARTS_LANES = 2 * WIDTH * LANES
_ROW_LANES = NUM_VELOCITY_SUMS * LANES

_take_step = from_kernel(take_velocity_step)
_take_tile = from_kernel(take_velocity_tile)
_jump = from_kernel(jump_velocity)
_sum_state = from_kernel(sum_velocity_of_thread)
_add_rows = make_add_parts(WIDTH)


@kernel(PARTS_THREADS)
def add_velocity_parts(table, parts, at, out):
    """Write the sums over parts of ``table[:, at[r]]`` to ``out[r]``, one row a block."""
    lanes = cuda.shared.array(_PARTS_LANES, float64)
    row = cuda.blockIdx.x
    thread = cuda.threadIdx.x
    total = _add_rows(table[:, at[row]], parts, thread, lanes)
    if thread < 2 * WIDTH:
        out[row, thread // WIDTH, thread % WIDTH] = total


@kernel(THREADS, BLOCKS)
def advance_velocity(planes, factors, lam, std, parts, moves, low, high, key_0, key_1, table):
    """Apply steps of known moves, a part a block; sums of part p after step t: ``table[p, t]``."""
    sums = cuda.shared.array((_TILE_SUMS, _STRIDE), float64)
    lanes = cuda.shared.array(_TILE_LANES, float64)
    p = cuda.blockIdx.x
    thread = cuda.threadIdx.x
    start = parts[p, FIRST]
    stop = parts[p, LAST]
    band = parts[p, BAND]
    t = 0
    while t < moves.shape[0]:
        count = 1
        if t + VELOCITY_TILE <= moves.shape[0]:
            count = VELOCITY_TILE
            _take_tile(
                thread, THREADS, planes, factors, lam, std, start, stop, band, moves, t, low + t,
                high, key_0, key_1, sums,
            )  # fmt: skip
        else:
            _take_step(
                thread, THREADS, planes, factors, lam, std, start, stop, moves[t, band, DRIFT],
                moves[t, band, SPREAD], low + t, high, key_0, key_1, sums,
            )  # fmt: skip
        total = add_columns(sums, lanes, NUM_VELOCITY_SUMS * count, thread, THREADS)
        if thread < NUM_VELOCITY_SUMS * count:
            table[p, t + thread // NUM_VELOCITY_SUMS, thread % NUM_VELOCITY_SUMS] = total
        t += count


@kernel(THREADS, BLOCKS)
def jump_velocity_rows(planes, move, lam, std, parts, lows, highs, key_0, key_1, table):
    """Move one part a block to each of some steps in turn, by the same seven arrays."""
    sums = cuda.shared.array((NUM_VELOCITY_SUMS, _STRIDE), float64)
    lanes = cuda.shared.array(_ROW_LANES, float64)
    p = cuda.blockIdx.x
    thread = cuda.threadIdx.x
    for t in range(lows.size):
        _jump(
            thread, THREADS, planes, move, lam, std, parts[p, FIRST], parts[p, LAST], lows[t],
            highs[t], key_0, key_1, sums,
        )  # fmt: skip
        total = add_columns(sums, lanes, NUM_VELOCITY_SUMS, thread, THREADS)
        if thread < NUM_VELOCITY_SUMS:
            table[p, t, thread] = total


@kernel(THREADS, BLOCKS)
def sum_velocity(planes, lam, std, parts, table):
    """Write the sums of state and velocity of part p to ``table[p, 0]``."""
    sums = cuda.shared.array((NUM_VELOCITY_SUMS, _STRIDE), float64)
    lanes = cuda.shared.array(_ROW_LANES, float64)
    p = cuda.blockIdx.x
    thread = cuda.threadIdx.x
    _sum_state(thread, THREADS, planes, lam, std, parts[p, FIRST], parts[p, LAST], sums)
    total = add_columns(sums, lanes, NUM_VELOCITY_SUMS, thread, THREADS)
    if thread < NUM_VELOCITY_SUMS:
        table[p, 0, thread] = total


#: Under a rule fewer threads than plain SGD: the sums of more would not fit into shared memory.
VELOCITY_WAY = Way(
    num_sums=NUM_VELOCITY_SUMS,
    tile=VELOCITY_TILE,
    threads=32 if SIMULATED else 384,
    blocks=1,
    take_step=_take_step,
    advance=advance_velocity,
    jump_rows=jump_velocity_rows,
    sum_state=sum_velocity,
    add_parts=add_velocity_parts,
)
