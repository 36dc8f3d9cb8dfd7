"""What users write passes type checkers; what is wrong does not."""

import os
import subprocess
import sys

import pytest

GOOD = """
import numba
import numpy as np

import suspalign_fast as sa


@numba.njit
def rule(row: sa.Row) -> float:
    return 1e-3


spectrum = sa.Spectrum.linear_bands(100, 5)
problem = sa.Quadratic(spectrum, sa.DiagonalNoise(np.ones(100)), initial=[1.0] * 100)
trace: sa.Trace = sa.simulate(problem, rule, 10)
sa.simulate(problem, 1e-3, 10, engine="jump", device="auto", dtype=np.float32, update="bulk")
sa.simulate(problem, np.linspace(1e-3, 0.0, 10), 10, update=(1.0, 0.5), path="x.h5")
sa.simulate(problem, sa.CriticalStep(0.9), 10, dtype="float32", compression="none")
sa.resume(b"x.h5", step_size=rule)
sa.simulate_ensemble([problem, problem], [1e-3, rule], 10, seeds=range(2))
sa.simulate_ensemble(problem, rule, 10)
sa.simulate_ensemble(problem, rule, 10)[0].loss.mean()
sa.simulate_ensemble(problem, rule, 10, variables=["loss"]).loss.mean("run")
many: np.ndarray = sa.theory.expected(problem, 1e-3, [1, 2]).alignment_mean
one: float = sa.theory.stationary(problem, 1e-3).alignment_mean
chance: np.ndarray = trace.predicted.probability
"""
BAD = {
    'sa.simulate(problem, rule, 10, engine="warp")': "engine",
    'sa.simulate(problem, rule, 10, device="tpu")': "device",
    'sa.simulate(problem, rule, 10, update="half")': "update",
    'sa.simulate(problem, rule, 10, compression="zip")': "compression",
    "sa.simulate(spectrum, rule, 10)": "Quadratic",
}


def check(checker, tmp_path, code):
    """Exit status and output of a type checker on a file of a user's."""
    (tmp_path / "user.py").write_text(code)
    if checker == "mypy":
        command = ["mypy", "--strict", "--allow-untyped-decorators", "user.py"]
    else:
        command = ["pyright", "--pythonpath", sys.executable, "user.py"]
    process = subprocess.run(
        [sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"MYPYPATH": ""},
    )  # fmt: skip
    return process.returncode, process.stdout + process.stderr


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_types_of_the_public_functions(checker, tmp_path):
    pytest.importorskip(checker, reason=f"{checker} is not installed (extra 'dev')")
    status, output = check(checker, tmp_path, GOOD)
    ours = [line for line in output.splitlines() if "error" in line and "numba" not in line]
    assert not [line for line in ours if "user.py" in line], output
    status, output = check(checker, tmp_path, GOOD + "\n".join(BAD))
    assert status != 0
    first = len(GOOD.splitlines()) + 1
    for line, (code, word) in enumerate(BAD.items(), first):
        found = [text for text in output.splitlines() if f"user.py:{line}:" in text]
        assert any(word in text for text in found), f"{code}\n{output}"
