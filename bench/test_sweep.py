"""What a sweep costs beside its runs: no executor, a pool of processes, Dask."""

import functools
import importlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from comparison import Comparison
from in_turn import Members, measure

import suspalign_fast as sa

SEEDS, TINY_RUNS = 7, 2_000


@pytest.fixture
def study(monkeypatch):
    """Return the module that defines the published study."""
    monkeypatch.syspath_prepend(Path(__file__).with_name("studies"))
    return importlib.import_module("published_study")


@pytest.mark.benchmark(group="sweeps")
def test_published_sweep(benchmark, study):
    """63 runs of 30,000 steps as a sweep and as one ensemble, every row kept."""
    problems = [study.make_problem(ratio) for ratio in study.RATIOS for _ in range(SEEDS)]
    seeds = list(range(SEEDS)) * len(study.RATIOS)
    members = Members()
    sizes = [study.STEP_SIZE] * len(problems)
    members.add(
        "simulate_ensemble",
        partial(sa.simulate_ensemble, problems, sizes, study.NUM_STEPS, seeds=seeds), 1,
    )  # fmt: skip

    def case(ratio):
        return study.make_problem(ratio), {"step_size": study.STEP_SIZE}

    axes = {"ratio": list(study.RATIOS)}
    sweep = partial(sa.sweep, case, axes, study.NUM_STEPS, seeds=range(SEEDS))
    members.try_add("sweep", lambda: sweep, 1)
    comparison = Comparison(
        "sweep", "the published sweep: 63 runs of 30,000 steps, d = 500", "sweep",
        reference="simulate_ensemble", asked_ratio={"sweep": ("at most", 1.3)},
    )  # fmt: skip
    measure(benchmark, members, comparison, rounds=5)


def tiny(number):
    """Return a problem whose run takes no time to speak of."""
    spectrum = sa.Spectrum.two_level(100, 5, 5.0, 1.0 + 1e-6 * number)
    return sa.Quadratic(spectrum), {"engine": "levels", "step_size": 1e-3}


@pytest.mark.benchmark(group="sweeps")
def test_overhead(benchmark):
    """Runs of no steps at all: what is left is the way there and back."""
    axes = {"number": list(range(TINY_RUNS))}
    members = Members()
    sweep = partial(sa.sweep, tiny, axes, 1)
    members.add("threads", sweep, TINY_RUNS)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(2, mp_context=context)
    members.add("processes", partial(sweep, executor=pool), TINY_RUNS)
    closing = []

    def dask():
        from distributed import Client, LocalCluster

        cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
        client = Client(cluster)
        closing.extend([client, cluster])
        return partial(sweep, executor=client.get_executor())

    members.try_add("Dask", dask, TINY_RUNS)
    comparison = Comparison(
        "sweep overhead", f"a sweep of {TINY_RUNS:,} runs of one step, everything included", "run",
        asked_value={"processes": ("at most", 1e-3), "Dask": ("at most", 1e-2)},
    )  # fmt: skip
    measure(benchmark, members, comparison, rounds=3)
    pool.shutdown()
    for one in closing:
        one.close()


@functools.lru_cache(maxsize=4)
def bands(gap_ratio):
    """Return two bands at d = 10^6, a gap apart, in a few hundred levels."""
    bulk = (80.0 / gap_ratio, 10.0 / gap_ratio)
    return sa.Spectrum.linear_bands(10**6, 1000, (100.0, 80.0), bulk, tolerance=1e-12)


def of_bands(gap_ratio, step_size):
    """Return a problem; points of one gap, which follow each other, share the spectrum."""
    problem = sa.Quadratic(bands(gap_ratio), sa.IsotropicNoise(0.5), initial=10.0)
    return problem, {"step_size": step_size}


@pytest.mark.benchmark(group="sweeps")
def test_phase_diagram(benchmark):
    """Exact theory of a hundred by a hundred points at d = 10^6, eight times each."""
    axes = {
        "gap_ratio": np.geomspace(1.5, 1000.0, 100).tolist(),
        "step_size": np.geomspace(1e-4, 1.5e-2, 100).tolist(),
    }
    at = np.geomspace(1, 10**5, 8).astype(int)
    members = Members()
    diagram = partial(
        sa.sweep, of_bands, axes, 10**5, seeds=(), theory=True, record_at=np.unique(at)
    )
    members.add("threads", diagram, 1)
    pool = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
    members.add("processes", partial(diagram, executor=pool), 1)
    comparison = Comparison(
        "phase diagram", "exact theory, 100 x 100 points, d = 10^6, 8 times", "diagram",
        asked_value={"processes": ("at most", 30.0)},
    )  # fmt: skip
    measure(benchmark, members, comparison, rounds=1, warmup_rounds=0)
    pool.shutdown()
