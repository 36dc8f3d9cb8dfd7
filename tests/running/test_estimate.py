"""Moments of many runs, against exact ones."""

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast import theory

SPECTRUM = sa.Spectrum([5.0, 4.0, 1.0, 0.2], 12, [4, 8, 100, 40])


@pytest.mark.long
def test_moments_are_the_exact_ones():
    problem, times = sa.Quadratic(SPECTRUM, sa.IsotropicNoise(0.5)), [30, 0, 1, 200]
    found = sa.estimate(problem, 0.05, times, runs=2000)
    exact = theory.expected(problem, 0.05, times)
    assert found.step.tolist() == times
    assert found.stability == exact.stability
    for name in theory.MOMENTS:
        a, b = getattr(found, name), getattr(exact, name)
        if name.endswith("_mean"):
            std = getattr(exact, name.replace("_mean", "_std"), None)
            tolerance = 4.5 * std / np.sqrt(2000) if std is not None else 0.02 * b
        else:
            tolerance = 0.1 * b
        assert (np.abs(a - b) <= tolerance + 1e-12).all(), name


@pytest.mark.long
def test_what_has_no_closed_form():
    problem = sa.Quadratic(SPECTRUM, sa.DataNoise(64, 0.5))
    found = sa.estimate(problem, 0.01, [0, 5, 50], runs=400, seed=7)
    exact = theory.expected(problem, 0.01, [0, 5, 50])
    error = found.loss_std / np.sqrt(400)
    assert (np.abs(found.loss_mean - exact.loss_mean) < 4.5 * error).all()
    assert ((found.alignment_mean > 0.0) & (found.alignment_mean < 1.0)).all()
    # Levels and steps have the same law.
    steps = sa.estimate(problem, 0.01, [0, 5, 50], runs=400, seed=9_000, engine="step")
    spread = np.hypot(found.alignment_std, steps.alignment_std) / np.sqrt(400)
    assert (np.abs(found.alignment_mean - steps.alignment_mean) < 4.5 * spread).all()


def test_rules_schedules_and_divergence():
    problem = sa.Quadratic(SPECTRUM, sa.IsotropicNoise(0.5))
    rule = sa.estimate(problem, sa.CriticalStep(0.9), 20, runs=10)
    assert rule.stability is None
    assert rule.loss_mean.shape == (1,)
    schedule = sa.estimate(problem, np.full(90, 0.05), [0, 60], runs=10)
    constant = sa.estimate(problem, 0.05, [0, 60], runs=10)
    np.testing.assert_allclose(schedule.loss_mean, constant.loss_mean, rtol=1e-9)
    gone = sa.estimate(problem, 50.0, [1, 900], runs=5)
    assert np.isfinite(gone.loss_mean[0])
    assert np.isposinf(gone.loss_mean[1])
    assert np.isnan(gone.alignment_mean[1])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"runs": 1}, "runs must be an integer of at least 2"),
        ({"steps": [-1]}, "steps must be integers of at least 0"),
        ({"steps": []}, "steps must be integers of at least 0"),
        ({"steps": [0.5]}, "steps must be integers of at least 0"),
        ({"seed": 2**64 - 5}, "seed must be an integer"),
    ],
)
def test_bad_input_is_named(how, message):
    problem = sa.Quadratic(SPECTRUM, sa.IsotropicNoise(0.5))
    with pytest.raises(ValueError, match=message):
        sa.estimate(problem, 0.05, **({"steps": [1], "runs": 10} | how))
