"""Run a script in a process of its own."""

import os
import subprocess
import sys


def run(script, *arguments, cache):
    """Return what a Python script prints, with its kernels cached in a given directory."""
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=os.environ | {"NUMBA_CACHE_DIR": str(cache)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
