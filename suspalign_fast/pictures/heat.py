"""Heat maps of a study: means over seeds in cells, and what is not there."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .curves import HUGE, TINY
from .headings import QUIET
from .study_view import MISSING, NO_VALUE, REASONS, View

Array = NDArray[np.float64]
#: Of light and dark: read alike by people of any colour vision, and in grey.
COLORS = "cividis"
#: Means that span this factor have a logarithmic scale.
DECADES = 100.0
#: How cells without any value look: a grey ground, and a pattern for each reason.
GROUND = "0.88"
HATCHES = {**dict(zip(REASONS.values(), ("////", "xxxx"), strict=True)), MISSING: "", NO_VALUE: ""}
PATTERNS = {"////": "hatched", "xxxx": "crossed", "": "plain grey"}


def norm_of(mean: Array, log: bool | None) -> Any:
    """Return the scale of the colours: logarithmic if asked for, or if the means span decades."""
    from matplotlib.colors import LogNorm, Normalize

    shown = np.clip(mean[np.isfinite(mean)], -HUGE, HUGE)
    if log is not False and shown.size and shown.max() > 0.0:
        positive = np.maximum(shown[shown > 0.0], TINY)
        low, high = float(positive.min()), float(positive.max())
        wide = positive.size == shown.size and high > DECADES * low
        if wide or log:
            return LogNorm(low, high if high > low else 10.0 * low)
    if not shown.size:
        return Normalize(0.0, 1.0)
    low, high = float(shown.min()), float(shown.max())
    return Normalize(low, high if high > low else low + max(abs(low), 1.0) * 1e-6)


def draw(axes: Any, view: View, norm: Any) -> Any:
    """Draw a view of two axes at one step; return what a bar of colours explains."""
    along, up = view.axes
    mean = np.where(np.isfinite(view.mean[..., 0].T), view.mean[..., 0].T, np.nan)
    axes.set_facecolor(GROUND)
    along.set_up(axes, "x")
    up.set_up(axes, "y")
    shown = axes.pcolormesh(
        along.edges,
        up.edges,
        np.ma.masked_invalid(np.clip(mean, -HUGE, HUGE)),
        cmap=COLORS,
        norm=norm,
    )
    for reason, hatch in HATCHES.items():
        if hatch:
            _hatch(axes, view, view.reason == reason, hatch)
    some = np.argwhere(view.is_partial) if view.seeds.size else np.empty((0, 2), dtype=int)
    if some.size:
        axes.plot(
            along.places[some[:, 0]], up.places[some[:, 1]], "o", ms=3.5, mfc="w", mec="k", mew=0.4
        )
    axes.set_xlim(along.edges[0], along.edges[-1])
    axes.set_ylim(up.edges[0], up.edges[-1])
    return shown


def _hatch(axes: Any, view: View, there: NDArray[np.bool_], hatch: str) -> None:
    """Hatch cells; one polygon for all of a row that lie side by side."""
    from matplotlib.collections import PolyCollection

    x, y = (axis.edges for axis in view.axes)
    corners = []
    for row in range(there.shape[1]):
        padded = np.concatenate([[False], there[:, row], [False]]).astype(int)
        starts, ends = (np.flatnonzero(np.diff(padded) == side) for side in (1, -1))
        corners += [
            [(x[a], y[row]), (x[b], y[row]), (x[b], y[row + 1]), (x[a], y[row + 1])]
            for a, b in zip(starts, ends, strict=True)
        ]
    if corners:
        axes.add_collection(
            PolyCollection(corners, facecolors="none", edgecolors=QUIET, lw=0.0, hatch=hatch),
            autolim=False,
        )


def words(view: View) -> list[str]:
    """Say what cells without a value, or with some, look like."""
    reasons = view.reason
    said = []
    for reason, hatch in HATCHES.items():
        if count := int((reasons == reason).sum()):
            cells = "cell" if count == 1 else "cells"
            said.append(f"{PATTERNS[hatch]}: {reason} ({count:,} {cells})")
    if view.seeds.size and view.is_partial.any():
        said.append("dots: some seeds have no value, mean of the others")
    return said
