"""The panels of a picture: alignment, losses, step size, and the mark at the end of a run."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import theory
from ..base.words import drawn
from ..model.step_size import KnownStepSize
from ..physics import rows
from ..traces.trace import Trace
from . import caption, curves
from .curves import Keys, draw, draw_average, extremes, is_crowded, scale, visible
from .headings import (
    BULK,
    CRITICAL,
    DOMINANT,
    EXACT,
    PALE,
    PALE_BULK,
    PALE_CRITICAL,
    PALE_DOMINANT,
    QUIET,
    SHADE,
    SIMULATED,
    TOTAL,
)

Array = NDArray[np.float64]

#: Times at which the exact theory is drawn, and the largest number of levels it is drawn for where
#: no few stand for them.
EXACT_POINTS = 150
MAX_LEVELS = 20_000
#: A diverging run is followed up to this multiple of its first loss.
FOLLOWED = 1e6
#: Room for the word at the end of a run that stopped, as a part of the axis.
ROOM_FOR_WORD = 0.06
#: Columns in which the share of self-correcting rows is shown, and how dark all of them are.
SHADES = 250
DARKEST = 0.5


def steps(panels: Any, trace: Trace) -> None:
    """Give all panels the axis of steps, and mark where a run that is not complete ends."""
    first, last = (int(trace.step[0]), int(trace.step[-1])) if len(trace) else (0, 1)
    stopped = trace.status != "complete" and len(trace) > 0
    for axes in panels:
        axes.grid(alpha=0.3, lw=0.5)
        if stopped:
            axes.axvline(last, color=QUIET, lw=1.0, ls=(0, (4, 2)), zorder=1)
    curves.set_up(panels[0], last, ROOM_FOR_WORD if stopped else curves.MARGIN, first)
    panels[-1].set_xlabel("step")
    if stopped:
        panels[0].annotate(
            drawn(trace.status), (last, 0.5), xycoords=panels[0].get_xaxis_transform(),
            xytext=(2, 0), textcoords="offset points", rotation=90, va="center", ha="left",
            color=QUIET, gid="end",
        )  # fmt: skip


def alignment(axes: Any, trace: Trace, *, logarithmic: bool) -> tuple[Keys, str]:
    """Draw simulated and exact alignment; return the keys and why there is no exact one."""
    axes.set_ylabel("alignment\n$|P_{dom}\\,g|^2\\,/\\,|g|^2$")
    exact, why_not = expected(trace)
    seen = extremes(trace.alignment) + ([] if exact is None else extremes(_center(exact)))
    floor = 0.0
    if logarithmic and seen:
        floor = min(0.1, min(seen) / 2.0)
        axes.set_yscale("log")
        axes.set_ylim(floor, 1.5)
    else:
        axes.set_ylim(-0.03, 1.03)
    crowded = is_crowded(trace.step)
    every = draw(axes, trace.step, trace.alignment, color=PALE if crowded else SIMULATED, lw=0.7)
    label = "measured" if trace.problem is None else "simulated"
    keys: Keys = [(line, label) for line in every]
    if exact is not None:
        keys += _exact(axes, exact, floor)
    if crowded:
        mean = draw_average(axes, trace.step, trace.alignment, color=SIMULATED, lw=1.0, zorder=2.3)
        keys[1:1] = [(line, "local mean") for line in mean]
    return keys + _minimum(axes, trace), why_not


def expected(trace: Trace) -> tuple[theory.Expected | None, str]:
    """Return the exact theory along the axis, or None and a word why it is not there."""
    if why_not := caption.why_no_exact(trace, MAX_LEVELS):
        return None, why_not
    run = trace.run
    assert isinstance(run.step_size, KnownStepSize)
    times = curves.spaced_steps(int(trace.step[-1]), EXACT_POINTS)
    with np.errstate(all="ignore"):
        exact = theory.expected(
            run.problem, run.step_size, times, update=run.update, optimizer=run.optimizer
        )
    if not np.isfinite(_center(exact)).any():
        return None, "no exact curve: not finite"
    return exact, ""


def _center(exact: theory.Expected) -> Any:
    """Exact mean of the alignment; where it has no closed form, the alignment of the means."""
    unknown = "alignment_mean" in exact.unknown
    return exact.alignment_of_means if unknown else exact.alignment_mean


def _exact(axes: Any, exact: theory.Expected, floor: float) -> Keys:
    mean, std = _center(exact), exact.alignment_std
    if "alignment_mean" in exact.unknown:
        line = axes.plot(exact.step, mean, color=EXACT, lw=1.8, zorder=2.2)[0]
        return [(line, "alignment of exact means")]
    low, high = (np.clip(mean + side * std, floor, 1.0) for side in (-1.0, 1.0))
    band = axes.fill_between(exact.step, low, high, color=EXACT, alpha=0.35, lw=0, zorder=2.1)
    line = axes.plot(exact.step, mean, color=EXACT, lw=1.8, zorder=2.2)[0]
    return [((band, line), "exact mean ± std")]


def _minimum(axes: Any, trace: Trace) -> Keys:
    """Mark the lowest alignment, which is a drawn point of the curve."""
    values = trace.alignment
    if np.isnan(values).all():
        return []
    row = int(np.nanargmin(values))
    if np.isnan(visible(values[row : row + 1], logarithmic=axes.get_yscale() == "log")[0]):
        return []
    mark = axes.plot(
        trace.step[row], values[row], "o", color=DOMINANT, mec="white", mew=0.6, ms=5, zorder=3
    )[0]
    return [(mark, f"minimum {values[row]:.3g} at step {trace.step[row]:,}")]


def losses(axes: Any, trace: Trace) -> tuple[Keys, str]:
    """Draw the loss, wide and pale, and its two parts on it: where they coincide both show."""
    axes.set_ylabel("loss")
    parts = (trace.loss_bulk, trace.loss_dominant)
    scale(axes, trace.loss, *parts)
    step = trace.step
    total = draw(axes, step, trace.loss, color=TOTAL, lw=4.5, solid_capstyle="butt")
    keys: Keys = [(line, "loss") for line in total]
    keys += _curve(axes, step, parts[0], "bulk part", BULK, PALE_BULK)
    keys += _curve(axes, step, parts[1], "dominant part", DOMINANT, PALE_DOMINANT)
    if trace.status == "diverged" and extremes(trace.loss[:1]):
        _follow(axes, *parts, top=FOLLOWED * float(trace.loss[0]))
    return keys, ""


def _follow(axes: Any, *columns: Array, top: float) -> None:
    """Let curves that grow beyond all bounds leave the panel at its `top`."""
    seen = [v for values in columns for v in extremes(values)]
    if axes.get_yscale() == "log" and max(seen) > top:
        axes.set_ylim(min(seen) / 2.0, top)


def step_sizes(axes: Any, trace: Trace) -> tuple[Keys, str]:
    """Draw step size and critical step size, and shade where there is no critical one."""
    axes.set_ylabel("step size")
    step, critical, size = trace.step, trace.critical_step_size, trace.step_size
    scale(axes, critical, size)
    keys = _curve(axes, step, critical, "critical $\\eta^*_t$", CRITICAL, PALE_CRITICAL, np.median)
    keys += _curve(axes, step, size, "step size $\\eta_t$", SIMULATED, PALE, np.median)
    if hasattr(trace, rows.ERROR.name):
        keys += _of_network(axes, trace)
    return keys + _self_correcting(axes, step, np.isposinf(critical)), ""


def _of_network(axes: Any, trace: Trace) -> Keys:
    """Draw the error of a critical step size that was measured, and where it means little."""
    step, critical = trace.step, trace.critical_step_size
    error, beyond = trace[rows.ERROR.name], trace[rows.BEYOND.name] == 1
    edge = 2.0 / trace[rows.TOP.name][:, 0]
    low = np.maximum(critical - error, 0.1 * critical)
    band = axes.fill_between(
        step, low, critical + error, color=CRITICAL, alpha=0.2, lw=0, zorder=1.9
    )
    line = axes.plot(step, edge, color=QUIET, lw=1.0, ls="--", zorder=1.8)[0]
    keys: Keys = [(band, "its standard error"), (line, "$2/\\lambda_1$")]
    if beyond.any():
        mark = axes.plot(step[beyond], critical[beyond], "x", color=CRITICAL, ms=9, mew=1.6)[0]
        keys.append((mark, "beyond the quadratic picture"))
    return keys


def _curve(
    axes: Any,
    step: NDArray[np.int64],
    values: Array,
    label: str,
    color: str,
    pale: str,
    average: Any = np.mean,
) -> Keys:
    """Draw every row of a curve, in a pale colour and with their average where they crowd."""
    if not is_crowded(step):
        return [(line, label) for line in draw(axes, step, values, color=color, lw=1.0)]
    every = draw(axes, step, values, color=pale, lw=0.7)
    mean = draw_average(axes, step, values, average, color=color, lw=1.2)
    return [((*every, *mean), label)] if every else []


def _self_correcting(axes: Any, step: NDArray[np.int64], there: NDArray[np.bool_]) -> Keys:
    """Shade the steps at which every step size lowers alignment, darker where more rows do."""
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Patch

    if not there.any():
        return []
    edges, share = _shares(curves.position(step), there)
    left, right = (curves.step_at(e[share > 0.0]) for e in (edges[:-1], edges[1:]))
    corners = [[(a, 0.0), (b, 0.0), (b, 1.0), (a, 1.0)] for a, b in zip(left, right, strict=True)]
    colors = [to_rgba(SHADE, DARKEST * part) for part in share[share > 0.0]]
    axes.add_collection(
        PolyCollection(
            corners, facecolors=colors, edgecolors="none", antialiased=False, zorder=0.5,
            transform=axes.get_xaxis_transform(),
        ),
        autolim=False,
    )  # fmt: skip
    key = Patch(facecolor=to_rgba(SHADE, DARKEST), edgecolor="none")
    return [(key, "self-correcting: no critical step size")]


def _shares(place: Array, there: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Return the edges of columns that hold rows, and the share of rows that are `there`.

    Columns meet half-way between the rows beside their common edge: none is empty.
    """
    column = np.floor((place - place[0]) / max(float(place[-1] - place[0]), 1.0) * SHADES)
    first = np.unique(column, return_index=True)[1]
    count = np.diff(np.append(first, place.size))
    share = np.add.reduceat(there.astype(np.float64), first) / count
    between = (place[first[1:]] + place[first[1:] - 1]) / 2.0
    return np.concatenate([place[:1], between, place[-1:]]), share
