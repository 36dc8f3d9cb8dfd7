"""How a problem is cut for the kernels: parts, the unit of parallel work, and blocks.

A block is up to 1,024 coordinates of one band that stay in L1 cache while many steps are applied
to them. Blocks start at multiples of 1,024; where a band starts or ends inside one, the block is
an *edge*: it is worked on in a buffer of whole groups whose other coordinates have eigenvalue,
noise and coefficient zero, which stay zero and add nothing to any sum.

The cut depends on the dimension and the number of dominant directions alone and sums are added in
its order, so neither the number of threads nor the chunking of steps can change a bit.

The seven sums of a row cost seven multiply-adds a coordinate when added up directly. In a block
whose eigenvalues lie close together they are combinations of few moments ``m_j = sum c^2 x^j`` with
``x = (lambda - center) / half_width`` in [-1, 1]: one moment where all eigenvalues are equal, four
where they are narrow,

    S_p = sum_j binom(p, j) center^(p-j) half_width^j m_j,

with x^4 and higher powers replaced by their Chebyshev series up to degree 3, which errs by 1/8 in
x^4. S_1, S_2 and S_3, and with them loss and alignment, lose nothing; with r = half_width / center,
S_4 errs by r^4 / 8 < 1e-12 and R_4 ... R_6, which only tell how sure a step is, are sums of at most
power 8 and err by at most 70 r^4 / 8 + ... < 6e-11. Only a wide block needs the direct sums.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..physics.layout import ROW_SIZE
from .jit import copy_values, inlined
from .normals import BATCH, GROUP

BLOCK = BATCH * GROUP
MAX_PARTS = 256
#: Weights of four moments in a row, then x = SCALE * lambda + OFFSET.
NUM_MOMENTS = 4
SCALE = NUM_MOMENTS * ROW_SIZE
OFFSET = SCALE + 1
WEIGHTS = SCALE + 2

#: Largest half_width / center of a narrow block.
NARROW_RATIO = 1.6e-3

# Columns of a plan's blocks and parts.
START, STOP, EDGE, KIND, LAM, STD = range(6)
BAND, FIRST, LAST = range(3)

# How the sums of a block are taken.
DIRECT, EQUAL, NARROW = range(3)


class Plan(NamedTuple):
    """A problem cut into blocks and parts, as the kernels take it.

    Attributes
    ----------
    blocks : ndarray of int64, shape (blocks, 6)
        Coordinates START ... STOP - 1, which EDGE it is (from 1, or 0), its KIND of sums, where its
        eigenvalues and noise standard deviations start: in `lam` and `std` where not negative,
        else at ``-1 - value`` in `shared`.
    edges : ndarray of int64, shape (edges,)
        Blocks that are edges.
    parts : ndarray of int64, shape (parts, 3)
        BAND and blocks FIRST ... LAST - 1.
    lam, std : ndarray of float64
        Values of all coordinates, or empty.
    shared : ndarray of float64
        Values of edges, and of blocks that have the same ones.
    moment_weights : ndarray of float64, shape (blocks, WEIGHTS)
        How moments make up sums.
    threads : int
        How many may work on it at once.
    first_group : int
        Group of coordinate 0 among those of the whole problem, of which this may be a shard.
    """

    blocks: NDArray[np.int64]
    edges: NDArray[np.int64]
    parts: NDArray[np.int64]
    lam: NDArray[np.float64]
    std: NDArray[np.float64]
    shared: NDArray[np.float64]
    moment_weights: NDArray[np.float64]
    threads: int
    first_group: int


def part_length(dim: int) -> int:
    """Coordinates at whose multiples the parts of a problem of a dimension end."""
    return BLOCK * -(-dim // (MAX_PARTS * BLOCK))


# --- Where a block finds its numbers; one that is cut short is held in a buffer during a call ----


@inlined
def load_edges(state, plan):
    """Return the state of all edges, a buffer for each; what lies outside a block is zero."""
    edges = np.zeros((plan.edges.size, BLOCK), state.dtype)
    for e in range(plan.edges.size):
        start = plan.blocks[plan.edges[e], START]
        stop = plan.blocks[plan.edges[e], STOP]
        copy_values(edges[e], start % GROUP, state, start, stop - start)
    return edges


@inlined
def return_edges(edges, state, plan, first, last):
    """Copy the edges among the blocks ``first ... last - 1`` back to the state."""
    for e in range(plan.edges.size):
        if plan.edges[e] < first or plan.edges[e] >= last:
            continue
        start = plan.blocks[plan.edges[e], START]
        stop = plan.blocks[plan.edges[e], STOP]
        copy_values(state, start, edges[e], start % GROUP, stop - start)


@inlined
def coefficients_of(state, blocks, b, edges):
    """A block's state: in place, or the buffer of an edge."""
    edge = blocks[b, EDGE]
    if edge != 0:
        return edges[edge - 1]
    return state[blocks[b, START] : blocks[b, STOP]]


@inlined
def block_values(where, everywhere, shared):
    """Values of a block: in place, or shared."""
    if where >= 0:
        return everywhere[where : where + BLOCK]
    return shared[-1 - where : -1 - where + BLOCK]


@inlined
def groups_of(blocks, b, first_group):
    """First group of a block, in the whole problem, and how many it touches."""
    first = blocks[b, START] // GROUP
    return first_group + first, (blocks[b, STOP] - 1) // GROUP + 1 - first
