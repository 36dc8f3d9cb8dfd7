"""The engines on a GPU against those on the CPU: on a real one, or on the one Numba simulates."""

import gc
import os
import sys
import threading
import weakref

import numba
import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.engines import make_engine
from suspalign_fast.engines.reference import philox4x32
from suspalign_fast.engines.steppers import advance_known
from suspalign_fast.kernels import domains
from suspalign_fast.kernels.normals import counter_words, fill_normals, seed_key
from suspalign_fast.kernels.simd import broadcast, horizontal_sum, iota
from suspalign_fast.model import devices
from suspalign_fast.model.run import Run
from suspalign_fast.physics.layout import ROW_SIZE

from ..conftest import NOISES, assert_same_bits
from ..helpers import simulated_gpu
from ..running.test_resume import stop_after

SIMULATED = devices.is_simulated()
if devices.why_not() is not None:
    pytest.skip(devices.why_not(), allow_module_level=True)

from numba import cuda  # noqa: E402  (a machine without it skips this file)

from suspalign_fast.engines import gpu as engines_gpu  # noqa: E402
from suspalign_fast.kernels.gpu import plain as gpu  # noqa: E402
from suspalign_fast.kernels.gpu import together  # noqa: E402

#: The simulated GPU is slow: all that is tried only if it is asked for, or on a real one.
LONG = "SUSPALIGN_LONG_TESTS" in os.environ or not SIMULATED


def some(*values, count=1):
    """The first values, or all in the long form of the suite."""
    return values if LONG else values[:count]


#: What is asked; the simulated GPU calls the CPU's functions, so only the order of sums differs.
RTOL = 1e-12 if SIMULATED else 1e-5
STEPS = 11


@numba.njit
def two_sizes(row):
    return 1e-3 if row.power_sums[0, 1] > 1e4 * row.constants[0, 0] else 3e-3


@numba.njit
def counting(row, state):
    state[0] += 1.0
    return 3e-3 / state[0]


@numba.njit
def observing(row):
    dominant, bulk = row.noisy_sums[0, 0], row.noisy_sums[1, 0]
    return 3e-3 * dominant / (dominant + bulk)


@numba.njit
def failing(row):
    return np.nan if row.step == 5 else 3e-3


RULES = {
    "constant": 3e-3,
    "schedule": np.linspace(1e-3, 4e-3, STEPS),
    "critical": sa.CriticalStep(0.9),
    "interval": sa.LossIntervalStep(0.5),
    "online": sa.OnlineCriticalStep(0.9),
    "function": two_sizes,
    "function with a state": sa.RowStep(counting, state=[1.0]),
    "function of the noisy gradient": sa.RowStep(observing, observes=True),
}
SPECTRA = {
    "distinct": sa.Spectrum.linear_bands(700, 77),
    "levels": sa.Spectrum([100.0, 90.0, 2.0, 0.5, 0.0], 30, [10, 20, 300, 100, 50]),
    "tiny": sa.Spectrum([3.0, 1.0], 1),
}


@pytest.fixture(autouse=True)
def few_calls(monkeypatch):
    """However slow the device, let calls of an engine grow to many steps."""
    monkeypatch.setattr(sys.modules["suspalign_fast.running.driver"], "COMMIT_INTERVAL", 1e3)


@pytest.fixture(autouse=True)
def quick_threads(monkeypatch):
    with simulated_gpu.quick(monkeypatch):
        yield


def problem_of(spectrum="distinct", noise="isotropic"):
    levels = SPECTRA[spectrum]
    return sa.Quadratic(levels, NOISES[noise](levels.num_levels), initial=3.0)


def engine_of(problem, rule="constant", num_steps=STEPS, **options):
    options = {"device": "cuda", "seed": 5} | options
    return make_engine(
        Run(problem, sa.model.step_size.as_step_size(RULES[rule]), num_steps, **options)
    )


def assert_close(actual, expected, rtol=RTOL):
    """Same steps, and rows within a relative tolerance."""
    np.testing.assert_array_equal(actual.step, expected.step)
    for name in ("step_size", "power_sums", "noise_sums", "alignment", "loss"):
        np.testing.assert_allclose(
            getattr(actual, name), getattr(expected, name), rtol=rtol, err_msg=name
        )


def compare(problem, step_size, num_steps=STEPS, **arguments):
    """Run on both devices; return the trace of the GPU."""
    arguments = {"seed": 5} | arguments
    expected = sa.simulate(problem, step_size, num_steps, **arguments)
    actual = sa.simulate(problem, step_size, num_steps, **arguments, device="cuda")
    assert_close(actual, expected)
    return actual


# --- noise -------------------------------------------------------------------------------------


@numba.njit
def write_words(out, counter, domain, low, high, key_0, key_1):
    index = broadcast(np.uint32(counter), iota(np.uint32(0), 1))
    w0, w1, w2, w3 = counter_words(index, domain, low, high, key_0, key_1)
    out[counter, 0] = horizontal_sum(w0)
    out[counter, 1] = horizontal_sum(w1)
    out[counter, 2] = horizontal_sum(w2)
    out[counter, 3] = horizontal_sum(w3)


write_words_from_kernel = together.from_kernel(write_words)


@cuda.jit
def words_of_counters(out, domain, low, high, key_0, key_1):
    write_words_from_kernel(out, cuda.grid(1), domain, low, high, key_0, key_1)


@pytest.mark.parametrize("step", [0, 12345, 2**32 - 1, 2**40 + 7])
def test_random_integers_are_identical(step):
    seed = 2**63 + 12345
    words = cuda.to_device(np.zeros((64, 4), np.uint32))
    together.launch(words_of_counters, 4, 16)(
        words, domains.STEP, step & 0xFFFFFFFF, step >> 32, *seed_key(seed)
    )
    counters = np.zeros((64, 4), np.uint32)
    counters[:, 0] = np.arange(64)
    counters[:, 1:] = domains.STEP, step & 0xFFFFFFFF, step >> 32
    expected = philox4x32(counters, tuple(map(int, seed_key(seed))))
    np.testing.assert_array_equal(words.copy_to_host(), expected)


def test_normals_agree_to_float32_rounding():
    expected = np.empty(1000)
    fill_normals(expected, 1.0, domains.INITIAL, 0, *seed_key(7))
    out = cuda.device_array(1000, np.float64)
    together.launch(gpu.fill_normals, -(-256 // together.THREADS), together.THREADS)(
        out, 1.0, domains.INITIAL, 0, 0, *seed_key(7)
    )
    np.testing.assert_allclose(out.copy_to_host(), expected, rtol=5e-7, atol=1e-7)


def test_the_square_root_of_the_gpu():
    """Its formula, from any estimate as good as the hardware's: relative error 2^-22.9."""
    rng = np.random.default_rng(0)
    w = np.concatenate([rng.uniform(0.0, 46.0, 200_000), 2.0 ** -rng.uniform(0.0, 25.0, 200_000)])
    w = np.append(w, 0.0).astype(np.float32)
    floored = np.maximum(w, np.float32(2.0**-100))
    for error in (-(2.0**-22.9), 0.0, 2.0**-22.9):
        estimate = ((1.0 + error) / np.sqrt(floored.astype(np.float64))).astype(np.float32)
        root = w * estimate
        half = estimate * np.float32(0.5)
        # Long enough to round once.
        rest = (w.astype(np.longdouble) - root.astype(np.longdouble) ** 2).astype(np.float32)
        better = root.astype(np.longdouble) + rest.astype(np.longdouble) * half
        better, exact = better.astype(np.float32), np.sqrt(w)
        np.testing.assert_array_max_ulp(better, exact, maxulp=1)
        assert np.count_nonzero(better != exact) <= 4
    assert better[-1] == 0.0


# --- steps -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("spectrum", ["distinct", "levels"])
def test_rows_agree_with_the_cpu(spectrum, rule):
    trace = compare(problem_of(spectrum), RULES[rule])
    assert trace.run.device == "cuda"
    assert len(trace) == STEPS + 1
    if rule == "function of the noisy gradient":
        assert np.ptp(trace.step_size) > 1e-4


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_every_noise_model(spectrum, noise):
    compare(problem_of(spectrum, noise), 3e-3)


@pytest.mark.parametrize("rule", ["constant", "critical"])
@pytest.mark.parametrize("update", ["dominant", "bulk", (0.5, 2.0)])
def test_weights_of_the_update(update, rule):
    compare(problem_of("levels"), RULES[rule], update=update)


@pytest.mark.parametrize("rule", ["constant", "online"])
def test_a_float32_state(rule):
    trace = compare(problem_of(), RULES[rule], dtype="float32")
    double = sa.simulate(problem_of(), RULES[rule], STEPS, seed=5, device="cuda")
    assert abs(trace.power_sums / double.power_sums - 1.0).max() > 1e-9


@pytest.mark.parametrize("initial", ["directions", "levels"])
def test_given_coefficients(initial):
    spectrum = SPECTRA["levels"]
    size = spectrum.dim if initial == "directions" else spectrum.num_levels
    compare(sa.Quadratic(spectrum, sa.HessianNoise(0.3), np.linspace(-2.0, 5.0, size)), 3e-3)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_coefficients_agree_to_rounding_of_the_noise(dtype):
    states = []
    for device in ("cpu", "cuda"):
        engine = engine_of(problem_of("levels"), device=device, dtype=dtype)
        engine.advance(STEPS)
        states.append(engine.state)
    assert states[1].dtype == dtype
    # Noise enters with eta s = 1.5e-3, and float32 noise of size 1 to about 6e-8.
    tolerance = 1e-15 if SIMULATED else 1.5e-3 * STEPS * 5e-7
    np.testing.assert_allclose(states[1], states[0], rtol=0, atol=tolerance)


def test_steps_beyond_32_bits():
    rows = []
    for device in ("cpu", "cuda"):
        engine = engine_of(problem_of(), num_steps=2**33, device=device)
        engine.restore(engine.snapshot() | {"step": np.array(2**32 - 3)})
        rows.append(engine.advance(7))
    np.testing.assert_allclose(rows[1].power_sums, rows[0].power_sums, rtol=RTOL)


# --- bits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule",
    ["constant", "schedule", "function with a state", "function of the noisy gradient"],
)
def test_neither_pieces_nor_launches_change_a_bit(rule, monkeypatch):
    whole = engine_of(problem_of(), rule)
    rows = [whole.initial_row(), whole.advance(STEPS)]
    expected = np.concatenate([r.power_sums for r in rows])
    again = engine_of(problem_of(), rule)
    pieces = [again.initial_row(), *(again.advance(n) for n in (1, 6, 2, 2))]
    assert np.concatenate([r.power_sums for r in pieces]).tobytes() == expected.tobytes()
    monkeypatch.setattr(engines_gpu, "TABLE_BYTES", 1)  # a launch a tile
    small = engine_of(problem_of(), rule)
    rows = [small.initial_row(), small.advance(STEPS)]
    assert np.concatenate([r.power_sums for r in rows]).tobytes() == expected.tobytes()


@pytest.mark.parametrize("rule", ["constant", "critical"])
def test_recording_less_changes_no_bit(rule, tmp_path):
    arguments = {"seed": 5, "device": "cuda"}
    whole = sa.simulate(problem_of(), RULES[rule], STEPS, **arguments)
    some = sa.simulate(
        problem_of(), RULES[rule], STEPS, **arguments, record_at=[2, 3, 9], path=tmp_path / "a.h5"
    )
    assert_same_bits(some, whole, [0, 2, 3, 9])


# --- jump --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["constant", "schedule"])
@pytest.mark.parametrize("spectrum", ["distinct", "levels"])
@pytest.mark.parametrize("recorded", [{"record_every": 2}, {"record_at": [1, 3, 4, 8, 11]}])
def test_jump_agrees_with_the_cpu(spectrum, rule, recorded):
    compare(problem_of(spectrum, "hessian"), RULES[rule], engine="jump", **recorded)


def test_jump_in_many_launches(monkeypatch):
    monkeypatch.setattr(engines_gpu, "TABLE_BYTES", 1)
    compare(problem_of(), 3e-3, 30, engine="jump", record_every=3, dtype="float32")


def test_jump_refuses_rules():
    with pytest.raises(ValueError, match="engine 'jump' skips the steps between rows"):
        sa.simulate(problem_of(), sa.CriticalStep(0.9), 5, engine="jump", device="cuda")


# --- from one device to the other --------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [("cpu", "cuda"), ("cuda", "cpu")])
@pytest.mark.parametrize("rule", ["constant", "online", "jump"])
def test_a_run_goes_on_elsewhere(first, second, rule, tmp_path, monkeypatch):
    engine, step_size = ("jump", 3e-3) if rule == "jump" else ("step", RULES[rule])
    arguments = {"seed": 5, "engine": engine}
    path = tmp_path / "trace.h5"
    whole = sa.simulate(problem_of("levels"), step_size, 40, **arguments)
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(sa.Interrupted):
            sa.simulate(problem_of("levels"), step_size, 40, **arguments, device=first, path=path)
    rows = len(sa.load_trace(path))
    assert 1 < rows < 41
    trace = sa.resume(path, device=second)
    assert trace.run.device == second
    assert_close(trace, whole)


def test_a_run_goes_on_where_it_was(tmp_path, monkeypatch):
    path = tmp_path / "trace.h5"
    arguments = {"seed": 5, "device": "cuda"}
    whole = sa.simulate(problem_of(), 3e-3, 40, **arguments)
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(sa.Interrupted):
            sa.simulate(problem_of(), 3e-3, 40, **arguments, path=path)
    trace = sa.resume(path)
    assert trace.run.device == "cuda"
    assert_same_bits(trace, whole)


def test_a_checkpoint_that_does_not_fit_is_refused():
    engine = engine_of(problem_of())
    snapshot = engine.snapshot()
    with pytest.raises(ValueError, match="does not fit"):
        engine.restore(snapshot | {"state": snapshot["state"][1:]})


# --- what goes wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["constant", "critical"])
def test_divergence(rule):
    step_size = 1e80 if rule == "constant" else sa.CriticalStep(1e80, max_step=1e80)
    arguments = {"seed": 5, "num_steps": STEPS}
    expected = sa.simulate(problem_of(), step_size, **arguments)
    actual = sa.simulate(problem_of(), step_size, **arguments, device="cuda")
    assert actual.status == expected.status == "diverged"
    assert_close(actual, expected)
    assert 0 < len(actual) < STEPS


def test_a_rule_that_fails_keeps_the_rows_before(tmp_path):
    path = tmp_path / "trace.h5"
    with pytest.raises(ValueError, match=r"finite numbers of at least zero, got nan at step 5"):
        sa.simulate(problem_of(), failing, STEPS, device="cuda", path=path)
    trace = sa.load_trace(path)
    assert trace.status == "failed"
    np.testing.assert_array_equal(trace.step, range(6))


@pytest.mark.parametrize("engine", ["levels", "reference"])
def test_other_engines_stay_on_the_cpu(engine):
    with pytest.raises(ValueError, match=f"device must be 'cpu' for engine '{engine}'"):
        sa.simulate(problem_of("levels"), 3e-3, 5, engine=engine, device="cuda")


def test_what_a_rule_writes_to_its_row_is_not_recorded():
    @numba.njit
    def writing(row):
        row.power_sums[0, 0] = 123.0
        return 1e-3

    compare(problem_of(), writing, 4)


@pytest.mark.skipif(not SIMULATED, reason="a rule that raises may leave a real GPU in any state")
def test_a_rule_that_raises_is_an_error():
    @numba.njit
    def raising(row):
        if row.step == 3:
            raise ValueError
        return 1e-3

    with pytest.raises(ValueError, match="tid="):
        sa.simulate(problem_of(), raising, 5, device="cuda")


@pytest.mark.parametrize("rule", ["constant", "critical", "jump"])
def test_an_engine_is_freed_when_it_is_dropped(rule):
    engine = "jump" if rule == "jump" else "step"
    dropped = engine_of(problem_of(), "constant" if rule == "jump" else rule, engine=engine)
    gc.disable()
    try:
        seen = weakref.ref(dropped)
        del dropped
        assert seen() is None
    finally:
        gc.enable()


def test_small_problems_take_small_tables(monkeypatch):
    monkeypatch.setattr(engines_gpu, "TABLE_BYTES", 2**27)
    assert engine_of(problem_of("tiny")).table.shape[1] == engines_gpu.TABLE_STEPS


def test_an_ensemble():
    runs = sa.simulate_ensemble(problem_of(), 3e-3, 5, seeds=range(3), device="cuda")
    for seed, trace in enumerate(runs):
        expected = sa.simulate(problem_of(), 3e-3, 5, seed=seed, device="cuda")
        assert_same_bits(trace, expected)


# --- parts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 7, 528])
@pytest.mark.parametrize(
    ("dim", "num_dominant"), [(2, 1), (64, 1), (65, 64), (1000, 128), (10**6, 1000), (10**6, 1)]
)
def test_parts_cover_every_coordinate_once(dim, num_dominant, count):
    parts = together.cut(dim, num_dominant, count)
    assert len(parts) <= max(count, 2)
    assert parts[0, 1] == 0
    assert parts[-1, 2] == dim
    np.testing.assert_array_equal(parts[1:, 1], parts[:-1, 2])
    assert (parts[:, 2] > parts[:, 1]).all()
    np.testing.assert_array_equal(parts[:, 0], parts[:, 1] >= num_dominant)
    assert num_dominant in parts[:, 1]


class Uneven(sa.IsotropicNoise):
    """A model of a user's own, derived from one whose value is the same everywhere."""

    def stds(self, spectrum):
        return super().stds(spectrum) * np.linspace(0.5, 2.0, spectrum.num_levels)


@pytest.mark.parametrize("engine", ["step", "jump"])
@pytest.mark.parametrize("spectrum", ["distinct", "levels"])
def test_a_noise_model_of_a_user_s_own(engine, spectrum):
    problem = sa.Quadratic(SPECTRA[spectrum], Uneven(0.5), initial=3.0)
    trace = compare(problem, 3e-3, engine=engine)
    plain = sa.Quadratic(SPECTRA[spectrum], sa.DiagonalNoise(problem.stds), initial=3.0)
    assert_close(
        sa.simulate(plain, 3e-3, STEPS, engine=engine, seed=5, device="cuda"), trace, 1e-12
    )


@pytest.mark.parametrize("update", ["bulk", (0.5, 1.7), (2.0, 0.3)])
@pytest.mark.parametrize("rule", [sa.CriticalStep(0.7), sa.OnlineCriticalStep(0.7)])
def test_rules_take_the_weights_of_the_update(rule, update):
    compare(problem_of("levels"), rule, update=update)


@pytest.mark.parametrize("sizes", [3.0, np.full(STEPS, 3.0)])
def test_an_overflowed_factor_leaves_exact_zeros_alone(sizes):
    noise = sa.DiagonalNoise([0.0, 0.1, 0.1])
    problem = sa.Quadratic(sa.Spectrum([1e30, 0.3, 0.1], 1), noise, [0.0, 2.0, 1.0])
    trace = compare(problem, sizes, engine="jump", record_every=STEPS)
    assert trace.status == "complete"
    assert (trace.power_sums[:, 0] == 0.0).all()


def test_schedules_may_hold_zeros():
    compare(problem_of(), np.r_[np.zeros(3), np.linspace(0.0, 3e-3, STEPS - 3)])


def test_a_move_is_a_drift_and_a_spread_of_each_band():
    steps = 6  # a tile and two
    cpu = engine_of(problem_of(), "constant", steps, device="cpu")
    device = engine_of(problem_of(), "constant", steps)
    moves = np.random.default_rng(0).normal(scale=1e-3, size=(steps, 2, 2))
    sums = np.zeros((2, steps, 2, ROW_SIZE))
    slots = np.arange(steps)
    advance_known(*cpu.model(), 0, moves, slots, *cpu.key, sums[0])
    device._advance_known(0, moves, slots, *device.key, sums[1])
    np.testing.assert_allclose(device.state, cpu.state, rtol=1e-13)
    np.testing.assert_allclose(sums[1], sums[0], rtol=1e-11)


# --- rows are written beside the engine ----------------------------------------------------------


@pytest.mark.parametrize("failing_call", [None, 2])
def test_rows_are_written_in_a_thread_of_their_own(failing_call, tmp_path, monkeypatch):
    from suspalign_fast.traces.writers import TraceWriter

    path, threads = tmp_path / "a.h5", []
    append = TraceWriter.append

    def watched(self, rows):
        threads.append(threading.current_thread().name)
        if len(threads) == failing_call:
            raise OSError("no space")
        append(self, rows)

    monkeypatch.setattr(TraceWriter, "append", watched)
    monkeypatch.setattr(sys.modules["suspalign_fast.running.driver"], "FIRST_NUMBERS", 2)
    arguments = {"seed": 5, "device": "cuda", "path": path}
    if failing_call:
        with pytest.raises(OSError, match="no space"):
            sa.simulate(problem_of("tiny"), 3e-3, 40, **arguments)
        assert 1 <= len(sa.load_trace(path)) < 41
    else:
        trace = sa.simulate(problem_of("tiny"), 3e-3, 40, **arguments)
        whole = sa.simulate(problem_of("tiny"), 3e-3, 40, seed=5, device="cuda")
        assert_same_bits(trace, whole)
    assert all(name.startswith("suspalign-writer") for name in threads)
    assert len(threads) > 1
