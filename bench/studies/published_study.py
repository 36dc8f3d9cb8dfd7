"""The published study (d = 500, nine gap ratios) simulated, and the same numbers exactly.

For a gap ratio near m the dominant eigenvalues are evenly spaced from 100 to 80, and the bulk
from 7 to 1, rescaled so that its largest is 80 / (m + 0.1). Alignment is averaged over the last
third of the run.
"""

import argparse
import time

import numpy as np
from tables import print_table

import suspalign_fast as sa

RATIOS = (5, 10, 20, 50, 100, 200, 300, 400, 500)
DIM, NUM_DOMINANT = 500, 50
STEP_SIZE, NUM_STEPS, LAST = 0.003, 30_000, 10_000


def make_problem(ratio):
    """Return the problem of one gap ratio."""
    bulk = np.linspace(7.0, 1.0, DIM - NUM_DOMINANT) * (80.0 / (ratio + 0.1)) / 7.0
    lam = np.concatenate([np.linspace(100.0, 80.0, NUM_DOMINANT), bulk])
    return sa.Quadratic(sa.Spectrum(lam, NUM_DOMINANT), sa.IsotropicNoise(0.5), initial=1.0)


def simulated(ratio, num_seeds):
    """Return mean and mean square of the alignment over the last steps, one entry a seed.

    Every gap ratio has seeds of its own: the noise is a function of the seed, so equal seeds
    would make the nine means move together.
    """
    problem = make_problem(ratio)
    moments = []
    for seed in range(num_seeds):
        trace = sa.simulate(problem, STEP_SIZE, NUM_STEPS, seed=1_000_000 * ratio + seed)
        last = trace.alignment[-LAST:]
        moments.append((last.mean(), (last**2).mean()))
    return np.array(moments).T


def exact(ratio, samples):
    """Return mean and standard deviation over the last steps, and those at t = infinity.

    The standard deviation over the window is that of one run at one step drawn at random: the
    mean variance at a step and the variance of the mean between steps.
    """
    problem = make_problem(ratio)
    steps = np.linspace(NUM_STEPS - LAST + 1, NUM_STEPS, samples).astype(np.int64)
    window = sa.theory.expected(problem, STEP_SIZE, steps)
    variance = (window.alignment_std**2).mean() + window.alignment_mean.var()
    final = sa.theory.stationary(problem, STEP_SIZE)
    means = window.alignment_mean.mean(), np.sqrt(variance)
    return *means, final.alignment_mean, final.alignment_std


def chance_of(total, num_terms, degrees, draws=200_000):
    """Return the chance that squares of Student t variables add up to more than `total`."""
    rng = np.random.default_rng(0)
    return float(((rng.standard_t(degrees, (draws, num_terms)) ** 2).sum(1) > total).mean())


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=7, help="simulated runs a gap ratio")
    parser.add_argument("--samples", type=int, default=100, help="steps of the exact average")
    options = parser.parse_args()
    sa.simulate(make_problem(10), STEP_SIZE, 1)  # compile
    sa.theory.expected(make_problem(10), STEP_SIZE, 1)

    started = time.perf_counter()
    runs = {ratio: simulated(ratio, options.seeds) for ratio in RATIOS}
    simulation_time = time.perf_counter() - started
    started = time.perf_counter()
    values = {ratio: exact(ratio, options.samples) for ratio in RATIOS}
    theory_time = time.perf_counter() - started

    rows, scores = [], []
    for ratio in RATIOS:
        means, squares = runs[ratio]
        mean, std, final_mean, final_std = values[ratio]
        error = means.std(ddof=1) / np.sqrt(means.size)
        pooled = np.sqrt(squares.mean() - means.mean() ** 2)
        scores.append((means.mean() - mean) / error)
        # Mean square about the exact mean: its expectation is the exact variance of the window.
        spread = squares - 2.0 * mean * means + mean**2
        spread_score = (spread.mean() - std**2) / (spread.std(ddof=1) / np.sqrt(means.size))
        rows.append(
            [ratio, f"{means.mean():.5f} +- {error:.5f}", f"{mean:.5f}", f"{scores[-1]:+.2f}",
             f"{pooled:.5f}", f"{std:.5f}", f"{spread_score:+.2f}",
             f"{final_mean:.5f} +- {final_std:.5f}"]
        )  # fmt: skip
    header = ["m", "simulated mean", "exact mean", "SEs apart", "simulated std", "exact std"]
    header += ["SEs apart", "stationary mean +- std"]
    title = f"Alignment over the last {LAST:,} of {NUM_STEPS:,} steps, {options.seeds} seeds"
    print_table(title, header, rows)

    total, degrees = float(np.square(scores).sum()), options.seeds - 1
    chance = chance_of(total, len(RATIOS), degrees)
    print(f"\nsum of squared deviations of the means {total:.2f} over {len(RATIOS)} gap ratios;")
    print(
        f"standard errors from {options.seeds} seeds make each a squared Student t with {degrees} "
        f"degrees of freedom, mean {degrees / (degrees - 2):.2f}: chance of more {chance:.2f}"
    )
    print(f"wall time: simulation {simulation_time:.2f} s, exact theory {theory_time:.2f} s")


if __name__ == "__main__":
    main()
