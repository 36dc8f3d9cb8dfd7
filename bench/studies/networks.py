"""Does it hold on a network? Digits perceptrons in training: rows, sign tests, a quadratic beside.

``python bench/studies/networks.py measure`` trains them, which needs the extra ``torch``, writes
the rows to ``data/networks/`` and prints the tables of ``docs/networks.md``. ``... draw`` makes
``docs/networks.png`` of these files, without torch.
"""

import argparse
import copy
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

import suspalign_fast as sa
from suspalign_fast.pictures import curves, headings

ROOT = Path(__file__).parents[2]
FOLDER, PICTURE = ROOT / "data" / "networks", ROOT / "docs" / "networks.png"
STEPS, ROWS, BATCH = 3_000, 36, 32
#: States of the sign test, and the one that the quadratic starts at.
TESTED, START = (50, 300, 1_000, 3_000), 1_000
REPEATS, SURROGATES = 200, 20


class Case(NamedTuple):
    """A network and how it is trained."""

    name: str
    activation: str
    loss: str
    learning_rate: float
    optimizer: str = "SGD"

    @property
    def num_dominant(self):
        """Directions of the dominant band: outputs, less the one that cross-entropy ignores."""
        return 10 if self.loss == "MSE" else 9


CASES = (
    Case("tanh-mse", "Tanh", "MSE", 0.2),
    Case("tanh-cross-entropy", "Tanh", "CrossEntropy", 0.05),
    Case("relu-mse", "ReLU", "MSE", 0.2),
    Case("relu-cross-entropy", "ReLU", "CrossEntropy", 0.05),
    Case("tanh-mse-momentum", "Tanh", "MSE", 0.02, "momentum"),
    Case("tanh-mse-adam", "Tanh", "MSE", 1e-3, "Adam"),
)


def digits():
    """Return images and labels for training."""
    import torch
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return torch.tensor(x[:1297] / 16.0), torch.tensor(y[:1297])


class Training:
    """A case in training."""

    def __init__(self, case, seed=0):
        import torch

        torch.manual_seed(seed)
        self.torch, self.case = torch, case
        act = getattr(torch.nn, case.activation)
        layers = (torch.nn.Linear(64, 40), act(), torch.nn.Linear(40, 40), act())
        self.model = torch.nn.Sequential(*layers, torch.nn.Linear(40, 10)).double()
        self.x, self.y = digits()
        if case.loss == "MSE":
            self.y = torch.nn.functional.one_hot(self.y, 10).double()
        self.loss_fn = getattr(torch.nn, f"{case.loss}Loss")()
        parameters, rate = self.model.parameters(), case.learning_rate
        self.optimizer = {
            "SGD": lambda: torch.optim.SGD(parameters, lr=rate),
            "momentum": lambda: torch.optim.SGD(parameters, lr=rate, momentum=0.9),
            "Adam": lambda: torch.optim.Adam(parameters, lr=rate),
        }[case.optimizer]()

    def step(self):
        """Do one step."""
        chosen = self.torch.randint(len(self.y), (BATCH,))
        self.optimizer.zero_grad()
        self.loss_fn(self.model(self.x[chosen]), self.y[chosen]).backward()
        self.optimizer.step()

    def probe(self, **options):
        """Return a probe of the model."""
        data = self.x, self.y
        k = self.case.num_dominant
        return sa.network.Probe(self.model, self.loss_fn, data, k, batch_size=BATCH, **options)


def rows_of(case):
    """Train, write the rows; return the states that were kept, and the seconds."""
    training, kept, begun = Training(case), {}, time.perf_counter()
    at = np.unique(np.r_[0, np.geomspace(1, STEPS, ROWS).astype(int), TESTED, START])
    with training.probe(path=FOLDER / f"{case.name}.h5", overwrite=True) as probe:
        for step in range(STEPS + 1):
            if step in at:
                probe.measure(case.learning_rate, step)
            if step in (*TESTED, START):
                kept[step] = copy.deepcopy(training.model.state_dict())
            training.step()
        products = [row.products for row in probe.rows]
    seconds = time.perf_counter() - begun
    print(f"{case.name}: {len(products)} rows, {min(products)} to {max(products)} products each, "
          f"median {np.median(products):.0f}; {seconds:.0f} s")  # fmt: skip
    return training, kept


def beside(training, kept):
    """Run the quadratic of a state; return alignments of network and quadratic."""
    case, probe = training.case, training.probe()
    problem = sa.network.surrogate(probe, state=kept[START])
    at = [10, 100, 1_000]
    runs = sa.simulate_ensemble(
        problem, case.learning_rate, at[-1], seeds=range(SURROGATES), record_at=at, engine="levels"
    )
    real = []
    for seed in range(3):
        training.model.load_state_dict(kept[START])
        training.torch.manual_seed(seed)
        for step in range(1, at[-1] + 1):
            training.step()
            if step in at:
                real.append(probe.measure(case.learning_rate, 10**5 * seed + step).alignment)
    spaced = np.unique(np.geomspace(1, STEPS - START, 60).astype(int))
    sa.simulate(
        problem, case.learning_rate, STEPS - START, record_at=spaced, engine="levels",
        path=FOLDER / f"{case.name}-quadratic.h5", overwrite=True,
    )  # fmt: skip
    return np.reshape(real, (3, 3)).mean(0), np.mean([run.alignment[1:] for run in runs], axis=0)


def measure():
    """Train all networks, write the rows, print the tables."""
    FOLDER.mkdir(exist_ok=True)
    warnings.simplefilter("ignore", RuntimeWarning)
    for case in CASES:
        training, kept = rows_of(case)
        if case.optimizer != "SGD":
            continue
        data = training.x, training.y
        found = sa.network.verify(
            training.model, training.loss_fn, data, case.num_dominant, batch_size=BATCH,
            states=[kept[step] for step in TESTED], repeats=REPEATS, step_size=case.learning_rate,
        )  # fmt: skip
        print(found.table())
        real, quadratic = beside(training, kept)
        print(f"alignment 10, 100, 1,000 steps after {START}: network {real.round(3)}, "
              f"quadratic {quadratic.round(3)}", flush=True)  # fmt: skip


def draw(path):
    """Draw alignment and critical step size of all networks."""
    figure = Figure(figsize=(11.0, 5.6), dpi=150, layout="constrained")
    axes = figure.subplots(2, len(CASES), sharex=True, sharey="row")
    for (top, bottom), case in zip(axes.T, CASES, strict=True):
        trace = sa.load_trace(FOLDER / f"{case.name}.h5")
        top.set_title(case.name.replace("-", " "), fontsize=9)
        top.plot(trace.step, trace.alignment, color=headings.SIMULATED, lw=1.0, label="network")
        if case.optimizer == "SGD":
            other = sa.load_trace(FOLDER / f"{case.name}-quadratic.h5")
            label = f"quadratic of step {START}"
            top.plot(other.step + START, other.alignment, color=headings.EXACT, lw=1.2, label=label)
        top.set_ylim(-0.03, 1.03)
        held = trace.beyond_quadratic == 0
        critical = trace.critical_step_size
        bottom.plot(trace.step, critical, color=headings.PALE_CRITICAL, lw=0.8)
        bottom.plot(
            trace.step[held], critical[held], ".", color=headings.CRITICAL, ms=4,
            label="critical $\\eta^*_t$",
        )  # fmt: skip
        bottom.plot(
            trace.step[~held], critical[~held], "x", color=headings.CRITICAL, ms=4,
            label="the same where $\\eta^*_t\\lambda_1/2\\geq 0.9$",
        )  # fmt: skip
        bottom.axhline(case.learning_rate, color=headings.SIMULATED, lw=1.0, label="learning rate")
        edge = 2.0 / trace.top_eigenvalues[:, 0]
        bottom.plot(trace.step, edge, color=headings.QUIET, lw=1.0, ls="--", label="$2/\\lambda_1$")
        bottom.set_yscale("log")
        for panel in (top, bottom):
            panel.grid(alpha=0.3, lw=0.5)
        curves.set_up(top, STEPS, curves.MARGIN)
        bottom.set_xlabel("step")
    axes[0, 0].set_ylabel("alignment")
    axes[1, 0].set_ylabel("step size")
    keys = [
        key for panel in axes[:, 0] for key in zip(*panel.get_legend_handles_labels(), strict=True)
    ]
    figure.legend(*zip(*keys, strict=True), loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["measure", "draw"])
    if parser.parse_args().what == "measure":
        measure()
    else:
        draw(PICTURE)
