"""The random numbers of all lanes of a step, or of every level at many steps.

A lane is a place for a level (``levels``). Up to FEW levels, the lanes of a draw are steps instead,
which is the same numbers: they depend on lane and step alone.
"""

import numpy as np

from . import domains
from .batch import BATCH, PREPARED, prepare, round_keys, write_words
from .chi_square import HALF, LANES, boost, chi_square, propose, words_of
from .jit import inlined, internal
from .philox import WORD_BITS
from .simd import broadcast, load, zeros

#: Numbers of a proposal (`chi_square.proposals_for`), which lie LANES lanes at a time.
NUM_PROPOSALS = 4
#: Up to so many levels, many steps are drawn at once.
FEW = 8


@inlined
def draw_work(size, depth, key_0, key_1):
    """Working memory of draws: prepared counters, round keys, words; normals and chi-squares."""
    groups = size // LANES
    prepared = np.zeros((groups + 1) * PREPARED + 1, np.uint64)
    words = np.empty(4 * LANES * (BATCH + 1), np.uint32)
    return (
        prepared, round_keys(key_0, key_1), words,
        np.zeros(depth * size), np.zeros(depth * size), np.empty(depth, np.uint64),
    )  # fmt: skip


@internal()
def draw_step(
    begin, proposals, freedom, boosted, step, key_0, key_1, prepared, keys, words, xi, chi
):
    """Draw the normals and chi-squares of all lanes at a step; the first one has number `begin`."""
    groups = freedom.size // LANES
    high = np.uint64(step) >> WORD_BITS
    if prepared[-1] != high + np.uint64(1):
        prepare(prepared, begin // LANES, groups + 1, high, keys)
        prepared[-1] = high + np.uint64(1)
    for first in range(0, groups, BATCH):
        count = min(BATCH, groups - first)
        write_words(words, prepared, first, count, domains.LEVEL_STEP, step, keys)
        for group in range(count):
            at = (first + group) * LANES
            p = NUM_PROPOSALS * at
            w = 4 * LANES * group
            rest = propose(
                load(words, w, LANES), load(words, w + LANES, LANES),
                load(words, w + 2 * LANES, LANES),
                (load(proposals, p, HALF), load(proposals, p + HALF, HALF)),
                (load(proposals, p + LANES, HALF), load(proposals, p + LANES + HALF, HALF)),
                (load(proposals, p + 2 * LANES, HALF), load(proposals, p + 2 * LANES + HALF, HALF)),
                (load(proposals, p + 3 * LANES, HALF), load(proposals, p + 3 * LANES + HALF, HALF)),
                xi, chi, at,
            )  # fmt: skip
            lane = at
            while rest != 0:
                if rest & np.uint64(1):
                    chi[lane] = chi_square(
                        begin + lane, domains.LEVEL_STEP, step, key_0, key_1, proposals[p],
                        proposals[p + LANES],
                    )  # fmt: skip
                rest >>= np.uint64(1)
                lane += 1
                p += 1
    for lane in boosted:
        chi[lane] *= boost(begin + lane, step, key_0, key_1, freedom[lane])


@internal()
def draw_steps(begin, lane_of, proposals, freedom, boosted, steps, key_0, key_1, xi, chi):
    """Draw the normals and chi-squares of every level's lane at LANES steps."""
    normals = np.empty(LANES)
    squares = np.empty(LANES)
    step = load(steps, 0, LANES)
    like = zeros(0.0, HALF)
    for lane in lane_of:
        first = NUM_PROPOSALS * (lane // LANES * LANES) + lane % LANES
        twice_d = broadcast(proposals[first], like)
        slope = broadcast(proposals[first + LANES], like)
        one = broadcast(proposals[first + 2 * LANES], like)
        squeeze = broadcast(proposals[first + 3 * LANES], like)
        w0, w1, w2, _ = words_of(
            broadcast(begin + lane, step), domains.LEVEL_STEP, step, key_0, key_1
        )
        rest = propose(
            w0, w1, w2, (twice_d, twice_d), (slope, slope), (one, one), (squeeze, squeeze),
            normals, squares, 0,
        )  # fmt: skip
        for t in range(LANES):
            if (rest >> np.uint64(t)) & np.uint64(1):
                squares[t] = chi_square(
                    begin + lane, domains.LEVEL_STEP, steps[t], key_0, key_1,
                    proposals[first], proposals[first + LANES],
                )  # fmt: skip
            xi[t * freedom.size + lane] = normals[t]
            chi[t * freedom.size + lane] = squares[t]
    for lane in boosted:
        for t in range(LANES):
            factor = boost(begin + lane, steps[t], key_0, key_1, freedom[lane])
            chi[t * freedom.size + lane] *= factor


@inlined
def draw(
    begin, lane_of, proposals, freedom, boosted, ahead, key_0, key_1, prepared, keys, words, xi, chi
):
    """Draw for the steps ahead: one, or LANES."""
    if ahead.size == 1:
        draw_step(
            begin, proposals, freedom, boosted, ahead[0], key_0, key_1, prepared, keys, words, xi,
            chi,
        )  # fmt: skip
    else:
        draw_steps(begin, lane_of, proposals, freedom, boosted, ahead, key_0, key_1, xi, chi)


@inlined
def draw_until(
    step, drawn, begin, lane_of, proposals, freedom, boosted, ahead, key_0, key_1, prepared, keys,
    words, xi, chi,
):  # fmt: skip
    """Draw for `step` and those that follow, unless it is before `drawn`; return what is then."""
    if step < drawn:
        return drawn
    for i in range(ahead.size):
        ahead[i] = step + i
    draw(
        begin, lane_of, proposals, freedom, boosted, ahead, key_0, key_1, prepared, keys, words,
        xi, chi,
    )  # fmt: skip
    return step + ahead.size
