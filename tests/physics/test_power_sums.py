import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.physics import formulas as physics


def sums_of(lam, c, k):
    bands = (slice(0, k), slice(k, None))
    return np.array([[np.sum(lam[b] ** p * c[b] ** 2) for p in (1, 2, 3, 4)] for b in bands])


@pytest.fixture
def state():
    rng = np.random.default_rng(0)
    lam = np.sort(rng.uniform(0.1, 5.0, 30))[::-1]
    return lam, rng.normal(size=30), 4


def test_loss_and_alignment_are_those_of_the_full_vectors(state):
    lam, c, k = state
    sums = sums_of(lam, c, k)
    gradient = lam * c
    assert physics.loss(sums) == pytest.approx(0.5 * np.sum(lam * c**2))
    assert physics.alignment(sums) == pytest.approx(np.sum(gradient[:k] ** 2) / np.sum(gradient**2))


def test_expected_odds_stand_still_at_the_critical_step_size(state):
    lam, c, k = state
    variance = 0.3**2
    constants = np.array([
        [np.sum(lam[b] * variance), np.sum(lam[b] ** 2 * variance), 0.0]
        for b in (slice(0, k), slice(k, None))
    ])  # fmt: skip
    sums = sums_of(lam, c * np.where(np.arange(30) < k, 0.05, 1.0), k)
    eta = float(physics.critical_step_size(sums, constants))
    s2, s3, s4 = sums[:, 1], sums[:, 2], sums[:, 3]

    def odds(step):
        expected = s2 - 2 * step * s3 + step**2 * (s4 + constants[:, 1])
        return expected[0] / expected[1]

    assert 0.0 < eta < np.inf
    assert odds(eta) == pytest.approx(s2[0] / s2[1], rel=1e-12)
    assert odds(0.9 * eta) < s2[0] / s2[1] < odds(1.1 * eta)


def test_no_critical_step_size_at_high_alignment(state):
    lam, c, k = state
    sums = sums_of(lam, c * np.where(np.arange(30) < k, 1e3, 0.05), k)
    constants = np.array([[1.0, 1.0, 1.0], [10.0, 10.0, 10.0]])
    assert physics.critical_step_size(sums, constants) == np.inf


def test_limits_of_an_empty_band_and_of_no_gradient():
    constants = np.ones((2, 3))
    dominant_only, bulk_only, neither = np.zeros((3, 2, 4))
    dominant_only[0], bulk_only[1] = 1.0, 1.0
    rows = np.stack([dominant_only, bulk_only, neither])
    np.testing.assert_array_equal(physics.alignment(rows), [1.0, 0.0, np.nan])
    np.testing.assert_array_equal(
        physics.critical_step_size(rows, constants), [np.inf, 0.0, np.nan]
    )


CONSTANTS = np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]])
UPDATES = [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.5, 1.7), (2.0, 0.3)]


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    lam = np.sort(rng.uniform(0.1, 5.0, 30))[::-1]
    scales = 10.0 ** rng.uniform(-6.0, 2.0, (400, 30))
    scales[:, 4:] *= 10.0 ** rng.uniform(-6.0, 1.0, (400, 1))
    return np.stack([sums_of(lam, c, 4) for c in rng.normal(size=(400, 30)) * scales])


@pytest.mark.parametrize("update", UPDATES)
def test_regimes_say_which_way_the_expected_odds_go(rows, update):
    """All four cases, by brute force over step sizes from 1e-9 to 1e9."""
    critical = physics.critical_step_size(rows, CONSTANTS, update)
    reverses = physics.is_reversed(rows, CONSTANTS, update)
    rising = (physics.ABOVE, physics.RISING, physics.RISING_BELOW)
    s2, s3, t = rows[..., 1], rows[..., 2], rows[..., 3] + CONSTANTS[:, 1]
    weight = np.array(update)
    seen = set()
    for eta in 10.0 ** np.arange(-9.0, 9.5, 0.25):
        names = physics.regime(np.full(len(rows), eta), critical, reverses)
        growth = -2.0 * weight * s3 / s2 + eta * weight**2 * t / s2
        change = growth[:, 0] - growth[:, 1]
        sure = np.abs(change) > 1e-9 * np.abs(growth).max(1)
        np.testing.assert_array_equal(np.isin(names, rising)[sure], change[sure] > 0.0)
        seen |= set(names.tolist())
    if update == (1.0, 1.0):
        assert seen == {physics.BELOW, physics.ABOVE, physics.SELF_CORRECTING}
    if update == (1.0, 0.0):
        assert seen == {physics.BELOW, physics.ABOVE}
    if update == (0.0, 1.0):
        assert seen == {physics.RISING_BELOW, physics.FALLING_ABOVE}
    if update == (0.5, 1.7):
        assert len(seen) == 6


@pytest.mark.parametrize("update", UPDATES)
def test_expected_odds_stand_still_at_the_critical_step_size_of_an_update(rows, update):
    critical = physics.critical_step_size(rows, CONSTANTS, update)
    finite = (critical > 0.0) & (critical < np.inf)
    s2, s3, t = rows[..., 1], rows[..., 2], rows[..., 3] + CONSTANTS[:, 1]
    eta = critical[finite, None] * np.array(update)
    fall, rise = 2.0 * eta * (s3 / s2)[finite], eta**2 * (t / s2)[finite]
    change = (rise - fall)[:, 0] - (rise - fall)[:, 1]
    assert (np.abs(change) <= 1e-12 * (rise + fall).sum(1)).all()


def test_signs_of_simulated_steps_under_a_projected_update():
    """Steps projected on the bulk raise alignment below the critical step size, surely."""
    spectrum = sa.Spectrum.linear_bands(4_000, 400, (10.0, 8.0), (2.0, 0.5))
    rng = np.random.default_rng(0)
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), rng.normal(size=4_000))
    start = sa.simulate(problem, 1e-3, 0, update="bulk")
    critical = float(start.critical_step_size[0])
    for multiple, name, sign in ((0.5, "rising-below", 1), (1.5, "falling-above", -1)):
        step = sa.simulate(problem, multiple * critical, 1, update="bulk")
        assert step.regime[0] == name
        assert np.sign(step.alignment[1] - step.alignment[0]) == sign
        assert step.predicted.probability[0] == pytest.approx((1 + sign) / 2, abs=1e-3)


def test_regime_of_every_kind_of_row():
    critical = np.array([1.0, 1.0, np.inf, 0.0, 1.0, 1.0, np.nan, 1.0])
    step_size = np.array([0.5, 2.0, 1.0, 1.0, 0.5, 2.0, 1.0, np.nan])
    reverses = np.array([0, 0, 0, 0, 1, 1, 0, 0], dtype=bool)
    assert physics.regime(step_size, critical, reverses).tolist() == [
        "below", "above", "self-correcting", "rising", "rising-below", "falling-above", "", "",
    ]  # fmt: skip


@pytest.mark.parametrize("std", [0.0, 1.0])
@pytest.mark.parametrize("unit", [1e-60, 1e-79, 1e-90, 1e-120])
def test_critical_step_size_is_right_or_unknown_where_powers_underflow(unit, std):
    lam, c = unit * np.array([3.0, 2.0, 1.0]), np.array([1.0, 0.5, 2.0])
    with np.errstate(under="ignore"):
        constants = np.array([
            [np.sum(lam[b] * std**2), np.sum(lam[b] ** 2 * std**2), 0.0]
            for b in (slice(0, 1), slice(1, 3))
        ])  # fmt: skip
        sums = sums_of(lam, c, 1)
    found = float(physics.critical_step_size(sums, constants))
    plain = sums_of(lam / unit, c, 1)
    noise = constants / np.array([unit, unit**2, 1.0]) / unit**2
    expected = float(physics.critical_step_size(plain, noise)) / unit
    if std == 0.0 and unit == 1e-60:
        assert found == pytest.approx(expected)
    assert np.isnan(found) or found == pytest.approx(expected, rel=1e-9)


def test_a_step_that_changes_nothing_has_no_critical_step_size(rows):
    assert np.isnan(physics.critical_step_size(rows, CONSTANTS, (0.0, 0.0))).all()
    silent = rows[0].copy()
    silent[0] = 0.0
    assert np.isnan(physics.critical_step_size(silent, np.zeros((2, 3))))


def test_predicted_mean_is_a_ratio_of_expectations_and_the_exact_mean_is_offered():
    state = [0.1, 2.0]
    problem = sa.Quadratic(sa.Spectrum([2.0, 1.0], 1), sa.IsotropicNoise(2.0), state)
    noise = np.random.default_rng(0).standard_normal((100_000, 2))
    lam = np.array([2.0, 1.0])
    squares = (lam * ((1.0 - 0.3 * lam) * state - 0.6 * noise)) ** 2
    row = sa.simulate(problem, 0.3, 1).predicted
    ratio = squares.mean(0)[0] / squares.mean(0).sum()
    alignment = squares[:, 0] / squares.sum(1)
    mean, std = sa.theory.expected_next_alignment(problem, state, 0.3)
    assert row.mean[0] == pytest.approx(ratio, abs=0.01)
    assert mean == pytest.approx(alignment.mean(), abs=4.5 * std / np.sqrt(100_000))
    assert row.mean[0] - mean > 0.03
    assert "ratio of expectations" in physics.Prediction.__doc__
