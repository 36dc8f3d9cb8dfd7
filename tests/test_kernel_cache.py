"""Kernels from the disk cache: any order of processes, no writable folder, many at once."""

import os
import subprocess
import sys

import pytest

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
