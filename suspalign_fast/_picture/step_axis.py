"""A logarithmic axis of steps on which step 0 has a place."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Steps 0 and 1 lie this many decades apart.
FIRST_STEP = 0.5
#: Room left and right of the steps, as a part of their range.
MARGIN = 0.015
#: First steps beyond this part of the axis begin it.
LATE = 0.5
#: Decades with a label, at most.
MOST_LABELS = 9
#: Steps up to this one are written out, later ones as powers of ten.
WRITTEN_OUT = 1000


def position(step: Any) -> NDArray[np.float64]:
    """Return where steps lie on the axis, in decades; linear up to step 1."""
    values = np.asarray(step, dtype=np.float64)
    return np.where(
        values < 1.0, FIRST_STEP * values, FIRST_STEP + np.log10(np.maximum(values, 1.0))
    )


def step_at(place: Any) -> NDArray[np.float64]:
    """Return the steps at places on the axis: the inverse of `position`."""
    places = np.asarray(place, dtype=np.float64)
    later = np.minimum(np.maximum(places - FIRST_STEP, 0.0), 300.0)
    return np.where(places < FIRST_STEP, places / FIRST_STEP, 10.0**later)


def spaced_steps(last: int, count: int) -> NDArray[np.int64]:
    """Return 0, `last` and about `count` steps between them, evenly spaced on the axis."""
    places = np.linspace(0.0, float(position(last)), count)
    steps = np.rint(step_at(places)).astype(np.int64)
    return np.unique(np.concatenate([[0], steps.clip(0, last), [last]]))


def ticks(last: int) -> tuple[list[int], list[int]]:
    """Return the labelled and the other ticks of an axis from step 0 to `last`."""
    decades = len(str(last))
    apart = -(-decades // MOST_LABELS)
    major = [0] + [10**n for n in range(0, decades, apart)]
    between = range(2, 10) if apart == 1 else (10,)
    minor = [m * 10**n for n in range(decades) for m in between]
    return major, [step for step in minor if step <= last and step not in major]


def label(step: float) -> str:
    """Return the text at a labelled tick."""
    if step <= WRITTEN_OUT:
        return f"{step:,.0f}"
    return f"$10^{{{round(np.log10(step))}}}$"


def set_up(axes: Any, last: int, room: float = MARGIN, first: int = 0) -> None:
    """Turn the x-axis of `axes` into one of the steps up to `last`, with `room` at its end.

    It begins at step 0, and at the `first` step where that comes so late that the rows would lie in
    the right half. Where these do not span a decade the axis is linear.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

    is_late = last > first > 0 and position(first) > LATE * position(last)
    if is_late and last < 10 * first:
        span = last - first
        axes.set_xlim(first - MARGIN * span, last + room * span)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        return
    axes.set_xscale("function", functions=(position, step_at))
    start = float(position(first)) if is_late else 0.0
    length = float(position(max(last, 1))) - start
    axes.set_xlim(*step_at([start - MARGIN * length, start + (1.0 + room) * length]).tolist())
    major, minor = ticks(max(last, 1))
    axes.xaxis.set_major_locator(FixedLocator(major))
    axes.xaxis.set_minor_locator(FixedLocator(minor))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: label(step)))
