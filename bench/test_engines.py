"""Jump and levels engines against step: the cost of a recorded row."""

from functools import partial

import numpy as np
import pytest
import subject
from comparison import Comparison
from in_turn import Members, measure

import suspalign_fast as sa
from suspalign_fast.model.spectrum import named

DIMENSIONS = (10**3, 10**6, 10**9, 10**12, 10**15)


@pytest.mark.benchmark(group="engines")
def test_row(benchmark):
    """A step of ``step`` and a row of ``jump``, whatever the stride."""
    rows, problem, members = 128, subject.two_bands(10**6), Members()
    members.add("step", subject.advancing(problem, rows), rows)
    for stride in (10, 10**3, 10**6):
        work = subject.advancing(problem, rows * stride, engine="jump", record_every=stride)
        members.add(f"jump over {stride:,} steps", work, rows)
    comparison = Comparison(
        "rows", "a row at d = 10^6, distinct eigenvalues", "row", reference="step"
    )
    measure(benchmark, members, comparison, rounds=9)


@pytest.mark.benchmark(group="engines")
def test_whole_runs(benchmark):
    """Everything that ``simulate`` does, after compilation: 10^6 steps, 1,000 rows."""
    two_bands, members = subject.two_bands(10**6), Members()
    real = sa.Quadratic(named.digits_mlp(), sa.HessianNoise(0.3), initial=10.0)
    at = np.unique(np.geomspace(1, 10**6, 1400).round().astype(int))[-1000:]
    long = partial(sa.simulate, two_bands, subject.STEP_SIZE, 10**6, record_every=1000)
    members.add("jump, d = 10^6", partial(long, engine="jump"), 1)
    for engine in ("jump", "levels"):
        run = partial(sa.simulate, real, 0.1, 10**6, record_at=at, engine=engine)
        members.add(f"{engine}, shipped spectrum", run, 1)
    comparison = Comparison("whole runs", "runs of 10^6 steps, 1,000 rows", "run")
    measure(benchmark, members, comparison, rounds=5)


@pytest.mark.benchmark(group="engines")
@pytest.mark.parametrize("rule", ["constant", "critical"])
def test_levels(benchmark, rule):
    """The cost of a step does not depend on the dimension."""
    steps, members = 50_000, Members()
    size = subject.STEP_SIZE if rule == "constant" else sa.CriticalStep(0.9)
    for dim in DIMENSIONS:
        spectrum = sa.Spectrum.two_level(dim, dim // 100, 100.0, 0.5)
        problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=10.0)
        members.add(
            f"d = {dim:.0e}", subject.advancing(problem, steps, size, engine="levels"), steps
        )
    comparison = Comparison(
        f"levels {rule}", f"levels, two of them, {rule} step size, one core", "step",
        reference="d = 1e+03",
    )  # fmt: skip
    measure(benchmark, members, comparison, rounds=15, warmup_rounds=2)
