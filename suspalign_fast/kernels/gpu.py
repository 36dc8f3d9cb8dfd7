"""Kernels for a GPU: how its blocks of threads share the parts and add up their sums.

A block works on one part at a time (``gpu_thread``). The sums of its threads are added through
shared memory, those of the parts in global memory, in an order that depends on neither timing nor
the number of blocks, so two runs on one kind of device give the same bits.

Steps of known sizes need nothing from other parts: a launch does many of them, and `add_parts`
makes rows of the table it leaves. A step-size rule needs the whole row before the next step:
`make_adaptive` builds a cooperative kernel in which all blocks wait for each other once a step,
and then each adds up the parts and asks the rule by itself, which saves waiting for the answer.
"""

import contextlib
import functools
import importlib
import math
import warnings
from typing import Any

import numba
import numpy as np
from numba import cuda, float64

from ..row import NOISY_AT, NUM_NOISY, NUM_SUMS, ROW_SIZE
from . import gpu_thread, move
from .gpu_thread import TILE
from .jit import SIMULATED, Decorator, cache_directory, for_gpu, use_package_cache
from .move import DRIFT, SPREAD
from .normals import GROUP
from .plan import BAND, FIRST, LAST
from .rules import row_of

with contextlib.suppress(ImportError):  # of Numba itself, or simulated: the cache it has is set
    use_package_cache(importlib.import_module("numba.cuda.core.caching"))

#: Threads of a block and blocks of a multiprocessor, chosen so that a thread may have 128
#: registers: where steps are known, and where every step ends in a sum over all blocks, which is
#: shorter with few of them. There is a thread for every sum of a tile and for every sum of a row;
#: simulated ones are Python's, so there are no more than that.
THREADS, BLOCKS = (32, 2) if SIMULATED else (128, 4)
ADAPTIVE_THREADS = 16 if SIMULATED else 512
#: The thread that asks the rule. Not the first, which waits for other blocks on behalf of its own.
RULE_THREAD = ADAPTIVE_THREADS - 1
#: Threads that add up the columns of one sum.
LANES = 2 if SIMULATED else 8
#: Threads of `add_parts`: one for each sum and lane.
PARTS_THREADS = LANES * ROW_SIZE

# Sizes of shared memory, which must be plain constants to Numba. Rows of sums are a little longer
# than there are threads: lanes of two rows then read from different banks.
_STRIDE = THREADS + LANES
_ADAPTIVE_STRIDE = ADAPTIVE_THREADS + LANES
_TILE_SUMS = TILE * NUM_SUMS
_TILE_LANES = _TILE_SUMS * LANES
_PARTS_LANES = 2 * ROW_SIZE * LANES
_ROW_LANES = NUM_SUMS * LANES
_NOISY_LANES = NUM_NOISY * LANES


def _kernel(threads: int, blocks: int = 1, *, cache: bool = True) -> Decorator:
    """Compile a kernel for blocks of so many threads, so many of them on a multiprocessor."""
    if SIMULATED:
        return cuda.jit
    cache = cache and cache_directory() is not None
    return cuda.jit(launch_bounds=(threads, blocks), cache=cache)


def launch(kernel: Any, blocks: int, threads: int) -> Any:
    """Return a kernel to be called; that a problem is small is no reason for Numba to warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kernel[blocks, threads]


#: Compile what all threads of a block call together.
_together: Decorator = (
    cuda.jit(device=True) if SIMULATED else cuda.jit(device=True, forceinline=True)
)


def _plain(argument):
    """The NumPy array behind an array of the simulator."""
    inner = getattr(argument, "_item", argument)
    return getattr(inner, "_ary", inner)


def from_kernel(function: Any) -> Any:
    """A function of threads as kernels call it."""
    if not SIMULATED:
        return function

    def call(*arguments):
        return function(*(_plain(argument) for argument in arguments))

    return call


_set_move = from_kernel(for_gpu(move.set_move.py_func))
_take_step = from_kernel(gpu_thread.take_step)
_take_tile = from_kernel(gpu_thread.take_tile)
_jump = from_kernel(gpu_thread.jump)
_sum_state = from_kernel(gpu_thread.sum_state)
_add_values = from_kernel(gpu_thread.add_values)
_observe = from_kernel(gpu_thread.observe)
_write_normals = from_kernel(gpu_thread.write_normals)
_add_normals = from_kernel(gpu_thread.add_normals)


# --- sums --------------------------------------------------------------------------------------


@_together
def _add_columns(sums, lanes, count, thread, threads):
    """Add the columns of all threads in the first rows of `sums`; call with all threads.

    Returns, to thread ``j < count``, the sum of row j.
    """
    cuda.syncthreads()
    job = thread
    while job < count * LANES:
        first = job // LANES * (threads + LANES) + job % LANES
        lanes[job] = _add_values(sums, first, threads // LANES, LANES)
        job += threads
    cuda.syncthreads()
    if thread < count:
        return _add_values(lanes, thread * LANES, LANES, 1)
    return 0.0


@_together
def _add_parts(table, parts, thread, lanes):
    """Add up the rows of all parts; call with at least PARTS_THREADS threads of a block.

    Returns, to thread ``ROW_SIZE * band + column``, that sum of that band.
    """
    cuda.syncthreads()
    column = thread % ROW_SIZE
    lane = thread // ROW_SIZE
    if lane < LANES:
        dominant = 0.0
        bulk = 0.0
        p = lane
        while p < parts.shape[0]:
            if parts[p, BAND] == 0:
                dominant += table[p, column]
            else:
                bulk += table[p, column]
            p += LANES
        lanes[lane * 2 * ROW_SIZE + column] = dominant
        lanes[lane * 2 * ROW_SIZE + ROW_SIZE + column] = bulk
    cuda.syncthreads()
    total = 0.0
    if thread < 2 * ROW_SIZE:
        for other in range(LANES):
            total += lanes[other * 2 * ROW_SIZE + thread]
    return total


@_kernel(PARTS_THREADS)
def add_parts(table, parts, at, out):
    """Write the sums over parts of ``table[:, at[r]]`` to ``out[r]``, one row a block."""
    lanes = cuda.shared.array(_PARTS_LANES, float64)
    row = cuda.blockIdx.x
    thread = cuda.threadIdx.x
    total = _add_parts(table[:, at[row]], parts, thread, lanes)
    if thread < 2 * ROW_SIZE:
        out[row, thread // ROW_SIZE, thread % ROW_SIZE] = total


# --- steps of known sizes ----------------------------------------------------------------------


@_kernel(THREADS, BLOCKS)
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
        total = _add_columns(sums, lanes, NUM_SUMS * count, thread, THREADS)
        if thread < NUM_SUMS * count:
            table[p, t + thread // NUM_SUMS, thread % NUM_SUMS] = total
        t += count


@_kernel(THREADS, BLOCKS)
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
        total = _add_columns(sums, lanes, NUM_SUMS, thread, THREADS)
        if thread < NUM_SUMS:
            table[p, t, thread] = total


@_kernel(THREADS, BLOCKS)
def sum_state(state, lam, std, parts, table):
    """Write the sums of the state of part p to ``table[p, 0]``."""
    sums = cuda.shared.array((NUM_SUMS, _STRIDE), float64)
    lanes = cuda.shared.array(_ROW_LANES, float64)
    p = cuda.blockIdx.x
    thread = cuda.threadIdx.x
    _sum_state(thread, THREADS, state, lam, std, parts[p, FIRST], parts[p, LAST], sums)
    total = _add_columns(sums, lanes, NUM_SUMS, thread, THREADS)
    if thread < NUM_SUMS:
        table[p, 0, thread] = total


# --- steps whose sizes a rule chooses ----------------------------------------------------------


@_kernel(ADAPTIVE_THREADS)
def observe(state, lam, std, parts, low, high, key_0, key_1, table):
    """Write the sums of the noisy gradient of a step in part p to ``table[p, 0]``."""
    sums = cuda.shared.array((NUM_NOISY, _ADAPTIVE_STRIDE), float64)
    lanes = cuda.shared.array(_NOISY_LANES, float64)
    p = cuda.blockIdx.x
    thread = cuda.threadIdx.x
    _observe(
        thread, ADAPTIVE_THREADS, state, lam, std, parts[p, FIRST], parts[p, LAST], low, high,
        key_0, key_1, sums,
    )  # fmt: skip
    total = _add_columns(sums, lanes, NUM_NOISY, thread, ADAPTIVE_THREADS)
    if thread < NUM_NOISY:
        table[p, 0, thread] = total


@functools.lru_cache(maxsize=16)
def make_adaptive(rule, observes):
    """Build the kernel of a rule, a function of a `Row` and its memory (``rules``).

    Its launch is cooperative, of any number of blocks up to the number of parts. ``moves``,
    ``tables``, ``memories`` and ``step_sizes`` hold the next move, the table a rule reads, its
    memory and the size of the next step, one for each block, the same in all. ``recorded`` ends
    with a step that is never reached; ``out``, ``out_steps``, ``out_sizes`` and ``progress``, steps
    done and rows recorded, are as in ``advance.advance_adaptive``. A rule that raises leaves
    ``progress`` as it is.
    """
    choose = from_kernel(numba.njit(lambda step, table, memory: rule(row_of(step, table), memory)))

    @_kernel(ADAPTIVE_THREADS, cache=False)
    def advance_adaptive(
        state, lam, std, parts, weights, first_step, num_steps, recorded, key_0, key_1, table,
        noisy, moves, tables, memories, step_sizes, out, out_steps, out_sizes, progress,
    ):  # fmt: skip
        sums = cuda.shared.array((NUM_SUMS, _ADAPTIVE_STRIDE), float64)
        lanes = cuda.shared.array(_PARTS_LANES, float64)
        flags = cuda.shared.array(2, numba.boolean)  # whether the row is finite, and to go on
        grid = cuda.cg.this_grid()
        block = cuda.blockIdx.x
        thread = cuda.threadIdx.x
        rows = 0
        done = 0
        going = True
        while going and done < num_steps:
            step = first_step + done
            # Blocks ahead may write the sums of the next step while others still read these.
            turn = done % 2
            p = block
            while p < parts.shape[0]:
                band = parts[p, BAND]
                _take_step(
                    thread, ADAPTIVE_THREADS, state, lam, std, parts[p, FIRST], parts[p, LAST],
                    moves[block, band, DRIFT], moves[block, band, SPREAD], step & 0xFFFFFFFF,
                    step >> 32, key_0, key_1, sums,
                )  # fmt: skip
                total = _add_columns(sums, lanes, NUM_SUMS, thread, ADAPTIVE_THREADS)
                if thread < NUM_SUMS:
                    table[turn, p, thread] = total
                p += cuda.gridDim.x
            grid.sync()
            total = _add_parts(table[turn], parts, thread, lanes)
            if thread < 2 * ROW_SIZE:
                tables[block, thread // ROW_SIZE, thread % ROW_SIZE] = total
            if thread == 0:
                flags[0] = True
            cuda.syncthreads()
            if thread < 2 * ROW_SIZE and not math.isfinite(total):
                flags[0] = False
            cuda.syncthreads()
            finite = flags[0]
            step += 1
            if observes and finite:
                p = block
                while p < parts.shape[0]:
                    _observe(
                        thread, ADAPTIVE_THREADS, state, lam, std, parts[p, FIRST],
                        parts[p, LAST], step & 0xFFFFFFFF, step >> 32, key_0, key_1, sums,
                    )  # fmt: skip
                    total = _add_columns(sums, lanes, NUM_NOISY, thread, ADAPTIVE_THREADS)
                    if thread < NUM_NOISY:
                        noisy[turn, p, thread] = total
                    p += cuda.gridDim.x
                grid.sync()
                total = _add_parts(noisy[turn], parts, thread, lanes)
                if thread < 2 * ROW_SIZE and thread % ROW_SIZE < NUM_NOISY:
                    tables[block, thread // ROW_SIZE, NOISY_AT + thread % ROW_SIZE] = total
                cuda.syncthreads()
            record = not finite or step == recorded[rows]
            if thread == RULE_THREAD:
                recorder = record and block == 0
                if recorder:  # before the rule may write to its row
                    for column in range(ROW_SIZE):
                        out[rows, 0, column] = tables[block, 0, column]
                        out[rows, 1, column] = tables[block, 1, column]
                    out_steps[rows] = step
                flags[1] = False  # stands if the rule raises, which ends the thread
                if finite:
                    step_sizes[block] = choose(step, tables[block], memories[block])
                size = step_sizes[block]
                _set_move(moves, block, size, weights)
                if recorder:
                    out_sizes[rows] = size
                flags[1] = finite and math.isfinite(size) and size >= 0.0
            cuda.syncthreads()
            going = flags[1]
            if record:
                rows += 1
            done += 1
        if block == 0 and thread == RULE_THREAD:
            progress[0] = done
            progress[1] = rows

    return advance_adaptive


# --- filling arrays ----------------------------------------------------------------------------


@_kernel(THREADS)
def fill_normals(out, scale, domain, low, high, key_0, key_1):
    """Set ``out[i] = scale * xi_i(step)``, a counter a thread."""
    _write_normals(out, scale, cuda.grid(1), domain, low, high, key_0, key_1)


@_kernel(THREADS)
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


@_kernel(THREADS, BLOCKS)
def only_normals(parts, low, num_steps, key_0, key_1, out):
    """Make the normals of all parts at some steps and nothing else: the ceiling of `advance`."""
    p = cuda.blockIdx.x
    thread = cuda.threadIdx.x
    out[p, thread] = _add_normals(
        thread, THREADS, parts[p, FIRST], parts[p, LAST], low, num_steps, key_0, key_1
    )


# --- the cut into parts ------------------------------------------------------------------------


def cut(dim, num_dominant, count):
    """Cut a problem into at most `count` parts (at least 2) of one band and about one length.

    Returns
    -------
    ndarray of int64, shape (parts, 3)
        BAND, FIRST coordinate, and the one after the LAST.
    """
    length = GROUP * -(-dim // (GROUP * max(count - 1, 1)))
    edges = np.unique([*range(0, dim, length), num_dominant, dim])
    return np.stack([edges[:-1] >= num_dominant, edges[:-1], edges[1:]], axis=1).astype(np.int64)
