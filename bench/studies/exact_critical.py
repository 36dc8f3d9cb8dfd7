"""How far the closed-form critical step size is from the exact one, along runs.

Closed form: the step size at which the expected odds do not change. Exact: the root of the change
of the expected alignment (`theory.exact_critical_step_size`). "n" is the effective number of
directions of a band one closed-form critical step later, ``2 E[S_2']^2 / Var[S_2']``: that of a
chi-square with the same mean and variance.

"first order" expands the expected alignment to second order in the spread of both bands: ln odds
must rise by ``2 (A / n_D - (1 - A) / n_B)`` more than in the closed form, divided by their
slope in ln eta. With many more bulk than dominant directions it is ``A / (n_D eta* lambda_D)``.
"""

import argparse
import time
from itertools import pairwise

import numpy as np
from problems import real
from tables import cell, print_table

import suspalign_fast as sa
from suspalign_fast.engines import make_engine
from suspalign_fast.model.run import Run
from suspalign_fast.physics import formulas

#: (d, k) of the synthetic runs.
SIZES = ((20, 1), (20, 2), (100, 1), (100, 9), (1_000, 2), (1_000, 9), (1_000, 50), (100_000, 9),
         (100_000, 50))  # fmt: skip
STEPS = (0, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 20_000)


def states(problem, step_size, steps):
    """Yield (step, coefficients) along a run."""
    engine = make_engine(Run(problem, sa.ConstantStep(step_size), max(steps)))
    for step in steps:
        engine.advance(step - engine.step)
        yield step, engine.state.copy()


def closed_form(problem, state):
    """Return alignment and closed-form critical step size of a state."""
    k = problem.spectrum.num_dominant
    terms = [(problem.spectrum.eigenvalues**p) * state**2 for p in range(1, 5)]
    sums = np.array([[t[:k].sum() for t in terms], [t[k:].sum() for t in terms]])
    critical = formulas.critical_step_size(sums, problem.noise_constants)
    return float(formulas.alignment(sums)), float(critical)


def first_order(problem, state, step_size):
    """Return the effective directions of both bands and the expected relative difference."""
    lam, k = problem.spectrum.eigenvalues, problem.spectrum.num_dominant
    mean_sq = ((1.0 - step_size * lam) * lam * state) ** 2
    variance = (step_size * lam * problem.stds) ** 2
    # Derivatives of mean_sq + variance with respect to ln eta.
    slope = 2.0 * variance - 2.0 * step_size * lam * (1.0 - step_size * lam) * (lam * state) ** 2
    spread = 4.0 * mean_sq * variance + 2.0 * variance**2
    bands = (slice(0, k), slice(k, None))
    means = [(mean_sq + variance)[b].sum() for b in bands]
    n = [2.0 * mean**2 / spread[b].sum() for mean, b in zip(means, bands, strict=True)]
    now = means[0] / sum(means)
    slopes = [slope[b].sum() / mean for mean, b in zip(means, bands, strict=True)]
    return *n, 2.0 * (now / n[0] - (1.0 - now) / n[1]) / (slopes[0] - slopes[1])


def compare(name, problem, state, step):
    """Return one row of the table and the seconds of the exact root."""
    alignment, closed = closed_form(problem, state)
    started = time.perf_counter()
    exact = sa.theory.exact_critical_step_size(problem, state)
    seconds = time.perf_counter() - started
    known = np.isfinite(closed)
    terms = first_order(problem, state, closed) if known else (np.nan, np.nan, np.nan)
    difference = exact / closed - 1.0 if known else np.nan
    return [name, step, alignment, closed, exact, difference, *terms], seconds


def synthetic(dim, num_dominant, steps):
    """Yield (name, problem, step, state) along a run of two bands with isotropic noise."""
    spectrum = sa.Spectrum.linear_bands(dim, num_dominant)
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=10.0)
    for step, state in states(problem, 0.003, steps):
        yield f"d={dim:,} k={num_dominant}", problem, step, state


def real_states(steps):
    """Yield the same for the real spectrum, one level a direction."""
    problem, step_size = real()
    full = sa.Quadratic(problem.spectrum.expand(), problem.noise, problem.initial)
    for step, state in states(full, step_size, steps):
        yield "real", full, step, state


def regime_name(closed, exact):
    """Name what kind of answer both forms give."""
    if np.isinf(closed) and np.isinf(exact):
        return "both infinite"
    if np.isinf(closed) or np.isinf(exact):
        return "closed infinite only" if np.isinf(closed) else "exact infinite only"
    return "both finite"


def split_table(title, label, edges, values, finite):
    """Print the differences of the states whose value lies between neighbouring edges."""
    parts = []
    for low, high in pairwise(edges):
        here = np.array(
            [row[5:9] for row, v in zip(finite, values, strict=True) if low <= v < high]
        )
        if here.size:
            low_mid_high = np.percentile(here[:, 0], [0, 50, 100])
            fit = np.percentile(here[:, 3] / here[:, 0], [10, 50, 90])
            text = " .. ".join(f"{value:.2f}" for value in fit)
            parts.append([f"{low:g}..{high:g}", len(here), *low_mid_high, text])
    header = [label, "states", "lowest", "median", "highest", "first order / actual (10-50-90 %)"]
    print_table(title, header, parts)


def summarize(rows):
    """Print the differences by effective number of directions and by alignment."""
    finite = [row for row in rows if regime_name(row[3], row[4]) == "both finite"]
    n = [min(row[6:8]) for row in finite]
    edges = (1, 3, 10, 30, 100, 1e4, 1e9)
    split_table("exact / closed - 1 by directions, min(n_D, n_B)", "n", edges, n, finite)
    alignment = [row[2] for row in finite]
    edges = (0.0, 1e-3, 0.1, 0.5, 0.9, 0.99, 1.0)
    split_table("exact / closed - 1 by alignment", "alignment", edges, alignment, finite)
    sizes = [abs(row[8]) for row in finite]
    edges = (0.0, 1e-6, 1e-4, 1e-2, 0.1, 0.3, 1.0, 100.0)
    split_table("exact / closed - 1 by size of first order", "first order", edges, sizes, finite)
    for kind in ("both finite", "closed infinite only", "exact infinite only", "both infinite"):
        here = [row for row in rows if regime_name(row[3], row[4]) == kind]
        print(f"{kind}: {len(here)} states")
        if "only" in kind:
            for row in here:
                print("   ", ", ".join(cell(value) for value in row))


def main():
    """Print every state, then summaries."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--more", type=int, default=12, help="further plateau states a run")
    options = parser.parse_args()
    plateau = tuple(20_000 + 2_000 * i for i in range(1, options.more + 1))
    cases = [case for size in SIZES for case in synthetic(*size, STEPS + plateau)]
    cases += real_states((*STEPS[:-1], 40_000, 41_000, 42_000, 43_000, 44_000, 45_000))
    rows, times = [], {}
    for name, problem, step, state in cases:
        row, seconds = compare(name, problem, state, step)
        rows.append(row)
        times.setdefault(name, []).append(seconds)
    header = ["problem", "step", "A", "closed eta*", "exact eta*", "exact/closed - 1"]
    shown = [row for row in rows if row[1] <= 20_000 or row[0] == "real"]
    print_table("states along the runs", [*header, "n_D", "n_B", "first order"], shown)
    summarize(rows)
    print_table(
        "seconds an exact root", ["problem", "median", "longest"],
        [[name, float(np.median(t)), max(t)] for name, t in times.items()],
    )  # fmt: skip


if __name__ == "__main__":
    main()
