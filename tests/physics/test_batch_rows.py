"""Rows under mini-batches: cumulants as matrices say, laws as literal batches have them."""

import numpy as np
import pytest
from scipy import stats

from suspalign_fast.physics import batches
from suspalign_fast.physics import formulas as physics
from suspalign_fast.physics.rise import NoiseShape

LAM = np.array([4.0, 3.0, 1.0, 0.7, 0.5, 0.2, 0.1])
SPLIT = 2
C = np.array([0.5, -0.3, 1.0, 0.4, -1.2, 2.0, 1.5])
BANDS = (slice(0, SPLIT), slice(SPLIT, None))


def row_of(lam, c, split=SPLIT):
    bands = slice(0, split), slice(split, None)
    powers = lam ** np.arange(1, 11)[:, None]
    sums = np.array([(powers[:, b] * c[b] ** 2).sum(-1) for b in bands])
    traces = np.array([powers[:9, b].sum(-1) for b in bands])
    return sums, traces


def recorded(sums, traces):
    """Sums and constants as a row of a trace has them."""
    return sums[..., :4], sums[..., 4:7], traces[:, [1, 2, 5]]


def constants_at(sums, traces, batch, std):
    power, noise, constants = recorded(sums, traces)
    return batches.constants_at(constants, power, noise, batch, std)


def etas_of(eta, lam, split=SPLIT):
    return np.where(np.arange(lam.size) < split, eta[0], eta[1])


@pytest.mark.parametrize("eta", [(0.1, 0.1), (0.3, 0.05), (0.2, 0.0)])
@pytest.mark.parametrize("batch", [1, 3, 64])
@pytest.mark.parametrize("share", [0.1, 1.0, 2.5])
def test_cumulants_are_those_of_the_gaussian_form(eta, batch, share):
    sums, traces = row_of(LAM, C)
    found = batches.cumulants_given(share, sums, traces, batch, 0.3, np.array(eta))
    g, etas = LAM * C, etas_of(eta, LAM)
    p = (LAM * C**2).sum() + 0.3**2
    mean = g - etas * LAM * share * g
    cov = share / batch * (p * np.diag(LAM) - np.outer(g, g))
    cov = (etas * LAM)[:, None] * cov * (etas * LAM)
    s2 = [(g[b] ** 2).sum() for b in BANDS]
    form = np.diag(np.where(np.arange(LAM.size) < SPLIT, s2[1], -s2[0]))
    product = form @ cov
    square = product @ product
    expected = (
        mean @ form @ mean + np.trace(product),
        4.0 * mean @ form @ cov @ form @ mean + 2.0 * np.trace(square),
        24.0 * mean @ form @ (cov @ form @ cov) @ form @ mean + 8.0 * np.trace(square @ product),
    )
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13 * s2[0] ** 3)


def literal(lam, c, eta, batch, std, runs, rng):
    """Squared gradients of both bands and losses after a step on drawn samples."""
    samples = rng.standard_normal((runs, batch, lam.size)) * np.sqrt(lam)
    rest = samples @ c - std * rng.standard_normal((runs, batch))
    after = c - etas_of(eta, lam) / batch * (samples * rest[..., None]).sum(1)
    grads = [((lam * after)[:, b] ** 2).sum(-1) for b in BANDS]
    losses = [(lam * after**2)[:, b].sum(-1) / 2.0 for b in BANDS]
    return np.array(grads), np.array(losses)


@pytest.mark.mostly_long
@pytest.mark.parametrize("std", [0.0, 0.7])
@pytest.mark.parametrize("batch", [1, 7])
def test_means_of_literal_batches(batch, std):
    rng, runs, eta = np.random.default_rng(batch), 100_000, 0.1
    sums, traces = row_of(LAM, C)
    constants = constants_at(sums, traces, batch, std)
    t = sums[:, 3] + constants[:, 1]
    grads, _ = literal(LAM, C, (eta, eta), batch, std, runs, rng)
    expected = sums[:, 1] - 2.0 * eta * sums[:, 2] + eta**2 * t
    error = grads.std(-1) / np.sqrt(runs)
    assert (np.abs(grads.mean(-1) - expected) < 4.5 * error).all()
    # At the critical step size the odds stand still in the mean.
    critical = float(physics.critical_step_size(sums[:, :4], constants))
    assert 0.0 < critical < np.inf
    grads, _ = literal(LAM, C, (critical, critical), batch, std, runs, rng)
    z = sums[1, 1] * grads[0] - sums[0, 1] * grads[1]
    assert abs(z.mean()) < 4.5 * z.std() / np.sqrt(runs)


@pytest.mark.mostly_long
@pytest.mark.parametrize("band", [0, 1])
def test_a_step_of_the_bound_leaves_the_loss(band):
    rng, runs, batch, std = np.random.default_rng(3), 200_000, 4, 0.5
    sums, traces = row_of(LAM, C)
    constants = constants_at(sums, traces, batch, std)
    bound = physics.loss_interval(sums[:, :4], constants)[band]
    eta = [0.0, 0.0]
    eta[band] = bound
    _, losses = literal(LAM, C, eta, batch, std, runs, rng)
    change = losses.sum(0) - sums[:, 0].sum() / 2.0
    assert abs(change.mean()) < 4.5 * change.std() / np.sqrt(runs)


@pytest.mark.parametrize("batch", [1, 2, 8, 1000, 10**6])
def test_nodes_average_over_a_chi_square(batch):
    share, weights = batches.nodes_of(batch)
    assert weights.sum() == pytest.approx(1.0)
    law = stats.chi2(batch)
    for power in (1, 2, 3):
        moment = float(law.moment(power)) / float(batch) ** power
        assert (weights * share**power).sum() == pytest.approx(moment, rel=1e-6)
    assert (weights * np.exp(-share)).sum() == pytest.approx(
        (1.0 + 2.0 / batch) ** (-batch / 2.0), rel=1e-8
    )


@pytest.mark.long
@pytest.mark.parametrize(
    ("dim", "split", "batch", "worst"), [(22, 20, 8, 0.02), (40, 2, 8, 0.03), (40, 20, 64, 0.02)]
)
def test_the_chance_of_a_rise_is_calibrated(dim, split, batch, worst):
    """Against literal batches, at step sizes around the critical one."""
    rng, runs = np.random.default_rng(dim + split), 40_000
    lam = np.r_[np.linspace(5.0, 4.0, split), np.linspace(1.0, 0.2, dim - split)]
    c = rng.standard_normal(dim) * np.r_[np.full(split, 0.2), np.ones(dim - split)]
    sums, traces = row_of(lam, c, split)
    constants = constants_at(sums, traces, batch, 0.3)
    critical = float(physics.critical_step_size(sums[:, :4], constants))
    critical = critical if np.isfinite(critical) else 0.4
    power, noise, of_run = recorded(sums, traces)
    shape = NoiseShape(np.cbrt(traces[:, 8]))
    for share in (0.3, 0.7, 1.0, 1.5):
        eta = np.full(2, share * critical)
        samples = rng.standard_normal((runs, batch, dim)) * np.sqrt(lam)
        rest = samples @ c - 0.3 * rng.standard_normal((runs, batch))
        after = lam * (c - eta[0] / batch * (samples * rest[..., None]).sum(1))
        dominant, bulk = (after[:, :split] ** 2).sum(-1), (after[:, split:] ** 2).sum(-1)
        rose = (dominant * sums[1, 1] > bulk * sums[0, 1]).mean()
        found = batches.probability_of_rise(sums, traces, batch, 0.3, eta)
        assert abs(found - rose) < worst + 4.0 * np.sqrt(rose * (1.0 - rose) / runs)
        # A row lacks three sums, which are extrapolated.
        predicted = batches.predict_alignment(
            power, noise, of_run, eta[0], (1.0, 1.0), shape, batch, 0.3
        )
        assert predicted.probability == pytest.approx(found, abs=3e-3)
        change = dominant * sums[1, 1] - bulk * sums[0, 1]
        assert predicted.z == pytest.approx(
            change.mean() / change.std(), abs=5.0 / np.sqrt(runs) * (1.0 + abs(predicted.z))
        )
        assert predicted.mean == pytest.approx(dominant.mean() / (dominant + bulk).mean(), rel=0.02)


@pytest.mark.mostly_long
@pytest.mark.parametrize("batch", [1, 16])
def test_the_spread_of_the_next_alignment(batch):
    rng, runs, eta = np.random.default_rng(batch), 20_000, 0.002
    lam = np.r_[np.linspace(5.0, 4.0, 60), np.linspace(1.0, 0.2, 60)]
    c = rng.standard_normal(120) * np.r_[np.full(60, 0.2), np.ones(60)]
    sums, traces = row_of(lam, c, 60)
    power, noise, constants = recorded(sums, traces)
    found = batches.predict_alignment(
        power, noise, constants, eta, (1.0, 1.0), NoiseShape(np.cbrt(traces[:, 8])), batch, 0.3
    )
    samples = rng.standard_normal((runs, batch, 120)) * np.sqrt(lam)
    rest = samples @ c - 0.3 * rng.standard_normal((runs, batch))
    after = (lam * (c - eta / batch * (samples * rest[..., None]).sum(1))) ** 2
    alignment = after[:, :60].sum(-1) / after.sum(-1)
    assert found.std == pytest.approx(alignment.std(), rel=0.05)
    assert found.mean == pytest.approx(alignment.mean(), abs=0.05 * alignment.std())


@pytest.mark.parametrize("eta", [(0.1, 0.1), (0.3, 0.05)])
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_the_spread_of_z_is_that_of_its_cumulants(eta, batch):
    sums, traces = row_of(LAM, C)
    power, noise, constants = recorded(sums, traces)
    found = batches.predict_alignment(
        power, noise, constants, 1.0, eta, NoiseShape(np.cbrt(traces[:, 8])), batch, 0.3
    )
    mean = square = 0.0
    for share, weight in zip(*batches.nodes_of(batch), strict=True):
        z = batches.cumulants_given(share, sums, traces, batch, 0.3, np.array(eta))
        mean += weight * z.mean
        square += weight * (z.variance + z.mean**2)
    assert found.z == pytest.approx(mean / np.sqrt(square - mean**2), rel=1e-6)


def predicted(rows, traces, std, eta):
    power, noise, constants = recorded(rows, traces)
    shape = NoiseShape(np.cbrt(traces[:, 8]))
    return batches.predict_alignment(power, noise, constants, eta, (1.0, 1.0), shape, 4, std)


def test_certain_and_unknown_rows():
    sums, traces = row_of(LAM, C)
    rows = np.array([sums, np.zeros_like(sums), 1e200 * sums, 1e-200 * sums])
    found = predicted(rows, traces, 0.0, np.full(4, 0.1)).probability
    assert np.isnan(found[1])
    assert found[0] == pytest.approx(found[2], rel=1e-12)
    assert found[0] == pytest.approx(found[3], rel=1e-12)
    assert np.isnan(predicted(sums, traces, 0.5, np.nan).probability)
    still = predicted(sums, traces, 0.5, 0.0)
    assert (still.probability, still.z, still.change) == (0.0, 0.0, 0.0)
