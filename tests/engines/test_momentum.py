"""Momentum: the path, its rows, and what rows predict."""

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.base import registry
from suspalign_fast.engines import make_engine
from suspalign_fast.engines.reference import standard_normals
from suspalign_fast.kernels import domains
from suspalign_fast.model.run import Run
from suspalign_fast.physics import formulas as physics
from suspalign_fast.physics.layout import CROSS_SUMS
from suspalign_fast.physics.row import Velocity
from suspalign_fast.traces.writers import MemoryTrace

from ..conftest import assert_same_bits
from ..helpers.pairs import all_pairs
from ..running.test_resume import stop_after

OPTIMIZERS = [sa.Momentum(0.9), sa.Momentum(0.7, nesterov=True)]
RNG = np.random.default_rng(5)
PROBLEMS = {
    "few": sa.Quadratic(
        sa.Spectrum(np.r_[np.linspace(3, 2, 5), np.linspace(1, 0.1, 30)], 5),
        sa.IsotropicNoise(0.3), initial=1.0,
    ),
    "wide": sa.Quadratic(sa.Spectrum.linear_bands(3000, 70), sa.HessianNoise(0.3), initial=1.0),
    "narrow": sa.Quadratic(
        sa.Spectrum.linear_bands(5000, 1500, (1.0, 0.9995), (0.1, 0.09995)), initial=1.0
    ),
    "levels": sa.Quadratic(sa.Spectrum.two_level(5000, 70, 10.0, 1.0), initial=1.0),
    "diagonal": sa.Quadratic(
        sa.Spectrum.linear_bands(2500, 70), sa.DiagonalNoise(RNG.uniform(0, 1, 2500)), initial=1.0
    ),
}  # fmt: skip


@pytest.fixture(params=OPTIMIZERS, ids=["heavy ball", "Nesterov"])
def optimizer(request):
    return request.param


def eta_of(problem, share=0.3):
    return share / problem.spectrum.eigenvalues[0]


def literal(problem, eta, num_steps, optimizer, seed=0):
    """Coefficients after every step, as PyTorch moves them."""
    spectrum = problem.spectrum
    lam, std = (
        np.repeat(values, spectrum.multiplicities)
        for values in (spectrum.eigenvalues, problem.stds)
    )
    c = problem.initial * standard_normals(seed, domains.INITIAL, 0, spectrum.dim)
    buffer, found = np.zeros_like(c), [c.copy()]
    for step in range(num_steps):
        gradient = lam * c + std * standard_normals(seed, domains.STEP, step, spectrum.dim)
        buffer = optimizer.beta * buffer + gradient
        c = c - eta * (gradient + optimizer.beta * buffer if optimizer.nesterov else buffer)
        found.append(c.copy())
    return lam, np.array(found)


@pytest.mark.mostly_long
@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("engine", ["reference", "step"])
def test_the_path_is_that_of_the_formulas(name, engine, optimizer):
    problem = PROBLEMS[name]
    lam, c = literal(problem, eta_of(problem), 100, optimizer)
    trace = sa.simulate(problem, eta_of(problem), 100, engine=engine, optimizer=optimizer)
    np.testing.assert_allclose(trace.loss, (lam * c**2).sum(1) / 2, rtol=1e-12)
    run = Run(problem, eta_of(problem), 100, engine=engine, optimizer=optimizer)
    made = make_engine(run)
    made.initial_row()
    made.advance(100)
    np.testing.assert_allclose(made.state, c[-1], rtol=0, atol=1e-12 * np.abs(c).max())


RULES = {
    "constant": lambda eta: eta,
    "schedule": lambda eta: eta * np.linspace(1.0, 0.0, 40),
    "critical": lambda eta: sa.CriticalStep(0.5),
    "interval": lambda eta: sa.LossIntervalStep(0.5),
    "online": lambda eta: sa.OnlineCriticalStep(0.5),
}


@pytest.mark.mostly_long
@all_pairs(name=PROBLEMS, rule=RULES, update=["full", (1.0, 0.3)], optimizer=OPTIMIZERS)
def test_step_is_reference(name, rule, update, optimizer):
    problem = PROBLEMS[name]
    size = RULES[rule](eta_of(problem))
    one, other = (
        sa.simulate(problem, size, 40, engine=engine, optimizer=optimizer, update=update, seed=3)
        for engine in ("reference", "step")
    )
    assert one.status == other.status == "complete"
    for column in ("step_size", "power_sums", "noise_sums", "cross_sums"):
        scale = np.nanmax(np.abs(one[column]), axis=0)
        error = np.abs(other[column] - one[column]) / np.where(scale > 0, scale, 1)
        assert np.nanmax(error) < 2e-12, column


@pytest.mark.mostly_long
@all_pairs(rule=RULES, dtype=["float64", "float32"], optimizer=OPTIMIZERS)
def test_no_way_of_running_changes_a_bit(rule, dtype, optimizer, tmp_path):
    problem = sa.Quadratic(sa.Spectrum.linear_bands(60_000, 3000), initial=1.0)
    how = {"optimizer": optimizer, "dtype": dtype}
    size = RULES[rule](eta_of(problem))
    trace = sa.simulate(problem, size, 40, num_threads=1, **how)
    assert_same_bits(sa.simulate(problem, size, 40, num_threads=2, **how), trace)
    fifth = sa.simulate(problem, size, 40, record_every=5, **how)
    assert_same_bits(fifth, trace, slice(None, None, 5))
    engine = make_engine(Run(problem, size, 40, **how))
    rows = [engine.initial_row(), *(engine.advance(n) for n in (1, 7, 32))]
    sink = MemoryTrace(engine.run)
    for row in rows:
        sink.append(row)
    sink.finish("complete")
    assert_same_bits(sink.trace(), trace)
    stored = sa.simulate(problem, size, 40, path=tmp_path / "a.h5", **how)
    assert stored == trace == sa.load_trace(tmp_path / "a.h5")
    assert stored.run.optimizer == optimizer


@pytest.mark.parametrize("rule", ["constant", "critical"])
def test_runs_are_resumed_at_a_checkpoint(rule, optimizer, tmp_path, monkeypatch):
    problem, path = PROBLEMS["wide"], tmp_path / "a.h5"
    how = {"optimizer": optimizer, "record_every": 3}
    size = RULES[rule](eta_of(problem))
    trace = sa.simulate(problem, size, 300, **how)
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(sa.Interrupted):
            sa.simulate(problem, size, 300, path=path, checkpoint_every=1e-9, **how)
    assert 0 < len(sa.load_trace(path)) < len(trace)
    assert_same_bits(sa.resume(path), trace)


def test_no_momentum_is_plain_sgd():
    problem = PROBLEMS["wide"]
    for rule in (eta_of(problem), sa.CriticalStep(0.5)):
        plain = sa.simulate(problem, rule, 50)
        for optimizer in (sa.Momentum(0.0), sa.Momentum(0.0, nesterov=True)):
            trace = sa.simulate(problem, rule, 50, optimizer=optimizer)
            assert_same_bits(trace, plain)
            assert "cross_sums" not in trace.columns()
    assert "cross_sums" in sa.simulate(problem, 1e-3, 5, optimizer=sa.Momentum(0.1)).columns()


# --- what rows say -------------------------------------------------------------------------------


def rows_of(lam, std, num_dominant, c, v, factors):
    """Sums, constants and velocity of states, shape (..., d), from their definitions."""
    bands = slice(num_dominant), slice(num_dominant, None)

    def sums(terms):
        return np.stack([[t[..., band].sum(-1) for t in terms] for band in bands])

    powers = np.moveaxis(sums([lam**p * c**2 for p in (1, 2, 3, 4)]), (0, 1), (-2, -1))
    noise = np.moveaxis(sums([lam**p * std**2 * c**2 for p in (4, 5, 6)]), (0, 1), (-2, -1))
    both = [
        lam**p * (std**2 if noisy else 1.0) * (c * v if mixed else v * v)
        for p, noisy, mixed in CROSS_SUMS.terms
    ]
    cross = np.moveaxis(sums(both), (0, 1), (-2, -1))
    constants = sums([lam * std**2, lam**2 * std**2, lam**4 * std**4])
    return powers, noise, constants, Velocity(cross, *factors[:2])


def random_state(rng, dim=40, num_dominant=8):
    lam = np.r_[np.linspace(3, 2, num_dominant), np.linspace(1, 0.1, dim - num_dominant)]
    c = rng.normal(size=dim) * rng.uniform(0.05, 2.0) / lam ** rng.uniform(0, 2)
    v = rng.normal(size=dim) * rng.uniform(0.0, 3.0) + rng.normal() * lam * c
    return lam, rng.uniform(0.1, 0.5, dim), c, v


@pytest.mark.parametrize("seed", range(12))
def test_expectations_of_a_row_are_those_of_a_step(seed, optimizer):
    """Against the exact expectation of every coordinate, by another way."""
    rng = np.random.default_rng(seed)
    lam, std, c, v = random_state(rng)
    p, q, _ = factors = optimizer.factors
    powers, _, constants, velocity = rows_of(lam, std, 8, c, v, factors)
    critical = float(physics.critical_step_size(powers, constants, velocity=velocity))
    reverses = bool(physics.is_reversed(powers, constants, velocity=velocity))
    bands = slice(8), slice(8, None)

    def after(eta, power):
        mean = c - eta * (p * lam * c + q * v)
        terms = lam**power * (mean**2 + (eta * p * std) ** 2)
        return np.array([terms[band].sum() for band in bands])

    now = np.array([(lam**2 * c**2)[band].sum() for band in bands])

    def rises(eta):
        dominant, bulk = after(eta, 2)
        return dominant * now[1] > bulk * now[0]

    if np.isfinite(critical) and critical > 0.0:
        assert rises(0.999 * critical) == reverses
        assert rises(1.001 * critical) != reverses
    else:
        assert all(rises(eta) == (critical == 0.0) for eta in np.geomspace(1e-4, 3.0, 20))
    bounds = physics.loss_interval(powers, constants, velocity)
    for band in (0, 1):
        loss = (lam * c**2)[bands[band]].sum()
        if bounds[band] > 0.0:
            assert (
                after(0.999 * bounds[band], 1)[band] < loss < after(1.001 * bounds[band], 1)[band]
            )
        else:
            assert all(after(eta, 1)[band] >= loss for eta in np.geomspace(1e-6, 1.0, 20))


def test_all_four_cases_occur(optimizer):
    names = set()
    for seed in range(200):
        rng = np.random.default_rng(seed)
        lam, std, c, v = random_state(rng)
        for band in (slice(8), slice(8, None)):
            c[band] *= 10.0 ** rng.uniform(-2, 1)
            v[band] *= 10.0 ** rng.uniform(-2, 1)
        powers, _, constants, velocity = rows_of(lam, std, 8, c, v, optimizer.factors)
        critical = physics.critical_step_size(powers, constants, velocity=velocity)
        reverses = physics.is_reversed(powers, constants, velocity=velocity)
        names.add(str(physics.regime(np.array(1e-9), critical, reverses)))
    assert names == {"below", "self-correcting", "rising", "rising-below"}


@pytest.mark.mostly_long
@pytest.mark.parametrize("seed", range(6))
def test_predictions_against_many_steps(seed, optimizer):
    rng = np.random.default_rng(seed)
    lam, std, c, v = random_state(rng, 300, 60)
    std[:] = 0.4
    p, q, _ = optimizer.factors
    powers, noise, constants, velocity = rows_of(lam, std, 60, c, v, optimizer.factors)
    problem = sa.Quadratic(sa.Spectrum(lam, 60), sa.IsotropicNoise(0.4))
    size = rng.choice([0.05, 0.3])
    found = physics.predict_alignment(
        powers, noise, constants, size, shape=problem.noise_shape, velocity=velocity
    )
    xi = rng.normal(size=(40_000, lam.size))
    g = lam * (c - size * (p * (lam * c + std * xi) + q * v))
    dominant, bulk = (g[:, :60] ** 2).sum(1), (g[:, 60:] ** 2).sum(1)
    alignment = dominant / (dominant + bulk)
    error = found.std / 200.0
    assert abs(alignment.mean() - found.mean) < 5 * error + 2.0 * found.std**2
    assert alignment.std() == pytest.approx(float(found.std), rel=0.03)
    before = float(physics.alignment(powers))
    rose = (alignment > before).mean()
    assert found.probability == pytest.approx(rose, abs=0.012)
    assert np.sign(found.z) == np.sign(rose - 0.5) or abs(found.z) < 0.3


def test_rules_stand_at_the_critical_step_size(optimizer):
    problem = sa.Quadratic(sa.Spectrum.linear_bands(500, 50, (100, 80), (8, 1)), initial=10.0)
    trace = sa.simulate(problem, sa.CriticalStep(0.5), 300, optimizer=optimizer)
    cap = optimizer.largest / 100.0 / 2.0
    reverses = np.isin(trace.regime, ["rising-below", "falling-above"])
    falls = np.isfinite(trace.critical_step_size) & (trace.critical_step_size > 0) & ~reverses
    expected = np.where(falls, np.minimum(cap, 0.5 * trace.critical_step_size), cap)
    expected[trace.critical_step_size == 0.0] = trace.step_size[trace.critical_step_size == 0.0]
    np.testing.assert_allclose(trace.step_size, expected, rtol=1e-10)
    assert falls.any()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"optimizer": "momentum"}, r"optimizer must be SGD\(\) or Momentum"),
        ({"optimizer": sa.Momentum}, r"optimizer must be SGD\(\) or Momentum"),
    ],
)
def test_bad_optimizers_are_named(how, message):
    given = {"optimizer": sa.Momentum(0.9)} | how
    with pytest.raises(ValueError, match=message):
        sa.simulate(PROBLEMS["few"], 0.1, 5, **given)


def test_engines_without_a_velocity_are_named(monkeypatch):
    monkeypatch.setattr(registry.ENGINES["jump"], "takes_velocity", False)
    with pytest.raises(ValueError, match=r"engine must be one of .* under momentum, got 'jump'"):
        sa.simulate(PROBLEMS["few"], 0.1, 5, engine="jump", optimizer=sa.Momentum(0.9))


FEW = sa.Spectrum([3.0, 2.0, 1.0, 0.5, 0.2, 0.1], 3, [1, 2, 5, 1, 3, 40])
NOISES = {"additive": sa.IsotropicNoise(0.3), "batches": sa.DataNoise(4, 0.3)}


@pytest.mark.mostly_long
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("rule", ["constant", "critical"])
def test_levels_have_the_law_of_the_path(noise, rule, optimizer):
    """Moments of every sum, at steps near and far, levels of one, two and many directions."""
    problem, runs = sa.Quadratic(FEW, NOISES[noise], initial=1.0), 600
    size = 0.03 if rule == "constant" else sa.CriticalStep(0.5, max_step=0.05)
    how = {"num_steps": 20, "record_at": [1, 2, 5, 20], "optimizer": optimizer}
    one = sa.simulate_ensemble(problem, size, seeds=range(runs), engine="levels", **how)
    other = sa.simulate_ensemble(problem, size, seeds=range(runs), engine="step", **how)
    for name in ("power_sums", "noise_sums", "cross_sums", "alignment"):
        x, y = (np.array([trace[name][1:] for trace in traces]) for traces in (one, other))
        for power in (1, 2):
            a, b = x**power, y**power
            error = np.sqrt((a.var(0) + b.var(0)) / runs)
            assert (np.abs(a.mean(0) - b.mean(0)) <= 5.0 * error).all(), (name, power)


def test_levels_are_resumed_and_chunked_bit_for_bit(optimizer):
    problem = sa.Quadratic(FEW, initial=1.0)
    for size in (0.05, sa.CriticalStep(0.5), sa.OnlineCriticalStep(0.5)):
        how = {"engine": "levels", "optimizer": optimizer}
        trace = sa.simulate(problem, size, 40, **how)
        engine = make_engine(Run(problem, size, 40, **how))
        sink = MemoryTrace(engine.run)
        for rows in [engine.initial_row(), *(engine.advance(n) for n in (1, 7, 32))]:
            sink.append(rows)
        sink.finish("complete")
        assert_same_bits(sink.trace(), trace)
        assert_same_bits(
            sa.simulate(problem, size, 40, record_every=5, **how), trace, slice(None, None, 5)
        )


@pytest.mark.parametrize("beta", [-0.1, 1.0, 2.0, float("nan"), "much", None])
def test_bad_betas_are_named(beta):
    with pytest.raises(ValueError, match="beta must be"):
        sa.Momentum(beta)
    with pytest.raises(ValueError, match="nesterov must be"):
        sa.Momentum(0.5, nesterov=1)
