"""A normal and a chi-square of real degrees of freedom for every level and step.

Levels lie in lanes (``levels``). Lane l at step t has one counter, ``(l, domain, t)``: its words
(0, 1) become two normals, the level's own and Marsaglia and Tsang's candidate (ACM TOMS 26, 2000),
word 2 is the uniform that the candidate is judged by, word 3 the one of the boost below two degrees
of freedom. Both numbers are so a pure function of (seed, lane, step), and LANES counters are worked
on at once: of different lanes, or of different steps of one.

A candidate x is taken where ``u < 1 - squeeze x^4``, a bound of each level's own, as tight as its
degrees of freedom allow (`proposals_for`). The rest, a few of a thousand at a hundred degrees, goes
one by one through the exact test, and further attempts through domains of their own.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import domains
from .jit import inlined, internal
from .normals import BATCH, PREPARED, box_muller, prepare, round_keys, write_words
from .philox import WORD_BITS, philox
from .simd import (
    broadcast,
    fma,
    horizontal_sum,
    lanes_not_below,
    load,
    low_word,
    lower_half,
    store,
    to_double,
    unsigned_to_double,
    upper_half,
    zeros,
)

#: Counters worked on at once, and half of them: a vector of float64.
LANES = 16
HALF = LANES // 2
UNIFORM_SCALE = 2.0**-32
#: What the squeeze, found numerically, is multiplied by.
SQUEEZE_MARGIN = 1.0001


class Proposals(NamedTuple):
    """How a level's candidates become chi-squares: ``twice_d (1 + slope x)^3 + one x^2``.

    Attributes
    ----------
    twice_d, slope, one, squeeze : ndarray of float64, shape (levels,)
        Below two degrees of freedom those of two degrees more; zero but for `one` where the level
        has one degree, zero where it has none.
    """

    twice_d: NDArray[np.float64]
    slope: NDArray[np.float64]
    one: NDArray[np.float64]
    squeeze: NDArray[np.float64]


def is_boosted(freedom: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether chi-squares are made from ones of two more degrees of freedom."""
    return (freedom < 2.0) & (freedom != 1.0) & (freedom != 0.0)


def proposals_for(freedom: NDArray[np.float64]) -> Proposals:
    """Return the proposals of levels whose chi-squares have these degrees of freedom, from 0 on."""
    drawn = np.where(is_boosted(freedom), freedom + 2.0, freedom)
    is_gamma = drawn >= 2.0
    d = np.where(is_gamma, 0.5 * drawn - 1.0 / 3.0, 1.0)
    return Proposals(
        np.where(is_gamma, 2.0 * d, 0.0),
        np.where(is_gamma, 1.0 / np.sqrt(9.0 * d), 0.0),
        np.where(drawn == 1.0, 1.0, 0.0),
        np.where(is_gamma, _squeeze(d), 0.0),
    )


def _squeeze(d: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return k for which ``1 - k x^4`` is never above the chance of acceptance, nor far below.

    The logarithm of that chance is ``-d y^4 (3/4 - 3/5 y + 3/6 y^2 - ...)``, ``y = x / sqrt(9 d)``,
    above y = -1; what ``81 d^2 k`` must be there grows with d, so that the value at the next larger
    of a few d will do.
    """
    at = np.minimum(np.searchsorted(_TABLE_D, d), _TABLE_D.size - 1)
    return _TABLE[at] / (81.0 * d * d)


def _table(d: NDArray[np.float64]) -> NDArray[np.float64]:
    s = np.geomspace(1e-6, 1.0 - 1e-6, 2000)  # -y; above y = 0 the limit there is the largest
    near = sum(3.0 / n * s ** (n - 4) for n in range(4, 20))
    with np.errstate(invalid="ignore"):
        away = -(1.0 - (1.0 - s) ** 3 + 3.0 * np.log1p(-s) + 4.5 * s * s) / s**4
    series = np.where(s < 0.05, near, away)
    bound = -np.expm1(-d[:, None] * s**4 * series) / s**4
    return SQUEEZE_MARGIN * np.maximum(bound.max(axis=1), np.maximum(0.75 * d, 1.0))


_TABLE_D = np.geomspace(2.0 / 3.0, 2.0 / 3.0 * 2.0**64, 4 * 64 + 1)
_TABLE = _table(_TABLE_D)


@inlined
def words_of(index, domain, step, key_0, key_1):
    """Four words of the counters of lanes and steps, vectors of uint64."""
    high = step >> broadcast(WORD_BITS, step)
    w0, w1, w2, w3 = philox(index, broadcast(domain, index), step, high, key_0, key_1)
    return low_word(w0), low_word(w1), low_word(w2), low_word(w3)


@inlined
def _one(number):
    return broadcast(number, zeros(np.uint64(0), 1))


@inlined
def _uniform(word):
    half = unsigned_to_double(word) + broadcast(0.5, unsigned_to_double(word))
    return half * broadcast(UNIFORM_SCALE, half)


@inlined
def _proposed(x, uniform, twice_d, slope, one, squeeze):
    """Chi-squares of candidates, and which of them need a closer look, as bits."""
    root = fma(slope, x, broadcast(1.0, x))
    square = x * x
    chi = fma(twice_d * root, root * root, one * square)
    bound = fma(broadcast(-1.0, x) * squeeze * square, square, broadcast(1.0, x))
    return chi, lanes_not_below(uniform, bound)


@inlined
def propose(w0, w1, w2, twice_d, slope, one, squeeze, xi, chi, at):
    """Write normals to ``xi[at : at + LANES]`` and chi-squares of proposals to ``chi``.

    ``w0``, ``w1`` and ``w2`` are the words of LANES counters, the proposals two vectors of HALF
    float64 each. Returns the lanes whose candidate the squeeze did not take, as bits.
    """
    normal, candidate = box_muller(w0, w1)
    store(xi, at, to_double(lower_half(normal)))
    store(xi, at + HALF, to_double(upper_half(normal)))
    lower, lower_open = _proposed(
        to_double(lower_half(candidate)), _uniform(lower_half(w2)),
        twice_d[0], slope[0], one[0], squeeze[0],
    )  # fmt: skip
    upper, upper_open = _proposed(
        to_double(upper_half(candidate)), _uniform(upper_half(w2)),
        twice_d[1], slope[1], one[1], squeeze[1],
    )  # fmt: skip
    store(chi, at, lower)
    store(chi, at + HALF, upper)
    return lower_open | (upper_open << HALF)


@inlined
def candidate(lane, domain, step, key_0, key_1):
    """Candidate of a single counter and the uniform that it is judged by."""
    w0, w1, w2, _ = words_of(_one(lane), domain, _one(step), key_0, key_1)
    _, normal = box_muller(w0, w1)
    return horizontal_sum(to_double(normal)), horizontal_sum(_uniform(w2))


@internal()
def chi_square(lane, first_domain, step, key_0, key_1, twice_d, slope):
    """Chi-square whose candidates, from a domain each, all go through the exact test."""
    d = 0.5 * twice_d
    for attempt in range(domains.LEVEL_ATTEMPTS):
        x, uniform = candidate(lane, first_domain + attempt, step, key_0, key_1)
        root = fma(slope, x, 1.0)
        cube = root * root * root
        if cube > 0.0 and np.log(uniform) < 0.5 * x * x + d * (1.0 - cube + np.log(cube)):
            return fma(twice_d * root, root * root, 0.0)
    return twice_d  # never: each attempt accepts nineteen of twenty


@inlined
def boost(lane, step, key_0, key_1, freedom):
    """What a chi-square of two more degrees of freedom is multiplied by."""
    _, _, _, word = words_of(_one(lane), domains.LEVEL_STEP, _one(step), key_0, key_1)
    return horizontal_sum(_uniform(word)) ** (2.0 / freedom)


# --- The random numbers of all lanes of a step, or of every level at many steps ------------------
#
# A lane is a place for a level (``levels``). Up to FEW levels, the lanes of a draw are steps
# instead, which is the same numbers: they depend on lane and step alone.


#: Numbers of a proposal (`chi_square.proposals_for`), which lie LANES lanes at a time.
NUM_PROPOSALS = 4
#: Up to so many levels, many steps are drawn at once.
FEW = 8


class Draws(NamedTuple):
    """Working memory of draws, and what was drawn, for each of the steps ahead.

    Attributes
    ----------
    prepared, keys, words : ndarray
        Prepared counters, round keys and words (`normals`).
    xi, chi : ndarray of float64, shape (depth * lanes,)
        Normals and chi-squares.
    ahead : ndarray of uint64, shape (depth,)
        The steps they belong to.
    """

    prepared: NDArray[np.uint64]
    keys: NDArray[np.uint64]
    words: NDArray[np.uint32]
    xi: NDArray[np.float64]
    chi: NDArray[np.float64]
    ahead: NDArray[np.uint64]


@inlined
def make_draws(size, depth, key_0, key_1):
    """Return memory for the draws of so many lanes at `depth` steps."""
    groups = size // LANES
    return Draws(
        np.zeros((groups + 1) * PREPARED + 1, np.uint64),
        round_keys(key_0, key_1),
        np.empty(4 * LANES * (BATCH + 1), np.uint32),
        np.zeros(depth * size),
        np.zeros(depth * size),
        np.empty(depth, np.uint64),
    )


@internal()
def _draw_step(levels, draws, key_0, key_1):
    """Draw the normals and chi-squares of all lanes at a step."""
    # Taken out once: every look into a tuple counts references.
    _, _, _, freedom, proposals, boosted, _, _, _, _, begin = levels
    prepared, keys, words, xi, chi, ahead = draws
    step = ahead[0]
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
def draw_steps(levels, draws, key_0, key_1):
    """Draw the normals and chi-squares of every level's lane at LANES steps."""
    _, _, lanes, freedom, proposals, boosted, _, _, _, _, begin = levels
    _, _, _, xi, chi, steps = draws
    normals = np.empty(LANES)
    squares = np.empty(LANES)
    step = load(steps, 0, LANES)
    like = zeros(0.0, HALF)
    for lane in lanes:
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
def draw_ahead(levels, draws, key_0, key_1):
    """Draw for the steps ahead: one, or LANES."""
    if draws.ahead.size == 1:
        _draw_step(levels, draws, key_0, key_1)
    else:
        draw_steps(levels, draws, key_0, key_1)


@inlined
def draw_until(step, drawn, levels, draws, key_0, key_1):
    """Draw for `step` and those that follow, unless it is before `drawn`; return what is then."""
    if step < drawn:
        return drawn
    ahead = draws.ahead
    for i in range(ahead.size):
        ahead[i] = step + i
    draw_ahead(levels, draws, key_0, key_1)
    return step + ahead.size
