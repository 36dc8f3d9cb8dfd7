import numpy as np
import pytest

from suspalign_fast import power_sums as physics


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
