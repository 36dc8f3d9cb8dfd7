"""Blocks that a band or the problem cuts short: held in buffers of whole groups during a call."""

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
def return_edges(edges, state, plan):
    """Copy the edges back to the state."""
    for e in range(plan.edges.size):
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
