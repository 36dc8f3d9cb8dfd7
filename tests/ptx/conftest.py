"""PTX of the kernels, compiled once a session."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from . import pinned_numba_cuda

STUDY = Path(__file__).parents[2] / "bench" / "gpu_code.py"
KERNELS = (
    "fill_normals", "advance", "add_parts", "jump_rows", "sum_state", "observe", "spread",
    "CriticalStep", "OnlineCriticalStep",
)  # fmt: skip


def version_of(package):
    """Installed version of a package, None where it is not there."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """PTX of the kernels, for a state of float64 and, of some, of float32."""
    wanted = pinned_numba_cuda()
    if (found := version_of("numba-cuda")) != wanted:
        pytest.skip(f"the machine knows the code of numba-cuda {wanted}, found {found}")
    root = tmp_path_factory.mktemp("ptx")
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_ENABLE_CUDASIM"}
    for dtype, names in {"float64": KERNELS, "float32": ("advance",)}.items():
        chosen = [word for name in names for word in ("--kernel", name)]
        done = subprocess.run(
            [sys.executable, str(STUDY), "--dtype", dtype, "--ptx", str(root / dtype), *chosen],
            env=environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        if done.returncode == 77:
            pytest.skip(done.stdout.strip())
        assert done.returncode == 0, done.stderr
    return root


@pytest.fixture(scope="session")
def text(folder):
    """A function that returns the PTX of a kernel."""
    return lambda name, dtype="float64": (folder / dtype / f"{name}.ptx").read_text()


@pytest.fixture(scope="session")
def gpu(folder):
    """The module of blocks, for what is not compiled: imported after it is sure to work."""
    from suspalign_fast.kernels import gpu_block

    return gpu_block
