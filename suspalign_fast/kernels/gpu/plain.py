"""Kernels of plain SGD for a GPU: a block of threads works on one part at a time (``threads``).

Steps of known sizes need nothing from other parts: a launch does many of them, and `add_parts`
makes rows of the table it leaves.
"""

from numba import cuda, float64

from ...physics.layout import NUM_NOISY, NUM_SUMS, ROW_SIZE
from ..blocks import BAND, FIRST, LAST
from ..jit import SIMULATED
from ..sums import DRIFT, SPREAD
from . import threads
from .threads import TILE
from .together import BLOCKS, LANES, THREADS, Way, add_columns, add_rows, from_kernel, kernel

#: Threads of `add_parts`: one for each sum and lane.
PARTS_THREADS = LANES * ROW_SIZE
#: Threads of `observe`, and of a block under a rule.
RULE_THREADS = 16 if SIMULATED else 512

# Sizes of shared memory, which must be plain constants to Numba. Rows of sums are a little longer
# than there are threads: lanes of two rows then read from different banks.
_STRIDE = THREADS + LANES
_RULE_STRIDE = RULE_THREADS + LANES
_TILE_SUMS = TILE * NUM_SUMS
_TILE_LANES = _TILE_SUMS * LANES
_PARTS_LANES = 2 * ROW_SIZE * LANES
_ROW_LANES = NUM_SUMS * LANES
_NOISY_LANES = NUM_NOISY * LANES

_take_step = from_kernel(threads.take_step)
_take_tile = from_kernel(threads.take_tile)
_jump = from_kernel(threads.jump)
_sum_state = from_kernel(threads.sum_state)
_observe = from_kernel(threads.observe)
_write_normals = from_kernel(threads.write_normals)
_add_normals = from_kernel(threads.add_normals)


@kernel(PARTS_THREADS)
def add_parts(table, parts, at, out):
    """Write the sums over parts of ``table[:, at[r]]`` to ``out[r]``, one row a block."""
    lanes = cuda.shared.array(_PARTS_LANES, float64)
    row = cuda.blockIdx.x
    thread = cuda.threadIdx.x
    total = add_rows(table[:, at[row]], parts, thread, lanes)
    if thread < 2 * ROW_SIZE:
        out[row, thread // ROW_SIZE, thread % ROW_SIZE] = total


# --- steps of known sizes ----------------------------------------------------------------------


@kernel(THREADS, BLOCKS)
def advance(state, lam, std, parts, moves, low, high, key_0, key_1, table):
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
        if t + TILE <= moves.shape[0]:
            count = TILE
            _take_tile(
                thread, THREADS, state, lam, std, start, stop, band, moves, t, low + t, high,
                key_0, key_1, sums,
            )  # fmt: skip
        else:
            _take_step(
                thread, THREADS, state, lam, std, start, stop, moves[t, band, DRIFT],
                moves[t, band, SPREAD], low + t, high, key_0, key_1, sums,
            )  # fmt: skip
        total = add_columns(sums, lanes, NUM_SUMS * count, thread, THREADS)
        if thread < NUM_SUMS * count:
            table[p, t + thread // NUM_SUMS, thread % NUM_SUMS] = total
        t += count


@kernel(THREADS, BLOCKS)
def jump_rows(state, a, b, lam, std, parts, lows, highs, key_0, key_1, table):
    """Move one part a block to each of some steps in turn, by the same ``a`` and ``b``."""
    sums = cuda.shared.array((NUM_SUMS, _STRIDE), float64)
    lanes = cuda.shared.array(_ROW_LANES, float64)
    p = cuda.blockIdx.x
    thread = cuda.threadIdx.x
    for t in range(lows.size):
        _jump(
            thread, THREADS, state, a, b, lam, std, parts[p, FIRST], parts[p, LAST], lows[t],
            highs[t], key_0, key_1, sums,
        )  # fmt: skip
        total = add_columns(sums, lanes, NUM_SUMS, thread, THREADS)
        if thread < NUM_SUMS:
            table[p, t, thread] = total


@kernel(THREADS, BLOCKS)
def sum_state(state, lam, std, parts, table):
    """Write the sums of the state of part p to ``table[p, 0]``."""
    sums = cuda.shared.array((NUM_SUMS, _STRIDE), float64)
    lanes = cuda.shared.array(_ROW_LANES, float64)
    p = cuda.blockIdx.x
    thread = cuda.threadIdx.x
    _sum_state(thread, THREADS, state, lam, std, parts[p, FIRST], parts[p, LAST], sums)
    total = add_columns(sums, lanes, NUM_SUMS, thread, THREADS)
    if thread < NUM_SUMS:
        table[p, 0, thread] = total


# --- what a rule may ask for ---------------------------------------------------------------------


@kernel(RULE_THREADS)
def observe(state, lam, std, parts, low, high, key_0, key_1, table):
    """Write the sums of the noisy gradient of a step in part p to ``table[p, 0]``."""
    sums = cuda.shared.array((NUM_NOISY, _RULE_STRIDE), float64)
    lanes = cuda.shared.array(_NOISY_LANES, float64)
    p = cuda.blockIdx.x
    thread = cuda.threadIdx.x
    _observe(
        thread, RULE_THREADS, state, lam, std, parts[p, FIRST], parts[p, LAST], low, high,
        key_0, key_1, sums,
    )  # fmt: skip
    total = add_columns(sums, lanes, NUM_NOISY, thread, RULE_THREADS)
    if thread < NUM_NOISY:
        table[p, 0, thread] = total


# --- filling arrays ----------------------------------------------------------------------------


@kernel(THREADS)
def fill_normals(out, scale, domain, low, high, key_0, key_1):
    """Set ``out[i] = scale * xi_i(step)``, a counter a thread."""
    _write_normals(out, scale, cuda.grid(1), domain, low, high, key_0, key_1)


@kernel(THREADS)
def spread(values, level_ends, out):
    """Set ``out[i]`` to the value of the level that coordinate i belongs to."""
    i = cuda.grid(1)
    if i < out.size:
        low = 0
        high = level_ends.size
        while low < high:
            middle = (low + high) // 2
            if level_ends[middle] <= i:
                low = middle + 1
            else:
                high = middle
        out[i] = values[low]


@kernel(THREADS, BLOCKS)
def only_normals(parts, low, num_steps, key_0, key_1, out):
    """Make the normals of all parts at some steps and nothing else: the ceiling of `advance`."""
    p = cuda.blockIdx.x
    thread = cuda.threadIdx.x
    out[p, thread] = _add_normals(
        thread, THREADS, parts[p, FIRST], parts[p, LAST], low, num_steps, key_0, key_1
    )


PLAIN_WAY = Way(
    num_sums=NUM_SUMS,
    tile=TILE,
    threads=RULE_THREADS,
    blocks=1,
    take_step=from_kernel(threads.take_step_of_planes),
    advance=advance,
    jump_rows=jump_rows,
    sum_state=sum_state,
    add_parts=add_parts,
)
