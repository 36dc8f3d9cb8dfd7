"""What momentum does to the phases of alignment, the critical step size, and the bulk's share.

Prints every table of ``docs/momentum-effects.md`` and draws ``docs/momentum-effects.png``. The
problem is that of ``docs/published.toml`` at a gap ratio of 10.1.
"""

import argparse

import numpy as np
from matplotlib.figure import Figure

import suspalign_fast as sa
from suspalign_fast import theory
from suspalign_fast.model.moves import momentum_transition
from suspalign_fast.pictures import curves, headings
from suspalign_fast.theory import phases

try:
    from .tables import print_table
except ImportError:  # run as a program
    from tables import print_table

STEPS, ROWS = 30_000, 300
#: Of plain SGD; momentum takes 1 - beta of it.
STEP_SIZE = 0.003
OPTIMIZERS = {
    "plain": sa.SGD(),
    "heavy ball 0.9": sa.Momentum(0.9),
    "Nesterov 0.9": sa.Momentum(0.9, nesterov=True),
}
SHOWN = dict(zip(OPTIMIZERS, (headings.SIMULATED, headings.DOMINANT, headings.BULK), strict=True))
SPECTRUM = sa.Spectrum.linear_bands(500, 50, (100.0, 80.0), (7.0, 1.0), gap_ratio=10.1)
PROBLEM = sa.Quadratic(SPECTRUM, sa.IsotropicNoise(0.5), initial=10.0)


def equal_step(optimizer):
    """Step size of an optimizer whose effective one, eta / (1 - beta), is `STEP_SIZE`."""
    return STEP_SIZE * (1.0 - optimizer.factors.decay)


def best_step(optimizer, budget, count=400):
    """Step size of the lowest expected loss after so many steps."""
    edge = theory.stability(PROBLEM, 0.0, optimizer=optimizer).largest
    sizes = np.geomspace(1e-4, 0.999, count) * edge
    losses = [
        theory.expected(PROBLEM, size, budget, optimizer=optimizer).loss_mean[0] for size in sizes
    ]
    return float(sizes[int(np.argmin(losses))])


def bulk_odds(step_size, optimizer, step):
    """Expected squared bulk over dominant part of the update at a step, and of its gradient.

    The gradient is the noisy one that the step is made of.
    """
    lam, std = SPECTRUM.eigenvalues, PROBLEM.stds
    rule, ones = sa.ConstantStep(step_size), np.ones_like(SPECTRUM.eigenvalues)
    move = momentum_transition(rule, 0, int(step), lam, ones, optimizer)
    start, noise = PROBLEM.initial**2, std**2
    cc = move.cc**2 * start + noise * move.noise_cc**2
    cv = move.cc * move.vc * start + noise * move.noise_cc * move.noise_vc
    vv = move.vc**2 * start + noise * (move.noise_vc**2 + move.noise_vv**2)
    p, q, _ = optimizer.factors
    gradient = lam**2 * cc + noise
    update = p * p * gradient + 2.0 * p * q * lam * cv + q * q * vv
    return tuple(
        float(bulk / dominant) for dominant, bulk in map(SPECTRUM.band_sums, (update, gradient))
    )


def progress(step_size, optimizer, at):
    """Expected loss, the part of the bulk's that is left, and the bulk's share of what is gone."""
    exact = theory.expected(PROBLEM, step_size, np.r_[0, at], optimizer=optimizer)
    gone_d, gone_b = (
        mean[0] - mean[1:] for mean in (exact.loss_dominant_mean, exact.loss_bulk_mean)
    )
    left = exact.loss_bulk_mean[1:] / exact.loss_bulk_mean[0]
    return exact.loss_mean[1:], left, gone_b / (gone_b + gone_d)


def two_phases():
    """Minimum and plateau at the same effective step size."""
    at = np.r_[0, curves.spaced_steps(STEPS, ROWS)[1:]]
    rows = []
    for name, optimizer in OPTIMIZERS.items():
        eta = equal_step(optimizer)
        seen = phases.find(theory.expected(PROBLEM, eta, at, optimizer=optimizer))
        rest = theory.stationary(PROBLEM, eta, optimizer=optimizer)
        edge = theory.stability(PROBLEM, eta, optimizer=optimizer).largest
        effective = edge / (1.0 - optimizer.factors.decay) * 100.0
        rows.append(
            [name, eta, effective, seen.minimum, int(seen.minimum_step), rest.alignment_mean,
             rest.loss_mean, rest.loss_dominant_mean]
        )  # fmt: skip
    print_table(
        f"effective step size {STEP_SIZE}",
        ["optimizer", "eta", "edge: effective eta lambda_1", "minimum", "at step",
         "plateau, exact", "loss at rest", "dominant"],
        rows,
    )  # fmt: skip


def shares():
    """The bulk in update, gradient and progress at the same effective step size."""
    at = np.array([10, 30, 100, 300, 1_000, 10_000])
    for name, optimizer in OPTIMIZERS.items():
        eta = equal_step(optimizer)
        odds = np.array([bulk_odds(eta, optimizer, t) for t in at])
        table = [at, *(odds / (1.0 + odds)).T, odds[:, 0] / odds[:, 1]]
        table += progress(eta, optimizer, at)
        print_table(
            f"{name}, effective step size {STEP_SIZE}",
            ["step", "bulk in update", "in gradient", "ratio of odds", "loss", "bulk loss left",
             "bulk in progress"],
            [[int(row[0]), *row[1:]] for row in zip(*table, strict=True)],
        )  # fmt: skip


def at_their_best():
    """What each reaches with its best step size for a budget."""
    for budget in (100, 1_000, 10_000):
        rows = []
        for name, optimizer in OPTIMIZERS.items():
            eta = best_step(optimizer, budget)
            (loss,), (left,), (share,) = progress(eta, optimizer, np.array([budget]))
            rest = theory.stationary(PROBLEM, eta, optimizer=optimizer)
            over = eta / (1.0 - optimizer.factors.decay) * 100.0
            rows.append([name, eta, over, loss, left, share, rest.alignment_mean])
        print_table(
            f"best step size for {budget:,} steps",
            ["optimizer", "eta", "effective eta lambda_1", "loss", "bulk loss left",
             "bulk in progress", "plateau, exact"],
            rows,
        )  # fmt: skip


def critical(runs):
    """Where the critical step size lies at the same effective step size, and the cases of rows."""
    at = np.array([3, 10, 30, 100, 300, 1_000, 10_000, 30_000])
    for name, optimizer in OPTIMIZERS.items():
        eta = equal_step(optimizer)
        traces = sa.simulate_ensemble(
            PROBLEM, eta, int(at[-1]), seeds=range(runs), record_at=at, optimizer=optimizer
        )
        last = len(traces[0]) - at.size
        over = np.array([trace.critical_step_size[last:] for trace in traces]) / eta
        regime = np.array([trace.regime[last:] for trace in traces])
        falls = np.isin(regime, ["below", "self-correcting", "falling-above"]).mean(0)
        cases = [
            np.isin(regime, names).mean(0)
            for names in (["below", "above"], ["self-correcting"], ["rising"],
                          ["rising-below", "falling-above"])
        ]  # fmt: skip
        print_table(
            f"{name}, effective step size {STEP_SIZE}, {runs} runs",
            ["step", "median eta* / eta", "falls", "threshold", "falls for all", "rises for all",
             "reversed"],
            [[int(t), *row] for t, *row in zip(at, np.median(over, 0), falls, *cases, strict=True)],
        )  # fmt: skip


def draw(path, budget=100):
    """Plot alignment, the bulk's odds in update over gradient, and what is left of its loss."""
    figure = Figure(figsize=(7.5, 9.0), layout="constrained")
    top, middle, bottom = panels = figure.subplots(3, 1)
    at = curves.spaced_steps(STEPS, ROWS)[1:]
    place = curves.position(at)
    early = at <= 1_000
    for name, optimizer in OPTIMIZERS.items():
        color, eta = SHOWN[name], equal_step(optimizer)
        exact = theory.expected(PROBLEM, eta, at, optimizer=optimizer)
        run = sa.simulate(PROBLEM, eta, STEPS, record_at=at, optimizer=optimizer)
        top.plot(place, exact.alignment_mean, color=color, lw=1.5, label=name)
        kept = np.isin(run.step, at[::3])
        top.plot(
            curves.position(run.step[kept]), run.alignment[kept], color=color, marker="o",
            ls="none", ms=2.4, mew=0.0,
        )  # fmt: skip
        odds = np.array([bulk_odds(eta, optimizer, t) for t in at])
        middle.plot(place, odds[:, 0] / odds[:, 1], color=color, lw=1.5)
        bottom.plot(place[early], progress(eta, optimizer, at)[1][early], color=color, lw=1.5)
        best = best_step(optimizer, budget)
        left = progress(best, optimizer, at)[1]
        bottom.plot(place[early], left[early], color=color, lw=1.5, ls="--")
    top.set_ylabel("alignment", fontsize=9.5)
    top.legend(fontsize=8.5, frameon=False, loc="lower right")
    middle.set_ylabel("bulk's odds in the update\nover those in its gradient", fontsize=9.5)
    bottom.set_ylabel("part of the bulk's\nloss that is left", fontsize=9.5)
    bottom.plot([], [], color=headings.QUIET, lw=1.5, label=f"effective step size {STEP_SIZE}")
    bottom.plot([], [], color=headings.QUIET, lw=1.5, ls="--", label=f"best for {budget} steps")
    bottom.legend(fontsize=8.5, frameon=False, loc="lower left")
    bottom.set_xlabel("step", fontsize=9.5)
    for axes, last in zip(panels, (STEPS, STEPS, 1_000), strict=True):
        axes.set_yscale("log")
        major, _ = curves.ticks(last)
        axes.set_xticks(curves.position(major), [f"{step:,}" for step in major], fontsize=8.5)
        axes.tick_params(labelsize=8.5)
        axes.spines[["top", "right"]].set_visible(False)
    top.set_title(
        "two bands, d = 500, k = 50, gap ratio 10.1, isotropic noise 0.5, initial std 10",
        fontsize=9.5,
    )
    figure.savefig(path, dpi=150)


def main():
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--picture", help="draw it here, too")
    options = parser.parse_args()
    two_phases()
    shares()
    at_their_best()
    critical(options.runs)
    if options.picture:
        draw(options.picture)


if __name__ == "__main__":
    main()
