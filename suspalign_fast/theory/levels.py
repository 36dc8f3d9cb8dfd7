"""The levels of a problem, and the moments of a sum over independent Gaussian coefficients."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _checks
from ..kernels.ratio import ratio_moments
from ..momentum_moves import momentum_transition
from ..optimizer import PLAIN, Optimizer
from ..problem import Quadratic
from ..spectrum import Spectrum
from ..stability import rest_covariance
from ..step_size import KnownStepSize
from ..transition import product, transition
from .pieces import pieces

Array = NDArray[np.float64]


#: Levels from which on moments are taken from a compressed spectrum, and its tolerance.
MANY = 2_000
TOLERANCE = 1e-12
#: Largest step size, in units of 1 / lambda_1 and of the largest in a band, that it is made for.
LARGEST_STEP = 1.99


def with_few_levels(problem: Quadratic, largest_step: float) -> Quadratic:
    """Return a problem of few levels with the same moments at every time, or the problem itself.

    Where noise and initial state are smooth in lambda, steps are stable, and the noise keeps sums
    from decaying without end; else nothing is saved.
    """
    spectrum = problem.spectrum
    largest = largest_step * float(spectrum.eigenvalues[0])
    if not is_smooth(problem) or spectrum.num_levels <= MANY or not largest <= LARGEST_STEP:
        return problem
    try:
        few = spectrum.compress(TOLERANCE)
    except ValueError:  # eigenvalues that no few nodes stand for
        return problem
    return Quadratic(few, problem.noise, problem.initial)


def is_smooth(problem: Quadratic) -> bool:
    """Whether noise that lasts and initial state are smooth functions of lambda."""
    law = problem.noise_law
    lasting = law is not None and law.sigma > 0.0 and problem.noise.is_lasting
    return lasting and not isinstance(problem.initial, np.ndarray)


class Levels:
    """A problem's levels and the moments that follow from those of their coefficients."""

    def __init__(self, problem: Quadratic, weights: tuple[float, float]) -> None:
        if not isinstance(problem, Quadratic):
            raise _checks.wrong("problem", problem, "a Quadratic")
        if problem.noise.depends_on_state:
            raise ValueError(
                "noise must not depend on the state for coefficients to be independent, got "
                f"{problem.noise!r}; see theory.expected and simulate(..., engine='levels')"
            )
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
        self.weight: Array = weight
        self.stds: Array = stds
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
        self, rule: KnownStepSize, times: NDArray[np.int64], optimizer: Optimizer = PLAIN
    ) -> Iterator[tuple[Array, Array]]:
        """Yield mean and variance of the coefficients at ascending times."""
        walk = self._with_velocity if optimizer.has_velocity else self._walk
        found, reached = (self.mean, self.variance), 0
        states = walk(rule, times, optimizer)
        for t in times.tolist():
            while reached < t:
                reached, found = next(states)
            yield found

    def _walk(
        self, rule: KnownStepSize, times: NDArray[np.int64], optimizer: Optimizer
    ) -> Iterator[tuple[int, tuple[Array, Array]]]:
        """Yield steps, those of the times among them, and mean and variance there."""
        mean, variance = self.mean, self.variance
        for piece in pieces(rule, times):
            first = mean, variance
            for start, stop in piece.moves():
                a, b = transition(piece.rule, start, stop, self.rate, self.push)
                mean, variance = first if piece.is_constant else (mean, variance)
                with np.errstate(over="ignore"):
                    mean, variance = product(a, mean), product(a * a, variance) + b * b
                yield stop, (mean, variance)

    def _with_velocity(
        self, rule: KnownStepSize, times: NDArray[np.int64], optimizer: Optimizer
    ) -> Iterator[tuple[int, tuple[Array, Array]]]:
        """See `_walk`; velocities start at zero."""
        move: Any = None
        for piece in pieces(rule, times):
            first = move
            for start, stop in piece.moves():
                before = first if piece.is_constant else move
                move = momentum_transition(
                    piece.rule, start, stop, self.lam, self.weight, optimizer, before
                )
                with np.errstate(over="ignore"):
                    noise = product(self.stds, move.noise_cc)
                    variance = product(move.cc * move.cc, self.variance) + noise * noise
                    mean = product(move.cc, self.mean)
                yield stop, (mean, variance)

    def at_rest(self, eta: float, optimizer: Optimizer = PLAIN) -> Array:
        """Variance of the coefficients at t = infinity, zero where there is no curvature.

        Raises
        ------
        ValueError
            If the step size is not below the edge of stability.
        """
        x, edge = eta * self.rate, optimizer.largest
        if x.max() >= edge:
            at = int(np.argmax(x))
            raise ValueError(
                f"step_size must be below {edge:g} / lambda = {float(edge / self.rate[at])!r} for "
                f"a stationary state, got {eta!r}"
            )
        with np.errstate(divide="ignore", invalid="ignore"):
            if optimizer.has_velocity:
                variance = (eta * self.push) ** 2 * rest_covariance(x, optimizer)[0]
            else:
                variance = eta * self.push**2 / (self.rate * (2.0 - x))
        return np.where(self.lam > 0.0, variance, 0.0)

    def moments(self, mean: Array, variance: Array, *, has_alignment: bool = True) -> Array:
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
            alignment = np.nan, np.nan
            if has_alignment:
                alignment = self._alignment(g_mean_sq, g_variance)
            return np.array(
                [
                    *alignment,
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

    def _alignment(self, mean_sq: Array, variance: Array) -> tuple[float, float]:
        dominant, bulk, spread = ratio_moments(variance, mean_sq, self.count, self.split)
        mean = dominant if dominant < bulk else 1.0 - bulk
        return mean, float(np.sqrt(spread))
