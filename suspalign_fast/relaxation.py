"""How the expected squared gradients of both bands relax to their floors, and their ratio.

The expected squared gradient of a direction is ``F + (G(0) - F) e^(-alpha t)`` with
``alpha = -2 ln |1 - eta lambda|``. Let D and B be the sums over the bands. The slope of the
logarithm of the odds, ``D'/D - B'/B``, keeps its digits where the odds are flat to rounding: no
floor is subtracted in it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .theory import Levels
from .transition import log_factors

Array = NDArray[np.float64]

#: Ratio of neighbouring times that are looked at: where odds turn once at most, and elsewhere.
ONE_TURN, ANY_TURNS = 2.0, 1.06
#: Rates above this leave nothing of an excess after one step.
FASTEST = 2_000.0
#: What starts as near to its floor, relatively, starts there: it is rounding.
AT_REST = 1e-14
#: Halvings of an interval of times.
HALVINGS = 60


class Band(NamedTuple):
    """Expected squared gradients of a band's directions of some curvature.

    Attributes
    ----------
    floor : float
        Their sum at rest.
    excess, rate : ndarray of float64
        What those that do not start at rest have above it, and how fast it goes.
    """

    floor: float
    excess: Array
    rate: Array

    def at(self, time: float) -> float:
        """Return the sum at a time, which may be infinite."""
        if not self.rate.size or time == np.inf:
            return self.floor
        return self.floor + float((self.excess * np.exp(-self.rate * time)).sum())

    def slope(self, time: float) -> float:
        """Return the derivative of the sum's logarithm at a time."""
        if not self.rate.size:
            return 0.0
        # Without a floor in units of what goes slowest, so that nothing underflows.
        slowest = self.rate.min() if self.floor == 0.0 else 0.0
        left = self.excess * np.exp(-(self.rate - slowest) * time)
        total, grows = self.floor + float(left.sum()), -float((self.rate * left).sum())
        return grows / total if total > 0.0 else np.inf * np.sign(grows) if grows else 0.0


def relaxing_bands(model: Levels, eta: float) -> tuple[Band, Band]:
    """Return the dominant and the bulk band of a problem at a stable step size."""
    with np.errstate(over="ignore", invalid="ignore"):
        weight = model.count * model.lam**2
        floor = weight * model.at_rest(eta)
        start = weight * (model.mean**2 + model.variance)
        rate = np.minimum(-2.0 * log_factors(eta, model.rate), FASTEST)
        excess = start - floor
        moves = ~(np.abs(excess) <= AT_REST * floor)
    dominant, bulk = (
        Band(float(floor[band].sum()), excess[band][moves[band]], rate[band][moves[band]])
        for band in (slice(0, model.split), slice(model.split, None))
    )
    return dominant, bulk


class RelaxingOdds:
    """The ratio of two bands' expected squared gradients as a function of time.

    Parameters
    ----------
    dominant, bulk : Band
    """

    def __init__(self, dominant: Band, bulk: Band) -> None:
        self.dominant, self.bulk = dominant, bulk
        self._rates: Array = np.concatenate([dominant.rate, bulk.rate])

    @property
    def turn_once(self) -> bool:
        """Whether the odds are known to fall at most once and then to rise for ever."""
        above = all((band.excess >= 0.0).all() for band in (self.dominant, self.bulk))
        slowest = self.dominant.rate.min(initial=np.inf)
        return bool(above and slowest > self.bulk.rate.max(initial=0.0))

    def times(self, least: float) -> Array:
        """Return ascending times, after the last of which both sums change by less than `least`."""
        if self._rates.size == 0:
            return np.zeros(1)
        excess = sum(float(np.abs(band.excess).sum()) for band in (self.dominant, self.bulk))
        last = (40.0 + max(0.0, np.log(excess) - np.log(least))) / self._rates.min()
        ratio = ONE_TURN if self.turn_once else ANY_TURNS
        count = 2 + int(np.log(max(last, 1.0)) / np.log(ratio))
        later = np.geomspace(1.0, max(last, 1.0), count)
        # Without any gradient at step 0 there are no odds yet.
        starts = self.dominant.at(0.0) > 0.0 or self.bulk.at(0.0) > 0.0
        return np.append(0.0, later) if starts else later

    def slope(self, time: float) -> float:
        """Derivative of the logarithm of the odds."""
        return self.dominant.slope(time) - self.bulk.slope(time)

    def lead(self, odds: float, time: float) -> float:
        """``D - odds B``, which is not negative where the odds are at least these."""
        return self.dominant.at(time) - odds * self.bulk.at(time)

    def lowest(self) -> float:
        """Return the time at which the odds are lowest."""
        floors = [band.floor for band in (self.dominant, self.bulk) if band.floor > 0.0]
        times = self.times(min(floors, default=np.inf)).tolist()
        slopes = [self.slope(t) for t in times]
        minima = [times[0]] if slopes[0] >= 0.0 else []
        for i in range(1, len(times)):
            if slopes[i - 1] < 0.0 <= slopes[i]:
                minima.append(self._bisected(times[i - 1], times[i]))
        if slopes[-1] < 0.0:
            minima.append(np.inf)
        return min(minima, key=self._value)

    def _value(self, time: float) -> float:
        """Return the odds at a time."""
        dominant, bulk = self.dominant.at(time), self.bulk.at(time)
        if bulk > 0.0:
            return dominant / bulk
        return 0.0 if dominant == 0.0 else np.inf

    def _bisected(self, low: float, high: float) -> float:
        """Where the slope turns positive between two times."""
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if self.slope(middle) < 0.0 else (low, middle)
        return high

    def reaches(self, odds: float) -> tuple[float, float]:
        """Return the last step at which the odds are below these, and the one after it.

        Both 0 where they never are below, infinite where they do not stay at least as high.
        """
        margin = self.dominant.floor - odds * self.bulk.floor
        if not margin > 0.0:
            return np.inf, np.inf
        times = np.append(self.times(margin / (1.0 + odds)), self.lowest())
        times = np.unique(times[np.isfinite(times)])
        for at in np.flatnonzero([self.lead(odds, t) < 0.0 for t in times.tolist()])[::-1]:
            low, high = int(times[at]), int(np.ceil(times[at + 1]))
            low += self.lead(odds, low + 1) < 0.0
            if self.lead(odds, low) < 0.0:
                return self._crossed(odds, low, high)
        return 0.0, 0.0

    def _crossed(self, odds: float, low: int, high: int) -> tuple[float, float]:
        """Return neighbouring steps below and not below some odds, between two of these kinds."""
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.lead(odds, middle) < 0.0 else (low, middle)
        return float(low), float(max(high, low + 1))
