"""SGD steps on a block whose normals are there, with its power sums.

A loop is made of a way to sum (`sums`), with or without a velocity, for additive noise or for
mini-batches of data. Mini-batches have ``s = sqrt(lambda)``: their loops read s alone.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .batches import gradient
from .blocks import (
    BLOCK,
    EQUAL,
    NARROW,
    load_edges,
    return_edges,
)
from .jit import inlined
from .normals import GROUP, LANES, make_scratch
from .simd import broadcast, broadcast_each, load, load_doubles, prefetch, store_doubles, zeros
from .sums import (
    WAYS,
    add_gradient,
    additive_gradient,
    commit_noisy,
    moved,
    no_noisy,
    velocity_moved,
    ways_of,
)

#: Steps of one size that `step_tile` takes together, of equal moves.
TILE = 4


def by_kind(ways, make):
    """Make a loop of each way; return one that takes the way of a block's kind."""
    direct, narrow, equal = (make(*way) for way in ways)

    @inlined
    def loop(kind, *arguments):
        if kind == EQUAL:
            equal(*arguments)
        elif kind == NARROW:
            narrow(*arguments)
        else:
            direct(*arguments)

    return loop


def _make_move(has_velocity, is_batch):
    """Build the step of a vector of coordinates and velocities by the numbers of `numbers_for`."""
    gradient_of = gradient if is_batch else additive_gradient

    @inlined
    def plain(c, v, c_i, v_i, lam_i, std_i, numbers, z_i):
        c_i = moved(c, c_i, numbers[0] * lam_i, numbers[1] * std_i, z_i)
        return c_i, c_i

    @inlined
    def with_velocity(c, v, c_i, v_i, lam_i, std_i, numbers, z_i):
        drift, gain, spread, pull, carry, decay = numbers
        h = gradient_of(c_i, lam_i, std_i, gain, spread, z_i)
        return velocity_moved(c, v, c_i, v_i, h, drift, pull, carry, decay)

    return with_velocity if has_velocity else plain


def numbers_for(has_velocity):
    """Build ``numbers(minus_eta, gain, spread, factors)``: what a step is to all of a block.

    The gradient is ``gain lambda c + spread s xi``, and gain and spread are 1 for additive noise.
    """

    @inlined
    def plain(minus_eta, gain, spread, factors):
        return minus_eta * gain, minus_eta * spread

    @inlined
    def with_velocity(minus_eta, gain, spread, factors):
        return minus_eta, gain, spread, factors[0], factors[1], factors[2]

    return with_velocity if has_velocity else plain


def make_step(has_velocity, is_batch, is_far=True):
    """Build ``step(kind, c, v, lam, std, numbers, normals, groups, weights, row)``.

    It applies a step to a block and adds its sums to ``row``. Without a velocity ``v`` is not
    looked at. A loop that is far from the cache fetches the next block while noise is being made.
    """
    move = _make_move(has_velocity, is_batch)

    def make(empty, powers_of, add, commit):
        @inlined
        def step(c, v, lam, std, numbers, normals, groups, weights, row):
            vectors = broadcast_each(numbers, zeros(0.0, LANES))
            sums = empty(zeros(0.0, LANES))
            for i in range(0, GROUP * groups, LANES):
                std_i = load(std, i, LANES)
                lam_i = std_i * std_i if is_batch else load(lam, i, LANES)
                if is_far:
                    prefetch(c, i + BLOCK)
                    if has_velocity:
                        prefetch(v, i + BLOCK)
                    if not is_batch:
                        prefetch(lam, i + BLOCK)
                    prefetch(std, i + BLOCK)
                c_i = load_doubles(c, i, LANES)
                v_i = load_doubles(v, i, LANES) if has_velocity else c_i
                z_i = load(normals, i, LANES)
                c_i, v_i = move(c, v, c_i, v_i, lam_i, std_i, vectors, z_i)
                store_doubles(c, i, c_i)
                if has_velocity:
                    store_doubles(v, i, v_i)
                sums = add(sums, c_i, v_i, powers_of(lam_i, std_i, weights))
            commit(sums, weights, row)

        return step

    return by_kind(ways_of(has_velocity), make)


def make_sum(has_velocity, is_batch):
    """Build ``sum(kind, c, v, lam, std, groups, weights, row)``: a block's sums go to ``row``."""

    def make(empty, powers_of, add, commit):
        @inlined
        def sum_state(c, v, lam, std, groups, weights, row):
            sums = empty(zeros(0.0, LANES))
            for i in range(0, GROUP * groups, LANES):
                std_i = load(std, i, LANES)
                lam_i = std_i * std_i if is_batch else load(lam, i, LANES)
                c_i = load_doubles(c, i, LANES)
                v_i = load_doubles(v, i, LANES) if has_velocity else c_i
                sums = add(sums, c_i, v_i, powers_of(lam_i, std_i, weights))
            commit(sums, weights, row)

        return sum_state

    return by_kind(ways_of(has_velocity), make)


def make_observe(is_batch):
    """Build ``observe(c, lam, std, gain, spread, normals, groups, out)``.

    It adds ``sum lambda^p h^2``, p = 0, 1, 2, of the noisy gradient h of a step to ``out``.
    """
    gradient_of = gradient if is_batch else additive_gradient

    @inlined
    def observe(c, lam, std, gain, spread, normals, groups, out):
        sums = no_noisy(zeros(0.0, LANES))
        gains = broadcast(gain, zeros(0.0, LANES))
        spreads = broadcast(spread, zeros(0.0, LANES))
        for i in range(0, GROUP * groups, LANES):
            prefetch(c, i + BLOCK)
            prefetch(lam, i + BLOCK)
            c_i = load_doubles(c, i, LANES)
            lam_i = load(lam, i, LANES)
            z_i = load(normals, i, LANES)
            h = gradient_of(c_i, lam_i, load(std, i, LANES), gains, spreads, z_i)
            sums = add_gradient(sums, lam_i, h)
        commit_noisy(sums, out)

    return observe


# --- Steps taken together, unrolled by hand: coordinates stay in registers between them ----------


@inlined
def _moved(state, c, a, b, normals, i):
    return moved(state, c, a, b, load(normals, i, LANES))


def _make_tile(empty, powers_of, add, commit):
    """Build the loop of a way over a tile of plain steps."""

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
            sums_0 = add(sums_0, c_i, c_i, powers)
            c_i = _moved(c, c_i, a_i, b_i, normals, BLOCK + i)
            sums_1 = add(sums_1, c_i, c_i, powers)
            c_i = _moved(c, c_i, a_i, b_i, normals, 2 * BLOCK + i)
            sums_2 = add(sums_2, c_i, c_i, powers)
            c_i = _moved(c, c_i, a_i, b_i, normals, 3 * BLOCK + i)
            sums_3 = add(sums_3, c_i, c_i, powers)
            store_doubles(c, i, c_i)
        commit(sums_0, weights, rows[0])
        commit(sums_1, weights, rows[1])
        commit(sums_2, weights, rows[2])
        commit(sums_3, weights, rows[3])

    return step_tile


#: Apply TILE equal moves to a block and add its sums to ``rows``: (kind, c, lam, std, a, b,
#: normals, groups, weights, rows). ``a`` and ``b`` hold drift times lambda and spread times s,
#: ``normals`` TILE times BLOCK float32.
step_tile = by_kind(WAYS, _make_tile)

_velocity_move = _make_move(True, False)


@inlined
def skip_pair(c, v, lam, std, numbers_0, numbers_1, normals, groups):
    """Two steps with a velocity whose rows nobody wants."""
    zero = zeros(0.0, LANES)
    vectors_0 = broadcast_each(numbers_0, zero)
    vectors_1 = broadcast_each(numbers_1, zero)
    for i in range(0, GROUP * groups, LANES):
        lam_i = load(lam, i, LANES)
        std_i = load(std, i, LANES)
        c_i = load_doubles(c, i, LANES)
        v_i = load_doubles(v, i, LANES)
        z_i = load(normals, i, LANES)
        c_i, v_i = _velocity_move(c, v, c_i, v_i, lam_i, std_i, vectors_0, z_i)
        z_i = load(normals, BLOCK + i, LANES)
        c_i, v_i = _velocity_move(c, v, c_i, v_i, lam_i, std_i, vectors_1, z_i)
        store_doubles(c, i, c_i)
        store_doubles(v, i, v_i)


# --- What the loops pass over, and their working memory ------------------------------------------


class Planes(NamedTuple):
    """State and velocity, and buffers of their edges; a velocity that is none is the state."""

    state: NDArray[Any]
    velocity: NDArray[Any]
    edges: NDArray[Any]
    velocity_edges: NDArray[Any]


def make_planes(has_velocity):
    """Build what takes planes up and, edges included, gives the blocks ``first ... last`` back."""

    @inlined
    def take_planes(state, velocity, plan):
        edges = load_edges(state, plan)
        velocity_edges = load_edges(velocity, plan) if has_velocity else edges
        return Planes(state, velocity, edges, velocity_edges)

    @inlined
    def return_planes(planes, plan, first, last):
        return_edges(planes.edges, planes.state, plan, first, last)
        if has_velocity:
            return_edges(planes.velocity_edges, planes.velocity, plan, first, last)

    return take_planes, return_planes


class Work(NamedTuple):
    """Working memory: a row for every worker, and of mini-batches also one for every block.

    Attributes
    ----------
    prepared, keys, words : ndarray
        What `normals.make_scratch` makes.
    moves : ndarray of float64, shape (workers, 2, BLOCK)
        What moves have of a block: factors of coefficients and of normals.
    normals : ndarray of float32, shape (workers, TILE * BLOCK)
    rows : ndarray of float64, shape (blocks, row_size)
        Sums of every block, none where noise is additive.
    norms, xi : ndarray, shape (blocks,)
        Norms of the blocks' ``s c``, and the normals along them (`batches`).
    """

    prepared: NDArray[np.uint64]
    keys: NDArray[np.uint64]
    words: NDArray[np.uint32]
    moves: NDArray[np.float64]
    normals: NDArray[np.float32]
    rows: NDArray[np.float64]
    norms: NDArray[np.float64]
    xi: NDArray[np.float32]


@inlined
def make_work(workers, blocks, row_size, key_0, key_1):
    """Return working memory for some workers, and for the sums of some blocks."""
    prepared, keys, words = make_scratch(key_0, key_1)
    return Work(
        np.zeros((workers, prepared.size), np.uint64),
        keys,
        np.empty((workers, words.size), np.uint32),
        np.zeros((workers, 2, BLOCK)),
        np.empty((workers, TILE * BLOCK), np.float32),
        np.empty((blocks, row_size)),
        np.empty(blocks),
        np.empty(blocks + 2 * GROUP, np.float32),
    )


@inlined
def share_of(worker, workers, plan):
    """First and last + 1 part of a worker."""
    num_parts = plan.parts.shape[0]
    return worker * num_parts // workers, (worker + 1) * num_parts // workers
