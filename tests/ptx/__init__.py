"""The code that a GPU would run, compiled by its compiler and run on the CPU; no GPU is needed.

    pip install -e '.[gpu-code]'
    pytest tests/ptx

`machine` runs the PTX of a kernel, with the arithmetic of `numbers`. Beside wrong numbers it
reports races, which the simulator of Numba cannot see, and it runs cooperative kernels with several
blocks, which the simulator cannot. It knows the instructions that certain versions of the compilers
make of the kernels, those that the extra `gpu-code` pins. Plain `pytest` leaves this folder out;
run by its name it skips nothing, and other compilers are an error.
"""

import re
import tomllib
from pathlib import Path

_PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def pinned_compilers():
    """Versions that the extra ``gpu-code`` pins, by the names of packages."""
    extras = tomllib.loads(_PROJECT.read_text())["project"]["optional-dependencies"]
    pins = [re.match(r"([\w-]+)(?:\[\w+\])?==([\d.]+)", line) for line in extras["gpu-code"]]
    return {pin[1]: pin[2] for pin in pins if pin}
