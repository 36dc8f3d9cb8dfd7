import os
import signal
import subprocess
import sys
import time

import numba
import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.traces import checkpoint
from suspalign_fast.traces.checkpoint import checkpoint_path

from ..conftest import assert_same_bits

STEPS = 400
RULES = {
    "constant": 3e-3,
    "schedule": np.linspace(1e-3, 4e-3, STEPS),
    "critical": sa.CriticalStep(0.9),
    "online": sa.OnlineCriticalStep(0.9),
}
CASES = [
    (engine, rule)
    for engine in ("step", "jump", "levels", "reference")
    for rule in RULES
    if not (engine == "jump" and rule in ("critical", "online"))
]


def problem_of(noise=None):
    spectrum = sa.Spectrum([100.0, 90.0, 2.0, 0.5, 0.0], 30, [10, 20, 300, 400, 50])
    return sa.Quadratic(spectrum, noise or sa.HessianNoise(0.5), initial=3.0)


def stop_after(monkeypatch, stretches):
    """Interrupt the run after so many stretches, as a signal would."""
    module = sys.modules["suspalign_fast.running.driver"]
    count = 0
    bounded = module._bounded

    def counting(stretch, engine):
        nonlocal count
        count += 1
        if count == stretches:
            os.kill(os.getpid(), signal.SIGTERM)
        return min(13, bounded(stretch, engine))

    monkeypatch.setattr(module, "_bounded", counting)


@pytest.mark.mostly_long
@pytest.mark.parametrize("optimizer", [sa.SGD(), sa.Momentum(0.9)], ids=str)
@pytest.mark.parametrize(("engine", "rule"), CASES)
def test_an_interrupted_run_ends_with_the_same_bits(engine, rule, optimizer, tmp_path, monkeypatch):
    path = tmp_path / "trace.h5"
    arguments = {"engine": engine, "record_every": 3, "seed": 5, "optimizer": optimizer}
    whole = sa.simulate(problem_of(), RULES[rule], STEPS, **arguments)
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        with pytest.raises(sa.Interrupted, match=r"resume with: suspalign resume .*trace\.h5"):
            sa.simulate(problem_of(), RULES[rule], STEPS, path=path, **arguments)
    partial = sa.load_trace(path)
    assert partial.status == "interrupted"
    assert 1 < len(partial) < len(whole)
    assert checkpoint_path(path).exists()
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(sa.Interrupted):
            sa.resume(path)
    resumed = sa.resume(path)
    assert resumed.status == "complete"
    assert_same_bits(resumed, whole)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["trace.h5"]


@pytest.mark.mostly_long
def test_every_noise_model_resumes(noise, tmp_path, monkeypatch):
    path = tmp_path / "trace.h5"
    problem = problem_of(noise(5))
    whole = sa.simulate(problem, 3e-3, STEPS)
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(sa.Interrupted):
            sa.simulate(problem, 3e-3, STEPS, path=path)
    assert_same_bits(sa.resume(path, num_threads=1), whole)


def test_a_lost_checkpoint_only_costs_time(tmp_path, monkeypatch):
    path = tmp_path / "trace.h5"
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(sa.Interrupted):
            sa.simulate(problem_of(), 3e-3, STEPS, path=path)
    checkpoint_path(path).unlink()
    assert_same_bits(sa.resume(path), sa.simulate(problem_of(), 3e-3, STEPS))


def test_a_complete_run_can_be_extended(tmp_path):
    path = tmp_path / "trace.h5"
    sa.simulate(problem_of(), 3e-3, 100, path=path)
    assert len(sa.resume(path)) == 101
    assert_same_bits(sa.resume(path, num_steps=300), sa.simulate(problem_of(), 3e-3, 300))
    with pytest.raises(ValueError, match="num_steps must be an integer of at least 300"):
        sa.resume(path, num_steps=299)


def test_a_trace_older_than_its_checkpoint_loses_no_row(tmp_path, monkeypatch):
    """A restored backup, or a loss of power between the two."""
    path = tmp_path / "trace.h5"
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        with pytest.raises(sa.Interrupted):
            sa.simulate(problem_of(), 3e-3, STEPS, path=path)
    backup = path.read_bytes()
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        with pytest.raises(sa.Interrupted):
            sa.resume(path)
    path.write_bytes(backup)
    with pytest.warns(
        RuntimeWarning, match=r"trace\.h5: older than its checkpoint.* computed again"
    ):
        resumed = sa.resume(path)
    assert_same_bits(resumed, sa.simulate(problem_of(), 3e-3, STEPS))


def test_the_trace_is_on_the_disk_before_its_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "trace.h5"
    order = []
    fsync, rename = os.fsync, os.replace

    def record_fsync(descriptor):
        order.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def record_rename(source, target):
        order.append(str(target))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_rename)
    stop_after(monkeypatch, 4)
    with pytest.raises(sa.Interrupted):
        sa.simulate(problem_of(), 3e-3, STEPS, path=path)
    at = order.index(str(checkpoint_path(path)))
    assert path.stat().st_ino in order[:at]


def test_a_file_replaced_under_a_run_is_noticed(tmp_path, monkeypatch):
    path = tmp_path / "trace.h5"
    other = tmp_path / "other.h5"
    sa.simulate(problem_of(), 3e-3, 10, path=other)
    whole = other.read_bytes()
    module = sys.modules["suspalign_fast.running.driver"]
    bounded = module._bounded

    def replacing(stretch, engine):
        if engine.step > 50 and other.exists():
            os.replace(other, path)
        return min(20, bounded(stretch, engine))

    monkeypatch.setattr(module, "_bounded", replacing)
    monkeypatch.setattr(sys.modules["suspalign_fast.traces.writers"], "COMMIT_INTERVAL", 0.0)
    with pytest.raises(OSError, match=r"trace\.h5 was replaced by another file while the run"):
        sa.simulate(problem_of(), 3e-3, STEPS, path=path)
    assert path.read_bytes() == whole


@numba.njit
def own_rule(row):
    return 1e-3 if row.power_sums[0, 1] > row.power_sums[1, 1] else 3e-3


@numba.njit
def other_rule(row):
    return 1e-3


@pytest.mark.long
def test_a_run_under_a_function_resumes_when_given_the_function(tmp_path, monkeypatch):
    path = tmp_path / "trace.h5"
    whole = sa.simulate(problem_of(), own_rule, STEPS)
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        with pytest.raises(sa.Interrupted):
            sa.simulate(problem_of(), own_rule, STEPS, path=path)
    with pytest.raises(ValueError, match="is the function 'own_rule' of a stored trace"):
        sa.resume(path)
    with pytest.raises(ValueError, match=r"the function 'own_rule' .* got 'other_rule'"):
        sa.resume(path, step_size=other_rule)
    with pytest.raises(ValueError, match="must be the function 'own_rule'"):
        sa.resume(path, step_size=3e-3)
    assert_same_bits(sa.resume(path, step_size=own_rule), whole)
    sa.simulate(problem_of(), 3e-3, 10, path=tmp_path / "b.h5")
    with pytest.raises(ValueError, match=r"step_size is not taken again: the file holds"):
        sa.resume(tmp_path / "b.h5", num_steps=20, step_size=own_rule)


def test_damaged_and_foreign_checkpoints_are_never_resumed(tmp_path, monkeypatch):
    paths = [tmp_path / "a.h5", tmp_path / "b.h5"]
    for path in paths:
        with monkeypatch.context() as patch:
            stop_after(patch, 4)
            with pytest.raises(sa.Interrupted):
                sa.simulate(problem_of(), 3e-3, STEPS, path=path)
    first, second = map(checkpoint_path, paths)
    good = first.read_bytes()
    second.write_bytes(good)
    with pytest.raises(checkpoint.CheckpointError, match="belongs to another trace"):
        sa.resume(paths[1])
    damaged = bytearray(good)
    damaged[-3] ^= 1
    first.write_bytes(damaged)
    with pytest.raises(checkpoint.CheckpointError, match="checksum"):
        sa.resume(paths[0])


def test_runs_that_cannot_go_on_are_named(tmp_path):
    path = tmp_path / "trace.h5"
    unstable = sa.Quadratic(sa.Spectrum([1e3, 1.0], 1))
    sa.simulate(unstable, 1.0, 1000, path=path)
    with pytest.raises(ValueError, match="cannot be resumed: its run diverged"):
        sa.resume(path, num_steps=2000)

    @numba.njit
    def rule(row):
        return 1e-3

    sa.simulate(problem_of(), rule, 10, path=path, overwrite=True)
    with pytest.raises(ValueError, match="whose code the file does not hold"):
        sa.resume(path, num_steps=20)
    with pytest.raises(OSError, match="does not exist"):
        sa.resume(tmp_path / "missing.h5")


SCRIPT = """
import sys
import suspalign_fast as sa
spectrum = sa.Spectrum.linear_bands(20_000, 500)
problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=3.0)
if sys.argv[2] == "resume":
    sa.resume(sys.argv[1], checkpoint_every=0.05)
else:
    sa.simulate(problem, 3e-3, 20_000, path=sys.argv[1], record_every=5, checkpoint_every=0.05)
"""


@pytest.mark.long
def test_sigkill_at_random_moments_loses_no_committed_row_and_changes_no_bit(tmp_path):
    problem = sa.Quadratic(
        sa.Spectrum.linear_bands(20_000, 500), sa.IsotropicNoise(0.5), initial=3.0
    )
    expected = sa.simulate(problem, 3e-3, 20_000, record_every=5)
    path = tmp_path / "trace.h5"
    rng = np.random.default_rng(0)
    action, rows = "start", 0
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(path), action])
        deadline = time.monotonic() + 60.0
        while not path.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.1) if action == "start" else rng.uniform(0.5, 1.2))
        process.kill()
        process.wait()
        try:
            committed = sa.load_trace(path)
        except OSError:
            assert rows == 0  # killed while the file was being created: nothing was committed
            path.unlink()
            continue
        assert len(committed) >= rows
        rows = len(committed)
        assert_same_bits(committed, expected, slice(0, rows))
        action = "resume"
    assert_same_bits(sa.resume(path), expected)


def test_a_second_run_on_the_file_is_refused_at_once(tmp_path):
    from suspalign_fast.storage import lock

    path = tmp_path / "trace.h5"
    sa.simulate(problem_of(), 3e-3, 10, path=path)
    with lock.exclusive(path):
        with pytest.raises(BlockingIOError, match="is being written by another run"):
            sa.simulate(problem_of(), 3e-3, 10, path=path, overwrite=True)
        with pytest.raises(BlockingIOError, match="is being written by another run"):
            sa.resume(path, num_steps=20)
    assert len(sa.load_trace(path)) == 11
    assert len(sa.resume(path, num_steps=20)) == 21
