"""One run over the workers of an executor, beside the same run on threads of this process."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial

import pytest
from comparison import Comparison
from in_turn import Members, measure

import suspalign_fast as sa

DIM, STEPS = 10**6, 500


@pytest.mark.benchmark(group="sharded runs")
@pytest.mark.parametrize("engine", ["step", "jump"])
def test_sharded(benchmark, engine):
    """Every row of a million directions recorded, by spawned processes of one thread each."""
    problem = sa.Quadratic(sa.Spectrum.linear_bands(DIM, 1_000), initial=10.0)
    run = partial(sa.simulate, problem, 3e-3, STEPS, engine=engine)
    members = Members()
    members.add("one thread", partial(run, num_threads=1), STEPS)
    members.add("two threads", partial(run, num_threads=2), STEPS)
    with ExitStack() as stack:
        for count in (1, 2):
            spawned = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(count, mp_context=spawned))
            members.add(f"{count} process{'es' * (count > 1)}", partial(run, executor=pool), STEPS)
        comparison = Comparison(
            f"sharded {engine}", f"engine {engine!r}, d = 10^6, {STEPS} steps, every row", "step",
            reference="1 process", speed=True, asked_ratio={"2 processes": ("at least", 1.8)},
        )  # fmt: skip
        measure(benchmark, members, comparison, rounds=9)
