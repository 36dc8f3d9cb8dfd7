"""The argument ``device=``: what it stands for, and what is said where there is no GPU."""

import importlib.metadata
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner
from numba import cuda

import suspalign_fast as sa
from suspalign_fast.base.registry import ENGINES
from suspalign_fast.cli.commands import main
from suspalign_fast.model import devices

COMMAND = "from suspalign_fast.cli import main; main()"


@pytest.fixture
def no_gpu(monkeypatch):
    """A machine with numba-cuda and neither a GPU nor a simulated one."""
    monkeypatch.setattr(devices, "is_simulated", lambda: False)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9")
    monkeypatch.setattr(cuda, "is_available", lambda: False)
    monkeypatch.setattr(cuda, "cuda_error", lambda: "\nNo driver found.\n More.", raising=False)


@pytest.fixture
def problem():
    return sa.Quadratic(sa.Spectrum([2.0, 1.0], 1))


def run_file(spectrum, path):
    """Options of a short run."""
    sa.Spectrum([2.0, 1.0], 1).save(spectrum)
    return ["--spectrum", str(spectrum), "--steps", "3", "--quiet", "--no-plot", "-o", str(path)]


def test_auto_is_the_cpu_without_a_gpu(no_gpu, problem):
    assert devices.resolve("auto", "step") == "cpu"
    assert sa.simulate(problem, 0.1, 3, device="auto").run.device == "cpu"


def test_auto_is_a_usable_gpu_where_the_engine_runs_there(monkeypatch):
    monkeypatch.setattr(devices, "is_simulated", lambda: False)
    monkeypatch.setattr(devices, "why_not", lambda: None)
    assert devices.resolve("auto", "step") == "cuda"
    assert devices.resolve("auto", "jump") == "cuda"
    assert devices.resolve("auto", "levels") == "cpu"


def test_auto_is_never_the_simulated_one(monkeypatch):
    monkeypatch.setattr(devices, "is_simulated", lambda: True)
    assert devices.resolve("auto", "step") == "cpu"
    assert devices.resolve("cuda", "step") == "cuda"


def test_an_unknown_device(problem):
    with pytest.raises(ValueError, match=r"device must be .*'cpu', 'cuda'.*'auto'.*got 'gpu'"):
        sa.simulate(problem, 0.1, 3, device="gpu")


def test_without_a_driver(no_gpu, problem, tmp_path):
    message = (
        r"^device 'cuda' is not usable: looked for an NVIDIA driver \(libcuda\) and GPU with "
        r"numba-cuda 9.9: No driver found$"
    )
    with pytest.raises(sa.DeviceError, match=message):
        sa.simulate(problem, 0.1, 3, device="cuda")
    with pytest.raises(sa.DeviceError, match=message):
        sa.simulate_ensemble(problem, 0.1, 3, device="cuda")
    path = tmp_path / "trace.h5"
    with pytest.raises(sa.DeviceError, match=message):
        sa.simulate(problem, 0.1, 3, device="cuda", path=path)
    assert not path.exists()


def test_without_the_package(no_gpu, problem, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(sa.DeviceError, match=r"package numba-cuda, which is not installed \(inst"):
        sa.simulate(problem, 0.1, 3, device="cuda")
    with pytest.raises(ValueError, match="device must be 'cpu' for engine 'levels'"):
        sa.simulate(problem, 0.1, 3, device="cuda", engine="levels")


def test_a_driver_that_fails(no_gpu, monkeypatch):
    def failing():
        raise RuntimeError("\nout of order:\n call 0")

    monkeypatch.setattr(cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda, "current_context", failing)
    assert devices.why_not().endswith("with numba-cuda 9.9: out of order")


def test_a_driver_without_a_compiler(no_gpu, monkeypatch):
    monkeypatch.setattr(cuda, "cuda_error", lambda: None, raising=False)
    assert "no NVVM library to compile with" in devices.why_not()


def test_the_command_line_says_it_in_one_line(no_gpu, tmp_path):
    options = run_file(tmp_path / "s.h5", tmp_path / "t.h5")
    result = CliRunner().invoke(main, ["run", *options, "--device", "cuda"])
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: device 'cuda' is not usable: looked for")
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "t.h5").exists()


def test_an_error_of_the_driver_is_one_line(tmp_path, monkeypatch):
    kind = type("CudaAPIError", (Exception,), {"__module__": "numba.cuda.cudadrv.driver"})

    def failing(*arguments, **options):
        raise kind("out of\nmemory")

    monkeypatch.setattr("suspalign_fast.cli.commands.execute", failing)
    options = run_file(tmp_path / "s.h5", tmp_path / "t.h5")
    result = CliRunner().invoke(main, ["run", *options])
    assert result.exit_code == 2
    assert result.stderr == "Error: the GPU failed: out of memory\n"


def test_the_command_line_falls_back(no_gpu, tmp_path):
    options = run_file(tmp_path / "s.h5", tmp_path / "t.h5")
    result = CliRunner().invoke(main, ["run", *options, "--device", "auto"])
    assert result.exit_code == 0
    assert sa.load_trace(tmp_path / "t.h5").run.device == "cpu"


def test_a_trace_of_a_gpu_is_read_and_resumed_without_one(no_gpu, problem, tmp_path, monkeypatch):
    path = tmp_path / "trace.h5"
    with monkeypatch.context() as patch:
        patch.setattr(devices, "is_simulated", lambda: True)
        patch.setattr(ENGINES["step"], "on_device_of", classmethod(lambda cls, run: cls))
        sa.simulate(problem, 0.1, 3, device="cuda", path=path)
    assert sa.load_trace(path).run.device == "cuda"
    with pytest.raises(sa.DeviceError, match="is not usable"):
        sa.resume(path, num_steps=5)
    assert len(sa.resume(path)) == 4  # complete as it is
    with pytest.raises(ValueError, match=r"device must be .*got 'nonsense'"):
        sa.resume(path, device="nonsense")
    assert len(sa.resume(path, num_steps=5, device="cpu")) == 6
    command = CliRunner().invoke(main, ["resume", str(path), "--steps", "7", "--quiet"])
    assert command.exit_code == 0, command.output


@pytest.mark.long
def test_this_machine_as_it_is(tmp_path):
    """In a process of its own, with no simulator: either a usable GPU or the reason in a line."""
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_ENABLE_CUDASIM"}
    options = run_file(tmp_path / "s.h5", tmp_path / "t.h5")
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "run", *options, "--device", "cuda"],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        assert sa.load_trace(tmp_path / "t.h5").run.device == "cuda"
    else:
        assert done.stderr.startswith("Error: device 'cuda' is not usable: looked for")
        assert len(done.stderr.splitlines()) == 1
