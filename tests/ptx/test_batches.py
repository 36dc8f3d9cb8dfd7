"""What the compiler made of steps on mini-batches, run on the CPU beside the CPU's own kernels."""

import re

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.engines import make_engine
from suspalign_fast.engines.steppers import batches_of
from suspalign_fast.kernels.batches import squared_norms
from suspalign_fast.kernels.blocks import BLOCK
from suspalign_fast.model.run import Run
from suspalign_fast.physics.layout import NUM_SUMS, ROW_SIZE

from . import machine
from .test_kernels import KEY, SEED, same_bits

UPDATE = (0.5, 1.5)
STEPS = 2
BLOCKS = 2
OPTIMIZERS = {"": sa.SGD(), "_and_momentum": sa.Momentum(0.8, nesterov=True)}
#: A cap far away, so that what is under it is seen.
RULE = sa.OnlineCriticalStep(0.9, max_step=1.0)
#: What a kernel changes.
NAMES = (
    "planes", "tables", "memories", "step_sizes", "out", "out_steps", "out_sizes", "progress",
)  # fmt: skip


def started(optimizer, dim=4200, num_dominant=70):
    """An engine at its initial row: a band of one block of the plan, and one of several."""
    spectrum = sa.Spectrum.linear_bands(dim, num_dominant)
    problem = sa.Quadratic(spectrum, sa.DataNoise(1000, 0.4), initial=3.0)
    options = {"seed": SEED, "update": UPDATE, "optimizer": optimizer}
    engine = make_engine(Run(problem, RULE, STEPS, **options))
    engine.initial_row()
    return engine


def launch(kernel, engine, gpu, blocks=BLOCKS, order=None):
    """Do the steps of an engine; return what the kernel changes, by name."""
    problem, ruling = engine.run.problem, engine.stepper.ruling
    batches = batches_of(problem)
    us = np.empty(STEPS + 1)
    squared_norms(0, *KEY, batches.twice_d, batches.slope, us)
    spectrum = problem.spectrum
    plan_blocks = gpu.cut_every(spectrum.dim, spectrum.num_dominant, BLOCK)
    # The second part has more blocks of the plan than a block of threads has teams.
    parts = gpu.cut(len(plan_blocks), 1, 2, 1)
    np.testing.assert_array_equal(parts, [[0, 0, 1], [1, 1, 6]])
    width = ROW_SIZE * len(engine.planes)
    given = {
        "planes": np.stack([plane.copy() for plane in engine.planes.values()]),
        "tables": np.repeat(ruling.sums[None], blocks, axis=0),
        "memories": np.repeat(ruling.memory[None], blocks, axis=0),
        "step_sizes": np.repeat(ruling.step_size, blocks),
        "out": np.zeros((STEPS + 1, 2, width)),
        "out_steps": np.zeros(STEPS + 1, np.int64),
        "out_sizes": np.zeros(STEPS + 1),
        "progress": np.zeros(2, np.int64),
    }
    planes = list(given["planes"])
    kernel.run(
        blocks, *planes, *map(float, engine.run.optimizer.factors), problem.stds.copy(),
        plan_blocks, parts, np.array([batches.size, batches.label_std]), batches.traces.copy(), us,
        np.array(UPDATE), 0, STEPS, np.array([*range(1, STEPS + 1), -1]), *KEY,
        np.zeros(len(plan_blocks)), np.zeros(len(plan_blocks)),
        np.zeros((2, len(parts), width)), np.zeros((2, len(parts), ROW_SIZE)),
        *(given[name] for name in NAMES[1:]), order=order,
    )  # fmt: skip
    return given


def sums_of(rows):
    """Sums of rows in the order of the device."""
    return np.concatenate([rows.power_sums, rows.noise_sums, rows.cross_sums], axis=-1)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_several_blocks_of_threads(text, gpu, kind):
    engine = started(OPTIMIZERS[kind])
    kernel = machine.Kernel(text(f"OnlineCriticalStep,_batches{kind}"))
    got = launch(kernel, engine, gpu, order=1)
    one = launch(kernel, engine, gpu, blocks=1)  # does both parts, with the same bits
    for name in NAMES:
        same_bits(got[name][: len(one[name])], one[name])
    rows = engine.advance(STEPS)
    expected = sums_of(rows)
    np.testing.assert_array_equal(got["progress"], [STEPS, STEPS])
    np.testing.assert_array_equal(got["out_steps"], [1, 2, 0])
    np.testing.assert_allclose(got["out_sizes"][:STEPS], rows.step_size, rtol=1e-11)
    assert got["out_sizes"].max() < 0.1
    np.testing.assert_allclose(
        got["out"][:STEPS, :, :NUM_SUMS], expected[..., :NUM_SUMS], rtol=1e-11
    )
    rest = got["out"][:STEPS, :, NUM_SUMS : expected.shape[-1]]
    np.testing.assert_allclose(rest, expected[..., NUM_SUMS:], rtol=1e-9)
    for plane, values in zip(got["planes"], engine.planes.values(), strict=True):
        np.testing.assert_allclose(plane, values, rtol=0, atol=1e-11 * np.abs(values).max())
    for block in range(BLOCKS):
        same_bits(got["tables"][block], got["tables"][0])
        np.testing.assert_allclose(got["tables"][block], engine.stepper.ruling.sums, rtol=1e-9)
        np.testing.assert_allclose(got["memories"][block], engine.stepper.ruling.memory, rtol=1e-11)


@pytest.mark.parametrize("number", [0, 1])
def test_blocks_that_do_not_wait_for_others_are_a_race(text, gpu, number):
    pattern = r"call\.uni \(retval0\),\s+cudaCGSynchronize,.*?\);"
    whole = text("OnlineCriticalStep,_batches")
    found = [*re.finditer(pattern, whole, flags=re.DOTALL)]
    assert len(found) == 2  # for the row, and for the sums of the noisy gradient
    start, stop = found[number].span()
    wrong = whole[:start] + "st.param.b32 [retval0+0], 0;" + whole[stop:]
    with pytest.raises(machine.Race, match="global"):
        launch(machine.Kernel(wrong), started(sa.SGD()), gpu)
