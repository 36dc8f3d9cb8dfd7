"""SGD steps on a block whose normals are there, with its power sums.

`_make` turns a way to sum (``sums``) into the loops over a block.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .blocks import BLOCK, EQUAL, NARROW, load_edges
from .jit import inlined
from .normals import GROUP, LANES, make_scratch
from .simd import broadcast, load, load_doubles, prefetch, store_doubles, zeros
from .sums import (
    DIRECT_WAY,
    EQUAL_WAY,
    NARROW_WAY,
    add_noisy,
    commit_noisy,
    jumped,
    moved,
    no_noisy,
)

#: Steps of one size that `step_tile` takes together, of equal moves.
TILE = 4


@inlined
def _moved(state, c, a, b, normals, i):
    return moved(state, c, a, b, load(normals, i, LANES))


def _make(empty, powers_of, add, commit):
    """Build the loops of a way: over a tile, over one step, over a jump, over the state alone."""

    @inlined
    def step_tile(c, lam, std, a, b, normals, groups, weights, rows):
        sums_0 = empty(zeros(0.0, LANES))
        sums_1 = empty(zeros(0.0, LANES))
        sums_2 = empty(zeros(0.0, LANES))
        sums_3 = empty(zeros(0.0, LANES))
        for i in range(0, GROUP * groups, LANES):
            powers = powers_of(load(lam, i, LANES), load(std, i, LANES), weights)
            a_i = load(a, i, LANES)
            b_i = load(b, i, LANES)
            c_i = _moved(c, load_doubles(c, i, LANES), a_i, b_i, normals, i)
            sums_0 = add(sums_0, c_i, powers)
            c_i = _moved(c, c_i, a_i, b_i, normals, BLOCK + i)
            sums_1 = add(sums_1, c_i, powers)
            c_i = _moved(c, c_i, a_i, b_i, normals, 2 * BLOCK + i)
            sums_2 = add(sums_2, c_i, powers)
            c_i = _moved(c, c_i, a_i, b_i, normals, 3 * BLOCK + i)
            sums_3 = add(sums_3, c_i, powers)
            store_doubles(c, i, c_i)
        commit(sums_0, weights, rows[0])
        commit(sums_1, weights, rows[1])
        commit(sums_2, weights, rows[2])
        commit(sums_3, weights, rows[3])

    @inlined
    def step_once(c, lam, std, drift, spread, normals, groups, weights, row):
        drifts = broadcast(drift, zeros(0.0, LANES))
        spreads = broadcast(spread, zeros(0.0, LANES))
        sums = empty(zeros(0.0, LANES))
        for i in range(0, GROUP * groups, LANES):
            lam_i = load(lam, i, LANES)
            std_i = load(std, i, LANES)
            # A single step passes over all memory: the next block's, while noise is being made.
            prefetch(c, i + BLOCK)
            prefetch(lam, i + BLOCK)
            prefetch(std, i + BLOCK)
            c_i = load_doubles(c, i, LANES)
            c_i = _moved(c, c_i, drifts * lam_i, spreads * std_i, normals, i)
            store_doubles(c, i, c_i)
            sums = add(sums, c_i, powers_of(lam_i, std_i, weights))
        commit(sums, weights, row)

    @inlined
    def jump(c, a, b, lam, std, normals, groups, weights, row):
        sums = empty(zeros(0.0, LANES))
        for i in range(0, GROUP * groups, LANES):
            prefetch(c, i + BLOCK)
            prefetch(lam, i + BLOCK)
            a_i = load(a, i, LANES)
            b_i = load(b, i, LANES)
            c_i = jumped(c, load_doubles(c, i, LANES), a_i, b_i, load(normals, i, LANES))
            store_doubles(c, i, c_i)
            powers = powers_of(load(lam, i, LANES), load(std, i, LANES), weights)
            sums = add(sums, c_i, powers)
        commit(sums, weights, row)

    @inlined
    def sum_state(c, lam, std, groups, weights, row):
        sums = empty(zeros(0.0, LANES))
        for i in range(0, GROUP * groups, LANES):
            powers = powers_of(load(lam, i, LANES), load(std, i, LANES), weights)
            sums = add(sums, load_doubles(c, i, LANES), powers)
        commit(sums, weights, row)

    return step_tile, step_once, jump, sum_state


def _make_of_roots(empty, powers_of, add, commit):
    """Build loops where s is the root of lambda, which is then not read: less is to be moved."""

    @inlined
    def step_once(c, std, drift, spread, normals, groups, weights, row):
        drifts = broadcast(drift, zeros(0.0, LANES))
        spreads = broadcast(spread, zeros(0.0, LANES))
        sums = empty(zeros(0.0, LANES))
        for i in range(0, GROUP * groups, LANES):
            std_i = load(std, i, LANES)
            lam_i = std_i * std_i
            prefetch(c, i + BLOCK)
            prefetch(std, i + BLOCK)
            c_i = load_doubles(c, i, LANES)
            c_i = _moved(c, c_i, drifts * lam_i, spreads * std_i, normals, i)
            store_doubles(c, i, c_i)
            sums = add(sums, c_i, powers_of(lam_i, std_i, weights))
        commit(sums, weights, row)

    @inlined
    def sum_state(c, std, groups, weights, row):
        sums = empty(zeros(0.0, LANES))
        for i in range(0, GROUP * groups, LANES):
            std_i = load(std, i, LANES)
            powers = powers_of(std_i * std_i, std_i, weights)
            sums = add(sums, load_doubles(c, i, LANES), powers)
        commit(sums, weights, row)

    return step_once, sum_state


_tile_direct, _once_direct, _jump_direct, _sum_direct = _make(*DIRECT_WAY)
_tile_narrow, _once_narrow, _jump_narrow, _sum_narrow = _make(*NARROW_WAY)
_tile_equal, _once_equal, _jump_equal, _sum_equal = _make(*EQUAL_WAY)
_once_direct_root, _sum_direct_root = _make_of_roots(*DIRECT_WAY)
_once_narrow_root, _sum_narrow_root = _make_of_roots(*NARROW_WAY)
_once_equal_root, _sum_equal_root = _make_of_roots(*EQUAL_WAY)


def by_kind(direct, narrow, equal):
    """Build the loop that takes the way of a block's kind."""

    @inlined
    def loop(kind, *arguments):
        if kind == EQUAL:
            equal(*arguments)
        elif kind == NARROW:
            narrow(*arguments)
        else:
            direct(*arguments)

    return loop


#: Apply TILE equal moves to a block and add its sums to ``rows``: (kind, c, lam, std, a, b,
#: normals, groups, weights, rows). ``a`` and ``b`` hold drift times lambda and spread times s,
#: ``normals`` TILE times BLOCK float32.
step_tile = by_kind(_tile_direct, _tile_narrow, _tile_equal)
#: Apply one move to a block and add its sums to ``row``: (kind, c, lam, std, drift, spread,
#: normals, groups, weights, row).
step_once = by_kind(_once_direct, _once_narrow, _once_equal)
#: Set ``c`` to ``a c + b xi`` and add the sums of a block to ``row``: (kind, c, a, b, lam, std,
#: normals, groups, weights, row).
jump_block = by_kind(_jump_direct, _jump_narrow, _jump_equal)
#: Add the sums of a block's state to ``row``: (kind, c, lam, std, groups, weights, row).
sum_block = by_kind(_sum_direct, _sum_narrow, _sum_equal)

#: As `step_once` and `sum_block`, of ``s = sqrt(lambda)`` and without lambda.
step_once_of_roots = by_kind(_once_direct_root, _once_narrow_root, _once_equal_root)
sum_block_of_roots = by_kind(_sum_direct_root, _sum_narrow_root, _sum_equal_root)


@inlined
def observe_block(c, lam, std, normals, groups, out):
    """Add ``sum lambda^p h^2``, p = 0, 1, 2, of the noisy gradient h of a step to ``out``."""
    sums = no_noisy(zeros(0.0, LANES))
    for i in range(0, GROUP * groups, LANES):
        prefetch(c, i + BLOCK)
        prefetch(lam, i + BLOCK)
        c_i = load_doubles(c, i, LANES)
        lam_i = load(lam, i, LANES)
        sums = add_noisy(sums, c_i, lam_i, load(std, i, LANES), load(normals, i, LANES))
    commit_noisy(sums, out)


# --- Working memory of the kernels that pass over blocks, a row for every worker -----------------


class Work(NamedTuple):
    """Edges, buffers with a row for every thread, and what `normals.make_scratch` makes."""

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
    """Scratch of a worker, as `normals.write_normals` takes it."""
    return work.prepared[worker], work.keys, work.words[worker]


@inlined
def share_of(worker, workers, plan):
    """First and last + 1 part of a worker."""
    num_parts = plan.parts.shape[0]
    return worker * num_parts // workers, (worker + 1) * num_parts // workers
