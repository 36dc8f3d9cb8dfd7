"""How good the chance that alignment rises is, against exact chances (Imhof's integral).

Random states of few and many directions, narrow and wide bands, three noise models, step sizes
around the critical one. Compared: Phi(z) of the prediction, Phi of mean over deviation of the odds,
the chi-square law with the exact third cumulant, the delivered one, and the same without knowing
the noise's shape. Mean and largest error.

Then along random runs of every kind, wide spectra, momentum and mini-batches among them: predicted
less observed frequency of a rise in bins of the predicted chance; and the largest error of a chance
by the excess kurtosis of what decides, beside what `verify` allows.
"""

import argparse
import functools
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy import stats
from tables import print_table

import suspalign_fast as sa
from suspalign_fast.claims.laws import StepLaw, make_probed
from suspalign_fast.claims.single_steps import chance_error
from suspalign_fast.model.run import Run
from suspalign_fast.physics import formulas as physics
from suspalign_fast.physics.rise import chi_square_tail

sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.helpers.imhof import chance_above
from tests.helpers.random_problems import (
    NOISES,
    random_batches,
    random_batches_momentum,
    random_momentum,
    random_problem,
    random_state,
    random_wide,
)

MULTIPLES = (0.5, 0.8, 0.9, 1.0, 1.1, 1.25, 2.0)
FORMS = ("Phi(z)", "Phi(mean/std)", "exact third", "probability", "without shape")


def cases(rng, noise, count, num_dominant=None):
    """Yield (k, wide, multiple, exact chance, chance by each form) of random states."""
    while count:
        problem, wide = random_state(rng, noise, num_dominant)
        row = sa.simulate(problem, 1e-3, 0)
        critical = float(row.critical_step_size[0])
        if not 0.0 < critical < np.inf:
            continue
        count -= 1
        for multiple in MULTIPLES:
            yield (
                problem.spectrum.num_dominant, wide, multiple,
                *chances(problem, row, multiple * critical),
            )  # fmt: skip


def chances(problem, row, eta):
    """Return the exact chance that alignment rises in one step, and that of each form."""
    lam, c, k = problem.spectrum.eigenvalues, problem.initial, problem.spectrum.num_dominant
    m_sq, v = ((1.0 - eta * lam) * lam * c) ** 2, (eta * lam * problem.stds) ** 2
    before = row.power_sums[0, :, 1]
    factors = np.where(np.arange(lam.size) < k, 1.0 / before[0], -1.0 / before[1])
    mean = np.sum(factors * (m_sq + v))
    std = np.sqrt(np.sum(factors**2 * (4.0 * m_sq * v + 2.0 * v * v)))
    third = np.sum(factors**3 * (24.0 * m_sq * v * v + 8.0 * v**3))
    arguments = row.power_sums[0], row.noise_sums[0], row.constants, eta
    known = physics.predict_alignment(*arguments, shape=problem.noise_shape)
    return (
        chance_above(factors, v, m_sq),
        stats.norm.cdf(known.z),
        stats.norm.cdf(mean / std),
        float(chi_square_tail(np.array(mean / std), np.array(third / std**3))),
        float(known.probability),
        float(physics.predict_alignment(*arguments).probability),
    )


KINDS = {
    **{f"wide, {noise}": functools.partial(random_wide, noise=noise) for noise in NOISES},
    "plain": random_problem,
    "momentum": random_momentum,
    "batches": random_batches,
    "batches under momentum": random_batches_momentum,
}
STEPS, SEEDS, BINS = 200, 10, 10
KURTOSES = (0.0, 0.01, 0.1, 0.3, 1.0, 3.0, 6.0, np.inf)


def rises(make, count):
    """Return predicted chances along random runs, and whether alignment rose."""
    predicted, rose = [], []
    for number in range(count):
        problem, eta, *more = make(np.random.default_rng(number))
        how = {"optimizer": more[0]} if more else {}
        for seed in range(SEEDS):
            trace = sa.simulate(problem, eta, STEPS, seed=seed, engine="levels", **how)
            predicted.append(trace.predicted.probability[:-1])
            with np.errstate(
                divide="ignore", invalid="ignore"
            ):  # the odds: alignment may round to 1
                growth = np.diff(np.log(trace.grad_sq_dominant) - np.log(trace.grad_sq_bulk))
            rose.append(growth > 0.0)
    return np.concatenate(predicted), np.concatenate(rose)


def calibration(label, predicted, rose):
    """Return a row of the table: predicted less observed, and steps, in bins of the predicted."""
    known = np.isfinite(predicted)
    at = np.minimum((predicted[known] * BINS).astype(int), BINS - 1)
    off = predicted[known] - rose[known]
    bins = [off[at == here] for here in range(BINS)]
    return [label, *(f"{x.mean():+.3f} ({x.size:,})" if x.size else "-" for x in bins)]


def errors_by_kurtosis(count):
    """Return excess kurtoses and errors of chances at states of random runs, wide ones included."""
    found = []
    for number in range(count):
        rng = np.random.default_rng(number)
        problem, eta, *more = (random_wide, random_momentum, random_wide)[number % 3](rng)
        if problem.spectrum.dim > 100:
            continue
        how = {"engine": "step", "optimizer": more[0]}
        trace = sa.simulate(problem, eta, STEPS, **how)
        engine = make_probed(Run(problem, eta, STEPS, **how))
        engine.initial_row()
        law, split = StepLaw(engine), problem.spectrum.num_dominant_levels
        for step in (0, 1, 3, 10, 30, 100, 199):
            engine.advance(step - engine.step)
            m_sq, v = law.gradient_after(law.products(engine.planes), eta)
            one = np.arange(law.lam.size) < split
            before = trace.power_sums[step, :, 1]
            factors = np.where(one, 1.0 / before[0], -1.0 / before[1])
            a, b = factors * v, factors * m_sq
            second = 2.0 * (law.count @ a**2 + 2.0 * a @ b)
            spread = law.count @ a + b.sum()
            if not (problem.spectrum.is_simple and spread**2 < 1e6 * second):
                continue  # certain, and no work for an integral
            fourth = 48.0 * (law.count @ a**4 + 4.0 * a**3 @ b)
            exact = chance_above(factors, v, m_sq)
            if -1e-4 < exact < 1.0 + 1e-4:
                error = abs(float(trace.predicted.probability[step]) - exact)
                found.append((fourth / second**2, error))
    return np.array(found).T


def calibrated(count):
    """Print calibrations of all kinds, and errors by kurtosis."""
    table, every = [], []
    for label, make in KINDS.items():
        every.append(rises(make, count))
        table.append(calibration(label, *every[-1]))
    table.append(calibration("all", *map(np.concatenate, zip(*every, strict=True))))
    header = ["predicted", *(f"{bin / BINS:.1f}-{(bin + 1) / BINS:.1f}" for bin in range(BINS))]
    print_table("predicted less observed (steps)", header, table)
    kurtosis, error = errors_by_kurtosis(count)
    table = []
    for low, high in pairwise(KURTOSES):
        here = error[(kurtosis >= low) & (kurtosis < high)]
        if here.size:
            row = [f"{low:g} to {high:g}", here.size, here.mean(), here.max(), chance_error(low)]
            table.append(row)
    over = int((error > [chance_error(k) for k in kurtosis]).sum())
    header = ["excess kurtosis", "states", "mean error", "largest", "allowed from"]
    print_table(f"errors of chances, {over} above what verify allows", header, table)


def summary(label, rows):
    """Return a row of the table."""
    values = np.array([row[3:] for row in rows])
    errors = np.abs(values[:, 1:] - values[:, :1])
    cells = [f"{m:.4f} / {x:.4f}" for m, x in zip(errors.mean(0), errors.max(0), strict=True)]
    return [label, len(rows), *cells]


def main():
    """Print mean and largest errors by noise, number of dominant directions and step size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--states", type=int, default=250, help="states a noise model")
    parser.add_argument("--problems", type=int, default=60, help="random problems a kind")
    options = parser.parse_args()
    calibrated(options.problems)
    everything = []
    for noise in NOISES:
        rows = list(cases(np.random.default_rng(1), noise, options.states))
        everything += rows
        table = [summary("all", rows)]
        for k in (1, 2, 20, 200):
            table.append(summary(f"k = {k}", [row for row in rows if row[0] == k]))
        for wide in (False, True):
            name = "wide" if wide else "narrow"
            table.append(summary(name, [row for row in rows if row[1] == wide]))
        for multiple in MULTIPLES:
            here = [row for row in rows if row[2] == multiple]
            table.append(summary(f"{multiple} eta*", here))
        print_table(f"{noise} noise: mean / largest error", ["states", "cases", *FORMS], table)
    at = [row[3] for row in everything if row[2] == 1.0]
    print(f"exact chance at eta*: {min(at):.3f} to {max(at):.3f}")


if __name__ == "__main__":
    main()
