"""Draw runs of a million eigenvalues under a rule on hundreds of runs of their compressed levels.

Step sizes that a rule chooses are random, so that there is no exact band: the exact mean drawn is
that of the mean step sizes.
"""

import time

import numpy as np
from matplotlib.figure import Figure

import suspalign_fast as sa
from suspalign_fast.pictures import curves, headings

from .engines_plot import finish

DIM, STEPS = 10**6, 4_000
RULE = sa.CriticalStep(0.7)
SEEDS, MANY_SEEDS = range(1, 5), range(100, 500)


def runs(dim, steps):
    """Return the problem, runs of all directions, and many of the compressed levels."""
    spectrum = sa.Spectrum.linear_bands(dim, dim // 1000, (100.0, 80.0), (0.8, 0.01))
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=10.0)
    started = time.perf_counter()
    paths = [sa.simulate(problem, RULE, steps, seed=seed) for seed in SEEDS]
    print(f"{len(paths)} runs of {dim:,} directions: {time.perf_counter() - started:.2f} s")
    started = time.perf_counter()
    few = sa.Quadratic(spectrum.compress(), problem.noise, problem.initial)
    levels = sa.simulate_ensemble(few, RULE, steps, seeds=MANY_SEEDS, engine="levels")
    took = time.perf_counter() - started
    print(f"compress and {len(levels)} runs of {few.spectrum.num_levels} levels: {took:.2f} s")
    return problem, paths, levels


def draw(path, dim=DIM, steps=STEPS):
    """Plot alignment of all and the exact mean, and how far each is from the mean of the levels."""
    problem, paths, levels = runs(dim, steps)
    at = curves.spaced_steps(steps, 300)[1:]
    few = at[::4]
    logs = np.log([run.alignment for run in levels])
    mean, std = logs.mean(axis=0), logs.std(axis=0)
    sizes = sa.Schedule(np.mean([run.step_size for run in levels], axis=0))
    exact = sa.theory.expected(problem, sizes, at).alignment_mean
    figure = Figure(figsize=(7.5, 6.4), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(1.6, 1))
    ends = [np.exp(mean + side * std)[at] for side in (-3.0, 3.0)]
    band = top.fill_between(at, *ends, color=headings.SHADE, alpha=0.5, lw=0)
    few_levels = levels[0].run.problem.spectrum.num_levels
    key = {f"{len(levels)} runs of {few_levels} levels, ± 3 stds": band}
    key["exact mean"] = top.plot(at, exact, color=headings.EXACT, lw=1.6)[0]
    bottom.fill_between(at, -3.0, 3.0, color=headings.SHADE, alpha=0.3, lw=0)
    bottom.plot(at, (np.log(exact) - mean[at]) / std[at], color=headings.EXACT, lw=1.6)
    for run in paths:
        style = {"color": headings.BULK, "marker": "o", "ls": "none", "ms": 3.0, "mew": 0.0}
        key[f"{len(paths)} runs of step"] = top.plot(few, run.alignment[few], **style)[0]
        score = (np.log(run.alignment) - mean) / std
        bottom.plot(few, score[few], **style)
        print(
            f"step, seed {run.run.seed}: mean score {score[at].mean():+.2f}, {score[at].std():.2f}"
        )
    top.set_yscale("log")
    top.set_ylabel("alignment", fontsize=9.5)
    bottom.set_ylim(-5.0, 5.0)
    bottom.set_ylabel("log alignment, from the mean\nof the levels in their stds", fontsize=9.5)
    title = (
        f"d = {dim:,},  k = {problem.spectrum.num_dominant:,},  isotropic noise 0.5,  "
        f"initial std 10,  {type(RULE).__name__}({RULE.fraction:g})"
    )
    finish(figure, title, key, steps, columns=3)
    figure.savefig(path, dpi=150)
