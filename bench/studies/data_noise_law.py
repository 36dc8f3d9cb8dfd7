"""Whether engines have the law of literal mini-batches: the table of all cases, by hand.

Samples of engines and of the formula against drawn sample vectors: KS tests of every coordinate,
moments to the fourth, all variances and the shift along the step at once
(``tests/helpers/batches.py``). Also how far the chance of a rise is off.
"""

import argparse
import itertools
import sys
import time
from pathlib import Path

import numpy as np
from tables import print_table

import suspalign_fast as sa

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.helpers import batches

BATCHES, DIMS, LABELS, SHARES, STEPS = (1, 7, 64), (5, 50), (0.0, 0.7), (0.3, 0.97), (1, 5)


def problem_of(batch, dim, label):
    """Two bands, a third of the directions dominant, and a random state."""
    lam = np.r_[np.linspace(5.0, 4.0, dim // 3), np.linspace(1.0, 0.2, dim - dim // 3)]
    initial = np.random.default_rng(dim).standard_normal(dim)
    return sa.Quadratic(sa.Spectrum(lam, dim // 3), sa.DataNoise(batch, label), initial)


def laws(count):
    """Compare formula, step and levels with literal batches in every case."""
    rng, rows, failed, checks = np.random.default_rng(0), [], 0, 0
    for batch, dim, label, share in itertools.product(BATCHES, DIMS, LABELS, SHARES):
        problem = problem_of(batch, dim, label)
        eta = share * sa.theory.stability(problem, 0.0).largest
        found = {}
        for steps in STEPS:
            exact = batches.literal(problem, eta, steps, 4 * count, rng)
            samples = {
                "formula": batches.formula(problem, eta, steps, 4 * count, rng),
                "step": batches.engine(problem, eta, steps, count),
            }
            squares = batches.engine(problem, eta, steps, count, "levels")
            pairs = {name: (s, exact, problem.initial) for name, s in samples.items()}
            pairs["levels"] = np.log(squares), np.log(exact**2)
            for name, pair in pairs.items():
                found[name, steps] = batches.failures(*pair)
                failed += len(found[name, steps])
                checks += 5 * dim + 2
        said = [" ".join(v) or "-" for v in found.values()]
        rows.append([batch, dim, label, share, *said])
    names = [f"{name}, {steps}" for steps in STEPS for name in ("formula", "step", "levels")]
    print_table(f"failed checks, of {checks:,}", ["B", "d", "tau", "share", *names], rows)
    print(f"{failed} of {checks:,} checks failed; a case fails by chance once in 1,000")


def rises(runs):
    """Chances of a rise against literal batches, around the critical step size."""
    rng, rows = np.random.default_rng(1), []
    for dim, k in ((3, 1), (22, 20), (40, 2), (40, 20)):
        for batch in (1, 8, 64):
            off = []
            for _ in range(6):
                lam = np.r_[np.linspace(5.0, 4.0, k), np.linspace(1.0, 0.2, dim - k)]
                c = rng.standard_normal(dim) * np.r_[np.full(k, 0.3), np.ones(dim - k)]
                problem = sa.Quadratic(sa.Spectrum(lam, k), sa.DataNoise(batch, 0.3), c)
                trace = sa.simulate(problem, 0.1, 0)
                at = float(trace.critical_step_size[0])
                at = at if np.isfinite(at) else 0.3
                for share in (0.3, 0.7, 1.0, 1.5):
                    after = batches.literal(problem, share * at, 1, runs, rng)
                    s2 = [((lam * after) ** 2)[:, b].sum(1) for b in (slice(0, k), slice(k, None))]
                    before = trace.power_sums[0, :, 1]
                    rose = (s2[0] * before[1] > s2[1] * before[0]).mean()
                    found = sa.simulate(problem, share * at, 0).predicted
                    off.append([found.probability[0] - rose, normal(found.z[0]) - rose])
            mean, most = np.abs(off).mean(0), np.abs(off).max(0)
            rows.append([dim, k, batch, mean[0], most[0], mean[1], most[1]])
    head = ["d", "k", "B", "mean", "largest", "Phi(z): mean", "largest"]
    print_table(f"error of the chance of a rise ({runs:,} literal steps each)", head, rows)


def rises_with_velocity(runs):
    """The same under momentum, of states and velocities of all kinds (``batches.random_case``)."""
    rng, rows = np.random.default_rng(2), []
    for least, most in ((1, 3), (4, 20)):
        for batch in (1, 8, 64):
            off = []
            for number in range(48):
                nesterov, beta = bool(number % 2), (0.5, 0.9, 0.99)[number % 3]
                optimizer = sa.Momentum(beta, nesterov=nesterov)
                problem, v, eta = batches.random_case(rng, batch, least, most)
                eta = batches.near_critical(problem, v, eta, optimizer, rng)
                how = {"optimizer": optimizer, "velocity": v}
                after = batches.literal(problem, eta, 1, runs, rng, **how)
                k, g = problem.spectrum.num_dominant, problem.spectrum.eigenvalues * after
                before = batches.row_with(problem, eta, v, optimizer)
                now, found = before.power_sums[0, :, 1], before.predicted
                dominant, bulk = (g[:, :k] ** 2).sum(1), (g[:, k:] ** 2).sum(1)
                rose = (dominant * now[1] > bulk * now[0]).mean()
                off.append([found.probability[0] - rose, normal(found.z[0]) - rose])
            mean, largest = np.abs(off).mean(0), np.abs(off).max(0)
            rows.append([f"{least}-{most}", batch, mean[0], largest[0], mean[1], largest[1]])
    head = ["k", "B", "mean", "largest", "Phi(z): mean", "largest"]
    print_table(f"error of the chance of a rise under momentum ({runs:,} steps)", head, rows)


def normal(z):
    """Distribution function of a normal."""
    from scipy.special import ndtr

    return ndtr(z)


def main():
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=5_000)
    options = parser.parse_args()
    started = time.perf_counter()
    laws(options.count)
    rises(8 * options.count)
    rises_with_velocity(8 * options.count)
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
