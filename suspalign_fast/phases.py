"""The two phases of alignment: how low it falls, when, and when it reaches its plateau."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks
from ._underflow import may_underflow
from .problem import Quadratic
from .relaxation import RelaxingOdds, relaxing_bands
from .run import Update, update_weights
from .theory import Expected, Levels, stationary
from .theory.levels import with_few_levels
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
    part = _checks.real("fraction", fraction, positive=True)
    if part >= 1.0:
        raise _checks.wrong("fraction", fraction, "between 0 and 1")
    final = stationary(problem, step_size, update=update)
    weights = update_weights(update)
    few = with_few_levels(problem, step_size * max(weights))
    bands = relaxing_bands(Levels(few, weights), step_size)
    if not all(np.isfinite(band.excess).all() for band in bands):
        return Estimate(np.nan, (np.nan, np.nan))
    target = part * final.alignment_mean
    odds = RelaxingOdds(*bands)
    return Estimate(odds.lowest(), odds.reaches(target / (1.0 - target)))
