"""SGD steps on eigen-coefficients, with the power sums of every recorded step.

The coordinates of each band are cut into parts, the unit of parallel work, and each part into
blocks. The cut depends on the dimension and the number of dominant directions alone and sums are
added in its order, so neither the number of threads nor the chunking of steps can change a bit.
"""

import numba
import numpy as np

from .block import (
    BLOCK,
    EQUAL,
    LAM,
    LANES,
    NARROW,
    ROW,
    STD,
    add_direct,
    add_moments,
    add_squares,
    aligned_block,
    commit_direct,
    commit_moments,
    commit_squares,
    load_block,
    no_moments,
    no_squares,
    no_sums,
    sum_block,
)
from .jit import inlined, kernel
from .normals import COUNTERS, GROUP, STEP_DOMAIN, group_normals
from .simd import broadcast, fma, load, lower_half, store, to_double, upper_half, zeros

#: Steps applied to a block while it is in cache.
SUBSTEPS = 64
#: Up to this many parts threads cost more than they bring.
SERIAL_PARTS = 3
MIN_PART = 8 * BLOCK
MAX_PARTS = 256

# Columns of a table of parts.
BAND, START, STOP = 0, 1, 2


def cut_into_parts(dim, num_dominant):
    """Return rows (band, start, stop) that cut both bands at multiples of a fixed length."""
    blocks_per_part = -(-max(MIN_PART, -(-dim // MAX_PARTS)) // BLOCK)
    length = blocks_per_part * BLOCK
    parts = []
    for band, (start, stop) in enumerate(((0, num_dominant), (num_dominant, dim))):
        while start < stop:
            end = min(stop, (start // length + 1) * length)
            parts.append((band, start, end))
            start = end
    return np.array(parts, dtype=np.int64)


@inlined
def _step_lanes(block, i, xi, minus_eta):
    """``c - eta (lam c + std xi)`` for coordinates ``i ...``."""
    c = load(block, i, LANES)
    g = fma(load(block, STD + i, LANES), xi, load(block, LAM + i, LANES) * c)
    c = fma(minus_eta, g, c)
    store(block, i, c)
    return c


@inlined
def _step_word(block, i, z, minus_eta):
    _step_lanes(block, i, to_double(lower_half(z)), minus_eta)
    _step_lanes(block, i + LANES, to_double(upper_half(z)), minus_eta)


@inlined
def step_block(block, num_groups, first_group, step, minus_eta, key_0, key_1):
    """Apply one SGD step to a block."""
    factor = broadcast(minus_eta, zeros(0.0, LANES))
    for group in range(num_groups):
        z0, z1, z2, z3 = group_normals(first_group + group, STEP_DOMAIN, step, key_0, key_1)
        i = GROUP * group
        _step_word(block, i, z0, factor)
        _step_word(block, i + COUNTERS, z1, factor)
        _step_word(block, i + 2 * COUNTERS, z2, factor)
        _step_word(block, i + 3 * COUNTERS, z3, factor)


def _make_step_block_and_sum(empty, add, commit):
    """Build ``step_block`` with one of the three ways to sum."""

    @inlined
    def step_word(block, i, z, minus_eta, sums):
        c = _step_lanes(block, i, to_double(lower_half(z)), minus_eta)
        sums = add(sums, block, i, c)
        c = _step_lanes(block, i + LANES, to_double(upper_half(z)), minus_eta)
        return add(sums, block, i + LANES, c)

    @inlined
    def step_block_and_sum(block, num_groups, first_group, step, minus_eta, key_0, key_1, row):
        factor = broadcast(minus_eta, zeros(0.0, LANES))
        sums = empty()
        for group in range(num_groups):
            z0, z1, z2, z3 = group_normals(first_group + group, STEP_DOMAIN, step, key_0, key_1)
            i = GROUP * group
            sums = step_word(block, i, z0, factor, sums)
            sums = step_word(block, i + COUNTERS, z1, factor, sums)
            sums = step_word(block, i + 2 * COUNTERS, z2, factor, sums)
            sums = step_word(block, i + 3 * COUNTERS, z3, factor, sums)
        commit(sums, block, row)

    return step_block_and_sum


_step_and_sum_direct = _make_step_block_and_sum(no_sums, add_direct, commit_direct)
_step_and_sum_moments = _make_step_block_and_sum(no_moments, add_moments, commit_moments)
_step_and_sum_squares = _make_step_block_and_sum(no_squares, add_squares, commit_squares)


@kernel()
def advance_part(
    state, eigenvalues, level_ends, noise, start, stop,
    first_step, step_sizes, weight, slots, key_0, key_1, table,
):  # fmt: skip
    """Apply steps to coordinates ``start ... stop - 1`` of one band; row sums go to ``table``."""
    block = aligned_block()
    table[:] = 0.0
    while start < stop:
        first_group = start // GROUP
        first = GROUP * first_group
        end = min(stop, (start // BLOCK + 1) * BLOCK)
        groups = (end - 1) // GROUP + 1 - first_group
        kind = load_block(block, first, start, end, state, eigenvalues, level_ends, noise)
        for t in range(step_sizes.size):
            step = first_step + t
            eta = -(weight * step_sizes[t])
            if slots[t] < 0:
                step_block(block, groups, first_group, step, eta, key_0, key_1)
            elif kind == EQUAL:
                _step_and_sum_squares(block, groups, first_group, step, eta, key_0, key_1, table[t])
            elif kind == NARROW:
                _step_and_sum_moments(block, groups, first_group, step, eta, key_0, key_1, table[t])
            else:
                _step_and_sum_direct(block, groups, first_group, step, eta, key_0, key_1, table[t])
        state[start:end] = block[start - first : end - first]
        start = end


@kernel(parallel=True)
def advance_scheduled(
    state, eigenvalues, level_ends, noise, parts,
    first_step, step_sizes, weights, slots, key_0, key_1, out,
):  # fmt: skip
    """Apply SGD steps of known sizes in place.

    ``out[slots[t], band]`` receives the sums of the state after step ``first_step + t`` wherever
    ``slots[t] >= 0``.
    """
    num_parts = parts.shape[0]
    table = np.empty((num_parts, SUBSTEPS, ROW))
    for begin in range(0, step_sizes.size, SUBSTEPS):
        end = min(step_sizes.size, begin + SUBSTEPS)
        if num_parts <= SERIAL_PARTS:
            for p in range(num_parts):
                advance_part(
                    state, eigenvalues, level_ends, noise, parts[p, START], parts[p, STOP],
                    first_step + begin, step_sizes[begin:end], weights[parts[p, BAND]],
                    slots[begin:end], key_0, key_1, table[p],
                )  # fmt: skip
        else:
            for p in numba.prange(num_parts):
                advance_part(
                    state, eigenvalues, level_ends, noise, parts[p, START], parts[p, STOP],
                    first_step + begin, step_sizes[begin:end], weights[parts[p, BAND]],
                    slots[begin:end], key_0, key_1, table[p],
                )  # fmt: skip
        for t in range(begin, end):
            if slots[t] >= 0:
                out[slots[t]] = 0.0
                for p in range(num_parts):
                    for column in range(ROW):
                        out[slots[t], parts[p, BAND], column] += table[p, t - begin, column]


@kernel()
def sum_state(state, eigenvalues, level_ends, noise, parts, out):
    """Write the sums of both bands of ``state`` to ``out``."""
    block = aligned_block()
    out[:] = 0.0
    for p in range(parts.shape[0]):
        row = np.zeros(ROW)
        start = parts[p, START]
        stop = parts[p, STOP]
        while start < stop:
            first_group = start // GROUP
            first = GROUP * first_group
            end = min(stop, (start // BLOCK + 1) * BLOCK)
            groups = (end - 1) // GROUP + 1 - first_group
            kind = load_block(block, first, start, end, state, eigenvalues, level_ends, noise)
            sum_block(kind, block, groups, row)
            start = end
        for column in range(ROW):
            out[parts[p, BAND], column] += row[column]
