"""The published sweep: nine gap ratios, seven seeds, 30,000 steps each at d = 500."""

import importlib
from functools import partial
from pathlib import Path

import libraries
import pytest
from comparison import Comparison
from in_turn import Members, measure

import suspalign_fast as sa

SEEDS = 7
#: Steps that the dense baselines really do; the whole sweep is extrapolated from them.
DENSE_STEPS = 300


@pytest.fixture
def study(monkeypatch):
    """Return the module that defines the study."""
    monkeypatch.syspath_prepend(Path(__file__).with_name("studies"))
    return importlib.import_module("published_study")


def together(problems, study, seeds):
    """Return the sweep as one call."""
    sizes = [study.STEP_SIZE] * len(problems)
    sweep = partial(sa.simulate_ensemble, problems, sizes, study.NUM_STEPS, seeds=seeds)
    sweep()
    return sweep


@pytest.mark.benchmark(group="published sweep")
def test_published_sweep(benchmark, study):
    """63 runs at once, one after the other, and with a dense Hessian."""
    problems = [study.make_problem(ratio) for ratio in study.RATIOS for _ in range(SEEDS)]
    seeds = [1_000_000 * ratio + seed for ratio in study.RATIOS for seed in range(SEEDS)]
    members = Members()
    members.try_add("simulate_ensemble", partial(together, problems, study, seeds), 1)

    def one_by_one():
        for problem, seed in zip(problems, seeds, strict=True):
            sa.simulate(problem, study.STEP_SIZE, study.NUM_STEPS, seed=seed)

    members.add("63 calls of simulate", one_by_one, 1)
    share = DENSE_STEPS / (len(problems) * study.NUM_STEPS)
    for name in libraries.DENSE:
        simulation = libraries.build(name, problems[0], study.STEP_SIZE)
        members.add(name, partial(simulation.run, DENSE_STEPS), share)
    comparison = Comparison(
        "published", "the published sweep: 63 runs of 30,000 steps, d = 500", "sweep",
        reference=next(iter(members.works)),
        asked_ratio={"dense NumPy, tuned": ("at least", 600)},
        asked_value={"simulate_ensemble": ("at most", 1.5)},
        notes=dict.fromkeys(libraries.DENSE, f"from {DENSE_STEPS} steps"),
    )  # fmt: skip
    measure(benchmark, members, comparison, rounds=5)
