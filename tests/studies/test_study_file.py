"""Studies in files: resumed by content, read while they grow, nothing lost to kills."""

import json
import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import h5py
import numba
import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast import storage
from suspalign_fast.base import executors
from suspalign_fast.base.code import described
from suspalign_fast.storage import untrusted
from suspalign_fast.studies.writing import StudyFile

from ..helpers import study_kills
from .test_sweep import AXES, HOW, sometimes, two_levels

xarray = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")

MORE = {"theory": True, "variables": ("alignment", "power_sums")}
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "study.nc"


def assert_same(study, expected):
    """Both have the same values, labels and attributes of variables; those of the whole differ."""
    study = study.load()
    assert study.identical(expected.assign_attrs(study.attrs))


@pytest.fixture(scope="module")
def reference():
    return sa.sweep(two_levels, AXES, **MORE, **HOW)


@pytest.fixture
def counted():
    """A case that counts its calls, and the count."""
    calls = []

    def case(gap_ratio, step_size):
        calls.append((gap_ratio, step_size))
        return sometimes(gap_ratio, step_size)

    return case, calls


def test_a_file_holds_what_memory_would(path, reference):
    study = sa.sweep(two_levels, AXES, path=path, **MORE, **HOW)
    assert_same(study, reference)
    assert study.attrs["status"] == "complete"
    for engine in ("h5netcdf", "netcdf4"):
        if engine == "netcdf4":
            pytest.importorskip("netCDF4")
        with xarray.open_dataset(path, engine=engine) as plain:
            assert plain.power_sums.dims == reference.power_sums.dims
            assert plain.power_sums.attrs == reference.power_sums.attrs
            np.testing.assert_array_equal(plain.power_sums, reference.power_sums)
            assert (plain.status == "complete").all()
            assert plain.sel(band="bulk", power=1, gap_ratio=5.0).sizes["seed"] == 3


@pytest.mark.mostly_long
@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_executors_write_the_same(kind, path, reference):
    spawn = multiprocessing.get_context("spawn")
    with (
        ThreadPoolExecutor(2)
        if kind == "threads"
        else ProcessPoolExecutor(2, mp_context=spawn) as pool
    ):
        assert_same(sa.sweep(two_levels, AXES, path=path, executor=pool, **MORE, **HOW), reference)


def test_what_is_done_is_not_done_again(path, monkeypatch, reference):
    sa.sweep(two_levels, AXES, path=path, **MORE, **HOW).close()
    inode = path.stat().st_ino

    def never(self, item):
        raise AssertionError

    monkeypatch.setattr("suspalign_fast.studies.cases.Work.__call__", never)
    assert_same(sa.sweep(two_levels, AXES, path=path, **MORE, **HOW), reference)
    assert path.stat().st_ino == inode


@pytest.mark.long
def test_an_extended_grid_keeps_what_it_has(path, monkeypatch, reference):
    sa.sweep(two_levels, AXES, path=path, **MORE, **HOW).close()
    done = []
    work = sa.sweep.__globals__["Work"].__call__
    monkeypatch.setattr(
        "suspalign_fast.studies.cases.Work.__call__",
        lambda self, item: done.append(item) or work(self, item),
    )
    axes = {"step_size": [4e-3, 5e-3, 1e-3], "gap_ratio": [50.0, 5.0, 7.0]}
    how = HOW | {"seeds": [2, 7, 0]}
    study = sa.sweep(two_levels, axes, path=path, **MORE, **how)
    old = {
        (gap, step, seed)
        for gap in AXES["gap_ratio"] for step in AXES["step_size"] for seed in HOW["seeds"]
    }  # fmt: skip
    ran = [(*item.point.values(), seed) for item in done for seed in item.seeds]
    assert len(ran) == len(set(ran)) == 27 - 8
    assert not old & set(ran)
    monkeypatch.undo()
    assert_same(study, sa.sweep(two_levels, axes, **MORE, **how))
    every = sa.open_study(path)
    assert dict(every.sizes)["step_size"] == 4
    kept = every.sel(**AXES, seed=list(HOW["seeds"]))
    np.testing.assert_array_equal(kept.power_sums, reference.power_sums)
    assert int((every.status == "missing").sum()) == 3 * 4 * 4 - 18 - 19


@pytest.mark.long
def test_what_raised_is_tried_again(path, counted):
    case, calls = counted
    first = sa.sweep(case, AXES, path=path, **HOW)
    assert_same(first, sa.sweep(sometimes, AXES, **HOW))
    calls.clear()

    def mended(gap_ratio, step_size):
        calls.append((gap_ratio, step_size))
        if step_size == 4e-3:
            return sometimes(gap_ratio, step_size)
        return two_levels(gap_ratio), {"step_size": step_size}

    study = sa.sweep(mended, AXES, path=path, **HOW)
    assert int((study.status == "error").sum()) == 6
    assert (study.error.sel(step_size=2e-3) == "").all()
    expected = sa.sweep(two_levels, AXES, **HOW)
    good = {"step_size": [1e-3, 2e-3]}
    np.testing.assert_array_equal(study.alignment.sel(good), expected.alignment.sel(good))


@pytest.mark.mostly_long
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"over": {"gap_ratio": [5.0]}}, "its axes are gap_ratio, step_size, not gap_ratio"),
        ({"variables": ("loss",)}, "its variables are"),
        ({"record_at": [2]}, r"its recorded steps are \[0, 1, 7, 40\], not \[0, 2\]"),
        ({"num_steps": 41, "record_at": [1, 7, 41]}, "its recorded steps are"),
        ({"theory": False}, "its theory are True, not False"),
        ({"seeds": ()}, "it has seeds"),
        (
            {"case": lambda gap_ratio: two_levels(gap_ratio + 1.0)},
            "at gap_ratio = .* its problem was another",
        ),
    ],
)
def test_the_file_of_another_study_is_refused(path, reference, how, message):
    sa.sweep(two_levels, AXES, path=path, **MORE, **HOW).close()
    before = path.read_bytes()
    given = {"case": two_levels, "over": AXES, "path": path} | MORE | HOW | how
    with pytest.raises(ValueError, match=f"path must be the file of this study, got .*: {message}"):
        sa.sweep(**given)
    assert path.read_bytes() == before
    assert_same(sa.open_study(path), reference)


def test_a_sweep_that_overwrites_starts_anew(path):
    sa.sweep(two_levels, AXES, 5, path=path).close()
    first = {"gap_ratio": [5.0], "step_size": [1e-3]}
    study = sa.sweep(two_levels, first, 7, path=path, overwrite=True)
    assert study.sizes["step"] == 8
    assert_same(study, sa.sweep(two_levels, first, 7))
    path.write_bytes(b"mine")
    with pytest.raises(OSError, match="not a readable HDF5 file"):
        sa.sweep(two_levels, first, 7, path=path, overwrite=True)
    assert path.read_bytes() == b"mine"


def test_files_of_others_are_left_alone(path):
    for content, message in ((b"text", "not a readable HDF5 file"), (None, "'format' is not")):
        if content is None:
            sa.simulate(two_levels(5.0), 1e-3, 5, path=path, overwrite=True)
        else:
            path.write_bytes(content)
        before = path.read_bytes()
        for work in (lambda: sa.sweep(two_levels, AXES, 5, path=path), lambda: sa.open_study(path)):
            with pytest.raises(OSError, match=message):
                work()
        assert path.read_bytes() == before
    with pytest.raises(OSError, match="not a directory"):
        sa.sweep(two_levels, AXES, 5, path=path / "inside.nc")
    with pytest.raises(OSError, match="does not exist"):
        sa.open_study(path.with_name("nothing.nc"))


def test_later_versions_are_refused(path):
    sa.sweep(two_levels, AXES, 5, path=path).close()
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 2
    for work in (lambda: sa.sweep(two_levels, AXES, 5, path=path), lambda: sa.open_study(path)):
        with pytest.raises(OSError, match="has study format version 2"):
            work()


@pytest.mark.mostly_long
@pytest.mark.parametrize("name", ["alignment", "status", "digest", "step", "seed", "study"])
def test_damaged_files_say_so(path, name):
    sa.sweep(two_levels, AXES, 5, path=path).close()
    with h5py.File(path, "r+") as file:
        if name == "study":
            file.attrs["study"] = np.bytes_("{")
        else:
            del file[name]
            if name != "step":
                file[name] = np.zeros(3)
    before = path.read_bytes()
    with pytest.raises(OSError, match="is a damaged study"):
        sa.sweep(two_levels, AXES | {"gap_ratio": [5.0, 50.0, 6.0]}, 5, path=path)
    assert path.read_bytes() == before


def test_a_file_cut_short_says_so(path):
    sa.sweep(two_levels, AXES, 500, path=path).close()
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(OSError, match=r"study\.nc"):
        sa.sweep(two_levels, AXES, 500, path=path)
    with pytest.raises(OSError, match=r"study\.nc"):
        sa.open_study(path).load()


def test_a_second_sweep_is_refused_and_others_read_meanwhile(path, monkeypatch):
    """The file is read in between: what has a status has its values."""
    monkeypatch.setattr(executors, "BATCH_SECONDS", 1e-9)
    expected = sa.sweep(two_levels, AXES, **HOW)
    seen, go_on, is_there = [], threading.Event(), threading.Event()

    def case(gap_ratio):
        if len(seen) == 0 and path.exists() and gap_ratio == 50.0:
            is_there.set()
            assert go_on.wait(60)
        return two_levels(gap_ratio)

    def write():
        with ThreadPoolExecutor(1) as pool:
            sa.sweep(case, AXES, path=path, executor=pool, **HOW)

    writer = threading.Thread(target=write)
    writer.start()
    assert is_there.wait(60)
    try:
        with pytest.raises(BlockingIOError, match="is being written by another run"):
            sa.sweep(two_levels, AXES, path=path, **HOW)
        with sa.open_study(path) as study:
            study = study.load()
            seen.append(study)
            assert study.attrs["status"] == "running"
            done = (study.status == "complete").values
            assert 0 < done.sum() < done.size
            np.testing.assert_array_equal(
                study.alignment.values[done], expected.alignment.values[done]
            )
            assert np.isnan(study.alignment.values[study.status == "missing"]).all()
        with xarray.open_dataset(path, engine="h5netcdf", driver_kwds={"swmr": True}) as plain:
            assert int((plain.status == "complete").sum()) == done.sum()
    finally:
        seen.append(None)
        go_on.set()
        writer.join()
    assert_same(sa.open_study(path), expected)


@pytest.mark.mostly_long
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_sweep_that_is_stopped_keeps_what_is_done(path, monkeypatch, error):
    monkeypatch.setattr(executors, "BATCH_SECONDS", 1e-9)
    expected = sa.sweep(two_levels, AXES, **HOW)
    real, count = sa.sweep.__globals__["in_batches"], [0]

    def stopped(*arguments):
        for batch in real(*arguments):
            yield batch
            count[0] += 1
            if count[0] == 3:
                raise error

    monkeypatch.setitem(sa.sweep.__globals__, "in_batches", stopped)
    with pytest.raises(error):
        sa.sweep(two_levels, AXES, path=path, **HOW)
    monkeypatch.setitem(sa.sweep.__globals__, "in_batches", real)
    with sa.open_study(path) as study:
        assert study.attrs["status"] == "interrupted"
        assert int((study.status == "complete").sum()) >= 3
    assert_same(sa.sweep(two_levels, AXES, path=path, **HOW), expected)


def test_an_executor_that_dies_keeps_what_is_done(path):
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.warns(RuntimeWarning, match="the executor takes no more work"):
        study = sa.sweep(two_levels, AXES, 5, path=path, executor=pool)
    assert (study.status == "missing").all()
    assert study.attrs["status"] == "interrupted"
    study.close()
    assert_same(sa.sweep(two_levels, AXES, 5, path=path), sa.sweep(two_levels, AXES, 5))


@pytest.mark.long
def test_what_others_put_into_the_file_survives(path):
    sa.sweep(two_levels, AXES, 5, path=path).close()
    with h5py.File(path, "r+") as file:
        file["mine/notes"] = np.arange(3)
        file.attrs["author"] = "me"
        file["alignment"].attrs["mine"] = 3
    sa.sweep(two_levels, AXES, 5, seeds=[0, 1], path=path).close()
    with h5py.File(path) as file:
        assert file["mine/notes"][2] == 2
        assert file.attrs["author"] == "me"
        assert file["alignment"].attrs["mine"] == 3


def test_axes_of_texts_and_no_axes(path, tmp_path):
    axes = {"engine": ["step", "levels"], "step_size": [1e-3]}

    def case():
        return two_levels(5.0)

    study = sa.sweep(case, axes, 5, path=path)
    assert study.engine.values.tolist() == ["step", "levels"]
    assert_same(study, sa.sweep(case, axes, 5))
    more = axes | {"engine": ["levels", "jump"]}
    assert_same(sa.sweep(case, more, 5, path=path), sa.sweep(case, more, 5))

    def fixed():
        return two_levels(5.0), {"step_size": 1e-3}

    for seeds in ([3], [2**64 - 1, 3]):
        study = sa.sweep(fixed, {}, 5, seeds=seeds, path=tmp_path / "one.nc")
        assert_same(study, sa.sweep(fixed, {}, 5, seeds=seeds))


def test_theory_alone(path):
    how = {"num_steps": 40, "seeds": (), "theory": True, "record_every": 40}
    study = sa.sweep(two_levels, AXES, path=path, **how)
    assert_same(study, sa.sweep(two_levels, AXES, **how))
    more = AXES | {"gap_ratio": [6.0, 5.0]}
    assert_same(sa.sweep(two_levels, more, path=path, **how), sa.sweep(two_levels, more, **how))


@pytest.mark.long
def test_large_grids(path):
    """Descriptions beyond 64 kB are attributes as well."""
    axes = {"step_size": (1e-3 * np.linspace(0.1, 1.0, 5000)).tolist()}

    def case():
        return two_levels(5.0), {"engine": "levels"}

    sa.sweep(case, axes, 1, path=path).close()
    study = sa.sweep(case, axes, 1, path=path)
    assert len(json.loads(study.attrs["study"])["axes"]["step_size"]) == 5000
    assert (study.status == "complete").all()


@pytest.mark.long
def test_until_takes_seeds_until_the_mean_is_known(path):
    until = {"stderr": 0.01, "first": 4}
    how = {"num_steps": 40, "record_at": [40], "seeds": range(64), "until": until}
    axes = AXES | {"gap_ratio": [2.0, 500.0]}
    study = sa.sweep(two_levels, axes, **how)
    done = study.status == "complete"
    counts = done.sum("seed")
    every = sa.sweep(two_levels, axes, 40, record_at=[40], seeds=range(64)).alignment
    for point in np.ndindex(counts.shape):
        count = int(counts.values[point])
        assert done.values[point][:count].all()  # the first of its seeds
        np.testing.assert_array_equal(
            study.alignment.values[point][:count], every.values[point][:count]
        )
        asked = np.ceil((every.values[point].std(0, ddof=1).max() / 0.01) ** 2)
        assert min(max(asked, 4), 64) / 4 <= count <= 64
    with ThreadPoolExecutor(1) as pool:  # whoever does it, in whatever pieces
        assert study.identical(
            sa.sweep(two_levels, axes, executor=pool, **how).assign_attrs(study.attrs)
        )
    assert len(np.unique(counts)) > 1
    assert_same(sa.sweep(two_levels, axes, path=path, **how), study)
    finer = how | {"until": until | {"stderr": 0.004, "variable": "alignment"}}
    assert_same(sa.sweep(two_levels, axes, path=path, **finer), sa.sweep(two_levels, axes, **finer))


@pytest.mark.parametrize(
    "until", [3, {}, {"stderr": -1.0}, {"stderr": 0.1, "more": 1}, {"stderr": 0.1, "first": 1},
              {"stderr": 0.1, "variable": "power_sums"}],
)  # fmt: skip
def test_until_must_be_a_mapping(until):
    with pytest.raises(ValueError, match="until"):
        sa.sweep(two_levels, AXES, 5, until=until)


def test_a_case_that_changes_its_mind(path):
    count = iter(range(1000))

    def case(step_size):
        return two_levels(5.0 + next(count))

    with pytest.raises(ValueError, match="case must return the same problem each time"):
        sa.sweep(case, {"step_size": [1e-3]}, 5, seeds=range(200), path=path)


def test_files_are_read_without_h5netcdf(path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5netcdf", None)
    sa.sweep(two_levels, AXES, 5, path=path).close()
    with sa.open_study(path) as study:
        assert np.isfinite(study.loss).all()


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a fork server")


@pytest.mark.long
@needs_fork
def test_sigkill_at_random_moments_loses_no_run(tmp_path):
    tally = study_kills.Tally()
    rng = np.random.default_rng(3)
    study_kills.kill_at_random(tmp_path, 6, tally, rng, study_kills.sweep())
    assert tally.kills == 6
    assert tally.finished >= 1
    assert (tally.runs_lost, tally.wrong, tally.unreadable) == (0, 0, 0)


@pytest.mark.long
@needs_fork
@pytest.mark.parametrize("place", study_kills.PLACES)
def test_sigkill_at_delicate_moments(place, path):
    expected, tally = study_kills.sweep(), study_kills.Tally()
    before = None
    for _ in range(2):
        process = study_kills.start(path, place)
        process.join()
        assert process.exitcode == -9
        before = study_kills.check(path, before, expected, tally)
    if path.exists():
        with sa.open_study(path) as study:
            assert study.attrs["status"] == "killed"
        with xarray.open_dataset(path, engine="h5netcdf", driver_kwds={"swmr": True}) as plain:
            assert set(np.unique(plain.status)) <= {"missing", "complete", "diverged", "error"}
    study_kills.finish(path, expected, tally)
    assert (tally.runs_lost, tally.wrong, tally.unreadable) == (0, 0, 0)
    assert list(path.parent.iterdir()) == []


def shifted(a):
    return two_levels(a + 0.5), {"step_size": 1e-3}


def test_points_are_known_by_later_seeds_as_well(path):
    """Whatever of a point is done first, its digest is there."""
    sa.sweep(shifted, {"a": [2]}, 5, seeds=[0], path=path).close()
    sa.sweep(shifted, {"a": [3]}, 5, seeds=[1], path=path).close()
    with pytest.raises(ValueError, match="at a = 3 its problem was another"):
        sa.sweep(
            lambda a: (two_levels(a + 9.0), {"step_size": 1e-3}), {"a": [3]}, 5, seeds=[1, 2],
            path=path,
        )  # fmt: skip

    def broken(a):
        raise RuntimeError("no licence")

    with pytest.raises(ValueError, match="at a = 3 its case raised RuntimeError: no licence"):
        sa.sweep(broken, {"a": [3]}, 5, seeds=[1], path=path)


@pytest.mark.filterwarnings("ignore:all 1 runs failed")
@pytest.mark.parametrize("text", ["日" * 150, "ä" * 400, "file \udcff missing", "x" * 1000])
def test_errors_of_any_text_are_kept(path, text):
    def bad(a):
        raise RuntimeError(text)

    study = sa.sweep(bad, {"a": [1]}, 5, path=path)
    assert_same(study, sa.sweep(bad, {"a": [1]}, 5))
    assert str(study.error.values[0, 0]).startswith("RuntimeError: ")
    assert len(str(study.error.values[0, 0]).encode()) <= 400


def test_a_study_that_lacks_nothing_is_closed(path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("suspalign_fast.studies.writing.StudyFile.finish", lambda self: None)
        study = sa.sweep(shifted, {"a": [2]}, 5, path=path)
        assert study.attrs["status"] == "interrupted"
        study.close()
    assert sa.sweep(shifted, {"a": [2]}, 5, path=path).attrs["status"] == "complete"


def test_theory_alone_raises_where_it_should(path):
    def bad(a):
        raise RuntimeError("boom")

    how = {"seeds": (), "theory": True}
    with pytest.raises(ValueError, match="the run at a = 1 raised RuntimeError: boom"):
        sa.sweep(bad, {"a": [1]}, 5, on_error="raise", **how)
    with pytest.warns(RuntimeWarning, match="1 of 1 points failed, .* RuntimeError: boom"):
        sa.sweep(bad, {"a": [1]}, 5, path=path, **how).close()
    study = sa.sweep(shifted, {"a": [1]}, 5, path=path, until={"stderr": 1.0}, **how)
    assert np.isfinite(study.exact_loss_mean).all()


def test_work_that_is_taken_back_ends_a_sweep(path):
    pool, calls = ThreadPoolExecutor(1), []

    def case(a):
        calls.append(a)
        if len(calls) == 2:
            pool.shutdown(wait=False, cancel_futures=True)
        return shifted(a)

    with pytest.warns(RuntimeWarning, match="executor"):
        study = sa.sweep(case, {"a": list(range(2, 40))}, 5, executor=pool, path=path)
    assert 0 < int((study.status == "complete").sum()) < 38


def test_a_folder_that_cannot_be_written(path, monkeypatch):
    def refused(*arguments):
        raise OSError("no space for you")

    monkeypatch.setattr("suspalign_fast.storage.paths.Replacement.__init__", refused)
    with pytest.raises(OSError, match="no space for you"):
        sa.sweep(shifted, {"a": [2]}, 5, path=path)


@pytest.mark.long
def test_theory_counts_once_all_of_it_is_there(path, monkeypatch):
    """A point is known, and of its theory a part was written when the sweep was cut off."""
    how = {"num_steps": 40, "seeds": range(200), "record_every": 20, "theory": True}
    expected = sa.sweep(two_levels, AXES, **how)

    def out_of_memory(self, run):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("suspalign_fast.studies.cases.Work._exact", out_of_memory)
        study = sa.sweep(two_levels, AXES, path=path, **how)
    assert 0 < int((study.status == "complete").sum()) < study.status.size
    study.close()
    put = StudyFile._put

    def cut_off(self, name, at, rows):
        if name == f"exact_{sa.theory.MOMENTS[-1]}":
            self._file.flush()
            raise RuntimeError
        put(self, name, at, rows)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="writing"):  # noqa: PT012
        patch.setattr(StudyFile, "_put", cut_off)
        sa.sweep(two_levels, AXES, path=path, **how)
    assert_same(sa.sweep(two_levels, AXES, path=path, **how), expected)


def test_points_without_theory_are_done_as_well(path):
    """Under a rule there is none: the file is not written again for it."""

    def case():
        return two_levels(5.0), {"step_size": sa.CriticalStep(0.9)}

    sa.sweep(case, {}, 5, theory=True, path=path).close()
    inode = path.stat().st_ino
    sa.sweep(case, {}, 5, theory=True, path=path).close()
    assert path.stat().st_ino == inode


def test_it_is_known_how_a_file_is_opened(path):
    """Readers of this package open finished files without a lock of a writer's."""
    sa.sweep(two_levels, AXES, 5, path=path).close()
    with storage.Reader(path) as file:
        assert file.attribute("", "format") == "suspalign-study"


FACTOR = 1.0


@numba.njit
def by_constant(row):
    return 1e-3 * FACTOR


def rule_of(value):
    @numba.njit
    def rule(row):
        return value

    return rule


@numba.njit
def helper(row):
    return 1e-3


@numba.njit
def by_helper(row):
    return helper(row)


def with_rule(rule):
    return lambda gap_ratio: (two_levels(gap_ratio), {"step_size": rule})


@pytest.mark.long
def test_rules_are_told_apart_by_what_they_compute(path, monkeypatch):
    """A name is not enough: closures, states, globals and functions that are called count."""
    axes, state = (
        {"gap_ratio": [5.0]},
        sa.RowStep(numba.njit(lambda row, memory: memory[0]), [1e-3]),
    )
    rules = {
        "closure": (rule_of(1e-3), rule_of(2e-3)),
        "state": (state, sa.RowStep(state.function, [2e-3])),
        "code": (numba.njit(lambda row: 1e-3), numba.njit(lambda row: 2e-3)),
        "observes": (sa.RowStep(helper), sa.RowStep(helper, observes=True)),
        "calls": (by_helper, helper),
    }
    for name, (one, other) in rules.items():
        file = path.with_name(f"{name}.nc")
        sa.sweep(with_rule(one), axes, 5, path=file).close()
        sa.sweep(with_rule(one), axes, 5, path=file, seeds=[0, 1]).close()
        with pytest.raises(ValueError, match=r"its problem was another"):
            sa.sweep(with_rule(other), axes, 5, path=file)
    before = described(by_constant)
    assert before == described(numba.njit(by_constant.py_func))
    monkeypatch.setitem(globals(), "FACTOR", 2.0)
    assert before != described(by_constant)


def test_two_new_sweeps_at_once(path, monkeypatch):
    """The second to begin finds the file of the first, and leaves it."""
    real = StudyFile.begin

    def begin(self):
        monkeypatch.setattr(StudyFile, "begin", real)
        sa.sweep(two_levels, AXES, 5, seeds=[7], path=path).close()
        real(self)

    monkeypatch.setattr(StudyFile, "begin", begin)
    with pytest.raises(FileExistsError, match="already exists; another run made it"):
        sa.sweep(two_levels, AXES, 5, path=path)
    with sa.open_study(path) as study:
        assert study.seed.values.tolist() == [7]
        assert (study.status == "complete").all()


FULL = """
import resource, sys
import numpy as np
import suspalign_fast as sa
from suspalign_fast.base import executors
from tests.studies.test_sweep import AXES, two_levels
executors.BATCH_SECONDS = 1e-9
how = dict(num_steps=900, seeds=range(4), theory=True)
expected = sa.sweep(two_levels, AXES, **how)
unlimited = resource.RLIM_INFINITY
for size in map(int, sys.argv[2:]):
    path = f"{sys.argv[1]}.{size}"
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, unlimited))
    try:
        sa.sweep(two_levels, AXES, path=path, **how)
    except OSError as error:
        said = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (unlimited, unlimited))
    try:
        study = sa.open_study(path).load()
        done = (study.status == "complete").values
        assert said.startswith(f"writing {path} failed after"), said
        for name in ("loss", "alignment"):
            found, wanted = study[name].values, expected[name].values
            np.testing.assert_array_equal(found[done], wanted[done])
            assert np.isnan(found[~done]).all()
        assert study.attrs["status"] == "killed"
        print(done.sum(), end=" ")
    except FileNotFoundError:
        assert said.startswith(f"{path} cannot be written: "), said
        print("none", end=" ")
    again = sa.sweep(two_levels, AXES, path=path, **how).load()
    assert again.identical(expected.assign_attrs(again.attrs))
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="limits of files are those of Linux")
def test_where_a_disk_is_full_what_is_there_stays(path):
    sizes = 1000, 50_000, 90_000, 200_000, 310_000
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path), *map(str, sizes)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    counts = done.stdout.split()
    assert counts[:2] == ["none", "none"]
    assert int(counts[-1]) > int(counts[2])


PARTS = "gap_ratio", "step", "seed", "alignment", "error", "status", "digest", "theory", "band"


def replace(file, name, how):
    """Put something else in the place of a dataset."""
    shape, dtype = file[name].shape, np.dtype("S1" if file[name].dtype.kind == "S" else float)
    del file[name]
    if how == "a group":
        file.create_group(name)
    elif how == "another shape":
        file[name] = np.zeros(7, dtype)
    elif how == "no chunks":
        file[name] = np.zeros(shape, dtype)


@pytest.mark.mostly_long
@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("is_killed", [False, True])
def test_studies_with_broken_parts_say_so(path, name, is_killed):
    axes = {"gap_ratio": [5.0, 50.0], "step_size": [1e-3]}
    given = {"theory": True, "variables": ("alignment", "power_sums"), "path": path}
    sa.sweep(two_levels, axes, 3, **given).close()
    whole = path.read_bytes()
    for how in ("nothing", "a group", "another shape", "no chunks"):
        path.write_bytes(whole)
        with h5py.File(path, "r+") as file:
            replace(file, name, how)
        if is_killed:
            mark_as_killed(path)
        for call in (
            lambda: sa.open_study(path).load(),
            lambda: sa.sweep(two_levels, axes, 4, **given),
        ):
            assert_one_sentence(path, call)


@pytest.mark.mostly_long
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("format_version", (np.arange(3), "later", None, -1, 2.5)),
        ("study", (np.arange(3), "later", "[]", "{}", None, -1, 2.5)),
        ("status", (np.arange(3), None)),
    ],
)
def test_studies_with_broken_attributes_say_so(path, name, values):
    sa.sweep(two_levels, AXES, 3, path=path).close()
    whole = path.read_bytes()
    for value in values:
        path.write_bytes(whole)
        with h5py.File(path, "r+") as file:
            del file.attrs[name]
            if value is not None:
                file.attrs[name] = value
        for call in (
            lambda: sa.open_study(path).load(),
            lambda: sa.sweep(two_levels, AXES, 4, path=path),
        ):
            assert_one_sentence(path, call)


def assert_one_sentence(path, call):
    with pytest.raises((OSError, ValueError)) as raised:
        call()
    said = str(raised.value)
    assert str(path) in said
    assert said.count("damaged study") <= 1


def mark_as_killed(path):
    """Write into the superblock that a writer has the file open."""
    with open(path, "r+b") as file:
        head = bytearray(file.read(48))
        head[11] = 5
        head[44:48] = untrusted.lookup3(bytes(head[:44])).to_bytes(4, "little")
        file.seek(0)
        file.write(head)


@pytest.mark.mostly_long
@pytest.mark.parametrize("added", [[20.0, 5.0], [1.5], [5.0, 2.0]], ids=repr)
def test_axes_that_have_grown_are_read_in_order(path, added):
    how = {"num_steps": 10, "record_at": [10]}
    seeds = [5, 9]
    sa.sweep(two_levels, AXES | {"gap_ratio": [10.0, 50.0]}, path=path, seeds=[7], **how).close()
    axes = {"step_size": [3e-3, 1e-3, 2e-3], "gap_ratio": [50.0, *added]}
    returned = sa.sweep(two_levels, axes, path=path, seeds=seeds, **how)
    assert_same(returned, sa.sweep(two_levels, axes, seeds=seeds, **how))  # as it was asked for
    with sa.open_study(path) as study:
        for name, values in (("gap_ratio", {10.0, 50.0, *added}), ("seed", {5, 7, 9})):
            assert study[name].values.tolist() == sorted(values)
        assert study.indexes["step_size"].is_monotonic_increasing
        here = study.sel(returned.coords)
        np.testing.assert_array_equal(here.loss.transpose(*returned.loss.dims), returned.loss)
        np.testing.assert_array_equal(here.status.transpose(*returned.status.dims), "complete")
        assert study.attrs["status"] == "complete"
    study = sa.open_study(path)
    one = study.loss.isel(step=-1).sel(gap_ratio=50.0, seed=9)
    alone = sa.simulate(two_levels(50.0), 2e-3, 10, seed=9, record_at=[10])
    assert float(one.sel(step_size=2e-3)) == alone.loss[-1]


def test_axes_as_they_were_given_stay(path):
    """A falling axis is in order, and texts have none."""
    axes = {"engine": ["step", "levels", "jump"], "step_size": [3e-3, 2e-3, 1e-3]}

    def case():
        return two_levels(5.0)

    sa.sweep(case, axes, 5, path=path).close()
    with sa.open_study(path) as study:
        assert study.engine.values.tolist() == axes["engine"]
        assert study.step_size.values.tolist() == axes["step_size"]
