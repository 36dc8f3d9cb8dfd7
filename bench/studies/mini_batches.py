"""Mini-batches of data against additive noise: plateau, two phases, critical step size, scaling.

Prints every table of ``docs/mini-batches.md`` and draws ``docs/mini-batches.png``. The additive
model is the one that practice would fit: noise proportional to the Hessian, as strong as that of
the batches at rest, ``s^2 = lambda P / B`` with the stationary variance P of a residual.
"""

import argparse
import time

import numpy as np
from matplotlib.figure import Figure

import suspalign_fast as sa
from suspalign_fast import theory
from suspalign_fast.model.least_squares import random_features
from suspalign_fast.pictures import curves, headings

try:
    from .tables import print_table
except ImportError:  # run as a program
    from tables import print_table

LABEL, STEPS, ROWS = 0.1, 100_000, 120
STEP_SIZE = 1e-3
BATCHES = (4, 64, 1024, 16384)
SHOWN = {4: headings.DOMINANT, 64: headings.BULK, 1024: headings.CRITICAL, 16384: headings.SHADE}


def problem_of(batch, label=LABEL, initial=1.0):
    """Two bands, 100..80 and 0.8..0.1; one in a hundred directions is dominant."""
    spectrum = sa.Spectrum.linear_bands(2_000, 20, (100.0, 80.0), (0.8, 0.1)).compress()
    return sa.Quadratic(spectrum, sa.DataNoise(batch, label), initial)


def additive(problem, step_size):
    """Return the same problem with Hessian noise as strong as that of the batches at rest."""
    rest = theory.stationary(problem, step_size)
    variance = 2.0 * rest.loss_mean + problem.noise.label_std**2
    std = np.sqrt(variance / problem.noise.batch_size)
    return sa.Quadratic(problem.spectrum, sa.HessianNoise(std), problem.initial)


def course(problem, step_size, at, runs):
    """Return alignment and critical step size of runs at steps, shape (runs, times)."""
    traces = sa.simulate_ensemble(
        problem, step_size, int(at[-1]), seeds=range(runs), record_at=at, engine="levels"
    )
    names = ("alignment", "critical_step_size")
    return tuple(np.array([trace[name][-at.size :] for trace in traces]) for name in names)


def plateau_and_phases(runs):
    """When the additive model mispredicts alignment, plateau and two phases."""
    at = curves.spaced_steps(STEPS, 60)[1:]
    rows = []
    for initial in (1.0, 100.0):
        for batch in BATCHES:
            problem = problem_of(batch, initial=initial)
            plain = additive(problem, STEP_SIZE)
            means = [course(p, STEP_SIZE, at, runs)[0].mean(0) for p in (problem, plain)]
            late = at >= STEPS // 4
            feedback = theory.stability(problem, STEP_SIZE).feedback
            exact = theory.stationary(plain, STEP_SIZE).alignment_mean
            lowest, plateau = [m.min() for m in means], [m[late].mean() for m in means]
            rows.append([initial, batch, feedback, *lowest, *plateau, exact])
    print_table(
        f"step size {STEP_SIZE}: alignment at its lowest and at its plateau",
        ["initial std", "B", "K", "lowest", "additive", "plateau", "additive", "exact additive"],
        rows,
    )


def their_ratio():
    """Whether it is the ratio of batch size and step size that counts."""
    rows = []
    for factor in (1, 2, 4, 8, 16, 19):
        batch, eta = 16 * factor, STEP_SIZE * factor
        problem = problem_of(batch)
        found = theory.stability(problem, eta)
        if not found.is_stable:
            rows.append([batch, eta, eta * 100.0, found.feedback, "unstable", ""])
            continue
        rest = theory.stationary(problem, eta)
        rows.append(
            [batch, eta, eta * 100.0, found.feedback, rest.loss_mean, rest.alignment_of_means]
        )
    print_table(
        "the same ratio of step size and batch size",
        ["B", "eta", "eta lambda_1", "K", "loss at rest", "alignment of means"],
        rows,
    )
    rows = []
    for batch in (1, 4, 16, 64, 256, 1024, 10**6):
        largest = theory.stability(problem_of(batch), 0.0).largest
        rows.append([batch, largest, largest / batch, largest * 100.0])
    print_table("the edge of stability", ["B", "eta_max", "eta_max / B", "eta_max lambda_1"], rows)


def momentum():
    """Rest and edge at one ratio of step size and 1 - beta."""
    problem, rows = problem_of(64), []
    for beta, nesterov in ((0.0, 0), (0.5, 0), (0.9, 0), (0.99, 0), (0.9, 1), (0.99, 1)):
        optimizer = sa.Momentum(beta, nesterov=bool(nesterov))
        rest = sa.theory.stationary(problem, STEP_SIZE * (1.0 - beta), optimizer=optimizer)
        dominant, bulk = rest.grad_sq_dominant_mean, rest.grad_sq_bulk_mean
        stable = rest.stability
        rows.append([
            beta, "Nesterov" if nesterov else "heavy ball", stable.feedback, rest.loss_mean,
            dominant / (dominant + bulk), stable.largest / (1.0 - beta),
        ])  # fmt: skip
    head = ["beta", "", "K", "loss at rest", "alignment of means", "eta_max / (1 - beta)"]
    print_table("at one ratio of step size and 1 - beta, B = 64", head, rows)


def critical(runs):
    """Where the critical step size lies in both."""
    at = np.array([1, 10, 100, 1_000, 10_000, 100_000])
    for batch in (64, 1024):
        problem = problem_of(batch, initial=100.0)
        plain = additive(problem, STEP_SIZE)
        values = [np.median(course(p, STEP_SIZE, at, runs)[1], 0) for p in (problem, plain)]
        print_table(
            f"median critical step size over the step size, B = {batch}, initial std 100",
            ["step", "batches", "additive"],
            [[int(t), a / STEP_SIZE, b / STEP_SIZE] for t, a, b in zip(at, *values, strict=True)],
        )


def features(steps=10**6):
    """Follow power-law random features with batches of one and of 32, and the exact means."""
    problem = random_features(4_000, 1_000, alpha=1.0, beta=0.3, num_dominant=5)
    at = curves.spaced_steps(steps, ROWS)
    found = {}
    for batch in (1, 32):
        quadratic = problem.quadratic(batch)
        eta = 0.5 * theory.stability(quadratic, 0.0).largest
        sa.simulate(quadratic, eta, 1)  # compiles
        started = time.perf_counter()
        trace = sa.simulate(quadratic, eta, steps, record_at=at)
        took = time.perf_counter() - started
        exact = theory.expected(quadratic, eta, at)
        score = trace.loss / exact.loss_mean
        print(
            f"random features, v = 4,000, d = 1,000, B = {batch}, eta = {eta:.4g}: {steps:,} steps "
            f"in {took:.2f} s; loss over its exact mean {score.min():.3f} to {score.max():.3f}"
        )
        found[batch] = trace, exact
    return problem, found


def draw(path, runs=200, steps=10**6):
    """Plot alignment and critical step size of both models, and the loss of random features."""
    figure = Figure(figsize=(7.5, 9.0), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1)
    at = curves.spaced_steps(STEPS, ROWS)[1:]
    place = curves.position(at)
    for batch, color in SHOWN.items():
        problem = problem_of(batch, initial=100.0)
        plain = additive(problem, STEP_SIZE)
        alignment, turning = course(problem, STEP_SIZE, at, runs)
        low, high = np.quantile(alignment, [0.1, 0.9], axis=0)
        top.fill_between(place, low, high, color=color, alpha=0.25, lw=0)
        top.plot(place, alignment.mean(0), color=color, lw=1.6, label=f"B = {batch:,}")
        exact = theory.expected(plain, STEP_SIZE, at)
        top.plot(place, exact.alignment_mean, color=color, lw=1.2, ls="--")
        other = np.median(course(plain, STEP_SIZE, at, 40)[1], axis=0)
        for values, dash in ((np.median(turning, axis=0), "-"), (other, "--")):
            middle.plot(place, values / STEP_SIZE, color=color, lw=1.4, ls=dash)
    top.set_yscale("log")
    top.set_ylabel("alignment", fontsize=9.5)
    top.plot([], [], color=headings.QUIET, lw=1.2, ls="--", label="additive noise, same at rest")
    top.legend(fontsize=8.5, frameon=False, loc="lower left")
    middle.axhline(1.0, color=headings.QUIET, lw=0.8)
    middle.set_yscale("log")
    middle.set_ylabel("critical step size\nover the step size", fontsize=9.5)
    for axes in (top, middle):
        label_steps(axes, STEPS)
    problem, found = features(steps)
    for (batch, (trace, exact)), color in zip(
        found.items(), (headings.DOMINANT, headings.BULK), strict=True
    ):
        places = curves.position(trace.step)
        label = f"B = {batch}, eta = {trace.step_size[0]:.3g}"
        bottom.plot(places, exact.loss_mean, color=color, lw=1.4, label=f"exact mean, {label}")
        bottom.plot(places, trace.loss, color=color, marker="o", ls="none", ms=2.6, mew=0.0)
    bottom.set_yscale("log")
    bottom.set_ylabel("loss above its least, random\nfeatures: one run and mean", fontsize=9.5)
    bottom.legend(fontsize=8.5, frameon=False, loc="lower left")
    label_steps(bottom, steps)
    bottom.set_xlabel("step", fontsize=9.5)
    top.set_title(
        "two bands, d = 2,000, k = 20, label noise 0.1, initial std 100, step size 0.001",
        fontsize=9.5,
    )
    bottom.set_title(
        "power-law random features, v = 4,000, d = 1,000, alpha = 1, beta = 0.3", fontsize=9.5
    )
    figure.savefig(path, dpi=150)


def label_steps(axes, last):
    """Label the axis of steps."""
    major, _ = curves.ticks(last)
    axes.set_xticks(curves.position(major), [f"{step:,}" for step in major], fontsize=8.5)
    axes.tick_params(labelsize=8.5)
    axes.spines[["top", "right"]].set_visible(False)


def main():
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--picture", help="draw it here, too")
    options = parser.parse_args()
    plateau_and_phases(options.runs)
    their_ratio()
    momentum()
    critical(options.runs)
    features()
    if options.picture:
        draw(options.picture, options.runs)


if __name__ == "__main__":
    main()
