"""State-dependent step sizes against a constant one."""

import pytest

import suspalign_fast as sa
from suspalign_fast.engines import make_engine
from suspalign_fast.run import Run

RULES = {
    "constant": 3e-3,
    "critical": sa.CriticalStep(0.9),
    "loss_interval": sa.LossIntervalStep(0.5),
    "online": sa.OnlineCriticalStep(0.9),
}


def engine_of(dim, rule):
    spectrum = sa.Spectrum.linear_bands(dim, dim // 10)
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=10.0)
    step_size = sa.ConstantStep(rule) if isinstance(rule, float) else rule
    engine = make_engine(Run(problem, step_size, 10**9))
    engine.initial_row()
    return engine


@pytest.mark.benchmark(group="step-size rules, every step recorded, d = 1048576")
@pytest.mark.parametrize("name", RULES)
def test_large(benchmark, name):
    """Arithmetic dominates."""
    steps = benchmark.extra_info["steps"] = 128
    engine = engine_of(2**20, RULES[name])
    benchmark.pedantic(engine.advance, args=(steps,), rounds=9, warmup_rounds=1)


@pytest.mark.benchmark(group="step-size rules, every step recorded, d = 500")
@pytest.mark.parametrize("name", RULES)
def test_small(benchmark, name):
    """The cost of a step beside the arithmetic."""
    steps = benchmark.extra_info["steps"] = 20_000
    engine = engine_of(500, RULES[name])
    benchmark.pedantic(engine.advance, args=(steps,), rounds=9, warmup_rounds=1)
