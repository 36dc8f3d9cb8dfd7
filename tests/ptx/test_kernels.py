"""What the compiler made of the kernels, run on the CPU beside the CPU's own kernels."""

import re

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.engines import make_engine
from suspalign_fast.engines.moves import PlainMoves
from suspalign_fast.engines.steppers import advance_known
from suspalign_fast.kernels import domains
from suspalign_fast.kernels.normals import fill_normals, seed_key
from suspalign_fast.kernels.sums import moves_of
from suspalign_fast.model.run import Run
from suspalign_fast.physics.layout import NUM_SUMS, ROW_SIZE

from ..conftest import NOISES
from . import machine

SEED = 2**63 + 12345
KEY = seed_key(SEED)
UPDATE = (0.5, 2.0)
#: A tile and two single steps.
SIZES = np.linspace(1e-3, 4e-3, 6)
PARTS = 5


def same_bits(actual, expected):
    assert actual.dtype == expected.dtype
    assert actual.tobytes() == np.ascontiguousarray(expected).tobytes()


def problem_of(dim=300, num_dominant=40, noise="isotropic"):
    spectrum = sa.Spectrum.linear_bands(dim, num_dominant)
    return sa.Quadratic(spectrum, NOISES[noise](dim), initial=3.0)


def engine_of(problem, step_size, num_steps, **options):
    rule = sa.model.step_size.as_step_size(step_size)
    return make_engine(Run(problem, rule, num_steps, seed=SEED, update=UPDATE, **options))


def model(problem):
    """Eigenvalues and noise of every coordinate, or of all at once, as kernels take them."""
    isotropic = isinstance(problem.noise, sa.IsotropicNoise)
    stds = problem.stds[:1] if isotropic else problem.stds
    return problem.spectrum.eigenvalues.copy(), stds.copy()


def bands(table, parts):
    """Sums over the parts of both bands."""
    return np.stack([table[parts[:, 0] == band].sum(axis=0) for band in (0, 1)], axis=-2)


def row_sums(rows):
    return np.concatenate([rows.power_sums, rows.noise_sums], axis=-1)


# --- noise -------------------------------------------------------------------------------------


@pytest.mark.parametrize("contract", [False, True])
@pytest.mark.parametrize("step", [0, 2**40 + 7])
def test_normals_have_the_bits_of_the_cpu(text, step, contract):
    expected, actual = np.empty(1000), np.zeros(1000)
    fill_normals(expected, 1.7, domains.INITIAL, step, *KEY)
    kernel = machine.Kernel(text("fill_normals"), contract=contract)
    blocks = -(-256 // kernel.threads)
    kernel.run(blocks, actual, 1.7, domains.INITIAL, step % 2**32, step >> 32, *KEY, order=0)
    same_bits(actual, expected)


@pytest.mark.parametrize(
    ("instruction", "changed"),
    [
        (r"-766435501;", "-766435503;"),  # a multiplier of Philox
        (r"add\.s32", "sub.s32"),
        (r"shr\.s32(.*), 23;", r"shr.s32\1, 22;"),
        (r"neg\.f32(.*), (%f\d+);", r"mov.f32\1, \2;"),
        (r"0fBF2AB0C5", "0fBF2AC0C5"),  # a coefficient of the logarithm, 4e-4 off
    ],
)
def test_a_changed_instruction_changes_normals(text, instruction, changed):
    expected, actual = np.empty(200), np.zeros(200)
    fill_normals(expected, 1.0, domains.INITIAL, 0, *KEY)
    wrong, count = re.subn(instruction, changed, text("fill_normals"), count=1)
    assert count == 1
    machine.Kernel(wrong).run(1, actual, 1.0, domains.INITIAL, 0, 0, *KEY)
    assert np.count_nonzero(actual != expected) > 20


# --- steps of known sizes ----------------------------------------------------------------------


def advance(kernel, engine, parts, first_step=0, order=None):
    """Do the steps of a fresh engine; return the state and the table of the parts' sums."""
    state, table = engine.state.copy(), np.zeros((len(parts), len(SIZES), ROW_SIZE))
    lam, std = model(engine.run.problem)
    kernel.run(
        len(parts), state, *engine.run.optimizer.factors, lam, std, parts,
        moves_of(SIZES, UPDATE), first_step % 2**32, first_step >> 32, *KEY, table, order=order,
    )  # fmt: skip
    return state, table


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_advance(text, gpu, noise, dtype):
    problem = problem_of(noise=noise)
    engine = engine_of(problem, SIZES, len(SIZES), dtype=dtype)
    parts = gpu.cut(300, 40, PARTS)
    assert 40 in parts[:, 1]
    kernel = machine.Kernel(text("advance", dtype))
    state, table = advance(kernel, engine, parts, order=1)
    rows = engine.advance(len(SIZES))
    same_bits(state, engine.state)
    sums = bands(table, parts)
    np.testing.assert_allclose(sums[..., :NUM_SUMS], row_sums(rows), rtol=1e-12)
    assert not table[..., NUM_SUMS:].any()
    again = advance(kernel, engine_of(problem, SIZES, len(SIZES), dtype=dtype), parts, order=2)
    same_bits(again[0], state)
    same_bits(again[1], table)


def test_advance_with_several_counters_a_thread_and_steps_beyond_32_bits(text, gpu):
    engine = engine_of(problem_of(2000, 700), 1e-3, 1)
    parts, step = gpu.cut(2000, 700, 2), 2**32 + 5
    state, table = advance(machine.Kernel(text("advance")), engine, parts, first_step=step)
    sums = np.empty((len(SIZES), 2, ROW_SIZE))
    slots = np.arange(len(SIZES))
    advance_known(*engine.model(), step, moves_of(SIZES, UPDATE), slots, *KEY, sums)
    same_bits(state, engine.state)
    np.testing.assert_allclose(bands(table, parts), sums, rtol=1e-12)


@pytest.mark.parametrize("barrier", [0, 1])
def test_a_missing_barrier_is_found(text, gpu, barrier):
    pieces = text("advance").split("bar.sync \t0;")
    assert len(pieces) == 3
    pieces[barrier : barrier + 2] = ["".join(pieces[barrier : barrier + 2])]
    engine = engine_of(problem_of(), SIZES, len(SIZES))
    with pytest.raises(machine.Fault, match=r"no value of 8 bytes|st\.shared"):
        advance(machine.Kernel("bar.sync \t0;".join(pieces)), engine, gpu.cut(300, 40, PARTS))


@pytest.mark.parametrize(("argument", "size"), [(0, 299), (3, 1)])
def test_an_access_outside_an_array_is_found(text, gpu, argument, size):
    engine, parts = engine_of(problem_of(), SIZES, len(SIZES)), gpu.cut(300, 40, PARTS)
    arguments = [engine.state.copy(), *model(engine.run.problem), parts]
    arguments[argument] = arguments[argument][:size].copy()
    table = np.zeros((len(parts), 1, ROW_SIZE))
    with pytest.raises(machine.Fault, match="no value of 8 bytes"):
        machine.Kernel(text("sum_state")).run(len(parts), *arguments, table)


def test_add_parts(text, gpu):
    parts = gpu.cut(3000, 400, 40)
    table = np.random.default_rng(0).normal(size=(len(parts), 5, ROW_SIZE))
    at, out = np.array([1, 4, 0]), np.zeros((3, 2, ROW_SIZE))
    machine.Kernel(text("add_parts")).run(3, table, parts, at, out, order=0)
    np.testing.assert_allclose(out, bands(table[:, at], parts), rtol=1e-13, atol=1e-13)


# --- other kernels -----------------------------------------------------------------------------


def test_sum_state(text, gpu):
    problem = problem_of(noise="diagonal")
    engine, parts = engine_of(problem, 1e-3, 5), gpu.cut(300, 40, PARTS)
    table = np.zeros((len(parts), 1, ROW_SIZE))
    machine.Kernel(text("sum_state")).run(
        len(parts), engine.state.copy(), *model(problem), parts, table, order=0
    )
    expected = engine.initial_sums()[:, :NUM_SUMS]
    np.testing.assert_allclose(bands(table, parts)[0, :, :NUM_SUMS], expected, rtol=1e-12)


@pytest.mark.parametrize("noise", NOISES)
def test_observe(text, gpu, noise):
    problem = problem_of(noise=noise)
    engine, parts = engine_of(problem, 1e-3, 5), gpu.cut(300, 40, PARTS)
    table, expected = np.zeros((len(parts), 1, ROW_SIZE)), np.zeros((2, 3))
    machine.Kernel(text("observe")).run(
        len(parts), engine.state.copy(), *model(problem), parts, 0, 0, *KEY, table, order=0
    )
    engine.observe(expected)
    np.testing.assert_allclose(bands(table, parts)[0, :, :3], expected, rtol=1e-12)


def test_jump_rows(text, gpu):
    problem, parts = problem_of(noise="hessian"), gpu.cut(300, 40, PARTS)
    engine = engine_of(problem, 3e-3, 9, engine="jump", record_every=3)
    state, steps = engine.state.copy(), np.array([3, 6, 9])
    table = np.zeros((len(parts), 3, ROW_SIZE))
    arrays = problem.spectrum.eigenvalues, problem.stds
    rates = (problem.spectrum.weighted(values, engine.run.update) for values in arrays)
    ((_, (a, b)),) = PlainMoves(engine.run.step_size, *rates).to(steps)
    machine.Kernel(text("jump_rows")).run(
        len(parts), state, a[0], b[0], *model(problem), parts, steps, 0 * steps, *KEY, table,
        order=0,
    )  # fmt: skip
    rows = engine.advance(9)
    same_bits(state, engine.state)
    np.testing.assert_allclose(bands(table, parts)[..., :NUM_SUMS], row_sums(rows), rtol=1e-12)


def test_spread(text):
    counts = np.array([10, 20, 300, 1, 50])
    values, out = np.linspace(1.0, 2.0, 5), np.zeros(counts.sum())
    kernel = machine.Kernel(text("spread"))
    kernel.run(-(-out.size // kernel.threads), values, np.cumsum(counts), out)
    same_bits(out, np.repeat(values, counts))


# --- steps whose sizes a rule chooses ----------------------------------------------------------

BLOCKS = 3
#: Caps that are far away, so that what is under them is seen.
RULES = {
    "CriticalStep": sa.CriticalStep(0.9, max_step=1.0),
    "OnlineCriticalStep": sa.OnlineCriticalStep(0.9, max_step=1.0),
}
NAMES = (
    "state", "moves", "tables", "memories", "step_sizes",
    "out", "out_steps", "out_sizes", "progress",
)  # fmt: skip


def adaptive(kernel, engine, parts, num_steps=3, order=None, **changed):
    """Do steps of an engine at its initial row; return what the kernel changes, by name."""
    ruling = engine.stepper.ruling
    given = {
        "state": engine.state.copy(),
        "moves": np.repeat(moves_of(ruling.step_size, UPDATE), BLOCKS, axis=0),
        "tables": np.repeat(ruling.sums[None], BLOCKS, axis=0),
        "memories": np.repeat(ruling.memory[None], BLOCKS, axis=0),
        "step_sizes": np.repeat(ruling.step_size, BLOCKS),
        "out": np.zeros((num_steps + 1, 2, ROW_SIZE)),
        "out_steps": np.zeros(num_steps + 1, np.int64),
        "out_sizes": np.zeros(num_steps + 1),
        "progress": np.zeros(2, np.int64),
    } | changed
    turns = (np.zeros((2, len(parts), ROW_SIZE)) for _ in range(2))
    recorded = np.append(np.arange(1, num_steps + 1), -1)
    kernel.run(
        BLOCKS, given["state"], *engine.run.optimizer.factors, *model(engine.run.problem), parts,
        np.array(UPDATE), 0, num_steps, recorded, *KEY, *turns,
        *(given[name] for name in NAMES[1:]), order=order,
    )  # fmt: skip
    return given


def started(rule, **options):
    engine = engine_of(problem_of(), rule, 10, **options)
    engine.initial_row()
    return engine


@pytest.mark.parametrize("contract", [False, True])
@pytest.mark.parametrize("name", RULES)
def test_a_rule_in_several_blocks(text, gpu, name, contract):
    engine, parts = started(RULES[name]), gpu.cut(300, 40, PARTS)
    assert len(parts) > BLOCKS
    kernel = machine.Kernel(text(name), contract=contract)
    got = adaptive(kernel, engine, parts)
    again = adaptive(kernel, engine, parts, order=1)
    for changed in NAMES:
        same_bits(again[changed], got[changed])
    rows = engine.advance(3)
    np.testing.assert_array_equal(got["progress"], [3, 3])
    np.testing.assert_array_equal(got["out_steps"], [1, 2, 3, 0])
    np.testing.assert_allclose(got["out"][:3, :, :NUM_SUMS], row_sums(rows), rtol=1e-12)
    np.testing.assert_allclose(got["out_sizes"][:3], rows.step_size, rtol=1e-12)
    assert got["out_sizes"].max() < 0.1
    np.testing.assert_allclose(got["state"], engine.state, rtol=1e-12)
    for block in range(BLOCKS):  # every block asks the rule by itself
        same_bits(got["tables"][block], got["tables"][0])
        np.testing.assert_allclose(got["tables"][block], engine.stepper.ruling.sums, rtol=1e-12)
        np.testing.assert_allclose(got["memories"][block], engine.stepper.ruling.memory, rtol=1e-12)
        assert got["step_sizes"][block] == got["out_sizes"][2]


@pytest.mark.parametrize("order", [None, 1])
@pytest.mark.parametrize(
    ("pattern", "changed", "times"),
    [
        (r"and\.b64(\s+%rd\d+, %rd\d+), 1;", r"and.b64\1, 0;", 2),  # the same table every step
        (r"call\.uni \(retval0\),\s+cudaCGSynchronize,.*?\);", "st.param.b32 [retval0+0], 0;", 1),
    ],
)
def test_what_blocks_do_without_waiting_is_a_race(text, gpu, pattern, changed, times, order):
    wrong, count = re.subn(pattern, changed, text("CriticalStep"), flags=re.DOTALL)
    assert count == times
    with pytest.raises(machine.Race, match="global"):
        adaptive(
            machine.Kernel(wrong),
            started(RULES["CriticalStep"]),
            gpu.cut(300, 40, PARTS),
            order=order,
        )


@pytest.mark.parametrize("name", RULES)
def test_divergence_in_several_blocks(text, gpu, name):
    engine, parts = started(RULES[name]), gpu.cut(300, 40, PARTS)
    got = adaptive(machine.Kernel(text(name)), engine, parts, order=3, state=np.full(300, 1e200))
    np.testing.assert_array_equal(got["progress"], [1, 1])
    np.testing.assert_array_equal(got["out_steps"], [1, 0, 0, 0])
    assert np.isinf(got["out"][0]).any()
    same_bits(got["memories"][0], engine.stepper.ruling.memory)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_that_fails_in_several_blocks(text, gpu, name):
    engine, parts = started(RULES[name]), gpu.cut(300, 40, PARTS)
    memories = np.repeat(engine.stepper.ruling.memory[None], BLOCKS, axis=0)
    memories[:, 1] = -1.0  # the cap
    got = adaptive(machine.Kernel(text(name)), engine, parts, order=3, memories=memories)
    np.testing.assert_array_equal(got["progress"], [1, 1])
    np.testing.assert_array_equal(got["step_sizes"], -1.0)
    assert got["out_sizes"][0] == -1.0
