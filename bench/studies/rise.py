"""How good the chance that alignment rises is, against exact chances (Imhof's integral).

Random states of few and many directions, narrow and wide bands, three noise models, step sizes
around the critical one. Compared: Phi(z) of the prediction, Phi of mean over deviation of the odds,
the chi-square law with the exact third cumulant, the delivered one, and the same without knowing
the noise's shape. Mean and largest error.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy import stats
from tables import print_table

import suspalign_fast as sa
from suspalign_fast import power_sums as physics
from suspalign_fast.rise import chi_square_tail

sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.imhof import chance_above
from tests.random_problems import NOISES, random_state

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
    options = parser.parse_args()
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
