"""PTX of the kernels, compiled once a session."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from . import pinned_compilers

ROOT = Path(__file__).parents[2]
KERNELS = (
    "fill_normals", "advance", "add_parts", "jump_rows", "sum_state", "observe", "spread",
    "CriticalStep", "OnlineCriticalStep", "advance_velocity", "jump_velocity_rows",
    "sum_velocity", "add_velocity_parts", "CriticalStep, momentum", "OnlineCriticalStep, momentum",
    "OnlineCriticalStep, batches", "OnlineCriticalStep, batches and momentum",
)  # fmt: skip


def version_of(package):
    """Installed version of a package, None where it is not there."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def pytest_configure():
    """Refuse other compilers than those whose code is known."""
    wrong = [
        f"{name} {wanted} is wanted, found {found}"
        for name, wanted in pinned_compilers().items()
        if (found := version_of(name)) != wanted
    ]
    if wrong:
        raise pytest.UsageError(f"{', '.join(wrong)}: pip install -e '.[gpu-code]'")


@pytest.fixture(scope="session")
def study():
    """A function that runs ``bench/gpu_code.py``, of any checkout."""

    def run(*options, root=ROOT, **variables):
        environment = {k: v for k, v in os.environ.items() if k != "NUMBA_ENABLE_CUDASIM"}
        return subprocess.run(
            [sys.executable, str(root / "bench" / "gpu_code.py"), *options],
            env=environment | variables, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    return run


@pytest.fixture(scope="session")
def folder(study, tmp_path_factory):
    """PTX of the kernels, for a state of float64 and, of some, of float32."""
    root = tmp_path_factory.mktemp("ptx")
    for dtype, names in {"float64": KERNELS, "float32": ("advance",)}.items():
        chosen = [word for name in names for word in ("--kernel", name)]
        done = study("--dtype", dtype, "--ptx", str(root / dtype), *chosen)
        assert done.returncode == 0, done.stdout + done.stderr
    return root


@pytest.fixture(scope="session")
def text(folder):
    """A function that returns the PTX of a kernel."""
    return lambda name, dtype="float64": (folder / dtype / f"{name}.ptx").read_text()


@pytest.fixture(scope="session")
def gpu(folder):
    """The module of blocks, for what is not compiled: imported after it is sure to work."""
    from suspalign_fast.kernels.gpu import together

    return together
