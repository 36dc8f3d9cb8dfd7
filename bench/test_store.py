"""What writing the trace costs: large d with few rows a second, and rows that cost nothing."""

import os
import statistics
import time

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast import checkpoint

PROBLEMS = {
    "step, d = 2^20": (sa.Spectrum.linear_bands(2**20, 1000), {"engine": "step"}, 3e-3, 3_000),
    "levels, two": (sa.Spectrum.two_level(10**12, 10**9, 100.0, 0.5), {"engine": "levels"}, 3e-3,
                    1_000_000),
}  # fmt: skip


@pytest.mark.benchmark(group="traces in memory and in a file, in turn")
@pytest.mark.parametrize("name", PROBLEMS)
def test_writing(benchmark, name, tmp_path):
    """The same run without and with a file, compressed and not, round by round; time a row."""
    spectrum, arguments, step_size, steps = PROBLEMS[name]
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=10.0)
    files = {
        "memory": {},
        "gzip": {"path": tmp_path / "gzip.h5"},
        "none": {"path": tmp_path / "none.h5", "compression": "none"},
    }
    times = {label: [] for label in files}

    def one_round():
        for label, file in files.items():
            started = time.perf_counter()
            sa.simulate(problem, step_size, steps, overwrite=True, **file, **arguments)
            times[label].append(time.perf_counter() - started)

    benchmark.pedantic(one_round, rounds=5, warmup_rounds=1)
    benchmark.extra_info["steps"] = len(files) * steps
    benchmark.extra_info["in turn"] = {
        label: statistics.median(seconds) / steps for label, seconds in times.items()
    }


@pytest.mark.benchmark(group="a checkpoint of d = 10^8 and its bytes alone, in turn")
def test_checkpoint(benchmark, tmp_path):
    """What a run waits for, against writing the same bytes and flushing them to the disk."""
    state = np.random.default_rng(0).standard_normal(10**8)
    times = {"bytes alone": [], "checkpoint": []}

    def bytes_alone():
        with open(tmp_path / "plain", "wb") as file:
            file.write(state.data)
            file.flush()
            os.fsync(file.fileno())

    def whole():
        checkpoint.write(tmp_path / "trace.h5.ckpt", "run", {"state": state})

    def one_round():
        for label, work in zip(times, (bytes_alone, whole), strict=True):
            started = time.perf_counter()
            work()
            times[label].append(time.perf_counter() - started)

    benchmark.pedantic(one_round, rounds=5, warmup_rounds=1)
    benchmark.extra_info["in turn"] = {
        label: statistics.median(seconds) for label, seconds in times.items()
    }
