"""Momentum on a GPU against the CPU: on a real one, or on the one Numba simulates."""

import numpy as np
import pytest

import suspalign_fast as sa

from ..conftest import NOISES, assert_same_bits
from ..running.test_resume import stop_after
from .test_gpu import (
    RTOL,
    RULES,
    STEPS,
    assert_close,
    engine_of,
    engines_gpu,
    problem_of,
    some,
)

OPTIMIZERS = {"ball": sa.Momentum(0.9), "nesterov": sa.Momentum(0.8, nesterov=True)}
#: A cap far away, so that what is under it is seen.
CRITICAL = sa.CriticalStep(0.9, max_step=1.0)


def compare(problem, step_size, optimizer, num_steps=STEPS, **arguments):
    """Run on both devices; return the trace of the GPU."""
    arguments = {"seed": 5, "optimizer": OPTIMIZERS[optimizer]} | arguments
    expected = sa.simulate(problem, step_size, num_steps, **arguments)
    actual = sa.simulate(problem, step_size, num_steps, **arguments, device="cuda")
    assert_close(actual, expected)
    # Sums of c v take both signs: beside the size of what is added.
    size = np.sqrt(expected.power_sums[..., :1] * expected.cross_sums[..., 3:4])
    scale = np.abs(expected.cross_sums).max(axis=0) + size
    np.testing.assert_array_less(
        np.abs(actual.cross_sums - expected.cross_sums), RTOL * (scale + 1e-300)
    )
    return actual


@pytest.mark.parametrize(
    ("rule", "optimizer"),
    some(
        ("constant", "nesterov"),
        (CRITICAL, "nesterov"),
        ("function of the noisy gradient", "ball"),
        ("schedule", "ball"),
        ("online", "ball"),
        ("function with a state", "ball"),
        count=3,
    ),
)
def test_rows_agree_with_the_cpu(rule, optimizer):
    trace = compare(problem_of("levels"), RULES.get(rule, rule), optimizer)
    assert len(trace) == STEPS + 1
    assert np.abs(trace.cross_sums[1:]).min() > 0.0


@pytest.mark.parametrize("noise", some(*NOISES, count=2))
def test_every_noise_model(noise):
    compare(problem_of("tiny", noise), 3e-3, "ball", 5)


@pytest.mark.parametrize("rule", some(CRITICAL, 3e-3))
def test_weights_of_the_update(rule):
    compare(problem_of("levels"), rule, "nesterov", 5, update=(0.5, 2.0))


def test_a_float32_state():
    trace = compare(problem_of("levels"), 3e-3, "ball", 5, dtype="float32")
    arguments = {"seed": 5, "device": "cuda", "optimizer": OPTIMIZERS["ball"]}
    double = sa.simulate(problem_of("levels"), 3e-3, 5, **arguments)
    assert abs(trace.power_sums / double.power_sums - 1.0).max() > 1e-9


@pytest.mark.parametrize("optimizer", some(*OPTIMIZERS))
@pytest.mark.parametrize(
    ("spectrum", "rule", "recorded"),
    [
        ("distinct", "constant", {"record_every": 2}),
        ("levels", "schedule", {"record_at": [3, 11]}),
    ],
)
def test_jump_agrees_with_the_cpu(spectrum, rule, recorded, optimizer):
    compare(problem_of(spectrum, "hessian"), RULES[rule], optimizer, engine="jump", **recorded)


@pytest.mark.parametrize("engine", some("step", "jump"))
def test_coefficients_and_velocities_agree(engine):
    planes = []
    for device in ("cpu", "cuda"):
        made = engine_of(
            problem_of("levels"), device=device, engine=engine, optimizer=OPTIMIZERS["ball"]
        )
        made.advance(STEPS)
        planes.append(made.planes)
    assert list(planes[0]) == list(planes[1]) == ["state", "velocity"]
    for name, expected in planes[0].items():
        assert np.ptp(expected) > 0.0
        np.testing.assert_allclose(
            planes[1][name], expected, rtol=0, atol=1e-5 * np.abs(expected).max()
        )


@pytest.mark.parametrize("rule", some("function of the noisy gradient", "constant", "critical"))
def test_neither_pieces_nor_launches_change_a_bit(rule, monkeypatch):
    problem = problem_of("levels")
    whole = engine_of(problem, rule, optimizer=OPTIMIZERS["ball"])
    rows = [whole.initial_row(), whole.advance(STEPS)]
    expected = np.concatenate([r.cross_sums for r in rows])
    again = engine_of(problem, rule, optimizer=OPTIMIZERS["ball"])
    pieces = [again.initial_row(), *(again.advance(n) for n in (1, 6, 2, 2))]
    assert np.concatenate([r.cross_sums for r in pieces]).tobytes() == expected.tobytes()
    monkeypatch.setattr(engines_gpu, "TABLE_BYTES", 1)  # a launch a tile
    small = engine_of(problem, rule, optimizer=OPTIMIZERS["ball"])
    rows = [small.initial_row(), small.advance(STEPS)]
    assert np.concatenate([r.cross_sums for r in rows]).tobytes() == expected.tobytes()


@pytest.mark.parametrize("rule", some("constant", "critical"))
def test_recording_less_changes_no_bit(rule, tmp_path):
    arguments = {"seed": 5, "device": "cuda", "optimizer": OPTIMIZERS["ball"]}
    whole = sa.simulate(problem_of("tiny"), RULES[rule], STEPS, **arguments)
    some = sa.simulate(
        problem_of("tiny"),
        RULES[rule],
        STEPS,
        **arguments,
        record_at=[2, 3, 9],
        path=tmp_path / "a.h5",
    )
    assert_same_bits(some, whole, [0, 2, 3, 9])


@pytest.mark.parametrize(
    ("first", "second", "rule"),
    [("cpu", "cuda", "constant"), ("cuda", "cpu", "online")],
)
def test_a_run_goes_on_elsewhere(first, second, rule, tmp_path, monkeypatch):
    step_size = RULES[rule]
    arguments = {"seed": 5, "optimizer": OPTIMIZERS["nesterov"]}
    path = tmp_path / "trace.h5"
    whole = sa.simulate(problem_of("levels"), step_size, 40, **arguments)
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(sa.Interrupted):
            sa.simulate(problem_of("levels"), step_size, 40, **arguments, device=first, path=path)
    assert 1 < len(sa.load_trace(path)) < 41
    trace = sa.resume(path, device=second)
    assert trace.run.device == second
    assert_close(trace, whole)


@pytest.mark.parametrize("rule", some(1e80, sa.CriticalStep(1e80, max_step=1e80)))
def test_divergence(rule):
    arguments = {"seed": 5, "num_steps": STEPS, "optimizer": OPTIMIZERS["ball"]}
    expected = sa.simulate(problem_of("tiny"), rule, **arguments)
    actual = sa.simulate(problem_of("tiny"), rule, **arguments, device="cuda")
    assert actual.status == expected.status == "diverged"
    assert_close(actual, expected)
    assert 0 < len(actual) < STEPS
