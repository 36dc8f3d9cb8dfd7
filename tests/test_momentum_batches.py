"""Momentum on mini-batches of data: the path, its laws, and what rows predict."""

import itertools
import math

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast import theory
from suspalign_fast.engines import make_engine
from suspalign_fast.run import Run
from suspalign_fast.sink import MemoryTrace

from .conftest import assert_same_bits

RULES = {
    "constant": lambda eta: eta,
    "schedule": lambda eta: np.linspace(eta, eta / 3.0, 40),
    "critical": lambda eta: sa.CriticalStep(0.5),
    "interval": lambda eta: sa.LossIntervalStep(0.5),
    "online": lambda eta: sa.OnlineCriticalStep(0.5),
}
SPECTRA = {
    "bands": lambda: sa.Spectrum.linear_bands(3000, 70),
    "narrow": lambda: sa.Spectrum.linear_bands(5000, 1500, (1.0, 0.9995), (0.1, 0.09995)),
    "small": lambda: sa.Spectrum([5.0, 4.5, 1.0, 0.3, 0.0], 2),
    "levels": lambda: sa.Spectrum([5.0, 4.5, 1.0, 1e-3], 40, [10, 30, 2000, 500]),
    "cut": lambda: sa.Spectrum.linear_bands(2048, 1024),
}
RECORDED = ("step_size", "power_sums", "noise_sums", "cross_sums")


@pytest.fixture(params=[sa.Momentum(0.9), sa.Momentum(0.7, nesterov=True)], ids=["ball", "nag"])
def optimizer(request):
    return request.param


def problem_of(spectrum, batch=4, std=0.4, initial=1.0):
    return sa.Quadratic(spectrum, sa.DataNoise(batch, std), initial)


def edge(problem, optimizer, update="full"):
    return theory.stability(problem, 0.0, update=update, optimizer=optimizer).largest


@pytest.mark.parametrize(
    ("dtype", "update"),
    [("float64", "full"), ("float64", "dominant"), ("float64", (0.5, 1.7)), ("float32", "full")],
)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_step_is_reference(spectrum, rule, update, dtype, optimizer):
    for batch, std in ((1, 0.4), (32, 0.0)):
        problem = problem_of(SPECTRA[spectrum](), batch, std)
        size = RULES[rule](0.3 * edge(problem, optimizer, update))
        how = {"num_steps": 40, "seed": 5, "update": update, "dtype": dtype}
        plain, fast = (
            sa.simulate(problem, size, engine=engine, optimizer=optimizer, **how)
            for engine in ("reference", "step")
        )
        assert plain.status == fast.status == "complete"
        error = 1e-12 if rule in ("constant", "schedule") else 1e-9  # a rule returns errors
        np.testing.assert_allclose(fast.power_sums, plain.power_sums, rtol=error)
        np.testing.assert_allclose(fast.noise_sums, plain.noise_sums, rtol=error)
        scale = np.abs(plain.cross_sums).max(0)  # those of c v cancel
        assert (np.abs(fast.cross_sums - plain.cross_sums) <= error * scale).all()
        np.testing.assert_allclose(fast.step_size, plain.step_size, rtol=1e-9)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("rule", RULES)
def test_no_way_of_running_changes_a_bit(rule, dtype, optimizer, tmp_path):
    problem = problem_of(sa.Spectrum.linear_bands(60_000, 3000), 8)
    how = {"optimizer": optimizer, "dtype": dtype, "seed": 2}
    size = RULES[rule](0.3 * edge(problem, optimizer))
    trace = sa.simulate(problem, size, 40, num_threads=1, **how)
    assert_same_bits(sa.simulate(problem, size, 40, num_threads=2, **how), trace)
    fifth = sa.simulate(problem, size, 40, record_every=5, **how)
    assert_same_bits(fifth, trace, slice(None, None, 5))
    engine = make_engine(Run(problem, size, 40, **how))
    rows = [engine.initial_row(), *(engine.advance(n) for n in (1, 7, 0, 32))]
    sink = MemoryTrace(engine.run)
    for row in rows:
        sink.append(row)
    sink.finish("complete")
    assert_same_bits(sink.trace(), trace)
    together = sa.simulate_ensemble(
        problem, [size], 40, seeds=[2], optimizer=optimizer, dtype=dtype
    )
    assert_same_bits(together[0], trace)
    stored = sa.simulate(problem, size, 40, path=tmp_path / "a.h5", **how)
    assert stored == trace == sa.load_trace(tmp_path / "a.h5")


@pytest.mark.parametrize("rule", ["constant", "schedule", "online"])
def test_runs_are_resumed_at_a_checkpoint(rule, optimizer, tmp_path, monkeypatch):
    problem, path = problem_of(SPECTRA["bands"](), 3), tmp_path / "a.h5"
    how = {"optimizer": optimizer, "record_every": 3}
    size = RULES[rule](0.3 * edge(problem, optimizer))
    trace = sa.simulate(problem, size, 40, **how)
    driver = __import__("sys").modules["suspalign_fast.driver"]
    monkeypatch.setattr(driver, "_bounded", lambda stretch, engine: min(10, stretch))
    count = itertools.count()
    real = driver._Signals.__enter__

    def stopped(self):
        entered = real(self)
        entered.received = 15 if next(count) == 0 else None
        return entered

    monkeypatch.setattr(driver._Signals, "__enter__", stopped)
    with pytest.raises(sa.Interrupted):
        sa.simulate(problem, size, 40, path=path, checkpoint_every=1e-9, **how)
    assert 0 < len(sa.load_trace(path)) < len(trace)
    assert_same_bits(sa.resume(path), trace)


def test_a_snapshot_is_all_there_is(optimizer):
    problem = problem_of(SPECTRA["levels"](), 3)
    run = Run(problem, sa.OnlineCriticalStep(0.5), 40, seed=9, optimizer=optimizer)
    whole, first, second = make_engine(run), make_engine(run), make_engine(run)
    whole.initial_row()
    expected = whole.advance(40)
    first.initial_row()
    first.advance(17)
    second.restore({name: np.array(values) for name, values in first.snapshot().items()})
    found = second.advance(23)
    for column in RECORDED:
        np.testing.assert_array_equal(getattr(found, column), getattr(expected, column)[17:])


@pytest.mark.parametrize("update", ["full", (0.5, 1.7)])
@pytest.mark.parametrize("name", ["levels", "small"])
def test_expectations_are_those_of_many_runs(name, update, optimizer):
    problem, runs = problem_of(SPECTRA[name](), 4, 0.3), 1500
    eta, times = 0.3 * edge(problem, optimizer, update), [0, 1, 2, 10, 60]
    how = {"update": update, "optimizer": optimizer}
    exact = theory.expected(problem, eta, times, **how)
    traces = sa.simulate_ensemble(
        problem, eta, 60, seeds=range(runs), record_at=times, engine="step", **how
    )
    for column in ("loss", "loss_dominant", "loss_bulk", "grad_sq_dominant", "grad_sq_bulk"):
        values = np.array([trace[column] for trace in traces])
        error = values.std(0) / math.sqrt(runs)
        z = (values.mean(0) - getattr(exact, f"{column}_mean")) / error
        assert (np.abs(z) < 4.5).all(), column


def test_caps_of_rules_are_half_of_the_edge_of_mini_batches(optimizer):
    problem = problem_of(SPECTRA["small"](), 1)
    cap = edge(problem, optimizer) / 2.0
    assert cap < optimizer.largest / 5.0 / 4.0  # far below that of additive noise
    for engine in ("step", "levels", "reference"):
        trace = sa.simulate(
            problem, sa.CriticalStep(100.0), 60, engine=engine, optimizer=optimizer, seed=1
        )
        assert trace.step_size.max() == pytest.approx(cap, rel=1e-12)


def test_a_state_at_the_optimum_stays_there(optimizer):
    spectrum = SPECTRA["levels"]()
    for initial in (np.zeros(spectrum.num_levels), 1e-170):
        problem = problem_of(spectrum, 4, 0.0, initial)
        for engine in ("step", "levels", "reference"):
            trace = sa.simulate(problem, 1e-4, 20, engine=engine, optimizer=optimizer)
            assert trace.status == "complete"
            assert (trace.loss == 0.0).all()
