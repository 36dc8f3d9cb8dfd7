import subprocess
import sys

import numpy as np
import pytest

import suspalign_fast as sa

from ..conftest import assert_same_bits


def problem_of(dim, noise=None):
    return sa.Quadratic(sa.Spectrum.linear_bands(dim, 10), noise or sa.IsotropicNoise(0.5))


def test_every_run_has_the_bits_of_a_run_alone():
    problems = [problem_of(200), problem_of(70_000, sa.HessianNoise(0.2)), problem_of(1500)]
    step_sizes = [1e-3, np.linspace(1e-3, 2e-3, 40), sa.CriticalStep(0.8)]
    seeds = [3, 2**63, 4]
    for engine in ("step", "levels"):
        traces = sa.simulate_ensemble(
            problems, step_sizes, 40, seeds=seeds, record_every=3, engine=engine, update="bulk"
        )
        for problem, step_size, seed, trace in zip(
            problems, step_sizes, seeds, traces, strict=True
        ):
            alone = sa.simulate(
                problem, step_size, 40, seed=seed, record_every=3, engine=engine, update="bulk"
            )
            assert_same_bits(trace, alone)
            assert trace.run.seed == seed


@pytest.mark.mostly_long
@pytest.mark.parametrize("step_size", [2e-3, sa.Schedule(np.geomspace(1e-3, 1e-2, 300)), 1.0])
@pytest.mark.parametrize("initial", [1.0, "given"])
def test_levels_of_many_seeds_are_done_together(step_size, initial, monkeypatch):
    few = sa.Spectrum.two_level(500, 20, 100.0, 1.0)
    many = sa.Spectrum.linear_bands(3000, 50).compress()
    together = []
    rows_of = sa.engines.LevelsEngine.rows_of.__func__
    monkeypatch.setattr(
        sa.engines.LevelsEngine,
        "rows_of",
        classmethod(lambda cls, runs: together.append(len(runs)) or rows_of(cls, runs)),
    )
    for spectrum in (few, many):
        start = np.linspace(1.0, 2.0, spectrum.num_levels) if initial == "given" else initial
        problem = sa.Quadratic(spectrum, sa.HessianNoise(0.1), initial=start)
        for at in ([1, 2, 3, 50, 51, 299], None):
            traces = sa.simulate_ensemble(
                problem, step_size, 300, seeds=range(40), record_at=at, engine="levels"
            )
            for seed in (0, 17, 39):
                alone = sa.simulate(
                    problem, step_size, 300, seed=seed, record_at=at, engine="levels"
                )
                assert_same_bits(traces[seed], alone)
                assert traces[seed].status == alone.status
                assert traces[seed].run == alone.run
    assert sum(together) == 160
    assert max(together) > 1


def test_what_is_not_a_sequence_is_the_same_in_every_run():
    problem = problem_of(100)
    traces = sa.simulate_ensemble(problem, 1e-3, 10, seeds=range(5))
    assert len({float(trace.loss[-1]) for trace in traces}) == 5
    assert len(sa.simulate_ensemble(problem, 1e-3, 10)) == 1
    sizes = np.array([1e-3, 2e-3, 3e-3])
    traces = sa.simulate_ensemble(problem, sizes, 10, seeds=7, num_threads=1)
    assert [float(trace.step_size[0]) for trace in traces] == sizes.tolist()
    assert len({float(trace.loss[0]) for trace in traces}) == 1


def test_a_run_may_diverge_beside_others():
    traces = sa.simulate_ensemble(problem_of(100), [1e-3, 1e6, 1e-3], 400)
    assert [trace.status for trace in traces] == ["complete", "diverged", "complete"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [1, 2], "step_sizes": [1e-3] * 3}, "step_sizes of 3, seeds of 2"),
        ({"problems": []}, "at least 1, got problems of 0"),
        ({"num_threads": 0}, "num_threads"),
        ({"num_threads": "2"}, "num_threads"),
        ({"seeds": [-1]}, "seed must be"),
        ({"problems": [1]}, "problem must be"),
        ({"step_sizes": "fast"}, "step_size must be"),
        ({"engine": "jump", "step_sizes": sa.CriticalStep(0.5)}, "engine 'jump'"),
    ],
)
def test_bad_input(changes, message):
    arguments = {"problems": problem_of(100), "step_sizes": 1e-3, "num_steps": 5} | changes
    with pytest.raises(ValueError, match=message):
        sa.simulate_ensemble(**arguments)


def test_a_bar_shows_the_runs(capsys):
    sa.simulate_ensemble(problem_of(100), 1e-3, 5, seeds=range(3), progress=True)
    assert "3/3" in capsys.readouterr().err


WORKQUEUE = """
import os
os.environ["NUMBA_THREADING_LAYER"] = "workqueue"
import suspalign_fast as sa
problem = sa.Quadratic(sa.Spectrum.linear_bands(100_000, 10))
for engine, step_size in (("step", 1e-3), ("step", sa.OnlineCriticalStep(0.5)), ("jump", 1e-3)):
    sa.simulate_ensemble(problem, step_size, 200, seeds=range(6), engine=engine)
"""


@pytest.mark.long
def test_runs_beside_each_other_start_no_threads_of_their_own():
    """Numba's simplest thread pool aborts the process where two threads use it at once."""
    subprocess.run([sys.executable, "-c", WORKQUEUE], check=True, timeout=300)


@pytest.mark.parametrize("seeds", [b"1", bytearray(b"12"), memoryview(b"1"), {1: 2}, {1, 2}, "12"])
def test_what_only_looks_like_seeds_is_refused(seeds):
    with pytest.raises(ValueError, match="seed must be an integer"):
        sa.simulate_ensemble(problem_of(100), 1e-3, 2, seeds=seeds)


def test_other_iterables_are_sequences_of_seeds():
    for seeds in ((1, 2), iter([1, 2]), np.array([1, 2]), range(1, 3), (i for i in (1, 2))):
        traces = sa.simulate_ensemble(problem_of(100), 1e-3, 2, seeds=seeds)
        assert [trace.run.seed for trace in traces] == [1, 2]
