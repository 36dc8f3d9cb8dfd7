"""Mini-batches of data on a GPU against the CPU: on a real one, or on the one Numba simulates."""

import gc
import sys
import weakref

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast import theory
from suspalign_fast.engines import make_engine
from suspalign_fast.model.run import Run

from ..conftest import assert_same_bits
from ..running.test_resume import stop_after
from .test_gpu import (
    LONG,
    RTOL,
    assert_close,
    counting,
    failing,
    observing,
    some,
)

STEPS = 4
OPTIMIZERS = {
    "sgd": sa.SGD(),
    "ball": sa.Momentum(0.9),
    "nesterov": sa.Momentum(0.8, nesterov=True),
}
SPECTRA = {
    # More blocks of the plan in a band than a block of threads has teams, and edges.
    "many blocks": sa.Spectrum.linear_bands(3000, 1100),
    "levels": sa.Spectrum([5.0, 4.5, 1.0, 1e-3, 0.0], 20, [5, 15, 60, 30, 4]),
    "tiny": sa.Spectrum([3.0, 1.0], 1),
}
#: Rules for a size that is stable.
RULES = {
    "constant": lambda eta: eta,
    "schedule": lambda eta: np.linspace(eta, eta / 3.0, STEPS),
    "critical": lambda eta: sa.CriticalStep(0.9),
    "interval": lambda eta: sa.LossIntervalStep(0.5),
    "online": lambda eta: sa.OnlineCriticalStep(0.8),
    "function with a state": lambda eta: sa.RowStep(counting, state=[1.0]),
    "function of the noisy gradient": lambda eta: sa.RowStep(observing, observes=True),
}


def problem_of(spectrum="levels", batch=4, std=0.4, initial=3.0):
    return sa.Quadratic(SPECTRA[spectrum], sa.DataNoise(batch, std), initial)


def size_of(problem, rule="constant", optimizer="sgd"):
    found = theory.stability(problem, 0.0, optimizer=OPTIMIZERS[optimizer])
    return RULES[rule](0.3 * found.largest)


def compare(problem, step_size, optimizer="sgd", num_steps=STEPS, **arguments):
    """Run on both devices; return the trace of the GPU."""
    arguments = {"seed": 5, "optimizer": OPTIMIZERS[optimizer]} | arguments
    expected = sa.simulate(problem, step_size, num_steps, **arguments)
    actual = sa.simulate(problem, step_size, num_steps, **arguments, device="cuda")
    assert_close(actual, expected)
    if OPTIMIZERS[optimizer].has_velocity:  # sums of c v take both signs
        scale = np.abs(expected.cross_sums).max() + 1e-300
        assert np.abs(actual.cross_sums - expected.cross_sums).max() < RTOL * scale
    return actual


def engine_of(problem, rule="constant", optimizer="sgd", num_steps=STEPS, **options):
    options = {"device": "cuda", "seed": 5, "optimizer": OPTIMIZERS[optimizer]} | options
    size = sa.model.step_size.as_step_size(size_of(problem, rule, optimizer))
    return make_engine(Run(problem, size, num_steps, **options))


@pytest.mark.parametrize(
    ("rule", "optimizer"),
    some(
        ("constant", "sgd"),
        ("critical", "nesterov"),
        ("function of the noisy gradient", "sgd"),
        ("constant", "ball"),
        ("function of the noisy gradient", "nesterov"),
        *((rule, "sgd") for rule in ("schedule", "critical", "interval", "online")),
        ("function with a state", "sgd"),
        count=3,
    ),
)
def test_rows_agree_with_the_cpu(rule, optimizer):
    problem = problem_of()
    trace = compare(problem, size_of(problem, rule, optimizer), optimizer)
    assert trace.run.device == "cuda"
    assert len(trace) == STEPS + 1
    if rule == "function of the noisy gradient":
        assert np.ptp(trace.step_size) > 1e-5


@pytest.mark.parametrize("optimizer", some("ball", "sgd"))
def test_many_blocks_of_the_plan(optimizer):
    problem = problem_of("many blocks")
    compare(problem, size_of(problem, "online", optimizer), optimizer, 2)


@pytest.mark.parametrize(("batch", "std"), some((1, 0.4), (10**6, 0.0)))
def test_batches_of_any_size(batch, std):
    problem = problem_of("tiny", batch, std)
    compare(problem, size_of(problem))


def test_nothing_moves_where_every_residual_is_zero():
    problem = problem_of("levels", 4, 0.0, np.array([0.0, 0.0, 0.0, 0.0, 2.0]))
    trace = compare(problem, 1e-3, "ball", 2)
    assert not trace.power_sums.any()


@pytest.mark.parametrize(("optimizer", "update"), some(("sgd", (0.5, 1.7)), ("nesterov", "bulk")))
def test_weights_of_the_update(optimizer, update):
    compare(problem_of(), sa.CriticalStep(0.9), optimizer, update=update)


@pytest.mark.skipif(not LONG, reason="compiles for a minute (SUSPALIGN_LONG_TESTS=1)")
def test_a_float32_state():
    problem, optimizer = problem_of(), OPTIMIZERS["ball"]
    size = size_of(problem, "constant", "ball")
    trace = compare(problem, size, "ball", dtype="float32")
    double = sa.simulate(problem, size, STEPS, seed=5, optimizer=optimizer)
    assert abs(trace.power_sums[:, 0] / double.power_sums[:, 0] - 1.0).max() > 1e-9


def test_coefficients_and_velocities_agree():
    planes = []
    for device in ("cpu", "cuda"):
        made = engine_of(problem_of(), "constant", "ball", device=device)
        made.initial_row()
        made.advance(STEPS)
        planes.append(made.planes)
    for name, expected in planes[0].items():
        assert np.ptp(expected) > 0.0
        np.testing.assert_allclose(
            planes[1][name], expected, rtol=0, atol=10 * RTOL * np.abs(expected).max()
        )


def test_steps_beyond_32_bits():
    rows = []
    for device in ("cpu", "cuda"):
        engine = engine_of(problem_of(), num_steps=2**33, device=device)
        engine.restore(engine.snapshot() | {"step": np.array(2**32 - 2)})
        rows.append(engine.advance(4))
    np.testing.assert_allclose(rows[1].power_sums, rows[0].power_sums, rtol=RTOL)


@pytest.mark.parametrize(
    ("rule", "optimizer"),
    some(("online", "ball"), ("schedule", "ball"), ("online", "sgd")),
)
def test_pieces_and_rows_change_no_bit(rule, optimizer):
    whole = engine_of(problem_of(), rule, optimizer)
    rows = [whole.initial_row(), whole.advance(STEPS)]
    expected = np.concatenate([r.power_sums for r in rows])
    again = engine_of(problem_of(), rule, optimizer, record_at=[1, 2, 4])
    pieces = [again.initial_row(), *(again.advance(n) for n in (1, 0, 2, 1))]
    some = np.concatenate([r.power_sums for r in pieces])
    assert some.tobytes() == expected[[0, 1, 2, 4]].tobytes()
    for name, values in whole.snapshot().items():
        assert values.tobytes() == again.snapshot()[name].tobytes()


@pytest.mark.parametrize(
    ("first", "second", "rule", "optimizer"),
    some(
        ("cuda", "cuda", "online", "ball"),
        ("cpu", "cuda", "online", "sgd"),
        ("cuda", "cpu", "constant", "nesterov"),
        count=2,
    ),
)
def test_a_run_goes_on(first, second, rule, optimizer, tmp_path, monkeypatch):
    problem, path = problem_of(), tmp_path / "trace.h5"
    size = size_of(problem, rule, optimizer)
    arguments = {"seed": 5, "optimizer": OPTIMIZERS[optimizer]}
    whole = sa.simulate(problem, size, 6, **arguments, device=second)
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["suspalign_fast.running.driver"], "FIRST_NUMBERS", 1)
        stop_after(patch, 2)
        with pytest.raises(sa.Interrupted):
            sa.simulate(problem, size, 6, **arguments, device=first, path=path)
    assert 1 < len(sa.load_trace(path)) < 7
    trace = sa.resume(path, device=second)
    assert trace.run.device == second
    (assert_same_bits if first == second else assert_close)(trace, whole)


@pytest.mark.parametrize(
    ("rule", "optimizer"), some((1e80, "ball"), (sa.CriticalStep(1e80, max_step=1e80), "sgd"))
)
@pytest.mark.filterwarnings("ignore:step size:suspalign_fast.running.driver.UnstableWarning")
def test_divergence(rule, optimizer):
    arguments = {"seed": 5, "num_steps": STEPS, "optimizer": OPTIMIZERS[optimizer]}
    expected = sa.simulate(problem_of(), rule, **arguments)
    actual = sa.simulate(problem_of(), rule, **arguments, device="cuda")
    assert actual.status == expected.status == "diverged"
    assert_close(actual, expected)
    assert 0 < len(actual) < STEPS


def test_a_rule_that_fails_keeps_the_rows_before(tmp_path):
    path = tmp_path / "trace.h5"
    with pytest.raises(ValueError, match=r"finite numbers of at least zero, got nan at step 5"):
        sa.simulate(problem_of("tiny"), failing, 6, device="cuda", path=path)
    np.testing.assert_array_equal(sa.load_trace(path).step, range(6))


def test_an_engine_is_freed_when_it_is_dropped():
    dropped = engine_of(problem_of("tiny"))
    gc.disable()
    try:
        seen = weakref.ref(dropped)
        del dropped
        assert seen() is None
    finally:
        gc.enable()


def test_other_engines_stay_on_the_cpu_or_refuse():
    for engine, message in (("jump", "depends on the state"), ("levels", "must be 'cpu'")):
        with pytest.raises(ValueError, match=message):
            sa.simulate(problem_of(), 1e-3, 5, engine=engine, device="cuda")
