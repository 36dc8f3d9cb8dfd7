"""The quadratic that stands for a network at one state."""

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.model.least_squares import of_data

from ..helpers.networks import (
    Lanczos,
    as_tensors,
    classes,
    gaussian_data,
    half_square,
    linear,
    measure,
    perceptron,
    torch,
)

EIGENVALUES = np.r_[np.linspace(8.0, 5.0, 4), np.geomspace(1.0, 1e-3, 196)]
K = 4


@pytest.fixture(scope="module")
def probed():
    """A probe of a quadratic network, and its problem in the eigenbasis."""
    x, y = gaussian_data(1000, EIGENVALUES)
    problem = of_data(x, y, num_dominant=K)
    weights = np.random.default_rng(5).standard_normal(len(EIGENVALUES))
    batches = [as_tensors(x[i : i + 100], y[i : i + 100]) for i in range(0, 1000, 100)]
    probe = sa.network.Probe(
        linear(weights), half_square, as_tensors(x, y), K, noise_batches=batches, tolerance=0.0
    )
    return probe, problem, problem.vectors.T @ (weights - problem.optimum)


def test_spectral_measures_of_vectors_are_gauss_quadratures():
    rng = np.random.default_rng(0)
    lam, c = rng.uniform(0.0, 2.0, 50), rng.standard_normal(50)
    matrix = torch.diag(torch.tensor(lam))
    nodes, weights = measure(lambda v: matrix @ v, torch.tensor(c), 8)
    for power in range(16):
        assert (weights * nodes**power).sum() == pytest.approx((c**2 * lam**power).sum(), rel=1e-9)
    assert measure(lambda v: v, torch.zeros(3, dtype=torch.float64), 2)[0].size == 0


def test_a_space_that_the_matrix_does_not_leave_is_closed_and_grows_all_the_same():
    matrix = torch.diag(torch.tensor([1.0, 1.0, 2.0, 2.0, 2.0], dtype=torch.float64))
    space = Lanczos(lambda v: matrix @ v, torch.ones(5, dtype=torch.float64), 5)
    space.grow()
    assert not space.is_closed
    space.grow()
    assert space.is_closed
    np.testing.assert_allclose(space.eigenpairs()[0], [1.0, 2.0], rtol=1e-12)
    for _ in range(3):
        space.grow()
    assert space.is_full
    np.testing.assert_allclose(space.eigenpairs()[0], [1.0, 1.0, 2.0, 2.0, 2.0], rtol=1e-12)
    np.testing.assert_allclose(space.basis @ space.basis.T, np.eye(5), atol=1e-12)


def test_sums_of_a_surrogate_are_those_of_the_row(probed):
    probe, problem, c = probed
    quadratic = sa.network.surrogate(probe)
    assert quadratic.spectrum.dim == len(c)
    assert quadratic.spectrum.num_levels < 90
    start = sa.simulate(quadratic, 0.1, 0, engine="levels")
    row = probe.measure()
    np.testing.assert_allclose(start.power_sums[0, 0, 1:], row.power_sums[0, 1:], rtol=1e-6)
    np.testing.assert_allclose(start.power_sums[0, 1, 1:], row.power_sums[1, 1:], rtol=0.05)
    np.testing.assert_allclose(quadratic.noise_constants[:, :2], row.constants[:, :2], rtol=0.05)
    lam, mine = problem.spectrum.eigenvalues, quadratic.spectrum
    np.testing.assert_allclose(mine.eigenvalues[:K], lam[:K], rtol=1e-8)
    bulk = (mine.eigenvalues * mine.multiplicities)[K:].sum()
    assert bulk == pytest.approx(lam[K:].sum(), rel=0.1)
    assert start.critical_step_size[0] == pytest.approx(row.critical_step_size, rel=0.02)


def test_a_surrogate_goes_where_the_problem_goes(probed):
    probe, problem, c = probed
    quadratic = sa.network.surrogate(probe)
    exact = sa.Quadratic(problem.spectrum, sa.IsotropicNoise(0.0), c)
    still = sa.Quadratic(quadratic.spectrum, sa.IsotropicNoise(0.0), quadratic.initial)
    at = [10, 100]
    one, other = (
        sa.simulate(p, 0.02, 100, engine="reference", record_at=at) for p in (exact, still)
    )
    np.testing.assert_allclose(other.grad_sq_dominant[:2], one.grad_sq_dominant[:2], rtol=1e-6)
    np.testing.assert_allclose(other.grad_sq_bulk, one.grad_sq_bulk, rtol=0.1)


def test_negative_eigenvalues_are_clipped_with_a_word():
    probe = sa.network.Probe(
        perceptron(width=10), torch.nn.CrossEntropyLoss(), classes(), 2, batch_size=5
    )
    with pytest.warns(RuntimeWarning, match=r"of 103 eigenvalues are negative, down to -\d.* of"):
        quadratic = sa.network.surrogate(probe, num_levels=30)
    assert (quadratic.spectrum.eigenvalues > 0.0).all()
    assert quadratic.spectrum.dim == 103


def test_a_state_is_loaded_into_a_copy():
    model = perceptron(0)
    probe = sa.network.Probe(
        model, torch.nn.CrossEntropyLoss(), classes(), 2, batch_size=5, curvature="ggn"
    )
    other = perceptron(1)
    there = sa.network.Probe(
        other, torch.nn.CrossEntropyLoss(), classes(), 2, batch_size=5, curvature="ggn"
    )
    assert sa.network.surrogate(probe, state=other.state_dict()) == sa.network.surrogate(there)
    assert sa.network.surrogate(probe) != sa.network.surrogate(there)
    assert torch.equal(model[0].weight, perceptron(0)[0].weight)


@pytest.mark.parametrize(("change", "message"), [
    ({"probe": 3}, "probe must be a Probe, got 3"),
    ({"steps": 1}, "steps must be an integer of at least 2, got 1"),
    ({"num_levels": 1}, "num_levels must be an integer of at least 2, got 1"),
    ({"num_vectors": 0}, "num_vectors must be an integer of at least 1, got 0"),
    ({"noise_batches": 1}, "noise_batches must be an integer of at least 2, got 1"),
])  # fmt: skip
def test_bad_surrogates_are_refused(change, message, probed):
    with pytest.raises(ValueError, match=message):
        sa.network.surrogate(**({"probe": probed[0]} | change))
