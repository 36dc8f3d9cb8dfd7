"""Mean squares under mini-batches: against the recursion, 40 digits, and literal batches."""

import mpmath as mp
import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.model.stability import of_batches as stability
from suspalign_fast.theory.batches import MeanSquares, stationary_squares

from ..helpers.pairs import all_pairs

SPECTRA = {
    "two levels": lambda: sa.Spectrum.two_level(200, 3, 10.0, 1.0),
    "distinct": lambda: sa.Spectrum.linear_bands(60, 5, (10.0, 8.0), (1.0, 0.01)),
    "zeros": lambda: sa.Spectrum([5.0, 4.0, 1.0, 0.0], 3, [1, 2, 7, 3]),
    "compressed": lambda: sa.Spectrum.power_law(50_000, 10, 1.0).compress(),
    "clusters": lambda: sa.Spectrum([3.0, 1.0 + 1e-12, 1.0, 1e-6, 1e-9], 1),
}
WEIGHTS = [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.5, 1.7)]


@pytest.fixture(params=SPECTRA)
def spectrum(request):
    return SPECTRA[request.param]()


def recursion(spectrum, initial, eta, batch, std, weights, steps):
    """The mean squares step by step."""
    lam, m, q = spectrum.eigenvalues, spectrum.multiplicities, initial.copy()
    etas = eta * spectrum.per_level(weights)
    x = etas * lam
    for _ in range(steps):
        power = (lam * q).sum() + std**2
        q = (1.0 - x * (2.0 - x * (1.0 + 1.0 / batch))) * q + etas**2 / batch * m * lam * power
    return q


@pytest.mark.mostly_long
@all_pairs(name=SPECTRA, weights=WEIGHTS, batch=[1, 8, 1000], share=[0.1, 0.9, 1.02])
def test_any_time_is_the_recursion(name, weights, batch, share):
    spectrum = SPECTRA[name]()
    initial = np.linspace(1.0, 2.0, spectrum.num_levels) * spectrum.multiplicities
    eta = share * stability(spectrum, 0.0, batch, weights).largest
    squares = MeanSquares(spectrum, initial, eta, batch, 0.3, weights)
    for steps in (0, 1, 2, 7, 100):
        expected = recursion(spectrum, initial, eta, batch, 0.3, weights, steps)
        # Sums in which a band's parts meet are what rows hold.
        scale = 1e-11 * expected.max()
        np.testing.assert_allclose(squares.at(steps), expected, rtol=1e-9, atol=scale)


def test_long_times_in_forty_digits():
    spectrum, eta, batch, std = sa.Spectrum([3.0, 1.0, 1e-4], 1, [1, 5, 20]), 0.05, 2, 0.1
    lam, m = [mp.mpf(v) for v in spectrum.eigenvalues], [1, 5, 20]
    with mp.workdps(40):
        x = [mp.mpf(eta) * v for v in lam]
        n = len(lam)
        matrix = mp.matrix(n + 1, n + 1)
        for i in range(n):
            matrix[i, i] = 1 - x[i] * (2 - x[i] * (1 + mp.mpf(1) / batch))
            gain = mp.mpf(eta) ** 2 / batch * m[i] * lam[i]
            for j in range(n):
                matrix[i, j] += gain * lam[j]
            matrix[i, n] = gain * mp.mpf(std) ** 2
        matrix[n, n] = 1
        start = mp.matrix([1, 5, 20, 1])
        squares = MeanSquares(spectrum, np.array([1.0, 5.0, 20.0]), eta, batch, std)
        for steps in (10, 10**3, 10**6, 10**9):
            exact = matrix**steps * start
            for value, right in zip(squares.at(steps).tolist(), exact, strict=False):
                assert abs(mp.mpf(value) / right - 1) < 1e-11


@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_stationary_state_is_where_nothing_changes(spectrum, weights):
    eta = 0.7 * stability(spectrum, 0.0, 4, weights).largest
    rest = stationary_squares(spectrum, eta, 4, 0.5, weights)
    moves = np.isfinite(rest)
    initial = np.where(moves, rest, 0.0)
    after = recursion(spectrum, initial, eta, 4, 0.5, weights, 1)
    np.testing.assert_allclose(after[moves], rest[moves], rtol=1e-12)
    feedback = stability(spectrum, eta, 4, weights).feedback
    loss = (spectrum.eigenvalues * initial).sum()
    assert loss == pytest.approx(feedback * 0.25 / (1.0 - feedback), rel=1e-12)


def test_the_edge_is_where_the_largest_eigenvalue_is_one():
    rng = np.random.default_rng(0)
    for _ in range(300):
        n = int(rng.integers(2, 8))
        lam = np.sort(10.0 ** rng.uniform(-3, 1, n))[::-1]
        counts = rng.integers(1, 20, n)
        spectrum = sa.Spectrum(lam, int(counts[0]), counts)
        batch = int(rng.integers(1, 30))
        edge = stability(spectrum, 0.0, batch).largest
        for share in (0.999, 1.001):
            eta = share * edge
            x = eta * lam
            step = np.diag(1.0 - x * (2.0 - x * (1.0 + 1.0 / batch)))
            step += np.outer(eta**2 / batch * counts * lam, lam)
            radius = np.abs(np.linalg.eigvals(step)).max()
            assert (radius < 1.0) == (share < 1.0)
            assert stability(spectrum, eta, batch).is_stable == (share < 1.0)


def test_literal_batches_have_these_means():
    """Samples are drawn and labels made: nothing of the theory is used."""
    rng = np.random.default_rng(1)
    spectrum, batch, std, eta, runs = (
        sa.Spectrum([2.0, 1.0, 0.3], 1, [1, 2, 2]),
        3,
        0.4,
        0.15,
        40_000,
    )
    lam = np.repeat(spectrum.eigenvalues, spectrum.multiplicities)
    c = np.ones((runs, lam.size))
    squares = MeanSquares(spectrum, np.array([1.0, 2.0, 2.0]), eta, batch, std)
    for step in range(1, 7):
        samples = rng.standard_normal((runs, batch, lam.size)) * np.sqrt(lam)
        rest = (samples * c[:, None]).sum(-1) - std * rng.standard_normal((runs, batch))
        c = c - eta / batch * (samples * rest[..., None]).sum(1)
        found = np.add.reduceat(c**2, [0, 1, 3], axis=1)
        error = found.std(axis=0) / np.sqrt(runs)
        assert (np.abs(found.mean(axis=0) - squares.at(step)) < 4.5 * error).all()


def test_what_is_refused():
    spectrum = sa.Spectrum.two_level(100, 1, 10.0, 1.0)
    with pytest.raises(ValueError, match=r"step_size must be below 0\.0177"):
        stationary_squares(spectrum, 0.02, 1, 0.5)
    with pytest.raises(ValueError, match="batch_size must be"):
        stability(spectrum, 0.1, 0)
    many = sa.Spectrum.linear_bands(5_000, 10)
    with pytest.raises(ValueError, match=r"at most 4,000 levels, got 5,000"):
        MeanSquares(many, np.ones(5_000), 0.01, 1, 0.5)


def test_nothing_is_too_large_where_nothing_moves():
    spectrum = sa.Spectrum([1.0, 0.0], 1, [1, 3])
    assert stability(spectrum, 1.0, 1, (0.0, 1.0)).largest == np.inf
