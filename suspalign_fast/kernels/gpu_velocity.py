"""Kernels for a GPU of steps with a velocity, as those of ``gpu`` without.

``planes`` are coefficients and velocities, ``factors`` pull, carry and decay of the optimizer. A
row of a table holds the sums of a band without gaps (``gpu_velocity_thread``).
"""

from numba import cuda, float64

from . import gpu_velocity_thread
from .gpu_block import (
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
from .gpu_velocity_thread import NUM_VELOCITY_SUMS, VELOCITY_TILE
from .jit import SIMULATED
from .move import DRIFT, SPREAD
from .plan import BAND, FIRST, LAST

WIDTH = width_of(NUM_VELOCITY_SUMS)
#: Threads of `add_velocity_parts`: one for each sum and lane.
PARTS_THREADS = LANES * WIDTH

_STRIDE = THREADS + LANES
_TILE_SUMS = VELOCITY_TILE * NUM_VELOCITY_SUMS
_TILE_LANES = _TILE_SUMS * LANES
_PARTS_LANES = 2 * WIDTH * LANES
_ROW_LANES = NUM_VELOCITY_SUMS * LANES

_take_step = from_kernel(gpu_velocity_thread.take_velocity_step)
_take_tile = from_kernel(gpu_velocity_thread.take_velocity_tile)
_jump = from_kernel(gpu_velocity_thread.jump_velocity)
_sum_state = from_kernel(gpu_velocity_thread.sum_velocity)
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
