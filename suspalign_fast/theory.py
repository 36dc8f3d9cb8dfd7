"""Exact theory: means and standard deviations without a simulation (DESIGN section 3).

With step sizes known in advance every coefficient c_i(t) is Gaussian and independent of the
others, so the loss is a sum with known mean and variance, and mean and standard deviation of the
alignment, a ratio, are one-dimensional integrals (``kernels.ratio``). The cost is that of the
levels of the spectrum, whatever their multiplicities.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from . import _checks
from .kernels.ratio import ratio_moments
from .power_sums import critical_step_size
from .problem import Quadratic
from .run import update_weights
from .step_size import ConstantStep, KnownStepSize, Schedule, StepSize, as_step_size
from .transition import product, transition

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Expected:
    """Exact mean and standard deviation of the columns of a trace.

    Attributes
    ----------
    step : ndarray of int64, shape (times,)
        From `expected`; absent (None) from `stationary`, whose other attributes are floats.
    alignment_mean, alignment_std : ndarray of float64, shape (times,)
        NaN where the gradient is zero with certainty.
    loss_mean, loss_std, loss_dominant_mean, loss_dominant_std, loss_bulk_mean, loss_bulk_std :
    ndarray of float64, shape (times,)
    grad_sq_dominant_mean, grad_sq_bulk_mean : ndarray of float64, shape (times,)
    """

    step: NDArray[np.int64] | None
    alignment_mean: Any
    alignment_std: Any
    loss_mean: Any
    loss_std: Any
    loss_dominant_mean: Any
    loss_dominant_std: Any
    loss_bulk_mean: Any
    loss_bulk_std: Any
    grad_sq_dominant_mean: Any
    grad_sq_bulk_mean: Any


MOMENTS = tuple(name for name in Expected.__dataclass_fields__ if name != "step")


def expected(
    problem: Quadratic,
    step_size: float | ArrayLike | StepSize,
    steps: ArrayLike,
    *,
    update: str | tuple[float, float] = "full",
) -> Expected:
    """Return exact means and standard deviations of loss and alignment at the given steps.

    Parameters
    ----------
    problem : Quadratic
    step_size : float, array_like or StepSize
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
    DESIGN section 3. Where the initial coefficients are random, the mean is over them, too.
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
    update: str | tuple[float, float] = "full",
) -> Expected:
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
    update: str | tuple[float, float] = "full",
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


def exact_critical_step_size(problem: Quadratic, coefficients: ArrayLike) -> float:
    """Return the step size at which the expected *alignment* of the next step does not change.

    The closed form (`Trace.critical_step_size`) balances the expected odds
    ``E|P_dom g'|^2 / E|P_bulk g'|^2`` instead; this is the root of the exact change.

    Parameters
    ----------
    problem : Quadratic
        Its initial state is not used.
    coefficients : array_like of float, shape (num_levels,) or (dim,)
        Eigen-coefficients of the state.

    Returns
    -------
    float
        The positive root, +inf where the alignment falls for every step size up to a million
        times 1 / lambda_1. Changes of the alignment below its float64 rounding are not resolved.
    """
    model = Levels(_started(problem, coefficients), (1.0, 1.0))
    now = model.next_alignment(0.0)[0]

    def change(eta: float) -> float:
        return model.next_alignment(eta)[0] - now

    # The alignment falls below the root and rises above it; the exact root lies near or above the
    # closed form, from which the search goes outward.
    guess = model.closed_form_critical()
    low = high = min(guess, 1e4 / model.lam[0])
    while change(low) > 0.0:
        low /= 10.0
        if low < 1e-300:
            return 0.0
    while change(high) <= 0.0:
        low, high = high, high * 1.5
        if high > 1e6 / model.lam[0]:
            return float("inf")
    return float(optimize.brentq(change, low, high, xtol=1e-300, rtol=1e-13))


class Levels:
    """A problem's levels and the moments that follow from those of their coefficients."""

    def __init__(self, problem: Quadratic, weights: tuple[float, float]) -> None:
        if not isinstance(problem, Quadratic):
            raise _checks.wrong("problem", problem, "a Quadratic")
        spectrum, initial, stds = problem.spectrum, problem.initial, problem.stds
        if isinstance(initial, np.ndarray) and initial.size != spectrum.num_levels:
            stds = np.repeat(stds, spectrum.multiplicities)
            spectrum = spectrum.expand()
        self.problem = problem
        self.spectrum = spectrum
        self.split = spectrum.num_dominant_levels
        self.lam = spectrum.eigenvalues
        self.count = spectrum.multiplicities.astype(np.float64)
        weight = spectrum.per_level(weights)
        #: Decay a step and a unit of step size, and noise entering a unit of step size.
        self.rate = weight * self.lam
        self.push = weight * stds
        self.mean: Array = np.zeros_like(self.lam)
        self.variance: Array = np.zeros_like(self.lam)
        if isinstance(initial, np.ndarray):
            self.mean = initial
        else:
            self.variance += initial * initial

    def trajectory(self, rule: KnownStepSize, times: NDArray[np.int64]) -> Any:
        """Yield mean and variance of the coefficients at ascending times."""
        mean, variance, now = self.mean, self.variance, 0
        constant = isinstance(rule, ConstantStep)
        for t in times:
            a, b = transition(rule, now, int(t), self.rate, self.push)
            if constant:  # from the start every time: no error adds up
                yield product(a, self.mean), product(a * a, self.variance) + b * b
                continue
            mean, variance, now = a * mean, a * a * variance + b * b, int(t)
            yield mean, variance

    def moments(self, mean: Array, variance: Array) -> Array:
        """Return the values of `MOMENTS` for independent Gaussian coefficients."""
        mean_sq = mean**2
        bands = (slice(0, self.split), slice(self.split, None))
        loss = self.count * self.lam * (mean_sq + variance) / 2.0
        loss_variance = self.count * self.lam**2 * (variance**2 / 2.0 + mean_sq * variance)
        grad_sq = self.count * self.lam**2 * (mean_sq + variance)
        loss_d, loss_b = (loss[band].sum() for band in bands)
        variance_d, variance_b = (loss_variance[band].sum() for band in bands)
        alignment = self._alignment(self.lam**2 * mean_sq, self.lam**2 * variance)
        return np.array(
            [
                *alignment,
                loss_d + loss_b,
                np.sqrt(variance_d + variance_b),
                loss_d,
                np.sqrt(variance_d),
                loss_b,
                np.sqrt(variance_b),
                *(grad_sq[band].sum() for band in bands),
            ]
        )

    def closed_form_critical(self) -> float:
        """Closed-form critical step size of the initial state, 1 / lambda_1 where there is none."""
        powers = np.stack([self.lam**p * self.mean**2 for p in (1, 2, 3, 4)])
        sums = self.spectrum.band_sums(powers).T
        closed = float(critical_step_size(sums, self.problem.noise_constants))
        return closed if 0.0 < closed < np.inf else 1.0 / float(self.lam[0])

    def next_alignment(self, eta: float) -> tuple[float, float]:
        """Mean and standard deviation of the alignment one step after the initial state."""
        mean = (1.0 - eta * self.rate) * self.mean
        return self._alignment((self.lam * mean) ** 2, (eta * self.lam * self.push) ** 2)

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
    times = np.atleast_1d(np.asarray(steps))
    if times.ndim != 1 or times.dtype.kind not in "iu" or (times.size and times.min() < 0):
        raise _checks.wrong("steps", steps, "integers of at least 0, one or a flat array of them")
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
    return Quadratic(problem.spectrum, problem.noise, values)
