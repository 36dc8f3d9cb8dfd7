"""Where alignment has two phases: exact theory over gap ratio and step size, at d = 10^6.

Prints how long the sweep takes and draws ``docs/phase-diagram.png``.
"""

import argparse
import functools
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from matplotlib.figure import Figure

import suspalign_fast as sa

DIM, STEPS, TIMES, INITIAL = 10**6, 10**6, 60, 0.02


@functools.lru_cache(maxsize=4)
def bands(gap_ratio):
    """Return two bands, a gap apart, in a few hundred levels."""
    bulk = (80.0 / gap_ratio, 20.0 / gap_ratio)
    return sa.Spectrum.linear_bands(DIM, 1000, (100.0, 80.0), bulk, tolerance=1e-12)


def case(gap_ratio, step_size):
    """Return the problem of a point; points of one gap share the spectrum."""
    return sa.Quadratic(bands(gap_ratio), sa.IsotropicNoise(0.5), initial=INITIAL)


def diagram(size=64, executor=None):
    """Return exact means on a grid of so many points a side."""
    axes = {
        "gap_ratio": np.geomspace(1.05, 1000.0, size).tolist(),
        "step_size": np.geomspace(1e-4, 1.9e-2, size).tolist(),
    }
    at = np.unique(np.geomspace(1, STEPS, TIMES).round().astype(int))
    return sa.sweep(case, axes, STEPS, seeds=(), theory=True, record_at=at, executor=executor)


def depths(study):
    """Return the lowest alignment over the lower of start and plateau, and where two phases are."""
    alignment = study.exact_alignment_mean
    plateau = alignment.isel(step=-1)
    depth = alignment.min("step") / np.minimum(alignment.isel(step=0), plateau)
    return depth, depth < 0.9


def draw(path, size=64):
    """Draw the depth of the minimum and the border of the two-phase region."""
    spawn = multiprocessing.get_context("spawn")
    started = time.perf_counter()
    with ProcessPoolExecutor(mp_context=spawn) as pool:
        study = diagram(size, pool)
    took = time.perf_counter() - started
    print(f"{size} x {size} points, {study.sizes['step']} times: {took:.1f} s")
    depth, both = depths(study)
    print(f"two phases at {float(both.mean()):.1%} of the points")
    figure = Figure(figsize=(7.5, 5.0), layout="constrained")
    axes = figure.subplots()
    logs = np.log10(np.maximum(depth.T, 1e-6))
    shown = axes.pcolormesh(study.gap_ratio, study.step_size * 100.0, logs, cmap="cividis")
    axes.contour(
        study.gap_ratio, study.step_size * 100.0, depth.T, levels=[0.9], colors="w", linewidths=1.4
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("gap ratio", fontsize=9.5)
    axes.set_ylabel("step size x largest eigenvalue", fontsize=9.5)
    axes.tick_params(labelsize=8.5)
    bar = figure.colorbar(shown)
    bar.set_label("log10 of the lowest alignment over start or plateau", fontsize=9.5)
    axes.set_title(
        f"d = {DIM:,}, k = 1,000, isotropic noise 0.5, initial std {INITIAL}, {STEPS:,} steps; "
        "white: 0.9", fontsize=9.5,
    )  # fmt: skip
    figure.savefig(path, dpi=150)


def main():
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--picture", default="phase-diagram.png")
    options = parser.parse_args()
    draw(options.picture, options.size)


if __name__ == "__main__":
    main()
