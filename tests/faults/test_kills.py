import os
import subprocess
import sys

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.traces.checkpoint import checkpoint_path

from ..helpers import kills

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a fork server")


@pytest.mark.long
@pytest.mark.parametrize(
    ("twist", "kind"), list(zip(kills.TWISTS, [*kills.RUNS, "step"], strict=True))
)
def test_sigkill_at_random_moments_loses_no_row_and_changes_no_bit(twist, kind, tmp_path):
    tally = kills.Tally()
    rng = np.random.default_rng(len(kind))
    kills.kill_at_random(tmp_path, kind, 1, 12, tally, rng, twist)
    assert tally.kills == 12
    assert tally.finished >= 1
    assert (tally.rows_lost, tally.bits_differing, tally.unreadable) == (0, 0, 0)


@pytest.mark.mostly_long
@pytest.mark.parametrize(
    "place",
    [
        "creation",
        "after creation",
        "before the checkpoint is in place",
        "after the checkpoint is in place",
        "finish",
        "after the end",
        "between copy and replacement",
    ],
)
def test_sigkill_at_delicate_moments(place, tmp_path):
    expected = kills.simulate("levels", 2)
    path = tmp_path / "trace.h5"
    if place == "between copy and replacement":
        first = kills.start(path, "levels", 2, "finish")
        first.join()
    process = kills.start(path, "levels", 2, place)
    process.join()
    assert process.exitcode == -9
    tally = kills.Tally()
    kills.check(path, 0, expected, tally)
    assert (tally.rows_lost, tally.bits_differing, tally.unreadable) == (0, 0, 0)
    final = sa.resume(path) if path.exists() else kills.simulate("levels", 2, path=path)
    assert kills.differing(final, expected) == 0
    assert len(final) == len(expected)
    assert not checkpoint_path(path).exists()


FULL_DISK = """
import resource, signal, sys
import suspalign_fast as sa
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
problem = sa.Quadratic(sa.Spectrum.two_level(10**6, 100, 10.0, 1.0))
resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))
try:
    sa.simulate(problem, 1e-2, 100_000, engine="levels", path=sys.argv[1])
except OSError as error:
    print(error)
"""


def run_script(script, path):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(path)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.long
def test_a_full_disk_stops_the_run_with_an_error_that_says_so(tmp_path):
    path = tmp_path / "trace.h5"
    process = run_script(FULL_DISK, path)
    assert process.returncode == 0, process.stderr
    assert "trace.h5 failed after" in process.stdout
    assert "File too large" in process.stdout
    partial = sa.load_trace(path)
    problem = sa.Quadratic(sa.Spectrum.two_level(10**6, 100, 10.0, 1.0))
    expected = sa.simulate(problem, 1e-2, 100_000, engine="levels")
    assert len(partial) > 4096
    assert kills.differing(partial, expected) == 0
    assert kills.differing(sa.resume(path), expected) == 0


def test_a_file_removed_under_a_run_stops_it(tmp_path, monkeypatch):
    path = tmp_path / "trace.h5"
    module = sys.modules["suspalign_fast.running.driver"]
    bounded = module._bounded

    def removing(stretch, engine):
        if engine.step > 500:
            path.unlink(missing_ok=True)
        return min(100, bounded(stretch, engine))

    monkeypatch.setattr(module, "_bounded", removing)
    monkeypatch.setattr(sys.modules["suspalign_fast.traces.writers"], "COMMIT_INTERVAL", 0.0)
    with pytest.raises(OSError, match="was removed while the run wrote it"):
        sa.simulate(kills.problem_of(1), 3e-3, 5000, path=path)


@pytest.mark.skipif(os.name != "posix", reason="permissions")
def test_a_file_made_read_only_or_truncated_under_a_run(tmp_path, monkeypatch):
    """Permissions do not reach an open file; a truncated file is refused with its path."""
    module = sys.modules["suspalign_fast.running.driver"]
    bounded = module._bounded
    monkeypatch.setattr(sys.modules["suspalign_fast.traces.writers"], "COMMIT_INTERVAL", 0.0)
    path = tmp_path / "read-only.h5"

    def chmod(stretch, engine):
        path.chmod(0o444)
        return min(100, bounded(stretch, engine))

    with monkeypatch.context() as patch:
        patch.setattr(module, "_bounded", chmod)
        assert len(sa.simulate(kills.problem_of(1), 3e-3, 1000, path=path)) == 1001
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(OSError, match=r"read-only\.h5"):
        _ = sa.load_trace(path).loss
