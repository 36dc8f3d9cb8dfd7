import os
import threading

import numpy as np
import pytest

from suspalign_fast.traces import checkpoint

ARRAYS = {
    "step": np.array(7),
    "state": np.linspace(0.0, 1.0, 1000),
    "sums": np.arange(32.0).reshape(2, 16),
    "none": np.empty(0),
}
ON_POSIX = pytest.mark.skipif(os.name != "posix", reason="links and pipes")


@pytest.fixture
def trace(tmp_path):
    target = tmp_path / "trace.h5"
    checkpoint.write(target, "me", ARRAYS)
    return target


@pytest.fixture
def path(trace):
    return checkpoint.checkpoint_path(trace)


def read(trace, run_id="me"):
    arrays = {name: np.empty_like(value) for name, value in ARRAYS.items()}
    return arrays if checkpoint.read_into(trace, run_id, arrays) else None


def test_arrays_come_back(trace):
    arrays = read(trace)
    for name, value in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], value)
    assert [p.name for p in trace.parent.iterdir()] == ["trace.h5.ckpt"]


def test_no_checkpoint_is_none(tmp_path):
    assert read(tmp_path / "nothing.h5") is None


def test_a_checkpoint_of_another_run_is_refused(trace):
    with pytest.raises(checkpoint.CheckpointError, match="belongs to another trace"):
        read(trace, "you")


def test_a_checkpoint_of_other_arrays_is_refused(trace):
    checkpoint.write(trace, "me", ARRAYS | {"state": np.zeros(999)})
    with pytest.raises(checkpoint.CheckpointError, match="does not hold the arrays of its run"):
        read(trace)


def test_a_failed_write_keeps_the_old_one_and_names_it(trace, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.os, "fsync", full)
        with pytest.raises(checkpoint.CheckpointError, match=r"trace\.h5\.ckpt .* No space left"):
            checkpoint.write(trace, "me", {"state": np.zeros(3)})
    np.testing.assert_array_equal(read(trace)["state"], ARRAYS["state"])
    assert [p.name for p in trace.parent.iterdir()] == ["trace.h5.ckpt"]


def test_a_checkpoint_is_written_where_no_thread_can_be_started(trace, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    checkpoint.write(trace, "me", ARRAYS)
    np.testing.assert_array_equal(read(trace)["state"], ARRAYS["state"])


@pytest.mark.long
def test_every_damage_is_seen(trace, path):
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    places = np.concatenate([np.arange(200), rng.integers(0, len(whole), 300)])
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(0, 8)
        path.write_bytes(damaged)
        with pytest.raises(checkpoint.CheckpointError, match=r"trace\.h5\.ckpt"):
            read(trace)


def test_truncations_and_forged_sizes_are_seen(trace, path):
    whole = path.read_bytes()
    for size in (0, 5, 30, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(checkpoint.CheckpointError):
            read(trace)
    for old, new in ((b"[1000]", b"[99999999999999]"), (b"[1000]", b"[-1000]"), (b"<f8", b"|O8")):
        path.write_bytes(whole.replace(old, new))
        with pytest.raises(checkpoint.CheckpointError, match="damaged"):
            read(trace)


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 100_000,
        b'{"run_id": "me", "arrays": ' + b"[" * 100_000,
        b'{"run_id": "me", "arrays": [["state", "<f8", [1e400]]]}',
        b'{"run_id": "me", "arrays": [["state", "<f8", [' + b"9" * 5000 + b"]]]}",
        b'{"run_id": "me", "arrays": 3}',
        b'{"run_id": [], "arrays": []}',
        b"null",
        b"\xff\xfe",
        b"",
    ],
)
def test_headers_of_any_kind_are_refused_by_one_error(trace, path, header):
    path.write_bytes(checkpoint.MAGIC + header + b"\n00000000\n")
    with pytest.raises(checkpoint.CheckpointError, match=r"trace\.h5\.ckpt"):
        read(trace)


@ON_POSIX
def test_what_is_no_regular_file_is_never_opened(trace, path, tmp_path):
    precious = tmp_path / "precious"
    precious.write_bytes(path.read_bytes())
    for make in (os.mkfifo, os.mkdir, lambda p: os.symlink(precious, p)):
        path.unlink()
        make(path)
        with pytest.raises(checkpoint.CheckpointError, match=r"trace\.h5\.ckpt"):
            read(trace)
        with pytest.raises(FileExistsError, match="is not a checkpoint of this package"):
            checkpoint.check_place(trace)
        with pytest.raises(checkpoint.CheckpointError, match="not a checkpoint of this package"):
            checkpoint.write(trace, "me", ARRAYS)
        checkpoint.remove(trace)
        assert os.path.lexists(path)
        os.rmdir(path) if path.is_dir() else path.unlink()
        path.touch()
    assert precious.read_bytes()
