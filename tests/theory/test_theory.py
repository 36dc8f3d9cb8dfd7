"""Exact theory against high-precision quadrature, simulation and itself."""

import mpmath
import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast import theory
from suspalign_fast.kernels.ratio import ratio_moments


def quadrature(v, m_sq, count, split):
    """Mean and deviation of D / (D + B) by mpmath, formulas of docs/model.md, section 3."""
    levels = [tuple(map(mpmath.mpf, level)) for level in zip(v, m_sq, count, strict=True)]
    total = sum(n * (a + b) for a, b, n in levels)
    levels = [(a / total, b / total, n) for a, b, n in levels]

    def log_m(s):
        return -sum(
            n * (mpmath.log1p(2 * s * a) / 2 + s * b / (1 + 2 * s * a)) for a, b, n in levels
        )

    def first(s):
        return sum(
            n * (a / (1 + 2 * s * a) + b / (1 + 2 * s * a) ** 2) for a, b, n in levels[:split]
        )

    def second(s):
        return sum(
            n * (2 * a**2 / (1 + 2 * s * a) ** 2 + 4 * b * a / (1 + 2 * s * a) ** 3)
            for a, b, n in levels[:split]
        )

    def mean(x):
        s = mpmath.exp(x)
        return mpmath.exp(x + log_m(s)) * first(s)

    def mean_square(x):
        s = mpmath.exp(x)
        return mpmath.exp(2 * x + log_m(s)) * (first(s) ** 2 + second(s))

    with mpmath.workdps(40):
        cuts = [-100, *range(-40, 80, 4), 120]
        mu, square = (mpmath.quad(f, cuts) for f in (mean, mean_square))
        return float(mu), float(mpmath.sqrt(square - mu**2))


CASES = {
    "two directions": ([1.0, 1.0], [0.0, 0.0], [1, 1], 1),
    "tiny alignment": ([1e-12, 1.0], [0.0, 0.0], [1, 3], 1),
    "within 1e-9 of one": ([1.0, 1e-9], [0.0, 0.0], [3, 1], 1),
    "means": ([2.0, 0.3, 0.1], [0.1, 3.0, 0.0], [1, 2, 5], 1),
    "tiny with means": ([1e-13, 0.5, 0.2], [1e-12, 0.0, 1.0], [1, 1, 40], 1),
    "fixed dominant part": ([0.0, 1.0], [2.0, 0.0], [1, 10], 1),
    "silent level": ([0.0, 1.0, 0.0], [0.0, 0.5, 1.0], [4, 3, 2], 2),
    "large multiplicity": ([1e-3, 1e-9], [0.0, 0.0], [1000, 10**12], 1),
}


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_ratio_moments_agree_with_quadrature(name):
    v, m_sq, count, split = CASES[name]
    dominant, bulk, variance = ratio_moments(*(np.array(x, float) for x in (v, m_sq, count)), split)
    mean, std = quadrature(v, m_sq, count, split)
    assert dominant == pytest.approx(mean, rel=1e-12, abs=0)
    assert dominant + bulk == pytest.approx(1.0, abs=1e-13)
    assert np.sqrt(variance) == pytest.approx(std, rel=1e-9, abs=0)


def test_series_of_small_levels_agrees_with_the_direct_sum():
    rng = np.random.default_rng(0)
    v, m_sq = rng.uniform(0, 1, 120) ** 4, rng.uniform(0, 1, 120) ** 2
    few = ratio_moments(v, m_sq, np.full(120, 30.0), 20)
    order = np.repeat(np.arange(120), 30)
    many = ratio_moments(v[order], m_sq[order], np.ones(3600), 600)
    np.testing.assert_allclose(many, few, rtol=1e-12)


def test_without_gradient_or_noise_there_is_no_alignment():
    assert np.isnan(ratio_moments(np.zeros(2), np.zeros(2), np.ones(2), 1)).all()


def test_published_value_of_the_design():
    bulk = np.linspace(7, 1, 450) * 80 / 10.1 / 7
    spectrum = sa.Spectrum(np.concatenate([np.linspace(100, 80, 50), bulk]), 50)
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.5))
    final = theory.stationary(problem, 3e-3)
    assert final.alignment_mean == pytest.approx(0.71160, abs=1e-5)
    assert final.alignment_std == pytest.approx(0.04416, abs=1e-5)


@pytest.fixture(params=[0.0, 2.0, "given"])
def problem(request, noise):
    lam = np.array([20.0, 10.0, 3.0, 1.0, 0.5, 0.0])
    initial = (
        np.array([1.0, -2.0, 3.0, 0.0, 2.0, 1.0]) if request.param == "given" else request.param
    )
    return sa.Quadratic(sa.Spectrum(lam, 2), noise(6), initial=initial)


@pytest.mark.parametrize("eta", [0.01, 0.05, 0.1])  # eta * lambda = 1 and 2 among them
def test_a_constant_schedule_equals_the_constant(problem, eta):
    steps = [0, 1, 2, 7, 30]
    constant = theory.expected(problem, eta, steps)
    schedule = theory.expected(problem, np.full(30, eta), steps)
    for name in theory.MOMENTS:
        actual, expected = getattr(constant, name), getattr(schedule, name)
        np.testing.assert_allclose(actual, expected, rtol=1e-9, err_msg=name)


@pytest.mark.long
def test_moments_agree_with_many_simulated_runs(problem):
    eta = np.linspace(0.01, 0.06, 12)
    runs = [sa.simulate(problem, eta, 12, seed=seed) for seed in range(2000)]
    exact = theory.expected(problem, eta, [1, 3, 12], update="full")
    for name in ("alignment", "loss", "loss_dominant", "loss_bulk"):
        sampled = np.stack([run[name][[1, 3, 12]] for run in runs])
        mean, std = getattr(exact, f"{name}_mean"), getattr(exact, f"{name}_std")
        error = 5 * std / np.sqrt(len(runs)) + 1e-12
        assert (np.abs(sampled.mean(0) - mean) < error).all(), name
        np.testing.assert_allclose(sampled.std(0), std, rtol=0.2, atol=1e-12, err_msg=name)


def test_long_times_reach_the_stationary_state():
    problem = sa.Quadratic(sa.Spectrum([3.0, 1.0, 0.2], 40, [40, 500, 1000]), sa.HessianNoise(0.4))
    late, final = theory.expected(problem, 0.1, 10**6), theory.stationary(problem, 0.1)
    for name in theory.MOMENTS:
        assert getattr(late, name)[0] == pytest.approx(getattr(final, name), rel=1e-10), name


def test_variance_keeps_its_digits_near_the_edge_of_stability_and_at_tiny_curvature():
    eta, steps = 0.5, 10**6
    for x in (1e-14, 1e-9, 1.0, 1.0 + 1e-12, 2.0 - 2**-40, 2.0):
        spectrum = sa.Spectrum([8.0, x / eta], 1)
        problem = sa.Quadratic(spectrum, sa.DiagonalNoise([0.0, 1.0]), initial=0.0)
        exact = theory.expected(problem, eta, steps)
        with mpmath.workdps(60):
            lam = mpmath.mpf(float(spectrum.eigenvalues[1]))
            a_sq = (1 - mpmath.mpf(eta) * lam) ** 2
            growth = steps if a_sq == 1 else (1 - a_sq**steps) / (1 - a_sq)
            expected = float(lam * mpmath.mpf(eta) ** 2 * growth / 2)
        assert exact.loss_bulk_mean[0] == pytest.approx(expected, rel=1e-8), x


@pytest.mark.long
@pytest.mark.parametrize("update", ["dominant", "bulk", (0.5, 2.0)])
def test_weights_of_the_update(update):
    spectrum = sa.Spectrum([3.0, 1.0], 3, [3, 50])
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.4))
    exact = theory.expected(problem, 0.1, 5, update=update)
    runs = [sa.simulate(problem, 0.1, 5, seed=seed, update=update) for seed in range(500)]
    for name in ("loss_dominant", "loss_bulk"):
        mean, std = getattr(exact, f"{name}_mean")[0], getattr(exact, f"{name}_std")[0]
        assert abs(np.mean([run[name][-1] for run in runs]) - mean) < 5 * std / np.sqrt(500)


def test_a_trillion_dimensions_cost_what_their_levels_cost():
    problem = sa.Quadratic(sa.Spectrum.two_level(10**12, 10**9, 10.0, 1.0), initial=5.0)
    exact = theory.expected(problem, 0.05, [0, 10, 100, 1000])
    assert np.isfinite(exact.alignment_mean).all()
    assert (exact.alignment_std < 1e-4).all()


@pytest.mark.long
def test_next_alignment_agrees_with_simulated_steps():
    rng = np.random.default_rng(3)
    spectrum = sa.Spectrum.linear_bands(60, 4, (10.0, 8.0), (2.0, 0.5))
    c = rng.normal(size=60)
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(1.0), initial=c)
    mean, std = theory.expected_next_alignment(problem, c, 0.05)
    sampled = [sa.simulate(problem, 0.05, 1, seed=seed).alignment[1] for seed in range(2000)]
    assert abs(np.mean(sampled) - mean) < 5 * std / np.sqrt(2000)
    assert np.std(sampled) == pytest.approx(std, rel=0.1)


def test_exact_critical_step_size_is_close_to_the_closed_form_in_many_dimensions():
    spectrum = sa.Spectrum.linear_bands(20_000, 2_000, (10.0, 8.0), (2.0, 0.5))
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(1.0), initial=1.0)
    rng = np.random.default_rng(0)
    c = rng.normal(size=20_000) * np.where(np.arange(20_000) < 2_000, 0.2, 1.0)
    closed = sa.simulate(sa.Quadratic(spectrum, problem.noise, c), 1e-3, 0).critical_step_size[0]
    exact = theory.exact_critical_step_size(problem, c)
    assert exact == pytest.approx(closed, rel=1e-3)
    now = theory.expected_next_alignment(problem, c, 0.0)[0]
    assert theory.expected_next_alignment(problem, c, 0.9 * exact)[0] < now
    assert theory.expected_next_alignment(problem, c, 1.1 * exact)[0] > now


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0])
def test_exact_critical_step_size_is_a_root_however_small(scale):
    problem = sa.Quadratic(sa.Spectrum.two_level(100, 10, 1.0, 0.1), sa.IsotropicNoise(1.0))
    c = [scale, 100.0]
    root = theory.exact_critical_step_size(problem, c)
    assert 0.0 < root < 1.0
    now = theory.expected_next_alignment(problem, c, 0.0)[0]
    assert theory.expected_next_alignment(problem, c, 0.5 * root)[0] < now
    assert theory.expected_next_alignment(problem, c, 2.0 * root)[0] > now


def test_exact_critical_step_size_is_infinite_where_self_correcting():
    spectrum = sa.Spectrum([2.0, 1.0], 10, [10, 1000])
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(1.0))
    assert theory.exact_critical_step_size(problem, [1000.0, 0.1]) == np.inf


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: theory.stationary(p, 1.0), "below 2 / lambda = 1.0 .* got 1.0"),
        (lambda p: theory.stationary(p, 0.1, update="bulk"), "positive in both parts"),
        (lambda p: theory.stationary(p, -0.1), "step_size must be a finite number above zero"),
        (lambda p: theory.expected(p, 0.1, [-1]), "steps must be integers of at least 0"),
        (lambda p: theory.expected(p, 0.1, [1.5]), "steps must be integers"),
        (lambda p: theory.expected(p, [0.1] * 3, [4]), "within the schedule of 3 steps, got 4"),
        (lambda p: theory.expected(p, sa.CriticalStep(1.0), [1]), "known in advance"),
        (lambda p: theory.expected("problem", 0.1, [1]), "problem must be a Quadratic"),
        (lambda p: theory.exact_critical_step_size(p, [1.0]), "coefficients must be an array"),
    ],
)
def test_bad_input_is_named(call, message):
    problem = sa.Quadratic(sa.Spectrum([2.0, 1.0], 1))
    with pytest.raises(ValueError, match=message):
        call(problem)


@pytest.mark.long
@pytest.mark.parametrize("directions", [2, 3, 4, 5])
@pytest.mark.parametrize("share", [1e-18, 1e-30, 1e-60])
def test_deviation_of_a_tiny_share_of_few_directions(directions, share):
    """Its integral lasts until s is 1 / share, long after that of the whole has ended.

    With D = share chi2_1 and B = chi2_(n-1), D / B is a ratio of them: E[(D/T)^2] is the integral
    of (x / (1 + x))^2 over its law, share^2 E[1/B^2] 3 where that is finite.
    """
    bulk = directions - 1
    v = np.r_[share, np.ones(bulk)]
    _, _, variance = ratio_moments(v, np.zeros(directions), np.ones(directions), 1)

    def density(t):  # of ln(D / (share B)) for chi-squares with 1 and `bulk` degrees of freedom
        half = mpmath.mpf(bulk) / 2
        f = mpmath.exp(t / 2) / (1 + mpmath.exp(t)) ** (mpmath.mpf(1) / 2 + half)
        return f / mpmath.beta(mpmath.mpf(1) / 2, half)

    with mpmath.workdps(40):
        cuts = list(range(-200, 400, 4))
        x = mpmath.mpf(share)
        mean, square = (
            mpmath.quad(lambda t, p=p: density(t) / (1 + mpmath.exp(-t) / x) ** p, cuts)
            for p in (1, 2)
        )
        expected = float(mpmath.sqrt(square - mean**2))
    assert np.sqrt(variance) == pytest.approx(expected, rel=1e-6, abs=0)


def test_loss_deviation_does_not_overflow_before_the_loss():
    problem = sa.Quadratic(sa.Spectrum([2.0, 1.0], 1), sa.IsotropicNoise(1.0), initial=1e80)
    small = sa.Quadratic(sa.Spectrum([2.0, 1.0], 1), sa.IsotropicNoise(1e-80), initial=1.0)
    large, unit = (sa.theory.expected(p, 0.1, [0, 1, 5]) for p in (problem, small))
    for name in ("loss_mean", "loss_std", "loss_dominant_std", "loss_bulk_std"):
        np.testing.assert_allclose(getattr(large, name), 1e160 * getattr(unit, name), rtol=1e-12)


def test_theory_is_silent_past_divergence():
    """Losses are infinite there and alignments NaN; warnings are errors in these tests."""
    spectrum = sa.Spectrum([3.0, 1.0, 0.0], 1)
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=[1, 0, 1])
    for step_size in (5.0, np.full(2_000, 5.0)):
        exact = sa.theory.expected(problem, step_size, [1, 10, 700, 2_000])
        assert np.isfinite(exact.loss_mean[:2]).all()
        assert np.isinf(exact.loss_mean[-1])
        assert np.isinf(exact.loss_std[-1])
        assert np.isinf(exact.grad_sq_dominant_mean[-1])
        assert np.isnan(exact.alignment_mean[-1])
    still = sa.Quadratic(sa.Spectrum([3.0, 1.0], 1), sa.IsotropicNoise(0.0), initial=[0.0, 1.0])
    exact = sa.theory.expected(still, 1.0, [0, 5, 5_000])
    assert exact.loss_dominant_mean.tolist() == [0.0, 0.0, 0.0]
    # The last step sets to zero what has overflowed.
    schedule = np.r_[np.full(2_000, 5.0), 0.25]
    quiet = sa.Quadratic(sa.Spectrum([4.0, 0.0], 1), sa.IsotropicNoise(0.0), [1.0, 1.0])
    assert sa.theory.expected(quiet, schedule, 2_001).loss_mean[0] == 0.0
