import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.engines import make_engine
from suspalign_fast.model.run import Run

from ..conftest import assert_same_bits

RULES = {
    "constant": 3e-3,
    "schedule": np.linspace(1e-3, 3e-3, 203),
    "critical": sa.CriticalStep(0.9),
}


@pytest.fixture
def problem():
    return sa.Quadratic(sa.Spectrum.linear_bands(2500, 100), sa.IsotropicNoise(0.5), initial=3.0)


@pytest.mark.long
@pytest.mark.parametrize("rule", RULES)
def test_a_float32_state_is_rounded_to_at_every_step(problem, rule):
    arguments = {"step_size": RULES[rule], "num_steps": 203, "seed": 5}
    fast = sa.simulate(problem, **arguments, dtype="float32")
    plain = sa.simulate(problem, **arguments, dtype="float32", engine="reference")
    double = sa.simulate(problem, **arguments)
    np.testing.assert_allclose(fast.power_sums, plain.power_sums, rtol=1e-7)
    np.testing.assert_allclose(fast.power_sums, double.power_sums, rtol=2e-5)
    assert abs(fast.power_sums / double.power_sums - 1.0).max() > 1e-9


def test_a_step_too_small_for_float32_moves_nothing():
    problem = sa.Quadratic(sa.Spectrum([1.0, 0.5], 1), sa.IsotropicNoise(0.0), initial=[1.0, 1.0])
    traces = {
        dtype: sa.simulate(problem, 1e-9, 70, dtype=dtype) for dtype in ("float32", "float64")
    }
    assert traces["float32"].loss[-1] == traces["float32"].loss[0]
    assert traces["float64"].loss[-1] < traces["float64"].loss[0]


@pytest.mark.mostly_long
@pytest.mark.parametrize("optimizer", [sa.SGD(), sa.Momentum(0.9)], ids=str)
@pytest.mark.parametrize("engine", ["step", "jump"])
def test_pieces_threads_and_resumption_change_no_bit(problem, tmp_path, engine, optimizer):
    how = {"dtype": "float32", "engine": engine, "optimizer": optimizer}
    whole = sa.simulate(problem, 3e-3, 203, **how)
    assert_same_bits(sa.simulate(problem, 3e-3, 203, num_threads=1, **how), whole)
    sa.simulate(problem, 3e-3, 101, path=tmp_path / "a.h5", **how)
    assert_same_bits(sa.resume(tmp_path / "a.h5", num_steps=203), whole)
    assert sa.load_trace(tmp_path / "a.h5").run.dtype == "float32"
    run = Run(problem, sa.ConstantStep(3e-3), 203, **how)
    engine_, restored = make_engine(run), make_engine(run)
    engine_.advance(17)
    restored.restore(engine_.snapshot())
    assert restored.state.dtype == np.float32
    assert restored.advance(30).power_sums.tobytes() == engine_.advance(30).power_sums.tobytes()


def test_an_initial_array_is_rounded(problem):
    initial = np.linspace(-1.0, 1.0, 2500)
    problem = sa.Quadratic(problem.spectrum, initial=initial)
    trace = sa.simulate(problem, 1e-3, 0, dtype="float32")
    rounded = initial.astype(np.float32).astype(float)
    assert trace.loss[0] == pytest.approx(0.5 * np.sum(problem.spectrum.eigenvalues * rounded**2))


@pytest.mark.parametrize("dtype", ["float16", None, np.int64, "fast", 7])
def test_other_types_are_refused(problem, dtype):
    with pytest.raises(ValueError, match="dtype must be one of 'float64', 'float32', got"):
        sa.simulate(problem, 1e-3, 5, dtype=dtype)


def test_the_types_of_numpy_are_understood(problem):
    assert Run(problem, sa.ConstantStep(1e-3), 1, dtype=np.float32).dtype == "float32"
    assert Run(problem, sa.ConstantStep(1e-3), 1, dtype=float).dtype == "float64"


def test_levels_keep_float64(problem):
    with pytest.raises(ValueError, match="dtype must be 'float64' in engine 'levels'"):
        sa.simulate(problem, 1e-3, 5, dtype="float32", engine="levels")


def test_memory_beyond_the_machine_is_refused_with_both_numbers(monkeypatch):
    problem = sa.Quadratic(sa.Spectrum.linear_bands(10**6, 100))
    monkeypatch.setattr("suspalign_fast.base.memory.available", lambda: 7_000_000)
    sa.simulate(problem, 1e-3, 1, dtype="float32")
    with pytest.raises(
        MemoryError, match=r"engine 'step' at d = 1,000,000 needs 0\.008 GB.*0\.007"
    ):
        sa.simulate(problem, 1e-3, 1)
    with pytest.raises(MemoryError, match=r"2,000,000 different eigenvalues needs 0\.016 GB"):
        sa.Spectrum.linear_bands(2 * 10**6, 100)
    monkeypatch.setattr("suspalign_fast.base.memory.available", lambda: None)
    assert len(sa.simulate(problem, 1e-3, 1)) == 2
