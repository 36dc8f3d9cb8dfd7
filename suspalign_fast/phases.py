"""The two phases of alignment: how low it falls, when, and when it reaches its plateau."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks
from .problem import Quadratic
from .run import Update, update_weights
from .theory import Expected, Levels, stationary
from .trace import Trace

Array = NDArray[np.float64]

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
    part = _checks.real("fraction", fraction, positive=True)
    if part >= 1.0:
        raise _checks.wrong("fraction", fraction, "between 0 and 1")
    step, alignment, level = _curve(trajectory)
    if step.size == 0:
        raise _checks.wrong("trajectory", trajectory, "at least one row with a gradient")
    if plateau is not None:
        level = _checks.real("plateau", plateau)
        if level > 1.0:
            raise _checks.wrong("plateau", plateau, "an alignment between 0 and 1")
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
        raise _checks.wrong("trajectory", trajectory, expected)
    steps, alignments = (_checks.array("trajectory", part, expected) for part in trajectory)
    if steps.shape == (0,) and alignments.shape == (0,):
        return np.empty(0), np.empty(0)
    step = _checks.non_negative_vector("steps of trajectory", steps)
    alignment = _checks.non_negative_vector("alignments of trajectory", alignments)
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
    """Transition times from the problem alone, in closed form.

    Attributes
    ----------
    minimum_step : float
        Estimated time of the minimum; late where dominant rates differ much (by half on the
        shipped real spectrum, by a tenth on bands 1.25 wide).
    plateau_step : tuple of two float
        Lower and upper bound of the time at which the expected odds reach those of the stated
        fraction of the plateau; infinite where they never do.
    """

    minimum_step: float
    plateau_step: tuple[float, float]


def estimate(
    problem: Quadratic,
    step_size: float,
    *,
    fraction: float = 0.95,
    update: Update = "full",
) -> Estimate:
    r"""Estimate the transition times of a constant step size without following the trajectory.

    Of plain SGD; with momentum squared gradients have no single rate, and `find` on
    ``theory.expected(..., optimizer=)`` has the exact times (docs/momentum.md).

    Parameters
    ----------
    problem : Quadratic
    step_size : float
        Below 2 / lambda_1.
    fraction : float
        Part of the plateau that counts as reaching it, in (0, 1).
    update : {"full", "dominant", "bulk"} or tuple of two float

    Returns
    -------
    Estimate

    Notes
    -----
    Each direction's expected squared gradient relaxes as
    ``G_i(t) = F_i + (G_i(0) - F_i) e^{-2 gamma_i t}`` with ``gamma_i = -ln |1 - eta lambda_i|``
    and noise floor ``F_i``. With band sums D, B and their floors D_inf, B_inf:

    - While the bulk is far above its floor, the odds D / B are lowest where both fall at the same
      rate, ``t = ln[(D_0 - D_inf)(gamma_D - gamma_B) / (gamma_B D_inf)] / (2 gamma_D)``, with
      gamma_D the slowest dominant rate and gamma_B the mean bulk rate weighted by the gradient.
    - The odds reach the target o once ``B(t) = D_inf / o``. Replacing all bulk rates by their
      largest or smallest among the directions that carry the bulk's gradient (all but a
      thousandth) gives ``t = ln[(B_0 - B_inf) / (D_inf / o - B_inf)] / (2 gamma)`` twice.
    """
    part = _checks.real("fraction", fraction, positive=True)
    if part >= 1.0:
        raise _checks.wrong("fraction", fraction, "between 0 and 1")
    final = stationary(problem, step_size, update=update)
    model = Levels(problem, update_weights(update))
    with np.errstate(divide="ignore"):
        rate = -np.log(np.abs(1.0 - step_size * model.rate))
    start = model.count * model.lam**2 * (model.mean**2 + model.variance)
    dominant, bulk = slice(0, model.split), slice(model.split, None)
    d_floor, b_floor = final.grad_sq_dominant_mean, final.grad_sq_bulk_mean
    d_start, b_start = start[dominant].sum(), start[bulk].sum()

    slow = rate[dominant].min()
    mean = np.average(rate[bulk], weights=start[bulk]) if b_start > 0.0 else np.inf
    with np.errstate(divide="ignore", invalid="ignore"):
        fall = (d_start - d_floor) * (slow - mean) / (mean * d_floor)
        minimum = float(np.log(fall) / (2.0 * slow)) if fall > 1.0 else 0.0

    target = part * final.alignment_mean
    left = d_floor * (1.0 - target) / target - b_floor
    carrying = np.cumsum(start[bulk][::-1])[::-1] > 1e-3 * b_start
    if left <= 0.0:
        return Estimate(minimum, (float("inf"), float("inf")))
    if b_start - b_floor <= left:
        return Estimate(minimum, (0.0, 0.0))
    times = np.log((b_start - b_floor) / left) / (2.0 * rate[bulk][carrying])
    return Estimate(minimum, (float(times.min()), float(times.max())))
