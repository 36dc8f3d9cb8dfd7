"""The transition times of `phases.estimate` are those of the exact means."""

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast import theory


def random_problem(rng):
    """Return a problem of a few levels, and a step size; half within the theorem's condition."""
    counts = rng.integers(1, 5), rng.integers(1, 6)
    bulk = np.sort(10.0 ** rng.uniform(-3.0, 0.0, counts[1]))[::-1]
    top = 10.0 ** rng.uniform(0.05, 2.0)
    dominant = bulk[0] * top * np.sort(10.0 ** rng.uniform(0.0, 0.7, counts[0]))[::-1]
    lam = np.concatenate([dominant, bulk])
    many = [int(10.0 ** rng.uniform(0.0, 3.0)) for _ in lam]
    spectrum = sa.Spectrum(lam, sum(many[: counts[0]]), many)
    noise = [
        sa.IsotropicNoise(10.0 ** rng.uniform(-2.0, 1.0)),
        sa.HessianNoise(10.0 ** rng.uniform(-2.0, 1.0)),
        sa.DiagonalNoise(10.0 ** rng.uniform(-2.0, 1.0, lam.size)),
    ][rng.integers(3)]
    scale = 10.0 ** rng.uniform(-2.0, 4.0)
    initial = scale if rng.integers(2) else scale * 10.0 ** rng.uniform(-2.0, 2.0, lam.size)
    edge = 2.0 / lam[0]
    if rng.integers(2):
        edge = 2.0 / (lam[0] + bulk[0])
    return sa.Quadratic(spectrum, noise, initial), edge * rng.uniform(0.01, 0.99)


def failures(problem, step_size, fraction):
    """Return what of an estimate the exact means contradict."""
    found = sa.phases.estimate(problem, step_size, fraction=fraction)
    low, high = found.plateau_step
    target = fraction * theory.stationary(problem, step_size).alignment_mean
    near = [t for t in (found.minimum_step, low, high) if np.isfinite(t)]
    far = np.geomspace(1.0, 1e3 * max([1e6, *near]), 150)
    close = [t + i for t in near for i in (-1, 0, 1, 2)]
    steps = np.unique(np.concatenate([[0], far, np.maximum(close, 0)]).astype(np.int64))
    exact = theory.expected(
        problem, step_size, steps, columns=("grad_sq_dominant", "grad_sq_bulk")
    ).alignment_of_means
    rounding = 1e-12 * target
    said = []
    if np.isfinite(high):
        if (exact[steps >= high] < target - rounding).any():
            said.append("below after")
        if low < high and not exact[steps == low][0] < target + rounding:
            said.append("not below before")
    elif exact[-1] > target + 1e-9:
        said.append("reached")
    if np.isfinite(found.minimum_step):
        beside = (steps >= found.minimum_step - 1.0) & (steps <= found.minimum_step + 1.0)
        if exact.min() < exact[beside].min() * (1.0 - 1e-12):
            said.append("lower elsewhere")
    elif exact[-1] > exact.min() * (1.0 + 1e-9):
        said.append("rises after all")
    return said


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2))
def test_exact_means_are_never_outside(seed):
    rng = np.random.default_rng(seed)
    for number in range(25):
        problem, step_size = random_problem(rng)
        assert failures(problem, step_size, rng.uniform(0.3, 0.99)) == [], (seed, number)


def first_step_for_good(problem, step_size, last):
    """Return the step from which on the exact odds are at 95 % of the plateau."""
    exact = theory.expected(problem, step_size, np.arange(last + 1)).alignment_of_means
    target = 0.95 * theory.stationary(problem, step_size).alignment_mean
    return int(np.flatnonzero(exact < target)[-1]) + 1


@pytest.mark.long
def test_the_plateau_may_come_late():
    problem = sa.Quadratic(sa.Spectrum([10.0, 1.0, 0.02], 1), sa.IsotropicNoise(0.1), 100.0)
    found = sa.phases.estimate(problem, 0.05)
    when = first_step_for_good(problem, 0.05, 6_000)
    assert found.plateau_step == (when - 1, when)
    assert when > 4_000  # the bulk's gradient is in the slow direction by then


@pytest.mark.parametrize(("initial", "when"), [(10.0, 23_869), (1e3, 100_635)])
def test_flat_directions_decide(initial, when):
    spectrum = sa.Spectrum([100.0, 1.0, 0.02], 20, [20, 400, 30])
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial)
    low, high = sa.phases.estimate(problem, 0.003).plateau_step
    assert high == low + 1.0
    target = 0.95 * theory.stationary(problem, 0.003).alignment_mean
    before, after = theory.expected(problem, 0.003, [int(low), int(high)]).alignment_of_means
    assert before < target <= after
    assert high == pytest.approx(when, rel=0.01)


def test_both_times_are_zero_where_nothing_has_to_relax():
    spectrum = sa.Spectrum([10.0, 1.0], 1)
    rest = np.sqrt(0.1 / (np.array([10.0, 1.0]) * (2.0 - 0.1 * np.array([10.0, 1.0]))))
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(1.0), rest)
    assert sa.phases.estimate(problem, 0.1) == (0.0, (0.0, 0.0))


def test_odds_that_only_rise_have_their_minimum_at_the_start():
    problem = sa.Quadratic(sa.Spectrum([10.0, 1.0], 1), sa.IsotropicNoise(1.0), [0.0, 30.0])
    found = sa.phases.estimate(problem, 0.05)
    assert found.minimum_step == 0.0
    when = first_step_for_good(problem, 0.05, 1_000)
    assert found.plateau_step == (when - 1, when)


@pytest.mark.parametrize("stds", [[0.0, 0.0], [0.0, 1.0]])
def test_without_noise_in_the_dominant_band_odds_fall_for_ever(stds):
    problem = sa.Quadratic(sa.Spectrum([10.0, 1.0], 1), sa.DiagonalNoise(stds), 3.0)
    assert sa.phases.estimate(problem, 0.05) == (np.inf, (np.inf, np.inf))


def test_a_dominant_direction_may_be_gone_after_one_step():
    problem = sa.Quadratic(sa.Spectrum([10.0, 1.0], 1), sa.IsotropicNoise(0.1), 30.0)
    found = sa.phases.estimate(problem, 0.1)
    assert 0.0 < found.minimum_step <= 1.0
    when = first_step_for_good(problem, 0.1, 1_000)
    assert found.plateau_step == (when - 1, when)


def test_squares_past_the_largest_number_are_not_known():
    problem = sa.Quadratic(sa.Spectrum([10.0, 1.0], 1), sa.IsotropicNoise(0.1), 1e170)
    assert np.isnan([sa.phases.estimate(problem, 0.1).minimum_step]).all()


def test_many_levels_cost_no_more():
    problem = sa.Quadratic(sa.Spectrum.power_law(10**6, 10, 1.0), sa.IsotropicNoise(0.1), 50.0)
    low, high = sa.phases.estimate(problem, 0.5, fraction=0.9).plateau_step
    target = 0.9 * theory.stationary(problem, 0.5).alignment_mean
    before, after = theory.expected(problem, 0.5, [int(low), int(high)]).alignment_of_means
    assert before < target <= after


def test_odds_that_start_from_nothing():
    problem = sa.Quadratic(sa.Spectrum([10.0, 1.0], 1), sa.IsotropicNoise(0.1), 0.0)
    found = sa.phases.estimate(problem, 0.1)
    exact = theory.expected(problem, 0.1, np.arange(1, 200)).alignment_of_means
    assert (np.diff(exact) <= 1e-12).all()
    assert found == (np.inf, (0.0, 0.0))
