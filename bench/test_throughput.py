"""Time per coordinate and step against dimension, threads, dominant directions and noise."""

from functools import partial

import numba
import numpy as np
import pytest
import subject
from comparison import Comparison
from in_turn import Members, measure, record

import suspalign_fast as sa

DIM = 2**20
DIMENSIONS = (500, 10**4, 10**5, 10**6, 10**7, 10**8)
#: Coordinate-steps of a call, and bounds on its steps: a block of the engine takes 64 at a time.
WORK, LEAST, MOST = 2**28, 64, 200_000
#: Steps at 2^20 coordinates that take about a tenth of a second.
STEPS = 192


@pytest.mark.benchmark(group="throughput")
def test_dimension(benchmark):
    """From one block in cache to arrays of a gigabyte."""
    members = Members()
    for dim in DIMENSIONS:
        steps = int(np.clip(WORK // dim, LEAST, MOST))
        work = subject.advancing(subject.two_bands(dim), steps)
        members.add(f"d = {dim:,}", work, steps * dim)
    asked = {f"d = {dim:,}": ("at most", 1.2) for dim in DIMENSIONS if dim >= 10**4}
    comparison = Comparison(
        "dimension", "throughput of the step engine against d", "coordinate and step",
        asked_ratio=asked,
    )  # fmt: skip
    comparison.reference = "fastest from d = 10,000"
    measure(benchmark, members, comparison, rounds=3)
    fastest = min(comparison.values[member] for member in asked)
    comparison.values[comparison.reference] = fastest
    record(benchmark, comparison)


@pytest.mark.benchmark(group="throughput")
def test_threads(benchmark):
    """The same run on one thread, two, four, ... and all."""
    problem, members = subject.two_bands(DIM), Members()
    most = numba.config.NUMBA_NUM_THREADS
    for count in sorted({2**i for i in range(most.bit_length())} | {most}):
        run = partial(sa.simulate, problem, subject.STEP_SIZE, 3 * STEPS, num_threads=count)
        members.add(f"{count} thread{'s' if count > 1 else ''}", run, 3 * STEPS)
    comparison = Comparison(
        "threads", "threads, d = 2^20, whole runs of simulate", "step", reference="1 thread",
        speed=True, asked_ratio={"2 threads": ("at least", 1.9)},
    )  # fmt: skip
    measure(benchmark, members, comparison, rounds=9)


@pytest.mark.benchmark(group="throughput")
def test_dominant_directions(benchmark):
    """Where the bands meet must not matter."""
    members = Members()
    for count in (1, 1000, 10**5, DIM // 2, DIM - 1):
        work = subject.advancing(subject.two_bands(DIM, count), STEPS)
        members.add(f"k = {count:,}", work, STEPS)
    comparison = Comparison(
        "dominant", "number of dominant directions, d = 2^20", "step", reference="k = 1,000"
    )
    measure(benchmark, members, comparison, rounds=9)


@pytest.mark.benchmark(group="throughput")
def test_noise(benchmark):
    """Noise that differs between coordinates has to be read."""
    models = {
        "isotropic": sa.IsotropicNoise(0.5),
        "Hessian": sa.HessianNoise(0.5),
        "diagonal": sa.DiagonalNoise(np.linspace(0.2, 0.7, DIM)),
    }
    members = Members()
    for name, noise in models.items():
        members.add(name, subject.advancing(subject.two_bands(DIM, noise=noise), STEPS), STEPS)
    comparison = Comparison("noise", "noise models, d = 2^20", "step", reference="isotropic")
    measure(benchmark, members, comparison, rounds=9)
