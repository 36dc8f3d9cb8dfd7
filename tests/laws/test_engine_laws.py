"""The engines sample the same law, and it is the exact one."""

import numpy as np
import pytest

import suspalign_fast as sa

from ..conftest import NOISES, assert_same_bits
from ..helpers import law
from ..helpers.pairs import all_pairs

TINY = {
    "k = 1": ([3.0, 1.0, 0.5, 0.4, 0.1], 1, None),
    "k = 2": ([3.0, 2.0, 1.0, 0.5], 2, [1, 1, 1, 2]),
    "k = 7": ([3.0, 1.0], 7, [7, 40]),
    "oscillating": ([14.0, 9.0, 4.0], 2, [1, 1, 6]),  # eta * lambda > 1
}
ETA = 0.13
ENGINES = ("step", "jump", "levels")


def problem_of(name, noise=None, initial=2.0):
    lam, k, counts = TINY[name]
    noise = noise or sa.IsotropicNoise(0.5)
    return sa.Quadratic(sa.Spectrum(lam, k, counts), noise, initial=initial)


@pytest.fixture(scope="module", params=TINY)
def name(request):
    return request.param


@pytest.mark.long
@pytest.mark.parametrize("engine", ENGINES)
def test_stationary_rows_have_the_exact_moments(name, engine):
    problem = problem_of(name)
    rows = law.stationary_rows(problem, ETA, engine, rows=150_000, stride=24)
    assert not law.compare_with_theory(rows, sa.theory.stationary(problem, ETA))


@pytest.mark.long
@pytest.mark.parametrize("engine", ENGINES)
def test_a_planted_one_percent_error_is_caught(engine):
    """The harness has the power it claims: 1 % more noise variance is seen in every engine."""
    planted = problem_of("k = 7", sa.IsotropicNoise(0.5 * np.sqrt(1.01)))
    rows = law.stationary_rows(planted, ETA, engine, rows=150_000, stride=24)
    failures = law.compare_with_theory(rows, sa.theory.stationary(problem_of("k = 7"), ETA))
    assert any("loss" in failure.check for failure in failures)


@pytest.mark.long
@all_pairs(name=TINY, noise=NOISES, initial=[0.0, 20.0, "given"])
def test_transient_rows_agree_between_engines(name, noise, initial):
    levels, noise = len(TINY[name][0]), NOISES[noise]
    start = np.linspace(1.0, 3.0, levels) if initial == "given" else initial
    problem = problem_of(name, noise(levels), start)
    times = [1, 2, 9, 30]
    samples = {
        engine: law.transient_rows(problem, ETA, engine, times=times, seeds=range(i, 1200 + i))
        for i, engine in zip((0, 10_000, 20_000), ENGINES, strict=True)
    }
    for engine in ENGINES[1:]:
        failures = law.compare_samples(samples["step"], samples[engine])
        assert not failures, (engine, failures)


@pytest.mark.long
def test_the_transient_comparison_catches_a_wrong_law():
    times = [1, 2, 9, 30]
    right = law.transient_rows(problem_of("k = 7"), ETA, "step", times=times, seeds=range(1200))
    wrong = law.transient_rows(
        problem_of("k = 7", sa.IsotropicNoise(0.6)), ETA, "jump", times=times, seeds=range(1200)
    )
    assert law.compare_samples(right, wrong)


def test_step_has_the_law_of_reference():
    """They are the same path, so a few rows say it all."""
    problem = problem_of("k = 2", initial=20.0)
    for seed in range(3):
        step, reference = (
            sa.simulate(problem, ETA, 30, seed=seed, engine=e) for e in ("step", "reference")
        )
        np.testing.assert_allclose(step.power_sums, reference.power_sums, rtol=1e-9)


@pytest.mark.long
@pytest.mark.parametrize("rule", [sa.CriticalStep(0.9), sa.OnlineCriticalStep(0.7, decay=0.5)])
def test_rules_have_the_same_law_on_levels(rule):
    problem = problem_of("k = 7", initial=5.0)
    times = [1, 3, 10]
    samples = [
        law.transient_rows(problem, rule, engine, times=times, seeds=range(i, 1500 + i))
        for i, engine in ((0, "step"), (50_000, "levels"))
    ]
    assert not law.compare_samples(*samples)


@pytest.mark.long
def test_schedules_and_weights_have_the_same_law(name):
    problem = problem_of(name, initial=5.0)
    schedule = np.linspace(0.02, 0.2, 30)
    times = [3, 10, 30]

    def sample(engine, first):
        traces = [
            sa.simulate(problem, schedule, 30, record_at=times, engine=engine, seed=seed,
                        update=(0.5, 1.5))
            for seed in range(first, first + 800)
        ]  # fmt: skip
        return {c: np.stack([trace[c][1:] for trace in traces]) for c in law.COLUMNS}

    step = sample("step", 0)
    for engine in ("jump", "levels"):
        failures = law.compare_samples(step, sample(engine, 5000))
        assert not failures, (engine, failures)


@pytest.mark.parametrize("engine", ["jump", "levels"])
def test_moves_at_every_curvature(engine):
    """Loss of many copies after long jumps at eta lambda = 0, 1, 2 and near them."""
    copies = 40_000
    for x in (0.0, 1e-12, 0.5, 1.0, 1.0 + 1e-9, 2.0 - 1e-9, 2.0):
        spectrum = sa.Spectrum([20.000001, x / 0.1], 1, [1, copies])
        problem = sa.Quadratic(spectrum, sa.DiagonalNoise([0.0, 0.7]), initial=[0.0, 2.0])
        steps = 10_000
        trace = sa.simulate(problem, 0.1, steps, record_every=steps, engine=engine, seed=3)
        exact = sa.theory.expected(problem, 0.1, steps)
        if x == 0.0:
            assert trace.loss_bulk[1] == 0.0
            continue
        error = abs(trace.loss_bulk[1] - exact.loss_bulk_mean[0])
        assert error < 5 * exact.loss_bulk_std[0], x


OPTIMIZERS = pytest.mark.parametrize(
    "optimizer", [sa.SGD(), sa.Momentum(0.9), sa.Momentum(0.7, nesterov=True)], ids=str
)


@pytest.mark.long
@OPTIMIZERS
@pytest.mark.parametrize("engine", ["jump", "levels"])
def test_chunks_and_threads_change_no_bit(engine, optimizer):
    spectrum = sa.Spectrum.linear_bands(40_000, 500).quantize(300)
    problem = sa.Quadratic(spectrum, sa.HessianNoise(0.5))
    how = {"record_every": 3, "engine": engine, "optimizer": optimizer}
    every = sa.simulate(problem, 3e-3, 30_000, num_threads=1, **how)
    assert_same_bits(sa.simulate(problem, 3e-3, 30_000, **how), every)
    assert len(every) == 10_001


@OPTIMIZERS
@pytest.mark.parametrize("engine", ["jump", "levels"])
def test_one_call_or_many_give_the_same_bits(engine, optimizer):
    from suspalign_fast.engines import make_engine
    from suspalign_fast.model.run import Run

    spectrum = sa.Spectrum.linear_bands(3000, 50).quantize(40)
    at = [1, 2, 5, 10, 20, 30, 41, 100]
    for extra in ({"record_every": 4}, {"record_at": at}):
        for rule in (sa.ConstantStep(3e-3), sa.Schedule(np.linspace(1e-3, 5e-3, 100))):
            how = {"engine": engine, "optimizer": optimizer} | extra
            run = Run(sa.Quadratic(spectrum), rule, 100, **how)
            whole, pieces = make_engine(run), make_engine(run)
            rows = whole.advance(100)
            parts = [pieces.advance(n) for n in (1, 9, 31, 59)]
            np.testing.assert_array_equal(
                np.concatenate([part.power_sums for part in parts]), rows.power_sums
            )
            np.testing.assert_array_equal(pieces.state, whole.state)


@OPTIMIZERS
@pytest.mark.parametrize("engine", ["step", "jump", "levels", "reference"])
def test_record_at_records_these_steps(engine, optimizer):
    problem, how = problem_of("k = 7"), {"engine": engine, "optimizer": optimizer}
    trace = sa.simulate(problem, ETA, 50, record_at=[3, 4, 50], **how)
    assert trace.step.tolist() == [0, 3, 4, 50]
    assert trace.run.num_rows == 4
    if engine in ("step", "reference"):
        assert_same_bits(trace, sa.simulate(problem, ETA, 50, **how), [0, 3, 4, 50])


def test_record_at_under_a_rule_and_in_a_file(tmp_path):
    problem = problem_of("k = 7")
    at = [3, 4, 50]
    for engine in ("step", "levels"):
        path = tmp_path / f"{engine}.h5"
        sa.simulate(problem, sa.CriticalStep(0.9), 60, record_at=at, engine=engine, path=path)
        trace = sa.load_trace(path)
        assert trace.step.tolist() == [0, *at]
        assert trace.run.record_at.tolist() == [0, *at]
        assert trace.spec["engine"] == engine


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"record_at": [3, 2]}, "got 2 after 3 at index 1"),
        ({"record_at": [3, 3]}, "got 3 after 3 at index 1"),
        ({"record_at": [-1, 3]}, "record_at must be increasing integers .* got -1"),
        ({"record_at": [3, 51]}, "from 0 to num_steps = 50, got 51"),
        ({"record_at": [1.5]}, "record_at must be increasing integers"),
        ({"record_at": []}, "record_at must be increasing integers"),
        ({"record_at": [3], "record_every": 2}, "exclude each other"),
        ({"engine": "jump", "step_size": sa.CriticalStep(0.9)}, "take engine 'step' or 'levels'"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        sa.simulate(
            **{"problem": problem_of("k = 7"), "step_size": ETA, "num_steps": 50} | arguments
        )


def test_levels_reach_dimensions_beyond_memory():
    spectrum = sa.Spectrum.two_level(10**15, 10**12, 10.0, 1.0)
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=3.0)
    trace = sa.simulate(problem, 0.01, 300, engine="levels")
    exact = sa.theory.expected(problem, 0.01, trace.step)
    distance = np.abs(trace.alignment - exact.alignment_mean) / exact.alignment_std
    assert distance.max() < 6.0
    assert distance.max() > 0.5
