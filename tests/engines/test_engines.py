import functools
import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.engines import make_engine
from suspalign_fast.engines.plan import make_plan
from suspalign_fast.engines.reference import standard_normals
from suspalign_fast.engines.steppers import advance_known
from suspalign_fast.kernels import domains
from suspalign_fast.kernels.blocks import EDGE, FIRST, LAST, START, STOP
from suspalign_fast.model.run import Run
from suspalign_fast.physics.layout import ROW_SIZE

from ..conftest import assert_same_bits

SPECTRA = {
    "direct": lambda: sa.Spectrum.linear_bands(1500, 37),
    "band ends with a group": lambda: sa.Spectrum.linear_bands(1024, 64),
    "band ends with a block": lambda: sa.Spectrum.linear_bands(2500, 1024),
    "one dominant": lambda: sa.Spectrum.linear_bands(65, 1),
    "one bulk": lambda: sa.Spectrum.linear_bands(130, 129),
    "narrow": lambda: sa.Spectrum.linear_bands(3000, 70, (100.0, 99.5), (0.8, 0.797)),
    "two levels": lambda: sa.Spectrum.two_level(3000, 10, 5.0, 0.5),
    "levels": lambda: sa.Spectrum([3.0, 2.5, 1.0, 0.1, 0.0], 4, [3, 1, 700, 300, 1000]),
    "several parts": lambda: sa.Spectrum.linear_bands(30_000, 9_000, (9.0, 3.0), (1.0, 0.0)),
}


def simulate(problem, **changes):
    arguments = {"step_size": 4e-3, "num_steps": 60, "seed": 5} | changes
    return sa.simulate(problem, **arguments)


@pytest.mark.mostly_long
@pytest.mark.parametrize("name", SPECTRA)
def test_step_agrees_with_reference(name, noise):
    spectrum = SPECTRA[name]()
    problem = sa.Quadratic(spectrum, noise(spectrum.num_levels), initial=3.0)
    steps = 1000 if spectrum.dim < 5000 else 20
    actual = simulate(problem, num_steps=steps)
    expected = simulate(problem, num_steps=steps, engine="reference")
    for column, values in expected.columns().items():
        np.testing.assert_allclose(actual[column], values, rtol=1e-9, err_msg=column)


def test_schedules_initial_arrays_and_weights_agree_with_reference():
    rng = np.random.default_rng(2)
    spectrum = sa.Spectrum.linear_bands(700, 20)
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.2), initial=rng.normal(size=700))
    changes = {"step_size": rng.uniform(1e-3, 2e-2, 60), "update": (0.7, 1.3)}
    actual, expected = (
        simulate(problem, **changes),
        simulate(problem, engine="reference", **changes),
    )
    for column, values in expected.columns().items():
        np.testing.assert_allclose(actual[column], values, rtol=1e-9, err_msg=column)
    assert np.isnan(actual.step_size[-1])
    np.testing.assert_array_equal(actual.step_size[:-1], changes["step_size"])


def test_initial_value_per_level_stands_for_each_direction():
    spectrum = sa.Spectrum([3.0, 1.0], 2, [2, 100])
    per_level = sa.Quadratic(spectrum, initial=[5.0, -1.0])
    per_direction = sa.Quadratic(spectrum, initial=[5.0] * 2 + [-1.0] * 100)
    for engine in ("step", "reference"):
        assert_same_bits(simulate(per_level, engine=engine), simulate(per_direction, engine=engine))


@pytest.mark.parametrize("engine", ["step", "reference"])
@pytest.mark.parametrize(("update", "frozen", "moving"), [("dominant", 1, 0), ("bulk", 0, 1)])
def test_projected_updates_leave_the_other_band_alone(engine, update, frozen, moving):
    trace = simulate(sa.Quadratic(sa.Spectrum.linear_bands(300, 20)), update=update, engine=engine)
    assert (trace.power_sums[:, frozen] == trace.power_sums[0, frozen]).all()
    assert (np.diff(trace.power_sums[:, moving, 0]) != 0).all()


def test_any_record_every_gives_the_same_rows(noise):
    problem = sa.Quadratic(sa.Spectrum.linear_bands(1500, 37), noise(1500))
    every = simulate(problem, num_steps=300)
    for stride in (2, 7, 64, 299, 300, 301):
        assert_same_bits(simulate(problem, num_steps=300, record_every=stride), every,
                         slice(None, None, stride))  # fmt: skip


def test_any_chunking_of_steps_gives_the_same_bits(noise):
    problem = sa.Quadratic(sa.Spectrum.linear_bands(1500, 37), noise(1500))
    run = Run(problem, 4e-3, 200, record_every=3)
    whole = make_engine(run)
    rows = whole.advance(200)
    for stretches in ([1] * 200, [63, 1, 65, 71], [199, 1]):
        pieces = make_engine(run)
        parts = [pieces.advance(stretch) for stretch in stretches]
        np.testing.assert_array_equal(pieces.state, whole.state)
        for name in ("step", "step_size", "power_sums", "noise_sums"):
            joined = np.concatenate([getattr(part, name) for part in parts])
            np.testing.assert_array_equal(joined, getattr(rows, name))


THREADS_SCRIPT = """
import hashlib, sys
import numpy as np
import suspalign_fast as sa
from suspalign_fast.model.step_size import ConstantStep
from suspalign_fast.physics.row import ROW_SIZE
from suspalign_fast.engines.steppers import advance_known
from suspalign_fast.kernels import domains
from suspalign_fast.engines.reference import standard_normals
spectrum = sa.Spectrum.linear_bands(70_001, 20_011, (9.0, 3.0), (1.0, 0.0))
problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=2.0)
for threads in map(int, sys.argv[1:]):
    trace = sa.simulate(problem, 4e-3, 130, seed=5, num_threads=threads)
    print(hashlib.sha256(trace.power_sums.tobytes() + trace.noise_sums.tobytes()).hexdigest())
"""


@pytest.mark.long
def test_any_number_of_threads_gives_the_same_bits():
    spectrum = sa.Spectrum.linear_bands(70_001, 20_011, (9.0, 3.0), (1.0, 0.0))
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=2.0)
    here = simulate(problem, num_steps=130, num_threads=1)
    expected = hashlib.sha256(here.power_sums.tobytes() + here.noise_sums.tobytes()).hexdigest()
    process = subprocess.run(
        [sys.executable, "-c", THREADS_SCRIPT, "1", "2", "16"],
        env=os.environ | {"NUMBA_NUM_THREADS": "16"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert process.stdout.split() == [expected] * 3


@pytest.mark.parametrize(("dim", "k"), [(2, 1), (65, 64), (8192, 100), (2**20, 1024), (10**8, 7)])
def test_a_plan_covers_every_coordinate_once_and_keeps_bands_apart(dim, k):
    plan = make_plan(sa.Quadratic(sa.Spectrum.two_level(dim, k, 2.0, 1.0)))
    blocks, parts = plan.blocks, plan.parts
    assert blocks[0, START] == 0
    assert blocks[-1, STOP] == dim
    np.testing.assert_array_equal(blocks[1:, START], blocks[:-1, STOP])
    assert (blocks[:, STOP] - blocks[:, START] <= 1024).all()
    assert (blocks[blocks[:, EDGE] == 0, START] % 1024 == 0).all()
    assert parts[0, FIRST] == 0
    assert parts[-1, LAST] == len(blocks)
    np.testing.assert_array_equal(parts[1:, FIRST], parts[:-1, LAST])
    for band, first, last in parts:
        dominant = blocks[last - 1, STOP] <= k
        assert (band == 0) == dominant
        assert dominant or blocks[first, START] >= k
    assert len(parts) < 300
    assert plan.shared.size <= 10 * 1024


def test_seed_changes_the_path_and_equal_seeds_repeat_it():
    problem = sa.Quadratic(sa.Spectrum.linear_bands(300, 20))
    assert_same_bits(simulate(problem), simulate(problem))
    assert (simulate(problem, seed=6).loss != simulate(problem).loss).all()


def test_too_many_dimensions_for_one_number_each_are_refused():
    with pytest.raises(ValueError, match=f"at most {2**50} dimensions, got {2**52}"):
        simulate(sa.Quadratic(sa.Spectrum.two_level(2**52, 10, 2.0, 1.0)))


@pytest.mark.long
@pytest.mark.parametrize("optimizer", [sa.SGD(), sa.Momentum(0.9)], ids=str)
@pytest.mark.parametrize("engine", ["jump", "levels"])
@pytest.mark.parametrize("is_schedule", [False, True])
def test_an_overflowed_factor_leaves_exact_zeros_alone(engine, is_schedule, optimizer):
    """|1 - eta lambda|^n is infinite for the first direction, whose coefficient is zero."""
    size, how = 1.5 * optimizer.largest, {"engine": engine, "optimizer": optimizer}
    sizes = np.full(3_000, size) if is_schedule else size
    noise = sa.DiagonalNoise([0.0, 0.1, 0.1])
    problem = sa.Quadratic(sa.Spectrum([1.0, 0.3, 0.1], 1), noise, [0.0, 2.0, 1.0])
    trace = sa.simulate(problem, sizes, 3_000, record_every=1_500, **how)
    assert trace.status == "complete"
    assert (trace.power_sums[:, 0] == 0.0).all()
    assert (trace.power_sums[:, 1] > 0.0).all()
    moving = sa.Quadratic(problem.spectrum, noise, [1.0, 2.0, 1.0])
    assert sa.simulate(moving, sizes, 3_000, record_every=1_500, **how).status == "diverged"


def test_a_level_at_zero_takes_no_step_of_an_overflowed_factor():
    import numba

    @numba.njit
    def huge(row):
        return 1e300

    spectrum = sa.Spectrum([1e20, 1e-290], 10, [10, 20])
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.0), [0.0, 1.0])
    trace = sa.simulate(problem, huge, 1, engine="levels")
    assert (trace.power_sums[:, 0] == 0.0).all()


@pytest.mark.parametrize("steps", [1, 4, 11])
def test_a_move_is_a_drift_and_a_spread_of_each_band(steps):
    """Coefficient and noise have factors of their own: alone, and in tiles of equal moves."""
    spectrum = sa.Spectrum.linear_bands(3000, 1100)
    problem = sa.Quadratic(spectrum, sa.HessianNoise(0.3), initial=2.0)
    engine = make_engine(Run(problem, sa.ConstantStep(1e-3), steps, seed=5))
    moves = np.empty((steps, 2, 2))
    moves[:] = [[-1e-3, 2e-3], [-3e-3, -5e-3]]
    moves[8:] = [[2e-3, -1e-3], [-4e-3, 7e-3]]
    lam, std, expected = spectrum.eigenvalues, problem.stds, engine.state.copy()
    band = (np.arange(3000) >= 1100).astype(int)
    for t, move in enumerate(moves):
        xi = standard_normals(5, domains.STEP, t, 3000)
        drift, spread = move[band].T
        expected += drift * lam * expected + spread * std * xi
    sums = np.empty((steps, 2, ROW_SIZE))
    advance_known(*engine.model(), 0, moves, np.arange(steps), *engine.key, sums)
    np.testing.assert_allclose(engine.state, expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(sums[-1, :, 1], spectrum.band_sums((lam * expected) ** 2), rtol=1e-9)


def test_many_levels_go_by_parts_that_threads_share(monkeypatch):
    from suspalign_fast.engines import levels

    problem = sa.Quadratic(sa.Spectrum.linear_bands(5001, 2501), sa.IsotropicNoise(0.5))
    run = functools.partial(sa.simulate, problem, 1e-3, 20, engine="levels")
    whole, alone = run(), run(num_threads=1)
    assert_same_bits(whole, alone)
    monkeypatch.setattr(levels, "PART", 10**6)
    for name in ("power_sums", "noise_sums"):
        np.testing.assert_allclose(run()[name], whole[name], rtol=1e-13)
