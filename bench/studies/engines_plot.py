"""Draw step, jump and levels runs and the exact mean of one problem on top of one another.

Also prints what quantizing a million distinct eigenvalues changes in the exact alignment.
"""

import argparse
import time

import numpy as np
from matplotlib.figure import Figure

import suspalign_fast as sa

COLORS = {"step": "tab:blue", "jump": "tab:green", "levels": "tab:purple"}


def problem_of(dim):
    """Two linear bands; one in a hundred directions is dominant."""
    spectrum = sa.Spectrum.linear_bands(dim, dim // 100)
    return sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=10.0)


def draw(path, dim, steps, step_size):
    """Simulate with every engine and plot alignment against step."""
    problem = problem_of(dim)
    quantized = sa.Quadratic(problem.spectrum.quantize(256), problem.noise, problem.initial)
    at = np.unique(np.geomspace(1, steps, 400).round().astype(int))
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axis = figure.subplots()
    for engine, color in COLORS.items():
        started = time.perf_counter()
        chosen = quantized if engine == "levels" else problem
        trace = sa.simulate(chosen, step_size, steps, record_at=at, engine=engine, seed=1)
        print(f"{engine:<7} {time.perf_counter() - started:7.2f} s, {len(trace)} rows")
        axis.plot(trace.step[1:], trace.alignment[1:], ".", ms=3, color=color, label=engine)
    exact = sa.theory.expected(quantized, step_size, at)
    mean, std = exact.alignment_mean, exact.alignment_std
    axis.plot(at, mean, color="tab:orange", lw=1.2, label="exact mean and 3 standard deviations")
    axis.fill_between(at, mean - 3 * std, mean + 3 * std, color="tab:orange", alpha=0.3, lw=0)
    axis.set(xscale="log", yscale="log", xlabel="step", ylabel="alignment")
    axis.set_title(f"d = {dim:,},  k = {dim // 100:,}", fontsize=10)
    axis.grid(alpha=0.25, lw=0.5)
    axis.legend(loc="lower right", frameon=False)
    figure.savefig(path, dpi=150)


def quantization(step_size):
    """Print the largest change of the exact alignment for several numbers of levels."""
    spectrum = sa.Spectrum.linear_bands(10**6, 1000)
    noise = sa.IsotropicNoise(0.5)
    times = np.unique(np.geomspace(1, 30_000, 60).round().astype(int))
    full = sa.theory.expected(sa.Quadratic(spectrum, noise, 10.0), step_size, times)
    print("levels  largest eigenvalue error  largest change of the exact alignment")
    for levels in (64, 256, 1024, 4096):
        coarse = spectrum.quantize(levels)
        exact = sa.theory.expected(sa.Quadratic(coarse, noise, 10.0), step_size, times)
        change = np.abs(exact.alignment_mean - full.alignment_mean).max()
        print(f"{coarse.num_levels:6}  {coarse.quantization_error:24.2e}  {change:.2e}")


def main():
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="docs/engines.png")
    parser.add_argument("--dim", type=int, default=5_000)
    parser.add_argument("--steps", type=int, default=100_000)
    options = parser.parse_args()
    draw(options.output, options.dim, options.steps, 3e-3)
    quantization(3e-3)


if __name__ == "__main__":
    main()
