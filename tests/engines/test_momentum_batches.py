"""Momentum on mini-batches of data: the path, its laws, and what rows predict."""

import math

import numba
import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast import theory
from suspalign_fast.engines import make_engine
from suspalign_fast.model.run import Run
from suspalign_fast.physics import batches as batch_rows
from suspalign_fast.physics.batches import moved_sums
from suspalign_fast.physics.row import Velocity
from suspalign_fast.traces.writers import MemoryTrace

from ..conftest import assert_same_bits
from ..helpers import batches
from ..helpers.pairs import all_pairs
from ..running.test_resume import stop_after


@numba.njit
def looks_at_all(row, state):
    """A size between half of one and the whole, by every kind of number that rules see."""
    seen = row.noisy_sums[:, 1].sum() / (row.noisy_sums[:, 1].sum() + row.power_sums[:, 2].sum())
    mixed = row.cross_sums[:, 1].sum() / np.sqrt(
        row.power_sums[:, 1].sum() * (row.cross_sums[:, 4].sum() + row.constants[:, 1].sum())
    )
    return state[0] * (0.6 + 0.3 * seen + 0.1 * mixed)


RULES = {
    "constant": lambda eta: eta,
    "schedule": lambda eta: np.linspace(eta, eta / 3.0, 40),
    "critical": lambda eta: sa.CriticalStep(0.5),
    "interval": lambda eta: sa.LossIntervalStep(0.5),
    "online": lambda eta: sa.OnlineCriticalStep(0.5),
    "own": lambda eta: sa.RowStep(looks_at_all, [eta], observes=True),
}
SPECTRA = {
    "bands": lambda: sa.Spectrum.linear_bands(3000, 70),
    "narrow": lambda: sa.Spectrum.linear_bands(5000, 1500, (1.0, 0.9995), (0.1, 0.09995)),
    "small": lambda: sa.Spectrum([5.0, 4.5, 1.0, 0.3, 0.0], 2),
    "levels": lambda: sa.Spectrum([5.0, 4.5, 1.0, 1e-3], 40, [10, 30, 2000, 500]),
    "cut": lambda: sa.Spectrum.linear_bands(2048, 1024),
}
RECORDED = ("step_size", "power_sums", "noise_sums", "cross_sums")


OPTIMIZERS = [sa.Momentum(0.9), sa.Momentum(0.7, nesterov=True)]


@pytest.fixture(params=OPTIMIZERS, ids=["ball", "nag"])
def optimizer(request):
    return request.param


def problem_of(spectrum, batch=4, std=0.4, initial=1.0):
    return sa.Quadratic(spectrum, sa.DataNoise(batch, std), initial)


def edge(problem, optimizer, update="full"):
    return theory.stability(problem, 0.0, update=update, optimizer=optimizer).largest


@pytest.mark.mostly_long
@all_pairs(
    spectrum=SPECTRA,
    rule=RULES,
    update=["full", "dominant", (0.5, 1.7)],
    dtype=["float64", "float32"],
    optimizer=OPTIMIZERS,
)
def test_step_is_reference(spectrum, rule, update, dtype, optimizer):
    for batch, std in ((1, 0.4), (32, 0.0)):
        problem = problem_of(SPECTRA[spectrum](), batch, std)
        size = RULES[rule](0.3 * edge(problem, optimizer, update))
        how = {"num_steps": 40, "seed": 5, "update": update, "dtype": dtype}
        plain, fast = (
            sa.simulate(problem, size, engine=engine, optimizer=optimizer, **how)
            for engine in ("reference", "step")
        )
        assert plain.status == fast.status == "complete"
        error = 1e-12 if rule in ("constant", "schedule") else 1e-9  # a rule returns errors
        np.testing.assert_allclose(fast.power_sums, plain.power_sums, rtol=error)
        np.testing.assert_allclose(fast.noise_sums, plain.noise_sums, rtol=error)
        scale = np.abs(plain.cross_sums).max(0)  # those of c v cancel
        assert (np.abs(fast.cross_sums - plain.cross_sums) <= error * scale).all()
        np.testing.assert_allclose(fast.step_size, plain.step_size, rtol=1e-9)


@pytest.mark.mostly_long
@all_pairs(rule=RULES, dtype=["float64", "float32"], optimizer=OPTIMIZERS)
def test_no_way_of_running_changes_a_bit(rule, dtype, optimizer, tmp_path):
    problem = problem_of(sa.Spectrum.linear_bands(60_000, 3000), 8)
    how = {"optimizer": optimizer, "dtype": dtype, "seed": 2}
    size = RULES[rule](0.3 * edge(problem, optimizer))
    trace = sa.simulate(problem, size, 40, num_threads=1, **how)
    assert_same_bits(sa.simulate(problem, size, 40, num_threads=2, **how), trace)
    fifth = sa.simulate(problem, size, 40, record_every=5, **how)
    assert_same_bits(fifth, trace, slice(None, None, 5))
    engine = make_engine(Run(problem, size, 40, **how))
    rows = [engine.initial_row(), *(engine.advance(n) for n in (1, 7, 0, 32))]
    sink = MemoryTrace(engine.run)
    for row in rows:
        sink.append(row)
    sink.finish("complete")
    assert_same_bits(sink.trace(), trace)
    together = sa.simulate_ensemble(
        problem, [size], 40, seeds=[2], optimizer=optimizer, dtype=dtype
    )
    assert_same_bits(together[0], trace)
    stored = sa.simulate(problem, size, 40, path=tmp_path / "a.h5", **how)
    assert stored == trace
    if rule != "own":
        assert sa.load_trace(tmp_path / "a.h5") == trace


@pytest.mark.parametrize("rule", ["constant", "schedule", "online"])
def test_runs_are_resumed_at_a_checkpoint(rule, optimizer, tmp_path, monkeypatch):
    problem, path = problem_of(SPECTRA["bands"](), 3), tmp_path / "a.h5"
    how = {"optimizer": optimizer, "record_every": 3}
    size = RULES[rule](0.3 * edge(problem, optimizer))
    trace = sa.simulate(problem, size, 40, **how)
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(sa.Interrupted):
            sa.simulate(problem, size, 40, path=path, checkpoint_every=1e-9, **how)
    assert 0 < len(sa.load_trace(path)) < len(trace)
    assert_same_bits(sa.resume(path), trace)


def test_a_snapshot_is_all_there_is(optimizer):
    problem = problem_of(SPECTRA["levels"](), 3)
    size = RULES["own"](0.3 * edge(problem, optimizer))
    run = Run(problem, size, 40, seed=9, optimizer=optimizer)
    whole, first, second = make_engine(run), make_engine(run), make_engine(run)
    whole.initial_row()
    expected = whole.advance(40)
    first.initial_row()
    first.advance(17)
    second.restore({name: np.array(values) for name, values in first.snapshot().items()})
    found = second.advance(23)
    for column in RECORDED:
        np.testing.assert_array_equal(getattr(found, column), getattr(expected, column)[17:])


@pytest.mark.long
@pytest.mark.parametrize("update", ["full", (0.5, 1.7)])
@pytest.mark.parametrize("name", ["levels", "small"])
def test_expectations_are_those_of_many_runs(name, update, optimizer):
    problem, runs = problem_of(SPECTRA[name](), 4, 0.3), 1500
    eta, times = 0.3 * edge(problem, optimizer, update), [0, 1, 2, 10, 60]
    how = {"update": update, "optimizer": optimizer}
    exact = theory.expected(problem, eta, times, **how)
    traces = sa.simulate_ensemble(
        problem, eta, 60, seeds=range(runs), record_at=times, engine="step", **how
    )
    for column in ("loss", "loss_dominant", "loss_bulk", "grad_sq_dominant", "grad_sq_bulk"):
        values = np.array([trace[column] for trace in traces])
        error = values.std(0) / math.sqrt(runs)
        z = (values.mean(0) - getattr(exact, f"{column}_mean")) / error
        assert (np.abs(z) < 4.5).all(), column


@pytest.mark.mostly_long
@pytest.mark.parametrize(
    ("batch", "dim", "share", "update"), [(1, 12, 0.3, (1.0, 1.0)), (7, 40, 0.9, (0.5, 1.7))]
)
def test_step_has_the_law_of_literal_batches(batch, dim, share, update, optimizer):
    rng, count = np.random.default_rng(1), 4_000
    lam = np.r_[np.linspace(5.0, 4.0, dim // 3), np.linspace(1.0, 0.2, dim - dim // 3)]
    initial = np.random.default_rng(dim).standard_normal(dim)
    problem = problem_of(sa.Spectrum(lam, dim // 3), batch, 0.7, initial)
    eta, how = share * edge(problem, optimizer, update), {"update": update, "optimizer": optimizer}
    exact = batches.literal(problem, eta, 5, 4 * count, rng, **how)
    found = batches.engine(problem, eta, 5, count, **how)
    assert batches.failures(found, exact, problem.initial) == []


def test_caps_of_rules_are_half_of_the_edge_of_mini_batches(optimizer):
    problem = problem_of(SPECTRA["small"](), 1)
    cap = edge(problem, optimizer) / 2.0
    assert cap < optimizer.largest / 5.0 / 4.0  # far below that of additive noise
    for engine in ("step", "levels", "reference"):
        trace = sa.simulate(
            problem, sa.CriticalStep(100.0), 60, engine=engine, optimizer=optimizer, seed=1
        )
        assert trace.step_size.max() == pytest.approx(cap, rel=1e-12)


def test_a_state_at_the_optimum_stays_there(optimizer):
    spectrum = SPECTRA["levels"]()
    for initial in (np.zeros(spectrum.num_levels), 1e-170):
        problem = problem_of(spectrum, 4, 0.0, initial)
        for engine in ("step", "levels", "reference"):
            trace = sa.simulate(problem, 1e-4, 20, engine=engine, optimizer=optimizer)
            assert trace.status == "complete"
            assert (trace.loss == 0.0).all()


# --- what rows say -------------------------------------------------------------------------------


def squares_of(problem, states):
    """Squared gradients of both bands."""
    k, g = problem.spectrum.num_dominant, problem.spectrum.eigenvalues * states
    return (g[..., :k] ** 2).sum(-1), (g[..., k:] ** 2).sum(-1)


@pytest.mark.mostly_long
@pytest.mark.parametrize("batch", [1, 4, 16])
@pytest.mark.parametrize("seed", range(4))
def test_predictions_against_literal_batches(seed, batch, optimizer):
    rng, runs = np.random.default_rng([seed, batch]), 50_000
    problem, v, eta = batches.random_case(rng, batch)
    eta = batches.near_critical(problem, v, eta, optimizer, rng)
    found = batches.row_with(problem, eta, v, optimizer).predicted
    after = batches.literal(problem, eta, 1, runs, rng, optimizer=optimizer, velocity=v)
    dominant, bulk = squares_of(problem, after)
    before = squares_of(problem, problem.initial)
    change = dominant * before[1] - bulk * before[0]
    rose = (change > 0.0).mean()
    assert abs(found.probability[0] - rose) < 0.006 + 4.0 * math.sqrt(rose * (1.0 - rose) / runs)
    expected = dominant.mean() / (dominant + bulk).mean()
    ratio = (dominant - expected * (dominant + bulk)) / (dominant + bulk).mean()
    assert abs(found.mean[0] - expected) < 4.5 * ratio.std() / math.sqrt(runs)
    assert found.std[0] == pytest.approx(ratio.std(), rel=0.05)
    z = change.mean() / change.std()
    assert found.z[0] == pytest.approx(z, abs=0.02 + 0.03 * abs(z))
    rising = found.mean[0] - found.change[0]
    assert rising == pytest.approx(before[0] / (before[0] + before[1]), rel=1e-9)


@pytest.mark.parametrize("share", [0.1, 1.0, 2.5])
@pytest.mark.parametrize("batch", [1, 64])
def test_cumulants_are_those_of_the_gaussian_form(share, batch, optimizer):
    """All three where a band has two eigenvalues: then nothing is estimated."""
    rng, label, etas = np.random.default_rng(batch), 0.3, np.array([0.11, 0.07])
    lam, split = np.repeat([4.0, 3.0, 1.0, 0.2], [2, 1, 3, 2]), 3
    c, v = rng.standard_normal((2, lam.size))
    bands = slice(0, split), slice(split, None)
    powers, traces = (
        np.array([[(lam[b] ** p * x[b]).sum() for p in range(1, 11)] for b in bands])
        for x in (c**2, np.ones_like(c))
    )
    cross = [(2, c * v), (3, c * v), (2, v * v), (5, c * v), (6, c * v), (5, v * v)]
    sums = np.zeros((2, 8))
    sums[:, [1, 2, 4, 5, 6, 7]] = [[(lam[b] ** p * x[b]).sum() for p, x in cross] for b in bands]
    p, q, _ = optimizer.factors
    moved, drift = moved_sums(powers, etas, Velocity(sums, p, q))
    now = powers[:, 1]
    found = batch_rows.cumulants_given(share, moved, traces[:, :9], batch, label, p * etas, now)
    eta = np.repeat(etas, [split, lam.size - split])
    g, variance = lam * c, (lam * c**2).sum() + label**2
    mean = lam * (c - eta * (p * share * g + q * v))
    cov = share / batch * (variance * np.diag(lam) - np.outer(g, g))
    cov = p**2 * (eta * lam)[:, None] * cov * (eta * lam)
    form = np.diag(np.repeat([now[1], -now[0]], [split, lam.size - split]))
    product = form @ cov
    square = product @ product
    expected = (
        mean @ form @ mean + np.trace(product),
        4.0 * mean @ form @ cov @ form @ mean + 2.0 * np.trace(square),
        24.0 * mean @ form @ (cov @ form @ cov) @ form @ mean + 8.0 * np.trace(square @ product),
    )
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    moves = (lam * (c - eta * q * v)) ** 2 - g**2
    np.testing.assert_allclose(drift, [moves[b].sum() for b in bands], rtol=1e-12)


def test_a_velocity_that_moves_nothing_is_none(optimizer):
    problem, v, eta = batches.random_case(np.random.default_rng(1), 4)
    part = batches.row_with(problem, eta, v, optimizer)
    rows = part.power_sums, part.noise_sums, problem.noise_constants, part.step_size, (1.0, 0.5)
    shape, noise = problem.noise_shape, problem.noise
    for still in (Velocity(part.cross_sums, 1.0, 0.0), Velocity(0.0 * part.cross_sums, 1.0, 0.9)):
        found = noise.predict_alignment(*rows, shape, still)
        for value, expected in zip(found, noise.predict_alignment(*rows, shape), strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-13)


def test_the_unit_of_a_state_does_not_matter(optimizer):
    problem, v, eta = batches.random_case(np.random.default_rng(3), 4)
    clean = sa.Quadratic(problem.spectrum, sa.DataNoise(4), problem.initial)
    expected = batches.row_with(clean, eta, v, optimizer).predicted
    for unit in (1e-100, 1e100):
        scaled = sa.Quadratic(problem.spectrum, sa.DataNoise(4), unit * problem.initial)
        found = batches.row_with(scaled, eta, unit * v, optimizer).predicted
        for value, same in zip(found, expected, strict=True):
            np.testing.assert_allclose(value, same, rtol=1e-10)
    assert 0.01 < expected.probability[0] < 0.99
    row = batches.row_with(clean, eta, v, optimizer)
    velocity = Velocity(row.cross_sums[0], *optimizer.factors[:2])
    nothing, unknown = (
        clean.noise.predict_alignment(
            row.power_sums[0], row.noise_sums[0], clean.noise_constants, size, (1.0, 1.0),
            clean.noise_shape, velocity,
        )
        for size in (0.0, np.nan)
    )  # fmt: skip
    assert (nothing.z, nothing.change, nothing.probability) == (0.0, 0.0, 0.0)
    assert np.isnan(unknown.probability)
    rest = sa.Quadratic(problem.spectrum, sa.DataNoise(4), 0.0 * problem.initial)
    assert np.isnan(batches.row_with(rest, eta, v, optimizer).predicted.probability[0])


@pytest.mark.mostly_long
@pytest.mark.parametrize("rule", ["constant", "critical"])
@pytest.mark.parametrize("engine", ["step", "levels"])
def test_chances_of_a_run_are_those_of_its_rises(engine, rule, optimizer):
    spectrum = sa.Spectrum.linear_bands(90, 20, (5.0, 4.0), (1.0, 0.2))
    problem = problem_of(spectrum, 8, 0.4)
    size = RULES[rule](0.5 * edge(problem, optimizer))
    trace = sa.simulate(problem, size, 20_000, engine=engine, optimizer=optimizer, seed=4)
    chance, rose = trace.predicted.probability[:-1], np.diff(trace.alignment) > 0.0
    for part in (chance < 0.3, (chance >= 0.3) & (chance <= 0.7), chance > 0.7):
        p = chance[part]
        assert p.size > 500
        z = (rose[part].sum() - p.sum()) / np.sqrt((p * (1.0 - p)).sum())
        assert abs(z) < 4.0


def test_predictions_of_files_are_those_of_memory(optimizer, tmp_path):
    problem = problem_of(SPECTRA["levels"](), 4, 0.3)
    how = {"optimizer": optimizer, "engine": "levels"}
    kept = sa.simulate(problem, 0.3 * edge(problem, optimizer), 30, **how)
    sa.simulate(problem, kept.run.step_size, 30, path=tmp_path / "a.h5", **how)
    read = sa.load_trace(tmp_path / "a.h5")
    assert read.predicted == kept.predicted
    assert np.isfinite(np.array(kept.predicted)).all()
