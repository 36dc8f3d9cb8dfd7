"""``bench/gpu_code.py --check`` notices a kernel that got worse, and compares like with like."""

import re
import shutil

import pytest

from .conftest import ROOT

#: The end of what a jump does for a coordinate.
END = r"(        keep\(planes, i, x\)\n)(        return add\(sums, x, powers\(load\(lam, )"
DIVISION = "        planes[0][i] /= lam[i]\n"
#: Numbers at places that only a run knows do not fit into registers.
ARRAY = """\
        kept = cuda.local.array(8, float64)
        for k in range(8):
            kept[k] = lam[i + k]
        planes[0][i] += kept[planes[0].size & 7]
"""


@pytest.fixture
def copy(tmp_path):
    """A copy of what is compiled and what compiles it."""
    for name in ("suspalign_fast", "bench"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "data", tmp_path / "data")
    return tmp_path


@pytest.mark.parametrize(
    ("added", "status", "said"),
    [
        ("", 0, "1 kernels, none worse"),
        (DIVISION, 1, "instructions of the main loop, a coordinate and step (float64): 18 in"),
        (ARRAY, 1, "stack bytes: 0 in the kept table, found 64"),
    ],
    ids=["unchanged", "division", "array"],
)
def test_a_kernel_that_got_worse(study, copy, added, status, said):
    path = copy / "suspalign_fast" / "kernels" / "gpu" / "threads.py"
    source = path.read_text()
    source, count = re.subn(END, rf"\1{added}\2", source)
    assert count == 1
    path.write_text(source.replace("import numpy", "from numba import cuda, float64\nimport numpy"))
    done = study(
        "--check", "--kernel", "jump_rows", "--dtype", "float64", "--compute-capability", "9.0",
        root=copy, PYTHONPATH=str(copy), NUMBA_CACHE_DIR=str(copy / "cache"),
    )  # fmt: skip
    assert (done.returncode, said in done.stdout) == (status, True), done.stdout + done.stderr
    name = "jump_rows, float64 state, compute capability 9.0: "
    assert (name in done.stdout) == bool(added)


def test_a_table_of_other_compilers_is_not_compared_with(study, copy):
    path = copy / "bench" / "results" / "gpu_code.md"
    path.write_text(re.sub(r"nvidia-nvvm [\d.]+,", "nvidia-nvvm 1.2.3,", path.read_text()))
    done = study("--check", root=copy, PYTHONPATH=str(copy))
    assert done.returncode == 77, done.stdout + done.stderr
    assert done.stdout.startswith("not compared")
    assert "in place of 1.2.3" in done.stdout
