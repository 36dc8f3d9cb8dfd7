"""The critical step size estimated from noisy gradients, against the exact one.

Runs of `OnlineCriticalStep(0.9, decay)`. "ratio" is the step size taken over 0.9 eta* of the row
(rows with a finite eta*): median and 10 to 90 % range. "signal" is the median of
S_2^D / N_0^D, the dominant squared gradient over its noise in one gradient. The phases are those
of the run itself: before (t < t_min / 2), around (to 2 t_min), rise (to 95 % of the plateau),
plateau. `CriticalStep(0.9)`, which knows eta*, is the reference.
"""

import argparse

import numpy as np
from problems import real, synthetic
from tables import print_table

import suspalign_fast as sa


def parts(trace):
    """Return (name, rows) of the phases of a run."""
    found = sa.phases.find(trace)
    last = len(trace)
    low = int(found.minimum_step)
    if not found.two_phase:
        return [("no two phases", slice(0, last))]
    risen = last if np.isnan(found.plateau_step) else max(2 * low, int(found.plateau_step))
    return [
        ("before", slice(0, max(1, low // 2))),
        ("around", slice(max(1, low // 2), 2 * low)),
        ("rise", slice(2 * low, risen)),
        ("plateau", slice(risen, last)),
    ]


def rows_of(label, rule, problem, num_steps):
    """Return the rows of one rule."""
    trace = sa.simulate(problem, rule, num_steps, seed=0)
    spectrum = problem.spectrum
    noise = spectrum.band_sums(problem.stds**2)[0]
    cap = 1.0 / spectrum.eigenvalues[0]
    rows = []
    for name, part in parts(trace):
        eta, critical = trace.step_size[part], trace.critical_step_size[part]
        if eta.size == 0:
            continue
        finite = np.isfinite(critical)
        ratio = eta[finite] / (0.9 * critical[finite])
        low, middle, high = np.percentile(ratio, [10, 50, 90]) if ratio.size else [np.nan] * 3
        rows.append(
            [label, name, f"{part.start}..{part.stop}", middle, f"{low:.2f}..{high:.2f}",
             f"{(eta < critical).mean():.2f}", f"{(eta >= cap * (1 - 1e-12)).mean():.2f}",
             float(np.median(trace.grad_sq_dominant[part]) / noise),
             float(np.median(eta)), float(np.mean(trace.alignment[part])),
             float(np.mean(trace.loss[part]))]
        )  # fmt: skip
    return rows


def main():
    """Print a table a problem."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40_000, help="steps a run")
    parser.add_argument("--decays", type=float, nargs="+", default=[0.0, 0.5, 0.9, 0.99])
    options = parser.parse_args()
    header = ["rule", "phase", "steps", "ratio", "10-90 %", "eta < eta*", "at cap", "signal"]
    header += ["median eta", "mean A", "mean loss"]
    for name, make in (("real spectrum", real), ("synthetic, d = 20,000", synthetic)):
        problem, step_size = make()
        rules = [("constant", step_size), ("exact", sa.CriticalStep(0.9))]
        rules += [(f"decay {decay}", sa.OnlineCriticalStep(0.9, decay)) for decay in options.decays]
        rows = [
            row for label, rule in rules for row in rows_of(label, rule, problem, options.steps)
        ]
        cap = 1.0 / problem.spectrum.eigenvalues[0]
        print_table(f"{name}, cap 1/lambda_1 = {cap:.4g}", header, rows)


if __name__ == "__main__":
    main()
