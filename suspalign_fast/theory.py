"""Exact theory: means and standard deviations without a simulation.

With step sizes known in advance every coefficient c_i(t) is Gaussian and independent of the
others, so the loss is a sum with known mean and variance, and mean and standard deviation of the
alignment, a ratio, are one-dimensional integrals (``kernels.ratio``). The cost is that of the
levels of the spectrum, whatever their multiplicities. Past the largest float64 number losses and
squared gradients are infinite and alignments NaN, without a warning.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks
from ._equality import same_values
from ._first_root import first_root, with_clusters
from .kernels.ratio import ratio_moments
from .noise import check_length
from .problem import Quadratic
from .run import Update, update_weights
from .spectrum import Spectrum
from .step_size import ConstantStep, KnownStepSize, Schedule, as_step_size
from .transition import product, transition

Array = NDArray[np.float64]


#: Arrays at given times, or numbers at no time in particular.
Value = TypeVar("Value", Array, float)
#: Step sizes up to this many times 1 / lambda_1 are searched for an exact critical one.
SEARCH_END = 1e6
#: Relative changes of the alignment below this are rounding.
RESOLVED = 1e-12


@dataclass(frozen=True, eq=False)
class Expected(Generic[Value]):
    """Exact mean and standard deviation of the columns of a trace.

    Attributes
    ----------
    step : ndarray of int64, shape (times,)
        From `expected`; absent (None) from `stationary`, whose other attributes are floats.
    alignment_mean, alignment_std : ndarray of float64, shape (times,)
        NaN where the gradient is zero with certainty, or not finite.
    loss_mean, loss_std, loss_dominant_mean, loss_dominant_std, loss_bulk_mean, loss_bulk_std :
    ndarray of float64, shape (times,)
    grad_sq_dominant_mean, grad_sq_bulk_mean : ndarray of float64, shape (times,)
        Infinite past divergence.
    """

    step: NDArray[np.int64] | None
    alignment_mean: Value
    alignment_std: Value
    loss_mean: Value
    loss_std: Value
    loss_dominant_mean: Value
    loss_dominant_std: Value
    loss_bulk_mean: Value
    loss_bulk_std: Value
    grad_sq_dominant_mean: Value
    grad_sq_bulk_mean: Value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Expected):
            return NotImplemented
        names = ("step", *MOMENTS)
        return same_values(*([getattr(x, name) for name in names] for x in (self, other)))


MOMENTS = tuple(name for name in Expected.__dataclass_fields__ if name != "step")


def expected(
    problem: Quadratic,
    step_size: float | ArrayLike | KnownStepSize,
    steps: ArrayLike,
    *,
    update: Update = "full",
) -> Expected[Array]:
    """Return exact means and standard deviations of loss and alignment at the given steps.

    Parameters
    ----------
    problem : Quadratic
    step_size : float, array_like or KnownStepSize
        A constant or a schedule; not a rule that depends on the state.
    steps : int or array_like of int, shape (times,)
        Steps t >= 0, in any order; within the schedule if there is one.
    update : {"full", "dominant", "bulk"} or tuple of two float
        Weights of the dominant and the bulk part of the update.

    Returns
    -------
    Expected

    Raises
    ------
    ValueError
        If the steps are negative or not integers, or the step size depends on the state.

    Notes
    -----
    Each coefficient is normal, with mean ``a^t c(0)`` and variance ``eta^2 s^2 (1 - a^2t) /
    (1 - a^2)``, ``a = 1 - eta lambda``. Where the initial coefficients are random, the mean is
    over them, too.
    """
    rule, weights = _known(step_size), update_weights(update)
    times = _times(steps, rule)
    model = Levels(problem, weights)
    rows = np.empty((times.size, len(MOMENTS)))
    order = np.argsort(times, kind="stable")
    for row, (mean, variance) in zip(order, model.trajectory(rule, times[order]), strict=True):
        rows[row] = model.moments(mean, variance)
    return Expected(times, *rows.T)


def stationary(
    problem: Quadratic,
    step_size: float,
    *,
    update: Update = "full",
) -> Expected[float]:
    """Return the exact means and standard deviations at t = infinity, as floats.

    Directions of zero curvature never settle but add nothing to loss and gradient.

    Parameters
    ----------
    problem : Quadratic
    step_size : float
        Below ``2 / (weight lambda_1)``, else there is no stationary state.
    update : {"full", "dominant", "bulk"} or tuple of two float
        Weights of both parts of the update; both must be positive.

    Returns
    -------
    Expected
        With ``step = None`` and floats.

    Raises
    ------
    ValueError
        If the step size is 2 / lambda_1 or more, or a part is frozen.
    """
    eta = _checks.real("step_size", step_size, positive=True)
    weights = update_weights(update)
    if min(weights) == 0.0:
        raise _checks.wrong("update", update, "positive in both parts for a stationary state")
    model = Levels(problem, weights)
    x = eta * model.rate
    if x.max() >= 2.0:
        at = int(np.argmax(x))
        raise ValueError(
            f"step_size must be below 2 / lambda = {float(2.0 / model.rate[at])!r} for a "
            f"stationary state, got {eta!r}"
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = eta * model.push**2 / (model.rate * (2.0 - x))
    variance = np.where(model.lam > 0.0, variance, 0.0)
    return Expected(None, *map(float, model.moments(np.zeros_like(variance), variance)))


def expected_next_alignment(
    problem: Quadratic,
    coefficients: ArrayLike,
    step_size: float,
    *,
    update: Update = "full",
) -> tuple[float, float]:
    """Return mean and standard deviation of the alignment one step after a given state.

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
    """
    eta = _checks.real("step_size", step_size)
    model = Levels(_started(problem, coefficients), update_weights(update))
    return model.next_alignment(eta)


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
    model = Levels(_started(problem, coefficients), update_weights(update))
    if (limit := model.one_sided()) is not None:
        return limit
    first, second = model.expansion()
    if not np.isfinite(first) or (first == 0.0 and second == 0.0):
        return float("nan")
    falls = first < 0.0 or (first == 0.0 and second < 0.0)
    sizes = model.search_sizes(first, second)
    root = first_root(model.change, sizes, -1.0 if falls else 1.0, RESOLVED)
    if root is not None:
        return root
    return float("inf") if falls else 0.0


class Levels:
    """A problem's levels and the moments that follow from those of their coefficients."""

    def __init__(self, problem: Quadratic, weights: tuple[float, float]) -> None:
        if not isinstance(problem, Quadratic):
            raise _checks.wrong("problem", problem, "a Quadratic")
        spectrum, initial, stds = problem.spectrum, problem.initial, problem.stds
        if isinstance(initial, np.ndarray) and initial.size != spectrum.num_levels:
            stds = np.repeat(stds, spectrum.multiplicities)
            spectrum = spectrum.expand()
        self.problem: Quadratic = problem
        self.spectrum: Spectrum = spectrum
        self.split: int = spectrum.num_dominant_levels
        self.lam: Array = spectrum.eigenvalues
        self.count: Array = spectrum.multiplicities.astype(np.float64)
        weight = spectrum.per_level(weights)
        #: Decay a step and a unit of step size, and noise entering a unit of step size.
        self.rate: Array = weight * self.lam
        self.push: Array = weight * stds
        self.mean: Array = np.zeros_like(self.lam)
        self.variance: Array = np.zeros_like(self.lam)
        if isinstance(initial, np.ndarray):
            self.mean = initial
        else:
            self.variance += initial * initial

    def trajectory(
        self, rule: KnownStepSize, times: NDArray[np.int64]
    ) -> Iterator[tuple[Array, Array]]:
        """Yield mean and variance of the coefficients at ascending times."""
        mean, variance, now = self.mean, self.variance, 0
        constant = type(rule) is ConstantStep
        for t in times:
            if constant:  # from the start every time: no error adds up
                mean, variance, now = self.mean, self.variance, 0
            a, b = transition(rule, now, int(t), self.rate, self.push)
            with np.errstate(over="ignore"):
                mean, variance = product(a, mean), product(a * a, variance) + b * b
            now = int(t)
            yield mean, variance

    def moments(self, mean: Array, variance: Array) -> Array:
        """Return the values of `MOMENTS` for independent Gaussian coefficients."""
        bands = (slice(0, self.split), slice(self.split, None))
        with np.errstate(over="ignore", invalid="ignore"):
            # Twice the loss of a direction is (m + sqrt(v) xi)^2 with these m^2 and v.
            mean_sq, spread = self._curved(mean) * mean, self._curved(variance)
            loss = self.count * (mean_sq + spread) / 2.0
            g_mean_sq, g_variance = self.lam * mean_sq, self.lam * spread
            grad_sq = self.count * (g_mean_sq + g_variance)
            loss_d, loss_b = (loss[band].sum() for band in bands)
            unit = loss.max()  # in which squares do not overflow
            unit = unit if 0.0 < unit < np.inf else 1.0
            mean_sq, spread = mean_sq / unit, spread / unit
            squares = self.count * spread * (spread / 2.0 + mean_sq)
            std_d, std_b = (unit * np.sqrt(squares[band].sum()) for band in bands)
            return np.array(
                [
                    *self._alignment(g_mean_sq, g_variance),
                    loss_d + loss_b,
                    np.hypot(std_d, std_b),
                    loss_d,
                    std_d,
                    loss_b,
                    std_b,
                    *(grad_sq[band].sum() for band in bands),
                ]
            )

    def _curved(self, values: Array) -> Array:
        """Eigenvalue times value, zero where there is no curvature, even for infinite values."""
        products = self.lam * values
        return product(self.lam, values) if np.isnan(products.sum()) else products

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
        noise = self.count * (self.lam * self.push / self._gradient_norm()) ** 2
        s2, rate, rate_sq, kicks, gained = (
            np.array([x[band].sum() for band in bands])
            for x in (
                squares, squares * self.rate, squares * self.rate**2, noise,
                noise * g * g,
            )
        )  # fmt: skip
        return _expansion(s2, rate, rate_sq, kicks, gained)

    def _gradient_norm(self) -> float:
        return float(_norm(np.sqrt(self.count) * self.lam * self.mean))

    def search_sizes(self, first: float, second: float) -> Array:
        """Ascending step sizes at which a change of sign is looked for."""
        heavy = self._heavy_levels()
        turns = 1.0 / self.rate[heavy]
        top = 1.0 / self.rate.max()
        noise = _norm(np.sqrt(self.count) * self.lam * self.push)
        low = min(top, self._gradient_norm() / noise if noise > 0.0 else np.inf)
        if first * second < 0.0:
            low = min(low, abs(first / second))
        end = max(SEARCH_END * top, 10.0 * low)
        last = min(end, 10.0 * turns.max(initial=top))
        return with_clusters(max(0.03 * low, 1e-300), 0.05 * top, last, end, turns)

    def _heavy_levels(self) -> NDArray[np.int64]:
        """Levels that carry a hundredth of a band's squared gradient, at most eight of each."""
        squares = self.count * (self.lam * self.mean) ** 2
        heavy = []
        for start, stop in ((0, self.split), (self.split, self.lam.size)):
            part = np.where(self.rate[start:stop] > 0.0, squares[start:stop], 0.0)
            order = np.argsort(part)[::-1][:8]
            heavy.append(start + order[part[order] > 0.01 * part.sum()])
        return np.concatenate(heavy)

    def change(self, eta: float) -> float:
        """Expected change of the alignment in one step, over the smaller of A and 1 - A."""
        (a, b), (a_next, b_next) = self._shares_now, self._next_shares(eta)[:2]
        return (a_next - a) / a if a <= b else (b - b_next) / b

    @cached_property
    def _shares_now(self) -> tuple[float, float]:
        dominant, bulk, _ = self._next_shares(0.0)
        return dominant, bulk

    def next_alignment(self, eta: float) -> tuple[float, float]:
        """Mean and standard deviation of the alignment one step after the initial state."""
        dominant, bulk, spread = self._next_shares(eta)
        return (dominant if dominant < bulk else 1.0 - bulk), float(np.sqrt(spread))

    def _next_shares(self, eta: float) -> tuple[float, float, float]:
        """Mean shares of both bands in the next squared gradient, and their variance."""
        with np.errstate(over="ignore", invalid="ignore"):
            mean = (1.0 - eta * self.rate) * self.mean
            mean_sq, variance = (self.lam * mean) ** 2, (eta * self.lam * self.push) ** 2
            dominant, bulk, spread = ratio_moments(variance, mean_sq, self.count, self.split)
        return float(dominant), float(bulk), float(spread)

    def _alignment(self, mean_sq: Array, variance: Array) -> tuple[float, float]:
        dominant, bulk, spread = ratio_moments(variance, mean_sq, self.count, self.split)
        mean = dominant if dominant < bulk else 1.0 - bulk
        return mean, float(np.sqrt(spread))


def _known(step_size: Any) -> KnownStepSize:
    rule = as_step_size(step_size)
    if not isinstance(rule, KnownStepSize):
        raise _checks.wrong("step_size", step_size, "known in advance: a number or an array")
    return rule


def _times(steps: ArrayLike, rule: KnownStepSize) -> NDArray[np.int64]:
    expected = "integers of at least 0, one or a flat array of them"
    times = np.atleast_1d(_checks.array("steps", steps, expected))
    if times.ndim != 1 or times.dtype.kind not in "iu" or (times.size and times.min() < 0):
        raise _checks.wrong("steps", steps, expected)
    if times.size and int(times.max()) > 2**62:
        raise _checks.wrong("steps", steps, "integers of at most 2**62")
    times = times.astype(np.int64)
    if isinstance(rule, Schedule) and times.size and times.max() > rule.sizes.size:
        raise ValueError(
            f"steps must be within the schedule of {rule.sizes.size} steps, got {times.max()}"
        )
    return times


def _started(problem: Quadratic, coefficients: ArrayLike) -> Quadratic:
    if not isinstance(problem, Quadratic):
        raise _checks.wrong("problem", problem, "a Quadratic")
    values = _checks.vector("coefficients", coefficients)
    check_length(problem.spectrum, values, "coefficients")
    return Quadratic(problem.spectrum, problem.noise, values)


def _norm(values: Array) -> Any:
    """Euclidean norm, without overflow where it is finite."""
    largest = np.abs(values).max(initial=0.0)
    if largest == 0.0 or not np.isfinite(largest):
        return largest
    return largest * np.sqrt(np.sum((values / largest) ** 2))


def _expansion(
    s2: Array, rate: Array, rate_sq: Array, kicks: Array, gained: Array
) -> tuple[float, float]:
    """See `Levels.expansion`; everything over the squared norm of the gradient.

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
