"""The engine `jump` with momentum: its law against exact theory, its paths against formulas."""

import numpy as np
import pytest
from scipy import stats

import suspalign_fast as sa
from suspalign_fast.engines import make_engine
from suspalign_fast.engines.base import VELOCITY
from suspalign_fast.engines.moves import VelocityMoves
from suspalign_fast.engines.reference import standard_normals
from suspalign_fast.kernels import domains
from suspalign_fast.model.moves import momentum_transition
from suspalign_fast.model.run import Run
from suspalign_fast.model.step_size import as_step_size

from ..conftest import assert_same_bits
from ..helpers import law
from ..helpers.pairs import all_pairs
from ..model.test_momentum_moves import steps_one_by_one
from .test_momentum import OPTIMIZERS, PROBLEMS, eta_of, rows_of

#: Standard errors that a statistic may be off; some hundreds of them are looked at.
LIMIT = 4.5
STEPS = 60
RULES = {
    "constant": lambda eta: eta,
    "schedule": lambda eta: eta * np.linspace(1.5, 0.0, STEPS),
}
RECORDED = {
    "every": {},
    "stride": {"record_every": 7},
    "irregular": {"record_at": [1, 2, 5, 9, 13, 17, 20, 60]},
}


@pytest.fixture(params=OPTIMIZERS, ids=["heavy ball", "Nesterov"])
def optimizer(request):
    return request.param


def quiet(problem):
    """Return a problem without its noise."""
    return sa.Quadratic(problem.spectrum, sa.IsotropicNoise(0.0), problem.initial)


def per_direction(problem, update):
    """Eigenvalue, noise and weight of the update of every direction."""
    spectrum = problem.spectrum
    values = spectrum.eigenvalues, problem.stds, spectrum.per_level(update)
    return (np.repeat(value, spectrum.multiplicities) for value in values)


# --- paths ---------------------------------------------------------------------------------------


@all_pairs(
    name=PROBLEMS,
    rule=RULES,
    recorded=RECORDED,
    update=["full", (1.5, 0.3), "bulk"],
    optimizer=OPTIMIZERS,
)
def test_without_noise_rows_are_those_of_steps(name, rule, recorded, update, optimizer):
    problem, how = quiet(PROBLEMS[name]), {"optimizer": optimizer, "update": update}
    size = RULES[rule](eta_of(problem))
    step, jump = (
        sa.simulate(problem, size, STEPS, engine=engine, **how, **RECORDED[recorded])
        for engine in ("step", "jump")
    )
    np.testing.assert_array_equal(jump.step, step.step)
    np.testing.assert_array_equal(jump.step_size, step.step_size)
    np.testing.assert_allclose(jump.power_sums, step.power_sums, rtol=1e-12)
    scale = np.abs(step.cross_sums).max(axis=0)
    error = np.abs(jump.cross_sums - step.cross_sums)
    assert (error <= 1e-12 * scale).all()


@pytest.mark.mostly_long
@all_pairs(name=PROBLEMS, rule=RULES, recorded=RECORDED, optimizer=OPTIMIZERS)
def test_rows_are_those_of_the_formulas(name, rule, recorded, optimizer):
    """Moves by `momentum_transition`, normals by NumPy, sums by their definitions."""
    problem, update = PROBLEMS[name], (1.5, 0.3)
    size = as_step_size(RULES[rule](eta_of(problem)))
    how = {"optimizer": optimizer, "update": update, "seed": 3} | RECORDED[recorded]
    run = Run(problem, size, STEPS, engine="jump", **how)
    lam, std, weight = per_direction(problem, update)
    dim, split = problem.spectrum.dim, problem.spectrum.num_dominant
    c, v, now = problem.initial * standard_normals(3, domains.INITIAL, 0, dim), np.zeros(dim), 0
    engine = make_engine(run)
    engine.initial_row()
    rows = engine.advance(STEPS)
    for i, step in enumerate(rows.step.tolist()):
        move = momentum_transition(size, now, step, lam, weight, optimizer)
        one, two = (
            std * standard_normals(3, domain, step, dim)
            for domain in (domains.JUMP, domains.JUMP_ACROSS)
        )
        c, v, now = (
            move.cc * c + move.cv * v + move.noise_cc * one,
            move.vc * c + move.vv * v + move.noise_vc * one + move.noise_vv * two,
            step,
        )
        found = rows_of(lam, std, split, c, v, optimizer.factors)
        for kind, expected in (
            ("power_sums", found[0]), ("noise_sums", found[1]), ("cross_sums", found[3].sums)
        ):  # fmt: skip
            actual, scale = getattr(rows, kind)[i], np.abs(getattr(rows, kind)).max(axis=0)
            # Narrow blocks take noise sums of high powers to 6e-11 (`kernels.plan`).
            rtol = 1e-10 if kind == "noise_sums" or name == "narrow" else 1e-11
            assert (np.abs(actual - expected) <= rtol * scale).all(), kind
    np.testing.assert_allclose(engine.state, c, rtol=0, atol=1e-12 * np.abs(c).max())
    np.testing.assert_allclose(engine.planes[VELOCITY], v, rtol=0, atol=1e-12 * np.abs(v).max())


def test_with_hardly_any_momentum_rows_are_those_of_plain_sgd():
    """Both draw the first normals from one domain."""
    problem, how = PROBLEMS["wide"], {"engine": "jump", "record_every": 4}
    plain = sa.simulate(problem, 1e-3, STEPS, **how)
    for optimizer in (sa.Momentum(1e-14), sa.Momentum(1e-14, nesterov=True)):
        trace = sa.simulate(problem, 1e-3, STEPS, optimizer=optimizer, **how)
        np.testing.assert_allclose(trace.power_sums, plain.power_sums, rtol=1e-11)
    assert_same_bits(sa.simulate(problem, 1e-3, STEPS, optimizer=sa.Momentum(0.0), **how), plain)


# --- laws ----------------------------------------------------------------------------------------

COPIES = 250_000
#: From close to the edge over swinging to overdamped.
FEW = sa.Spectrum([12.0, 5.0, 1.0, 0.01], 2 * COPIES, [COPIES] * 4)
START = np.array([0.1, 0.5, 2.0, -1.0])
AT = [1, 3, 40, 1000]


def states_at(engine, steps):
    """Coefficients and velocities at some steps, shape (2, levels, copies) each."""
    for gap in np.diff(steps, prepend=0).tolist():
        engine.advance(gap)
        yield np.stack([engine.state, engine.planes[VELOCITY]]).reshape(2, -1, COPIES)


def scores_of(z, correlation, past):
    """Standard errors by which pairs miss unit normals of a correlation, whatever was before."""
    count = z.shape[1]
    yield "means", np.abs(z.mean(1)).max() * np.sqrt(count)
    yield "variances", np.abs((z**2).mean(1) - 1.0).max() * np.sqrt(count / 2)
    error = np.sqrt((1.0 + correlation**2) / count)
    yield "covariance", abs((z[0] * z[1]).mean() - correlation) / error
    if past.std(1).min() > 0.0:
        unit = (past - past.mean(1)[:, None]) / past.std(1)[:, None]
        yield "what was before", np.abs(z @ unit.T).max() / np.sqrt(count)
    for which, values in zip("cv", z, strict=True):
        yield f"shape of {which}", stats.norm.isf(stats.kstest(values, "norm").pvalue / 2.0)


def scores_of_moves(size, optimizer, update=(1.0, 1.0)):
    """Standard errors by which moves of many copies miss their exact law, by names.

    What noise has added to c and v between two rows is normal, with the covariance of steps one by
    one, and depends on nothing before.
    """
    problem = sa.Quadratic(FEW, sa.DiagonalNoise([0.3, 0.5, 0.7, 0.2]), START)
    run = Run(problem, as_step_size(size), AT[-1], record_at=AT, engine="jump",
              optimizer=optimizer, update=update, seed=4)  # fmt: skip
    sizes = run.step_size.values(0, AT[-1])
    before = np.stack([np.repeat(START[:, None], COPIES, 1), np.zeros((4, COPIES))])
    scores, start = {}, 0
    for stop, after in zip(AT, states_at(make_engine(run), AT), strict=True):
        for level in range(4):
            etas = sizes[start:stop] * update[level >= FEW.num_dominant_levels]
            power, spread = steps_one_by_one(etas, FEW.eigenvalues[level], optimizer)
            z, normal = (after[:, level] - power @ before[:, level]) / problem.stds[level], spread
            if stop - start > 1:  # the noise of more than one step is that of two numbers
                z, normal = np.linalg.solve(np.linalg.cholesky(spread), z), np.eye(2)
            unit = np.sqrt(np.diag(normal))[:, None]
            z, correlation = z / unit, normal[0, 1] / unit.prod()
            scores |= {
                f"to step {stop}, level {level}: {name}": score
                for name, score in scores_of(z, correlation, before[:, level])
            }
        before, start = after.copy(), stop
    return scores


SIZES = {"constant": 0.09, "schedule": np.linspace(0.1, 0.02, AT[-1])}


@pytest.mark.mostly_long
@pytest.mark.parametrize("size", SIZES)
def test_moves_of_coefficients_have_their_exact_law(size, optimizer):
    scores = scores_of_moves(SIZES[size], optimizer, update=(0.8, 1.2))
    assert {name: score for name, score in scores.items() if score > LIMIT} == {}
    assert len(scores) == 4 * (5 + 3 * 6)


@pytest.mark.long
@pytest.mark.parametrize("part", [slice(-3, None), -3, -2, -1], ids=["K", "cc", "vc", "vv"])
def test_one_percent_more_noise_is_seen_there(part, optimizer, monkeypatch):
    plant(monkeypatch, part, 1.01)
    scores = scores_of_moves(SIZES["constant"], optimizer)
    assert max(scores.values()) > 1.2 * LIMIT


def plant(monkeypatch, part, factor):
    """Multiply parts of every move by a factor."""
    write = VelocityMoves._write

    def wrong(self, steps, gaps, out):
        write(self, steps, gaps, out)
        out[part] *= factor

    monkeypatch.setattr(VelocityMoves, "_write", wrong)


SMALL = sa.Spectrum([12.0, 9.0, 3.0, 1.0, 0.2], 3, [1, 2, 7, 1, 30])


@pytest.mark.mostly_long
@pytest.mark.parametrize("noise", [sa.IsotropicNoise(0.5), sa.HessianNoise(0.3)], ids=str)
def test_stationary_rows_have_the_exact_moments(noise, optimizer):
    problem = sa.Quadratic(SMALL, noise, initial=1.0)
    rows = law.stationary_rows(
        problem, 0.1, "jump", rows=150_000, stride=60, burn_in=2_000, optimizer=optimizer
    )
    exact = sa.theory.stationary(problem, 0.1, optimizer=optimizer)
    assert not law.compare_with_theory(rows, exact)


def test_one_percent_more_noise_is_seen_in_rows(optimizer, monkeypatch):
    plant(monkeypatch, slice(-3, None), 1.01)
    problem = sa.Quadratic(SMALL, sa.IsotropicNoise(0.5), initial=1.0)
    rows = law.stationary_rows(
        problem, 0.1, "jump", rows=150_000, stride=60, burn_in=2_000, optimizer=optimizer
    )
    exact = sa.theory.stationary(problem, 0.1, optimizer=optimizer)
    assert any("mean of loss" in failure.check for failure in law.compare_with_theory(rows, exact))


@pytest.mark.long
@pytest.mark.parametrize("size", [0.1, "schedule"])
@pytest.mark.parametrize("update", ["full", (0.5, 1.5)])
def test_rows_have_the_exact_moments_at_any_time(size, update, optimizer):
    """Means and deviations over seeds, from a given start and from a random one."""
    times, runs = [1, 2, 9, 30, 200], 2_000
    rule = np.linspace(0.11, 0.02, 200) if size == "schedule" else size
    for initial in (3.0, np.linspace(1.0, 3.0, 5)):
        problem = sa.Quadratic(SMALL, sa.HessianNoise(0.3), initial)
        how = {"update": update, "optimizer": optimizer}
        exact = sa.theory.expected(problem, rule, times, **how)
        traces = sa.simulate_ensemble(
            problem, as_step_size(rule), 200, seeds=range(runs), record_at=times, engine="jump",
            **how,
        )  # fmt: skip
        for name in ("loss", "loss_dominant", "loss_bulk", "alignment"):
            values = np.array([trace[name][1:] for trace in traces])
            mean, std = (getattr(exact, f"{name}_{of}") for of in ("mean", "std"))
            squares = (values - mean) ** 2
            for found, expected in ((values, mean), (squares, std**2)):
                error = found.std(0) / np.sqrt(runs)
                assert (np.abs(found.mean(0) - expected) < LIMIT * error).all(), name
        for name in ("grad_sq_dominant", "grad_sq_bulk"):
            values = np.array([trace[name][1:] for trace in traces])
            error = values.std(0) / np.sqrt(runs)
            mean = getattr(exact, f"{name}_mean")
            assert (np.abs(values.mean(0) - mean) < LIMIT * error).all(), name


@pytest.mark.long
def test_jumps_have_the_law_of_steps(optimizer):
    """Moments of every sum, and of products of neighbouring rows, after moves of one step too."""
    problem, runs = sa.Quadratic(SMALL, sa.IsotropicNoise(0.5), initial=1.0), 1_500
    how = {"num_steps": 21, "record_at": [1, 2, 5, 20, 21], "optimizer": optimizer}
    jump, step = (
        sa.simulate_ensemble(problem, 0.1, seeds=range(first, first + runs), engine=engine, **how)
        for engine, first in (("jump", 0), ("step", 50_000))
    )
    for name in ("power_sums", "noise_sums", "cross_sums", "alignment"):
        x, y = (np.array([trace[name][1:] for trace in traces]) for traces in (jump, step))
        for of in (lambda z: z, np.square, lambda z: z[:, 1:] * z[:, :-1]):
            a, b = of(x), of(y)
            error = np.sqrt((a.var(0) + b.var(0)) / runs)
            assert (np.abs(a.mean(0) - b.mean(0)) <= 5.0 * error).all(), name
    for name in ("loss", "alignment"):
        x, y = (np.array([trace[name][1:] for trace in traces]) for traces in (jump, step))
        for time in range(5):
            assert stats.ks_2samp(x[:, time], y[:, time]).pvalue > 1e-4


def test_a_move_of_one_step_has_the_noise_of_one(optimizer):
    """Its two normals are one: what v gains, c loses, p times the step size as much."""
    problem = PROBLEMS["few"]
    engine = make_engine(Run(problem, 0.1, 5, engine="jump", optimizer=optimizer))
    engine.initial_row()
    (p, q, beta), lam = optimizer.factors, problem.spectrum.eigenvalues
    for step in range(1, 6):
        c, v = engine.state.copy(), engine.planes[VELOCITY].copy()
        engine.advance(1)
        noise = engine.planes[VELOCITY] - (beta * v + lam * c)
        moved = c - 0.1 * (p * (lam * c + noise) + q * v)
        np.testing.assert_allclose(engine.state, moved, rtol=0, atol=1e-14)
        drawn = standard_normals(0, domains.JUMP, step, lam.size)
        np.testing.assert_allclose(noise, -0.3 * drawn, rtol=0, atol=1e-14)


# --- contracts -----------------------------------------------------------------------------------


@pytest.mark.mostly_long
@all_pairs(
    kind=["simple", "levels"],
    recorded=RECORDED,
    rule=RULES,
    dtype=["float64", "float32"],
    optimizer=OPTIMIZERS,
)
def test_no_way_of_running_changes_a_bit(kind, recorded, rule, dtype, optimizer, tmp_path):
    levels = None if kind == "simple" else 300
    spectrum = sa.Spectrum.linear_bands(40_000, 2500, num_levels=levels)
    problem = sa.Quadratic(spectrum, sa.HessianNoise(0.5), initial=1.0)
    size = RULES[rule](eta_of(problem))
    how = {"optimizer": optimizer, "dtype": dtype, "engine": "jump"} | RECORDED[recorded]
    trace = sa.simulate(problem, size, STEPS, num_threads=1, **how)
    assert_same_bits(sa.simulate(problem, size, STEPS, num_threads=2, **how), trace)
    engine = make_engine(Run(problem, as_step_size(size), STEPS, **how))
    sums = [engine.initial_row().cross_sums]
    for steps in (1, 8, 11, 40):
        restored = make_engine(engine.run)
        restored.restore(engine.snapshot())
        engine = restored
        sums.append(engine.advance(steps).cross_sums)
    np.testing.assert_array_equal(np.concatenate(sums), trace.cross_sums)
    assert engine.planes[VELOCITY].dtype == engine.state.dtype == dtype
    stored = sa.simulate(problem, size, STEPS, path=tmp_path / "a.h5", **how)
    assert stored == trace == sa.load_trace(tmp_path / "a.h5")


@pytest.mark.long
def test_a_float32_state_is_rounded_to_at_every_row(optimizer):
    problem, how = PROBLEMS["wide"], {"optimizer": optimizer, "engine": "jump", "record_every": 5}
    single, double = (
        sa.simulate(problem, 1e-3, STEPS, dtype=dtype, **how) for dtype in ("float32", "float64")
    )
    assert np.abs(single.power_sums / double.power_sums - 1.0).max() > 1e-9
    for name in ("power_sums", "noise_sums", "cross_sums"):
        scale = np.abs(double[name]).max(axis=0)
        assert (np.abs(single[name] - double[name]) < 1e-5 * scale).all()
    # And sums are of what is kept, to more digits than it has.
    engine = make_engine(Run(problem, as_step_size(1e-3), 5, dtype="float32", **how))
    rows, (lam, std, _) = engine.advance(5), per_direction(problem, (1.0, 1.0))
    c, v = (plane.astype(np.float64) for plane in engine.planes.values())
    found = rows_of(lam, std, problem.spectrum.num_dominant, c, v, optimizer.factors)
    np.testing.assert_allclose(rows.power_sums[0], found[0], rtol=1e-11)
    scale = np.abs(rows.cross_sums).max()
    np.testing.assert_allclose(rows.cross_sums[0], found[3].sums, rtol=1e-10, atol=1e-13 * scale)


def test_a_run_that_is_longer_is_the_same_so_far(optimizer, tmp_path):
    how = {"optimizer": optimizer, "engine": "jump", "record_every": 6}
    whole = sa.simulate(PROBLEMS["levels"], 0.03, 120, **how)
    sa.simulate(PROBLEMS["levels"], 0.03, 60, path=tmp_path / "a.h5", **how)
    assert_same_bits(sa.resume(tmp_path / "a.h5", num_steps=120), whole)


def test_huge_jumps_and_every_damping(optimizer):
    """A move of 10^9 steps: the loss of many copies against exact theory."""
    copies, edge = 40_000, optimizer.largest / 0.1
    for share in (1e-7, 0.003, 0.1, 0.5, 1.0 - 1e-9):
        spectrum = sa.Spectrum([1.01 * edge, share * edge], 1, [1, copies])
        problem = sa.Quadratic(spectrum, sa.DiagonalNoise([0.0, 0.7]), initial=[0.0, 2.0])
        how = {"optimizer": optimizer}
        trace = sa.simulate(problem, 0.1, 10**9, record_every=10**9, engine="jump", **how)
        exact = sa.theory.expected(problem, 0.1, 10**9, **how)
        error = abs(trace.loss_bulk[1] - exact.loss_bulk_mean[0])
        assert error < 5 * exact.loss_bulk_std[0], share
        assert trace.loss_dominant[1] == 0.0


def test_what_grows_diverges(optimizer):
    problem = sa.Quadratic(sa.Spectrum([1.0, 0.1], 1), initial=1.0)
    size, how = 1.2 * optimizer.largest, {"engine": "jump", "optimizer": optimizer}
    trace = sa.simulate(problem, size, 20_000, record_every=100, **how)
    assert trace.status == "diverged"
    assert 1 < len(trace) < 201
    assert (trace.loss[1:] > trace.loss[:-1]).mean() > 0.9


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"step_size": sa.CriticalStep(0.5)}, "engine 'jump' skips the steps between rows"),
        ({"problem": sa.Quadratic(SMALL, sa.DataNoise(4))}, "engine 'jump' skips the steps betw"),
    ],
)
def test_what_it_cannot_jump_over_is_refused(how, message):
    given = {"problem": PROBLEMS["few"], "step_size": 1e-4} | how
    with pytest.raises(ValueError, match=message):
        sa.simulate(**given, num_steps=5, engine="jump", optimizer=sa.Momentum(0.9))


def test_executors_are_refused():
    from concurrent.futures import ThreadPoolExecutor

    with (
        ThreadPoolExecutor(2) as executor,
        pytest.raises(ValueError, match="executor takes plain SGD, got Momentum"),
    ):
        sa.simulate(
            PROBLEMS["few"], 0.1, 5, engine="jump", optimizer=sa.Momentum(0.9), executor=executor
        )
