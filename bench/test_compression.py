"""Compressed levels: making them, exact theory through them, the engine on them, ensembles."""

from functools import partial

import numpy as np
import pytest
import subject
from comparison import Comparison
from in_turn import Members, measure

import suspalign_fast as sa
from suspalign_fast import theory
from suspalign_fast.model.spectrum.named import digits_mlp_path
from suspalign_fast.theory import levels as _levels

DIM = 10**6
RULE = sa.CriticalStep(0.9)
#: As many log-spaced rows as equal strides.
EQUAL = 10**4 * np.arange(1, 101)
SPACED = np.unique(np.geomspace(1, 10**6, 140).round().astype(int))[-100:]


def compressing(make):
    """Return a function that compresses a spectrum made anew, so that nothing is kept of it."""
    return lambda: make().compress()


def levels_of(count, multiplicity=10_000):
    """Return a problem of so many levels in two bands."""
    half = count // 2
    lam = np.r_[np.linspace(100.0, 80.0, half), np.linspace(0.8, 0.1, count - half)]
    counts = np.full(count, multiplicity)
    spectrum = sa.Spectrum(lam, half * multiplicity, counts)
    return sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=10.0)


@pytest.mark.benchmark(group="compression")
def test_compress(benchmark):
    """A few hundred levels of a million eigenvalues, or of 10^15 that are never there."""
    members = Members()
    for name, make in {
        "linear bands, d = 10^6": partial(sa.Spectrum.linear_bands, DIM, 1000),
        "power law, d = 10^6": partial(sa.Spectrum.power_law, DIM, 10, 1.0),
        "shipped spectrum": partial(sa.Spectrum.load, digits_mlp_path()),
    }.items():
        members.add(name, compressing(make), 1)
    far = partial(sa.Spectrum.power_law, 10**15, 10, 1.0, tolerance=1e-12)
    members.add("power law, d = 10^15, by its formula", far, 1)
    comparison = Comparison(
        "compress", "compress at 1e-12, making the spectrum included", "spectrum"
    )
    measure(benchmark, members, comparison, rounds=5)
    for name, (work, _) in members.works.items():
        comparison.notes[name] = f"{work().num_levels} levels"


@pytest.mark.benchmark(group="compression")
def test_theory(benchmark):
    """Exact means and deviations, d = 10^6 different eigenvalues, 200 times."""
    problem, members = subject.two_bands(DIM), Members()
    times = np.unique(np.geomspace(1, 10**6, 240).round().astype(int))[-200:]
    theory.expected(problem, subject.STEP_SIZE, times)
    members.add("through levels", partial(theory.expected, problem, subject.STEP_SIZE, times), 1)

    def anew():
        problem.spectrum._few.clear()
        theory.expected(problem, subject.STEP_SIZE, times)

    members.add("with compressing", anew, 1)

    def direct():
        many, _levels.MANY = _levels.MANY, 10**18
        try:
            theory.expected(problem, subject.STEP_SIZE, times[::20])
        finally:
            _levels.MANY = many

    members.add("direct sums", direct, 1 / 20)
    comparison = Comparison(
        "exact theory", "exact theory at 200 times, d = 10^6", "200 times", reference="direct sums",
        speed=True,
        asked_value={"through levels": ("at most", 0.3), "with compressing": ("at most", 1.5)},
    )  # fmt: skip
    measure(benchmark, members, comparison, rounds=3)


@pytest.mark.benchmark(group="compression")
def test_level(benchmark):
    """Nanoseconds a level and row, one core."""
    problem, rows, members = levels_of(400), 4000, Members()
    units = rows * 400
    advance = partial(subject.advancing, problem, engine="levels")
    members.add("every step", advance(rows), units)
    members.add("a rule", advance(rows, step_size=RULE), units)
    at = np.sort(np.random.default_rng(0).choice(10**6, rows, replace=False)) + 1
    irregular = partial(
        sa.simulate, problem, subject.STEP_SIZE, 10**6, engine="levels", record_at=at
    )
    members.add("irregular strides, whole runs", irregular, units)
    comparison = Comparison(
        "level", "levels, 400 of multiplicity 10^4, one core", "level and row",
        asked_value={
            "every step": ("at most", 4e-9), "irregular strides, whole runs": ("at most", 1e-8),
        },
    )  # fmt: skip
    measure(benchmark, members, comparison, rounds=15)


@pytest.mark.benchmark(group="compression")
def test_runs(benchmark):
    """Whole runs: two levels, and a million eigenvalues under a rule."""
    members = Members()
    two = sa.Quadratic(sa.Spectrum.two_level(10**6, 100, 100.0, 0.5), sa.IsotropicNoise(0.5))
    for name, rule in (("constant", subject.STEP_SIZE), ("CriticalStep", RULE)):
        run = partial(sa.simulate, two, rule, 10**6, engine="levels")
        members.add(f"two levels, {name}", run, 10**6)
    few = sa.Quadratic(
        sa.Spectrum.linear_bands(DIM, 1000).compress(), sa.IsotropicNoise(0.5), initial=10.0
    )
    members.add(
        "d = 10^6, CriticalStep", partial(sa.simulate, few, RULE, 40_000, engine="levels"), 40_000
    )
    comparison = Comparison(
        "level runs", "whole runs of levels, every row kept", "step",
        asked_value={
            "two levels, constant": ("at most", 9e-8),
            "two levels, CriticalStep": ("at most", 1.2e-7),
            "d = 10^6, CriticalStep": ("at most", 2.5e-6),
        },
    )  # fmt: skip
    measure(benchmark, members, comparison, rounds=5)


@pytest.mark.benchmark(group="compression")
def test_spaced_rows(benchmark):
    """Rows at ever longer strides beside rows at equal ones, d = 10^6."""
    problem, members = subject.two_bands(DIM), Members()
    for name, at in (("equal", EQUAL), ("log-spaced", SPACED)):
        run = partial(sa.simulate, problem, subject.STEP_SIZE, 10**6, engine="jump", record_at=at)
        members.add(name, run, 100)
    comparison = Comparison(
        "spaced rows", "jump, 100 rows of 10^6 coordinates, strides", "row", reference="equal",
        asked_ratio={"log-spaced": ("at most", 1.5)},
    )  # fmt: skip
    measure(benchmark, members, comparison, rounds=5)


@pytest.mark.benchmark(group="compression")
def test_ensemble(benchmark):
    """Many seeds of one problem: done together, and one by one."""
    few = sa.Quadratic(
        sa.Spectrum.linear_bands(DIM, 1000).compress(), sa.IsotropicNoise(0.5), initial=10.0
    )
    members, seeds = Members(), range(256)
    for rows in (10, 100, 1000):
        together = partial(
            sa.simulate_ensemble, few, subject.STEP_SIZE, rows, seeds=seeds, engine="levels"
        )
        members.add(f"{rows} rows, together", together, len(seeds))

        def alone(rows=rows):
            for seed in seeds:
                sa.simulate(few, subject.STEP_SIZE, rows, seed=seed, engine="levels")

        members.add(f"{rows} rows, one by one", alone, len(seeds))
    comparison = Comparison("seeds", "256 seeds, levels of d = 10^6, all cores", "run")
    measure(benchmark, members, comparison, rounds=5)
