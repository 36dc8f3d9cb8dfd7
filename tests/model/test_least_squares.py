"""Least-squares problems keep their loss, their gradient and what cannot be fitted."""

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.model.least_squares import of_data, random_features

V, D = 60, 12


def population_loss(w, alpha, beta, theta):
    j = np.arange(1.0, V + 1.0)
    rest = w @ theta - j**-beta
    return (j ** (-2.0 * alpha) * rest**2).sum() / 2.0


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.5), (0.6, 1.2), (0.3, 0.3)])
def test_the_loss_of_random_features_is_the_quadratic(alpha, beta):
    rng = np.random.default_rng(0)
    w = rng.standard_normal((V, D)) / np.sqrt(D)
    problem = random_features(V, D, alpha, beta, num_dominant=2, matrix=w)
    lam = problem.spectrum.eigenvalues
    for theta in (np.zeros(D), rng.standard_normal(D)):
        c = problem.vectors.T @ theta + problem.initial
        loss = (lam * c**2).sum() / 2.0 + problem.label_std**2 / 2.0
        assert loss == pytest.approx(population_loss(w, alpha, beta, theta), rel=1e-12)
    assert population_loss(w, alpha, beta, problem.optimum) == pytest.approx(
        problem.label_std**2 / 2.0, rel=1e-10
    )


def test_what_features_cannot_tell_is_independent_of_them():
    rng = np.random.default_rng(1)
    w = rng.standard_normal((V, D)) / np.sqrt(D)
    problem = random_features(V, D, 1.0, 0.5, matrix=w)
    j = np.arange(1.0, V + 1.0)
    x = rng.standard_normal((200_000, V)) / j
    features = x @ w @ problem.vectors
    rest = x @ j**-0.5 - x @ w @ problem.optimum
    assert rest.std() == pytest.approx(problem.label_std, rel=0.01)
    correlation = np.corrcoef(features.T, rest)[-1, :-1]
    assert np.abs(correlation).max() < 4.5 / np.sqrt(len(x))
    np.testing.assert_allclose(features.var(axis=0), problem.spectrum.eigenvalues, rtol=0.02)


def test_seeds_make_problems_and_the_same_one_again():
    one, two = (random_features(V, D, 1.0, 0.5, seed=s) for s in (3, 3))
    other = random_features(V, D, 1.0, 0.5, seed=4)
    assert one.spectrum == two.spectrum
    assert one.spectrum != other.spectrum
    trace = sa.simulate(sa.Quadratic(one.spectrum, initial=one.initial), 0.1, 10)
    assert trace.status == "complete"


@pytest.mark.parametrize("shape", [(100, 7), (5, 7), (7, 7)])
def test_data_and_labels(shape):
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal(shape) * np.linspace(3.0, 0.3, 7), rng.standard_normal(shape[0])
    problem = of_data(x, y, num_dominant=2)
    lam = problem.spectrum.eigenvalues
    hessian = x.T @ x / shape[0]
    np.testing.assert_allclose(
        problem.vectors @ np.diag(lam) @ problem.vectors.T, hessian, atol=1e-12
    )
    np.testing.assert_allclose(problem.vectors.T @ problem.vectors, np.eye(7), atol=1e-12)
    best = np.linalg.lstsq(x, y, rcond=None)[0]
    np.testing.assert_allclose(problem.optimum, best, rtol=1e-8, atol=1e-10)
    for theta in (np.zeros(7), rng.standard_normal(7)):
        c = problem.vectors.T @ theta + problem.initial
        loss = (lam * c**2).sum() / 2.0 + problem.label_std**2 / 2.0
        assert loss == pytest.approx(((x @ theta - y) ** 2).mean() / 2.0, rel=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: random_features(1, 5, 1.0, 1.0), "num_inputs must be"),
        (lambda: random_features(5, 5, -1.0, 1.0), "alpha must be"),
        (lambda: random_features(5, 4, 1.0, 1.0, matrix=np.ones((4, 5))), r"shape \(5, 4\), got"),
        (lambda: random_features(5, 4, 1.0, 1.0, seed=-1), "seed must be"),
        (lambda: of_data(np.ones(3), np.ones(3)), "inputs must be a matrix"),
        (lambda: of_data(np.eye(3), np.ones(2)), "labels must be 3 finite numbers"),
        (lambda: of_data(np.eye(3) * np.nan, np.ones(3)), "inputs must be a matrix"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
