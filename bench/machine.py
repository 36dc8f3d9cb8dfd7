"""The processor, the GPU and the versions that a measurement belongs to."""

import contextlib
import functools
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from suspalign_fast.model import devices

PACKAGES = (
    "suspalign-fast", "numba", "numba-cuda", "numpy", "jax", "torch", "cupy-cuda12x",
    "cupy-cuda13x", "h5py",
)  # fmt: skip
#: What `description` may hold.
FIELDS = ("processor", "cores", "gpu", "versions")


def processor():
    """Name of the processor, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


@functools.cache
def no_gpu():
    """Return why nothing can be measured on a GPU, None where it can."""
    return "the GPU is simulated" if devices.is_simulated() else devices.why_not()


@functools.cache
def gpu():
    """Name, memory and driver of the GPU, None where there is no usable one."""
    if no_gpu():
        return None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        found = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30)
        if driver := found.stdout.strip():
            return f"{devices.describe()}, driver {driver.splitlines()[0]}"
    return devices.describe()


def versions():
    """Installed versions of what is compared."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def description():
    """What a measurement belongs to, as the JSON keeps it."""
    found = {"processor": processor(), "cores": os.cpu_count(), "versions": versions()}
    return found | ({"gpu": gpu()} if gpu() else {})


def sentence(machine):
    """Return a description as one line of text."""
    parts = [machine["processor"], f"{machine['cores']} cores", machine.get("gpu")]
    names = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"{', '.join(filter(None, parts))}; {names}"
