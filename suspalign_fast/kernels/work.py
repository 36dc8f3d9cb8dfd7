"""Working memory of the kernels that pass over blocks, a row for every worker, and its number."""

import numpy as np

from .batch import make_scratch
from .block import TILE
from .jit import inlined
from .plan import BLOCK

#: Blocks and steps from which on threads bring more than they cost.
MIN_WORK = 24


@inlined
def make_work(state, threads, key_0, key_1):
    """Buffers for a block's state, its moves, normals and words, for every thread."""
    scratch = make_scratch(key_0, key_1)
    prepared = np.zeros((threads, scratch[0].size), np.uint64)
    words = np.empty((threads, scratch[2].size), np.uint32)
    buffer = np.zeros((threads, BLOCK), state.dtype)
    moves = np.zeros((threads, 2, BLOCK))
    normals = np.empty((threads, TILE * BLOCK), np.float32)
    return prepared, scratch[1], words, buffer, moves, normals


@inlined
def scratch_of(work, worker):
    """Scratch of a worker, as `batch.write_normals` takes it."""
    return work[0][worker], work[1], work[2][worker]


@inlined
def count_workers(plan, num_steps):
    """How many threads a pass over all blocks is worth."""
    if plan.blocks.shape[0] * num_steps < MIN_WORK:
        return 1
    return min(plan.threads, plan.parts.shape[0])
