"""Few levels of real multiplicity that keep all smooth sums over a spectrum.

Exact theory, and the law of every row of a run, are made of sums ``sum_i F(lambda_i)`` with smooth
F, where noise and initial state are smooth functions of lambda. The eigenvalues of a narrow bin are
replaced by the Gauss rule of their own measure (below), which keeps as many moments as it has
numbers. Bins lie inside a band; zeros stay apart, and a bin of few eigenvalues stays as it is.

The error is what two resolutions differ by: the largest relative difference from a much finer rule,
in either band, of sums of ``lambda^p (1 - x)^(2t)``, x up to 1.99, over times from the first to the
last at which the band decays. Those are what steps of SGD make of squared coefficients.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...base import checks
from ...base.values import may_underflow
from .bands import Band
from .parts import Compression, Parts

# --- Gauss rules of discrete measures: few nodes that keep many moments of many points -----------
#
# The rule of n nodes of a measure integrates polynomials of degree 2n - 1 exactly. Its nodes and
# weights are eigenvalues and first components of eigenvectors of the Jacobi matrix, which has the
# coefficients of the recurrence of the measure's orthogonal polynomials (Golub and Welsch, 1969).


Array = NDArray[np.float64]


def rule_of_points(x: Array, weights: Array, count: int) -> tuple[Array, Array]:
    """Return the Gauss rule of different points with positive weights, by Stieltjes's procedure."""
    if x.size <= count:
        return x, weights
    center, half = (x.max() + x.min()) / 2.0, (x.max() - x.min()) / 2.0
    y = (x - center) / half
    total = weights.sum()
    shares = weights / total
    diagonal, squares = np.empty(count), np.empty(count)
    before, now = np.zeros_like(y), np.ones_like(y)
    norm = 1.0
    for k in range(count):
        size = float((shares * now * now).sum())
        squares[k], norm = size / norm, size
        diagonal[k] = float((shares * y * now * now).sum()) / size
        following = (y - diagonal[k]) * now - (squares[k] if k else 0.0) * before
        before, now = now, following
    nodes, parts = _rule(diagonal, np.sqrt(squares[1:]))
    return center + half * nodes, total * parts


def rule_of_range(size: int, count: int) -> tuple[Array, Array]:
    """Return the Gauss rule of the integers 0 ... size - 1, each of weight 1, for any size.

    Their orthogonal polynomials are Gram's, whose recurrence is known in closed form.
    """
    if size <= count:
        return np.arange(size, dtype=np.float64), np.ones(size)
    k = np.arange(1.0, count)
    middle = (size - 1) / 2.0
    squares = k * k * (1.0 - (k / size) ** 2) / (4.0 * k * k - 1.0)
    nodes, parts = _rule(np.zeros(count), np.sqrt(squares))
    # In units of size / 2, in which the last square is of order 1 for every size.
    return middle + (size / 2.0) * nodes, size * parts


def _rule(diagonal: Array, beside: Array) -> tuple[Array, Array]:
    """Nodes and shares of the rule with a Jacobi matrix."""
    nodes, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, -1))  # lower half alone
    shares = vectors[0] ** 2
    return nodes, shares / shares.sum()


# --- Bins of close levels, inside each band, and what stands for them ----------------------------


def joined(
    lam: NDArray[np.float64], counts: NDArray[np.int64], k: int, width: float
) -> tuple[NDArray[np.float64], NDArray[np.int64], float]:
    """Join levels in bins of each band; return these and the largest relative change."""
    first = np.flatnonzero(_bin_starts(lam, k, width))
    sizes = np.add.reduceat(counts, first)
    top = np.repeat(lam[first], np.diff(np.append(first, lam.size)))
    parts = np.divide(lam, top, out=np.zeros_like(lam), where=top > 0.0)
    means = lam[first] * (np.add.reduceat(parts * counts, first) / sizes)
    spread = np.repeat(means, np.diff(np.append(first, lam.size)))
    with np.errstate(all="ignore"):
        error = np.where(lam > 0.0, np.abs(spread / lam - 1.0), 0.0).max()
    return means, sizes, float(error)


def _bin_starts(lam: NDArray[np.float64], k: int, width: float) -> NDArray[np.bool_]:
    """Whether each level starts a bin: bins of a logarithmic width from the top of each band."""
    band = np.arange(lam.size) >= k
    top = np.where(band, lam[k], lam[0])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        number = np.floor((np.log(top) - np.log(lam)) / width)
    number = np.where(lam > 0.0, number, np.inf)
    starts = np.append(True, (number[1:] != number[:-1]) | (band[1:] != band[:-1]))
    starts[k] = True
    return starts


def narrowest(lam: NDArray[np.float64], k: int, num_levels: int) -> float:
    """Return the smallest bin width, to a thousandth, that gives at most `num_levels` levels."""
    low, high = 1e-16, 1500.0  # one bin a band at the upper end, whatever the eigenvalues
    if _bin_starts(lam, k, high).sum() > num_levels:
        raise checks.wrong("num_levels", num_levels, "enough for both bands and the zeros")
    while high > 1.001 * low:
        middle = float(np.sqrt(low * high))
        fits = _bin_starts(lam, k, middle).sum() <= num_levels
        low, high = (low, middle) if fits else (middle, high)
    return high


#: Points of a bin: eigenvalues, largest first or in any order, and how often each is there.
Points = tuple[Array, Array]
#: Bins of a band of one logarithmic width.
Bins = Callable[[float], Iterator[Points]]

#: Logarithmic widths of bins and nodes in them, from the cheapest on, and of the rule that they are
#: compared with.
RULES = ((1.4, 5), (1.0, 6), (0.7, 6), (0.7, 8), (0.5, 8), (0.5, 10), (0.35, 10), (0.25, 12))
FINE = (0.15, 16)
#: Distance from the top of a band, as a part of it, down to which bins get narrower.
EDGE = 5e-4
#: A bin stays as it is where it has at most so many eigenvalues a node: weights are then above 1.
FEW = 4
#: Nodes in the index that stand for the eigenvalues of a bin given by formula.
INDEX_NODES = 32
#: With a velocity the law of a level needs two directions.
LEAST_WITH_VELOCITY = 2.0
#: Widths and numbers of nodes that can be asked for.
NARROWEST, MOST_NODES = 1e-6, 64
#: Tolerances that can be asked for.
LEAST, MOST = 1e-14, 1e-2
#: Powers of lambda, and parts of the largest stable step size, in the sums that are compared.
POWERS = (1, 2, 3, 4)
STEPS = (0.5, 1.5, 1.9, 1.99)
TIMES = 60
#: Squares are followed until they are exp(-DECAY) of the first ones.
DECAY = 40.0


def bins_of_levels(lam: Array, counts: NDArray[Any]) -> Bins:
    """Bins of a band of levels, largest first."""

    def bins(width: float) -> Iterator[Points]:
        zero = int(np.searchsorted(-lam, 0.0))  # levels above zero come first
        if zero:
            number = np.maximum(np.floor(_place(lam[:zero] / lam[0]) / width), 0.0)
            first = np.flatnonzero(np.diff(number, prepend=-1.0))
            for start, stop in zip(first, np.append(first[1:], zero), strict=True):
                yield lam[start:stop], counts[start:stop].astype(np.float64)
        if zero < lam.size:
            yield lam[zero:], counts[zero:].astype(np.float64)

    return bins


def bins_of_band(band: Band) -> Bins:
    """Bins of a band of eigenvalues that a formula gives, whatever their number."""

    def bins(width: float) -> Iterator[Points]:
        above = band.size - (1 if band.size > 1 and float(band.value(band.size - 1)) == 0.0 else 0)
        edge, top = 0, float(band.value(0))
        while edge < above:
            number = np.floor(_place(float(band.value(edge)) / top) / width) + 1.0
            stop = _first_below(band, top * _part(number * width), edge, above)
            x, weights = rule_of_range(stop - edge, INDEX_NODES)
            yield np.asarray(band.value(edge + x)), weights
            edge = stop
        if edge < band.size:
            yield np.zeros(1), np.ones(1)

    return bins


def _place(part: Any) -> Any:
    """Coordinate of parts of the largest eigenvalue in which bins have one width; 0 at the top.

    Relative width in lambda further down, and in the distance from the top near it: steps close to
    the largest stable one set eigenvalues apart there.
    """
    return np.log((1.0 + EDGE - part) / (EDGE * part))


def _part(place: Any) -> Any:
    """The part of the largest eigenvalue at a coordinate."""
    return (1.0 + EDGE) / (1.0 + EDGE * np.exp(place))


def _first_below(band: Band, value: float, start: int, stop: int) -> int:
    """First index after `start` whose eigenvalue is below a value."""
    low, high = start + 1, stop
    while low < high:
        middle = (low + high) // 2
        if float(band.value(middle)) < value:
            high = middle
        else:
            low = middle + 1
    return low


@may_underflow
def compressed(bands: Sequence[Bins], tolerance: float, dim: int, num_dominant: int) -> Parts:
    """Return the fewest levels, among `RULES`, whose error is within a tolerance."""
    wanted = checks.real("tolerance", tolerance, positive=True)
    if not LEAST <= wanted <= MOST:
        raise checks.wrong("tolerance", tolerance, f"from {LEAST:g} to {MOST:g}")
    measures = [_Measure(_reduced(bins, *FINE)) for bins in bands]
    errors = []
    for width_and_nodes in RULES:
        found = [_reduced(bins, *width_and_nodes) for bins in bands]
        errors.append(max(m.error(part) for m, part in zip(measures, found, strict=True)))
        if errors[-1] <= wanted:
            lam, counts = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
            known = Compression(dim, found[0][0].size, errors[-1])
            return Parts(lam, num_dominant, counts, 0.0, known)
    raise checks.wrong("tolerance", tolerance, f"at least {min(errors):.2g} for this spectrum")


def gauss_rule(width: float, nodes: int) -> tuple[float, int]:
    """Return logarithmic width of bins and number of nodes in them, checked."""
    size = checks.real("width", width, positive=True)
    if size < NARROWEST:
        raise checks.wrong("width", width, f"at least {NARROWEST:g}")
    return size, checks.integer("nodes", nodes, 1, MOST_NODES)


@may_underflow
def resolved(bands: Sequence[Bins], width: float, nodes: int, dim: int, num_dominant: int) -> Parts:
    """Return levels of bins of a width, with so many nodes each; their error is not known."""
    found = [_reduced(bins, width, nodes, LEAST_WITH_VELOCITY) for bins in bands]
    lam, counts = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    known = Compression(dim, found[0][0].size, float("nan"))
    return Parts(lam, num_dominant, counts, 0.0, known)


def _reduced(bins: Bins, width: float, nodes: int, least: float = 1.0) -> Points:
    """Levels of a band, largest first; those made here have at least so many directions."""
    parts = [_of_bin(x, weights, nodes, least) for x, weights in bins(width)]
    lam, counts = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.argsort(-lam, kind="stable")
    return lam[order], counts[order]


def _of_bin(x: Array, weights: Array, nodes: int, least: float) -> Points:
    if x.size <= FEW * nodes and weights.sum() == x.size:  # eigenvalues one by one
        return x, weights
    found, counts = rule_of_points(x, weights, nodes)
    return (found, counts) if counts.min() >= least else (x, weights)


class _Measure:
    """The error of levels of a band, against a much finer rule."""

    def __init__(self, fine: Points) -> None:
        above = fine[0][fine[0] > 0.0]
        self._ends = (float(above.max()), float(above.min())) if above.size else None
        self._exact = self._sums(*fine)

    def error(self, found: Points) -> float:
        """Largest relative difference of the sums."""
        with np.errstate(divide="ignore", invalid="ignore"):
            off = np.abs(self._sums(*found) / self._exact - 1.0)
        return float(np.max(off, initial=0.0, where=self._exact > 0.0))

    def _sums(self, lam: Array, counts: Array) -> Array:
        """Sums of what SGD makes of squared coefficients, for many times and step sizes."""
        if self._ends is None:
            return np.zeros(0)
        top, bottom = self._ends
        u = lam[lam > 0.0] / top
        weights = counts[lam > 0.0] * u ** np.array(POWERS)[:, None]
        sums = [weights.sum(1)]
        for size in STEPS:
            ends = np.abs(1.0 - size * np.array([1.0, bottom / top]))
            slowest = -np.log(np.maximum(ends, 1e-3)).min()
            logs = 2.0 * np.log(np.maximum(np.abs(1.0 - size * u), 1e-300))
            last = max(2.0, 0.5 * DECAY / slowest)
            for t in np.unique(np.geomspace(1.0, last, TIMES).round()):  # odd powers are not smooth
                sums.append(weights @ np.exp(t * logs))
        return np.concatenate(sums)
