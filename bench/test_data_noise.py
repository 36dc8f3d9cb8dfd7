"""Mini-batches of data: any size at the cost of additive noise, and against literal batches."""

from functools import partial

import numpy as np
import pytest
import subject
from comparison import Comparison
from in_turn import Members, measure

import suspalign_fast as sa

BATCHES = (1, 32, 1_000, 1_000_000)
#: A step size at which nothing diverges.
STEP_SIZE = 1e-9


def large(noise):
    """Return the problem of most benchmarks with another noise, close to its optimum."""
    return sa.Quadratic(sa.Spectrum.linear_bands(2**20, 1000), noise, initial=1e-3)


@pytest.mark.benchmark(group="data noise")
def test_large(benchmark):
    """A million coordinates: one pass over memory a step, and one normal a coordinate."""
    members = Members()
    members.add("additive", subject.advancing(large(sa.HessianNoise(0.1)), 128, STEP_SIZE), 128)
    for batch in BATCHES:
        problem = large(sa.DataNoise(batch, 0.3))
        members.add(f"batches of {batch:,}", subject.advancing(problem, 128, STEP_SIZE), 128)
    asked = {f"batches of {batch:,}": ("at least", 0.6) for batch in BATCHES}
    comparison = Comparison(
        "data noise", "mini-batches of data, d = 2^20, every step recorded", "step",
        reference="additive", speed=True, asked_ratio=asked,
    )  # fmt: skip
    measure(benchmark, members, comparison, rounds=11)


@pytest.mark.benchmark(group="data noise")
def test_levels(benchmark):
    """Four hundred levels: two numbers each, whatever their dimension."""
    lam = np.r_[np.linspace(5.0, 4.5, 200), np.linspace(1.0, 0.1, 200)]
    spectrum = sa.Spectrum(lam, 200_000, np.full(400, 1000))
    steps, options = 20_000, {"engine": "levels"}
    members = Members()
    noises = {"additive": sa.HessianNoise(0.1)}
    noises |= {f"batches of {batch:,}": sa.DataNoise(batch, 0.3) for batch in BATCHES}
    for name, noise in noises.items():
        problem = sa.Quadratic(spectrum, noise, initial=1e-3)
        members.add(name, subject.advancing(problem, steps, STEP_SIZE, **options), steps)
    comparison = Comparison(
        "data noise levels", "mini-batches of data, 400 levels, every step recorded", "step",
        reference="additive",
        asked_ratio={name: ("at most", 1.3) for name in noises if name != "additive"},
    )  # fmt: skip
    measure(benchmark, members, comparison, rounds=9)


@pytest.mark.benchmark(group="data noise")
@pytest.mark.parametrize(("batch", "asked"), [(1, None), (32, 50)])
def test_literal(benchmark, batch, asked):
    """Four thousand coordinates, against drawing every sample vector."""
    spectrum = sa.Spectrum.power_law(4096, 40, 1.0)
    problem = sa.Quadratic(spectrum, sa.DataNoise(batch, 0.3), initial=1.0)
    step_size = 0.3 * sa.theory.stability(problem, 0.0).largest
    members = Members()
    members.add("step engine", subject.advancing(problem, 10_000, step_size), 10_000)
    levels = {"engine": "levels"}
    members.add("levels engine", subject.advancing(problem, 10_000, step_size, **levels), 10_000)
    for dtype in ("float32", "float64"):
        members.try_add(
            f"JAX literal {dtype}", partial(literal, problem, step_size, dtype, 200), 200
        )
    comparison = Comparison(
        f"literal batches {batch}", f"batches of {batch}, d = 4,096, every step recorded", "step",
        reference="step engine",
        asked_ratio={} if asked is None else {"JAX literal float32": ("at least", asked)},
    )  # fmt: skip
    measure(benchmark, members, comparison, rounds=9, warmup_rounds=2)


def literal(problem, step_size, dtype, steps):
    """Return a function that does steps in JAX."""
    from baselines.jax_batches import JaxBatches

    return partial(JaxBatches(problem, step_size, dtype).run, steps)
