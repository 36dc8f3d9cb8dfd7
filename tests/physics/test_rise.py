"""The chance that alignment rises, against Imhof's exact integral."""

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.claims.laws import StepLaw, make_probed
from suspalign_fast.kernels.tail import tails
from suspalign_fast.model.run import Run
from suspalign_fast.physics import formulas as physics
from suspalign_fast.physics.rise import chi_square_tail, probability_of_rise

from ..helpers.imhof import chance_above
from ..helpers.random_problems import NOISES, random_state


def test_imhof_s_integral_has_the_chances_of_known_laws():
    from scipy import stats

    one, none = np.ones(3), np.zeros(3)
    assert chance_above(one, one, none, 4.0) == pytest.approx(stats.chi2.sf(4.0, 3), abs=2e-6)
    noncentral = chance_above(one, one, np.array([1.0, 4.0, 0.0]), 4.0)
    assert noncentral == pytest.approx(stats.ncx2.sf(4.0, 3, 5.0), abs=2e-6)
    factors = np.array([1.0, -2.0, -2.0])
    assert chance_above(factors, one, none) == pytest.approx(stats.f.sf(4.0, 1, 2), abs=1e-6)


def steps(noise, count, num_dominant, multiples, seed=0):
    """Yield (problem, row, eta) at multiples of the critical step size of random states."""
    rng = np.random.default_rng(seed)
    while count:
        problem, _ = random_state(rng, noise, num_dominant)
        row = sa.simulate(problem, 1e-3, 0)
        critical = float(row.critical_step_size[0])
        if 0.0 < critical < np.inf:
            count -= 1
            for multiple in multiples:
                yield problem, row, multiple * critical


def exact_and_predicted(problem, row, eta):
    lam, c, k = problem.spectrum.eigenvalues, problem.initial, problem.spectrum.num_dominant
    before = row.power_sums[0, :, 1]
    factors = np.where(np.arange(lam.size) < k, 1.0 / before[0], -1.0 / before[1])
    m_sq, v = ((1.0 - eta * lam) * lam * c) ** 2, (eta * lam * problem.stds) ** 2
    arguments = row.power_sums[0], row.noise_sums[0], row.constants, eta
    predicted = physics.predict_alignment(*arguments, shape=problem.noise_shape)
    return chance_above(factors, v, m_sq), float(predicted.probability), float(predicted.z)


#: Largest error of any case by number of dominant directions, and mean error.
BOUNDS = {1: (0.1, 0.008), 2: (0.1, 0.008), 20: (0.02, 0.003), 200: (0.02, 0.003)}


@pytest.mark.long
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("k", [1, 2, 20])
def test_probability_is_close_to_exact(noise, k):
    found = np.array(
        [exact_and_predicted(*step)[:2] for step in steps(noise, 12, k, (0.5, 0.9, 1.0, 1.1, 2.0))]
    )
    errors = np.abs(found[:, 1] - found[:, 0])
    largest, mean = BOUNDS[k]
    assert errors.max() < (largest if noise != "diagonal" else 2.0 * largest)
    assert errors.mean() < (mean if noise != "diagonal" else 2.0 * mean)


@pytest.mark.long
def test_probability_at_the_critical_step_size_is_not_a_half():
    found = np.array([exact_and_predicted(*s)[:2] for s in steps("isotropic", 25, 1, (1.0,))])
    assert found[:, 0].min() < 0.4
    np.testing.assert_allclose(found[:, 1], found[:, 0], atol=0.02)


def test_the_shape_of_the_noise_matters_and_its_sums_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    problem, _ = random_state(rng, "diagonal", 20)
    lam, s = problem.spectrum.eigenvalues, problem.stds
    k = problem.spectrum.num_dominant
    expected = [np.cbrt(np.sum((lam * s)[band] ** 6)) for band in (slice(0, k), slice(k, None))]
    np.testing.assert_allclose(problem.noise_shape.sixth, expected)
    # Two strengths of noise: a band's mean s^2 under any weights lies between them.
    two = sa.Quadratic(sa.Spectrum([3, 2, 1, 0.5], 2), sa.DiagonalNoise([1, 3, 1, 3]))
    now, one_more = two.noise_shape.tilted[0]
    assert (np.diff(now) >= 0.0).all()
    assert (one_more >= now - 1e-12).all()
    assert np.exp(now[0]) == pytest.approx(1.0, rel=0.05)
    assert np.exp(now[-1]) == pytest.approx(9.0, rel=0.05)


@pytest.mark.parametrize("initial", [[1.0, 1.0, 2.0], [1e-90, 1e-100, 1.0], [1e80, 1e70, 1e75]])
def test_without_noise_the_probability_is_certain(initial):
    problem = sa.Quadratic(sa.Spectrum([3.0, 2.0, 1.0], 2), sa.IsotropicNoise(0.0), initial)
    trace = sa.simulate(problem, np.array([0.1, 0.2, 0.9, 0.0, 0.3]), 5)
    rises = np.diff(trace.alignment) > 0.0
    np.testing.assert_array_equal(trace.predicted.probability[:-1], rises)
    assert np.isnan(trace.predicted.probability[-1])  # the schedule has ended


def test_limits_of_the_probability():
    spectrum = sa.Spectrum([2.0, 1.0], 1)
    noisy = {"noise": sa.IsotropicNoise(1.0)}
    for initial, arguments, expected in (
        ([0.0, 1.0], noisy, 1.0),
        ([1.0, 0.0], noisy, 0.0),
        ([0.0, 1.0], {"noise": sa.IsotropicNoise(0.0)}, 0.0),
        ([0.0, 0.0], noisy, np.nan),
    ):
        trace = sa.simulate(sa.Quadratic(spectrum, initial=initial, **arguments), 0.1, 0)
        np.testing.assert_equal(trace.predicted.probability[0], expected)
    still = sa.simulate(sa.Quadratic(spectrum, initial=[1.0, 1.0]), 0.1, 0, update=(0.0, 0.0))
    assert still.predicted.probability[0] == 0.0
    assert still.predicted.z[0] == 0.0
    bulk = sa.simulate(sa.Quadratic(spectrum, initial=[0.0, 1.0]), 0.1, 0, update="bulk")
    assert bulk.predicted.probability[0] == 0.0


def test_probability_does_not_depend_on_units():
    rng = np.random.default_rng(2)
    lam, c = np.array([3.0, 2.0, 1.0, 0.5]), rng.normal(size=4)
    found = []
    for unit in (1.0, 1e-70, 1e70):
        problem = sa.Quadratic(sa.Spectrum(lam, 2), sa.IsotropicNoise(unit), unit * c)
        found.append(float(sa.simulate(problem, 0.2, 0).predicted.probability[0]))
    np.testing.assert_allclose(found, found[0], rtol=1e-9)


def test_chi_square_tail_is_the_normal_one_without_skewness_and_mirrors():
    z = np.linspace(-3.0, 3.0, 13)
    from scipy import stats

    np.testing.assert_allclose(chi_square_tail(z, 0.0 * z), stats.norm.cdf(z))
    np.testing.assert_allclose(chi_square_tail(z, 0.0 * z + 2e-3), stats.norm.cdf(z), atol=2e-4)
    skewed = chi_square_tail(z, 0.0 * z + 0.8)
    np.testing.assert_allclose(skewed, 1.0 - chi_square_tail(-z, 0.0 * z - 0.8), atol=1e-12)
    freedom = 8.0 / 0.8**2
    exact = stats.chi2.sf(freedom - z * np.sqrt(2.0 * freedom), freedom)
    np.testing.assert_allclose(skewed, exact)


@pytest.mark.long
def test_tails_are_within_a_few_percent_of_exact_ones():
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(150):
        k, rest = int(rng.integers(1, 4)), int(rng.integers(1, 12))
        factors = np.r_[np.full(k, 10.0 ** rng.uniform(-1, 1)), -np.ones(rest)]
        v = 10.0 ** rng.uniform(-2, 0, k + rest)
        m_sq = (rng.normal(size=k + rest) * 10.0 ** rng.uniform(-1, 0.7)) ** 2
        exact = chance_above(factors, v, m_sq)
        above, below, mean, std = tails(factors[0], -1.0, 0.0, m_sq, v, np.ones(k + rest), k)
        assert above + below == pytest.approx(1.0)
        assert mean == pytest.approx(np.sum(factors * (m_sq + v)))
        assert std == pytest.approx(np.sqrt(np.sum(factors**2 * (4 * m_sq * v + 2 * v * v))))
        rarer = min(exact, 1.0 - exact)
        if rarer > 1e-6:
            ratios.append((above if exact < 0.5 else below) / rarer)
    assert len(ratios) > 90
    assert min(ratios) > 0.9
    assert max(ratios) < 1.25


def test_tails_without_randomness_are_certain():
    ones, none = np.ones(2), np.zeros(2)
    assert tails(1.0, -1.0, 0.0, np.array([1.0, 2.0]), none, ones, 1)[:2] == (0.0, 1.0)
    assert tails(1.0, -1.0, 0.0, np.array([2.0, 1.0]), none, ones, 1)[:2] == (1.0, 0.0)
    # A fixed dominant part that the random bulk cannot fall below, and the other way round.
    above, below, _, _ = tails(1.0, 0.0, 5.0, np.array([6.0, 0.0]), none, ones, 1)
    assert (above, below) == (1.0, 0.0)


WIDE = [50.0, 3.0, 0.5, 0.03, 0.011, 0.007]


@pytest.mark.mostly_long
@pytest.mark.parametrize("optimizer", [sa.SGD(), sa.Momentum(0.5), sa.Momentum(0.9, nesterov=True)])
@pytest.mark.parametrize(
    "noise",
    [
        sa.IsotropicNoise(0.1),
        sa.HessianNoise(0.1),
        sa.DiagonalNoise([1.0, 3.0, 0.0, 1.0, 3.0, 1.0]),
    ],
    ids=NOISES,
)
def test_probability_is_close_to_exact_on_wide_spectra_along_a_run(noise, optimizer):
    problem = sa.Quadratic(sa.Spectrum(WIDE, 4), noise, 1.0)
    eta = 0.1 * optimizer.largest / WIDE[0]
    trace = sa.simulate(problem, eta, 200, seed=0, optimizer=optimizer)
    engine = make_probed(Run(problem, eta, 200, engine="step", optimizer=optimizer))
    engine.initial_row()
    law, errors = StepLaw(engine), []
    for step in range(0, 200, 8):
        engine.advance(step - engine.step)
        m_sq, v = law.gradient_after(law.products(engine.planes), eta)
        factors = np.repeat([1.0, -1.0], [4, 2]) / np.repeat(trace.power_sums[step, :, 1], [4, 2])
        exact = chance_above(factors, v, m_sq)
        errors.append(abs(float(trace.predicted.probability[step]) - exact))
    assert max(errors) < 0.15
    assert np.mean(errors) < 0.03


def test_what_skewness_takes_is_between_its_bounds():
    """Whatever is estimated: sums of m^2 w^2 have a largest and a least value."""
    rng = np.random.default_rng(5)
    problem, _ = random_state(rng, "diagonal", 20)
    row = sa.simulate(problem, 1e-3, 0)
    lam, s = problem.spectrum.eigenvalues, problem.stds
    k = problem.spectrum.num_dominant
    np.testing.assert_allclose(
        problem.noise_shape.largest, [((lam * s) ** 2)[b].max() for b in (slice(k), slice(k, None))]
    )
    eta = np.full(2, 0.5 / lam[0])
    arguments = row.power_sums[0], row.noise_sums[0], row.constants, eta, problem.noise_shape
    m_sq, w = ((1.0 - eta[0] * lam) * lam * problem.initial) ** 2, (lam * s) ** 2
    exact, low, high = (
        np.array([f(m_sq[b], w[b]) for b in (slice(k), slice(k, None))])
        for f in (
            lambda m, w: (m * w * w).sum(),
            lambda m, w: (m * w).sum() ** 2 / m.sum(),
            lambda m, w: w.max() * (m * w).sum(),
        )
    )
    assert (low < exact).all()
    assert (exact < high).all()
    for given, bound in ((np.zeros(2), low), (np.full(2, 1e300), high), (exact, exact)):
        found, expected = (probability_of_rise(*arguments, x) for x in (given, bound))
        assert found == pytest.approx(expected, rel=1e-9)
