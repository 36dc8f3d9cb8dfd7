"""Means and standard deviations at given times, and at t = infinity."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import checks
from ..base.values import may_underflow
from ..model.optimizer import PLAIN, Optimizer, as_optimizer
from ..model.problem import Quadratic
from ..model.run import MAX_STEPS, Update, update_weights
from ..model.stability import Stability
from ..model.step_size import ConstantStep, KnownStepSize, Schedule, as_step_size
from . import batches
from .levels import MOMENTS, Array, Expected, Levels, through_few_levels, with_few_levels


@may_underflow
def expected(
    problem: Quadratic,
    step_size: float | ArrayLike | KnownStepSize,
    steps: ArrayLike,
    *,
    update: Update = "full",
    optimizer: Optimizer = PLAIN,
    columns: Sequence[str] | None = None,
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
    optimizer : Optimizer
        `SGD()` or `Momentum(beta)`, whose velocity starts at zero.
    columns : sequence of str, optional
        Columns of a trace whose means and deviations are wanted, by default all. Without
        "alignment", whose integrals take most of the time, the rest costs a few sums.

    Returns
    -------
    Expected
        NaN in what `columns` leaves out, which ``unknown`` names, too.

    Raises
    ------
    ValueError
        If the steps are negative or not integers, the step size depends on the state, or the
        spectrum is one of `Spectrum.compress` under momentum.

    Notes
    -----
    Each coefficient is normal, with mean ``a^t c(0)`` and variance ``eta^2 s^2 (1 - a^2t) /
    (1 - a^2)``, ``a = 1 - eta lambda``; with momentum it is so together with its velocity, and a
    is a matrix (`suspalign_fast.model.moves`). Where the initial coefficients are random, the
    mean is over them, too. Under `DataNoise` losses and squared gradients have exact means; what
    has no closed form is NaN and named in ``unknown`` (`suspalign_fast.theory.batches`).
    """
    rule, weights, optimizer = _known(step_size), update_weights(update), as_optimizer(optimizer)
    left_out = _left_out(columns)
    times = _times(steps, rule)
    if not isinstance(problem, Quadratic):
        raise checks.wrong("problem", problem, "a Quadratic")
    problem.check_swings(optimizer)
    order = np.argsort(times, kind="stable")

    def rows_of(few: Quadratic) -> Array:
        rows = np.empty((times.size, len(MOMENTS)))
        found = _moments(few, rule, times[order], weights, optimizer, left_out)
        for row, moments in zip(order, found, strict=True):
            rows[row] = moments
        return rows

    largest = largest_step(rule, int(times.max(initial=0))) * max(weights)
    few, rows = through_few_levels(problem, largest, optimizer, rows_of)
    stable = None
    if type(rule) is ConstantStep:
        stable = few.noise.stability(few.spectrum, rule.value, weights, optimizer)
    return _expected(problem, times, rows.T, stable, left_out)


def _left_out(columns: Any) -> tuple[str, ...]:
    """Return the moments that columns leave out."""
    if columns is None:
        return ()
    known = {name: name.rpartition("_")[0] for name in MOMENTS}
    expected = f"a sequence of names out of {', '.join(dict.fromkeys(known.values()))}"
    if isinstance(columns, str) or not isinstance(columns, Sequence):
        raise checks.wrong("columns", columns, expected)
    if not all(isinstance(x, str) and x in known.values() for x in columns):
        raise checks.wrong("columns", columns, expected)
    return tuple(name for name, column in known.items() if column not in columns)


def _moments(
    problem: Quadratic,
    rule: KnownStepSize,
    times: NDArray[np.int64],
    weights: tuple[float, float],
    optimizer: Optimizer,
    left_out: tuple[str, ...],
) -> Iterator[Array]:
    """Yield the values of `MOMENTS` at ascending times, NaN in what is left out."""
    skipped = [MOMENTS.index(name) for name in left_out]
    has_alignment = "alignment_mean" not in left_out
    if problem.noise.depends_on_state:
        for squares in batches.squares_at(problem, rule, times, weights, optimizer):
            moments = batches.moments_of(problem, squares)
            moments[skipped] = np.nan
            yield moments
        return
    model = Levels(problem, weights)
    for mean, variance in model.trajectory(rule, times, optimizer):
        moments = model.moments(mean, variance, has_alignment=has_alignment)
        moments[skipped] = np.nan
        yield moments


def _expected(
    problem: Quadratic,
    times: NDArray[np.int64] | None,
    moments: Any,
    stable: Stability | None,
    left_out: tuple[str, ...] = (),
) -> Expected[Any]:
    """Return what is known of a problem's moments, in the order of `MOMENTS`."""
    nowhere = batches.UNKNOWN if problem.noise.depends_on_state else ()
    unknown = tuple(dict.fromkeys((*nowhere, *left_out)))
    named = dict(zip(MOMENTS, moments, strict=True))
    return Expected(times, **named, unknown=unknown, stability=stable)


@may_underflow
def stability(
    problem: Quadratic,
    step_size: float,
    *,
    update: Update = "full",
    optimizer: Optimizer = PLAIN,
) -> Stability:
    """Return how far a step size is from the largest stable one, in mean square.

    Parameters
    ----------
    problem : Quadratic
    step_size : float
    update : {"full", "dominant", "bulk"} or tuple of two float
    optimizer : Optimizer

    Returns
    -------
    Stability
        `feedback` K, below 1 where expected losses stay finite, and `largest`, the step size at
        the edge: ``2 / lambda_1`` under noise that does not depend on the state, with momentum
        ``optimizer.largest / lambda_1``.

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
        raise checks.wrong("problem", problem, "a Quadratic")
    weights = update_weights(update)
    return problem.noise.stability(problem.spectrum, step_size, weights, as_optimizer(optimizer))


@may_underflow
def stationary(
    problem: Quadratic,
    step_size: float,
    *,
    update: Update = "full",
    optimizer: Optimizer = PLAIN,
) -> Expected[float]:
    """Return the exact means and standard deviations at t = infinity, as floats.

    Directions of zero curvature never settle but add nothing to loss and gradient.

    Parameters
    ----------
    problem : Quadratic
    step_size : float
        Below ``stability(problem, step_size).largest``, that is ``2 / lambda_1`` for full updates
        of plain SGD and noise that does not depend on the state, else there is no stationary
        state.
    update : {"full", "dominant", "bulk"} or tuple of two float
        Weights of both parts of the update; both must be positive.
    optimizer : Optimizer

    Returns
    -------
    Expected
        With ``step = None`` and floats.

    Raises
    ------
    ValueError
        If the step size is not below the edge of stability, or a part is frozen.
    """
    eta = checks.real("step_size", step_size, positive=True)
    weights, optimizer = update_weights(update), as_optimizer(optimizer)
    if min(weights) == 0.0:
        raise checks.wrong("update", update, "positive in both parts for a stationary state")
    if not isinstance(problem, Quadratic):
        raise checks.wrong("problem", problem, "a Quadratic")

    def moments_of(few: Quadratic) -> Array:
        if few.noise.depends_on_state:
            return batches.moments_at_rest(few, eta, weights, optimizer)
        model = Levels(few, weights)
        variance = model.at_rest(eta, optimizer)
        return model.moments(np.zeros_like(variance), variance)

    few, moments = through_few_levels(problem, eta * max(weights), optimizer, moments_of)
    stable = problem.noise.stability(few.spectrum, eta, weights, optimizer)
    return _expected(problem, None, moments.tolist(), stable)


def _known(step_size: Any) -> KnownStepSize:
    rule = as_step_size(step_size)
    if not isinstance(rule, KnownStepSize):
        raise checks.wrong("step_size", step_size, "known in advance: a number or an array")
    return rule


def levels_needed(
    problem: Quadratic,
    step_size: KnownStepSize,
    last: int,
    update: Update,
    optimizer: Optimizer = PLAIN,
) -> int:
    """Return how many levels, at most, `expected` sums over for steps up to the last."""
    if optimizer.has_velocity:
        return problem.spectrum.num_levels
    largest = largest_step(step_size, last) * max(update_weights(update))
    return with_few_levels(problem, largest).spectrum.num_levels


def largest_step(rule: KnownStepSize, last: int) -> float:
    """Return the largest step size of the first `last` steps."""
    if type(rule) is ConstantStep:
        return rule.value
    return float(rule.values(0, last).max(initial=0.0))


def checked_steps(steps: Any, least: int = 0) -> NDArray[np.int64]:
    """Return steps as a flat array of so many of them at least."""
    expected = "integers of at least 0, one or a flat array of them"
    times = np.atleast_1d(checks.array("steps", steps, expected))
    if times.ndim != 1 or times.size < least or times.dtype.kind not in "iu" or (times < 0).any():
        raise checks.wrong("steps", steps, expected)
    if (times > MAX_STEPS).any():
        raise checks.wrong("steps", steps, "integers of at most 2**62")
    return times.astype(np.int64)


def _times(steps: ArrayLike, rule: KnownStepSize) -> NDArray[np.int64]:
    times = checked_steps(steps)
    if isinstance(rule, Schedule) and times.size and times.max() > rule.sizes.size:
        raise ValueError(
            f"steps must be within the schedule of {rule.sizes.size} steps, got {times.max()}"
        )
    return times
