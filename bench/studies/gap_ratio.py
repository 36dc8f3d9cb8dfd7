"""Which ratio lambda_k / lambda_(k+1) a loss interval and a two-phase trajectory need.

Part 1 checks the condition for a loss interval. With u = (squared gradient of a band) / (its
stationary value), x = eta lambda_D and a two-level spectrum of ratio r,

    lower < upper   iff   r [x (1 - 1/u_D) + 2/u_D - 2/u_B] > x (1 - 1/u_B).

Part 2 finds, from the exact expected alignment, the smallest and the largest ratio for which its
minimum is below a fraction of both start and plateau. Time is measured in steps, lambda_D = 1;
rho is initial variance / stationary variance of a dominant coefficient.
"""

import argparse
import itertools

import numpy as np
from tables import log_steps, print_table

import suspalign_fast as sa
from suspalign_fast.physics import formulas

DIM = 100_000
#: Ratios searched: 1 + SMALLEST_EXCESS ... LARGEST_RATIO.
SMALLEST_EXCESS, LARGEST_RATIO = 0.003, 1e4
NOISES = {"isotropic": sa.IsotropicNoise, "Hessian": sa.HessianNoise}


# --- loss interval ------------------------------------------------------------------------------


def interval_ratio(x, excess_d, excess_b):
    """Return the ratio to exceed for a loss interval, infinite if none; excesses at least 1."""
    margin = x * (1.0 - 1.0 / excess_d) + 2.0 / excess_d - 2.0 / excess_b
    above = x * (1.0 - 1.0 / excess_b)
    return max(1.0, above / margin) if margin > 0.0 else np.inf


def has_interval(ratio, x, excess_d, excess_b, noise):
    """Whether a two-level state with these excesses over the floors has lower < upper."""
    spectrum = sa.Spectrum.two_level(1000, 10, 1.0, 1.0 / ratio)
    problem = sa.Quadratic(spectrum, noise(0.7))
    lam, variance = spectrum.eigenvalues, problem.stds**2
    floor = x * variance / (lam * (2.0 - x * lam))
    squares = floor * np.array([excess_d, excess_b])
    sums = np.stack([spectrum.band_sums(lam**p * squares) for p in range(1, 5)], axis=-1)
    lower, upper = formulas.loss_interval(sums, problem.noise_constants)
    return bool(lower < upper)


def check_interval():
    """Compare formula and power sums on both sides of the threshold; return (agreeing, tried)."""
    tried = agreeing = 0
    excesses = (1.5, 3.0, 10.0, 100.0, 1e6)
    for noise in NOISES.values():
        for x, d, b in itertools.product((0.03, 0.3, 1.0, 1.9), excesses, excesses):
            needed = interval_ratio(x, d, b)
            for ratio in 1.0 + np.geomspace(1e-3, 1e5, 40):
                if abs(ratio / needed - 1.0) > 1e-9:
                    tried += 1
                    agreeing += has_interval(ratio, x, d, b, noise) == (ratio > needed)
    return agreeing, tried


def plateau_share(problem, step_size, num_steps=4000, burn_in=40_000, seeds=4):
    """Return the share of plateau rows with an interval, and the medians of both bounds / eta."""
    share, medians = [], []
    for seed in range(seeds):
        trace = sa.simulate(
            problem, step_size, burn_in + 10 * num_steps, seed=seed, record_every=10
        )
        bounds = trace.loss_interval[-num_steps:]
        share.append((bounds[:, 0] < bounds[:, 1]).mean())
        medians.append(np.median(bounds, axis=0) / step_size)
    return float(np.mean(share)), *np.mean(medians, axis=0)


def check_stationary():
    """Return the largest relative distance of the stationary bounds from eta, bands 8 times wide.

    Bounds of the expected sums, ``2 E[S_2] / (E[S_3] + N_1)``.
    """
    worst = 0.0
    spectrum = sa.Spectrum.linear_bands(1000, 20, (1.0, 0.2), (0.1, 0.0125))
    for noise, eta in itertools.product(NOISES.values(), (0.01, 0.3, 1.0, 1.9)):
        problem = sa.Quadratic(spectrum, noise(0.7))
        lam, variance = spectrum.eigenvalues, problem.stds**2
        squares = eta * variance / (lam * (2.0 - eta * lam))
        sums = np.stack([spectrum.band_sums(lam**p * squares) for p in range(1, 5)], axis=-1)
        bounds = formulas.loss_interval(sums, problem.noise_constants)
        worst = max(worst, np.abs(bounds / eta - 1.0).max())
    return worst


def interval_tables():
    """Print part 1."""
    print(f"stationary lower and upper equal eta within {check_stationary():.1g} (relative)")
    agreeing, tried = check_interval()
    print(f"loss interval: formula and power sums agree in {agreeing} of {tried} states")
    excesses = (1.1, 2.0, 10.0, 100.0, 1e4, 1e8)
    for x in (0.03, 0.3, 1.0):
        rows = []
        for excess_d in (1.0, 2.0, 100.0, 1e8):
            rows.append([excess_d, *(interval_ratio(x, excess_d, b) for b in excesses)])
        title = f"Ratio to exceed for a loss interval, eta lambda_D = {x} (1: any ratio, inf: none)"
        print_table(title, ["u_D", *(f"u_B = {b:g}" for b in excesses)], rows)

    rows = []
    for ratio, (name, noise) in itertools.product((1.5, 10.0, 100.0), NOISES.items()):
        spectrum = sa.Spectrum.two_level(1000, 10, 1.0, 1.0 / ratio)
        share, low, high = plateau_share(sa.Quadratic(spectrum, noise(1.0), 1.0), 0.3)
        rows.append([ratio, name, share, low, high])
    title = "Plateau (d = 1,000, k = 10, eta lambda_D = 0.3): share of rows with an interval"
    header = ["ratio", "noise", "share", "median lower / eta", "median upper / eta"]
    print_table(title, header, rows)


# --- two phases ---------------------------------------------------------------------------------


def make_problem(ratio, x, rho, part, noise, spread):
    """Return the problem of one ratio; the bulk has 8 levels if it is `spread` wide."""
    k = max(1, round(part * DIM))
    if spread == 1.0:
        spectrum = sa.Spectrum.two_level(DIM, k, 1.0, 1.0 / ratio)
    else:
        bulk = np.geomspace(1.0, 1.0 / spread, 8) / ratio
        counts = np.diff(np.linspace(0, DIM - k, 9).astype(int))
        spectrum = sa.Spectrum(np.append(1.0, bulk), k, np.append(k, counts))
    return sa.Quadratic(spectrum, noise(1.0), np.sqrt(rho * x / (2.0 - x)))


def depth(ratio, x, rho, part, noise, spread):
    """Return the minimum of the expected alignment over the lower of start and plateau."""
    problem = make_problem(ratio, x, rho, part, noise, spread)
    final = sa.theory.stationary(problem, x).alignment_mean
    slowest = -np.log(abs(1.0 - x)) if x != 1.0 else np.inf
    dominant_time = (np.log(rho) + 5.0) / (2.0 * slowest)
    bulk_time = ratio * (np.log(rho) + 5.0) / (2.0 * x)
    steps = log_steps(max(10.0, min(20.0 * dominant_time + 20.0, bulk_time)), 70)
    curve = sa.theory.expected(problem, x, steps).alignment_mean
    return float(curve.min() / min(curve[0], final))


def ratio_range(fractions, *shape):
    """Return (smallest, largest) ratio with depth at most each fraction, NaN where there is none.

    A grid finds the range and bisection in the logarithm sharpens its ends to 0.2 %. An end of
    the grid that is good stands for everything beyond: 1 or infinity.
    """
    grid = 1.0 + np.geomspace(SMALLEST_EXCESS, LARGEST_RATIO, 40)
    depths = np.array([depth(ratio, *shape) for ratio in grid])
    ranges = []
    for fraction in fractions:
        good = np.flatnonzero(depths <= fraction)
        if good.size == 0:
            ranges.append((np.nan, np.nan))
            continue
        low, high = good[0], good[-1]
        first = _bisect(fraction, grid[low], grid[low - 1], shape) if low else 1.0
        last = (
            _bisect(fraction, grid[high], grid[high + 1], shape) if high < grid.size - 1 else np.inf
        )
        ranges.append((first, last))
    return ranges


def _bisect(fraction, good, bad, shape):
    while abs(np.log(good / bad)) > 2e-3:
        middle = np.sqrt(good * bad)
        if depth(middle, *shape) <= fraction:
            good = middle
        else:
            bad = middle
    return good


def check_any_ratio():
    """Print whether odds fall first and rise later for ratios near 1 and near the step limit.

    The expected odds of two levels, in floors: u(t) = 1 + (u(0) - 1) (1 - eta lambda)^(2 t).
    """
    rows = []
    for ratio, x in ((1.01, 0.5), (1.1, 0.5), (1.1, 1.04), (1.1, 1.06), (3.0, 1.49), (3.0, 1.51)):
        limit = 2.0 / (1.0 + 1.0 / ratio)
        floor, start = np.array([1.0, 1.0]), np.array([1e12, 1e12])
        factors = np.array([(1.0 - x) ** 2, (1.0 - x / ratio) ** 2])
        t = np.arange(20_000)
        logs = np.log(floor + (start - floor) * factors[:, None].T ** t[:, None])
        odds = logs[:, 0] - logs[:, 1]
        lowest = odds.min()
        fell = bool(lowest < -1e-6 and odds[-1] > lowest + 1e-6)
        rows.append([ratio, x, limit, str(fell), str(bool(x < limit)), float(np.exp(lowest))])
    header = ["ratio", "eta lambda_D", "limit 2/(1+1/r)", "falls then rises", "predicted", "depth"]
    print_table("Two phases of the expected odds, both bands 1e12 above their floors", header, rows)


def range_text(first, last):
    """Format a range of ratios."""
    if np.isnan(first):
        return "none"
    low = f"<{1.0 + SMALLEST_EXCESS:g}" if first == 1.0 else f"{first:.3g}"
    return f"{low} to " + (f">{LARGEST_RATIO:g}" if np.isinf(last) else f"{last:.3g}")


def two_phase_tables(quick):
    """Print part 2."""
    check_any_ratio()
    parts = (1e-2,) if quick else (1e-3, 1e-2, 1e-1)
    for spread, (name, noise) in itertools.product((1.0, 8.0), NOISES.items()):
        rows = []
        for x, part in itertools.product((0.1, 0.5, 1.5), parts):
            row = [x, part]
            for rho in (1e2, 1e4, 1e6, 1e8):
                ranges = ratio_range((0.9, 0.5), x, rho, part, noise, spread)
                row += [range_text(*ends) for ends in ranges]
            rows.append(row)
        header = ["eta lambda_D", "k/d"]
        for rho in (1e2, 1e4, 1e6, 1e8):
            header += [f"{rho:g}: 0.9", f"{rho:g}: 0.5"]
        band = "one bulk level" if spread == 1.0 else f"bulk {spread:g} times wide"
        title = "Ratios for which the minimum is at most 0.9 / 0.5 of both start and plateau, "
        title += f"by rho: {name} noise, {band}"
        print_table(title, header, rows)


def main():
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one fraction k/d only")
    options = parser.parse_args()
    interval_tables()
    two_phase_tables(options.quick)


if __name__ == "__main__":
    main()
