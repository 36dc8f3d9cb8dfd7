"""One curve against step: every row, and where rows crowd, what they are on average."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

# --- Fewer points for a curve, chosen so that its picture stays the same -------------------------


Rows = NDArray[np.intp]


def columns_of(place: NDArray[np.float64], columns: int) -> Rows:
    """Return the first row in every column of equal width that holds any; `place` ascends."""
    edges = np.linspace(place[0], place[-1], columns + 1)[1:-1]
    first = np.unique(np.concatenate([[0], np.searchsorted(place, edges)]))
    return first[first < place.size]


def drawn_rows(place: NDArray[np.float64], values: NDArray[np.float64], columns: int) -> Rows:
    """Return the rows, at most four a column, that draw a curve like all of its rows do.

    Of the rows in a column as narrow as a pixel the first, the last, the lowest and the highest
    paint what all of them paint: no extreme is lost, and none appears that is not there. Every n-th
    row instead would hide most of the spread of a noisy curve.
    """
    first = columns_of(place, columns)
    last = np.append(first[1:], place.size) - 1
    missing = np.isnan(values)
    lowest = _first_match(np.where(missing, np.inf, values), first, last, np.minimum)
    highest = _first_match(np.where(missing, -np.inf, values), first, last, np.maximum)
    return np.unique(np.concatenate([first, last, lowest, highest]))


def _first_match(values: NDArray[np.float64], first: Rows, last: Rows, extreme: Any) -> Rows:
    """Return the first row of every column that holds the column's extreme value."""
    found = extreme.reduceat(values, first)
    rows = np.flatnonzero(values == np.repeat(found, last - first + 1))
    return rows[np.searchsorted(rows, first)]


# --- A logarithmic axis of steps on which step 0 has a place -------------------------------------


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


Array = NDArray[np.float64]
#: What a key shows: an artist, or some on top of one another, and its label.
Keys = list[tuple[Any, str]]

#: Columns of the axis of which every curve keeps at most four rows.
COLUMNS = 1000
#: Columns in which rows are averaged.
WIDE_COLUMNS = 100
#: Curves of fewer points have their points marked.
FEW_POINTS = 40
#: Smaller values have no place on a logarithmic axis, and larger ones lie at its end: Matplotlib
#: places ticks far beyond both.
TINY, HUGE = 1e-200, 1e150


def visible(values: Array, *, logarithmic: bool) -> Array:
    """Return values as they are drawn, NaN where they have no place on the axis."""
    missing = ~np.isfinite(values)
    if logarithmic:
        missing |= values <= TINY
    return np.where(missing, np.nan, np.minimum(values, HUGE))


def scale(axes: Any, *columns: Array) -> None:
    """Make the values' axis logarithmic if they span a decade, and write its numbers plainly."""
    positive = [v for values in columns for v in extremes(values)]
    if positive and max(positive) >= 10.0 * min(positive):
        axes.set_yscale("log")
    else:
        axes.yaxis.set_major_formatter("{x:g}")


def extremes(values: Array) -> list[float]:
    """Return the lowest and the highest value with a place on a logarithmic axis, if any has."""
    shown = values[np.isfinite(values) & (values > TINY)]
    return [float(shown.min()), min(float(shown.max()), HUGE)] if shown.size else []


def is_crowded(step: NDArray[np.int64]) -> bool:
    """Whether there are more rows than can be told apart in a picture."""
    return step.size > COLUMNS


def draw(axes: Any, step: NDArray[np.int64], values: Array, **style: Any) -> list[Any]:
    """Draw every row of a curve; return the line in a list, which is empty if none is visible."""
    shown = visible(values, logarithmic=axes.get_yscale() == "log")
    if np.isnan(shown).all():
        return []
    rows = drawn_rows(position(step), shown, COLUMNS)
    if np.isfinite(shown).sum() < FEW_POINTS:
        style |= {"marker": "o", "ms": 2.5 + style["lw"]}
    return list(axes.plot(step[rows], shown[rows], **style))


def draw_average(
    axes: Any,
    step: NDArray[np.int64],
    values: Array,
    average: Callable[[Array], Any] = np.mean,
    **style: Any,
) -> list[Any]:
    """Draw the average of rows near one another, as `draw` does every row."""
    place = position(step)
    groups = np.split(np.arange(step.size), columns_of(place, WIDE_COLUMNS)[1:])
    groups = [rows[~np.isnan(values[rows])] for rows in groups]
    groups = [rows for rows in groups if rows.size]
    where = np.array([place[rows].mean() for rows in groups])
    averages = np.array([_typical(values[rows], average) for rows in groups])
    shown = visible(averages, logarithmic=axes.get_yscale() == "log")
    if np.isnan(shown).all():
        return []
    return list(axes.plot(step_at(where), shown, **style))


def _typical(values: Array, average: Callable[[Array], Any]) -> float:
    """Return the average of noisy values, but the middle one of those that only rise or fall.

    A mean lies far above the middle of a steep curve on a logarithmic axis.
    """
    rises = values[1:] >= values[:-1]
    if rises.all() or not rises.any():
        return float(values[values.size // 2])
    with np.errstate(over="ignore"):
        return float(average(values))
