"""The alignment one step after a given state, and how it changes with the step size."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from ..base import checks
from ..base.values import may_underflow
from ..kernels.ratio import ratio_moments
from ..model.problem import Quadratic
from ..model.run import Update, update_weights
from .levels import Array, Levels

# --- The first change of sign of a smooth function of a positive number --------------------------


#: Ratio of neighbouring points where a function can turn, and where it cannot.
FINE, COARSE = 1.06, 1.25
#: Relative distances of points around a turn.
DISTANCES = 10.0 ** -np.arange(1.0, 6.1, 0.5)
#: Evaluations that look for an extreme between two points.
EXTREME_EVALUATIONS = 60


def with_clusters(low: float, first: float, last: float, high: float, turns: Array) -> Array:
    """Return ascending points from `low` to `high`.

    Parameters
    ----------
    first, last : float
        Between these points are close together.
    turns : ndarray of float64
        Around these they are closer still.
    """
    parts = [
        _geometric(low, first, COARSE),
        _geometric(max(low, first), last, FINE),
        _geometric(max(low, last), high, COARSE),
        turns,
        *(turns * (1.0 + sign * DISTANCES[:, None]) for sign in (-1.0, 1.0)),
    ]
    points = np.unique(np.concatenate([part.ravel() for part in parts]))
    return points[(points >= low) & (points <= high)]


def _geometric(low: float, high: float, ratio: float) -> Array:
    if not low < high:
        return np.array([low])
    return np.geomspace(low, high, 2 + int(np.log(high / low) / np.log(ratio)))


def first_root(
    function: Callable[[float], float], points: Array, sign: float, resolved: float
) -> float | None:
    """Return the first root at which a function changes its sign, None where there is none.

    Parameters
    ----------
    points : ndarray of float64, shape (points,)
        Ascending; where it is evaluated.
    sign : float
        1 or -1, its sign before the first point.
    resolved : float
        Values up to this are taken for rounding.
    """

    def height(x: float) -> float:
        """Positive before the root."""
        return sign * function(x)

    before, here = 0.0, float(points[0])
    left, middle = np.inf, height(here)
    if middle < -resolved:
        return None if here == 0.0 else _bisect(height, before, here, resolved)
    for x in points[1:].tolist():
        right = height(x)
        if np.isnan(right):
            return None
        if middle < left and middle < right:
            lowest = _lowest(height, before, here, x)
            if height(lowest) < -resolved:
                return _bisect(height, before, lowest, resolved)
        if right < -resolved:
            return _bisect(height, here, x, resolved)
        before, here, left, middle = here, x, middle, right
    return None


def _lowest(height: Callable[[float], float], low: float, at: float, high: float) -> float:
    """Return where a function is lowest between two points that are both higher than `at`."""
    found = scipy.optimize.minimize_scalar(
        height,
        bounds=(low, high),
        method="bounded",
        options={"maxiter": EXTREME_EVALUATIONS, "xatol": 1e-12 * high},
    )
    return float(found.x) if found.fun < height(at) else at


def _bisect(height: Callable[[float], float], low: float, high: float, resolved: float) -> float:
    """Root between a point before and one after it."""
    if not height(low) > 0.0:

        def cut(x: float) -> float:
            value = height(x)
            return value if value < -resolved else resolved

        return float(scipy.optimize.brentq(cut, low, high, xtol=1e-300, rtol=1e-13))
    return float(scipy.optimize.brentq(height, low, high, xtol=1e-300, rtol=1e-13))


@may_underflow
def expected_next_alignment(
    problem: Quadratic,
    coefficients: ArrayLike,
    step_size: float,
    *,
    update: Update = "full",
) -> tuple[float, float]:
    """Return mean and standard deviation of the alignment one step after a given state.

    Exactly, by an integral. ``trace.predicted.mean`` is the ratio of the expected squared gradients
    instead, which the sums of a row suffice for.

    Parameters
    ----------
    problem : Quadratic
        Its initial state is not used.
    coefficients : array_like of float, shape (num_levels,) or (dim,)
        Eigen-coefficients of the state.
    step_size : float
    update : {"full", "dominant", "bulk"} or tuple of two float

    Returns
    -------
    mean, std : float

    Examples
    --------
    >>> import suspalign_fast as sa
    >>> problem = sa.Quadratic(sa.Spectrum([2.0, 1.0], 1), sa.IsotropicNoise(2.0), [0.1, 2.0])
    >>> mean, _ = sa.theory.expected_next_alignment(problem, [0.1, 2.0], 0.3)
    >>> row = sa.simulate(problem, 0.3, 1).predicted
    >>> round(mean, 3), round(float(row.mean[0]), 3)
    (0.337, 0.384)
    """
    eta = checks.real("step_size", step_size)
    return NextStep(problem, coefficients, update).alignment(eta)


class NextStep:
    """One step from a given state.

    Parameters
    ----------
    problem : Quadratic
        Its initial state is not used.
    coefficients : array_like of float, shape (num_levels,) or (dim,)
    update : {"full", "dominant", "bulk"} or tuple of two float
    """

    def __init__(self, problem: Quadratic, coefficients: ArrayLike, update: Update) -> None:
        levels = Levels(problem, update_weights(update), coefficients)
        self.split: int = levels.split
        self.lam, self.count, self.mean = levels.lam, levels.count, levels.mean
        self.rate, self.push = levels.rate, levels.push

    def one_sided(self) -> float | None:
        """Critical step size where a band has no gradient, None where both have one."""
        bands = (slice(0, self.split), slice(self.split, None))
        silent = [not np.any(self.lam[band] * self.mean[band]) for band in bands]
        if not any(silent):
            return None
        kicked = [bool(np.any(self.lam[band] * self.push[band])) for band in bands]
        if all(silent) or not kicked[silent.index(True)]:
            return float("nan")
        return 0.0 if silent[0] else float("inf")

    def expansion(self) -> tuple[float, float]:
        """First and second coefficient of the relative change of the next alignment.

        ``E[A'] - A`` over ``A (1 - A)``, as a power series in the step size.
        """
        g = self.lam * self.mean
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            g = g / np.sqrt(np.sum(self.count * g * g))
        squares = self.count * g * g
        bands = (slice(0, self.split), slice(self.split, None))
        noise = self.count * (self.lam * self.push / self.gradient_norm()) ** 2
        s2, rate, rate_sq, kicks, gained = (
            np.array([x[band].sum() for band in bands])
            for x in (
                squares, squares * self.rate, squares * self.rate**2, noise,
                noise * g * g,
            )
        )  # fmt: skip
        return _expansion(s2, rate, rate_sq, kicks, gained)

    def gradient_norm(self) -> float:
        """Norm of the gradient before the step."""
        return float(norm(np.sqrt(self.count) * self.lam * self.mean))

    def change(self, eta: float) -> float:
        """Expected change of the alignment in one step, over the smaller of A and 1 - A."""
        (a, b), (a_next, b_next) = self._shares_now, self._shares(eta)[:2]
        return (a_next - a) / a if a <= b else (b - b_next) / b

    @cached_property
    def _shares_now(self) -> tuple[float, float]:
        dominant, bulk, _ = self._shares(0.0)
        return dominant, bulk

    def alignment(self, eta: float) -> tuple[float, float]:
        """Mean and standard deviation of the alignment after the step."""
        dominant, bulk, spread = self._shares(eta)
        return (dominant if dominant < bulk else 1.0 - bulk), float(np.sqrt(spread))

    def _shares(self, eta: float) -> tuple[float, float, float]:
        """Mean shares of both bands in the next squared gradient, and their variance."""
        with np.errstate(over="ignore", invalid="ignore"):
            mean = (1.0 - eta * self.rate) * self.mean
            mean_sq, variance = (self.lam * mean) ** 2, (eta * self.lam * self.push) ** 2
            dominant, bulk, spread = ratio_moments(variance, mean_sq, self.count, self.split)
        return float(dominant), float(bulk), float(spread)


def norm(values: Array) -> Any:
    """Euclidean norm, without overflow where it is finite."""
    largest = np.abs(values).max(initial=0.0)
    if largest == 0.0 or not np.isfinite(largest):
        return largest
    return largest * np.sqrt(np.sum((values / largest) ** 2))


def _expansion(
    s2: Array, rate: Array, rate_sq: Array, kicks: Array, gained: Array
) -> tuple[float, float]:
    """See `NextStep.expansion`; everything over the squared norm of the gradient.

    With D, B the sums of squares and T = D + B = 1, A = D / T: the gradient moves by -eta (r g +
    noise), and ``d2 A / dg2 = 2 b / T^2 - 8 g^2 b / T^3`` for b = B in the dominant band, with the
    opposite sign and D in the other.
    """
    dominant, bulk = s2
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_rate = rate / s2
        first = -2.0 * (mean_rate[0] - mean_rate[1])
        # The step without noise, (1 - eta r) g, to second order.
        total = rate.sum()
        mean_rate_sq = rate_sq / s2
        second = mean_rate_sq[0] - mean_rate_sq[1] + 2.0 * total * first
        # The noise, half the second derivative times its variance.
        second += (kicks[0] - 4.0 * gained[0]) / dominant - (kicks[1] - 4.0 * gained[1]) / bulk
    return float(first), float(second)


# --- The step size at which the expected alignment does not change -------------------------------


#: Step sizes up to this many times 1 / lambda_1 are searched for an exact critical one.
SEARCH_END = 1e6
#: Relative changes of the alignment below this are rounding.
RESOLVED = 1e-12


@may_underflow
def exact_critical_step_size(
    problem: Quadratic,
    coefficients: ArrayLike,
    *,
    update: Update = "full",
) -> float:
    """Return the step size at which the expected *alignment* of the next step does not change.

    The closed form (`Trace.critical_step_size`) balances the expected odds
    ``E|P_dom g'|^2 / E|P_bulk g'|^2`` instead; this is the first root of the exact change.

    Parameters
    ----------
    problem : Quadratic
        Its initial state is not used.
    coefficients : array_like of float, shape (num_levels,) or (dim,)
        Eigen-coefficients of the state.
    update : {"full", "dominant", "bulk"} or tuple of two float
        Weights of the dominant and the bulk part of the update.

    Returns
    -------
    float
        The smallest positive step size at which the change has a root and another sign after it.
        Without one, +inf where the alignment falls and 0 where it rises for every step size up to
        a million times 1 / lambda_1. NaN where the gradient is zero, or no step changes anything.

    Notes
    -----
    Very small steps follow from the change's expansion to second order in the step size. Above
    them it is evaluated at step sizes 6 % apart (25 % far above all 1 / lambda), closer together
    around 1 / lambda of directions that carry much of a band's gradient, where it can turn
    sharply, and at its extremes in between; the first change of sign is then bisected to 1e-13.
    Two roots closer together than that may be missed, and changes below 1e-12 of the alignment
    (or of 1 less it) are not resolved.
    """
    step = NextStep(problem, coefficients, update)
    if (limit := step.one_sided()) is not None:
        return limit
    first, second = step.expansion()
    if not np.isfinite(first) or (first == 0.0 and second == 0.0):
        return float("nan")
    falls = first < 0.0 or (first == 0.0 and second < 0.0)
    sizes = _search_sizes(step, first, second)
    root = first_root(step.change, sizes, -1.0 if falls else 1.0, RESOLVED)
    if root is not None:
        return root
    return float("inf") if falls else 0.0


def _search_sizes(step: NextStep, first: float, second: float) -> Array:
    """Ascending step sizes at which a change of sign is looked for."""
    heavy = _heavy_levels(step)
    turns = 1.0 / step.rate[heavy]
    top = 1.0 / step.rate.max()
    noise = norm(np.sqrt(step.count) * step.lam * step.push)
    low = min(top, step.gradient_norm() / noise if noise > 0.0 else np.inf)
    if first * second < 0.0:
        low = min(low, abs(first / second))
    end = max(SEARCH_END * top, 10.0 * low)
    last = min(end, 10.0 * turns.max(initial=top))
    return with_clusters(max(0.03 * low, 1e-300), 0.05 * top, last, end, turns)


def _heavy_levels(step: NextStep) -> NDArray[np.int64]:
    """Levels that carry a hundredth of a band's squared gradient, at most eight of each."""
    squares = step.count * (step.lam * step.mean) ** 2
    heavy = []
    for start, stop in ((0, step.split), (step.split, step.lam.size)):
        part = np.where(step.rate[start:stop] > 0.0, squares[start:stop], 0.0)
        order = np.argsort(part)[::-1][:8]
        heavy.append(start + order[part[order] > 0.01 * part.sum()])
    return np.concatenate(heavy)
