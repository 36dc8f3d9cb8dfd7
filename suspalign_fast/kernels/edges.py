"""Where a block finds its numbers; one that is cut short is held in a buffer during a call."""

import numpy as np

from .jit import copy_values, inlined
from .normals import GROUP
from .plan import BLOCK, EDGE, START, STOP


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
def coefficients_of(state, plan, b, edges):
    """A block's state: in place, or the buffer of an edge."""
    edge = plan.blocks[b, EDGE]
    if edge != 0:
        return edges[edge - 1]
    return state[plan.blocks[b, START] : plan.blocks[b, STOP]]


@inlined
def block_values(where, everywhere, shared):
    """Values of a block: in place, or shared."""
    if where >= 0:
        return everywhere[where : where + BLOCK]
    return shared[-1 - where : -1 - where + BLOCK]


@inlined
def groups_of(plan, b):
    """First group of a block, in the whole problem, and how many it touches."""
    first = plan.blocks[b, START] // GROUP
    return plan.first_group + first, (plan.blocks[b, STOP] - 1) // GROUP + 1 - first
