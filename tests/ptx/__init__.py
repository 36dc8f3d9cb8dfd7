"""The code that a GPU would run, compiled by its compiler and run on the CPU; no GPU is needed.

`machine` runs the PTX of a kernel, with the arithmetic of `numbers`. Beside wrong numbers it
reports races, which the simulator of Numba cannot see, and it runs cooperative kernels with several
blocks, which the simulator cannot. It knows the instructions that one version of the compiler makes
of the kernels, the one that the extra `test` pins; with another one the tests that need its code
are skipped.
"""

import re
import tomllib
from pathlib import Path

_PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def pinned_numba_cuda():
    """The version of numba-cuda that the extra ``test`` asks for."""
    extras = tomllib.loads(_PROJECT.read_text())["project"]["optional-dependencies"]
    pins = [re.match(r"numba-cuda\[\w+\]==([\d.]+)", line) for line in extras["test"]]
    (version,) = (pin[1] for pin in pins if pin)
    return version
