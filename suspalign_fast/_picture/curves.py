"""One curve against step: every row, and where rows crowd, what they are on average."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import step_axis
from .decimate import columns_of, drawn_rows

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
    rows = drawn_rows(step_axis.position(step), shown, COLUMNS)
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
    place = step_axis.position(step)
    groups = np.split(np.arange(step.size), columns_of(place, WIDE_COLUMNS)[1:])
    groups = [rows[~np.isnan(values[rows])] for rows in groups]
    groups = [rows for rows in groups if rows.size]
    where = np.array([place[rows].mean() for rows in groups])
    averages = np.array([_typical(values[rows], average) for rows in groups])
    shown = visible(averages, logarithmic=axes.get_yscale() == "log")
    if np.isnan(shown).all():
        return []
    return list(axes.plot(step_axis.step_at(where), shown, **style))


def _typical(values: Array, average: Callable[[Array], Any]) -> float:
    """Return the average of noisy values, but the middle one of those that only rise or fall.

    A mean lies far above the middle of a steep curve on a logarithmic axis.
    """
    rises = values[1:] >= values[:-1]
    if rises.all() or not rises.any():
        return float(values[values.size // 2])
    with np.errstate(over="ignore"):
        return float(average(values))
