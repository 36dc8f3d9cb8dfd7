"""Mini-batches of data: engines against the oracle, the oracle against literal batches."""

import math
import warnings

import h5py
import numba
import numpy as np
import pytest
from scipy import stats

import suspalign_fast as sa
from suspalign_fast import theory
from suspalign_fast.engines import make_engine
from suspalign_fast.engines.reference import ReferenceEngine, plain_chi_square
from suspalign_fast.kernels import batches as data_noise
from suspalign_fast.kernels import domains
from suspalign_fast.kernels.normals import seed_key
from suspalign_fast.model.run import Run
from suspalign_fast.physics.rows import Rows
from suspalign_fast.running.driver import UnstableWarning

from ..conftest import assert_same_bits
from ..helpers import batches
from ..helpers.pairs import all_pairs

RULES = {
    "constant": lambda eta: eta,
    "schedule": lambda eta: np.linspace(eta, eta / 3.0, 40),
    "critical": lambda eta: sa.CriticalStep(0.9),
    "interval": lambda eta: sa.LossIntervalStep(0.5),
    "online": lambda eta: sa.OnlineCriticalStep(0.8),
}
SPECTRA = {
    "bands": lambda: sa.Spectrum.linear_bands(3000, 70),
    "small": lambda: sa.Spectrum([5.0, 4.5, 1.0, 0.3, 0.0], 2),
    "levels": lambda: sa.Spectrum([5.0, 4.5, 1.0, 1e-3], 40, [10, 30, 2000, 500]),
    "cut": lambda: sa.Spectrum.linear_bands(2048, 1024),
}


def problem_of(spectrum, batch=4, std=0.4, initial=1.0):
    return sa.Quadratic(spectrum, sa.DataNoise(batch, std), initial)


def edge(problem, update="full"):
    return theory.stability(problem, 0.0, update=update).largest


@pytest.mark.mostly_long
@all_pairs(
    spectrum=SPECTRA,
    rule=RULES,
    update=["full", "dominant", (0.5, 1.7)],
    dtype=["float64", "float32"],
)
def test_step_is_the_oracle(spectrum, rule, update, dtype):
    for batch, std in ((1, 0.4), (32, 0.0)):
        problem = problem_of(SPECTRA[spectrum](), batch, std)
        size = RULES[rule](0.3 * edge(problem, update))
        how = {"num_steps": 40, "seed": 5, "update": update, "dtype": dtype}
        plain, fast = (sa.simulate(problem, size, engine=e, **how) for e in ("reference", "step"))
        np.testing.assert_allclose(fast.power_sums, plain.power_sums, rtol=1e-9)
        np.testing.assert_allclose(fast.noise_sums, plain.noise_sums, rtol=1e-9)
        np.testing.assert_allclose(fast.step_size, plain.step_size, rtol=1e-9)


@pytest.mark.mostly_long
@pytest.mark.parametrize("engine", ["step", "levels", "reference"])
@pytest.mark.parametrize("rule", ["constant", "schedule", "online"])
def test_neither_stretches_nor_threads_nor_rows_change_a_bit(engine, rule):
    spectrum = sa.Spectrum.linear_bands(30_000, 500)
    if engine != "step":
        spectrum = SPECTRA["levels"]()
    problem = problem_of(spectrum, 8)
    size = RULES[rule](0.2 * edge(problem))
    whole = sa.simulate(problem, size, 40, engine=engine, seed=2)
    alone = sa.simulate(problem, size, 40, engine=engine, seed=2, num_threads=1)
    assert_same_bits(alone, whole)
    few = sa.simulate(problem, size, 40, engine=engine, seed=2, record_every=8)
    assert_same_bits(few, whole, slice(None, None, 8))
    simulator = make_engine(Run(problem, size, 40, engine=engine, seed=2))
    rows = [simulator.initial_row()]
    for stretch in (1, 2, 5, 0, 32):
        rows.append(simulator.advance(stretch))
    joined = Rows.joined(rows)
    np.testing.assert_array_equal(joined.power_sums, whole.power_sums)
    np.testing.assert_array_equal(joined.step_size, whole.step_size)
    one = sa.simulate_ensemble(problem, [size], 40, seeds=[2], engine=engine)[0]
    assert_same_bits(one, whole)


@pytest.mark.mostly_long
@pytest.mark.parametrize("engine", ["step", "levels", "reference"])
@pytest.mark.parametrize("rule", ["constant", "schedule", "online"])
def test_resumed_runs_have_the_same_bits(engine, rule, tmp_path):
    problem = problem_of(SPECTRA["levels"](), 3)
    size = RULES[rule](0.2 * edge(problem))
    run = Run(problem, size, 40, engine=engine, seed=9)
    whole = sa.simulate(problem, size, 40, engine=engine, seed=9)
    first = make_engine(run)
    first.initial_row()
    first.advance(17)
    kept = {name: np.array(values) for name, values in first.snapshot().items()}
    second = make_engine(run)
    second.restore(kept)
    np.testing.assert_array_equal(second.advance(23).power_sums, whole.power_sums[18:])
    path = tmp_path / "trace.h5"
    sa.simulate(problem, size, 40, engine=engine, seed=9, path=path)
    if rule != "schedule":
        assert_same_bits(
            sa.resume(path, num_steps=60), sa.simulate(problem, size, 60, engine=engine, seed=9)
        )
    loaded = sa.load_trace(path)
    assert loaded.run.problem == problem


@pytest.mark.long
def test_a_chi_square_of_any_batch_size():
    @numba.njit
    def draw(step, key_0, key_1, twice_d, slope):
        return data_noise.squared_norm(step, key_0, key_1, twice_d, slope)

    for size in (1, 2, 3, 32, 10**6):
        made = data_noise.make_batches(size, 0.0, np.zeros((2, 3)))
        key = seed_key(7)
        u = np.array([draw(t, *key, made.twice_d, made.slope) for t in range(20_000)])
        assert stats.kstest(u, stats.chi2(size).cdf).pvalue > 1e-4
        plain = [plain_chi_square(7, domains.BATCH_STEP, t, size) for t in range(50)]
        np.testing.assert_allclose(u[:50], plain, rtol=1e-12)


def test_the_oracle_is_the_formula():
    """Its normals, turned towards the state block by block, are standard normals."""
    problem = problem_of(sa.Spectrum.linear_bands(2100, 500), 4, 0.3)
    engine = ReferenceEngine(Run(problem, 0.01, 10, engine="reference"))
    v = np.sqrt(engine.lam) * engine.state
    rng = np.random.default_rng(0)
    parts = [slice(*pair) for pair in batches.blocks_of(2100, 500, 1024)]
    along, rest = [], []
    for _ in range(400):
        z = rng.standard_normal(2100)
        engine.step += 1
        zeta = engine._directed(z)
        along.append([v[p] @ zeta[p] / np.sqrt(v[p] @ v[p]) for p in parts])
        rest.append(np.sum(zeta**2))
        for p in parts:  # what is orthogonal to the state is that of the coordinates
            change = zeta[p] - z[p]
            np.testing.assert_allclose(change, v[p] * (change @ v[p] / (v[p] @ v[p])), atol=1e-12)
    assert stats.kstest(np.ravel(along), stats.norm.cdf).pvalue > 1e-3
    assert stats.kstest(rest, stats.chi2(2100).cdf).pvalue > 1e-3


CASES = [
    (1, 5, 0.0, 0.3),
    (1, 50, 0.7, 0.97),
    (7, 5, 0.7, 0.97),
    (7, 50, 0.0, 0.3),
    (64, 5, 0.7, 0.3),
]


def sampled_problem(batch, dim, std, spectrum=None):
    lam = np.r_[np.linspace(5.0, 4.0, dim // 3), np.linspace(1.0, 0.2, dim - dim // 3)]
    spectrum = sa.Spectrum(lam, dim // 3) if spectrum is None else spectrum
    initial = np.random.default_rng(dim).standard_normal(dim)
    return sa.Quadratic(spectrum, sa.DataNoise(batch, std), initial)


@pytest.mark.mostly_long
@pytest.mark.parametrize(("batch", "dim", "std", "share"), CASES)
@pytest.mark.parametrize("steps", [1, 5])
def test_the_formula_has_the_law_of_literal_batches(batch, dim, std, share, steps):
    rng, count = np.random.default_rng(steps), 20_000
    problem = sampled_problem(batch, dim, std)
    eta = share * edge(problem)
    exact = batches.literal(problem, eta, steps, count, rng)
    found = batches.formula(problem, eta, steps, count, rng)
    assert batches.failures(found, exact, problem.initial) == []


@pytest.mark.long
@pytest.mark.parametrize(("batch", "dim", "std", "share"), CASES)
def test_engines_have_the_law_of_literal_batches(batch, dim, std, share):
    rng, count = np.random.default_rng(1), 4_000
    problem = sampled_problem(batch, dim, std)
    eta = share * edge(problem)
    exact = batches.literal(problem, eta, 5, 4 * count, rng)
    assert batches.failures(batches.engine(problem, eta, 5, count), exact, problem.initial) == []
    squares = batches.engine(problem, eta, 5, count, "levels")
    assert batches.failures(np.log(squares), np.log(exact**2)) == []


@pytest.mark.long
@pytest.mark.parametrize("update", [(1.0, 0.0), (0.0, 1.0), (0.5, 1.7)])
@pytest.mark.parametrize("batch", [1, 7])
def test_weights_and_levels_have_the_law_of_literal_batches(update, batch):
    rng, count = np.random.default_rng(2), 4_000
    spectrum = sa.Spectrum([4.0, 1.0, 0.3], 2, [2, 5, 13])
    problem = sampled_problem(batch, 20, 0.5, spectrum)
    eta = 0.5 * edge(problem, update)
    exact = batches.literal(problem, eta, 3, 4 * count, rng, update)
    squares = batches.level_squares(problem, exact)
    for name in ("step", "levels"):
        found = batches.engine(problem, eta, 3, count, name, update)
        found = found if name == "levels" else batches.level_squares(problem, found)
        moved = np.ptp(squares, axis=0) > 0.0
        assert batches.failures(np.log(found[:, moved]), np.log(squares[:, moved])) == []
        sums = [np.log(batches.band_sums(problem, q)) for q in (found, squares)]
        moved = np.ptp(sums[1], axis=0) > 1e-9
        assert batches.failures(*(s[:, moved] for s in sums)) == []


@pytest.mark.long
@pytest.mark.parametrize(("planted", "batch"), [("rho_factor", 7), ("kd_factor", 64)])
def test_a_planted_percent_is_caught(planted, batch):
    """One percent in rho, or in kd of a batch so large that u does not hide it."""
    problem = sampled_problem(batch, 50, 0.7)
    eta, rng, count = 0.9 * edge(problem), np.random.default_rng(3), 60_000
    exact, start = batches.literal(problem, eta, 1, count, rng), problem.initial
    right = batches.formula(problem, eta, 1, count, rng)
    assert batches.failures(right, exact, start) == []
    wrong = batches.formula(problem, eta, 1, count, rng, **{planted: 1.01})
    assert batches.failures(wrong, exact, start)


def test_a_state_at_the_optimum_stays_there():
    spectrum = SPECTRA["levels"]()
    problem = problem_of(spectrum, 4, 0.0, np.zeros(spectrum.num_levels))
    for engine in ("step", "levels", "reference"):
        trace = sa.simulate(problem, 1e-3, 20, engine=engine)
        assert trace.status == "complete"
        assert (trace.loss == 0.0).all()
    tiny = problem_of(spectrum, 4, 0.0, 1e-170)
    for engine in ("step", "levels", "reference"):
        assert sa.simulate(tiny, 1e-3, 20, engine=engine).status == "complete"


@pytest.mark.long
def test_expectations_are_those_of_many_runs():
    problem = problem_of(SPECTRA["levels"](), 4, 0.3)
    eta, times = 0.4 * edge(problem), [0, 1, 10, 60]
    exact = theory.expected(problem, eta, times)
    traces = sa.simulate_ensemble(
        problem, eta, 60, seeds=range(1500), engine="levels", record_at=times
    )
    for name in ("loss", "loss_dominant", "loss_bulk", "grad_sq_dominant", "grad_sq_bulk"):
        values = np.array([trace[name] for trace in traces])
        z = (values.mean(0) - getattr(exact, f"{name}_mean")) / values.std(0) * math.sqrt(1500)
        assert (np.abs(z) < 4.5).all(), name
    assert np.isnan(exact.alignment_mean).all()
    assert set(exact.unknown) == {n for n in theory.MOMENTS if np.isnan(getattr(exact, n)).all()}
    assert exact.stability == theory.stability(problem, eta)


def test_a_schedule_of_one_size_is_that_size():
    problem = problem_of(SPECTRA["levels"](), 4, 0.3)
    eta, times = 0.4 * edge(problem), [30, 0, 7]
    one, listed = (theory.expected(problem, size, times) for size in (eta, np.full(30, eta)))
    np.testing.assert_allclose(one.loss_mean, listed.loss_mean, rtol=1e-12)
    np.testing.assert_allclose(one.grad_sq_bulk_mean, listed.grad_sq_bulk_mean, rtol=1e-12)


def test_the_stationary_state_is_the_limit():
    problem = problem_of(sa.Spectrum([4.0, 1.0, 0.5], 2, [2, 5, 13]), 4, 0.3)
    eta = 0.4 * edge(problem)
    rest, late = theory.stationary(problem, eta), theory.expected(problem, eta, [10**6])
    for name in ("loss_mean", "grad_sq_dominant_mean", "grad_sq_bulk_mean"):
        assert getattr(rest, name) == pytest.approx(getattr(late, name)[0], rel=1e-10)
    feedback = rest.stability.feedback
    assert 2.0 * rest.loss_mean == pytest.approx(feedback * 0.3**2 / (1.0 - feedback), rel=1e-12)
    with pytest.raises(ValueError, match="step_size must be below"):
        theory.stationary(problem, 1.01 * edge(problem))


def test_columns_of_files_are_those_of_memory(tmp_path):
    problem = problem_of(SPECTRA["levels"](), 4, 0.3)
    eta = 0.4 * edge(problem)
    kept = sa.simulate(problem, eta, 30, engine="levels")
    sa.simulate(problem, eta, 30, engine="levels", path=tmp_path / "trace.h5")
    read = sa.load_trace(tmp_path / "trace.h5")
    assert_same_bits(read, kept)
    np.testing.assert_array_equal(read.regime, kept.regime)
    np.testing.assert_array_equal(read.loss_interval, kept.loss_interval)
    assert read.predicted == kept.predicted
    with h5py.File(tmp_path / "trace.h5") as file:
        stored = file["trace/critical_step_size"][:]
    np.testing.assert_array_equal(stored, kept.critical_step_size)


@pytest.mark.long
def test_rules_see_the_noise_of_the_row():
    seen = np.zeros(6)

    @numba.njit
    def rule(row, state):
        state[:] = row.constants.ravel()
        return 1e-3

    problem = problem_of(SPECTRA["levels"](), 4, 0.3)
    for engine in ("step", "levels", "reference"):
        simulator = make_engine(Run(problem, sa.RowStep(rule, state=seen), 10, engine=engine))
        simulator.initial_row()
        rows = simulator.advance(10)
        at = problem.noise.constants_at(
            problem.noise_constants, rows.power_sums[-1], rows.noise_sums[-1]
        )
        np.testing.assert_allclose(simulator.mutable()["memory"], at.ravel(), rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "batch_size must be an integer of at least 1"),
        ((0, 0.1), "batch_size must be an integer of at least 1"),
        ((2.5, 0.1), "batch_size must be an integer"),
        ((True, 0.1), "batch_size must be an integer"),
        ((4, -0.1), "label_std must be a finite number of at least zero"),
        ((4, float("nan")), "label_std must be a finite number"),
    ],
)
def test_bad_batches_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        sa.DataNoise(*arguments)


def test_engines_that_cannot_are_named():
    problem = problem_of(SPECTRA["small"]())
    with pytest.raises(ValueError, match=r"engine 'jump' skips the steps.*depends on the state"):
        sa.simulate(problem, 0.01, 10, engine="jump")
    assert sa.simulate(problem, 0.01, 10, engine="auto").run.engine in ("step", "levels")
    for function in (theory.expected_next_alignment, theory.exact_critical_step_size):
        with pytest.raises(ValueError, match="noise must not depend on the state"):
            function(problem, np.ones(5), *([0.1] if "next" in function.__name__ else []))


def test_an_unstable_step_size_is_said_before_the_run():
    problem = problem_of(SPECTRA["levels"](), 2, 0.3)
    eta = 5.0 * edge(problem)
    with pytest.warns(UnstableWarning, match=r"above eta_max = .*K = "):
        trace = sa.simulate(problem, eta, 20_000, engine="levels", record_every=100)
    assert trace.status == "diverged"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sa.simulate(problem, 0.9 * edge(problem), 5, engine="levels")
        sa.simulate(sa.Quadratic(problem.spectrum, sa.IsotropicNoise(0.1)), 0.3, 5)


@pytest.mark.long
def test_compressed_levels_have_the_law_of_all():
    spectrum = sa.Spectrum.power_law(20_000, 20, 1.0)
    problem = problem_of(spectrum, 16, 0.5)
    few = sa.Quadratic(spectrum.compress(), problem.noise)
    eta = 0.3 * edge(problem)
    assert edge(few) == pytest.approx(edge(problem), rel=1e-10)
    one, other = (theory.expected(p, eta, [1, 100, 10_000]) for p in (problem, few))
    np.testing.assert_allclose(one.loss_mean, other.loss_mean, rtol=1e-10)
    step = [sa.simulate(problem, eta, 60, seed=s, record_at=[60]).loss[-1] for s in range(60)]
    sizes = [
        sa.simulate(few, eta, 60, seed=s, record_at=[60], engine="levels").loss[-1]
        for s in range(600)
    ]
    assert stats.ks_2samp(step, sizes).pvalue > 1e-3


@pytest.mark.long
def test_the_command_line_takes_batches(tmp_path):
    from click.testing import CliRunner

    from suspalign_fast.cli.commands import main

    spectrum = tmp_path / "spectrum.h5"
    sa.Spectrum.two_level(500, 10, 10.0, 1.0).save(spectrum)

    def run(*arguments):
        return CliRunner().invoke(main, [*arguments, "--spectrum", str(spectrum), "--quiet"])

    trace = tmp_path / "trace.h5"
    common = ("--step-size", "0.01", "--steps", "200", "-o", str(trace))
    done = run("run", "--noise", "data:32,0.1", *common)
    assert done.exit_code == 0, done.output
    assert "noise data:32,0.1" in done.output
    assert sa.load_trace(trace).run.problem.noise == sa.DataNoise(32, 0.1)
    assert trace.with_suffix(".png").exists()
    for wrong, message in {
        "data": "--noise must be one of",
        "data:32,0.1,3": "--noise must be one of",
        "data:x,1": "--noise must be one of",
        "data:0,0.1": "batch_size must be an integer of at least 1",
        "nothing": "--noise must be one of",
        "hessian:1,2": "--noise must be one of",
    }.items():
        refused = run("run", "--noise", wrong, "--overwrite", *common)
        assert refused.exit_code == 2
        assert message in refused.output
        assert "Traceback" not in refused.output
    unstable = run("run", "--noise", "data:1,0.1", "--step-size", "1", "--steps", "5", "-o",
                   str(tmp_path / "other.h5"))  # fmt: skip
    assert unstable.exit_code == 0, unstable.output
    assert unstable.output.count("above eta_max") == 1
    verified = run("verify", "--noise", "data:64,0.1", "--step-size", "0.01", "--steps", "300")
    assert verified.exit_code == 0, verified.output


@pytest.mark.long
def test_what_a_rule_writes_to_its_row_changes_nothing():
    @numba.njit
    def clean(row):
        return 1e-4

    @numba.njit
    def writes(row):
        row.power_sums[0, 0] = 1e9
        row.constants[0, 0] = 1e9
        return 1e-4

    problem = problem_of(SPECTRA["levels"](), 200, 0.5, 3.0)
    for engine in ("step", "levels", "reference"):
        one, other = (
            sa.simulate(problem, sa.RowStep(f), 40, engine=engine) for f in (clean, writes)
        )
        assert_same_bits(other, one)


def test_noise_of_other_classes_that_depends_on_the_state_is_refused():
    class Derived(sa.DataNoise):
        pass

    class Own(sa.Noise):
        depends_on_state = True

        def stds(self, spectrum):
            return np.ones(spectrum.num_levels)

    for noise in (Derived(4, 0.1), Own()):
        with pytest.raises(ValueError, match="noise must be DataNoise itself"):
            sa.Quadratic(SPECTRA["small"](), noise)


@pytest.mark.filterwarnings("error")
def test_expectations_past_divergence_are_infinite():
    spectrum = sa.Spectrum.linear_bands(300, 17, (10.0, 8.0), (0.8, 0.1))
    problem = problem_of(spectrum, 32, 0.1)
    start = 2.0 * theory.expected(problem, 0.01, [0]).loss_mean[0]
    for eta in (0.2, 1.0, 1e300):
        for sizes in (eta, np.full(2_000, eta)):
            found = theory.expected(problem, sizes, [0, 1, 2_000]).loss_mean
            assert 2.0 * found[0] == pytest.approx(start)
            assert np.isposinf(found[2])
    huge = problem_of(spectrum, 32, 1e160)
    assert np.isposinf(theory.expected(huge, 0.01, [1]).loss_mean)
    assert np.isposinf(theory.stationary(huge, 1e-4).loss_mean)
    for engine in ("step", "levels", "reference"):
        assert sa.simulate(huge, 1e-4, 5, engine=engine).status == "diverged"
    far = problem_of(spectrum, 32, 0.1, 1e160)
    assert np.isposinf(theory.expected(far, 0.01, [1]).loss_mean)
