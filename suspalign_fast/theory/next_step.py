"""The alignment one step after a given state, and how it changes with the step size."""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import _checks
from .._underflow import may_underflow
from ..kernels.ratio import ratio_moments
from ..noise import check_length
from ..problem import Quadratic
from ..run import Update, update_weights
from .levels import Array, Levels


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
    eta = _checks.real("step_size", step_size)
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
        levels = Levels(_started(problem, coefficients), update_weights(update))
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


def _started(problem: Quadratic, coefficients: ArrayLike) -> Quadratic:
    if not isinstance(problem, Quadratic):
        raise _checks.wrong("problem", problem, "a Quadratic")
    values = _checks.vector("coefficients", coefficients)
    check_length(problem.spectrum, values, "coefficients")
    return Quadratic(problem.spectrum, problem.noise, values)


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
