"""What blocks of threads do in steps of known sizes, jumps and sums, without and with a velocity.

Steps of known sizes need nothing from other parts: a launch does many of them, one part a block,
and ``add_parts`` makes rows of the table that it leaves. The functions here are the bodies of the
kernels in ``plain`` and ``velocity``; kernels themselves stand at the top of a file, where Numba's
disk cache finds them again.
"""

from numba import cuda, float64

from ..blocks import BAND, FIRST, LAST
from ..sums import DRIFT, SPREAD
from .together import LANES, THREADS, add_columns, make_add_parts, together


def make_known(num_sums, tile, take_step, take_tile, take_jump, take_sums):
    """Build the bodies of ``advance``, ``jump_rows`` and ``sum_state``.

    Parameters
    ----------
    num_sums, tile : int
        Sums of a coordinate, and steps that `take_tile` applies.
    take_step, take_tile, take_jump, take_sums : function
        What one thread does.
    """
    # Rows of sums are a little longer than there are threads: lanes of two rows then read from
    # different banks.
    stride = THREADS + LANES
    tile_sums, tile_lanes, row_lanes = tile * num_sums, tile * num_sums * LANES, num_sums * LANES

    @together
    def advance(model, parts, moves, stream, table):
        sums = cuda.shared.array((tile_sums, stride), float64)
        lanes = cuda.shared.array(tile_lanes, float64)
        low, high, key_0, key_1 = stream
        p = cuda.blockIdx.x
        thread = cuda.threadIdx.x
        start = parts[p, FIRST]
        stop = parts[p, LAST]
        band = parts[p, BAND]
        t = 0
        while t < moves.shape[0]:
            count = 1
            now = (low + t, high, key_0, key_1)
            if t + tile <= moves.shape[0]:
                count = tile
                take_tile(thread, THREADS, start, stop, model, (moves, t, band), now, sums)
            else:
                drift, spread = moves[t, band, DRIFT], moves[t, band, SPREAD]
                take_step(thread, THREADS, start, stop, model, drift, spread, now, sums)
            total = add_columns(sums, lanes, num_sums * count, thread, THREADS)
            if thread < num_sums * count:
                table[p, t + thread // num_sums, thread % num_sums] = total
            t += count

    @together
    def jump_rows(given, parts, lows, highs, key, table):
        sums = cuda.shared.array((num_sums, stride), float64)
        lanes = cuda.shared.array(row_lanes, float64)
        p = cuda.blockIdx.x
        thread = cuda.threadIdx.x
        for t in range(lows.size):
            stream = (lows[t], highs[t], key[0], key[1])
            take_jump(thread, THREADS, parts[p, FIRST], parts[p, LAST], given, stream, sums)
            total = add_columns(sums, lanes, num_sums, thread, THREADS)
            if thread < num_sums:
                table[p, t, thread] = total

    @together
    def sum_state(planes, lam, std, parts, table):
        sums = cuda.shared.array((num_sums, stride), float64)
        lanes = cuda.shared.array(row_lanes, float64)
        p = cuda.blockIdx.x
        thread = cuda.threadIdx.x
        take_sums(thread, THREADS, parts[p, FIRST], parts[p, LAST], planes, lam, std, sums)
        total = add_columns(sums, lanes, num_sums, thread, THREADS)
        if thread < num_sums:
            table[p, 0, thread] = total

    return advance, jump_rows, sum_state


def make_write_parts(width):
    """Build the body of ``add_parts``, for rows of so many numbers a band."""
    add_rows = make_add_parts(width)
    num_lanes = 2 * width * LANES

    @together
    def write_parts(table, parts, at, out):
        lanes = cuda.shared.array(num_lanes, float64)
        row = cuda.blockIdx.x
        thread = cuda.threadIdx.x
        total = add_rows(table[:, at[row]], parts, thread, lanes)
        if thread < 2 * width:
            out[row, thread // width, thread % width] = total

    return write_parts
