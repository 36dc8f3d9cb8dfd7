"""Working memory of the kernels that pass over blocks, a row for every worker."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .batch import make_scratch
from .block import TILE
from .edges import load_edges
from .jit import inlined
from .plan import BLOCK


class Work(NamedTuple):
    """Edges, buffers with a row for every thread, and what `batch.make_scratch` makes."""

    edges: NDArray[Any]
    prepared: NDArray[np.uint64]
    keys: NDArray[np.uint64]
    words: NDArray[np.uint32]
    moves: NDArray[np.float64]
    normals: NDArray[np.float32]


@inlined
def make_work(state, plan, threads, key_0, key_1):
    """Edges of a state, and buffers for a block's moves, normals and words, for every thread."""
    prepared, keys, words = make_scratch(key_0, key_1)
    return Work(
        load_edges(state, plan),
        np.zeros((threads, prepared.size), np.uint64),
        keys,
        np.empty((threads, words.size), np.uint32),
        np.zeros((threads, 2, BLOCK)),
        np.empty((threads, TILE * BLOCK), np.float32),
    )


@inlined
def scratch_of(work, worker):
    """Scratch of a worker, as `batch.write_normals` takes it."""
    return work.prepared[worker], work.keys, work.words[worker]


@inlined
def share_of(worker, workers, plan):
    """First and last + 1 part of a worker."""
    num_parts = plan.parts.shape[0]
    return worker * num_parts // workers, (worker + 1) * num_parts // workers
