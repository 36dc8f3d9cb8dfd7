"""The critical step size of a network from mini-batches alone."""

import numpy as np
import pytest

import suspalign_fast as sa

from ..helpers.networks import (
    as_tensors,
    classes,
    gaussian_data,
    half_square,
    linear,
    perceptron,
    torch,
)

EIGENVALUES = np.r_[np.linspace(4.0, 3.0, 3), np.linspace(0.5, 0.1, 17)]


@pytest.fixture(scope="module")
def found():
    """Estimates of many groups, and the row itself."""
    x, y = gaussian_data(2000, EIGENVALUES)
    model = linear(np.random.default_rng(4).standard_normal(len(EIGENVALUES)))
    probe = sa.network.Probe(
        model, half_square, as_tensors(x, y), 3, batch_size=16, noise_batches=2000
    )
    row = probe.measure()
    return sa.network.estimate_online(probe, batch_size=64, groups=600), row


def test_every_sum_has_the_right_mean(found):
    estimate, row = found
    exact = row.power_sums[:, 1:] + [[0.0, 0.0, n2] for n2 in row.constants[:, 1]]
    error = estimate.sums.std(0, ddof=1) / 600**0.5
    assert (np.abs(estimate.sums.mean(0) - exact) < 4.0 * error).all()
    assert (error < 0.2 * exact).all()


def test_the_critical_step_size_is_within_its_error(found):
    estimate, row = found
    assert 0.0 < estimate.standard_error < 0.2 * row.critical_step_size
    error = np.hypot(estimate.standard_error, row.critical_error)
    assert abs(estimate.critical_step_size - row.critical_step_size) < 4.0 * error


def test_standard_errors_are_those_of_repeated_estimates(found):
    estimate, _ = found
    parts = estimate.sums.reshape(20, 30, 2, 3).mean(1)
    from suspalign_fast.network.online import _critical

    spread = np.std([_critical(part) for part in parts], ddof=1) / 20**0.5
    assert estimate.standard_error == pytest.approx(spread, rel=0.5)


def test_what_it_needs_is_said():
    loss, data = torch.nn.CrossEntropyLoss(), classes()
    probe = sa.network.Probe(perceptron(), loss, data, 2, batch_size=5)
    with pytest.raises(ValueError, match="probe must have a row"):
        sa.network.estimate_online(probe, batch_size=10)
    probe.measure()
    with pytest.raises(ValueError, match="groups must be an integer of at least 3, got 2"):
        sa.network.estimate_online(probe, batch_size=10, groups=2)
    with pytest.raises(ValueError, match="batch_size must be an integer of at least 1 and at most"):
        sa.network.estimate_online(probe, batch_size=100)
    with pytest.raises(ValueError, match="probe must be a Probe, got 3"):
        sa.network.estimate_online(3, batch_size=10)
    given = sa.network.Probe(perceptron(), loss, data, 2, noise_batches=[data, data])
    given.measure()
    with pytest.raises(ValueError, match="probe must draw its mini-batches"):
        sa.network.estimate_online(given, batch_size=10)
