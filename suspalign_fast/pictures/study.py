"""Pictures of a study: heat maps over two axes, lines over one, curves along the steps."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base import checks
from ..base.words import drawn, printable
from . import headings, heat, points
from .grid_axis import value_text
from .headings import QUIET
from .load import load
from .study_view import STEP, View, row_of, view
from .trace import DOTS_PER_INCH, check_ending, check_size, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Width and height in inches: one panel, and small ones beside each other.
SIZE, SIZE_OF_MANY = (7.5, 5.0), (7.5, 6.5)
#: Panels, at most.
MOST_PANELS = 12


def plot_study(
    dataset: Any,
    path: str | os.PathLike[str] | None = None,
    *,
    variable: str = "alignment",
    at: int | None = None,
    select: Mapping[str, Any] | None = None,
    log: bool | None = None,
    size: tuple[float, float] | None = None,
) -> "Figure":
    """Plot a variable of a sweep: what it is, over the axes of the grid, or along the steps.

    Two axes of numbers make a heat map of the mean over seeds at one step, a third one small maps
    beside each other. One axis makes a line with standard errors, exact theory beside; a second
    one of few texts a line for each text. Without an axis the mean and the standard deviation over
    seeds are drawn along the steps. Axes of one value are no axes. Numbers that are spaced evenly
    on a logarithmic axis get one. Points at which no run has a value are grey, or hatched where
    runs diverged; the heading says how many.

    Parameters
    ----------
    dataset : xarray.Dataset
        What `sweep` returned, or its file opened with ``xarray.open_dataset``.
    path : path-like, optional
        Save the figure there; the ending chooses the format.
    variable : str
        A variable of the dataset with a dimension ``step``. Where there is only exact theory of
        it, its exact mean. Any other one without seeds is drawn as it is, under its own name.
    at : int, optional
        A recorded step; by default the last one.
    select : mapping, optional
        Values at which axes are held, as ``{"step_size": 1e-3}``; also ``seed``.
    log : bool, optional
        Whether values have a logarithmic scale; by default where they span two decades, as colours,
        or one, as lines, alignments as lines excepted.
    size : tuple of two float, optional
        Width and height in inches, from 3 x 2 to 50 x 50.

    Returns
    -------
    matplotlib.figure.Figure
        Not known to ``pyplot``: no display is needed, and there is nothing to close. Notebooks show
        it as an image.

    Raises
    ------
    ValueError
        If an argument is not as described, or more axes are left than a picture has.
    OSError
        If the picture cannot be written.

    Notes
    -----
    Words say what the dataset says of itself. A variable is exact theory where it has the name and
    the mark ``exact`` that the sweep gave it, and all its axes. Give what you compute from one a
    name of its own.

    Examples
    --------
    >>> import suspalign_fast as sa
    >>> def case(gap_ratio):
    ...     return sa.Quadratic(sa.Spectrum.two_level(1000, 10, gap_ratio, 1.0), initial=10.0)
    >>> axes = {"gap_ratio": [10.0, 30.0, 100.0], "step_size": [1e-4, 1e-3]}
    >>> study = sa.sweep(case, axes, 100, seeds=range(3), record_every=50, theory=True)
    >>> figure = sa.plot_study(study, "map.png")
    >>> figure = sa.plot_study(study, variable="loss", at=50, select={"step_size": 1e-3})
    """
    if STEP not in getattr(dataset, "dims", ()) or not hasattr(dataset, "data_vars"):
        raise checks.wrong("dataset", dataset, "the xarray.Dataset of a sweep")
    target = None if path is None else check_ending(path)
    if log is not None:
        checks.truth("log", log)
    if select is not None and not isinstance(select, Mapping):
        raise checks.wrong("select", select, "a mapping of axes to values")
    whole = view(dataset, variable, select or {})
    _check_axes(whole)
    if not whole.axes and at is not None:
        raise ValueError(
            f"at must not be given where a picture goes along the steps, got {checks.describe(at)}"
        )
    shown = whole.at(row_of(whole.steps, at)) if whole.axes else whole
    panels = shown.axes[_panel_axis(shown)].values.size if len(shown.axes) == 3 else 1
    usual = SIZE_OF_MANY if panels > 1 else SIZE
    width, height = usual if size is None else check_size(size)
    sizes = headings.Sizes.scaled(min(width / usual[0], height / usual[1]))
    with load().settings():
        figure = _drawn(shown, (width, height), sizes, log, str(dataset.attrs.get("status", "")))
    if target is not None:
        save(figure, target)
    return figure


def _check_axes(shown: View) -> None:
    """Raise ValueError where more axes are left than can be drawn."""
    count = len(shown.axes)
    if count < 3 or (count == 3 and shown.axes[_panel_axis(shown)].values.size <= MOST_PANELS):
        return
    left = ", ".join(f"{printable(axis.name)} ({axis.values.size} values)" for axis in shown.axes)
    raise ValueError(
        f"select must hold axes at a value until two are left, or three of which one has at most "
        f"{MOST_PANELS} values, got {left}"
    )


def _panel_axis(shown: View) -> int:
    """Return the axis of which every value has a panel: texts first, then the shortest."""
    lengths = [(axis.is_numeric, axis.values.size) for axis in shown.axes]
    return lengths.index(min(lengths))


def _text_axis(shown: View) -> int | None:
    """Return the one of two axes whose texts are lines."""
    if len(shown.axes) != 2 or shown.axes[0].is_numeric == shown.axes[1].is_numeric:
        return None
    texts = 0 if shown.axes[1].is_numeric else 1
    return texts if shown.axes[texts].values.size <= len(points.SERIES) else None


def _drawn(
    shown: View, inches: tuple[float, float], sizes: headings.Sizes, log: Any, state: str
) -> "Figure":
    figure: Figure = load().Picture(inches, DOTS_PER_INCH)
    words = _words(shown, state)
    if len(shown.axes) == 3 or (len(shown.axes) == 2 and _text_axis(shown) is None):
        panels = _maps(figure, shown, sizes, log)
        words += heat.words(shown)
        keys = []
    else:
        axes = figure.subplots()
        panels = [axes]
        axes.grid(alpha=0.3, lw=0.5)
        axes.set_ylabel(_label(shown))
        texts = _text_axis(shown)
        if texts is not None:
            keys = [(axes, points.over_axis_by_text(axes, shown, log, texts), "")]
        elif shown.axes:
            keys = [(axes, points.over_axis(axes, shown, log), "")]
        else:
            keys = [(axes, points.along_steps(axes, shown, log), "")]
    sizes.apply(panels)
    headings.heading(figure, _title(shown), words, sizes)
    headings.keys(figure, keys, sizes)
    return figure


def _maps(figure: "Figure", shown: View, sizes: headings.Sizes, log: bool | None) -> list[Any]:
    """Draw a heat map, or one for each value of the shortest of three axes."""
    norm = heat.norm_of(shown.mean[..., 0], log)
    if len(shown.axes) == 2:
        panels, views, titles = [figure.subplots()], [shown], [""]
    else:
        at = _panel_axis(shown)
        axis = shown.axes[at]
        count = axis.values.size
        columns = int(np.ceil(np.sqrt(count)))
        grid = figure.subplots(
            -(-count // columns), columns, sharex=True, sharey=True, squeeze=False
        )
        panels = list(grid.ravel()[:count])
        for spare in grid.ravel()[count:]:
            spare.remove()
        views = [shown.along(at, index) for index in range(count)]
        titles = [f"{axis.label} = {axis.text(index)}" for index in range(count)]
    for axes, part, title in zip(panels, views, titles, strict=True):
        mesh = heat.draw(axes, part, norm)
        axes.set_title(title, fontsize=sizes.small, color=QUIET, loc="left")
    columns = len(panels) if len(panels) < 2 else columns
    for place, axes in enumerate(panels):
        label_of_x = axes.get_xlabel()
        axes.label_outer()
        if place + columns >= len(panels):  # nothing below it
            axes.set_xlabel(label_of_x)
            axes.tick_params(axis="x", labelbottom=True)
    bar = figure.colorbar(mesh, ax=panels, pad=0.02, aspect=30)
    bar.set_label(_label(shown), fontsize=sizes.text)
    return [*panels, bar.ax]


def _label(shown: View) -> str:
    """Return what the values are, with their unit."""
    unit = "" if shown.unit in ("1", "loss", "varies") else f" [{drawn(shown.unit)}]"
    return f"{shown.label}{unit}"


def _title(shown: View) -> list[str]:
    name, count = shown.label, shown.seeds.size
    if count == 0:
        what = shown.title
    elif count == 1:
        what = f"{name}, seed {value_text(shown.seeds[0])}"
    else:
        fewer = "up to " if (shown.count < count).any() else ""
        what = f"mean of {name} over {fewer}{count:,} seeds"
    where = f"step {int(shown.steps[0]):,}" if shown.axes else f"{int(shown.steps[-1]):,} steps"
    return [what, where]


def _words(shown: View, state: str) -> list[str]:
    """Return what is held, how big the grid is, and how its runs and the sweep ended."""
    held = [
        f"{drawn(name.replace('_', ' '))} = {value_text(value)}"
        for name, value in shown.fixed.items()
        if name != "seed"
    ]
    sides = [f"{axis.label} ({axis.values.size:,})" for axis in shown.axes]
    ended = [] if state in ("", "complete") else [f"sweep {drawn(state)}"]
    grid = f"grid: {' x '.join(sides)}" if len(sides) > 1 else ""
    return [*held, *([grid] if grid else []), *shown.ends(), *ended]
