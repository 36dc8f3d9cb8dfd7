"""What engines say they take is what they take, and what cannot fit is refused."""

import os
import tracemalloc

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.base import memory
from suspalign_fast.engines import make_engine
from suspalign_fast.model.run import Run

from ..running import test_resume

DIM = 3_000_000
#: Temporaries of pieces, tables of blocks: whatever does not grow like the state.
CONSTANT = 48e6
MOMENTUM = sa.Momentum(0.9)
ISOTROPIC, HESSIAN = sa.IsotropicNoise(0.5), sa.HessianNoise(0.5)
AT = [1, 3, 7, 20, 40]
CASES = {
    "isotropic noise": (ISOTROPIC, 1.0, 3e-3, {}),
    "Hessian noise": (HESSIAN, 1.0, 3e-3, {}),
    "float32": (ISOTROPIC, 1.0, 3e-3, {"dtype": "float32"}),
    "given coefficients": (ISOTROPIC, "array", 3e-3, {}),
    "given coefficients, float32": (ISOTROPIC, "array", 3e-3, {"dtype": "float32"}),
    "critical": (ISOTROPIC, 1.0, sa.CriticalStep(0.9), {}),
    "online": (HESSIAN, 1.0, sa.OnlineCriticalStep(0.9), {}),
    "jump": (HESSIAN, 1.0, 3e-3, {"engine": "jump", "record_every": 2}),
    "jump, irregular": (ISOTROPIC, 1.0, 3e-3, {"engine": "jump", "record_at": AT}),
    "jump, weights": (HESSIAN, 1.0, 3e-3, {"engine": "jump", "update": (0.5, 1.0)}),
    "jump, schedule": (
        ISOTROPIC, 1.0, np.linspace(1e-3, 3e-3, 40), {"engine": "jump", "record_at": AT}),
    "momentum": (HESSIAN, 1.0, 3e-3, {"optimizer": MOMENTUM}),
    "jump, momentum": (
        ISOTROPIC, 1.0, 3e-3, {"engine": "jump", "record_every": 2, "optimizer": MOMENTUM}),
    "jump, momentum, irregular": (
        HESSIAN, 1.0, 3e-3, {
            "engine": "jump", "record_at": AT, "update": (0.5, 1.0), "optimizer": MOMENTUM}),
    "jump, momentum, schedule": (
        ISOTROPIC, 1.0, np.linspace(1e-3, 3e-3, 40), {
            "engine": "jump", "record_at": AT, "optimizer": MOMENTUM}),
}  # fmt: skip


def peak_of(run):
    tracemalloc.start()
    engine = make_engine(run)
    engine.initial_row()
    engine.advance(run.num_steps)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return engine, peak


@pytest.mark.mostly_long
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", ["simple", "levels"])
def test_an_engine_takes_what_it_says(name, kind):
    noise, initial, rule, arguments = CASES[name]
    small = sa.Quadratic(sa.Spectrum.linear_bands(100, 5), noise)
    peak_of(Run(small, rule, 40, **arguments))  # loads its kernels
    levels = None if kind == "simple" else 2000
    spectrum = sa.Spectrum.linear_bands(DIM, DIM // 1000, num_levels=levels)
    start = np.ones(spectrum.num_levels) if initial == "array" else initial
    run = Run(sa.Quadratic(spectrum, noise, start), rule, 40, **arguments)
    engine, peak = peak_of(run)
    stated = engine.bytes_of(run)
    assert peak < 1.02 * stated + CONSTANT, f"{peak / DIM:.1f} bytes of {stated / DIM:.1f}"
    assert stated < 1.02 * peak, f"{stated / DIM:.1f} bytes stated, {peak / DIM:.1f} taken"


def test_resume_holds_the_state_once(tmp_path, monkeypatch):
    path = tmp_path / "trace.h5"
    problem = sa.Quadratic(sa.Spectrum.two_level(DIM, 100, 10.0, 1.0))
    with monkeypatch.context() as patch:
        test_resume.stop_after(patch, 2)
        with pytest.raises(sa.Interrupted):
            sa.simulate(problem, 3e-3, 200, path=path)
    tracemalloc.start()
    sa.resume(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * DIM + CONSTANT / 3


def test_a_resumed_run_that_cannot_fit_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "trace.h5"
    sa.simulate(sa.Quadratic(sa.Spectrum.two_level(10**6, 100, 10.0, 1.0)), 3e-3, 2, path=path)
    monkeypatch.setattr("suspalign_fast.base.memory.available", lambda: 7_000_000)
    with pytest.raises(
        MemoryError, match=r"at d = 1,000,000 needs 0\.008\d* GB, .* 0\.007 GB left"
    ):
        sa.resume(path, num_steps=4)


@pytest.mark.parametrize("engine", ["step", "jump", "levels", "reference"])
def test_every_engine_looks_before_it_takes(engine, monkeypatch):
    problem = sa.Quadratic(sa.Spectrum.linear_bands(300_000, 100))
    monkeypatch.setattr("suspalign_fast.base.memory.available", lambda: 2_000_000)
    with pytest.raises(MemoryError, match=f"engine '{engine}'"):
        sa.simulate(problem, 3e-3, 2, engine=engine)


@pytest.mark.skipif(not os.path.exists("/proc/meminfo"), reason="Linux tells what is free")
def test_what_is_held_is_not_counted_as_there():
    before = memory.available()
    held = np.ones(2**27)
    after = memory.available()
    assert held.nbytes / 2 < before - after < 2 * held.nbytes


def test_limits_of_control_groups_count(tmp_path, monkeypatch):
    files = [tmp_path / name for name in ("max", "current", "stat")]
    for file, text in zip(files, ("5000000\n", "3000000\n", "anon 1\ninactive_file 500000\n"),
                          strict=True):  # fmt: skip
        file.write_text(text)
    monkeypatch.setattr(memory, "_GROUPS", [tuple(map(str, files))])
    assert memory.available() == 2_500_000
    files[0].write_text("max\n")
    assert memory.available() > 2_500_000
