"""Where engines run, and whether there is a usable GPU."""

import functools
import importlib.metadata
from typing import Any, Literal, TypeAlias

import numba
import numpy as np

from ..base import checks
from ..base.registry import ENGINES

DeviceName: TypeAlias = Literal["cpu", "cuda", "auto"]
DEVICES = ("cpu", "cuda")


class DeviceError(RuntimeError):
    """The device asked for is missing, or does not finish its work."""


def resolve(device: Any, engine: str) -> str:
    """Return the device that an argument ``device=`` stands for.

    "auto" is the GPU where there is a usable one and the engine runs on it. Raises ValueError for
    an unknown device or an engine that does not run there, DeviceError if there is no usable GPU.
    """
    check(device, engine)
    if device == "auto":
        usable = "cuda" in ENGINES[engine].devices() and not is_simulated() and why_not() is None
        return "cuda" if usable else "cpu"
    if device == "cuda" and (reason := why_not()):
        raise DeviceError(f"device 'cuda' is not usable: {reason}")
    return str(device)


def check(device: Any, engine: str) -> None:
    """Raise ValueError unless a device is one that an engine may be asked to run on."""
    checks.choice("device", device, (*DEVICES, "auto"))
    if device == "cuda" and engine in ENGINES and "cuda" not in ENGINES[engine].devices():
        usable = [name for name in ENGINES.names() if "cuda" in ENGINES[name].devices()]
        raise ValueError(
            f"device must be 'cpu' for engine {engine!r}, got 'cuda'; engines "
            f"{' and '.join(map(repr, usable))} run on a GPU"
        )


def is_simulated() -> bool:
    """Whether Numba simulates the GPU in Python (``NUMBA_ENABLE_CUDASIM=1``): for tests."""
    return bool(numba.config.ENABLE_CUDASIM)


def why_not() -> str | None:
    """Return why no GPU can be used, None where one can."""
    if is_simulated():
        return None
    try:
        version = importlib.metadata.version("numba-cuda")
    except importlib.metadata.PackageNotFoundError:
        return (
            "looked for the package numba-cuda, which is not installed (install the extra 'cuda')"
        )
    found = f"looked for an NVIDIA driver (libcuda) and GPU with numba-cuda {version}: "
    try:
        from numba import cuda

        if not cuda.is_available():
            return found + (
                _first_line(cuda.cuda_error())
                or "there is a driver, but no NVVM library to compile with "
                "(install the extra 'cuda')"
            )
        cuda.current_context()
        _launch_a_kernel()
    except Exception as error:  # whatever a driver of some version raises
        return found + (_first_line(error) or type(error).__name__)
    return None


@functools.cache
def _launch_a_kernel() -> None:
    """Compile and run one of the package's kernels: what too old a driver or device refuses."""
    from numba import cuda

    from ..kernels.gpu import plain, together

    out = cuda.device_array(1, np.float64)
    values, ends = cuda.to_device(np.ones(1)), cuda.to_device(np.ones(1, np.int64))
    together.launch(plain.spread, 1, together.THREADS)(values, ends, out)
    out.copy_to_host()


def is_from_driver(error: Exception) -> bool:
    """Whether an error comes from Numba's CUDA target or the libraries below it."""
    return type(error).__module__.startswith(("numba.cuda.", "numba_cuda.", "cuda."))


def describe() -> str:
    """Name of the GPU and its memory, where `why_not` returns None."""
    if is_simulated():
        return "simulated GPU"
    from numba import cuda

    device = cuda.get_current_device()
    name = device.name.decode() if isinstance(device.name, bytes) else str(device.name)
    memory = cuda.current_context().get_memory_info().total
    return f"{name}, {memory / 2**30:.0f} GiB"


def _first_line(message: Any) -> str:
    lines = [line.strip(" :") for line in str(message or "").splitlines()]
    return next((line for line in lines if line), "").rstrip(".")
