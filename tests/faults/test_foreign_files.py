"""Files of others beside a trace or at its name are never deleted, overwritten or followed."""

import errno
import os
import stat
import sys

import h5py
import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.storage import foreign, lock, paths
from suspalign_fast.traces import writers
from suspalign_fast.traces.checkpoint import checkpoint_path

from ..conftest import assert_same_bits

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links and modes")
PROBLEM = sa.Quadratic(sa.Spectrum.linear_bands(200, 10), sa.IsotropicNoise(0.5), initial=1.0)


def interrupted(path, monkeypatch, steps=200):
    """Leave an interrupted run at a path, with its checkpoint."""
    driver = sys.modules["suspalign_fast.running.driver"]
    bounded = driver._bounded

    def stopping(stretch, engine):
        if engine.step > 20:
            os.kill(os.getpid(), 15)
        return min(11, bounded(stretch, engine))

    with monkeypatch.context() as patch:
        patch.setattr(driver, "_bounded", stopping)
        with pytest.raises(sa.Interrupted):
            sa.simulate(PROBLEM, 1e-3, steps, path=path)


@pytest.mark.parametrize("name", ["model.ckpt", "model.lock", "model.new", "model.ckpt.new"])
def test_files_of_others_beside_a_trace_stay(tmp_path, name):
    mine = tmp_path / name
    mine.write_text("weights of a week")
    if name == "model.ckpt":
        with pytest.raises(FileExistsError, match=r"model\.ckpt exists and is not a checkpoint"):
            sa.simulate(PROBLEM, 1e-3, 50, path=tmp_path / "model")
        assert not (tmp_path / "model").exists()
    else:
        sa.simulate(PROBLEM, 1e-3, 50, path=tmp_path / "model")
        sa.resume(tmp_path / "model", num_steps=60)
        sa.resume(tmp_path / "model")
    assert mine.read_text() == "weights of a week"


@pytest.mark.parametrize(
    "name", ["trace.h5.ckpt", "trace.h5.lock", "trace.h5.new", ".trace.h5.lock"]
)
def test_links_beside_a_trace_are_not_followed(tmp_path, name, monkeypatch):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    path = tmp_path / "trace.h5"
    if name.endswith("ckpt"):
        (tmp_path / name).symlink_to(precious)
        with pytest.raises(FileExistsError):
            sa.simulate(PROBLEM, 1e-3, 50, path=path)
    else:
        (tmp_path / name).symlink_to(precious)
        interrupted(path, monkeypatch)
        sa.resume(path)
        assert (tmp_path / name).is_symlink()
    assert precious.read_text() == "precious"


def test_a_checkpoint_does_not_overwrite_what_came_in_its_place(tmp_path, monkeypatch):
    path = tmp_path / "trace.h5"
    driver = sys.modules["suspalign_fast.running.driver"]
    bounded = driver._bounded

    def placing(stretch, engine):
        checkpoint_path(path).write_text("mine")
        return min(50, bounded(stretch, engine))

    monkeypatch.setattr(driver, "_bounded", placing)
    with pytest.warns(RuntimeWarning, match="is not a checkpoint of this package.*goes on without"):
        trace = sa.simulate(PROBLEM, 1e-3, 200, path=path, checkpoint_every=1e-9)
    assert trace.status == "complete"
    assert checkpoint_path(path).read_text() == "mine"


def test_resume_keeps_a_link_and_writes_where_it_leads(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    real, link = tmp_path / "data" / "run.h5", tmp_path / "link.h5"
    interrupted(real, monkeypatch)
    link.symlink_to(real)
    trace = sa.resume(link)
    assert link.is_symlink()
    assert_same_bits(sa.load_trace(real), sa.simulate(PROBLEM, 1e-3, 200))
    assert len(trace) == 201
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["run.h5"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_permissions_survive(tmp_path, monkeypatch, mode):
    path = tmp_path / "trace.h5"
    interrupted(path, monkeypatch)
    path.chmod(mode)
    sa.resume(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    sa.simulate(PROBLEM, 1e-3, 50, path=path, overwrite=True)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_new_file_has_the_permissions_that_new_files_have(tmp_path):
    before = os.umask(0o027)
    try:
        sa.simulate(PROBLEM, 1e-3, 50, path=tmp_path / "trace.h5")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "trace.h5").stat().st_mode) == 0o640


def test_what_others_put_into_a_trace_survives_resume(tmp_path, monkeypatch):
    path = tmp_path / "trace.h5"
    interrupted(path, monkeypatch)
    with h5py.File(path, "r+") as file:
        file.attrs["note"] = "seed of the paper"
        file.attrs["tags"] = ["a", "b"]
        file.attrs["table"] = np.arange(6.0).reshape(2, 3)
        file.attrs["kind"] = np.array((1, 2.0), dtype=[("a", "i4"), ("b", "f8")])
        file["trace/loss"].attrs["units"] = "1"
        file["trace/fit"] = np.arange(5)
        file.create_group("analysis/deep")["text"] = "variable length"
        file["short"] = h5py.SoftLink("/trace/loss")
        file["elsewhere"] = h5py.ExternalLink("nowhere.h5", "/x")
    trace = sa.resume(path)
    assert_same_bits(trace, sa.simulate(PROBLEM, 1e-3, 200))
    with h5py.File(path) as file:
        assert file.attrs["note"] == "seed of the paper"
        assert file.attrs["tags"].tolist() == ["a", "b"]
        assert file.attrs["table"].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert file.attrs["kind"]["b"] == 2.0
        assert file["trace/loss"].attrs["units"] == "1"
        assert file["trace/fit"][:].tolist() == [0, 1, 2, 3, 4]
        assert file["analysis/deep/text"][()] == b"variable length"
        assert file.get("short", getlink=True).path == "/trace/loss"
        assert file.get("elsewhere", getlink=True).filename == "nowhere.h5"
        assert file.attrs["committed_rows"] == 201


def test_what_cannot_be_copied_stops_resume_and_stays(tmp_path, monkeypatch):
    path = tmp_path / "trace.h5"
    interrupted(path, monkeypatch)
    with h5py.File(path, "r+") as file:
        file["more"] = np.arange(3)
    whole = path.read_bytes()
    monkeypatch.setattr(foreign, "SECONDS", 1e-3)
    with pytest.raises(OSError, match=r"cannot be resumed: what others put into it .* 0\.001 s"):
        sa.resume(path)
    assert path.read_bytes() == whole
    assert len(list(tmp_path.iterdir())) == 2


# --- overwriting -----------------------------------------------------------------------------


def test_a_live_file_is_not_overwritten_by_any_name(tmp_path):
    path = tmp_path / "trace.h5"
    run = sa.simulate(PROBLEM, 1e-3, 50, path=path).run
    symbolic, hard = tmp_path / "symbolic.h5", tmp_path / "hard.h5"
    with writers.TraceWriter(path, run, overwrite=True) as writer:
        symbolic.symlink_to(path)
        hard.hardlink_to(path)
        for name in (path, symbolic, hard):
            with pytest.raises(BlockingIOError, match="is being written by another run"):
                sa.simulate(PROBLEM, 1e-3, 50, path=name, overwrite=True)
            with pytest.raises(BlockingIOError, match="is being written by another run"):
                sa.resume(name)
        writer.finish("interrupted")
    assert sa.load_trace(path).status == "interrupted"


def test_an_overwritten_file_stays_readable_for_those_who_have_it_open(tmp_path):
    path = tmp_path / "trace.h5"
    old = sa.simulate(PROBLEM, 1e-3, 50, path=path)
    expected = sa.simulate(PROBLEM, 1e-3, 50)
    with h5py.File(path) as reader:
        sa.simulate(PROBLEM, 2e-3, 70, path=path, overwrite=True)
        np.testing.assert_array_equal(reader["trace/loss"][:], expected.loss)
    assert len(sa.load_trace(path)) == 71
    with pytest.raises(OSError, match="another run replaced the file"):
        _ = old.loss


def test_a_run_that_fails_to_start_leaves_the_old_file(tmp_path):
    path = tmp_path / "trace.h5"
    sa.simulate(PROBLEM, 1e-3, 50, path=path)
    whole = path.read_bytes()
    with pytest.raises(ValueError, match="engine 'jump' skips"):
        sa.simulate(PROBLEM, sa.CriticalStep(0.9), 50, engine="jump", path=path, overwrite=True)
    assert path.read_bytes() == whole
    assert [p.name for p in tmp_path.iterdir()] == ["trace.h5"]


def test_two_runs_that_start_on_one_new_file(tmp_path, monkeypatch):
    """Both find no file; the one that is ready first gets the name, the other is told."""
    path = tmp_path / "trace.h5"
    put = paths.Replacement.put

    def late(self, *, overwrite):
        monkeypatch.setattr(paths.Replacement, "put", put)
        sa.simulate(PROBLEM, 1e-3, 30, path=path)
        put(self, overwrite=overwrite)

    monkeypatch.setattr(paths.Replacement, "put", late)
    with pytest.raises(FileExistsError, match="another run made it"):
        sa.simulate(PROBLEM, 1e-3, 50, path=path)
    assert len(sa.load_trace(path)) == 31
    assert [p.name for p in tmp_path.iterdir()] == ["trace.h5"]


def test_a_file_system_without_hard_links(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(paths.os, "link", refuse)
    path = tmp_path / "trace.h5"
    assert len(sa.simulate(PROBLEM, 1e-3, 50, path=path)) == 51
    with pytest.raises(FileExistsError):
        sa.simulate(PROBLEM, 1e-3, 50, path=path)


# --- locks where inodes have none ------------------------------------------------------------


@pytest.fixture
def no_inode_locks(monkeypatch):
    """As on a network file system where the locks of libhdf5 are of the same kind."""
    monkeypatch.setattr(lock, "can_lock_inodes", lambda folder: False)
    monkeypatch.setattr(lock, "_inode_is_locked", lambda path: False)


@pytest.mark.usefixtures("no_inode_locks")
def test_a_lock_file_stands_in(tmp_path):
    path = tmp_path / "trace.h5"
    run = sa.simulate(PROBLEM, 1e-3, 50, path=path).run
    assert lock.is_held(path) is False
    with writers.TraceWriter(path, run, overwrite=True) as writer:
        assert lock.is_held(path) is True
        assert sa.load_trace(path).status == "running"
        with pytest.raises(BlockingIOError, match="is being written by another run"):
            sa.simulate(PROBLEM, 1e-3, 50, path=path, overwrite=True)
        writer.finish("interrupted")
    assert lock.is_held(path) is False
    assert [p.name for p in tmp_path.iterdir()] == ["trace.h5"]


@pytest.mark.usefixtures("no_inode_locks")
def test_a_file_of_someone_else_at_the_name_of_the_lock_stays(tmp_path):
    path = tmp_path / "trace.h5"
    lock.lock_file(path).write_text("mine")
    assert len(sa.simulate(PROBLEM, 1e-3, 50, path=path)) == 51
    assert lock.lock_file(path).read_text() == "mine"


@pytest.fixture
def failing_locks(monkeypatch):
    """A function that has all locks fail with an error, as on a file system that has none."""
    fcntl = pytest.importorskip("fcntl")

    def fail(number):
        def failing(*_):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "fcntl", failing)
        monkeypatch.setattr(fcntl, "flock", failing)
        monkeypatch.setattr(lock, "_locks_inodes", {})
        monkeypatch.setattr(lock, "_without_locks", set())

    return fail


@pytest.mark.parametrize("name", ["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def test_a_file_system_without_locks_is_one_warning(name, failing_locks, tmp_path):
    path = tmp_path / "trace.h5"
    run = sa.simulate(PROBLEM, 1e-3, 50).run
    failing_locks(getattr(errno, name))
    with pytest.warns(RuntimeWarning, match="a file system without locks: nothing keeps two"):
        sa.simulate(PROBLEM, 1e-3, 50, path=path)
    assert sa.simulate(PROBLEM, 1e-3, 50, path=path, overwrite=True).status == "complete"
    assert sa.resume(path, num_steps=60).status == "complete"
    with writers.TraceWriter(path, run, overwrite=True) as writer:
        assert lock.is_held(path) is None
        assert sa.load_trace(path).status == "running"
        leftover = tmp_path / "trace.h5.0123abcd.new"
        leftover.touch()
        writer.finish("interrupted")
    sa.resume(path)
    assert leftover.exists()  # nobody knows whether another run writes it
    assert sorted(p.name for p in tmp_path.iterdir()) == ["trace.h5", leftover.name]


def test_a_study_is_written_without_locks(failing_locks, tmp_path):
    pytest.importorskip("xarray")
    failing_locks(errno.ENOLCK)
    with pytest.warns(RuntimeWarning, match="a file system without locks"):
        study = sa.sweep(_of_size, {"size": [1e-3, 2e-3]}, 5, path=tmp_path / "study.nc")
    assert (study.status == "complete").all()


def _of_size(size):
    return PROBLEM, {"step_size": size}


def test_other_failures_of_locks_are_errors(failing_locks, tmp_path):
    failing_locks(errno.EIO)
    with pytest.raises(OSError, match="cannot be locked"):
        sa.simulate(PROBLEM, 1e-3, 50, path=tmp_path / "trace.h5")
    assert not (tmp_path / "trace.h5").exists()


def test_inodes_can_be_locked_here(tmp_path):
    if sys.platform != "linux":
        pytest.skip("locks of open file descriptions are Linux's")
    assert lock.can_lock_inodes(tmp_path)


# --- leftovers -------------------------------------------------------------------------------


def test_only_own_leftovers_are_removed(tmp_path):
    path = tmp_path / "trace.h5"
    killed = sa.simulate(PROBLEM, 1e-3, 50, path=tmp_path / "other.h5").path.read_bytes()
    own = {"trace.h5.0123abcd.new": killed, "trace.h5.89abcdef.new": b""}
    foreign = {
        "trace.h5.0123abcd.neu": killed,
        "trace.h5.0123abc.new": killed,
        "trace.h5.00000000.new": b"text",
        "xtrace.h5.0123abcd.new": killed,
    }
    for name, content in (own | foreign).items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "trace.h5.11111111.new").symlink_to(tmp_path / "other.h5")
    sa.simulate(PROBLEM, 1e-3, 50, path=path)
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {*foreign, "trace.h5", "other.h5", "trace.h5.11111111.new"}
