"""One SGD step with loss and alignment recorded: the step engine against other libraries."""

from functools import partial

import libraries
import pytest
import subject
from comparison import Comparison
from in_turn import Members, measure

#: Steps of a call: about a tenth of a second.
STEPS = {"NumPy": 4, "JAX": 8, "PyTorch": 8}


@pytest.mark.benchmark(group="libraries")
def test_large(benchmark):
    """A million coordinates: arithmetic, memory and random numbers."""
    problem = subject.two_bands(2**20)
    members = Members()
    members.add("step engine", subject.advancing(problem, 128), 128)
    for name in libraries.EIGENBASIS:
        steps = STEPS[name.split()[0]]
        build = partial(libraries.running, name, problem, subject.STEP_SIZE, steps)
        members.try_add(name, build, steps)
    asked = {
        "NumPy float64": ("at least", 40),
        "JAX float32": ("at least", 10),
        "JAX float64": ("at least", 25),
        "PyTorch float32": ("at least", 18),
    }
    comparison = Comparison(
        "libraries", "a step at d = 2^20, every step recorded", "step", reference="step engine",
        asked_ratio=asked,
    )  # fmt: skip
    measure(benchmark, members, comparison, rounds=11, warmup_rounds=2)


@pytest.mark.benchmark(group="libraries")
def test_small(benchmark):
    """Five hundred coordinates: calls cost more than arithmetic, and a dense Hessian still fits."""
    problem = subject.two_bands(500, 50)
    members = Members()
    members.add("step engine", subject.advancing(problem, 20_000), 20_000)
    for name in ("NumPy float64", "JAX float64", "PyTorch float64", *libraries.DENSE):
        build = partial(libraries.running, name, problem, subject.STEP_SIZE, 500)
        members.try_add(name, build, 500)
    comparison = Comparison(
        "libraries small", "a step at d = 500, every step recorded", "step",
        reference="step engine",
    )  # fmt: skip
    measure(benchmark, members, comparison, rounds=9, warmup_rounds=2)
