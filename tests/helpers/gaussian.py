"""Harness: how Gaussian are the package's normals?

Three questions, each asked of as many words as there is time for. *Sampling* draws normals in the
package's own order and compares moments, tails, histogram and correlations with the exact ones.
*Scans* compare the transform with float64 over the words themselves, up to all 2^32 of them. The
*implied law* follows from the scans without sampling: the two words of a pair of normals are
independent, so a moment of a normal is one of the radius times one of the cosine or sine.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numba
import numpy as np
from scipy import stats

from suspalign_fast.kernels import domains
from suspalign_fast.kernels.jit import inlined
from suspalign_fast.kernels.normals import (
    BATCH,
    GROUP,
    HALF,
    half_turn,
    make_scratch,
    seed_key,
    squared_radius,
    write_normals,
)
from suspalign_fast.kernels.simd import broadcast, iota, square_root, store, unsigned_to_float

#: Normals of a batch at one step.
ROW = BATCH * GROUP
ORDERS = 8
LEVELS = (1.0, 2.0, 3.0, 4.0, 5.0, 5.5, 6.0)
COORDINATE_LAGS = (1, 16, 32, 48, 64)
STEP_LAGS = (1, 2)
#: The histogram covers [-8, 8), in bins whose edges are exact, and every level is an edge.
REACH, BINS_PER_UNIT = 8, 256
BINS = 2 * REACH * BINS_PER_UNIT
#: Expected counts below which a bin joins its inner neighbour, and a count is called small.
FEWEST, SMALL = 20.0, 1e4
_LANES = 16
#: Sums are reordered to be vectorized; nothing else about the arithmetic is relaxed.
_REORDER = {"reassoc", "nsz"}


def gaussian_moment(order):
    """E[z^order] of a standard normal."""
    return 0.0 if order % 2 else float(math.prod(range(1, order, 2)))


def moment_variance(order):
    """Variance of z^order."""
    return gaussian_moment(2 * order) - gaussian_moment(order) ** 2


def in_threads(function, arguments, threads, progress):
    """Yield ``function(*a)`` for each of the arguments, in their order."""
    with ThreadPoolExecutor(threads) as pool:
        yield from progress(pool.map(lambda a: function(*a), arguments), total=len(arguments))


def without_progress(items, total):
    """Stand in for tqdm."""
    return items


# --- sampling ------------------------------------------------------------------------------------


@numba.njit(fastmath=_REORDER)
def add_powers(sums, values):
    """Add the sums of the first eight powers of the values."""
    s1 = s2 = s3 = s4 = s5 = s6 = s7 = s8 = 0.0
    for i in range(values.size):
        x = np.float64(values[i])
        x2 = x * x
        x4 = x2 * x2
        s1 += x
        s2 += x2
        s3 += x * x2
        s4 += x4
        s5 += x * x4
        s6 += x2 * x4
        s7 += x * x2 * x4
        s8 += x4 * x4
    sums[0] += s1
    sums[1] += s2
    sums[2] += s3
    sums[3] += s4
    sums[4] += s5
    sums[5] += s6
    sums[6] += s7
    sums[7] += s8


@numba.njit(fastmath=_REORDER)
def _add_products(sums, a, b):
    """Add the sums of ``x y`` and of ``(x^2 - 1) (y^2 - 1)``."""
    linear = square = 0.0
    for i in range(a.size):
        x = np.float64(a[i])
        y = np.float64(b[i])
        linear += x * y
        square += (x * x - 1.0) * (y * y - 1.0)
    sums[0] += linear
    sums[1] += square


@numba.njit
def _add_histogram(counts, values):
    """Count values by bin, and in the last place those out of reach, among them NaN."""
    for i in range(values.size):
        x = np.float64(values[i])
        if -REACH <= x < REACH:
            counts[int((x + REACH) * BINS_PER_UNIT)] += 1
        else:
            counts[BINS] += 1


@numba.njit(nogil=True)
def _sample_batch(powers, products, counts, batch, num_steps, key_0, key_1):
    """Take the normals of a batch of coordinates at all steps, the last three rows in memory."""
    scratch = make_scratch(key_0, key_1)
    rows = np.empty((3, ROW), np.float32)
    for step in range(num_steps):
        z = rows[step % 3]
        write_normals(z, 0, BATCH * batch, BATCH, domains.STEP, step, scratch)
        add_powers(powers, z)
        _add_histogram(counts, z)
        for i, lag in enumerate(COORDINATE_LAGS):
            _add_products(products[i], z[lag:], z[: ROW - lag])
        for i, lag in enumerate(STEP_LAGS):
            if step >= lag:
                _add_products(products[len(COORDINATE_LAGS) + i], z, rows[(step - lag) % 3])


@dataclass
class Sample:
    """Sums over the normals of some coordinates at some steps."""

    num_batches: int
    num_steps: int
    powers: np.ndarray
    products: np.ndarray
    counts: np.ndarray

    @property
    def draws(self):
        """Number of normals."""
        return self.num_batches * self.num_steps * ROW

    def pairs(self):
        """Number of pairs behind each product."""
        within = [self.num_batches * self.num_steps * (ROW - lag) for lag in COORDINATE_LAGS]
        between = [self.num_batches * max(0, self.num_steps - k) * ROW for k in STEP_LAGS]
        return np.array(within + between)


def sample(draws, *, seed=1, num_batches=1024, threads=1, progress=without_progress):
    """Draw at least so many normals of ``num_batches * ROW`` coordinates at successive steps."""
    num_steps = -(-int(draws) // (num_batches * ROW))

    def take(batch):
        powers = np.zeros(ORDERS)
        products = np.zeros((len(COORDINATE_LAGS) + len(STEP_LAGS), 2))
        counts = np.zeros(BINS + 1, np.int64)
        _sample_batch(powers, products, counts, batch, num_steps, *seed_key(seed))
        return powers, products, counts

    parts = in_threads(take, [(b,) for b in range(num_batches)], threads, progress)
    powers, products, counts = (sum(kind) for kind in zip(*parts, strict=True))
    return Sample(num_batches, num_steps, powers, products, counts)


@dataclass
class Score:
    """A statistic beside its exact expectation, and its deviation in standard errors."""

    name: str
    observed: float
    expected: float
    z: float


def moment_scores(drawn):
    """Scores of the moments."""
    for order, total in enumerate(drawn.powers, start=1):
        mean, exact = total / drawn.draws, gaussian_moment(order)
        error = math.sqrt(moment_variance(order) / drawn.draws)
        yield Score(f"moment {order}", mean, exact, (mean - exact) / error)


def count_score(count, draws, probability):
    """Standard errors of a count; of a small one, those of its exact binomial p-value."""
    expected = draws * probability
    if expected > SMALL:
        return (count - expected) / math.sqrt(expected * (1.0 - probability))
    law = stats.binom(draws, probability)
    if count > expected:
        return max(0.0, stats.norm.isf(law.sf(count - 1)))
    return min(0.0, stats.norm.ppf(law.cdf(count)))


def tail_scores(drawn):
    """Scores of the counts beyond each level, on either side."""
    for level in LEVELS:
        inner = int((REACH - level) * BINS_PER_UNIT)
        probability = stats.norm.sf(level)
        sides = {
            f"z < -{level:g}": drawn.counts[:inner],
            f"z > {level:g}": drawn.counts[-1 - inner :],
        }
        for name, bins in sides.items():
            count = int(bins.sum())
            z = count_score(count, drawn.draws, probability)
            yield Score(name, count, drawn.draws * probability, z)


def histogram_score(drawn):
    """Chi-square of the histogram, outer bins merged until enough is expected in each."""
    edges = np.arange(-BINS // 2, BINS // 2 + 1) / BINS_PER_UNIT
    middle = BINS // 2
    lower = np.diff(stats.norm.cdf(edges[: middle + 1])) * drawn.draws
    expected = np.concatenate([lower, lower[::-1]])
    outer = int(np.argmax(np.cumsum(lower) >= FEWEST))
    while lower[outer + 1] < FEWEST:
        outer += 1
    starts = np.r_[0, outer + 1 : BINS - outer - 1, BINS - outer - 1]
    wanted = np.add.reduceat(expected, starts)
    found = np.add.reduceat(drawn.counts[:BINS], starts)
    freedom = starts.size - 1
    value = float(((found - wanted) ** 2 / wanted).sum())
    law = stats.chi2(freedom)
    z = stats.norm.isf(law.sf(value)) if value > freedom else stats.norm.ppf(law.cdf(value))
    return Score(f"chi-square of {starts.size} bins", value, freedom, z)


def correlation_scores(drawn):
    """Scores of the mean products of normals, and of their centred squares (variance 4)."""
    lags = [f"coordinate lag {k}" for k in COORDINATE_LAGS] + [f"step lag {k}" for k in STEP_LAGS]
    for lag, sums, pairs in zip(lags, drawn.products, drawn.pairs(), strict=True):
        for kind, total, variance in zip(("", ", squares"), sums, (1.0, 4.0), strict=True):
            mean = total / pairs / math.sqrt(variance)
            yield Score(f"correlation, {lag}{kind}", mean, 0.0, mean * math.sqrt(pairs))


def scores(drawn):
    """All scores of a sample."""
    return [
        *moment_scores(drawn),
        *tail_scores(drawn),
        histogram_score(drawn),
        *correlation_scores(drawn),
    ]


# --- scans of the transform ----------------------------------------------------------------------

#: Words a scan takes at a time, and a thread's share of a full scan.
_BLOCK, SHARE = 1024, 2**24
ANGLE_BITS, RADIUS_BITS = 31, 32
#: Upper ends of the classes of radius whose deviations are told apart.
CLASSES = (1e-3, 1e-2, 1e-1, 1.0, math.inf)
#: What scans fold into a maximum, or a sum for the zeros, by column.
_ANGLE_COLUMNS = ("cosine", "sine", "largest", "most_negative", "reciprocal", "zeros")
_RADIUS_COLUMNS = (
    "unrounded", "rounded", "relative", "normal", "normal_rounded", "largest", "reciprocal", "zeros"
)  # fmt: skip


@inlined
def _words(first, stride):
    lanes = iota(np.uint32(0), _LANES)
    steps = lanes * broadcast(np.uint32(stride), lanes)
    return steps + broadcast(np.uint32(first), lanes)


@numba.njit
def _write_angles(cosines, sines, first, stride):
    for i in range(0, cosines.size, _LANES):
        cosine, sine = half_turn(_words(first + i * stride, stride))
        store(cosines, i, cosine)
        store(sines, i, sine)


@numba.njit
def _write_radii(radii, uniforms, first, stride):
    for i in range(0, radii.size, _LANES):
        word = _words(first + i * stride, stride)
        u = unsigned_to_float(word)
        store(uniforms, i, u + broadcast(HALF, u))
        store(radii, i, square_root(squared_radius(word)))


@numba.njit
def _compare_angles(worst, cosines, sines, first, stride):
    """Fold a block into the columns of ``_ANGLE_COLUMNS``; a NaN shows in the powers alone."""
    for i in range(cosines.size):
        cosine, sine = np.float64(cosines[i]), np.float64(sines[i])
        angle = math.pi * (np.float64(np.int32((first + i * stride) << 1)) * 2.0**-32)
        worst[0] = max(worst[0], abs(cosine - math.cos(angle)))
        worst[1] = max(worst[1], abs(sine - math.sin(angle)))
        worst[2] = max(worst[2], abs(cosine), abs(sine))
        worst[3] = max(worst[3], -cosine)
        least = min(abs(cosine), abs(sine))
        if least > 0.0:
            worst[4] = max(worst[4], 1.0 / least)
        else:
            worst[5] += 1.0


@numba.njit
def _compare_radii(worst, by_class, radii, uniforms, first, stride, error):
    """Fold a block into the columns of ``_RADIUS_COLUMNS``.

    ``error`` bounds cosine and sine, and the rounding of their product with the radius.
    """
    last = np.float32(0.0)
    rounded = 0.0
    for i in range(radii.size):
        radius = np.float64(radii[i])
        u = (np.float64(first + i * stride) + 0.5) * 2.0**-32
        exact = math.sqrt(-2.0 * math.log(u))
        if uniforms[i] != last:  # many words round to one float32
            last = uniforms[i]
            rounded = math.sqrt(max(0.0, -2.0 * math.log(np.float64(last) * 2.0**-32)))
        from_exact, from_rounded = abs(radius - exact), abs(radius - rounded)
        worst[0] = max(worst[0], from_exact)
        worst[1] = max(worst[1], from_rounded)
        if rounded > 0.0:
            worst[2] = max(worst[2], from_rounded / rounded)
        worst[3] = max(worst[3], from_exact + radius * error)
        worst[4] = max(worst[4], from_rounded + radius * error)
        worst[5] = max(worst[5], radius)
        if radius > 0.0:
            worst[6] = max(worst[6], 1.0 / radius)
        else:
            worst[7] += 1.0
        index = 0
        while exact >= CLASSES[index]:
            index += 1
        by_class[index] = max(by_class[index], from_exact)


@numba.njit(nogil=True)
def _scan_angles(worst, cosine_powers, sine_powers, first, count, stride):
    cosines = np.empty(_BLOCK, np.float32)
    sines = np.empty(_BLOCK, np.float32)
    for start in range(0, count, _BLOCK):
        word = first + start * stride
        _write_angles(cosines, sines, word, stride)
        _compare_angles(worst, cosines, sines, word, stride)
        add_powers(cosine_powers, cosines)
        add_powers(sine_powers, sines)


@numba.njit(nogil=True)
def _scan_radii(worst, by_class, powers, first, count, stride, error):
    radii = np.empty(_BLOCK, np.float32)
    uniforms = np.empty(_BLOCK, np.float32)
    for start in range(0, count, _BLOCK):
        word = first + start * stride
        _write_radii(radii, uniforms, word, stride)
        _compare_radii(worst, by_class, radii, uniforms, word, stride, error)
        add_powers(powers, radii)


@dataclass
class Scan:
    """Largest deviations and mean powers over the words scanned; ``worst`` by column."""

    worst: dict
    mean_powers: np.ndarray
    by_class: np.ndarray | None = None


def _shares(bits, stride):
    """(first, count, stride) of shares of the middle words of all intervals of ``stride``."""
    total = 2**bits // stride
    count = min(SHARE, total)
    return [(stride // 2 + i * stride, count, stride) for i in range(0, total, count)]


def _folded(columns, worsts):
    zeros = int(np.sum(worsts, axis=0)[columns.index("zeros")])
    return dict(zip(columns, np.max(worsts, axis=0).tolist(), strict=True)) | {"zeros": zeros}


def _means(parts, shares):
    """Mean of sums that were taken share by share, rounded once."""
    flat = np.reshape(parts, (len(parts), -1))
    sums = np.array([math.fsum(column) for column in flat.T])
    return sums.reshape(np.shape(parts)[1:]) / sum(count for _, count, _ in shares)


def scan_angles(stride=1, *, shares=None, threads=1, progress=without_progress):
    """Scan one in ``stride`` of the 2^31 angles, or shares; mean powers of cosine, then sine."""
    shares = shares or _shares(ANGLE_BITS, stride)

    def scan(first, count, stride):
        worst, powers = np.zeros(len(_ANGLE_COLUMNS)), np.zeros((2, ORDERS))
        _scan_angles(worst, *powers, first, count, stride)
        return worst, powers

    worsts, powers = zip(*in_threads(scan, shares, threads, progress), strict=True)
    return Scan(_folded(_ANGLE_COLUMNS, worsts), _means(powers, shares))


def scan_radii(angles, stride=1, *, shares=None, threads=1, progress=without_progress):
    """Scan one in ``stride`` of the 2^32 radii, or shares; a scan of the angles is needed."""
    shares = shares or _shares(RADIUS_BITS, stride)
    rounding = 2.0**-24  # of the product with the radius, relative
    error = max(angles.worst["cosine"], angles.worst["sine"]) + rounding

    def scan(first, count, stride):
        worst, by_class = np.zeros(len(_RADIUS_COLUMNS)), np.zeros(len(CLASSES))
        powers = np.zeros(ORDERS)
        _scan_radii(worst, by_class, powers, first, count, stride, error)
        return worst, by_class, powers

    worsts, by_class, powers = zip(*in_threads(scan, shares, threads, progress), strict=True)
    worst = _folded(_RADIUS_COLUMNS, worsts)
    return Scan(worst, _means(powers, shares), np.max(by_class, axis=0))


# --- the law that the scans imply ----------------------------------------------------------------


def implied_moments(angles, radii):
    """Moments of z0 and z1, orders 1 ... 8; odd ones of z0 vanish, as its sign is a bit of its own.

    The rounding of the last product is left out: it is symmetric, and 2^-24 of the value.
    """
    even = np.arange(1, ORDERS + 1) % 2 == 0
    cosine, sine = angles.mean_powers
    return np.stack([radii.mean_powers * cosine * even, radii.mean_powers * sine])


def largest_normal(angles, radii):
    """Largest absolute value: every radius meets every cosine in some pair of words."""
    return float(np.float32(radii.worst["largest"]) * np.float32(angles.worst["largest"]))


def smallest_normal(angles, radii):
    """Smallest absolute value above zero."""
    return 1.0 / (radii.worst["reciprocal"] * angles.worst["reciprocal"])


def implied_tail(level):
    """P(z > level) given the float32 radii of all words and a uniform angle; level at least 4."""
    words = int(2.0**32 * math.exp(-(level**2) / 2.0)) + _BLOCK
    radii, uniforms = (np.empty(-(-words // _LANES) * _LANES, np.float32) for _ in range(2))
    _write_radii(radii, uniforms, 0, 1)
    beyond = radii[radii > level].astype(np.float64)
    return math.fsum(np.arccos(level / beyond)) / math.pi / 2.0**32


def implied_bias(angles, radii):
    """Deviation of the implied moments from those of a Gaussian, in standard deviations of z^k.

    One over its square is how many draws it takes to see it at one standard error.
    """
    orders = range(1, ORDERS + 1)
    exact = np.array([gaussian_moment(k) for k in orders])
    return (implied_moments(angles, radii) - exact) / np.sqrt([moment_variance(k) for k in orders])


#: What no deviation exceeds, over all words; cosine and sine against the angle as drawn.
LIMITS = {
    "cosine": 2.2e-7,
    "sine": 1.8e-7,
    "radius, u rounded": 5.4e-7,
    "radius, u rounded, relative": 2.1e-7,
    "radius, u not rounded": 2.5e-4,
    "normal, u rounded": 2.2e-6,
    "normal, u not rounded": 2.5e-4,
    "largest normal": 6.76371,
    "bias of a moment": 6e-8,
}


def deviations(angles, radii):
    """What `LIMITS` limits."""
    return {
        "cosine": angles.worst["cosine"],
        "sine": angles.worst["sine"],
        "radius, u rounded": radii.worst["rounded"],
        "radius, u rounded, relative": radii.worst["relative"],
        "radius, u not rounded": radii.worst["unrounded"],
        "normal, u rounded": radii.worst["normal_rounded"],
        "normal, u not rounded": radii.worst["normal"],
        "largest normal": largest_normal(angles, radii),
        "bias of a moment": float(np.abs(implied_bias(angles, radii)).max()),
    }
