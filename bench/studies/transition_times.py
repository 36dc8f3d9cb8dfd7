"""How the transition times move with the dimension, d = 10^3 ... 10^12, from exact theory.

Dominant eigenvalues 100..80 and bulk 0.8..0.1 (64 levels each band, evenly spaced, equal
multiplicities up to rounding), step size 0.003, noise 0.5 (isotropic) or 0.05 (Hessian), initial
coefficients N(0, 10^2).

    fraction   k / d = 1/100, same eigenvalues
    count      k = 10, same eigenvalues
    energy     k = 10, bulk eigenvalues times sqrt((1000 - k) / (d - k)), which keeps the ratio of
               the bulk's and the dominant sum of squared eigenvalues
"""

import argparse

import numpy as np
from problems import real
from tables import print_table

import suspalign_fast as sa

STEP_SIZE = 0.003
NOISES = {"isotropic": sa.IsotropicNoise(0.5), "Hessian": sa.HessianNoise(0.05)}
#: Steps no longer than this are tried.
LAST_STEP = 10**13


def band(largest, smallest, count):
    """Return levels and multiplicities of an evenly spaced band."""
    size = min(64, count)
    counts = np.full(size, count // size)
    counts[: count % size] += 1
    return np.linspace(largest, smallest, size), counts


def make_problem(way, dim, noise, initial=10.0):
    """Return the problem of one way to grow."""
    k = dim // 100 if way == "fraction" else 10
    scale = np.sqrt((1000 - k) / (dim - k)) if way == "energy" else 1.0
    dominant, bulk = band(100.0, 80.0, k), band(0.8 * scale, 0.1 * scale, dim - k)
    lam, counts = (np.concatenate(pair) for pair in zip(dominant, bulk, strict=True))
    return sa.Quadratic(sa.Spectrum(lam, k, counts), noise, initial)


def alignment(problem, steps, step_size):
    """Return the exact expected alignment."""
    return sa.theory.expected(problem, step_size, steps).alignment_mean


def minimum(problem, step_size):
    """Return step and depth of the first lowest alignment, to the step."""
    steps = np.unique(np.geomspace(1, 1e6, 200).astype(np.int64))
    lowest = int(np.argmin(alignment(problem, steps, step_size)))
    near = np.arange(steps[max(0, lowest - 1)], steps[min(lowest + 1, steps.size - 1)] + 1)
    if near.size > 400:
        near = np.unique(np.linspace(near[0], near[-1], 400).astype(np.int64))
    values = alignment(problem, near, step_size)
    return int(near[np.argmin(values)]), float(values.min())


def reaches(problem, level, start, step_size):
    """Return the first step after `start` at which the alignment is at least `level`."""
    low, high = start, 2 * start + 1
    while alignment(problem, high, step_size)[0] < level:
        low, high = high, 2 * high
        if high > LAST_STEP:
            return np.nan
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (
            (low, middle) if alignment(problem, middle, step_size)[0] >= level else (middle, high)
        )
    return high


def row(label, problem, step_size):
    """Return one row of the table."""
    plateau = sa.theory.stationary(problem, step_size).alignment_mean
    start = float(alignment(problem, 0, step_size)[0])
    when, lowest = minimum(problem, step_size)
    if lowest >= 0.9 * min(start, plateau):
        risen = absolute = np.nan
    else:
        risen = reaches(problem, lowest + 0.95 * (plateau - lowest), when, step_size)
        absolute = reaches(problem, 0.95 * plateau, when, step_size)
    odds = sa.phases.estimate(problem, step_size)
    return [label, start, when, lowest, risen, absolute, float(plateau), odds.minimum_step,
            f"{odds.plateau_step[1]:.0f}"]  # fmt: skip


def start_rows(noise):
    """Return rows over initial scale and step size, d = 10^6, k / d = 1/100."""
    rows = []
    for initial, step_size in (
        (100.0, 0.003), (10.0, 0.003), (3.0, 0.003), (1.0, 0.003), (0.3, 0.003), (0.1, 0.003),
        (10.0, 0.001), (10.0, 0.01), (10.0, 0.015), (10.0, 0.019),
    ):  # fmt: skip
        problem = make_problem("fraction", 10**6, noise, initial)
        rows.append(row(f"c(0) {initial}, eta {step_size}", problem, step_size))
    return rows


def main():
    """Print a table a way and noise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--powers", type=int, nargs="+", default=[3, 4, 5, 6, 8, 10, 12])
    options = parser.parse_args()
    header = ["d", "start", "t_min", "minimum", "t95 of rise", "t95 of plateau", "plateau"]
    header += ["t_min of odds", "t95 of odds"]
    for name, noise in NOISES.items():
        for way in ("fraction", "count", "energy"):
            rows = [
                row(f"1e{power}", make_problem(way, 10**power, noise), STEP_SIZE)
                for power in options.powers
            ]
            print_table(f"{way}, {name} noise", header, rows)
    for name, noise in NOISES.items():
        title = f"initial scale and step size, d = 1e6, k / d = 1/100, {name} noise"
        print_table(title, ["run", *header[1:]], start_rows(noise))
    problem, step_size = real()
    print_table("real spectrum", ["run", *header[1:]], [row("default", problem, step_size)])


if __name__ == "__main__":
    main()
