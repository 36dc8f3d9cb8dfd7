"""Kernels from the disk cache: any order of processes, no writable folder, many at once."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from suspalign_fast.kernels import jit

SCRIPT = """
import sys
import numpy as np
import suspalign_fast as sa
problem = sa.Quadratic(sa.Spectrum([3.0, 1.0], 1))
rule = sa.CriticalStep(0.9) if sys.argv[1] == "rule" else 0.01
print(sa.simulate(problem, rule, 5).loss[-1])
"""


def start(kind, cache):
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "TMPDIR": str(cache)}
    environment.pop("NUMBA_CACHE_DIR", None)
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, kind], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return float(out)


def test_any_order_of_processes_can_share_a_cache(tmp_path):
    """A caller compiled beside a parallel kernel loaded from disk once crashed when reloaded."""
    results = [finish(start(kind, tmp_path)) for kind in ("rule", "constant", "constant", "rule")]
    assert results[1] == results[2]
    assert results[0] == results[3]


def test_processes_that_fill_the_cache_at_once(tmp_path):
    processes = [start("constant", tmp_path) for _ in range(2)]
    assert len({finish(process) for process in processes}) == 1


@pytest.mark.skipif(os.name != "posix", reason="permissions")
def test_no_writable_cache_directory(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert finish(start("constant", blocked)) > 0.0


def fresh_directory(monkeypatch, **variables):
    """Directory that a process with these environment variables would use."""
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(jit.tempfile, "tempdir", None)
    return jit.cache_directory.__wrapped__()


@pytest.mark.skipif(os.name != "posix", reason="owners and modes")
@pytest.mark.parametrize("trap", ["open", "link", "foreign"])
def test_a_directory_that_others_could_fill_is_not_trusted(tmp_path, monkeypatch, trap):
    """Kernels are pickles and machine code: whoever fills the cache runs code."""
    base = tmp_path / f"suspalign-fast-{os.getuid()}"
    monkeypatch.setattr(Path, "home", _no_home)
    if trap == "link":
        (tmp_path / "elsewhere").mkdir()
        base.symlink_to(tmp_path / "elsewhere")
    elif trap == "open":
        base.mkdir()
        base.chmod(0o777)
    else:
        base.mkdir()
        real = os.lstat
        monkeypatch.setattr(jit.os, "lstat", lambda path: _owned_by_another(real(path)))
    directory = fresh_directory(monkeypatch, TMPDIR=tmp_path)
    if trap == "open":  # it is this user's own: closed, and used
        assert directory.parent == base
        assert base.stat().st_mode & 0o022 == 0
    else:
        assert directory is None


def _no_home():
    raise RuntimeError("Could not determine home directory.")


def _owned_by_another(status):
    values = list(status)
    values[4] = os.getuid() + 1
    return os.stat_result(values)


def test_damaged_caches_are_made_anew(tmp_path):
    expected = finish(start("rule", tmp_path))
    rng = np.random.default_rng(0)
    files = sorted(p for p in tmp_path.rglob("*.nb?"))
    assert {p.suffix for p in files} == {".nbi", ".nbc"}
    for number, path in enumerate(files):
        whole = path.read_bytes()
        flipped = bytearray(whole)
        flipped[rng.integers(len(whole))] ^= 1
        path.write_bytes((whole[: len(whole) // 2], b"", bytes(flipped), b"hello")[number // 2 % 4])
    assert finish(start("rule", tmp_path)) == expected
    for path in tmp_path.rglob("*.nbc"):
        digest, code = path.read_bytes()[:32], path.read_bytes()[32:]
        assert hashlib.sha256(code).digest() == digest
