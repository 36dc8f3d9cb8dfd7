"""On a GPU: a step against other libraries, rules against a constant size, the ceiling, 10^9."""

from functools import partial

import libraries
import machine
import numpy as np
import pytest
import subject
from comparison import Comparison
from in_turn import Members, measure
from test_rules import ADAPTIVE, RULES

import suspalign_fast as sa

DIM, MOST = 2**20, 10**9
#: Steps of a call of the engine: some ten milliseconds.
STEPS = 4096
#: The same of libraries, of which some launch every kernel of a step from Python.
THEIR_STEPS = {"JAX": 512, "CuPy": 256, "PyTorch": 256}
ENGINES = {"step engine": {}, "step engine, float32 state": {"dtype": "float32"}}


@pytest.fixture(autouse=True)
def usable_gpu():
    """Skip everything where there is none."""
    if reason := machine.no_gpu():
        pytest.skip(reason)


def advancing(problem, num_steps, step_size=subject.STEP_SIZE, **options):
    """As `subject.advancing`, on the GPU; rows that come back to the host end a call."""
    return subject.advancing(problem, num_steps, step_size, device="cuda", **options)


def engine_members(dim, steps, units):
    """Return the engine with every type of state."""
    problem, members = subject.two_bands(dim), Members()
    for name, options in ENGINES.items():
        members.add(name, advancing(problem, steps, **options), units)
    return members


@pytest.mark.benchmark(group="gpu")
def test_libraries(benchmark):
    """A million coordinates fit a GPU's cache: what counts is launches and passes over them."""
    members = engine_members(DIM, STEPS, STEPS)
    problem = subject.two_bands(DIM)
    for name in libraries.GPU:
        steps = THEIR_STEPS[name.split()[0]]
        build = partial(libraries.running, name, problem, subject.STEP_SIZE, steps)
        members.try_add(name, build, steps)
    comparison = Comparison(
        "gpu libraries", "GPU: a step at d = 2^20, every step recorded", "step",
        reference="step engine",
        asked_ratio={
            name: ("at least", 10) for name in libraries.GPU if name.startswith("JAX float32")
        },
        asked_value={"step engine": ("at most", 5e-6)} if "H100" in machine.gpu() else {},
    )  # fmt: skip
    measure(benchmark, members, comparison, rounds=11, warmup_rounds=2)


def rule_members(dim, steps):
    """Return the engine with every rule, and one that is launched for every step."""
    problem, members = subject.two_bands(dim), Members()
    for name, rule in RULES.items():
        members.add(name, advancing(problem, steps, rule), steps)
    one_step = advancing(problem, 1, RULES["CriticalStep"])
    few = max(1, steps // 16)
    members.add("CriticalStep, one launch a step", partial(repeat, one_step, few), few)
    return members


def repeat(work, times):
    """Do some work a number of times."""
    for _ in range(times):
        work()


@pytest.mark.benchmark(group="gpu")
@pytest.mark.parametrize(
    ("dim", "asked"), [(DIM, dict.fromkeys(ADAPTIVE, ("at least", 1 / 3))), (10**4, {})]
)
def test_rules(benchmark, dim, asked):
    """A rule makes all blocks wait for each other once a step, or ends a launch with every step."""
    comparison = Comparison(
        f"gpu rules {dim}", f"GPU: step-size rules, d = {dim:,}, every step recorded", "step",
        reference="constant", speed=True, asked_ratio=asked,
    )  # fmt: skip
    measure(benchmark, rule_members(dim, STEPS), comparison, rounds=9)


def only_noise(dim, steps):
    """Return a function that makes the normals of an engine's steps, by its parts and threads."""
    from numba import cuda

    from suspalign_fast.kernels.gpu import plain, together

    engine = subject.ready_engine(subject.two_bands(dim), device="cuda")
    parts, count = engine.parts, len(engine.parts)
    sums = cuda.device_array((count, together.THREADS), np.float32)

    def run():
        plain.only_normals[count, together.THREADS](parts, 0, steps, *engine.key, sums)
        cuda.synchronize()

    return run


def from_curand(draw, times):
    """Return a function that draws an array of normals a number of times."""
    import cupy

    def run():
        repeat(draw, times)
        cupy.cuda.get_current_stream().synchronize()

    return run


def device_api(name, dim, times):
    """Return draws by cuRAND's generators inside a kernel of CuPy, one state a thread."""
    import cupy

    generator = cupy.random.Generator(getattr(cupy.random, name)(0))
    out = cupy.empty(dim, "float32")
    return from_curand(partial(generator.standard_normal, dtype="float32", out=out), times)


def host_api(name, dim, times):
    """Return draws by cuRAND's own kernels."""
    import cupy

    state = cupy.random.RandomState(0, getattr(cupy.cuda.curand, f"CURAND_RNG_PSEUDO_{name}"))
    return from_curand(partial(state.standard_normal, dim, "float32"), times)


@pytest.mark.benchmark(group="gpu")
def test_ceiling(benchmark):
    """What a step takes beyond its normals; cuRAND also writes them to memory."""
    members, times = Members(), STEPS // 16
    members.add("noise alone", only_noise(DIM, STEPS), STEPS * DIM)
    members.works |= engine_members(DIM, STEPS, STEPS * DIM).works
    for name in ("XORWOW", "Philox4x3210"):
        build = partial(device_api, name, DIM, times)
        members.try_add(f"cuRAND in CuPy's kernel, {name}", build, times * DIM)
    for name in ("XORWOW", "PHILOX4_32_10"):
        build = partial(host_api, name, DIM, times)
        members.try_add(f"cuRAND's host API, {name}", build, times * DIM)
    comparison = Comparison(
        "gpu ceiling", "GPU: share of the noise, d = 2^20", "coordinate and step",
        reference="noise alone", speed=True,
        asked_ratio={"step engine": ("at least", 0.5)},
    )  # fmt: skip
    measure(benchmark, members, comparison, rounds=15)


def large_members(dim, steps):
    """Return engines for which the host holds levels, not coordinates."""
    spectrum = sa.Spectrum.linear_bands(dim, dim // 1000, num_levels=1000)
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=10.0)
    members = Members()
    for name in ("constant", "CriticalStep"):
        build = partial(advancing, problem, steps, RULES[name], dtype="float32")
        members.try_add(f"float32 state, {name}", build, steps)
    members.try_add("float64 state, constant", partial(advancing, problem, steps), steps)
    return members


@pytest.mark.benchmark(group="gpu")
def test_large(benchmark):
    """As many coordinates as a GPU's memory takes: 12 GB with a float32 state."""
    members = large_members(MOST, 50)
    if not members.works:
        pytest.skip(next(iter(members.skipped.values())))
    comparison = Comparison("gpu 10^9", "GPU: a step at d = 10^9, every step recorded", "step")
    measure(benchmark, members, comparison, rounds=3)
