import os
import pickle
import re
import subprocess
import sys
import tracemalloc
import warnings

import numpy as np
import pytest

import suspalign_fast as sa


@pytest.fixture
def problem():
    return sa.Quadratic(sa.Spectrum.linear_bands(200, 10), sa.IsotropicNoise(0.5), initial=1.0)


def test_a_trace_has_every_column(problem):
    trace = sa.simulate(problem, 1e-3, 10, record_every=3)
    assert len(trace) == 4
    assert trace.step.tolist() == [0, 3, 6, 9]
    assert trace.step.dtype == np.int64
    assert (trace.step_size == 1e-3).all()
    assert trace.power_sums.shape == (4, 2, 4)
    assert trace.noise_sums.shape == (4, 2, 3)
    np.testing.assert_array_equal(trace.loss, trace.loss_dominant + trace.loss_bulk)
    np.testing.assert_array_equal(trace["alignment"], trace.alignment)
    assert trace.status == "complete"
    assert trace.spec["num_steps"] == 10
    assert "200" in repr(trace)
    with pytest.raises(KeyError, match="no column 'magic'"):
        trace["magic"]


def test_noise_sums_are_those_of_the_model():
    spectrum = sa.Spectrum.linear_bands(200, 10)
    trace = sa.simulate(sa.Quadratic(spectrum, sa.IsotropicNoise(0.5)), 1e-3, 5)
    np.testing.assert_allclose(trace.noise_sums[..., 0], 0.25 * trace.power_sums[..., 3])
    trace = sa.simulate(sa.Quadratic(spectrum, sa.HessianNoise(0.5)), 1e-3, 5)
    assert (trace.noise_sums[..., 0] != 0.25 * trace.power_sums[..., 3]).all()


def test_zero_steps_record_the_initial_state(problem):
    trace = sa.simulate(problem, 1e-3, 0)
    assert trace.step.tolist() == [0]
    assert trace.status == "complete"


def test_without_noise_it_is_gradient_descent():
    lam = np.array([3.0, 1.0, 0.5])
    start = np.array([1.0, -2.0, 3.0])
    problem = sa.Quadratic(sa.Spectrum(lam, 1), sa.IsotropicNoise(0.0), initial=start)
    trace = sa.simulate(problem, 0.1, 50)
    c = start * (1 - 0.1 * lam) ** np.arange(51)[:, None]
    np.testing.assert_allclose(trace.loss, 0.5 * (lam * c**2).sum(1), rtol=1e-13)


@pytest.mark.parametrize("engine", ["step", "reference"])
def test_divergence_keeps_the_finite_rows(engine, tmp_path):
    problem = sa.Quadratic(sa.Spectrum([1e3, 1.0], 1), initial=1.0)
    path = tmp_path / "trace.h5"
    trace = sa.simulate(problem, 1.0, 10_000, engine=engine)
    assert trace.status == "diverged"
    assert 10 < len(trace) < 1000
    for values in trace.columns().values():
        assert not np.isnan(values).any()
    assert np.isfinite(trace.power_sums).all()
    stored = sa.simulate(problem, 1.0, 10_000, engine=engine, path=path)
    assert stored.status == "diverged"
    assert len(stored) == len(trace)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (0, r"trace.alignment\[0\]"),
        (np.int64(-1), r"trace.alignment\[.*-1.*\]"),
        (slice(5), r"trace.alignment\[:5\]"),
        (slice(None, None, 2), r"trace.alignment\[::2\]"),
        ((0, 1), r"trace.alignment\[\(0, 1\)\]"),
        (np.arange(30).reshape(5, 6), "an array of shape"),
        (None, "None"),
    ],
)
def test_a_trace_is_no_sequence_of_rows(problem, key, said):
    trace = sa.simulate(problem, 1e-3, 9)
    with pytest.raises(TypeError, match=f"columns, and they have rows: write .*{said}") as caught:
        _ = trace[key]
    assert "\n" not in str(caught.value)
    with pytest.raises(KeyError, match="no column 'los'; it has step,"):
        _ = trace["los"]


def test_a_trace_is_not_iterated(problem):
    trace = sa.simulate(problem, 1e-3, 9)
    for work in (list, iter, np.fromiter, lambda t: dict(t), lambda t: [*t]):
        with pytest.raises(TypeError):
            work(trace)
    with pytest.raises(TypeError, match=r"write trace.columns\(\) for its columns by name, zip"):
        list(trace)
    assert "loss" in trace
    assert "los" not in trace


def test_columns_are_read_only(problem, tmp_path):
    for path in (None, tmp_path / "trace.h5"):
        trace = sa.simulate(problem, 1e-3, 9, path=path)
        for values in (*trace.columns().values(), *trace.table().values(), trace.read("loss", 0, 3),
                       trace.read("step", 0, 3)):  # fmt: skip
            with pytest.raises(ValueError, match="read-only"):
                values[0] = 1
        with pytest.raises(AttributeError):
            trace.loss = trace.loss
        changed = trace.loss.copy()
        changed[0] = 1.0
        assert pickle.loads(pickle.dumps(trace)) == trace


def test_more_threads_than_cores_are_a_warning(problem):
    expected = sa.simulate(problem, 1e-3, 9)
    with pytest.warns(RuntimeWarning, match="num_threads = 9999: this machine has .*, which it ta"):
        trace = sa.simulate(problem, 1e-3, 9, num_threads=9_999)
    assert trace == expected
    with pytest.warns(RuntimeWarning, match="num_threads = 4611686018427387904: this"):
        (trace,) = sa.simulate_ensemble(problem, 1e-3, 9, num_threads=2**62)
    assert trace == expected


TWO = sa.Spectrum([4.0, 1.0], 1)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"step_size": 0.51}, "step size 0.51 is above 2 / lambda = 0.5: expected losses grow"),
        ({"step_size": 0.49}, None),
        ({"step_size": [0.6] * 5}, "even the least step size 0.6 is above 2 / lambda = 0.5"),
        ({"step_size": [0.6, 0.1, 0.6, 0.6, 0.6]}, None),
        ({"step_size": 0.51, "update": "bulk"}, None),
        (
            {"step_size": 0.3, "update": (2.0, 1.0)},
            r"2 / lambda = 0.25 \(weights of the update cou",
        ),
        ({"step_size": 0.51, "optimizer": sa.Momentum(0.5)}, None),
        ({"step_size": 0.76, "optimizer": sa.Momentum(0.5)}, "above the edge of stability 0.75 of"),
        ({"step_size": 0.49, "noise": sa.DataNoise(1)}, "above eta_max = .*K = "),
        ({"step_size": sa.CriticalStep(0.9)}, None),
    ],
)
@pytest.mark.parametrize("kind", ["run", "ensemble"])
def test_step_sizes_above_the_edge_are_a_warning(how, said, kind):
    how = dict(how)
    problem = sa.Quadratic(TWO, how.pop("noise", sa.IsotropicNoise(0.1)))
    size = how.pop("step_size")
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        if kind == "run":
            sa.simulate(problem, size, 5, **how)
        else:
            sizes = [np.array(size)] * 2 if isinstance(size, list) else size
            sa.simulate_ensemble(problem, sizes, 5, seeds=range(2), **how)
    assert len(found) == (said is not None)
    for warning in found:
        assert re.search(said, str(warning.message))
        assert warning.filename == __file__


def test_an_initial_state_that_overflows_gives_an_empty_trace():
    problem = sa.Quadratic(sa.Spectrum([1e300, 1.0], 1), initial=[1e100, 1.0])
    trace = sa.simulate(problem, 1e-3, 5)
    assert (trace.status, len(trace)) == ("diverged", 0)


@pytest.mark.parametrize(
    ("num_steps", "every"), [(10**18, 10**17), (2**54, 2**53), (2**62, 2**60), (2**53 + 5, 2**53)]
)
@pytest.mark.parametrize("engine", ["jump", "levels"])
def test_huge_strides_lose_no_row(engine, num_steps, every, tmp_path):
    problem = sa.Quadratic(sa.Spectrum.two_level(50, 5, 2.0, 1.0))
    for path in (None, tmp_path / "trace.h5"):
        trace = sa.simulate(problem, 0.1, num_steps, engine=engine, record_every=every, path=path)
        assert trace.status == "complete"
        assert trace.step.tolist() == list(range(0, num_steps + 1, every))


@pytest.mark.long
def test_rows_that_cannot_fit_are_refused_at_once(problem, tmp_path, monkeypatch):
    with pytest.raises(MemoryError, match=r"100,000,000,001 rows in memory needs 1\.28e\+04 GB"):
        sa.simulate(problem, 1e-3, 10**11)
    monkeypatch.setattr("suspalign_fast.base.memory.available", lambda: 40 * 10**9)
    with pytest.raises(MemoryError, match=r"400,000,004 rows in memory"):
        sa.simulate_ensemble(problem, 1e-3, 10**8, seeds=range(4))
    monkeypatch.setattr("suspalign_fast.base.memory.available", lambda: 10**8)
    sa.simulate(problem, 1e-3, 10**6, path=tmp_path / "trace.h5", engine="levels")


def test_rows_are_kept_once(problem):
    """No row is copied at the end: the peak is that of the trace itself."""
    sa.simulate(problem, 1e-3, 10, engine="levels")
    tracemalloc.start()
    trace = sa.simulate(problem, 1e-3, 100_000, engine="levels")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    held = sum(trace[name].nbytes for name in ("step", "step_size", "power_sums", "noise_sums"))
    assert peak < 1.2 * held


# --- paths -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, bytes, "pathlike"])
def test_paths_of_every_kind(problem, tmp_path, kind):
    class Named:
        def __fspath__(self):
            return str(tmp_path / "trace.h5")

    path = {str: str(tmp_path / "trace.h5"), bytes: os.fsencode(tmp_path / "trace.h5")}.get(kind)
    path = Named() if kind == "pathlike" else path
    trace = sa.simulate(problem, 1e-3, 20, path=path)
    assert len(sa.load_trace(path)) == len(sa.resume(path)) == len(trace) == 21
    problem.spectrum.save(path, overwrite=True)
    assert sa.Spectrum.load(path).dim == 200


def test_a_trace_is_found_after_a_change_of_folder(problem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trace = sa.simulate(problem, 1e-3, 20, path="trace.h5")
    loaded = sa.load_trace("trace.h5")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert len(trace.loss) == len(loaded.loss) == 21


def test_a_change_of_folder_during_a_run(problem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    driver = sys.modules["suspalign_fast.running.driver"]
    bounded = driver._bounded

    def moving(stretch, engine):
        os.chdir(tmp_path / "elsewhere")
        return min(50, bounded(stretch, engine))

    monkeypatch.setattr(driver, "_bounded", moving)
    assert sa.simulate(problem, 1e-3, 200, path="trace.h5", checkpoint_every=1e-9).loss.size == 201
    assert sorted(p.name for p in tmp_path.iterdir()) == ["elsewhere", "trace.h5"]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_names_too_long_for_what_stands_beside_are_refused_before_work(problem, tmp_path):
    limit = 255 - len(".0123abcd.new")
    with pytest.raises(ValueError, match=f"path must have a name of at most {limit} bytes"):
        sa.simulate(problem, 1e-3, 20, path=tmp_path / ("x" * (limit + 1)))
    assert list(tmp_path.iterdir()) == []
    name = "é" * (limit // 2)
    assert len(sa.simulate(problem, 1e-3, 20, path=tmp_path / name, checkpoint_every=1e-9)) == 21
    assert len(sa.resume(tmp_path / name, num_steps=40)) == 41


@pytest.mark.parametrize("path", ["", ".", "..", "/", "a\0b", 3, b"a\0b"])
def test_what_names_no_file_is_refused(problem, tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    for use in (sa.load_trace, sa.resume, lambda p: sa.simulate(problem, 1e-3, 5, path=p)):
        with pytest.raises((ValueError, OSError)):
            use(path)
    assert list(tmp_path.iterdir()) == []


def test_progress_bar_reaches_the_end(problem, capsys):
    sa.simulate(problem, 1e-3, 100, progress=True)
    assert "100%" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"problem": 3}, "problem must be a Quadratic, got 3"),
        ({"step_size": 0.0}, "step_size must be a finite number above zero, got 0.0"),
        ({"step_size": -1.0}, "step_size must be a finite number above zero, got -1.0"),
        ({"step_size": np.inf}, "step_size must be a finite number above zero, got inf"),
        ({"step_size": "big"}, "step_size must be a finite number above zero, got 'big'"),
        ({"step_size": [1e-3] * 9}, "one value a step, num_steps = 10, got 9 values"),
        ({"step_size": [1e-3] * 9 + [-0.5]}, r"must not be negative, got -0\.5 at step 9"),
        ({"step_size": [1e-3] * 9 + [np.nan]}, "step_size must be .* got nan at index 9"),
        ({"num_steps": -1}, "num_steps must be an integer of at least 0 .* got -1"),
        ({"num_steps": 1.5}, "num_steps must be an integer"),
        ({"seed": -1}, "seed must be an integer of at least 0"),
        ({"seed": 2**64}, "seed must be an integer of at least 0 and at most"),
        ({"record_every": 0}, "record_every must be an integer of at least 1"),
        (
            {"engine": "warp"},
            "engine must be one of 'step', 'jump', 'levels', 'reference', got 'warp'",
        ),
        ({"device": "tpu"}, "device must be one of"),
        ({"update": "half"}, "update must be 'full', 'dominant', 'bulk' or a pair"),
        ({"update": (1.0, -1.0)}, "update must be a finite number of at least zero, got -1.0"),
        ({"update": (1.0,)}, "update must be 'full'"),
        ({"num_threads": 0}, "num_threads must be an integer of at least 1"),
        ({"num_threads": 2.0}, "num_threads must be an integer of at least 1, got 2.0"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_written(problem, tmp_path, arguments, message):
    path = tmp_path / "trace.h5"
    with pytest.raises(ValueError, match=message):
        sa.simulate(
            **{"problem": problem, "step_size": 1e-3, "num_steps": 10, "path": path} | arguments
        )
    assert not path.exists()


@pytest.mark.long
def test_what_takes_long_to_import_waits_until_it_is_used():
    code = (
        "import sys, suspalign_fast as sa\n"
        "trace = sa.simulate(sa.Quadratic(sa.Spectrum.linear_bands(500, 20)), 1e-3, 10)\n"
        "assert not {'scipy.special', 'scipy.optimize', 'matplotlib'} & set(sys.modules)\n"
        "assert 0.0 <= trace.predicted.probability[0] <= 1.0\n"
        "assert 'scipy.special' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
