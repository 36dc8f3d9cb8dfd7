import numba
import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.engines import make_engine
from suspalign_fast.kernels import rules
from suspalign_fast.model.run import Run
from suspalign_fast.physics import formulas as physics
from suspalign_fast.physics.layout import RULE_COLUMNS, WEIGHT_AT

from ..conftest import assert_same_bits

RULES = {
    "critical": lambda: sa.CriticalStep(0.9),
    "above critical": lambda: sa.CriticalStep(1.5, max_step=0.015),
    "loss interval": lambda: sa.LossIntervalStep(0.2, max_step=0.02),
    "online": lambda: sa.OnlineCriticalStep(0.8),
    "own": lambda: own_rule,
    "own with state": lambda: sa.RowStep(halving_rule, state=[2e-3]),
    "own observing": lambda: sa.RowStep(observing_rule, observes=True),
}


@numba.njit
def own_rule(row):
    return 1e-3 + 1e-4 * (row.step % 3) + 1e-12 * row.power_sums[0, 1]


@numba.njit
def halving_rule(row, state):
    if row.step % 10 == 9:
        state[0] /= 2.0
    return state[0]


@numba.njit
def observing_rule(row):
    noisy = row.noisy_sums
    return 1e-3 * noisy[0, 0] / (noisy[0, 0] + noisy[1, 0])


@pytest.fixture(params=RULES)
def rule(request):
    return RULES[request.param]()


@pytest.mark.mostly_long
@pytest.mark.parametrize("dim", [1500, 70_000])
def test_rules_agree_between_engines(rule, noise, dim):
    problem = sa.Quadratic(sa.Spectrum.linear_bands(dim, 37), noise(dim), initial=3.0)
    steps = 200 if dim < 5000 else 20
    actual = sa.simulate(problem, rule, steps, seed=5)
    expected = sa.simulate(problem, rule, steps, seed=5, engine="reference")
    for column, values in expected.columns().items():
        np.testing.assert_allclose(actual[column], values, rtol=1e-9, err_msg=column)


def test_rules_do_not_depend_on_what_is_recorded(rule):
    problem = sa.Quadratic(sa.Spectrum.linear_bands(1500, 37), sa.IsotropicNoise(0.5), initial=3.0)
    every = sa.simulate(problem, rule, 100, seed=5)
    for stride in (7, 100, 101):
        some = sa.simulate(problem, rule, 100, seed=5, record_every=stride)
        assert_same_bits(some, every, slice(None, None, stride))


def test_a_constant_rule_equals_a_constant_step_size():
    @numba.njit
    def constant(row):
        return 2e-3

    problem = sa.Quadratic(sa.Spectrum.linear_bands(70_000, 37), initial=3.0)
    assert_same_bits(sa.simulate(problem, constant, 30), sa.simulate(problem, 2e-3, 30))


def test_critical_step_is_the_fraction_of_each_rows_own_value(noise):
    problem = sa.Quadratic(sa.Spectrum.linear_bands(1500, 37), noise(1500), initial=3.0)
    trace = sa.simulate(problem, sa.CriticalStep(0.7), 300)
    expected = np.minimum(0.7 * trace.critical_step_size, 1 / 100.0)
    np.testing.assert_allclose(trace.step_size, expected, rtol=1e-13)
    assert (trace.step_size < 0.01).any()
    assert (trace.step_size == 0.01).any()


def test_critical_step_takes_the_cap_where_self_correcting():
    spectrum = sa.Spectrum([2.0, 1.0], 10, [10, 1000])
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(1.0), initial=[1000.0, 0.1])
    trace = sa.simulate(problem, sa.CriticalStep(1.0, max_step=0.03), 5)
    assert trace.critical_step_size[0] == np.inf
    assert trace.step_size[0] == 0.03
    assert trace.regime[0] == physics.SELF_CORRECTING


def test_loss_interval_step_is_a_geometric_mean_of_the_bounds():
    problem = sa.Quadratic(sa.Spectrum.linear_bands(1500, 37), sa.IsotropicNoise(0.5), initial=3.0)
    trace = sa.simulate(problem, sa.LossIntervalStep(0.25, max_step=0.019), 50)
    lower, upper = trace.loss_interval.T
    expected = np.minimum(lower**0.75 * upper**0.25, 0.019)
    np.testing.assert_allclose(trace.step_size, expected, rtol=1e-13)


def test_online_estimate_follows_the_exact_critical_step_size():
    problem = sa.Quadratic(
        sa.Spectrum.two_level(20_000, 2_000, 10.0, 1.0), sa.IsotropicNoise(0.5), initial=2.0
    )
    rule = sa.OnlineCriticalStep(0.5, decay=0.0, max_step=10.0)
    trace = sa.simulate(problem, rule, 20)
    np.testing.assert_allclose(trace.step_size[:5], 0.5 * trace.critical_step_size[:5], rtol=0.05)


def test_regimes_are_named():
    critical = np.array([1.0, 1.0, np.inf, np.nan])
    names = physics.regime(np.array([0.5, 2.0, 1.0, 1.0]), critical)
    assert names.tolist() == ["below", "above", "self-correcting", ""]


@pytest.mark.mostly_long
@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e-3])
@pytest.mark.parametrize("engine", ["step", "reference"])
def test_a_rule_that_fails_names_the_step_and_keeps_the_rows(engine, bad, tmp_path):
    @numba.njit
    def failing(row):
        return bad if row.step == 7 else 1e-3

    problem = sa.Quadratic(sa.Spectrum.linear_bands(100, 5))
    path = tmp_path / "trace.h5"
    with pytest.raises(ValueError, match=f"finite numbers of at least zero, got {bad} at step 7"):
        sa.simulate(problem, failing, 20, engine=engine, path=path)
    trace = sa.load_trace(path)
    assert trace.status == "failed"
    assert trace.step.tolist() == list(range(8))


@numba.njit
def dividing(row):
    return 1e-3 / (1.0 if row.step != 7 else 0.0)


@numba.njit
def refusing(row):
    if row.step == 7:
        raise ValueError("no more")
    return 1e-3


@numba.njit
def refusing_with_memory(row, memory):
    memory[0] += 1.0
    if memory[0] > 7.0:
        raise KeyError
    return 1e-3


@pytest.mark.mostly_long
@pytest.mark.parametrize("engine", ["step", "levels", "reference"])
@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (dividing, "got ZeroDivisionError: division by zero at step 7"),
        (refusing, "got ValueError: no more at step 7"),
        (sa.RowStep(refusing_with_memory, state=[0.0]), "got KeyError at step 7"),
    ],
)
def test_a_rule_that_raises_fails_like_one_that_returns_nan(engine, rule, message, tmp_path):
    problem = sa.Quadratic(sa.Spectrum.linear_bands(100, 5))
    path = tmp_path / "trace.h5"
    with pytest.raises(ValueError, match=message) as caught:
        sa.simulate(problem, rule, 20, engine=engine, path=path)
    assert isinstance(caught.value.__cause__, ZeroDivisionError | ValueError | KeyError)
    trace = sa.load_trace(path)
    assert trace.status == "failed"
    assert trace.step.tolist() == list(range(8))


def test_a_function_is_compiled_once(monkeypatch):
    @numba.njit
    def rule(row):
        return 1e-3

    problem = sa.Quadratic(sa.Spectrum.linear_bands(100, 5))
    sa.simulate(problem, rule, 3)
    compiled = []
    real = rules.cfunc
    monkeypatch.setattr(rules, "cfunc", lambda *a: compiled.append(a) or real(*a))
    for _ in range(3):
        sa.simulate(problem, rule, 3)
        sa.simulate(problem, sa.RowStep(rule), 3)
    assert compiled == []


def misspelt(row):
    size = 1e-3
    return size + row.powersums[0, 0]


def returns_text(row):
    return "text"


def adds_text(row):
    return row.power_sums[0, 1] + "a"


@numba.njit
def helper(x):
    return x.nothing


def calls_a_wrong_helper(row):
    return helper(row.step)


@pytest.mark.mostly_long
@pytest.mark.parametrize(
    ("function", "message"),
    [
        (misspelt, r"Unknown attribute 'powersums' of type Row, line \d+ of test_step_size\.py: "
         r"return size \+ row\.powersums"),
        (returns_text, r"'returns_text' does not compile: it returns .*text.*, not a float"),
        (adds_text, r"line \d+ of test_step_size\.py: return row\.power_sums\[0, 1\] \+ \"a\""),
        (calls_a_wrong_helper, r"'nothing' of type int64, line \d+ .*: return x\.nothing"),
    ],
)  # fmt: skip
def test_errors_of_compilation_name_reason_and_line(function, message):
    with pytest.raises(ValueError, match=message) as caught:
        sa.RowStep(numba.njit(function))
    assert "pipeline" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@numba.njit(parallel=True)
def looks_at_both_bands_at_once(row):
    total = 0.0
    for band in numba.prange(2):
        total += row.power_sums[band, 0]
    return 1e-3 / total


@numba.njit
def calls_a_parallel_function(row):
    return looks_at_both_bands_at_once(row)


@numba.njit(parallel=True)
def adds_arrays(row):
    return 1e-3 / (2.0 * row.power_sums[0] + 1.0).sum()


@numba.njit(parallel=True)
def has_no_loop(row):
    return 1e-3


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::numba.NumbaPerformanceWarning")
def test_rules_that_start_threads_are_refused():
    """Many threads call them at once, which aborts the process under Numba's own pool."""
    problem = sa.Quadratic(sa.Spectrum([3.0, 1.0], 1))
    for rule in (looks_at_both_bands_at_once, calls_a_parallel_function, adds_arrays):
        with pytest.raises(ValueError, match=f"{rule.__name__!r} has loops that Numba runs in par"):
            sa.simulate_ensemble(problem, rule, 5, seeds=range(4))
    assert sa.simulate(problem, has_no_loop, 5).status == "complete"


def test_a_rule_that_fails_at_once_is_named():
    @numba.njit
    def failing(row):
        return np.nan

    with pytest.raises(ValueError, match="got nan at step 0"):
        sa.simulate(sa.Quadratic(sa.Spectrum.linear_bands(100, 5)), failing, 20)


def test_divergence_under_a_rule_keeps_the_finite_rows():
    problem = sa.Quadratic(sa.Spectrum([1e3, 1.0], 1), initial=1.0)

    @numba.njit
    def large(row):
        return 1.0

    for engine in ("step", "reference"):
        trace = sa.simulate(problem, large, 1000, engine=engine)
        assert trace.status == "diverged"
        assert np.isfinite(trace.power_sums).all()
        assert 10 < len(trace) < 200


def test_rules_survive_in_a_file(rule, tmp_path):
    problem = sa.Quadratic(sa.Spectrum.linear_bands(100, 5))
    path = tmp_path / "trace.h5"
    sa.simulate(problem, rule, 5, path=path)
    stored = sa.load_trace(path).run.step_size
    if isinstance(rule, sa.CriticalStep | sa.LossIntervalStep | sa.OnlineCriticalStep):
        assert stored == rule
        return
    with pytest.raises(ValueError, match=r"is the function '.*rule' of a stored trace"):
        sa.simulate(problem, stored, 5)


@pytest.mark.mostly_long
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sa.CriticalStep(0.0), "fraction must be a finite number above zero"),
        (lambda: sa.CriticalStep(1.0, max_step=-1.0), "max_step must be a finite number above"),
        (lambda: sa.LossIntervalStep(1.5), "position must be between 0 and 1, got 1.5"),
        (lambda: sa.LossIntervalStep(-0.5), "position must be a finite number of at least zero"),
        (lambda: sa.OnlineCriticalStep(1.0, decay=1.0), "decay must be at least 0 and below 1"),
        (lambda: sa.RowStep(lambda row: 1.0), "must be a function compiled by numba.njit"),
        (lambda: sa.RowStep(numba.njit(lambda row: row.nothing)), "does not compile"),
        (lambda: sa.RowStep(numba.njit(lambda row: "text")), "does not compile"),
        (lambda: sa.RowStep(own_rule, state=[np.nan]), "state must be"),
    ],
)
def test_bad_rules_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


WEIGHTS = ("bulk", "dominant", (0.5, 1.7), (2.0, 0.3))


@pytest.mark.parametrize("update", WEIGHTS)
@pytest.mark.parametrize("engine", ["step", "levels", "reference"])
def test_critical_step_takes_the_weights_of_the_update(update, engine):
    spectrum = sa.Spectrum([10.0, 8.0, 2.0, 0.5], 30, [10, 20, 200, 500])
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=5.0)
    rule = sa.CriticalStep(0.7, max_step=0.5)
    trace = sa.simulate(problem, rule, 60, update=update, engine=engine, seed=2)
    critical, regime = trace.critical_step_size, trace.regime
    threshold = np.isin(regime, ["below", "above"])
    expected = np.where(threshold, np.minimum(0.7 * critical, 0.5), 0.5)
    np.testing.assert_allclose(trace.step_size, expected, rtol=1e-12)
    if update == "bulk":
        assert set(regime) <= {"falling-above", "rising-below"}
        assert (trace.step_size == 0.5).all()


def test_rules_see_the_weights():
    @numba.njit
    def weighted(row):
        return 1e-3 * row.weights[0] + 1e-4 * row.weights[1]

    problem = sa.Quadratic(sa.Spectrum([2.0, 1.0, 0.5], 10, [10, 20, 30]))
    for engine in ("step", "levels", "reference"):
        trace = sa.simulate(problem, weighted, 3, update=(0.5, 2.0), engine=engine)
        np.testing.assert_allclose(trace.step_size, 1e-3 * 0.5 + 1e-4 * 2.0)
        full = sa.simulate(problem, weighted, 3, engine=engine)
        np.testing.assert_allclose(full.step_size, 1.1e-3)


@pytest.mark.parametrize("engine", ["step", "levels", "reference"])
def test_weights_are_there_after_a_checkpoint_without_them(engine):
    """Checkpoints of earlier versions hold zeros where the weights are now."""
    problem = sa.Quadratic(sa.Spectrum([10.0, 8.0, 2.0], 30, [10, 20, 200]), initial=5.0)
    run = Run(problem, sa.CriticalStep(0.7, max_step=0.5), 30, engine=engine, update=(0.5, 0.4))
    first, second = make_engine(run), make_engine(run)
    first.initial_row()
    first.advance(10)
    snapshot = {name: array.copy() for name, array in first.snapshot().items()}
    table = snapshot["table" if engine == "reference" else "sums"]
    assert table.shape == (2, RULE_COLUMNS)
    assert table[:, WEIGHT_AT].tolist() == [0.5, 0.4]
    table[:, WEIGHT_AT:] = 0.0
    second.restore(snapshot)
    expected, actual = first.advance(20), second.advance(20)
    np.testing.assert_array_equal(actual.step_size, expected.step_size)
    np.testing.assert_array_equal(actual.power_sums, expected.power_sums)


@pytest.mark.parametrize("update", WEIGHTS)
def test_online_estimate_takes_the_weights(update):
    """Without noise the estimate is exact."""
    spectrum = sa.Spectrum.linear_bands(200, 20, (10.0, 8.0), (2.0, 0.5))
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.0), initial=5.0)
    online = sa.simulate(
        problem, sa.OnlineCriticalStep(0.7, decay=0.0, max_step=0.3), 20, update=update
    )
    exact = sa.simulate(problem, sa.CriticalStep(0.7, max_step=0.3), 20, update=update)
    np.testing.assert_allclose(online.step_size, exact.step_size, rtol=1e-9)


WARM_UP = np.concatenate([[0.0, 0.0], np.linspace(0.0, 0.02, 20), [0.0], np.full(17, 0.01), [0.0]])


@pytest.mark.parametrize("engine", ["step", "jump", "levels", "reference"])
def test_schedules_may_hold_zeros(engine):
    spectrum = sa.Spectrum([10.0, 8.0, 2.0], 30, [10, 20, 200])
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=5.0)
    trace = sa.simulate(problem, WARM_UP, WARM_UP.size, engine=engine)
    assert trace.status == "complete"
    still = np.flatnonzero(WARM_UP == 0.0)
    # A level keeps the square of a number whose square root is taken: to the last digit or so.
    tolerance = 1e-14 if engine == "levels" else 0.0
    np.testing.assert_allclose(trace.power_sums[still + 1], trace.power_sums[still], tolerance)
    assert (trace.predicted.probability[still] == 0.0).all()
    assert (trace.predicted.z[still] == 0.0).all()
    assert np.isfinite(trace.predicted.std[:-1]).all()
    assert (trace.regime[still] == "below").all()
    sums = sa.simulate(problem, np.zeros(5), 5, engine=engine).power_sums
    np.testing.assert_allclose(sums, np.repeat(sums[:1], 6, axis=0), tolerance)


def test_theory_of_a_schedule_with_zeros():
    spectrum = sa.Spectrum([10.0, 8.0, 2.0], 30, [10, 20, 200])
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=5.0)
    exact = sa.theory.expected(problem, WARM_UP, np.arange(WARM_UP.size + 1))
    without = sa.theory.expected(problem, WARM_UP[WARM_UP > 0.0], np.arange(37))
    kept = np.append(0, np.flatnonzero(WARM_UP > 0.0) + 1)
    for name in sa.theory.MOMENTS:
        np.testing.assert_allclose(getattr(exact, name)[kept], getattr(without, name), rtol=1e-12)


@pytest.mark.long
def test_a_schedule_with_zeros_survives_in_a_file_and_in_a_picture(tmp_path):
    from suspalign_fast.pictures.trace import plot_trace

    problem = sa.Quadratic(sa.Spectrum([10.0, 8.0, 2.0], 30, [10, 20, 200]), initial=5.0)
    path = tmp_path / "trace.h5"
    trace = sa.simulate(problem, WARM_UP, WARM_UP.size, path=path)
    assert sa.load_trace(path).run.step_size == trace.run.step_size
    plot_trace(trace, tmp_path / "trace.png")


def test_negative_sizes_and_a_constant_zero_are_refused():
    with pytest.raises(ValueError, match=r"step_size must not be negative, got -0\.1 at step 1"):
        sa.Schedule([0.0, -0.1])
    with pytest.raises(ValueError, match="step_size must be a finite number above zero"):
        sa.ConstantStep(0.0)


HEAVY = {
    "dominant": ((3.0, 1.0), sa.SGD(), sa.IsotropicNoise(0.1)),
    "bulk": ((1.0, 30.0), sa.SGD(), sa.HessianNoise(0.1)),
    "momentum": ((2.0, 2.5), sa.Momentum(0.8, nesterov=True), sa.IsotropicNoise(0.1)),
    "batches": ((3.0, 1.0), sa.SGD(), sa.DataNoise(4, 0.1)),
    "both": ((1.0, 12.0), sa.Momentum(0.5), sa.DataNoise(2, 0.1)),
}


@pytest.mark.mostly_long
@pytest.mark.parametrize("engine", ["step", "levels", "reference"])
@pytest.mark.parametrize("case", HEAVY)
@pytest.mark.parametrize(
    "rule",
    [sa.CriticalStep(1e9), sa.LossIntervalStep(1.0), sa.OnlineCriticalStep(1e9)],
    ids=lambda rule: type(rule).__name__,
)
def test_default_caps_are_half_of_the_edge_of_a_weighted_update(rule, case, engine):
    weights, optimizer, noise = HEAVY[case]
    problem = sa.Quadratic(sa.Spectrum([10.0, 1.0], 2, [2, 3]), noise)
    how = {"update": weights, "optimizer": optimizer}
    if engine == "levels" and rule.observes:
        engine = "step"
    trace = sa.simulate(problem, rule, 50, engine=engine, **how)
    cap = sa.theory.stability(problem, 1e-9, **how).largest / 2.0
    assert trace.step_size.max() <= cap * (1.0 + 1e-12)
    if isinstance(rule, sa.CriticalStep):
        assert trace.step_size.max() == pytest.approx(cap, rel=1e-12)
    assert trace.loss[-1] < 1e3 * trace.loss[0]


def test_weights_up_to_one_and_a_cap_of_ones_own_leave_the_cap():
    problem = sa.Quadratic(sa.Spectrum([10.0, 1.0], 1), sa.IsotropicNoise(0.1))
    for update in ("full", "dominant", "bulk", (0.5, 1.0), (1.0, 9.0)):
        trace = sa.simulate(problem, sa.CriticalStep(1e9), 20, update=update)
        assert trace.step_size.max() == 0.1
    trace = sa.simulate(problem, sa.CriticalStep(1e9, max_step=0.05), 20, update=(3, 1))
    assert trace.step_size.max() == 0.05
