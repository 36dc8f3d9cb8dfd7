"""Means and standard deviations at given times, and at t = infinity."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _checks
from ..problem import Quadratic
from ..run import Update, update_weights
from ..stability import Stability
from ..step_size import ConstantStep, KnownStepSize, Schedule, as_step_size
from . import batches
from .levels import Levels, with_few_levels
from .result import MOMENTS, Array, Expected


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
    over them, too. Under `DataNoise` losses and squared gradients have exact means; what has no
    closed form is NaN and named in ``unknown`` (`suspalign_fast.theory.batches`).
    """
    rule, weights = _known(step_size), update_weights(update)
    times = _times(steps, rule)
    if not isinstance(problem, Quadratic):
        raise _checks.wrong("problem", problem, "a Quadratic")
    last = int(times.max(initial=0))
    few = with_few_levels(problem, largest_step(rule, last) * max(weights))
    rows = np.empty((times.size, len(MOMENTS)))
    order = np.argsort(times, kind="stable")
    for row, moments in zip(order, _moments(few, rule, times[order], weights), strict=True):
        rows[row] = moments
    return _expected(problem, times, rows.T, _stability(few, rule, weights))


def _moments(
    problem: Quadratic, rule: KnownStepSize, times: NDArray[np.int64], weights: tuple[float, float]
) -> Iterator[Array]:
    """Yield the values of `MOMENTS` at ascending times."""
    if problem.noise.depends_on_state:
        for squares in batches.squares_at(problem, rule, times, weights):
            yield batches.moments_of(problem, squares)
        return
    model = Levels(problem, weights)
    for mean, variance in model.trajectory(rule, times):
        yield model.moments(mean, variance)


def _expected(
    problem: Quadratic, times: NDArray[np.int64] | None, moments: Any, stable: Stability | None
) -> Expected[Any]:
    """Return what is known of a problem's moments, in the order of `MOMENTS`."""
    unknown = batches.UNKNOWN if problem.noise.depends_on_state else ()
    named = dict(zip(MOMENTS, moments, strict=True))
    return Expected(times, **named, unknown=unknown, stability=stable)


def _stability(
    problem: Quadratic, rule: KnownStepSize, weights: tuple[float, float]
) -> Stability | None:
    if type(rule) is not ConstantStep:
        return None
    return problem.noise.stability(problem.spectrum, rule.value, weights)


def stability(problem: Quadratic, step_size: float, *, update: Update = "full") -> Stability:
    """Return how far a step size is from the largest stable one, in mean square.

    Parameters
    ----------
    problem : Quadratic
    step_size : float
    update : {"full", "dominant", "bulk"} or tuple of two float

    Returns
    -------
    Stability
        `feedback` K, below 1 where expected losses stay finite, and `largest`, the step size at
        the edge: ``2 / lambda_1`` under noise that does not depend on the state.

    Raises
    ------
    ValueError
        If an argument is not as described.

    Examples
    --------
    >>> import suspalign_fast as sa
    >>> spectrum = sa.Spectrum.two_level(100, 1, 10.0, 1.0)
    >>> problem = sa.Quadratic(spectrum, sa.DataNoise(batch_size=1, label_std=0.5))
    >>> found = sa.theory.stability(problem, 0.01)
    >>> found.is_stable, round(found.feedback, 3), round(found.largest, 4)
    (True, 0.556, 0.0177)
    """
    if not isinstance(problem, Quadratic):
        raise _checks.wrong("problem", problem, "a Quadratic")
    return problem.noise.stability(problem.spectrum, step_size, update_weights(update))


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
        Below ``2 / (weight lambda_1)``, else there is no stationary state; under `DataNoise` below
        ``stability(problem, step_size).largest``.
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
    if not isinstance(problem, Quadratic):
        raise _checks.wrong("problem", problem, "a Quadratic")
    few = with_few_levels(problem, eta * max(weights))
    stable = problem.noise.stability(few.spectrum, eta, weights)
    if problem.noise.depends_on_state:
        moments = batches.moments_at_rest(few, eta, weights)
        return _expected(problem, None, moments.tolist(), stable)
    model = Levels(few, weights)
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
    moments = model.moments(np.zeros_like(variance), variance)
    return _expected(problem, None, moments.tolist(), stable)


def _known(step_size: Any) -> KnownStepSize:
    rule = as_step_size(step_size)
    if not isinstance(rule, KnownStepSize):
        raise _checks.wrong("step_size", step_size, "known in advance: a number or an array")
    return rule


def levels_needed(problem: Quadratic, step_size: KnownStepSize, last: int, update: Update) -> int:
    """Return how many levels `expected` sums over for steps up to the last."""
    largest = largest_step(step_size, last) * max(update_weights(update))
    return with_few_levels(problem, largest).spectrum.num_levels


def largest_step(rule: KnownStepSize, last: int) -> float:
    """Return the largest step size of the first `last` steps."""
    if type(rule) is ConstantStep:
        return rule.value
    return float(rule.values(0, last).max(initial=0.0))


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
