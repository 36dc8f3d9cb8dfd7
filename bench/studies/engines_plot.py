"""Draw step, jump and levels runs and the exact mean of one problem on top of one another.

Also prints what quantizing a million distinct eigenvalues changes in the exact alignment.
"""

import argparse
import time

import numpy as np
from matplotlib.figure import Figure

import suspalign_fast as sa
from suspalign_fast.pictures import curves, headings

DIM, STEPS, STEP_SIZE = 5_000, 100_000, 3e-3
LEVELS = 256
#: Recorded steps in all, shared out among the engines.
ROWS = 240
#: Colour, marker and seed of every engine.
ENGINES = {
    "step": (headings.BULK, "o", 1),
    "jump": (headings.CRITICAL, "^", 2),
    "levels": (headings.SHADE, "s", 3),
}


def problem_of(dim):
    """Two linear bands; one in a hundred directions is dominant."""
    spectrum = sa.Spectrum.linear_bands(dim, dim // 100)
    return sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=10.0)


def rows_of(problem, step_size, steps):
    """Simulate with every engine and return its trace by name.

    Every engine records steps of its own between those of the others: no mark covers another.
    """
    quantized = sa.Quadratic(problem.spectrum.quantize(LEVELS), problem.noise, problem.initial)
    at = curves.spaced_steps(steps, ROWS)[1:]
    traces = {}
    for turn, (engine, (_, _, seed)) in enumerate(ENGINES.items()):
        started = time.perf_counter()
        traces[engine] = sa.simulate(
            quantized if engine == "levels" else problem,
            step_size,
            int(at[-1]),
            record_at=at[turn :: len(ENGINES)],
            engine=engine,
            seed=seed,
        )
        print(f"{engine:<7} {time.perf_counter() - started:7.2f} s, {len(traces[engine])} rows")
    return traces


def draw(path, dim=DIM, steps=STEPS, step_size=STEP_SIZE):
    """Plot alignment of every engine beside its exact mean, and how far it is from it."""
    problem = problem_of(dim)
    traces = rows_of(problem, step_size, steps)
    figure = Figure(figsize=(7.5, 6.4), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(1.6, 1))
    key = {"exact mean ± 3 stds": _exact(top, problem, step_size, steps)}
    for engine, trace in traces.items():
        color, marker, _ = ENGINES[engine]
        style = {"color": color, "marker": marker, "ls": "none", "ms": 5.0, "mec": "white"}
        style["mew"] = 0.5
        exact = sa.theory.expected(problem, step_size, trace.step)
        key[engine] = top.plot(trace.step, trace.alignment, **style)[0]
        score = (trace.alignment - exact.alignment_mean) / exact.alignment_std
        bottom.plot(trace.step, score, **style)
    for score in (-3.0, 0.0, 3.0):
        bottom.axhline(score, color=headings.EXACT, lw=1.2, ls="-" if score == 0.0 else "--")
    bottom.set_ylim(-5.0, 5.0)
    bottom.set_ylabel("distance from the\nexact mean in stds", fontsize=9.5)
    spectrum = problem.spectrum
    title = (
        f"d = {dim:,},  k = {spectrum.num_dominant:,},  "
        f"$\\lambda_k/\\lambda_{{k+1}}$ = {spectrum.gap_ratio:.3g},  isotropic noise 0.5,  "
        f"initial std 10,  step size {step_size:g},  seeds 1 to 3"
    )
    finish(figure, title, key, steps, columns=4)
    figure.savefig(path, dpi=150)


def finish(figure, title, key, steps, columns):
    """Give a picture of two panels, one above the other, its title, key and axis of steps."""
    top, bottom = figure.axes
    bottom.set_xlabel("step", fontsize=9.5)
    curves.set_up(bottom, steps)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    for axes in (top, bottom):
        axes.grid(alpha=0.3, lw=0.5)
        axes.tick_params(which="both", labelsize=8.5)
    top.legend(
        key.values(), key.keys(), loc="lower left", bbox_to_anchor=(0, 1), ncols=columns,
        frameon=False, fontsize=8.5, borderaxespad=0.1, handletextpad=0.5, columnspacing=1.4,
    )  # fmt: skip


def _exact(axes, problem, step_size, steps):
    """Draw exact mean and three standard deviations, inside what an alignment can be."""
    exact = sa.theory.expected(problem, step_size, curves.spaced_steps(steps, 300))
    mean, spread = exact.alignment_mean, 3.0 * exact.alignment_std
    low, high = np.maximum(mean - spread, mean.min() / 10.0), np.minimum(mean + spread, 1.0)
    band = axes.fill_between(exact.step, low, high, color=headings.EXACT, alpha=0.3, lw=0)
    line = axes.plot(exact.step, mean, color=headings.EXACT, lw=1.8)[0]
    axes.set_yscale("log")
    axes.set_ylabel("alignment", fontsize=9.5)
    return band, line


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
    parser.add_argument("--dim", type=int, default=DIM)
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    draw(options.output, options.dim, options.steps)
    quantization(STEP_SIZE)


if __name__ == "__main__":
    main()
