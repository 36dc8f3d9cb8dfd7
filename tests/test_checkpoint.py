import numpy as np
import pytest

from suspalign_fast import checkpoint

ARRAYS = {
    "step": np.array(7),
    "state": np.linspace(0.0, 1.0, 1000),
    "sums": np.arange(32.0).reshape(2, 16),
    "none": np.empty(0),
}


@pytest.fixture
def path(tmp_path):
    target = checkpoint.checkpoint_path(tmp_path / "trace.h5")
    checkpoint.write(target, "me", ARRAYS)
    return target


def test_arrays_come_back(path):
    read = checkpoint.read(path, "me")
    assert read.keys() == ARRAYS.keys()
    for name, value in ARRAYS.items():
        np.testing.assert_array_equal(read[name], value)
        assert read[name].shape == value.shape
    assert [p.name for p in path.parent.iterdir()] == ["trace.h5.ckpt"]


def test_no_checkpoint_is_none(tmp_path):
    assert checkpoint.read(tmp_path / "nothing.ckpt", "me") is None


def test_a_checkpoint_of_another_run_is_refused(path):
    with pytest.raises(checkpoint.CheckpointError, match="belongs to another trace"):
        checkpoint.read(path, "you")


def test_a_failed_write_keeps_the_old_one(path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.write(path, "me", {"state": np.zeros(3)})
    np.testing.assert_array_equal(checkpoint.read(path, "me")["state"], ARRAYS["state"])
    assert [p.name for p in path.parent.iterdir()] == ["trace.h5.ckpt"]


def test_every_damage_is_seen(path):
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    places = np.concatenate([np.arange(200), rng.integers(0, len(whole), 300)])
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(0, 8)
        path.write_bytes(damaged)
        with pytest.raises(checkpoint.CheckpointError, match=r"trace\.h5\.ckpt"):
            checkpoint.read(path, "me")


def test_truncations_and_forged_sizes_are_seen(path):
    whole = path.read_bytes()
    for size in (0, 5, 30, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(checkpoint.CheckpointError):
            checkpoint.read(path, "me")
    for old, new in ((b"[1000]", b"[99999999999999]"), (b"[1000]", b"[-1000]"), (b"<f8", b"|O8")):
        path.write_bytes(whole.replace(old, new))
        with pytest.raises(checkpoint.CheckpointError, match="damaged"):
            checkpoint.read(path, "me")
