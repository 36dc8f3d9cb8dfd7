"""``engine="auto"``: the same law in the least time."""

import re

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast import theory
from suspalign_fast.model.run import Run
from suspalign_fast.model.step_size import as_step_size
from suspalign_fast.running import cost

LARGE = sa.Spectrum.power_law(60_000, 10, 1.0)
FEW = sa.Spectrum.two_level(10**6, 10, 2.0, 0.1)
ROUGH = sa.DiagonalNoise(np.linspace(0.1, 1.0, LARGE.dim))
MOMENTUM = sa.Momentum(0.9)
SCHEDULE = {"step_size": np.full(1000, 0.1), "record_every": 100}


def chosen(problem, step_size=0.1, num_steps=1000, **options):
    return cost.cheapest(Run(problem, as_step_size(step_size), num_steps, **options))


@pytest.mark.parametrize(("problem", "options", "engine", "compressed"), [
    (sa.Quadratic(LARGE), {}, "levels", True),
    (sa.Quadratic(LARGE), {"step_size": sa.CriticalStep(0.9)}, "levels", True),
    (sa.Quadratic(LARGE), {"step_size": 1.995}, "step", False),
    (sa.Quadratic(LARGE), {"step_size": 1.995, "record_every": 100}, "jump", False),
    (sa.Quadratic(LARGE), {"dtype": "float32"}, "step", False),
    (sa.Quadratic(LARGE, ROUGH), {"record_every": 100}, "jump", False),
    (sa.Quadratic(LARGE, ROUGH), {"step_size": sa.CriticalStep(0.9)}, "step", False),
    (sa.Quadratic(LARGE, initial=np.ones(LARGE.dim)), {}, "step", False),
    (sa.Quadratic(FEW), {}, "levels", False),
    (sa.Quadratic(LARGE.compress()), {}, "levels", True),
    (sa.Quadratic(LARGE), {"optimizer": MOMENTUM}, "step", False),
    (sa.Quadratic(LARGE), {"optimizer": MOMENTUM, "record_every": 100}, "jump", False),
    (sa.Quadratic(LARGE), {"optimizer": MOMENTUM, "record_at": [1, 9, 90]}, "jump", False),
    (sa.Quadratic(LARGE), SCHEDULE | {"optimizer": MOMENTUM}, "step", False),
    (sa.Quadratic(FEW), {"optimizer": MOMENTUM, "record_every": 100}, "levels", False),
])  # fmt: skip
def test_what_it_takes(problem, options, engine, compressed):
    run = chosen(problem, **options)
    assert run.engine == engine
    assert run.problem.spectrum.is_compressed == compressed
    assert (run.num_steps, run.problem.spectrum.dim) == (1000, problem.spectrum.dim)


def test_the_choice_is_the_same_wherever_it_is_made(monkeypatch):
    runs = [chosen(sa.Quadratic(LARGE))]
    monkeypatch.setattr(cost, "seconds_per_normal", lambda: 1.0)
    assert [chosen(sa.Quadratic(LARGE))] == runs


@pytest.mark.long
def test_a_trace_says_what_it_is_of(tmp_path, capsys):
    problem = sa.Quadratic(LARGE, initial=3.0)
    trace = sa.simulate(
        problem, 0.1, 30, engine="auto", path=tmp_path / "a.h5", progress=True, seed=5
    )
    assert trace.run.engine == "levels"
    assert trace.run.problem.spectrum == LARGE.compress()
    said = capsys.readouterr().err
    assert re.search(r"engine levels on \d{3} levels that stand for 60,000, the same law to", said)
    assert len(sa.resume(tmp_path / "a.h5", num_steps=40)) == 41
    exact = theory.expected(problem, 0.1, trace.step)
    z = (trace.alignment - exact.alignment_mean) / exact.alignment_std
    assert np.abs(z).max() < 6.0


def test_ensembles_take_it():
    traces = sa.simulate_ensemble(sa.Quadratic(LARGE), 0.1, 10, seeds=range(3), engine="auto")
    alone = [sa.simulate(sa.Quadratic(LARGE), 0.1, 10, seed=i, engine="auto") for i in range(3)]
    for trace, other in zip(traces, alone, strict=True):
        assert trace.run == other.run
        assert np.array_equal(trace.power_sums, other.power_sums)


def test_the_hint_names_it():
    run = Run(sa.Quadratic(LARGE), sa.CriticalStep(0.9), 10**6)
    assert cost.faster_engine(run, 2, 1e-9)[0] == "auto"
