import numpy as np
import pytest

import suspalign_fast as sa


@pytest.fixture
def problem():
    return sa.Quadratic(sa.Spectrum.linear_bands(200, 10), sa.IsotropicNoise(0.5), initial=1.0)


def test_a_trace_has_every_column(problem):
    trace = sa.simulate(problem, 1e-3, 10, record_every=3)
    assert len(trace) == 4
    assert trace.step.tolist() == [0, 3, 6, 9]
    assert trace.step.dtype == np.int64
    assert (trace.step_size == 1e-3).all()
    assert trace.power_sums.shape == (4, 2, 4)
    assert trace.noise_sums.shape == (4, 2, 3)
    np.testing.assert_array_equal(trace.loss, trace.loss_dominant + trace.loss_bulk)
    np.testing.assert_array_equal(trace["alignment"], trace.alignment)
    assert trace.status == "complete"
    assert trace.spec["num_steps"] == 10
    assert "200" in repr(trace)
    with pytest.raises(KeyError, match="no column 'magic'"):
        trace["magic"]


def test_noise_sums_are_those_of_the_model():
    spectrum = sa.Spectrum.linear_bands(200, 10)
    trace = sa.simulate(sa.Quadratic(spectrum, sa.IsotropicNoise(0.5)), 1e-3, 5)
    np.testing.assert_allclose(trace.noise_sums[..., 0], 0.25 * trace.power_sums[..., 3])
    trace = sa.simulate(sa.Quadratic(spectrum, sa.HessianNoise(0.5)), 1e-3, 5)
    assert (trace.noise_sums[..., 0] != 0.25 * trace.power_sums[..., 3]).all()


def test_zero_steps_record_the_initial_state(problem):
    trace = sa.simulate(problem, 1e-3, 0)
    assert trace.step.tolist() == [0]
    assert trace.status == "complete"


def test_without_noise_it_is_gradient_descent():
    lam = np.array([3.0, 1.0, 0.5])
    start = np.array([1.0, -2.0, 3.0])
    problem = sa.Quadratic(sa.Spectrum(lam, 1), sa.IsotropicNoise(0.0), initial=start)
    trace = sa.simulate(problem, 0.1, 50)
    c = start * (1 - 0.1 * lam) ** np.arange(51)[:, None]
    np.testing.assert_allclose(trace.loss, 0.5 * (lam * c**2).sum(1), rtol=1e-13)


@pytest.mark.parametrize("engine", ["step", "reference"])
def test_divergence_keeps_the_finite_rows(engine, tmp_path):
    problem = sa.Quadratic(sa.Spectrum([1e3, 1.0], 1), initial=1.0)
    path = tmp_path / "trace.h5"
    trace = sa.simulate(problem, 1.0, 10_000, engine=engine)
    assert trace.status == "diverged"
    assert 10 < len(trace) < 1000
    for values in trace.columns().values():
        assert not np.isnan(values).any()
    assert np.isfinite(trace.power_sums).all()
    stored = sa.simulate(problem, 1.0, 10_000, engine=engine, path=path)
    assert stored.status == "diverged"
    assert len(stored) == len(trace)


def test_an_initial_state_that_overflows_gives_an_empty_trace():
    problem = sa.Quadratic(sa.Spectrum([1e300, 1.0], 1), initial=[1e100, 1.0])
    trace = sa.simulate(problem, 1e-3, 5)
    assert (trace.status, len(trace)) == ("diverged", 0)


def test_progress_bar_reaches_the_end(problem, capsys):
    sa.simulate(problem, 1e-3, 100, progress=True)
    assert "100%" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"problem": 3}, "problem must be a Quadratic, got 3"),
        ({"step_size": 0.0}, "step_size must be a finite number above zero, got 0.0"),
        ({"step_size": -1.0}, "step_size must be a finite number above zero, got -1.0"),
        ({"step_size": np.inf}, "step_size must be a finite number above zero, got inf"),
        ({"step_size": "big"}, "step_size must be a finite number above zero, got 'big'"),
        ({"step_size": [1e-3] * 9}, "one value a step, num_steps = 10, got 9 values"),
        ({"step_size": [1e-3] * 9 + [-0.5]}, r"must not be negative, got -0\.5 at step 9"),
        ({"step_size": [1e-3] * 9 + [np.nan]}, "step_size must be .* got nan at index 9"),
        ({"num_steps": -1}, "num_steps must be an integer of at least 0 .* got -1"),
        ({"num_steps": 1.5}, "num_steps must be an integer"),
        ({"seed": -1}, "seed must be an integer of at least 0"),
        ({"seed": 2**64}, "seed must be an integer of at least 0 and at most"),
        ({"record_every": 0}, "record_every must be an integer of at least 1"),
        (
            {"engine": "warp"},
            "engine must be one of 'step', 'jump', 'levels', 'reference', got 'warp'",
        ),
        ({"device": "tpu"}, "device must be one of"),
        ({"update": "half"}, "update must be 'full', 'dominant', 'bulk' or a pair"),
        ({"update": (1.0, -1.0)}, "update must be a finite number of at least zero, got -1.0"),
        ({"update": (1.0,)}, "update must be 'full'"),
        ({"num_threads": 0}, "num_threads must be an integer of at least 1"),
        ({"num_threads": 10**6}, "num_threads must be an integer of at least 1 and at most"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_written(problem, tmp_path, arguments, message):
    path = tmp_path / "trace.h5"
    with pytest.raises(ValueError, match=message):
        sa.simulate(
            **{"problem": problem, "step_size": 1e-3, "num_steps": 10, "path": path} | arguments
        )
    assert not path.exists()
