"""Time to a first result, from the start of the interpreter to a trace in memory."""

from functools import partial
from itertools import count

import fresh_process
import pytest
from comparison import Comparison
from in_turn import Members, measure

IMPORT = "import suspalign_fast"
FIRST = """
import suspalign_fast as sa

spectrum = sa.Spectrum.linear_bands(dim=10_000, num_dominant=100)
problem = sa.Quadratic(spectrum, noise=sa.IsotropicNoise(0.5), initial=10.0)
print(sa.simulate(problem, step_size=3e-3, num_steps=1_000).alignment[-1])
"""


@pytest.mark.benchmark(group="first result")
def test_first_result(benchmark, tmp_path):
    """Every cold run has an empty directory of its own for compiled kernels."""
    directories = (tmp_path / f"cache{i}" for i in count())
    filled = tmp_path / "filled"
    fresh_process.run(FIRST, cache=filled)
    members = Members()
    members.add("import alone", partial(fresh_process.run, IMPORT, cache=filled), 1)
    members.add("warm cache", partial(fresh_process.run, FIRST, cache=filled), 1)
    members.add(
        "empty cache", lambda: fresh_process.run(FIRST, cache=next(directories)), 1
    )  # fmt: skip
    comparison = Comparison(
        "first result", "first result in a new process, import included", "process",
        asked_value={"empty cache": ("at most", 12.0), "warm cache": ("at most", 1.5)},
    )  # fmt: skip
    measure(benchmark, members, comparison, rounds=3, warmup_rounds=0)
