"""What writing costs: traces with few rows a second, rows that cost nothing, and checkpoints."""

import os
from functools import partial

import numpy as np
import pytest
from comparison import Comparison
from in_turn import Members, measure

import suspalign_fast as sa
from suspalign_fast.traces import checkpoint

PROBLEMS = {
    "step, d = 2^20": (sa.Spectrum.linear_bands(2**20, 1000), {"engine": "step"}, 3e-3, 3_000),
    "step, d = 500": (sa.Spectrum.linear_bands(500, 50), {"engine": "step"}, 3e-3, 200_000),
    "levels, two": (sa.Spectrum.two_level(10**12, 10**9, 100.0, 0.5), {"engine": "levels"}, 3e-3,
                    1_000_000),
}  # fmt: skip


@pytest.mark.benchmark(group="traces in memory and in a file")
@pytest.mark.parametrize("name", PROBLEMS)
def test_writing(benchmark, name, tmp_path):
    """The same run without and with a file, compressed and not."""
    spectrum, arguments, step_size, steps = PROBLEMS[name]
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=10.0)
    files = {
        "memory": {},
        "HDF5, gzip": {"path": tmp_path / "gzip.h5", "overwrite": True},
        "HDF5, none": {
            "path": tmp_path / "none.h5", "overwrite": True, "compression": "none"},
    }  # fmt: skip
    members = Members()
    for label, file in files.items():
        run = partial(sa.simulate, problem, step_size, steps, **file, **arguments)
        members.add(label, run, steps)
    comparison = Comparison(
        f"writing {name}", f"with and without HDF5: {name}", "row", reference="memory"
    )
    measure(benchmark, members, comparison, rounds=5)


@pytest.mark.benchmark(group="checkpoints")
def test_checkpoint(benchmark, tmp_path):
    """What a run waits for, against writing, flushing and renaming a file of the same bytes."""
    state = np.random.default_rng(0).standard_normal(10**8)

    def bytes_alone():
        with open(tmp_path / "plain.new", "wb") as file:
            file.write(state.data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(tmp_path / "plain.new", tmp_path / "plain")

    whole = partial(checkpoint.write, tmp_path / "trace.h5", "run", {"state": state})
    members = Members()
    members.add("bytes alone", bytes_alone, 1)
    members.add("checkpoint", whole, 1)
    comparison = Comparison(
        "checkpoint", "a checkpoint of d = 10^8", "checkpoint", reference="bytes alone"
    )
    # The first rounds find no free pages or blocks of the disk and take several times as long.
    measure(benchmark, members, comparison, rounds=5, warmup_rounds=3)
