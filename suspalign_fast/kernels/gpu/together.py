"""What blocks of threads of a GPU do together, and how their kernels are compiled.

The sums of the threads of a block are added through shared memory, those of the parts in global
memory, in an order that depends on neither timing nor the number of blocks, so two runs on one
kind of device give the same bits.
"""

import contextlib
import importlib
import warnings
from typing import Any, NamedTuple

import numpy as np
from numba import cuda

from ...physics.layout import ROW_SIZE
from ..blocks import BAND
from ..jit import SIMULATED, Decorator, cache_directory, use_package_cache
from ..normals import GROUP
from . import threads as gpu_thread

with contextlib.suppress(ImportError):  # of Numba itself, or simulated: the cache it has is set
    use_package_cache(importlib.import_module("numba.cuda.core.caching"))

#: Threads of a block and blocks of a multiprocessor, chosen so that a thread may have 128
#: registers, where steps are known. There is a thread for every sum of a tile; simulated ones are
#: Python's, so there are no more than that. Under a rule every step ends in a sum over all blocks,
#: which is shorter with few of them (`Way`).
THREADS, BLOCKS = (32, 2) if SIMULATED else (128, 4)
#: Threads that add up the columns of one sum.
LANES = 2 if SIMULATED else 8


class Way(NamedTuple):
    """What a kind of step is to blocks of threads: sums of a coordinate, and kernels.

    Attributes
    ----------
    num_sums : int
        Sums that a coordinate adds to.
    tile : int
        Steps of known sizes that a coordinate is taken through at once.
    threads, blocks : int
        Threads of a block and blocks of a multiprocessor under a rule.
    take_step : function
        ``take_step(thread, threads, start, stop, model, drift, spread, stream, sums)`` applies one
        move, for kernels of a rule.
    advance, jump_rows, sum_state, add_parts : kernels
    """

    num_sums: int
    tile: int
    threads: int
    blocks: int
    take_step: Any
    advance: Any
    jump_rows: Any
    sum_state: Any
    add_parts: Any

    @property
    def width(self) -> int:
        """Numbers that hold the sums."""
        return width_of(self.num_sums)


def width_of(num_sums):
    """Numbers that hold so many sums: whole vectors, as rows have it."""
    return ROW_SIZE * -(-num_sums // ROW_SIZE)


def kernel(threads: int, blocks: int = 1, *, cache: bool = True) -> Decorator:
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
together: Decorator = (
    cuda.jit(device=True) if SIMULATED else cuda.jit(device=True, forceinline=True)
)


def _plain(argument):
    """The NumPy arrays behind those of the simulator."""
    if isinstance(argument, tuple):
        return tuple(map(_plain, argument))
    inner = getattr(argument, "_item", argument)
    return getattr(inner, "_ary", inner)


def from_kernel(function: Any) -> Any:
    """A function of threads as kernels call it."""
    if not SIMULATED:
        return function

    def call(*arguments):
        return function(*(_plain(argument) for argument in arguments))

    return call


_add_values = from_kernel(gpu_thread.add_values)


@together
def add_columns(sums, lanes, count, thread, threads):
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


def make_add_parts(width):
    """Build the sum over parts of rows of so many numbers a band."""

    @together
    def add(table, parts, thread, lanes):
        cuda.syncthreads()
        column = thread % width
        lane = thread // width
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
            lanes[lane * 2 * width + column] = dominant
            lanes[lane * 2 * width + width + column] = bulk
        cuda.syncthreads()
        total = 0.0
        if thread < 2 * width:
            for other in range(LANES):
                total += lanes[other * 2 * width + thread]
        return total

    return add


#: Add up the rows of all parts; call with at least ``width * LANES`` threads of a block. Returns,
#: to thread ``width * band + column``, that sum of that band.
add_rows = make_add_parts(ROW_SIZE)


# --- the cut into parts ------------------------------------------------------------------------


def cut(dim, num_dominant, count, unit=GROUP):
    """Cut a problem into at most `count` parts (at least 2) of one band and about one length.

    Parameters
    ----------
    dim, num_dominant, count : int
    unit : int
        What lengths are multiples of.

    Returns
    -------
    ndarray of int64, shape (parts, 3)
        BAND, FIRST coordinate, and the one after the LAST.
    """
    return cut_every(dim, num_dominant, unit * -(-dim // (unit * max(count - 1, 1))))


def cut_every(dim, num_dominant, length):
    """Cut a problem at every multiple of a length and between the bands; as `cut`."""
    edges = np.unique([*range(0, dim, length), num_dominant, dim])
    return np.stack([edges[:-1] >= num_dominant, edges[:-1], edges[1:]], axis=1).astype(np.int64)
