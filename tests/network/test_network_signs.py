"""The sign test on networks: against exact data noise, and what it leaves behind."""

import copy

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.model.least_squares import of_data

from ..helpers.networks import (
    Count,
    as_tensors,
    classes,
    crossing,
    gaussian_data,
    half_square,
    linear,
    perceptron,
    t_statistic,
    torch,
)

CROSS_ENTROPY = torch.nn.CrossEntropyLoss()
EIGENVALUES = np.r_[np.full(5, 4.0), np.linspace(0.5, 0.05, 45)]
K, BATCH = 5, 10


@pytest.fixture(scope="module")
def gaussian():
    """Gaussian data, a state, and what data noise makes of it."""
    x, y = gaussian_data(4000, EIGENVALUES, label_std=1.0)
    problem = of_data(x, y, num_dominant=K)
    c = 0.3 * np.random.default_rng(2).standard_normal(len(EIGENVALUES))
    weights = problem.optimum + problem.vectors @ c
    quadratic = sa.Quadratic(problem.spectrum, sa.DataNoise(BATCH, problem.label_std), c)
    return as_tensors(x, y), linear(weights), sa.simulate(quadratic, 0.1, 0, engine="reference")


def test_constants_of_gaussian_data_are_those_of_data_noise(gaussian):
    data, model, exact = gaussian
    row = sa.network.measure_row(
        model, half_square, data, K, batch_size=BATCH, noise_batches=3000, tolerance=0.0
    )
    np.testing.assert_allclose(row.power_sums[:, 1:], exact.power_sums[0, :, 1:], rtol=1e-8)
    at = exact.problem.noise.constants_at(exact.constants, exact.power_sums, exact.noise_sums)[0]
    np.testing.assert_allclose(row.constants[:, :2], at[:, :2], rtol=0.06)
    s4, s7 = exact.power_sums[0, :, 3], exact.noise_sums[0, :, 2]
    residual = exact.power_sums[0, :, 0].sum() + exact.problem.noise.label_std**2
    fourth = residual**2 * exact.constants[:, 2] + 2.0 * residual * s7 + s4**2
    np.testing.assert_allclose(row.constants[:, 2], fourth / BATCH**2, rtol=0.15)
    assert row.critical_step_size == pytest.approx(exact.critical_step_size[0], rel=0.05)
    assert abs(row.critical_step_size / exact.critical_step_size[0] - 1.0) < (
        4.0 * row.critical_error / row.critical_step_size
    )


def test_signs_on_gaussian_data_agree_with_data_noise(gaussian):
    data, model, exact = gaussian
    found = sa.network.verify(
        model, half_square, data, K, batch_size=BATCH, repeats=400, noise_batches=400,
        tolerance=0.0, multiples=(0.25, 0.5, 2.0, 4.0), step_size=0.05,
    )  # fmt: skip
    state = found.states[0]
    assert not state.row.beyond_quadratic
    assert [found.signs_at(multiple) for multiple in (0.25, 0.5, 2.0, 4.0)] == [Count(1, 0, 0)] * 4
    eta = state.row.critical_step_size * state.multiples
    law = exact.problem.noise
    for size, t in zip(eta, state.alignment, strict=True):
        mean = law.predict_alignment(
            exact.power_sums, exact.noise_sums, exact.constants, np.array([size]), (1.0, 1.0), None
        ).change[0]
        assert abs(t) < 3.0 or np.sign(t) == np.sign(mean)
    assert state.odds_crossing == pytest.approx(1.0, abs=0.2)


def test_odds_of_a_quadratic_cross_where_the_closed_form_says(gaussian):
    data, model, _ = gaussian
    found = sa.network.verify(
        model, half_square, data, K, batch_size=BATCH, repeats=10, tolerance=0.0
    )
    assert found.crossings == pytest.approx([1.0], rel=1e-9)


def test_losses_on_gaussian_data_agree_with_data_noise(gaussian):
    data, model, exact = gaussian
    found = sa.network.verify(
        model, half_square, data, K, batch_size=BATCH, repeats=400, multiples=(1.0,), step_size=0.05
    )
    state = found.states[0]
    lower, upper = exact.loss_interval[0]
    assert np.sign(state.loss.bulk) == np.sign(0.05 - upper) == -1.0
    assert np.sign(state.loss.dominant) == np.sign(0.05 - lower)


def state_of(seed):
    return perceptron(seed).state_dict()


def test_states_are_tested_in_a_copy():
    model, data = perceptron(), classes()
    model.train()
    before = copy.deepcopy(model.state_dict())
    found = sa.network.verify(
        model, CROSS_ENTROPY, data, 2, batch_size=5, repeats=10, noise_batches=10,
        states=[state_of(1), state_of(2)],
    )  # fmt: skip
    one = perceptron(1)
    alone = sa.network.verify(
        one, CROSS_ENTROPY, data, 2, batch_size=5, repeats=10, noise_batches=10
    )
    assert len(found.states) == 2
    np.testing.assert_array_equal(found.states[0].odds, alone.states[0].odds)
    assert all(torch.equal(v, before[name]) for name, v in model.state_dict().items())
    assert model.training
    table = found.table()
    assert "| eta/eta* |" in table
    assert len([line for line in table.splitlines() if line.startswith("| ")]) == 2 + 6


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_weights_and_optimizer_are_as_before_after_an_interruption(error):
    model, data = perceptron(), classes()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    CROSS_ENTROPY(model(data[0]), data[1]).backward()
    optimizer.step()
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    calls = []

    def interrupted(outputs, targets):
        calls.append(1)
        if len(calls) > 150:
            raise error
        return CROSS_ENTROPY(outputs, targets)

    with pytest.raises(error):
        sa.network.verify(model, interrupted, data, 2, batch_size=5, noise_batches=4)
    assert len(calls) == 151
    after = model.state_dict(), optimizer.state_dict()
    assert all(torch.equal(v, before[0][name]) for name, v in after[0].items())
    assert torch.equal(
        after[1]["state"][0]["momentum_buffer"], before[1]["state"][0]["momentum_buffer"]
    )
    assert model.training
    sa.network.measure_row(model, CROSS_ENTROPY, data, 2, batch_size=5)


def test_crossings_and_statistics():
    multiples = np.array([0.5, 0.9, 1.1, 2.0])
    assert crossing(multiples, 3.0 * multiples**2 - 2.85 * multiples) == pytest.approx(0.95)
    assert np.isnan(crossing(multiples, -multiples))
    assert t_statistic(np.array([1.0, 2.0, 3.0])) == pytest.approx(2.0 * 3.0**0.5)
    assert np.isnan(t_statistic(np.ones(3)))


@pytest.mark.parametrize(("change", "message"), [
    ({"multiples": (2.0, 1.0)}, "multiples must be increasing numbers above zero"),
    ({"multiples": (0.0, 1.0)}, "multiples must be increasing numbers above zero"),
    ({"repeats": 1}, "repeats must be an integer of at least 2, got 1"),
    ({"step_size": 0.0}, "step_size must be a finite number above zero, got 0.0"),
])  # fmt: skip
def test_bad_tests_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        sa.network.verify(perceptron(), CROSS_ENTROPY, classes(), 2, batch_size=5, **change)
