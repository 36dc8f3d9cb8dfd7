"""What writing the trace costs: large d with few rows a second, and rows that cost nothing."""

import statistics
import time

import pytest

import suspalign_fast as sa

PROBLEMS = {
    "step, d = 2^20": (sa.Spectrum.linear_bands(2**20, 1000), {"engine": "step"}, 3e-3, 3_000),
    "levels, two": (sa.Spectrum.two_level(10**12, 10**9, 100.0, 0.5), {"engine": "levels"}, 3e-3,
                    1_000_000),
}  # fmt: skip


@pytest.mark.benchmark(group="traces in memory and in a file, in turn")
@pytest.mark.parametrize("name", PROBLEMS)
def test_writing(benchmark, name, tmp_path):
    """The same run without and with a file, round by round; time a row."""
    spectrum, arguments, step_size, steps = PROBLEMS[name]
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=10.0)
    paths = {"memory": None, "file": tmp_path / "trace.h5"}
    times = {label: [] for label in paths}

    def one_round():
        for label, path in paths.items():
            started = time.perf_counter()
            sa.simulate(problem, step_size, steps, path=path, overwrite=True, **arguments)
            times[label].append(time.perf_counter() - started)

    benchmark.pedantic(one_round, rounds=5, warmup_rounds=1)
    benchmark.extra_info["steps"] = 2 * steps
    benchmark.extra_info["in turn"] = {
        label: statistics.median(seconds) / steps for label, seconds in times.items()
    }
