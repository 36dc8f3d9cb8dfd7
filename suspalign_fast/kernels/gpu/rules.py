"""Kernels for a GPU whose steps a rule chooses.

A rule needs the whole row before the next step: in a cooperative kernel all blocks wait for each
other once a step, and then each adds up the parts and asks the rule by itself, which saves waiting
for the answer.
"""

import functools
import math

import numba
from numba import cuda, float64

from ...physics.layout import CROSS_AT, NOISY_AT, NUM_BANDS, NUM_NOISY, NUM_SUMS, ROW_SIZE
from ..blocks import BAND, FIRST, LAST
from ..jit import for_gpu
from ..rules import row_of
from ..sums import DRIFT, SPREAD
from . import threads as gpu_thread
from .together import LANES, add_columns, add_rows, from_kernel, kernel, make_add_parts, together


@for_gpu
def set_move(moves, at, step_size, weights):
    """Set a move of both bands, one of shape (moves, bands, 2), to that of a step of SGD."""
    for band in range(NUM_BANDS):
        minus_eta = -(weights[band] * step_size)
        moves[at, band, DRIFT] = minus_eta
        moves[at, band, SPREAD] = minus_eta


_set_move = from_kernel(set_move)
_observe = from_kernel(gpu_thread.observe)


def _column_of(j):
    return j if j < NUM_SUMS else j - NUM_SUMS + CROSS_AT


#: Where a rule's table has the j-th sum of a row: those of the velocity lie apart.
_at = from_kernel(for_gpu(_column_of))


def make_reading(num_sums, width):
    """Build what a block does once all have left the sums of a step."""
    add_parts = add_rows if width == ROW_SIZE else make_add_parts(width)

    @together
    def read(table, parts, thread, lanes, flags, row):
        """Add up all parts to a rule's `row`, and say in the first flag whether it is finite.

        Call with all threads; to thread ``width * band + column`` it returns that sum.
        """
        total = add_parts(table, parts, thread, lanes)
        if thread == 0:
            flags[0] = True
        cuda.syncthreads()
        if thread < 2 * width and thread % width < num_sums:
            row[thread // width, _at(thread % width)] = total
            if not math.isfinite(total):
                flags[0] = False
        cuda.syncthreads()
        return total

    return read


@together
def read_noisy(table, parts, thread, lanes, row):
    """Add up the sums of the noisy gradient to a rule's `row`; call with all threads."""
    total = add_rows(table, parts, thread, lanes)
    if thread < 2 * ROW_SIZE and thread % ROW_SIZE < NUM_NOISY:
        row[thread // ROW_SIZE, NOISY_AT + thread % ROW_SIZE] = total
    cuda.syncthreads()


def make_asking(rule, num_sums):
    """Build what one thread of a block does once its row is there."""
    choose = from_kernel(numba.njit(lambda step, table, memory: rule(row_of(step, table), memory)))

    @together
    def ask(step, finite, recorder, at, row, memory, step_sizes, out, out_steps, out_sizes, flags):
        """Ask the rule for the next size, and say in the second flag whether it can be taken.

        A `recorder` also writes the row to place `at` of the output.
        """
        block = cuda.blockIdx.x
        if recorder:  # before the rule may write to its row
            for j in range(num_sums):
                out[at, 0, j] = row[0, _at(j)]
                out[at, 1, j] = row[1, _at(j)]
            out_steps[at] = step
        flags[1] = False  # stands if the rule raises, which ends the thread
        if finite:
            step_sizes[block] = choose(step, row, memory)
        size = step_sizes[block]
        if recorder:
            out_sizes[at] = size
        flags[1] = finite and math.isfinite(size) and size >= 0.0

    return ask


@functools.lru_cache(maxsize=16)
def make_adaptive(rule, observes, way):
    """Build the kernel of a rule, a function of a `Row` and its memory (``rules``).

    Its launch is cooperative, of any number of blocks up to the number of parts. ``planes`` and
    ``factors`` are what `Way.take_step` takes. ``moves``, ``tables``, ``memories`` and
    ``step_sizes`` hold the next move, the table a rule reads, its memory and the size of the next
    step, one for each block, the same in all. ``recorded`` ends with a step that is never reached;
    ``out``, ``out_steps``, ``out_sizes`` and ``progress``, steps done and rows recorded, are as in
    ``rule_steps.advance_adaptive``. A rule that raises leaves ``progress`` as it is.

    Parameters
    ----------
    rule : function
    observes : bool
        Whether it reads the sums of the noisy gradient.
    way : Way
    """
    take_step = way.take_step
    threads, num_sums, width = way.threads, way.num_sums, way.width
    read, ask = make_reading(num_sums, width), make_asking(rule, num_sums)
    stride, num_lanes = threads + LANES, 2 * width * LANES
    # Not the first thread, which waits for other blocks on behalf of its own.
    asker = threads - 1

    @kernel(threads, way.blocks, cache=False)
    def advance_adaptive(
        planes, factors, lam, std, parts, weights, first_step, num_steps, recorded, key_0, key_1,
        table, noisy, moves, tables, memories, step_sizes, out, out_steps, out_sizes, progress,
    ):  # fmt: skip
        sums = cuda.shared.array((num_sums, stride), float64)
        lanes = cuda.shared.array(num_lanes, float64)
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
                take_step(
                    thread, threads, parts[p, FIRST], parts[p, LAST], (planes, factors, lam, std),
                    moves[block, band, DRIFT], moves[block, band, SPREAD],
                    (step & 0xFFFFFFFF, step >> 32, key_0, key_1), sums,
                )  # fmt: skip
                total = add_columns(sums, lanes, num_sums, thread, threads)
                if thread < num_sums:
                    table[turn, p, thread] = total
                p += cuda.gridDim.x
            grid.sync()
            read(table[turn], parts, thread, lanes, flags, tables[block])
            finite = flags[0]
            step += 1
            if observes and finite:
                p = block
                while p < parts.shape[0]:
                    _observe(
                        thread, threads, parts[p, FIRST], parts[p, LAST], (planes[0], lam, std),
                        (step & 0xFFFFFFFF, step >> 32, key_0, key_1), sums,
                    )  # fmt: skip
                    total = add_columns(sums, lanes, NUM_NOISY, thread, threads)
                    if thread < NUM_NOISY:
                        noisy[turn, p, thread] = total
                    p += cuda.gridDim.x
                grid.sync()
                read_noisy(noisy[turn], parts, thread, lanes, tables[block])
            record = not finite or step == recorded[rows]
            if thread == asker:
                ask(
                    step, finite, record and block == 0, rows, tables[block], memories[block],
                    step_sizes, out, out_steps, out_sizes, flags,
                )  # fmt: skip
                _set_move(moves, block, step_sizes[block], weights)
            cuda.syncthreads()
            going = flags[1]
            if record:
                rows += 1
            done += 1
        if block == 0 and thread == asker:
            progress[0] = done
            progress[1] = rows

    return advance_adaptive
