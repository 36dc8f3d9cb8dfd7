"""The GPU's kernels compiled for a real one, which the simulator cannot do; none is needed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

STUDY = Path(__file__).parents[1] / "bench" / "gpu_code.py"
KERNELS = (
    "only_normals", "advance", "CriticalStep", "OnlineCriticalStep", "function of the row",
    "jump_rows", "observe", "sum_state", "fill_normals", "spread", "add_parts",
)  # fmt: skip


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_kernel_compiles_for_a_gpu(dtype):
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_ENABLE_CUDASIM"}
    done = subprocess.run(
        [sys.executable, str(STUDY), "--dtype", dtype],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(";")[0] for line in lines] == [f"kernel {name}" for name in KERNELS]
    for line in lines:
        if "spilled" in line:  # where the assembler is there, too
            assert "spilled bytes 0" in line
