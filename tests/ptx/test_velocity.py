"""Kernels with a velocity, run on the CPU beside the CPU's own; as `test_kernels`."""

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.engines.moves import VelocityMoves
from suspalign_fast.kernels.sums import moves_of
from suspalign_fast.physics.layout import CROSS_COLUMNS, NUM_SUMS, ROW_SIZE

from . import machine
from .test_kernels import (
    BLOCKS,
    KEY,
    PARTS,
    RULES,
    SIZES,
    UPDATE,
    bands,
    engine_of,
    model,
    problem_of,
    same_bits,
)

OPTIMIZERS = {"ball": sa.Momentum(0.9), "nesterov": sa.Momentum(0.8, nesterov=True)}
#: Sums of a band, and the numbers that hold them.
NUM, WIDTH = NUM_SUMS + len(CROSS_COLUMNS), 2 * ROW_SIZE


def rows_of(rows):
    """Sums of the CPU as the device lays them out."""
    return np.concatenate([rows.power_sums, rows.noise_sums, rows.cross_sums], axis=-1)


def close(actual, expected):
    """Sums of c v cancel: beside the largest of each."""
    scale = np.abs(expected).max(axis=0)
    assert (np.abs(actual - expected) <= 1e-12 * scale).all()


@pytest.mark.parametrize("order", [None, 1])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_advance_velocity(text, gpu, optimizer, order):
    used = OPTIMIZERS[optimizer]
    engine = engine_of(problem_of(noise="diagonal"), SIZES[:5], 5, optimizer=used)
    parts = gpu.cut(300, 40, PARTS)
    table = np.zeros((len(parts), 5, WIDTH))
    state, velocity = engine.state.copy(), np.zeros(300)
    machine.Kernel(text("advance_velocity")).run(
        len(parts), state, velocity, *map(float, used.factors), *model(engine.run.problem), parts,
        moves_of(SIZES[:5], UPDATE), 0, 0, *KEY, table, order=order,
    )  # fmt: skip
    rows = engine.advance(5)
    same_bits(state, engine.state)
    same_bits(velocity, engine.planes["velocity"])
    close(bands(table, parts)[..., :NUM], rows_of(rows))
    assert not table[..., NUM:].any()


def test_jump_velocity_rows(text, gpu):
    engine = engine_of(
        problem_of(noise="diagonal"), 3e-3, 6, engine="jump", record_every=3,
        optimizer=OPTIMIZERS["ball"],
    )  # fmt: skip
    parts, steps = gpu.cut(300, 40, PARTS), np.array([3, 6])
    table = np.zeros((len(parts), 2, WIDTH))
    state, velocity = engine.state.copy(), np.zeros(300)
    ((_, coefficients),) = VelocityMoves(engine.run).to(steps)
    machine.Kernel(text("jump_velocity_rows")).run(
        len(parts), state, velocity, *(values[0].copy() for values in coefficients),
        *model(engine.run.problem), parts, steps, 0 * steps, *KEY, table, order=0,
    )  # fmt: skip
    rows = engine.advance(6)
    same_bits(state, engine.state)
    same_bits(velocity, engine.planes["velocity"])
    close(bands(table, parts)[..., :NUM], rows_of(rows))


def test_sums_of_state_and_velocity(text, gpu):
    engine = engine_of(problem_of(noise="diagonal"), 1e-3, 5, optimizer=OPTIMIZERS["ball"])
    engine.advance(2)
    parts = gpu.cut(300, 40, PARTS)
    table, out = np.zeros((len(parts), 1, WIDTH)), np.zeros((1, 2, WIDTH))
    machine.Kernel(text("sum_velocity")).run(
        len(parts), *(plane.copy() for plane in engine.planes.values()),
        *model(engine.run.problem), parts, table, order=0,
    )  # fmt: skip
    machine.Kernel(text("add_velocity_parts")).run(
        1, table, parts, np.zeros(1, np.int64), out, order=0
    )
    expected = engine.initial_sums()[:, [*range(NUM_SUMS), *CROSS_COLUMNS]]
    np.testing.assert_allclose(out[0, :, :NUM], expected, rtol=1e-12)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_in_several_blocks(text, gpu, name):
    used = OPTIMIZERS["ball"]
    engine = engine_of(problem_of(), RULES[name], 10, optimizer=used)
    engine.initial_row()
    parts, ruling = gpu.cut(300, 40, PARTS), engine.stepper.ruling
    changed = [
        np.repeat(array[None], BLOCKS, axis=0)
        for array in (ruling.sums, ruling.memory, ruling.step_size[0])
    ]
    out, steps, sizes, progress = (
        np.zeros((3, 2, WIDTH)), np.zeros(3, np.int64), np.zeros(3), np.zeros(2, np.int64)
    )  # fmt: skip
    state, velocity = engine.state.copy(), np.zeros(300)
    moves = np.repeat(moves_of(ruling.step_size, UPDATE), BLOCKS, 0)
    machine.Kernel(text(f"{name},_momentum")).run(
        BLOCKS, state, velocity, *map(float, used.factors), *model(engine.run.problem), parts,
        np.array(UPDATE), 0, 2, np.array([1, 2, -1]), *KEY,
        np.zeros((2, len(parts), WIDTH)), np.zeros((2, len(parts), ROW_SIZE)), moves,
        *changed, out, steps, sizes, progress, order=1,
    )  # fmt: skip
    rows = engine.advance(2)
    np.testing.assert_array_equal(progress, [2, 2])
    np.testing.assert_array_equal(steps, [1, 2, 0])
    close(out[:2, :, :NUM], rows_of(rows))
    np.testing.assert_allclose(sizes[:2], rows.step_size, rtol=1e-11)
    np.testing.assert_allclose(state, engine.state, rtol=1e-11)
    for block in range(BLOCKS):
        same_bits(changed[0][block], changed[0][0])
        np.testing.assert_allclose(changed[0][block], ruling.sums, rtol=1e-10)
