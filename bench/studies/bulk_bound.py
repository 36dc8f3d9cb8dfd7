"""Which bound on the step size the bulk imposes.

``upper = 2 S_2 / (S_3 + N_1)`` of the bulk is the step size above which a step projected on the
bulk raises the expected loss. It is followed along the run of the real spectrum and of a synthetic
one, with the lower bound (dominant), 2 / lambda_1, and the step size itself.
"""

import argparse

import numpy as np
from problems import expected_sums, real, synthetic
from tables import print_table

import suspalign_fast as sa
from suspalign_fast.physics import formulas


def bounds(problem, step_size, step):
    """Return lower and upper bound of the expected sums at a step."""
    sums = expected_sums(problem, step_size, step)
    return formulas.loss_interval(sums, problem.noise_constants)


def falls_below(problem, step_size, level):
    """Return the first step at which `upper` of the expected sums is below `level`."""
    if bounds(problem, step_size, np.inf)[1] >= level:
        return np.inf
    low, high = 0, 1
    if bounds(problem, step_size, 0)[1] < level:
        return 0
    while bounds(problem, step_size, high)[1] >= level:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        inside = bounds(problem, step_size, middle)[1] >= level
        low, high = (middle, high) if inside else (low, middle)
    return high


def without_noise(problem, step_size, num_steps):
    """Return the lowest `upper` of a run without noise, over 2 / lambda_(k+1)."""
    quiet = sa.Quadratic(problem.spectrum, sa.IsotropicNoise(0.0), problem.initial)
    trace = sa.simulate(quiet, step_size, num_steps, record_every=10)
    first_bulk = problem.spectrum.eigenvalues[problem.spectrum.num_dominant_levels]
    return float(np.nanmin(trace.loss_interval[:, 1]) * first_bulk / 2.0)


def follow(name, problem, step_size, num_steps):
    """Print the bounds along a run."""
    trace = sa.simulate(problem, step_size, num_steps, seed=0)
    lam = problem.spectrum.eigenvalues
    first_bulk = lam[problem.spectrum.num_dominant_levels]
    limit = 2.0 / lam[0]
    rows = []
    for step in [0, 10, 30, 100, 300, 1_000, 3_000, 10_000, 20_000, 40_000, 100_000]:
        if step <= num_steps:
            lower, upper = trace.loss_interval[step]
            mean_lower, mean_upper = bounds(problem, step_size, step)
            rows.append([step, trace.alignment[step], lower, mean_lower, upper, mean_upper,
                         trace.critical_step_size[step], trace.loss_bulk[step]])  # fmt: skip
    header = ["step", "A", "lower", "of means", "upper", "of means", "eta*", "bulk loss"]
    title = f"{name}: eta = {step_size}, 2/lambda_1 = {limit:.4g}, 2/lambda_(k+1) = "
    print_table(title + f"{2.0 / first_bulk:.4g}", header, rows)

    upper = trace.loss_interval[:, 1]
    below = np.flatnonzero(upper < limit)
    seen = int(below[0]) if below.size else np.inf
    exact = falls_below(problem, step_size, limit)
    print(f"upper falls below 2/lambda_1: run at step {seen}, expected sums at step {exact}")
    for factor in (2.0, 1.1, 1.01):
        print(f"  below {factor} eta: step {falls_below(problem, step_size, factor * step_size)}")
    tail = trace.loss_interval[-num_steps // 4 :]
    print(
        f"last quarter: median upper / eta {np.median(tail[:, 1]) / step_size:.4f}, median lower / "
        f"eta {np.median(tail[:, 0]) / step_size:.4f}, rows with upper < eta "
        f"{(tail[:, 1] < step_size).mean():.3f}, with lower < upper "
        f"{(tail[:, 0] < tail[:, 1]).mean():.3f}"
    )
    ratio = without_noise(problem, step_size, min(num_steps, 10_000))
    print(f"without noise: lowest upper of the run is {ratio:.3f} x 2/lambda_(k+1)")


def floors(name, problem, step_size):
    """Print the stationary bulk loss as a function of the step size."""
    lam, counts = problem.spectrum.eigenvalues, problem.spectrum.multiplicities
    bulk = slice(problem.spectrum.num_dominant_levels, None)
    trace_of_noise = float((counts * problem.stds**2)[bulk].sum())
    rows = []
    for share in (0.001, 0.01, 0.1, 0.3, 0.6, 0.9, 0.99):
        eta = share * 2.0 / lam[0]
        final = sa.theory.stationary(problem, eta)
        linear = eta * trace_of_noise / 4.0
        rows.append([share, eta, final.loss_bulk_mean, final.loss_bulk_mean / linear,
                     final.loss_dominant_mean, final.alignment_mean])  # fmt: skip
    header = ["eta lambda_1 / 2", "eta", "bulk loss", "/ (eta sum s^2 / 4)", "dominant loss", "A"]
    final = sa.theory.stationary(problem, step_size)
    title = f"{name}: stationary losses (at eta = {step_size}: bulk {final.loss_bulk_mean:.4g}, "
    print_table(title + f"dominant {final.loss_dominant_mean:.4g})", header, rows)


def main():
    """Follow both runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100_000, help="length of both runs")
    options = parser.parse_args()
    for name, make in (("real spectrum", real), ("synthetic, d = 20,000", synthetic)):
        problem, step_size = make()
        follow(name, problem, step_size, options.steps)
        floors(name, problem, step_size)


if __name__ == "__main__":
    main()
