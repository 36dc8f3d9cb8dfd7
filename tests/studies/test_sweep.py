"""Sweeps: one labelled array, the same bits from every executor, errors beside results."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast import theory
from suspalign_fast.base.executors import ExecutorStoppedError
from suspalign_fast.base.threads import one_thread

from ..conftest import assert_same_bits
from ..helpers.pools import POOLS

xarray = pytest.importorskip("xarray")

AXES = {"gap_ratio": [5.0, 50.0], "step_size": [1e-3, 2e-3, 4e-3]}
HOW = {"num_steps": 40, "seeds": range(3), "record_at": [1, 7, 40]}


def two_levels(gap_ratio):
    return sa.Quadratic(sa.Spectrum.two_level(200, 5, gap_ratio, 1.0), initial=3.0)


def on_levels(gap_ratio):
    return two_levels(gap_ratio), {"engine": "levels"}


@numba.njit
def fails_late(row):
    return -1.0 if row.step == 5 else 1e-3


def sometimes(gap_ratio, step_size):
    if gap_ratio == 50.0 and step_size == 2e-3:
        raise RuntimeError("no such case")
    rule = fails_late if step_size == 4e-3 else step_size
    return two_levels(gap_ratio), {"step_size": rule}


@pytest.fixture(scope="module")
def reference():
    return sa.sweep(two_levels, AXES, theory=True, variables=("alignment", "power_sums"), **HOW)


def test_every_run_is_that_of_simulate(reference):
    assert dict(reference.alignment.sizes) == {"gap_ratio": 2, "step_size": 3, "seed": 3, "step": 4}
    assert reference.power_sums.dims[-2:] == ("band", "power")
    assert (reference.status == "complete").all()
    assert (reference.error == "").all()
    for gap_ratio in AXES["gap_ratio"]:
        for step_size in AXES["step_size"]:
            problem = two_levels(gap_ratio)
            at = reference.sel(gap_ratio=gap_ratio, step_size=step_size)
            exact = theory.expected(problem, step_size, reference.step.values)
            np.testing.assert_array_equal(at.exact_alignment_mean, exact.alignment_mean)
            for seed in range(3):
                trace = sa.simulate(problem, step_size, 40, seed=seed, record_at=[1, 7, 40])
                np.testing.assert_array_equal(at.sel(seed=seed).alignment, trace.alignment)
                np.testing.assert_array_equal(at.sel(seed=seed).power_sums, trace.power_sums)
    assert reference.alignment.attrs["units"] == "1"
    assert "suspalign-fast" in reference.attrs["source"]
    assert json.loads(reference.attrs["spec"])["case"].endswith("two_levels")


@pytest.mark.mostly_long
@pytest.mark.parametrize("make", POOLS.values(), ids=POOLS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_executor_gives_the_same_bits(make, reference):
    pool = make()
    try:
        found = sa.sweep(
            two_levels, AXES, theory=True, variables=("alignment", "power_sums"), executor=pool,
            **HOW,
        )  # fmt: skip
        kept = sa.sweep(sometimes, AXES, executor=pool, **HOW)
    finally:
        pool.shutdown(wait=True)
    assert found.identical(reference.assign_attrs(date=found.attrs["date"]))
    assert_errors_are_kept(kept)


@pytest.mark.skipif(shutil.which("mpiexec") is None, reason="needs MPI (the extra mpi)")
def test_mpi_gives_the_same_bits():
    pytest.importorskip("mpi4py")
    root = Path(__file__).parents[2]
    command = [
        "mpiexec",
        "-n",
        "3",
        sys.executable,
        "-m",
        "mpi4py.futures",
        "tests/helpers/mpi_sweep.py",
    ]
    paths = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    process = subprocess.run(
        command, cwd=root, env=os.environ | {"PYTHONPATH": paths},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert process.stdout.split("\n")[-2] == "the same"


def assert_errors_are_kept(study):
    bad = study.sel(gap_ratio=50.0, step_size=2e-3)
    assert (bad.status == "error").all()
    assert (bad.error == "RuntimeError: no such case").all()
    assert np.isnan(bad.alignment).all()
    rule = study.sel(step_size=4e-3)
    assert (rule.status == "error").all()
    assert all("at step 5" in text for text in rule.error.values.ravel())
    good = study.sel(gap_ratio=5.0, step_size=2e-3)
    assert (good.status == "complete").all()
    assert np.isfinite(good.alignment).all()


def test_errors_are_kept_or_raised():
    assert_errors_are_kept(sa.sweep(sometimes, AXES, **HOW))
    with pytest.raises(ValueError, match=r"the run at gap_ratio = .* raised "):
        sa.sweep(sometimes, AXES, on_error="raise", **HOW)


def test_many_seeds_on_levels_are_those_of_single_runs():
    axes = {"gap_ratio": [5.0, 50.0]}

    def case(gap_ratio):
        return two_levels(gap_ratio), {"engine": "levels", "step_size": 1e-3}

    study = sa.sweep(case, axes, 40, seeds=range(150), record_every=20)
    for seed in (0, 63, 64, 149):
        trace = sa.simulate(two_levels(5.0), 1e-3, 40, seed=seed, record_every=20, engine="levels")
        at = study.sel(gap_ratio=5.0, seed=seed)
        np.testing.assert_array_equal(at.alignment, trace.alignment)


def test_theory_alone_and_no_axis():
    study = sa.sweep(on_levels, AXES, 40, seeds=(), theory=True, record_every=40)
    assert "seed" not in study.dims
    assert "alignment" not in study
    assert np.isfinite(study.exact_loss_mean).all()

    def case():
        return two_levels(5.0), {"step_size": sa.CriticalStep(0.9), "update": "bulk"}

    one = sa.sweep(case, {}, 10, theory=True)
    assert dict(one.sizes) == {"seed": 1, "step": 11}
    assert np.isnan(one.exact_loss_mean).all()


def test_runs_that_diverge_end_in_nan():
    def case(step_size):
        return two_levels(5.0)

    study = sa.sweep(case, {"step_size": [1e-3, 3.0]}, 800, record_every=100)
    assert study.status.values.ravel().tolist() == ["complete", "diverged"]
    lost = study.loss.sel(step_size=3.0).values.ravel()
    assert np.isfinite(lost[0])
    assert np.isnan(lost[-1])


def test_texts_are_axes_and_options():
    study = sa.sweep(
        lambda: two_levels(5.0), {"engine": ["step", "levels"], "step_size": np.array([1e-3])}, 5
    )
    assert study.engine.values.tolist() == ["step", "levels"]
    trace = sa.simulate(two_levels(5.0), 1e-3, 5, engine="levels")
    np.testing.assert_array_equal(study.loss.sel(engine="levels").values.ravel(), trace.loss)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"over": {"gap_ratio": []}}, "must have at least one value"),
        ({"over": {"gap_ratio": [1.5, 2.0, 1.5]}}, "each value once, got 1.5 twice"),
        ({"over": {"gap_ratio": [None]}}, "a sequence of numbers or texts"),
        ({"over": {"gap_ratio": "abc"}}, "a sequence of numbers or texts"),
        ({"over": {"loss": [1.0]}}, "axes by identifiers of their own, got 'loss'"),
        ({"over": {"seed": [1.0]}}, "axes by identifiers of their own"),
        ({"over": [1.0]}, "over must be a mapping"),
        ({"seeds": ()}, "at least one seed where theory is False"),
        ({"seeds": [1, 1]}, "seeds must differ"),
        ({"seeds": [-1]}, "seeds must be an integer"),
        ({"variables": ("nothing",)}, "variables must be columns of a trace"),
        ({"case": 3}, "case must be a function"),
        ({"on_error": "hide"}, "on_error must be"),
        ({"executor": 3}, "executor must be a concurrent.futures.Executor"),
        ({"num_steps": -1}, "num_steps must be an integer"),
        ({"record_at": [3, 2]}, "record_at must be"),
    ],
)
def test_bad_input_is_named(how, message):
    given = {"case": two_levels, "over": AXES, "num_steps": 5} | how
    with pytest.raises(ValueError, match=message):
        sa.sweep(**given)


def test_bad_cases_are_said_beside_their_runs():
    for case, message in (
        (lambda gap_ratio: 3, "must be a Quadratic"),
        (lambda: two_levels(5.0), "case must take gap_ratio"),
        (lambda gap_ratio: (two_levels(5.0), {"speed": 3}), "options of a case must be"),
    ):
        with pytest.warns(RuntimeWarning, match="all 6 runs failed"):
            study = sa.sweep(case, AXES, 5)
        assert all(message in text for text in study.error.values.ravel())
    with pytest.warns(RuntimeWarning, match="all 1 runs failed"):
        study = sa.sweep(two_levels, {"gap_ratio": [5.0]}, 5)
    assert "must say a step_size" in str(study.error.values.ravel()[0])


def test_what_cannot_fit_is_refused():
    with pytest.raises(MemoryError, match="a sweep of 6 runs"):
        sa.sweep(two_levels, AXES, 10**12)
    with pytest.raises(MemoryError, match=r"a trace of .* rows in memory"):
        sa.simulate(two_levels(5.0), 1e-3, 10**11)


def test_an_executor_that_is_shut_down_keeps_what_is_done():
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.warns(RuntimeWarning, match="the executor takes no more work"):
        study = sa.sweep(two_levels, AXES, 5, executor=pool)
    assert (study.status == "missing").all()
    with pytest.raises(RuntimeError, match="the executor takes no more work"):
        sa.sweep(two_levels, AXES, 5, executor=pool, on_error="raise")


def test_nothing_is_said_to_be_missing_where_nothing_is(monkeypatch):
    """An executor may stop after it has done everything."""
    real = sa.sweep.__globals__["in_batches"]

    def stopping(*arguments):
        yield from real(*arguments)
        raise ExecutorStoppedError("gone")

    monkeypatch.setitem(sa.sweep.__globals__, "in_batches", stopping)
    assert (sa.sweep(two_levels, AXES, 5, theory=True).status == "complete").all()


def test_ensembles_are_labelled(monkeypatch):
    problems = [two_levels(5.0)] * 70 + [two_levels(50.0)] * 3
    how = {"seeds": range(73), "record_every": 5, "engine": "levels"}
    sizes = [1e-3] * 72 + [3.0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traces = sa.simulate_ensemble(problems, sizes, 400, **how)
        runs = sa.simulate_ensemble(problems, sizes, 400, variables=["loss", "power_sums"], **how)
    assert runs.power_sums.dims == ("run", "step", "band", "power")
    assert runs.seed.values.tolist() == list(range(73))
    assert set(runs.data_vars) == {"loss", "power_sums", "status"}
    for i, trace in enumerate(traces):
        assert str(runs.status[i].values) == trace.status
        for name in ("loss", "power_sums"):
            np.testing.assert_array_equal(runs[name].values[i, : len(trace)], trace[name])
            assert np.isnan(runs[name].values[i, len(trace) :]).all()
    assert traces[-1].status == "diverged"
    large = sa.simulate_ensemble(problems[0], 1e-3, 5, seeds=[1, 2**64 - 1], variables="loss")
    assert large.seed.values.tolist() == [1, 2**64 - 1]
    with pytest.raises(ValueError, match="variables must be columns of a trace"):
        sa.simulate_ensemble(problems[0], 1e-3, 400, variables="nothing")
    monkeypatch.setattr("suspalign_fast.base.memory.available", lambda: 10**8)
    with pytest.raises(MemoryError, match="an ensemble of 73 runs of 1,000,001 rows"):
        sa.simulate_ensemble(problems, 1e-3, 10**6, seeds=range(73), variables="loss")


def test_traces_are_labelled(tmp_path):
    trace = sa.simulate(two_levels(5.0), 1e-3, 20, record_every=4, path=tmp_path / "t.h5")
    rows = trace.to_xarray()
    assert set(rows.data_vars) | {"step"} == set(trace.columns())
    for name in trace.columns():
        np.testing.assert_array_equal(rows[name], trace[name])
    assert rows.loss.attrs == {"units": "loss", "long_name": "loss L(theta)"}
    assert rows.power_sums.sel(band="bulk", power=1).values == pytest.approx(2 * trace.loss_bulk)
    assert rows.attrs["status"] == "complete"
    assert_same_bits(sa.load_trace(tmp_path / "t.h5"), trace)


def test_without_xarray_the_error_says_how(monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    for work in (
        lambda: sa.simulate(two_levels(5.0), 1e-3, 2).to_xarray(),
        lambda: sa.sweep(two_levels, AXES, 5),
    ):
        with pytest.raises(ImportError, match=r"pip install 'suspalign-fast\[studies\]'"):
            work()


def test_linear_algebra_takes_one_thread_meanwhile():
    control = pytest.importorskip("threadpoolctl")

    def threads():
        return [
            lib["num_threads"] for lib in control.threadpool_info() if lib["user_api"] == "blas"
        ]

    seen = []

    def case(step_size):
        seen.append(threads())
        return two_levels(5.0)

    import scipy.linalg  # noqa: F401  (loads a library of its own)

    before = threads()
    sa.sweep(case, {"step_size": [1e-3, 2e-3, 4e-3]}, 5)
    assert len(seen) >= 3
    assert all(count == 1 for counts in seen[1:] for count in counts)  # the first is a trial
    assert threads() == before


@pytest.mark.parametrize(
    "values",
    [
        np.array(3.0),
        np.ma.array([1.0, 2.0], mask=[True, False]),
        np.array([1, 2], "timedelta64[s]"),
        [np.timedelta64(3, "s")],
        [1j],
        np.array([1j]),
        np.array([0.1], np.longdouble) / 3,
        [2**64],
        [-1, 2**63 + 1],
        [2**53 + 1, 0.5],
        ["a\0"],
        ["\udcff"],
        ["a", 1.0],
        [1.0, "a"],
        {1.0, 2.0},
        {"a": 1},
        [[1.0]],
        [float("nan")],
        3.0,
    ],
    ids=repr,
)
def test_axes_are_numbers_or_texts(values):
    with pytest.raises(ValueError, match=r"^over\['gap_ratio'\] must be"):
        sa.sweep(two_levels, {"gap_ratio": values, "step_size": [1e-3]}, 5)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([5.0, 50.0], np.float32), [5.0, 50.0]),
        ((np.int8(5), 6, 7.5), [5, 6, 7.5]),
        (range(5, 7), [5, 6]),
        ((float(v) for v in (5, 6)), [5.0, 6.0]),
        (xarray.DataArray([5.0, 6.0]), [5.0, 6.0]),
        ([True, 5.0], [True, 5.0]),
        ([np.str_("日本"), "ä b"], ["日本", "ä b"]),
        ([2**64 - 1, 2**63], [2**64 - 1, 2**63]),
    ],
)
def test_axes_of_whatever_holds_values(values, expected):
    from suspalign_fast.studies.grid import axis_of

    found = axis_of("over", values)
    assert found == expected
    assert {type(value) for value in found} <= {bool, int, float, str}


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"variables": 3}, "variables must be names of columns"),
        ({"variables": None}, "variables must be names of columns"),
        ({"variables": [["loss"]]}, "variables must be columns of a trace"),
        ({"variables": ["loss", "loss"]}, "each once"),
        ({"variables": "step_size"}, "variables must not be axes of the grid, got 'step_size'"),
        ({"variables": (), "until": {"stderr": 1.0}}, "variables must have at least one column"),
        ({"over": {"string16": [1.0]}}, "axes by identifiers of their own, got 'string16'"),
        ({"seeds": ["12"]}, "seeds must be an integer"),
    ],
)
def test_what_would_not_fit_together_is_named(how, message):
    given = {"case": two_levels, "over": AXES, "num_steps": 5} | how
    with pytest.raises(ValueError, match=message):
        sa.sweep(**given)


def test_seeds_are_any_iterable():
    for seeds in ((i for i in (3, 4)), {3: "a", 4: "b"}, np.array([3, 4]), range(3, 5)):
        assert sa.sweep(two_levels, AXES, 5, seeds=seeds).seed.values.tolist() == [3, 4]


@pytest.mark.parametrize("seeds", [5, 0, np.int64(5), np.array(3), True, "5", b"12"], ids=repr)
def test_a_number_of_seeds_is_not_taken_for_a_seed(seeds):
    with pytest.raises(ValueError, match=r"seeds must be a sequence .*range\(5\) .*\[5\]"):
        sa.sweep(two_levels, AXES, 5, seeds=seeds)


def test_statuses_of_huge_grids_are_counted():
    axes = {f"a{i}": range(1000) for i in range(5)}
    with pytest.raises(MemoryError, match=r"a sweep of 1,000,000,000,000,000 runs"):
        sa.sweep(two_levels, axes, 5, variables=())


def test_two_sweeps_at_once_leave_linear_algebra_its_threads():
    threadpoolctl = pytest.importorskip("threadpoolctl")

    def threads():
        found = threadpoolctl.ThreadpoolController().select(user_api="blas").info()
        return [library["num_threads"] for library in found]

    before = threads()
    with one_thread():
        with ThreadPoolExecutor(1) as other:
            first = other.submit(sa.sweep, two_levels, AXES, 5)
            first.result()
        assert set(threads()) == {1}
    assert threads() == before
    first, second = one_thread(), one_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert set(threads()) == {1}
    second.__exit__(None, None, None)
    assert threads() == before


def test_a_signal_ends_a_sweep_whatever_swallows_exceptions():
    """A handler that raises would be lost in a finalizer, where this one comes."""

    class Dying:
        def __del__(self):
            if threading.current_thread() is threading.main_thread():
                signal.raise_signal(signal.SIGTERM)

    def case(gap_ratio):
        Dying()
        return two_levels(gap_ratio)

    with pytest.raises(sa.Interrupted, match="the sweep was stopped") as stopped:
        sa.sweep(case, AXES, 5)
    assert stopped.value.signal_number == signal.SIGTERM


@pytest.mark.parametrize("kind", ["own", "given"])
def test_threads_give_up_long_runs(kind):
    begun = threading.Event()

    def case(gap_ratio):
        if threading.current_thread() is not threading.main_thread():
            begun.set()
        return two_levels(gap_ratio)

    def stop():
        begun.wait(60)
        os.kill(os.getpid(), signal.SIGINT)

    killer = threading.Thread(target=stop)
    killer.start()
    with ThreadPoolExecutor(2) as pool, pytest.raises(sa.Interrupted) as stopped:
        sa.sweep(  # a run would take weeks
            case, AXES, 10**12, record_at=[10**12], executor=pool if kind == "given" else None
        )
    killer.join()
    assert stopped.value.signal_number == signal.SIGINT


@pytest.mark.long
@pytest.mark.parametrize("in_file", [False, True])
def test_a_first_seed_that_fails_takes_none_of_the_others_along(in_file, tmp_path):
    problem = two_levels(5.0)
    how = {"record_every": 5, "engine": "levels"}
    sizes = {
        seed: sa.simulate(problem, 1e-3, 5, seed=seed, **how).power_sums[-1, 0, 1]
        for seed in range(96)
    }
    limit = sizes[0] * (1.0 - 1e-9)

    @numba.njit
    def rule(row):
        return -1.0 if row.step == 5 and row.power_sums[0, 1] > limit else 1e-3

    def case():
        return problem, {"engine": "levels", "step_size": rule}

    path = tmp_path / "study.nc" if in_file else None
    again = {"path": path} if in_file else {}
    with sa.sweep(case, {}, 10, seeds=range(96), record_every=5, **again) as study:
        failed = np.array([sizes[seed] > limit for seed in range(96)])
        assert failed[0]
        assert 0 < failed.sum() < 96
        np.testing.assert_array_equal(study.status == "error", failed)
        assert np.isnan(study.alignment.values[failed]).all()
        assert np.isfinite(study.alignment.values[~failed]).all()
    if in_file:
        sa.sweep(case, {}, 10, seeds=range(97), record_every=5, path=path).close()


def test_a_column_that_fails_is_nan_in_a_study_as_in_a_file():
    row = sa.row

    @row.derived("fails_here", unit="1", meaning="nothing")
    def fails_here(part):
        raise RuntimeError("no such column")

    try:
        with pytest.warns(RuntimeWarning, match="fails_here"):
            study = sa.sweep(
                lambda: (two_levels(5.0), {"step_size": 1e-3}),
                {},
                5,
                variables=("loss", "fails_here"),
            )
    finally:
        row.remove("fails_here")
    assert np.isnan(study.fails_here).all()
    assert np.isfinite(study.loss).all()


@pytest.mark.parametrize("name", ["independent", "overwrite"])
def test_switches_are_true_or_false(name):
    with pytest.raises(ValueError, match=f"{name} must be True or False"):
        sa.sweep(two_levels, AXES, 5, **{name: "False"})
