"""The exact critical step size against a brute-force scan of the expected alignment."""

import mpmath
import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast import theory
from suspalign_fast.physics import formulas as physics
from suspalign_fast.theory.next_step import first_root, with_clusters

#: Nodes of the integral over s, on a logarithmic axis around 1 / T.
LOG_S = np.linspace(-42.0, 60.0, 500)
#: Step sizes of the scan, in units of 1 / lambda_1.
SCAN = np.geomspace(1e-6, 1e4, 1_500)


def dense_shares(lam, s, c, k, weights, eta):
    """Expected shares of both bands after a step, for many step sizes, by the trapezoidal rule."""
    rate = np.where(np.arange(lam.size) < k, *weights)
    mean_sq = ((1.0 - eta[:, None] * rate * lam) * lam * c) ** 2
    variance = (eta[:, None] * rate * lam * s) ** 2
    total = (mean_sq + variance).sum(1, keepdims=True)
    mean_sq, variance = mean_sq / total, variance / total
    dominant, bulk = np.zeros(eta.size), np.zeros(eta.size)
    for x in LOG_S:
        shrink = 1.0 / (1.0 + 2.0 * np.exp(x) * variance)
        log_m = (0.5 * np.log(shrink) - np.exp(x) * mean_sq * shrink).sum(1)
        h = variance * shrink + mean_sq * shrink**2
        weight = np.exp(x + log_m) * (LOG_S[1] - LOG_S[0])
        dominant += weight * h[:, :k].sum(1)
        bulk += weight * h[:, k:].sum(1)
    return dominant, bulk


def scanned(lam, s, c, k, weights):
    """First change of sign of the change of alignment among the step sizes of the scan."""
    eta = SCAN / lam[0]
    dominant, bulk = dense_shares(lam, s, c, k, weights, np.append(eta, 1e-300))
    change = (dominant - dominant[-1])[:-1]
    if dominant[-1] > bulk[-1]:
        change = (bulk[-1] - bulk)[:-1]
    sure = np.abs(change) > 1e-9 * min(dominant[-1], bulk[-1])
    eta, sign = eta[sure], np.sign(change[sure])
    turns = np.flatnonzero(sign[1:] != sign[:-1])
    if turns.size == 0:
        return (np.inf, np.inf) if sign[0] < 0 else (0.0, 0.0)
    return eta[turns[0]], eta[turns[0] + 1]


def random_problem(rng):
    d = int(rng.integers(2, 7))
    k = int(rng.integers(1, d))
    lam = np.sort(10.0 ** rng.uniform(-1.5, 0.5, d))[::-1]
    s = 10.0 ** rng.uniform(-2.0, 2.0, d) * (rng.random(d) < 0.8)
    c = rng.normal(size=d) * 10.0 ** rng.uniform(-1.0, 1.0, d)
    weights = (1.0, 1.0) if rng.random() < 0.6 else tuple(rng.choice([0.0, 0.4, 1.0, 2.0], 2))
    return lam, s, c, k, weights


def disagreements(count, seed):
    """Random problems whose root lies outside the bracket of the scan."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        lam, s, c, k, weights = random_problem(rng)
        if max(weights) == 0.0:
            continue
        problem = sa.Quadratic(sa.Spectrum(lam, k), sa.DiagonalNoise(s))
        root = theory.exact_critical_step_size(problem, c, update=weights)
        low, high = scanned(lam, s, c, k, weights)
        beyond = root > 0.9 * SCAN[-1] / lam[0] and low == np.inf
        before = 0.0 < root < SCAN[0] / lam[0]
        if not (low * (1 - 1e-9) <= root <= high * (1 + 1e-9) or beyond or before):
            found.append((number, low, high, root))
    return found


@pytest.mark.long
def test_the_root_is_the_first_one_of_a_dense_scan():
    assert disagreements(60, seed=0) == []


def test_alignment_that_rises_from_a_small_step_on_is_found():
    problem = sa.Quadratic(sa.Spectrum([2, 1], 1), sa.DiagonalNoise([0, 100]))
    root = theory.exact_critical_step_size(problem, [1, 3])
    now = theory.expected_next_alignment(problem, [1, 3], 0.0)[0]
    assert theory.expected_next_alignment(problem, [1, 3], 0.9 * root)[0] < now
    assert theory.expected_next_alignment(problem, [1, 3], 1.1 * root)[0] > now
    assert root == pytest.approx(0.0010157859)


def test_the_root_has_the_digits_of_high_precision():
    """E[A'] of two directions by mpmath, whose change vanishes at the root."""
    problem = sa.Quadratic(sa.Spectrum([2, 1], 1), sa.DiagonalNoise([0, 100]))
    root = theory.exact_critical_step_size(problem, [1, 3])
    with mpmath.workdps(30):
        eta = mpmath.mpf(root)
        d = (2 * (1 - 2 * eta)) ** 2
        m, v = 3 * (1 - eta), (100 * eta) ** 2

        def integrand(g):
            return mpmath.exp(-((g - m) ** 2) / (2 * v)) * d / (d + g * g)

        width = mpmath.sqrt(v)
        cuts = [m + i * width for i in range(-12, 13)]
        mean = mpmath.quad(integrand, cuts) / mpmath.sqrt(2 * mpmath.pi * v)
        assert abs(mean - mpmath.mpf(4) / 13) < 1e-14


def test_weights_of_the_update():
    rng = np.random.default_rng(1)
    spectrum = sa.Spectrum.linear_bands(20_000, 2_000, (10.0, 8.0), (2.0, 0.5))
    c = rng.normal(size=20_000) * np.where(np.arange(20_000) < 2_000, 0.2, 1.0)
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(1.0), c)
    for update in ("dominant", "bulk", (0.5, 1.7)):
        trace = sa.simulate(problem, 1e-3, 0, update=update)
        closed = float(trace.critical_step_size[0])
        exact = theory.exact_critical_step_size(problem, c, update=update)
        assert exact == pytest.approx(closed, rel=1e-2), update
    bulk = sa.simulate(problem, 1e-3, 0, update="bulk")
    assert bulk.regime[0] == physics.RISING_BELOW


def test_limits():
    problem = sa.Quadratic(sa.Spectrum([2, 1], 1))
    quiet = sa.Quadratic(sa.Spectrum([2, 1], 1), sa.IsotropicNoise(0.0))
    assert theory.exact_critical_step_size(problem, [0, 1]) == 0.0
    assert theory.exact_critical_step_size(problem, [1, 0]) == np.inf
    assert np.isnan(theory.exact_critical_step_size(problem, [0, 0]))
    assert np.isnan(theory.exact_critical_step_size(quiet, [0, 1]))
    assert np.isnan(theory.exact_critical_step_size(problem, [1, 1], update=(0.0, 0.0)))
    # Without noise the odds stand still where |1 - 2 eta| = |1 - eta|.
    assert theory.exact_critical_step_size(quiet, [1, 1]) == pytest.approx(2 / 3)


def test_first_root_of_functions_with_many():
    points = with_clusters(1e-3, 1e-3, 10.0, 10.0, np.array([1.0]))
    assert first_root(lambda x: np.sin(x), points, 1.0, 1e-12) == pytest.approx(np.pi)
    # A pair of roots between two points is found at the extreme, a pair around a turn by points.
    near = (points[40] * points[41]) ** 0.5
    for at, width in ((near, 1e-3 * near), (1.0 - 1e-5, 1e-7)):
        root = first_root(lambda x, a=at, w=width: (x - a) ** 2 - w * w, points, 1.0, 1e-20)
        assert root == pytest.approx(at - width, rel=1e-9)
    # A dip around a turn that nothing around it tells of.
    dip = first_root(lambda x: 1.0 - 2.0 * np.exp(-(((x - 1.0) / 1e-4) ** 2)), points, 1.0, 1e-14)
    assert dip == pytest.approx(1.0 - 1e-4 * np.sqrt(np.log(2.0)), rel=1e-9)
    assert first_root(lambda x: 1.0 + x, points, 1.0, 1e-12) is None
    assert first_root(lambda x: x - 20.0, points, -1.0, 1e-12) is None


def test_coefficients_of_another_shape_are_named():
    problem = sa.Quadratic(sa.Spectrum([3.0, 2.0, 1.0], 1))
    with pytest.raises(ValueError, match=r"coefficients must be an array of shape \(3,\)"):
        theory.exact_critical_step_size(problem, [1.0])
