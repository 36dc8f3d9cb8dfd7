"""Everything pickles and copies: by value, read-only as it was, without what can be made again."""

import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import numba
import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.base.reports import ForkError
from suspalign_fast.engines.base import StepSizeError
from suspalign_fast.model import devices
from suspalign_fast.model.run import Run
from suspalign_fast.traces.checkpoint import CheckpointError

from ..conftest import assert_same_bits

DIM = 10**5


@numba.njit
def known_rule(row):
    return 1e-3


@numba.njit
def rule_with_state(row, state):
    return state[0]


def pickled(value):
    return pickle.loads(pickle.dumps(value))


def problem_of(noise, dim=DIM):
    return sa.Quadratic(sa.Spectrum.linear_bands(dim, 10), noise, initial=2.0)


def filled(problem):
    """A problem that has been asked for everything it keeps."""
    return problem, (problem.stds, problem.noise_constants, problem.noise_shape)


@pytest.mark.mostly_long
@pytest.mark.parametrize(
    "noise", [sa.IsotropicNoise(0.5), sa.HessianNoise(0.5), sa.DataNoise(4, 0.5)], ids=repr
)
@pytest.mark.parametrize(
    "travel", [copy.copy, copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))]
)
def test_problems_travel_without_what_follows(noise, travel):
    problem, _ = filled(problem_of(noise))
    problem.spectrum.compress()
    assert len(pickle.dumps(problem)) < 8 * DIM + 2_000
    there = travel(problem)
    assert there == problem
    assert there.spectrum.is_simple
    assert not there.spectrum.eigenvalues.flags.writeable
    assert not there.spectrum.multiplicities.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        there.spectrum.eigenvalues[0] = 1.0
    assert there.spectrum.compress() == problem.spectrum.compress()
    assert_same_bits(sa.simulate(there, 1e-7, 5), sa.simulate(problem, 1e-7, 5))


def test_given_arrays_travel_once():
    noise = sa.DiagonalNoise(np.linspace(0.1, 1.0, DIM))
    problem, _ = filled(sa.Quadratic(sa.Spectrum.linear_bands(DIM, 10), noise, np.ones(DIM)))
    assert len(pickle.dumps(problem)) < 3 * 8 * DIM + 2_000
    there = pickle.loads(pickle.dumps(problem))
    assert there == problem
    for array in (there.noise.values, there.initial, there.stds):
        assert not array.flags.writeable


def test_levels_and_compressed_spectra_travel():
    for spectrum in (
        sa.Spectrum([3.0, 1.0], 5, [5, 7]),
        sa.Spectrum([1.0, 3.0, 2.0], 1),
        sa.Spectrum.power_law(5_000, 5, 1.0).compress(),
        sa.Spectrum([3.0, 1.0], 1, [1, 1]),
    ):
        there = pickle.loads(pickle.dumps(spectrum))
        assert there == spectrum
        assert (there.dim, there.is_simple) == (spectrum.dim, spectrum.is_simple)
        assert there.is_compressed == spectrum.is_compressed


@pytest.mark.long
def test_a_rule_travels_by_the_place_of_its_function():
    rule = sa.RowStep(rule_with_state, state=[1.0, 2.0])
    assert len(pickle.dumps(rule)) < 1_000
    there = pickle.loads(pickle.dumps(rule))
    assert there == rule
    assert there.function is rule_with_state
    assert rule != sa.RowStep(known_rule)
    assert rule != sa.RowStep(rule_with_state, state=[1.0, 3.0])
    assert pickled(sa.RowStep(known_rule)) == sa.RowStep(known_rule)

    @numba.njit
    def inside(row):
        return 2e-3

    local = sa.RowStep(inside)
    there = pickle.loads(pickle.dumps(local))
    assert there == local
    assert there != rule
    problem = problem_of(sa.IsotropicNoise(0.5), 500)
    assert_same_bits(sa.simulate(problem, there, 5), sa.simulate(problem, local, 5))


def test_functions_of_the_same_name_differ():
    def made(value):
        @numba.njit
        def rule(row):
            return value

        return sa.RowStep(rule)

    assert made(1.0) != made(2.0)


def test_traces_travel(tmp_path):
    problem = problem_of(sa.DataNoise(4, 0.5), 500)
    path = tmp_path / "trace.h5"
    kept = sa.simulate(problem, 1e-3, 20)
    stored = sa.simulate(problem, 1e-3, 20, path=path)
    loaded = sa.load_trace(path)
    _ = loaded.loss, loaded.run
    assert kept == stored == loaded
    assert kept != sa.simulate(problem, 1e-3, 20, seed=1)
    assert kept != sa.simulate(problem, 1e-3, 21)
    for trace in (kept, stored, loaded):
        for there in (pickle.loads(pickle.dumps(trace)), copy.deepcopy(trace), copy.copy(trace)):
            assert there == trace
            assert_same_bits(there, trace)
            assert there.path == trace.path
            assert there.predicted == trace.predicted
    assert len(pickle.dumps(loaded)) < 1_000
    with pytest.raises(TypeError, match="unhashable"):
        hash(kept)


@pytest.mark.parametrize("noise", [sa.IsotropicNoise(0.5), sa.DataNoise(4)])
def test_a_trace_in_memory_equals_the_one_in_a_file(noise, tmp_path):
    problem, path = sa.Quadratic(sa.Spectrum.linear_bands(50, 5), noise), tmp_path / "a.h5"
    written = sa.simulate(problem, 1e-3, 10, path=path)
    assert written == sa.simulate(problem, 1e-3, 10) == sa.load_trace(path)
    assert written != sa.simulate(problem, 1e-3, 10, seed=1)


def test_measured_traces_travel():
    rows = {"step": [0, 1], "step_size": [0.1, 0.1]}
    rows |= {"power_sums": np.ones((2, 2, 4)), "noise_sums": np.zeros((2, 2, 3))}
    trace = sa.Trace.measured(rows, np.zeros((2, 3)), source="two losses")
    there = pickle.loads(pickle.dumps(trace))
    assert there == trace
    assert there.source == "two losses"
    assert trace != sa.Trace.measured(rows, np.ones((2, 3)), source="two losses")


@pytest.mark.parametrize(
    "error",
    [
        ForkError("x"),
        devices.DeviceError("x"),
        sa.Interrupted("x", 15),
        CheckpointError("x"),
        StepSizeError("x", None),
    ],
    ids=repr,
)
def test_errors_travel(error):
    there = pickle.loads(pickle.dumps(error))
    assert type(there) is type(error)
    assert there.args == error.args
    assert vars(there) == vars(error)


def test_an_error_with_rows_travels():
    @numba.njit
    def ends(row):
        return -1.0 if row.step == 3 else 1e-3

    problem = problem_of(sa.IsotropicNoise(0.5), 500)
    with pytest.raises(StepSizeError) as caught:
        sa.simulate(problem, ends, 10)
    there = pickle.loads(pickle.dumps(caught.value))
    assert str(there) == str(caught.value)
    np.testing.assert_array_equal(there.rows.power_sums, caught.value.rows.power_sums)


def simulated(run):
    """The trace of a run, in whatever process."""
    from suspalign_fast.running.simulate import execute

    return execute(run, num_threads=1)


@pytest.mark.long
def test_runs_go_to_other_processes_and_traces_come_back():
    problem = problem_of(sa.IsotropicNoise(0.5), 500)
    runs = [Run(problem, 1e-3, 20, seed=seed) for seed in (1, 2)]
    runs.append(Run(problem, sa.CriticalStep(0.9), 20, engine="levels"))
    bad = Run(problem, sa.RowStep(always_wrong), 20)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        for run, trace in zip(runs, pool.map(simulated, runs), strict=True):
            assert trace == simulated(run)
            assert_same_bits(trace, simulated(run))
        with pytest.raises(StepSizeError, match="finite numbers of at least zero"):
            pool.submit(simulated, bad).result()
        assert pool.submit(simulated, runs[0]).result().status == "complete"  # it goes on


@numba.njit
def always_wrong(row):
    return -1.0
