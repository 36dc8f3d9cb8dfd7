"""Bands of eigenvalues by formula: values, means and even cuts, whatever their number."""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Band(Protocol):
    """Eigenvalues i = 0 ... size - 1 of a band, largest first, by formula."""

    size: int

    def value(self, i: Any) -> Any:
        """Eigenvalues of given indices."""

    def mean(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.float64]:
        """Means of the eigenvalues ``first ... last - 1``."""

    def cuts(self, first: int, last: int, count: int) -> NDArray[np.float64]:
        """Indices that cut ``first ... last - 1`` into `count` parts of one relative width."""


@dataclass
class Linear:
    """A band of evenly spaced eigenvalues."""

    largest: float
    smallest: float
    size: int

    def value(self, i: Any) -> Any:
        """See `Band`."""
        # Neither term is negative: an eigenvalue near zero keeps its digits.
        rest = np.asarray(max(self.size - 1, 1), dtype=np.float64)
        return self.largest * ((self.size - 1 - i) / rest if self.size > 1 else 1.0) + (
            self.smallest * (i / rest)
        )

    def mean(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.float64]:
        """See `Band`."""
        means: NDArray[np.float64] = (self.value(first) + self.value(last - 1)) / 2.0
        return means

    def cuts(self, first: int, last: int, count: int) -> NDArray[np.float64]:
        """See `Band`."""
        high, low = float(self.value(first)), float(self.value(last - 1))
        if low == high or low == 0.0:
            return np.linspace(first, last, count + 1)
        step = (high - low) / (last - 1 - first)
        if low > 1e-3 * high or count < 4:
            return first + (high - np.geomspace(high, low, count + 1)) / step
        # Few directions lie near zero: half of the parts are for those further up, evenly.
        half = count // 2
        bend = low + (high - low) / (half + 1)
        ends = np.geomspace(bend, low, count - half + 1)[1:]
        return first + (high - np.concatenate([np.linspace(high, bend, half + 1), ends])) / step


@dataclass
class Power:
    """Eigenvalues ``scale * j**-decay``, j = start + 1 ... start + size."""

    scale: float
    decay: float
    start: int
    size: int

    def value(self, i: Any) -> Any:
        """See `Band`."""
        return self.scale * np.asarray(self.start + 1 + i, dtype=np.float64) ** -self.decay

    def mean(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.float64]:
        """See `Band`."""
        totals = power_sum(self.decay, self.start + 1 + first, self.start + 1 + last)
        return self.scale * totals / (last - first)

    def cuts(self, first: int, last: int, count: int) -> NDArray[np.float64]:
        """See `Band`."""
        ends = float(self.start + 1 + first), float(self.start + 1 + last)
        return np.geomspace(*ends, count + 1) - (self.start + 1)


def power_sum(
    decay: float, first: NDArray[np.int64], last: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return ``sum j**-decay`` over ``first <= j < last`` to nearly all digits, whatever j is.

    Terms up to j = 64 (decay + 8) one by one, the rest by the Euler-Maclaurin formula for
    midpoints, whose integral is written so that nothing cancels.
    """
    cut = np.clip(math.ceil(64.0 * (decay + 8.0)), first, last)
    totals = _tail_sum(decay, cut, last)
    for at in np.flatnonzero(cut > first):
        # Terms e^-46 of the first one no longer count.
        most = float(first[at]) * math.exp(min(46.0 / decay, 700.0))
        end = min(int(cut[at]), math.ceil(min(most, 2.0**62)) + 1)
        head = np.arange(first[at], end, dtype=np.float64) ** -decay
        totals[at] += math.fsum(head.tolist())
    return totals


def _tail_sum(
    decay: float, first: NDArray[np.int64], last: NDArray[np.int64]
) -> NDArray[np.float64]:
    low, size = first - 0.5, (last - first).astype(np.float64)
    high = low + size
    log = np.log1p(size / low)
    # The integral of x^-decay from low to high, then what the first and third derivative add.
    integral = log if decay == 1.0 else np.expm1((1.0 - decay) * log) / (1.0 - decay)
    integral = integral * low ** (1.0 - decay)
    slope = decay * (low ** (-decay - 1.0) - high ** (-decay - 1.0))
    rising = decay * (decay + 1.0) * (decay + 2.0)
    cubic = rising * (low ** (-decay - 3.0) - high ** (-decay - 3.0))
    return np.where(size > 0.0, integral - slope / 24.0 + 7.0 * cubic / 5760.0, 0.0)
