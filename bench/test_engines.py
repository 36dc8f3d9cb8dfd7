"""Jump and levels engines against step: the cost of a recorded row."""

import time

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast import datasets
from suspalign_fast.engines import make_engine
from suspalign_fast.run import Run

STEP_SIZE = 3e-3


@pytest.mark.benchmark(group="cost of a row, d = 1000000 distinct eigenvalues")
@pytest.mark.parametrize(
    ("engine", "stride"),
    [("step", 1), ("jump", 10), ("jump", 1000), ("jump", 10**6)],
)
def test_row(benchmark, engine, stride):
    """A step of ``step`` and a row of ``jump``, whatever the stride."""
    rows = benchmark.extra_info["steps"] = 128
    spectrum = sa.Spectrum.linear_bands(10**6, 1000)
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=10.0)
    run = Run(problem, sa.ConstantStep(STEP_SIZE), 10**12, engine=engine, record_every=stride)
    simulator = make_engine(run)
    simulator.initial_row()
    benchmark.pedantic(simulator.advance, args=(rows * stride,), rounds=9, warmup_rounds=1)


@pytest.mark.benchmark(group="whole runs (time a run)")
class TestWholeRuns:
    """Everything that ``simulate`` does, after compilation."""

    def test_jump_million_steps(self, benchmark):
        """D = 10^6, 10^6 steps, 1,000 rows."""
        benchmark.extra_info["steps"] = 1
        spectrum = sa.Spectrum.linear_bands(10**6, 1000)
        problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=10.0)

        def run():
            sa.simulate(problem, STEP_SIZE, 10**6, record_every=1000, engine="jump")

        benchmark.pedantic(run, rounds=5, warmup_rounds=1)

    @pytest.mark.parametrize("engine", ["jump", "levels"])
    def test_real_spectrum(self, benchmark, engine):
        """The shipped spectrum, 10^6 steps, 1,000 rows logarithmically spaced."""
        benchmark.extra_info["steps"] = 1
        problem = sa.Quadratic(datasets.digits_mlp(), sa.HessianNoise(0.3), initial=10.0)
        at = np.unique(np.geomspace(1, 10**6, 1400).round().astype(int))[-1000:]

        def run():
            sa.simulate(problem, 0.1, 10**6, record_at=at, engine=engine)

        benchmark.pedantic(run, rounds=5, warmup_rounds=1)


DIMENSIONS = (10**3, 10**6, 10**9, 10**12, 10**15)


@pytest.mark.benchmark(group="levels, two of them, every step recorded, one core")
@pytest.mark.parametrize("rule", ["constant", "critical"])
def test_levels(benchmark, rule):
    """The cost of a step does not depend on the dimension: measured in turn, round by round."""
    steps = benchmark.extra_info["steps"] = 50_000
    size = sa.ConstantStep(STEP_SIZE) if rule == "constant" else sa.CriticalStep(0.9)
    engines = {}
    for dim in DIMENSIONS:
        spectrum = sa.Spectrum.two_level(dim, dim // 100, 100.0, 0.5)
        problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=10.0)
        engines[dim] = make_engine(Run(problem, size, 10**12, engine="levels"))
        engines[dim].initial_row()
    times = {dim: [] for dim in DIMENSIONS}

    def one_round():
        for dim, engine in engines.items():
            started = time.perf_counter()
            engine.advance(steps)
            times[dim].append(time.perf_counter() - started)

    benchmark.pedantic(one_round, rounds=25, warmup_rounds=2)
    benchmark.extra_info["steps"] = steps * len(DIMENSIONS)
    benchmark.extra_info["in turn"] = {
        f"d = {dim:.0e}": float(np.median(seconds) / steps) for dim, seconds in times.items()
    }
