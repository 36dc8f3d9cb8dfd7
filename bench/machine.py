"""The processor and the versions that a measurement belongs to."""

import os
import platform
from importlib import metadata
from pathlib import Path

PACKAGES = ("suspalign-fast", "numba", "numpy", "jax", "torch", "h5py")


def processor():
    """Name of the processor, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


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
    """Processor, cores and versions, as the JSON keeps them."""
    return {"processor": processor(), "cores": os.cpu_count(), "versions": versions()}


def sentence(machine):
    """Return a description as one line of text."""
    names = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"{machine['processor']}, {machine['cores']} cores; {names}"
