"""Every combination of features works, or is refused with its sentence.

What works is compared with the engine `reference`, which is compared with the formulas in NumPy. An
engine that is exact in law has the very rows of `reference` where there is no noise, and with noise
the means of `step` over many seeds. `helpers/what_runs.py` says what there is and what is refused.
"""

import functools
import re
from pathlib import Path

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.engines.reference import standard_normals
from suspalign_fast.kernels import domains
from suspalign_fast.model import devices
from suspalign_fast.model.run import UPDATES as WEIGHTS

from ..helpers import simulated_gpu, what_runs
from ..helpers.what_runs import (
    DEVICES,
    ENGINES,
    INITIAL,
    NOISES,
    OPTIMIZERS,
    SENSES,
    SPECTRUM,
    STEPS,
    Cell,
    cells,
    refusal_of,
)

#: Seeds of an ensemble, and standard errors that its means may be off; some thousands are compared.
SEEDS, LIMIT = 100, 5.5
COLUMNS = ("step_size", "power_sums", "noise_sums", "cross_sums")
#: A rule returns what differs in the last bits; a real GPU has noise of its own rounding.
RTOL = 1e-9 if devices.is_simulated() or devices.why_not() is not None else 1e-5


@functools.cache
def reference_of(cell, size):
    return cell._replace(engine="reference", device="cpu").run(size)


def difference(actual, expected):
    """Say which columns differ by more than rounding; empty where none does."""
    if actual.status != expected.status or len(actual) != len(expected):
        return f"{len(actual)} rows, {actual.status}, for {len(expected)}, {expected.status}"
    errors = {}
    for name in COLUMNS:
        if (name in actual.columns()) != (name in expected.columns()):
            return f"only one has {name}"
        if name in expected.columns():
            one, other = actual[name], expected[name]
            if not np.array_equal(np.isnan(one), np.isnan(other)):
                return f"NaN of {name}"
            scale = np.nanmax(np.abs(other), axis=0)  # sums of c v cancel
            errors[name] = np.nanmax(np.abs(one - other) / np.where(scale > 0.0, scale, 1.0))
    return ", ".join(f"{name} by {error:.1e}" for name, error in errors.items() if error > RTOL)


def wrong_law(cell):
    """Say which means of an ensemble miss those of `step`; empty where none does."""
    found, expected = means(cell), means(cell._replace(engine="step"))
    errors = {}
    for name, (mean, variance) in expected.items():
        spread = np.sqrt((variance + found[name][1]) / SEEDS)
        scale = np.abs(mean) * 1e-12 + 1e-300
        errors[name] = np.max(np.abs(found[name][0] - mean) / (spread + scale))
    return ", ".join(f"{name} by {z:.1f} errors" for name, z in errors.items() if z > LIMIT)


@functools.cache
def means(cell):
    """Means and variances of sums, and of their squares, over seeds that no other engine has."""
    first = SEEDS * ENGINES.index(cell.engine)
    how = cell.arguments() | {"seeds": range(first, first + SEEDS), "record_at": [2, STEPS]}
    size = how.pop("step_size")
    size = sa.Schedule(size) if isinstance(size, np.ndarray) else size
    traces = sa.simulate_ensemble(cell.problem(), size, engine=cell.engine, **how)
    found = {}
    for name in COLUMNS[1:]:
        if name in traces[0].columns():
            values = np.array([trace[name][1:] for trace in traces])
            for power in (1, 2):
                found[f"{name}^{power}"] = (values**power).mean(0), (values**power).var(0)
    return found


def refused(cell):
    """Say what went wrong with a cell to be refused; empty where it was."""
    refusal = refusal_of(cell)
    try:
        cell.run()
    except refusal.error as error:
        return "" if re.search(refusal.says, str(error)) else f"said {error}"
    return "worked"


def wrong_rows(cell):
    """Say how rows differ from those of `reference`; empty where they do not.

    Without noise where an engine is exact in law: that of mini-batches is never without.
    """
    if SENSES[cell.engine] == "path":
        return difference(cell.run(), reference_of(cell, 0.5))
    if cell.noise == "mini-batches":
        return ""
    return difference(cell.run(0.0), reference_of(cell, 0.0))


def failures(check, some):
    """What a check says of cells, by cell."""
    return {cell: words for cell in some if (words := check(cell))}


def working(**wanted):
    return [cell for cell in cells(**wanted) if refusal_of(cell) is None]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_refused_is_refused_with_its_sentence(engine, device):
    if device == "cuda" and devices.why_not() is not None:
        pytest.skip(devices.why_not())
    some = [cell for cell in cells(engine=(engine,), device=(device,)) if refusal_of(cell)]
    assert failures(refused, some) == {}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("engine", ["step", "jump", "levels"])
def test_rows_are_those_of_reference(engine, optimizer):
    some = working(engine=(engine,), device=("cpu",), optimizer=(optimizer,))
    assert failures(wrong_rows, some) == {}


def formulas(cell):
    """Losses of both bands at every step, moved in NumPy by the step sizes of `reference`."""
    lam, std = (
        np.repeat(values, SPECTRUM.multiplicities)
        for values in (SPECTRUM.eigenvalues, cell.problem().stds)
    )
    optimizer, dominant = OPTIMIZERS[cell.optimizer], np.arange(lam.size) < SPECTRUM.num_dominant
    weights = np.where(dominant, *WEIGHTS[cell.update])
    beta = getattr(optimizer, "beta", 0.0)
    c, buffer, found = INITIAL.copy(), np.zeros(lam.size), []
    for step, size in enumerate(reference_of(cell, 0.5).step_size):
        found.append([0.5 * np.sum(lam[band] * c[band] ** 2) for band in (dominant, ~dominant)])
        gradient = lam * c + std * standard_normals(3, domains.STEP, step, lam.size)
        buffer = beta * buffer + gradient
        ahead = gradient + beta * buffer if getattr(optimizer, "nesterov", False) else buffer
        c = c - size * weights * ahead
    return np.array(found)


def wrong_reference(cell):
    """Say how `reference` misses the formulas or its rule; empty where it does not."""
    trace = reference_of(cell, 0.5)
    losses = np.stack([trace.loss_dominant, trace.loss_bulk], axis=1)
    if cell.noise != "mini-batches" and not np.allclose(losses, formulas(cell), rtol=1e-12, atol=0):
        return "losses"
    dominant, bulk = trace.power_sums[:, :, 1].T
    rule = what_runs.RULES[cell.rule]
    expected = {
        "constant": rule,
        "schedule": np.append(rule, np.nan),
        "a user's own": 0.02 * dominant / (dominant + bulk),
    }
    if cell.rule == "critical":
        cap, critical = trace.step_size.max(), rule.fraction * trace.critical_step_size
        ok = np.isclose(trace.step_size, cap) | np.isclose(trace.step_size, critical, rtol=1e-9)
        return "" if ok.all() else "step sizes"
    same = np.allclose(trace.step_size, expected[cell.rule], rtol=1e-12, atol=0, equal_nan=True)
    return "" if same else "step sizes"


def test_reference_moves_by_the_formulas():
    assert failures(wrong_reference, working(engine=("reference",), device=("cpu",))) == {}


@pytest.mark.long
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_levels_have_the_law_of_mini_batches(optimizer):
    """Whose noise is never without, so that there are no rows to compare."""
    some = {"engine": ("levels",), "noise": ("mini-batches",), "device": ("cpu",)}
    assert failures(wrong_law, working(**some, optimizer=(optimizer,), update=("full",))) == {}


@pytest.mark.long
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("engine", ["jump", "levels"])
def test_rows_have_the_law_of_the_path(engine, noise, optimizer):
    some = working(engine=(engine,), device=("cpu",), noise=(noise,), optimizer=(optimizer,))
    assert failures(wrong_law, some) == {}


@pytest.fixture
def gpu(monkeypatch):
    """A GPU, which is quick where Numba simulates it."""
    if devices.why_not() is not None:
        pytest.skip(devices.why_not())
    with simulated_gpu.quick(monkeypatch):
        yield


@pytest.mark.parametrize("engine", ["step", "jump"])
def test_a_gpu_has_the_rows_of_the_cpu(engine, gpu):
    cell = Cell(engine, "cuda", "hessian", "schedule", "heavy ball", "bulk")
    assert failures(wrong_on_gpu, [cell]) == {}


@pytest.mark.long
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("engine", ["step", "jump"])
def test_rows_of_a_gpu_are_those_of_the_cpu(engine, noise, optimizer, gpu):
    some = working(engine=(engine,), device=("cuda",), noise=(noise,), optimizer=(optimizer,))
    assert failures(wrong_on_gpu, some) == {}


def wrong_on_gpu(cell):
    """Say how rows of few steps differ from those of the CPU; empty where they do not."""
    return difference(cell.run(steps=3), cell._replace(device="cpu").run(steps=3))


def test_the_page_says_what_runs():
    path = Path(__file__).parents[2] / "docs" / "what-runs-with-what.md"
    assert path.read_text() == what_runs.page()


def test_no_refusal_is_idle():
    used = {refusal_of(cell).says for cell in cells() if refusal_of(cell)}
    assert used == {refusal.says for refusal in what_runs.REFUSALS}
    assert isinstance(cells()[0], Cell)
