"""The two phases of alignment: how low it falls, when, and when it reaches its plateau."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import checks
from ..base.values import may_underflow
from ..model.moves import log_factors
from ..model.problem import Quadratic
from ..model.run import Update, update_weights
from ..traces.trace import Trace
from .expected import stationary
from .levels import Expected, Levels, with_few_levels

# --- How the expected squared gradients of both bands relax to their floors, and their ratio -----
#
# The expected squared gradient of a direction is ``F + (G(0) - F) e^(-alpha t)`` with ``alpha = -2
# ln |1 - eta lambda|``. Let D and B be the sums over the bands. The slope of the logarithm of the
# odds, ``D'/D - B'/B``, keeps its digits where the odds are flat to rounding: no floor is
# subtracted in it.


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
    """The ratio of two bands' expected squared gradients as a function of time."""

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


#: Rows of a trace are averaged over windows that grow by this factor.
WINDOW = 1.1
#: The plateau of a trace is its mean over this last part of the steps.
PLATEAU_PART = 0.25


class Phases(NamedTuple):
    """Where alignment stands at its turning points.

    Attributes
    ----------
    start : float
        Alignment at the first row.
    minimum_step, minimum : float
        Time and depth of the minimum.
    plateau_step : float
        First time after the minimum at which the stated fraction of the way from the minimum to
        the plateau is done; NaN if it is not reached.
    plateau : float
        Level of the plateau.
    two_phase : bool
        Whether the minimum lies inside, clearly below start and plateau (by a tenth of each).
    """

    start: float
    minimum_step: float
    minimum: float
    plateau_step: float
    plateau: float
    two_phase: bool


@may_underflow
def find(
    trajectory: Trace | Expected[Array] | tuple[ArrayLike, ArrayLike],
    *,
    fraction: float = 0.95,
    plateau: float | None = None,
) -> Phases:
    """Find the phases of a trace or of an exact expected trajectory.

    Parameters
    ----------
    trajectory : Trace, Expected or tuple of two array_like
        A trace is first averaged over windows of steps that grow by a tenth; rows without a
        gradient are left out. The steps of an expected trajectory may be in any order. A pair is
        (step, alignment): increasing steps of at least zero, alignments between 0 and 1.
    fraction : float
        Part of the way from the minimum to the plateau that counts as reaching it, in (0, 1).
    plateau : float, optional
        Level of the plateau, e.g. ``theory.stationary(...).alignment_mean``; by default the mean
        over the last quarter of a trace, or the last value of an expected trajectory.

    Returns
    -------
    Phases

    Raises
    ------
    ValueError
        If an argument is not as described.
    """
    part = checks.real("fraction", fraction, positive=True)
    if part >= 1.0:
        raise checks.wrong("fraction", fraction, "between 0 and 1")
    step, alignment, level = _curve(trajectory)
    if step.size == 0:
        raise checks.wrong("trajectory", trajectory, "at least one row with a gradient")
    if plateau is not None:
        level = checks.real("plateau", plateau)
        if level > 1.0:
            raise checks.wrong("plateau", plateau, "an alignment between 0 and 1")
    lowest = int(np.argmin(alignment))
    start, minimum = float(alignment[0]), float(alignment[lowest])
    reached = np.flatnonzero(alignment[lowest:] >= minimum + part * (level - minimum))
    when = float(step[lowest + reached[0]]) if reached.size else float("nan")
    inside = 0 < lowest < step.size - 1
    two_phase = inside and minimum < 0.9 * start and minimum < 0.9 * level
    return Phases(start, float(step[lowest]), minimum, when, float(level), bool(two_phase))


def _curve(trajectory: Any) -> tuple[Array, Array, float]:
    step: Array
    alignment: Array
    if isinstance(trajectory, Trace):
        known = np.isfinite(trajectory.alignment)
        step, alignment = trajectory.step[known].astype(np.float64), trajectory.alignment[known]
        if step.size == 0:
            return step, alignment, float("nan")
        last = step >= step[-1] - PLATEAU_PART * (step[-1] - step[0])
        return *_windowed(step, alignment), float(alignment[last].mean())
    if isinstance(trajectory, Expected) and trajectory.step is not None:
        ascending, first = np.unique(trajectory.step, return_index=True)
        step, alignment = ascending.astype(np.float64), trajectory.alignment_mean[first]
        known = np.isfinite(alignment)
        step, alignment = step[known], alignment[known]
    else:
        step, alignment = _pair(trajectory)
    return step, alignment, float(alignment[-1]) if alignment.size else float("nan")


def _pair(trajectory: Any) -> tuple[Array, Array]:
    """Return the checked steps and alignments of a user's own."""
    expected = "a Trace, an expected trajectory or a pair (increasing steps, alignment)"
    if not isinstance(trajectory, tuple | list) or len(trajectory) != 2:
        raise checks.wrong("trajectory", trajectory, expected)
    steps, alignments = (checks.array("trajectory", part, expected) for part in trajectory)
    if steps.shape == (0,) and alignments.shape == (0,):
        return np.empty(0), np.empty(0)
    step = checks.non_negative_vector("steps of trajectory", steps)
    alignment = checks.non_negative_vector("alignments of trajectory", alignments)
    if step.shape != alignment.shape:
        raise ValueError(
            f"trajectory must be {expected}, got {step.size} steps and {alignment.size} alignments"
        )
    falls = np.flatnonzero(np.diff(step) <= 0.0)
    if falls.size:
        at = int(falls[0]) + 1
        raise ValueError(
            f"steps of trajectory must increase, got {step[at]} after {step[at - 1]} at index {at}"
        )
    if alignment.max() > 1.0:
        at = int(np.argmax(alignment > 1.0))
        raise ValueError(
            f"alignments of trajectory must be at most 1, got {alignment[at]} at index {at}"
        )
    return step, alignment


def _windowed(step: Array, alignment: Array) -> tuple[Array, Array]:
    """Mean step and alignment of windows that grow by the factor WINDOW."""
    window = np.floor(np.log(np.maximum(step, 0.5)) / np.log(WINDOW))
    first = np.flatnonzero(np.diff(window, prepend=-np.inf))
    size = np.diff(np.append(first, step.size))
    return np.add.reduceat(step, first) / size, np.add.reduceat(alignment, first) / size


class Estimate(NamedTuple):
    """Transition times from the problem alone.

    They are those of the expected odds, the ratio of both bands' expected squared gradients
    (`Expected.alignment_of_means`), not of the expected alignment, which may turn at other steps
    where a band has few directions.

    Attributes
    ----------
    minimum_step : float
        Time at which the odds are lowest, between two steps in general: 0 where they only rise,
        infinite where they only fall.
    plateau_step : tuple of two float
        Lower and upper bound of the time at which the odds reach those of the stated fraction of
        the plateau: the last step at which they are lower, and the one after it. Both are 0 where
        they never are lower, and infinite where they do not reach them for good.
    """

    minimum_step: float
    plateau_step: tuple[float, float]


@may_underflow
def estimate(
    problem: Quadratic,
    step_size: float,
    *,
    fraction: float = 0.95,
    update: Update = "full",
) -> Estimate:
    r"""Return the transition times of a constant step size without following the trajectory.

    Of plain SGD under noise that does not depend on the state; for momentum and mini-batches of
    data `find` on ``theory.expected`` has the times (docs/momentum.md).

    Parameters
    ----------
    problem : Quadratic
    step_size : float
        Below 2 / lambda_1.
    fraction : float
        Part of the plateau, the stationary expected alignment, that counts as reaching it, in
        (0, 1).
    update : {"full", "dominant", "bulk"} or tuple of two float

    Returns
    -------
    Estimate
        NaN where squared gradients at step 0 are past the largest float64 number.

    Notes
    -----
    Each direction's expected squared gradient relaxes as
    ``G_i(t) = F_i + (G_i(0) - F_i) e^{-alpha_i t}`` with ``alpha_i = -2 ln |1 - eta lambda_i|``
    and noise floor ``F_i``. Where every direction starts at or above its floor and every dominant
    one relaxes faster than every bulk one, which for full updates is
    ``eta < 2 / (lambda_1 + lambda_(k+1))``, the odds fall at most once and then rise for ever,
    which is proven (docs/theory-answers.md): both times are roots that bisection cannot miss.
    Elsewhere odds may turn several times. They are looked at there at times 6 % apart, and the
    lowest minimum and the last crossing that are seen are bisected; of two turns closer together
    nothing is seen. That the odds stay up after the last of these times holds in any case.
    """
    part = checks.real("fraction", fraction, positive=True)
    if part >= 1.0:
        raise checks.wrong("fraction", fraction, "between 0 and 1")
    final = stationary(problem, step_size, update=update)
    weights = update_weights(update)
    few = with_few_levels(problem, step_size * max(weights))
    bands = relaxing_bands(Levels(few, weights), step_size)
    if not all(np.isfinite(band.excess).all() for band in bands):
        return Estimate(np.nan, (np.nan, np.nan))
    target = part * final.alignment_mean
    odds = RelaxingOdds(*bands)
    return Estimate(odds.lowest(), odds.reaches(target / (1.0 - target)))
