"""Pictures of a trace: alignment and loss against step."""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import theory
from .step_size import KnownStepSize
from .trace import Trace

MAX_POINTS = 4000
#: Times at which the exact theory is drawn, and the largest number of levels it is drawn for.
EXACT_POINTS = 150
MAX_LEVELS = 20_000
#: Losses of a diverging run beyond this are not drawn.
DRAWABLE = 1e100
DOMINANT, BULK, TOTAL, EXACT = "tab:red", "tab:blue", "black", "tab:orange"


def plot_trace(trace: Trace, path: str | os.PathLike[str] | None = None) -> Any:
    """Plot alignment and losses against step, steps on a logarithmic axis.

    Parameters
    ----------
    trace : Trace
    path : path-like, optional
        Save the figure there; the ending chooses the format.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    rows = _logarithmic_rows(trace.step)
    rows = rows[trace.loss[rows] < DRAWABLE]
    step = trace.step[rows]
    figure = Figure(figsize=(7.5, 6.0), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)

    top.plot(step, trace.alignment[rows], color=TOTAL, lw=0.6, alpha=0.75, label="simulated")
    _plot_expected(top, trace)
    if np.isfinite(trace.alignment[rows]).any():
        lowest = int(np.nanargmin(trace.alignment))
        top.plot(
            max(trace.step[lowest], 1), trace.alignment[lowest], "o", color=DOMINANT, ms=4,
            label=f"minimum {trace.alignment[lowest]:.3g} at step {trace.step[lowest]:,}",
        )  # fmt: skip
    top.legend(loc="upper center", frameon=False)
    top.set_ylabel("alignment  $|P_{dom}\\,g|^2 / |g|^2$")
    top.set_ylim(-0.02, 1.02)
    spectrum = trace.run.problem.spectrum
    top.set_title(
        f"d = {spectrum.dim:,},  k = {spectrum.num_dominant:,},  "
        f"$\\lambda_k/\\lambda_{{k+1}}$ = {spectrum.gap_ratio:.3g}",
        fontsize=10,
    )

    bottom.plot(step, trace.loss[rows], color=TOTAL, lw=1.2, label="loss")
    bottom.plot(step, trace.loss_dominant[rows], color=DOMINANT, lw=0.8, label="dominant")
    bottom.plot(step, trace.loss_bulk[rows], color=BULK, lw=0.8, label="bulk")
    if (trace.loss[rows] > 0.0).any():
        bottom.set_yscale("log")
    bottom.set_ylabel("loss")
    bottom.set_xlabel("step")
    bottom.set_xscale("log")
    bottom.legend(loc="best", frameon=False)
    for axis in (top, bottom):
        axis.grid(alpha=0.25, lw=0.5)
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def _plot_expected(axis: Any, trace: Trace) -> None:
    """Add the exact mean and standard deviation, where the step sizes are known in advance."""
    run = trace.run
    if not isinstance(run.step_size, KnownStepSize) or len(trace) == 0:
        return
    if run.problem.spectrum.num_levels > MAX_LEVELS or trace.status == "diverged":
        return
    last = int(trace.step[-1])
    times = np.unique(np.geomspace(1, max(last, 1), EXACT_POINTS).astype(np.int64))
    exact = theory.expected(run.problem, run.step_size, times[times <= last], update=run.update)
    mean, std = exact.alignment_mean, exact.alignment_std
    axis.plot(exact.step, mean, color=EXACT, lw=1.5, label="exact mean and standard deviation")
    axis.fill_between(exact.step, mean - std, mean + std, color=EXACT, alpha=0.25, lw=0)


def _logarithmic_rows(step: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of at most MAX_POINTS rows after step 0, evenly spaced on a logarithmic axis."""
    later = np.flatnonzero(step > 0)
    if later.size == 0:
        return np.arange(step.size)
    if later.size <= MAX_POINTS:
        return later
    wanted = np.geomspace(step[later[0]], step[-1], MAX_POINTS)
    return np.unique(np.searchsorted(step, wanted).clip(later[0], later[-1]))
