"""Compressed spectra keep every smooth sum, exact theory and the laws of runs."""

import numpy as np
import pytest
from scipy import stats

import suspalign_fast as sa
from suspalign_fast import theory
from suspalign_fast.model.spectrum.compression import rule_of_points, rule_of_range
from suspalign_fast.model.spectrum.named import digits_mlp_path
from suspalign_fast.theory import levels as theory_levels

from ..conftest import assert_same_bits
from ..helpers import law

SPECTRA = {
    "linear": lambda: sa.Spectrum.linear_bands(60_000, 300),
    "down to zero": lambda: sa.Spectrum.linear_bands(60_000, 300, (100.0, 80.0), (10.0, 0.0)),
    "power": lambda: sa.Spectrum.power_law(60_000, 10, 1.0),
    "steep power": lambda: sa.Spectrum.power_law(60_000, 1, 1.7, gap_ratio=3.0),
    "flat power": lambda: sa.Spectrum.power_law(60_000, 100, 0.5, 7.0, gap_ratio=2.0),
    "network": lambda: sa.Spectrum.load(digits_mlp_path()),
    "zeros": lambda: sa.Spectrum(np.r_[np.linspace(9, 8, 500), np.linspace(2, 1, 5000), 0, 0], 500),
}
SPECTRUM = SPECTRA["power"]()


@pytest.fixture(params=SPECTRA, scope="module")
def spectrum(request):
    return SPECTRA[request.param]()


# --- rules -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_a_rule_keeps_the_moments_of_its_points(count):
    rng = np.random.default_rng(count)
    x, weights = rng.uniform(1.0, 2.0, 500), rng.uniform(0.5, 3.0, 500)
    nodes, parts = rule_of_points(x, weights, count)
    assert nodes.size == count
    for power in range(2 * count):
        np.testing.assert_allclose(parts @ nodes**power, weights @ x**power, rtol=1e-13)
    power = 2 * count
    assert abs((parts @ nodes**power) / (weights @ x**power) - 1.0) > 1e-15


@pytest.mark.parametrize("size", [3, 12, 13, 100, 10_000])
def test_the_rule_of_a_range_is_that_of_its_integers(size):
    nodes, parts = rule_of_range(size, 12)
    expected = rule_of_points(np.arange(float(size)), np.ones(size), 12)
    order = np.argsort(nodes)
    np.testing.assert_allclose(nodes[order], np.sort(expected[0]), rtol=1e-10, atol=1e-9)
    np.testing.assert_allclose(parts[order], expected[1][np.argsort(expected[0])], rtol=1e-9)


def test_a_range_may_be_larger_than_any_array():
    size = 10**15
    nodes, parts = rule_of_range(size, 16)
    for power in (0, 1, 2, 7, 20):
        exact = 1.0 / (power + 1)  # of a continuous range
        np.testing.assert_allclose(parts @ (nodes / size) ** power / size, exact, rtol=1e-13)


# --- spectra ---------------------------------------------------------------------------------


def test_a_compressed_spectrum_is_small_and_keeps_what_counts(spectrum):
    few = spectrum.compress()
    assert few.is_compressed
    assert few.num_levels < 450
    assert few.compression_error <= 1e-12
    assert (few.dim, few.num_dominant) == (spectrum.dim, spectrum.num_dominant)
    assert few.multiplicities.min() >= 1.0
    assert (np.diff(few.eigenvalues) <= 0.0).all()
    lam, floor = spectrum.eigenvalues, few.eigenvalues
    k, few_k = spectrum.num_dominant_levels, few.num_dominant_levels
    assert floor[few_k - 1] >= lam[k - 1] * (1 - 1e-12) > lam[k] * (1 + 1e-12) >= floor[few_k]
    zeros = few.multiplicities[few.eigenvalues == 0.0].sum()
    assert zeros == spectrum.multiplicities[lam == 0.0].sum()
    for function in (
        lambda x: x**0,
        lambda x: x,
        lambda x: x**4,
        lambda x: np.exp(-30.0 * x / lam[0]),
    ):
        np.testing.assert_allclose(
            few.band_sums(function(floor)), spectrum.band_sums(function(lam)), rtol=1e-11
        )


@pytest.mark.mostly_long
def test_a_looser_tolerance_needs_fewer_levels(spectrum):
    sizes = [spectrum.compress(tolerance).num_levels for tolerance in (1e-4, 1e-8, 1e-12)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]
    assert spectrum.compress(1e-4).compression_error > 1e-12


def test_compressing_again_changes_nothing():
    few = SPECTRUM.compress()
    assert few.compress() is few
    assert SPECTRUM.compress() is few
    loose = SPECTRUM.compress(1e-4)
    with pytest.raises(ValueError, match="must not be compressed"):
        loose.compress(1e-12)


def test_a_spectrum_of_few_levels_stays_as_it_is():
    few = sa.Spectrum([3.0, 2.0, 1.0], 10, [10, 20, 30])
    assert few.compress() is few


@pytest.mark.parametrize("tolerance", [0.0, -1.0, 1e-15, 0.1, np.nan, "small"])
def test_tolerances_out_of_range_are_refused(tolerance):
    with pytest.raises(ValueError, match="tolerance must be"):
        SPECTRUM.compress(tolerance)


@pytest.mark.parametrize(("make", "arguments"), [
    (sa.Spectrum.linear_bands, (60_000, 300)),
    (sa.Spectrum.linear_bands, (60_000, 300, (100.0, 80.0), (10.0, 0.0))),
    (sa.Spectrum.linear_bands, (60_000, 300, (100.0, 100.0), (10.0, 10.0))),
    (sa.Spectrum.power_law, (60_000, 10, 1.0)),
    (sa.Spectrum.power_law, (60_000, 100, 0.5, 7.0, 2.0)),
])  # fmt: skip
def test_families_make_it_without_listing(make, arguments):
    direct, listed = make(*arguments, tolerance=1e-12), make(*arguments)
    assert direct.is_compressed
    assert (direct.dim, direct.num_dominant) == (listed.dim, listed.num_dominant)
    for power in range(6):
        np.testing.assert_allclose(
            direct.band_sums(direct.eigenvalues**power),
            listed.band_sums(listed.eigenvalues**power),
            rtol=1e-12,
        )


def test_dimensions_that_no_array_could_hold():
    few = sa.Spectrum.power_law(10**15, 10, 1.0, tolerance=1e-12)
    assert few.num_levels < 700
    assert few.dim == 10**15
    harmonic = np.log(1e15) + np.euler_gamma
    np.testing.assert_allclose(few.band_sums(few.eigenvalues).sum(), harmonic, rtol=1e-13)
    with pytest.raises(ValueError, match="exclude each other"):
        sa.Spectrum.power_law(10**15, 10, 1.0, num_levels=100, tolerance=1e-12)


def test_files_keep_it(tmp_path):
    few = SPECTRUM.compress()
    few.save(tmp_path / "few.h5")
    loaded = sa.Spectrum.load(tmp_path / "few.h5")
    assert loaded == few
    assert (loaded.dim, loaded.compression_error) == (few.dim, few.compression_error)


@pytest.mark.parametrize(("do", "message"), [
    (lambda few: few.expand(), "must not be compressed to be expanded"),
    (lambda few: few.quantize(100), "must not be compressed to be quantized"),
    (lambda few: sa.Quadratic(few, initial=np.ones(few.dim)), "initial must be an array of shape"),
    (lambda few: sa.Quadratic(few, sa.DiagonalNoise(np.ones(few.dim))), "stds must be an array"),
    (lambda few: sa.simulate(sa.Quadratic(few), 1e-3, 5), "'step' needs every direction"),
    (lambda few: sa.simulate(sa.Quadratic(few), 1e-3, 5, engine="jump"), "'jump' needs every"),
    (lambda few: sa.simulate(sa.Quadratic(few), 1e-3, 5, engine="reference"), "needs every"),
])  # fmt: skip
def test_what_needs_directions_is_refused(do, message):
    with pytest.raises(ValueError, match=message):
        do(SPECTRUM.compress())


# --- theory ----------------------------------------------------------------------------------

TIMES = [0, 1, 2, 7, 30, 300, 3000, 10**6, 10**9]


@pytest.mark.mostly_long
@pytest.mark.parametrize("noise", [sa.IsotropicNoise(0.5), sa.HessianNoise(0.3)])
@pytest.mark.parametrize("part", [0.01, 1.0, 1.9, 1.98])
def test_theory_through_it_is_that_of_the_direct_sums(spectrum, noise, part, monkeypatch):
    problem = sa.Quadratic(spectrum, noise, initial=10.0)
    eta = part / float(spectrum.eigenvalues[0])
    found = []
    for most in (100, 10**9):
        monkeypatch.setattr(theory_levels, "MANY", most)
        schedule = np.linspace(0.2, 1.0, 40) * eta
        found.append(
            (
                theory.expected(problem, eta, TIMES),
                theory.expected(problem, schedule, [3, 40], update=(1.0, 0.5)),
                theory.stationary(problem, eta),
            )
        )
    for through, direct in zip(*found, strict=True):
        for name in theory.MOMENTS:
            np.testing.assert_allclose(
                getattr(through, name), getattr(direct, name), rtol=1e-12, err_msg=name
            )


def test_theory_is_direct_where_compression_is_not_for(monkeypatch):
    few = theory_levels.with_few_levels
    assert few(sa.Quadratic(SPECTRUM), 1.0).spectrum.is_compressed
    for problem, size in (
        (sa.Quadratic(SPECTRUM), 2.0),
        (sa.Quadratic(SPECTRUM), np.nan),
        (sa.Quadratic(SPECTRUM, sa.IsotropicNoise(0.0)), 1.0),
        (sa.Quadratic(SPECTRUM, sa.DiagonalNoise(np.ones(60_000))), 1.0),
        (sa.Quadratic(SPECTRUM, initial=np.ones(60_000)), 1.0),
    ):
        assert few(problem, size) is problem


# --- under momentum --------------------------------------------------------------------------

BALL = sa.Momentum(0.9)


def test_resolved_levels_have_one_direction_or_two_at_least(spectrum):
    sizes = []
    for width, nodes in ((0.7, 8), (0.5, 10), (0.25, 12)):
        few = spectrum.resolved(width, nodes)
        sizes.append(few.num_levels)
        counts = few.multiplicities
        if few is not spectrum:
            assert few.is_compressed
            assert np.isnan(few.compression_error)
        assert few.quantization_error == spectrum.quantization_error
        assert ((counts == 1.0) | (counts >= 2.0)).all()
        assert few.band_sums(few.eigenvalues) == pytest.approx(
            spectrum.band_sums(spectrum.eigenvalues), rel=1e-11
        )
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] <= spectrum.num_levels
    assert spectrum.resolved(0.25, 12) is few


def test_few_levels_of_quantized_ones_say_both_errors():
    coarse = SPECTRUM.quantize(5_000)
    assert coarse.quantization_error > 0.0
    for few in (coarse.compress(), coarse.resolved(0.5, 8)):
        assert few.num_levels < 1_000
        assert few.quantization_error == coarse.quantization_error


@pytest.mark.parametrize(("width", "nodes", "message"), [
    (0.0, 8, "width must be a finite number above zero, got 0.0"),
    (1e-7, 8, "width must be at least 1e-06, got 1e-07"),
    ([1.0], 8, "width must be a finite number above zero"),
    (0.5, 0, "nodes must be an integer of at least 1 and at most 64, got 0"),
    (0.5, 65, "nodes must be an integer"),
    (0.5, 2.5, "nodes must be an integer"),
])  # fmt: skip
def test_levels_that_cannot_be_made_are_named(width, nodes, message):
    with pytest.raises(ValueError, match=message):
        SPECTRUM.resolved(width, nodes)
    for few in (SPECTRUM.compress(), SPECTRUM.resolved(0.5, 8)):
        with pytest.raises(ValueError, match="must not be compressed to be resolved"):
            few.resolved(0.5, 8)


def test_levels_of_plain_sgd_are_refused_under_momentum(tmp_path):
    """Their moments swing out of step: wrong in the third digit and worse."""
    problem = sa.Quadratic(SPECTRUM.compress(), initial=10.0)
    message = r"those of Spectrum\.resolved, under Momentum\(beta=0\.9.* got Spectrum\(dim=60000"
    for run in (
        lambda: sa.simulate(problem, 0.1, 5, engine="levels", optimizer=BALL),
        lambda: sa.simulate(problem, 0.1, 5, engine="auto", optimizer=BALL),
        lambda: sa.simulate_ensemble(problem, 0.1, 5, engine="levels", optimizer=BALL),
        lambda: theory.expected(problem, 0.1, [5], optimizer=BALL),
    ):
        with pytest.raises(ValueError, match=message):
            run()
    still = sa.Momentum(0.0)  # that is plain SGD
    trace = sa.simulate(problem, 0.1, 5, engine="levels", optimizer=still)
    assert_same_bits(trace, sa.simulate(problem, 0.1, 5, engine="levels"))


def test_the_stationary_state_does_not_swing():
    for optimizer in (BALL, sa.Momentum(0.99, nesterov=True)):
        found = [
            theory.stationary(sa.Quadratic(levels), 0.3, optimizer=optimizer)
            for levels in (SPECTRUM, SPECTRUM.compress())
        ]
        for name in theory.MOMENTS:
            one, other = (getattr(exact, name) for exact in found)
            assert other == pytest.approx(one, rel=1e-11), name


@pytest.mark.mostly_long
@pytest.mark.parametrize("optimizer", [BALL, sa.Momentum(0.9, nesterov=True)])
def test_runs_with_resolved_levels_have_the_exact_moments_of_all(optimizer):
    many = sa.Spectrum.linear_bands(20_000, 200)
    few = many.resolved(0.25, 12)
    assert few.num_levels < 1_000
    eta, times = 0.3 * optimizer.largest / 100.0, [1, 4, 15, 60]
    how = {"record_at": times, "engine": "levels", "optimizer": optimizer}
    noise, runs = sa.IsotropicNoise(0.5), 400
    traces = sa.simulate_ensemble(
        sa.Quadratic(few, noise, initial=1.0), eta, 60, seeds=range(runs), **how
    )
    exact = theory.expected(sa.Quadratic(many, noise, initial=1.0), eta, times, optimizer=optimizer)
    for name in ("alignment", "loss"):
        values = np.stack([trace[name][1:] for trace in traces])
        mean, std = getattr(exact, f"{name}_mean"), getattr(exact, f"{name}_std")
        assert (np.abs(values.mean(0) - mean) < 5.0 * std / np.sqrt(runs)).all()
        assert (np.abs(values.std(0) / std - 1.0) < 5.0 / np.sqrt(2.0 * runs) + 0.1).all()


def test_files_keep_runs_with_resolved_levels(tmp_path):
    problem = sa.Quadratic(SPECTRUM.resolved(0.5, 8), initial=1.0)
    how = {"engine": "levels", "optimizer": BALL}
    trace = sa.simulate(problem, 0.1, 20, path=tmp_path / "run.h5", **how)
    loaded = sa.load_trace(tmp_path / "run.h5")
    assert np.isnan(loaded.run.problem.spectrum.compression_error)
    assert loaded == trace
    longer = sa.resume(tmp_path / "run.h5", num_steps=30)
    assert_same_bits(longer, sa.simulate(problem, 0.1, 30, **how))


# --- runs ------------------------------------------------------------------------------------


@pytest.mark.mostly_long
@pytest.mark.parametrize("step_size", [0.5, sa.CriticalStep(0.9)])
def test_runs_have_the_law_of_those_with_all_levels(step_size):
    """Means and spreads of alignment and loss, over many seeds, of both kinds of spectrum."""
    many = sa.Spectrum.power_law(1_000, 10, 1.0)
    times, seeds = [1, 5, 20, 60], range(400)
    found = []
    for spectrum in (many, many.compress()):
        problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.3), initial=1.0)
        traces = sa.simulate_ensemble(
            problem, step_size, 60, seeds=seeds, record_at=times, engine="levels"
        )
        found.append(
            [np.stack([trace[name] for trace in traces]) for name in ("alignment", "loss")]
        )
        seeds = range(400, 800)
    for values, others in zip(*found, strict=True):
        for column, other in zip(values[:, 1:].T, others[:, 1:].T, strict=True):
            assert stats.ks_2samp(column, other).pvalue > 1e-4


DISTINCT = sa.Spectrum.linear_bands(20_000, 50, (100.0, 80.0), (0.8, 0.001))


@pytest.fixture(scope="module", params=[0.015, sa.CriticalStep(0.9)], ids=["constant", "critical"])
def rule(request):
    return request.param


def rows_of(problem, rule, engine, first_seed):
    seeds = range(first_seed, first_seed + 1000)
    return law.transient_rows(problem, rule, engine, times=[1, 3, 10, 40], seeds=seeds)


@pytest.fixture(scope="module")
def paths(rule):
    problem = sa.Quadratic(DISTINCT, sa.IsotropicNoise(0.5), initial=0.01)
    return rows_of(problem, rule, "step", 0)


@pytest.mark.long
def test_four_rows_have_the_joint_law_of_sample_paths(rule, paths):
    """At 20,000 different eigenvalues, under a rule and a constant step size."""
    few = DISTINCT.compress()
    assert few.num_levels < 700
    problem = sa.Quadratic(few, sa.IsotropicNoise(0.5), initial=0.01)
    assert not law.compare_samples(paths, rows_of(problem, rule, "levels", 5000))


@pytest.mark.parametrize("rule", [0.015], indirect=True)  # a critical step lets in little noise
def test_one_percent_more_noise_is_seen(rule, paths):
    planted = sa.IsotropicNoise(0.5 * np.sqrt(1.01))
    problem = sa.Quadratic(DISTINCT.compress(), planted, initial=0.01)
    assert law.compare_samples(paths, rows_of(problem, rule, "levels", 5000))


@pytest.mark.mostly_long
def test_one_percent_of_an_eigenvalue_is_seen(rule, paths):
    moved = sa.Spectrum.linear_bands(20_000, 50, (100.0, 80.0), (0.808, 0.00101)).compress()
    problem = sa.Quadratic(moved, sa.IsotropicNoise(0.5), initial=0.01)
    assert law.compare_samples(paths, rows_of(problem, rule, "levels", 5000))


def test_the_mean_of_runs_is_the_exact_one():
    problem = sa.Quadratic(SPECTRUM.compress(), sa.IsotropicNoise(0.3), initial=1.0)
    traces = sa.simulate_ensemble(problem, 0.5, 50, seeds=range(300), engine="levels")
    exact = theory.expected(problem, 0.5, traces[0].step)
    mean = np.mean([trace.alignment for trace in traces], axis=0)
    z = (mean - exact.alignment_mean) / (exact.alignment_std / np.sqrt(300))
    assert np.abs(z).max() < 4.5


def test_traces_of_it_are_stored_and_resumed(tmp_path):
    problem = sa.Quadratic(SPECTRUM.compress(), initial=1.0)
    options = {"engine": "levels", "seed": 3}
    sa.simulate(problem, sa.CriticalStep(0.9), 50, path=tmp_path / "a.h5", **options)
    trace = sa.resume(tmp_path / "a.h5", num_steps=90)
    assert trace.run.problem == problem
    assert_same_bits(trace, sa.simulate(problem, sa.CriticalStep(0.9), 90, **options))


def test_claims_hold_on_it():
    report = sa.verify(
        sa.Quadratic(SPECTRUM.compress(), initial=3.0), 0.5, 2_000, states=10, engine="levels"
    )
    assert not report.failed
