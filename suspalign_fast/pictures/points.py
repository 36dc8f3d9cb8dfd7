"""Lines of a study: means over one axis with standard errors, or over seeds along the steps."""

from typing import Any

import numpy as np

from . import curves
from .curves import HUGE, Keys, draw, scale, visible
from .grid_axis import value_text
from .headings import BULK, CRITICAL, DOMINANT, EXACT, PALE, QUIET, SHADE, SIMULATED
from .heat import GROUND, HATCHES
from .study_view import NO_VALUE, View

#: Colours of several lines, in this order.
SERIES = (SIMULATED, DOMINANT, BULK, CRITICAL, SHADE, EXACT)


def set_scale(axes: Any, view: View, log: bool | None, *columns: Any) -> None:
    """Give the values' axis the scale that is asked for; shares of one are linear by themselves."""
    is_share = view.variable == "alignment"
    if log or (log is None and not is_share):
        scale(axes, *columns)
        if log and axes.get_yscale() != "log" and any((c > 0.0).any() for c in columns):
            axes.set_yscale("log")
    if is_share and axes.get_yscale() != "log":
        axes.set_ylim(-0.03, 1.03)


def over_axis(axes: Any, view: View, log: bool | None) -> Keys:
    """Draw a view of one axis at one step; return its key."""
    (along,) = view.axes
    along.set_up(axes, "x")
    mean, exact = view.mean[..., 0], view.exact
    set_scale(axes, view, log, mean, *([] if exact is None else [exact[..., 0]]))
    keys: Keys = []
    if view.seeds.size > 1:
        keys += _seeds(axes, view)
    if exact is not None:
        keys += _exact(axes, along.places, exact[..., 0], _row(view.exact_std))
    if view.has_values:
        label = "mean ± standard error" if view.seeds.size else view.title
        keys += _means(axes, view, SIMULATED, label)
    keys += _missing(axes, view)
    if along.is_numeric:
        axes.set_xlim(along.edges[0], along.edges[-1])
    else:
        axes.set_xlim(-0.5, along.values.size - 0.5)
    return keys


def _missing(axes: Any, view: View) -> Keys:
    """Shade where no run has a value, as heat maps do."""
    (along,) = view.axes
    reasons, keys = view.reason, []
    for reason, hatch in HATCHES.items():
        for at in np.flatnonzero(reasons == reason):
            span = axes.axvspan(
                along.edges[at], along.edges[at + 1], fc=GROUND, ec=QUIET, lw=0.0, hatch=hatch,
                zorder=0.5,
            )  # fmt: skip
        if (reasons == reason).any():
            keys.append((span, reason if reason == NO_VALUE else f"{NO_VALUE}: {reason}"))
    return keys


def over_axis_by_text(axes: Any, view: View, log: bool | None, texts: int) -> Keys:
    """Draw a line for each text of one of two axes, exact means dashed; return their key."""
    others = view.axes[texts]
    along = view.axes[1 - texts]
    along.set_up(axes, "x")
    set_scale(axes, view, log, view.mean[..., 0])
    keys: Keys = []
    for index in range(others.values.size):
        one = view.along(texts, index)
        keys += _means(axes, one, SERIES[index], others.text(index))
        if one.exact is not None and view.has_values:
            axes.plot(along.places, one.exact[..., 0], color=SERIES[index], lw=1.0, ls=(0, (3, 2)))
    if view.exact is not None and view.has_values:
        dashes = axes.plot([], [], color=QUIET, lw=1.0, ls=(0, (3, 2)))[0]
        keys.append((dashes, "exact mean"))
    axes.set_xlim(along.edges[0], along.edges[-1])
    return keys


def _row(values: Any) -> Any:
    return None if values is None else values[..., 0]


def _seeds(axes: Any, view: View) -> Keys:
    """Draw every seed as a pale point."""
    values = visible(view.values[..., 0], logarithmic=axes.get_yscale() == "log")
    places = np.repeat(view.axes[0].places[:, None], values.shape[1], 1)
    if np.isnan(values).all():
        return []
    every = axes.plot(places.ravel(), values.ravel(), "o", color=PALE, ms=2.5, mew=0.0, zorder=1.9)
    return [(every[0], "one seed")]


def _means(axes: Any, view: View, color: str, label: str) -> Keys:
    mean, error = view.mean[..., 0], view.stderr[..., 0] if view.seeds.size else None
    shown = visible(mean, logarithmic=axes.get_yscale() == "log")
    if np.isnan(shown).all():
        return []
    if error is not None:
        error = np.where(np.isfinite(error), np.minimum(error, HUGE), 0.0)
        if view.count.max() < 2:
            label = label.replace("mean ± standard error", "one seed")
    drawn = axes.errorbar(
        view.axes[0].places, shown, error, fmt="o-", color=color, ms=4.0, lw=1.0, capsize=2.5,
        zorder=3,
    )  # fmt: skip
    return [(drawn, label)]


def _exact(axes: Any, places: Any, mean: Any, std: Any) -> Keys:
    mean = visible(mean, logarithmic=axes.get_yscale() == "log")
    if np.isnan(mean).all():
        return []
    keys: Any = ()
    if std is not None and np.isfinite(std).any():
        band = _band(axes, places, mean, std, color=EXACT, alpha=0.35, zorder=2.1)
        keys = (band,)
    marked = {"marker": "s", "ms": 3.5} if places.size < 3 else {}
    line = axes.plot(places, mean, color=EXACT, lw=1.8, zorder=2.2, **marked)[0]
    return [((*keys, line), "exact mean ± std of a run" if keys else "exact mean")]


def _band(axes: Any, places: Any, mean: Any, std: Any, **style: Any) -> Any:
    """Fill what lies within a deviation of a mean, on a logarithmic axis not far below it."""
    logarithmic = axes.get_yscale() == "log"
    mean, std = visible(mean, logarithmic=logarithmic), np.minimum(std, HUGE)
    low = np.maximum(mean - std, mean / 10.0) if logarithmic else mean - std
    high = np.minimum(mean + std, HUGE)
    return axes.fill_between(places, low, high, lw=0, **style)


def along_steps(axes: Any, view: View, log: bool | None) -> Keys:
    """Draw a view without axes along its steps; return its key."""
    steps, mean = view.steps, view.mean
    set_scale(axes, view, log, mean, *([] if view.exact is None else [view.exact]))
    keys: Keys = []
    if view.exact is not None:
        keys += _exact(axes, steps, view.exact, view.exact_std)
    if view.has_values:
        line = draw(axes, steps, mean, color=SIMULATED, lw=1.0, zorder=3)
        parts: Any = tuple(line)
        std = view.std
        if np.isfinite(std).any() and line:
            band = _band(axes, steps, mean, std, color=PALE, alpha=0.6, zorder=2)
            parts = (band, *line)
        label = "mean ± std over seeds" if len(parts) > 1 else _one(view)
        keys += [(parts, label)] if line else []
    curves.set_up(axes, int(steps[-1]), first=int(steps[0]))
    axes.set_xlabel("step")
    return keys


def _one(view: View) -> str:
    if not view.seeds.size:
        return view.title
    return f"seed {value_text(view.seeds[0])}" if view.seeds.size == 1 else "mean over seeds"
