"""How often `verify` says that a true claim fails, on random problems of every kind.

Each claim may fail in 1 of 10^4 cases; more than one failure in a thousand problems of five claims
would be a surprise (chance 0.09). The p-values of claims with evidence are printed too: true claims
have few small ones. So is the largest distance of the exact mean from that of the approximate law.
"""

import argparse
from collections import Counter

import numpy as np

import suspalign_fast as sa
from suspalign_fast.verify import FALSE_ALARM


def random_problem(rng):
    """Return a problem and a stable step size: few or many directions, any noise or none."""
    k = int(rng.choice([1, 2, 5, 30]))
    rest = int(rng.choice([1, 2, 3, 10, 60, 400]))
    if rng.random() < 0.2:
        spectrum = sa.Spectrum.two_level(10**9, 10**6, 10.0, float(rng.uniform(0.1, 9.0)))
    else:
        width = rng.choice([0.05, 1.0, 3.0])
        dominant = np.sort(10.0 * rng.uniform(0.5, 1.0, k))[::-1]
        bulk = dominant[-1] / rng.choice([1.1, 3.0, 30.0]) * 10.0 ** rng.uniform(-width, 0, rest)
        counts = rng.choice([1, 1, 1, 7, 1000], k + rest)
        spectrum = sa.Spectrum(np.concatenate([dominant, bulk]), int(counts[:k].sum()), counts)
        if spectrum.dim > 3_000:
            spectrum = sa.Spectrum(np.concatenate([dominant, bulk]), k)
    std = 10.0 ** rng.uniform(-3, 1)
    noise = [
        lambda: sa.IsotropicNoise(0.0),
        lambda: sa.IsotropicNoise(std),
        lambda: sa.HessianNoise(std),
        lambda: sa.DiagonalNoise(std * rng.choice([0.0, 1.0, 3.0], spectrum.num_levels)),
    ][rng.integers(4)]()
    initial = 10.0 ** rng.uniform(-2, 2)
    if rng.random() < 0.5:
        initial = initial * rng.normal(size=spectrum.num_levels)
    eta = float(rng.choice([0.1, 0.5, 1.0, 1.5, 1.9])) / float(spectrum.eigenvalues[0])
    return sa.Quadratic(spectrum, noise, initial), eta


def check(number):
    """Verify a random problem; return how it was and the report."""
    rng = np.random.default_rng(number)
    problem, eta = random_problem(rng)
    engines = ["levels"] if problem.spectrum.dim > 10_000 else ["levels", "step"]
    steps = int(rng.choice([20, 300, 3000]))
    engine = str(rng.choice(engines))
    report = sa.verify(problem, eta, steps, states=12, repeats=3, seed=number, engine=engine)
    return f"{problem}, step size {eta:.4g}, {steps} steps, {engine}", report


def failures(numbers):
    """Return what fails among random problems, and all p-values of claims with evidence."""
    failed, values, verdicts = [], {}, Counter()
    for number in numbers:
        how, report = check(number)
        for claim in report.claims:
            verdicts[claim.name, claim.verdict] += 1
            if claim.right + claim.wrong:
                values.setdefault(claim.name, []).append(claim.p_value)
            if claim.verdict == "fails":
                failed.append((number, claim.name, claim.p_value, claim.wrong, how))
    return failed, values, verdicts


def main():
    """Print the failures and how small p-values are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    failed, values, verdicts = failures(range(options.first, options.first + options.problems))
    print(f"false alarm rate of a claim: {FALSE_ALARM:g}; {len(failed)} failures")
    for failure in failed:
        print("  ", *failure)
    for name, found in values.items():
        small = [int((np.array(found) < level).sum()) for level in (0.1, 0.01, 1e-3, 1e-4)]
        opened = verdicts[name, "open"]
        print(f"{name}: {len(found)} with evidence, {opened} open, below .1 .01 .001 1e-4: {small}")


if __name__ == "__main__":
    main()
