"""Time per coordinate and step against dimension, threads, dominant directions and noise."""

from functools import partial

import numpy as np
import pytest
import subject
from comparison import Comparison
from in_turn import Members, measure, record

import suspalign_fast as sa
from suspalign_fast.base import threads
from suspalign_fast.kernels.normals import BATCH, GROUP, only_normals, seed_key

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


def advancing_on(count, problem, steps):
    """Return a function that advances an engine on a number of threads."""
    with threads.limited(count):
        return subject.advancing(problem, steps)


@pytest.mark.benchmark(group="throughput")
def test_noise_ceiling(benchmark):
    """What a step takes beyond its normals: update and sums, one core."""
    dim, steps = 2**18, 64
    noise = partial(only_normals, dim // (BATCH * GROUP), steps, *seed_key(0))
    noise()
    spectra = {
        "equal eigenvalues": sa.Spectrum.two_level(dim, 1024, 100.0, 0.5),
        "close eigenvalues": sa.Spectrum.linear_bands(dim, 1024, bulk=(0.8, 0.75)),
        "wide blocks": sa.Spectrum.linear_bands(dim, 1024, bulk=(0.8, 1e-6)),
    }
    members = Members()
    members.add("noise alone", noise, dim * steps)
    for name, spectrum in spectra.items():
        problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=10.0)
        members.add(f"step engine, {name}", advancing_on(1, problem, steps), dim * steps)
    comparison = Comparison(
        "ceiling", "share of the noise, one core", "coordinate and step", reference="noise alone",
        speed=True,
        asked_ratio={f"step engine, {name}": ("at least", 0.8) for name in spectra},
    )  # fmt: skip
    measure(benchmark, members, comparison, rounds=15)


@pytest.mark.benchmark(group="throughput")
def test_threads(benchmark):
    """The same run on one thread, two, four, ... and all."""
    problem, members, most = subject.two_bands(DIM), Members(), threads.available()
    for count in sorted({2**i for i in range(most.bit_length())} | {most}):
        run = advancing_on(count, problem, STEPS)
        members.add(f"{count} thread{'s' if count > 1 else ''}", run, STEPS)
    comparison = Comparison(
        "threads", "threads, d = 2^20", "step", reference="1 thread",
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
