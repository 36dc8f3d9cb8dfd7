"""One run over many workers: the bits of one machine, whoever works, dies or is missing."""

import concurrent.futures
import contextlib
import dataclasses
import os
import pickle
import signal
import subprocess
import sys
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.base.executors import ATTEMPTS, ExecutorStoppedError, in_order, workers_of
from suspalign_fast.engines import sharded
from suspalign_fast.engines import sharded as remote
from suspalign_fast.engines.plan import Shard, make_plan, shard_of
from suspalign_fast.engines.reference import standard_normals
from suspalign_fast.kernels import domains
from suspalign_fast.kernels.blocks import FIRST, KIND, START, STOP, part_length
from suspalign_fast.model.noise import Scaling
from suspalign_fast.model.run import Run
from suspalign_fast.running import driver
from suspalign_fast.traces.checkpoint import checkpoint_path

from ..conftest import assert_same_bits
from ..helpers.pools import POOLS, Deadly, processes

DIM, STEPS = 30_000, 50


class OfAllLevels(sa.Noise):
    """A law that a shard could not tell from its own levels."""

    def scaling(self, spectrum):
        return Scaling(1.0 / spectrum.eigenvalues[-1], 1)


class OwnNoise(sa.Noise):
    """No law, and numbers that depend on all levels."""

    def stds(self, spectrum):
        return np.linspace(0.1, 1.0, spectrum.num_levels)


class Nearly(sa.Noise):
    """Numbers that are those of a law, but for the last digits."""

    def scaling(self, spectrum):
        return Scaling(0.3, 1)

    def stds(self, spectrum):
        return self.scaling(spectrum).stds(spectrum.eigenvalues) * (1.0 + 1e-13)


class Steep(sa.Noise):
    """A law that no model of the package has."""

    def scaling(self, spectrum):
        return Scaling(0.3, 2)


def close(k=1037, noise=None, initial=3.0):
    return sa.Quadratic(sa.Spectrum.linear_bands(DIM, k), noise, initial)


def wide(noise):
    return sa.Quadratic(sa.Spectrum.power_law(DIM + 77, 20, 1.0), noise, 2.0)


def levels(noise=None, initial=3.0):
    spectrum = sa.Spectrum([100.0, 90.0, 2.0, 0.5, 0.0], 1300, [300, 1000, 9_000, 7_001, 350])
    return sa.Quadratic(spectrum, noise, initial)


def simple_at_first():
    """A spectrum whose first shards have a level for each direction, and whose last has not."""
    lam = np.r_[np.linspace(100.0, 80.0, 50), np.linspace(10.0, 1.0, 20_000)]
    return sa.Quadratic(sa.Spectrum(lam, 50, np.r_[np.ones(20_049), 9_000]), initial=2.0)


def unsorted():
    lam = np.random.default_rng(0).permutation(np.linspace(1.0, 50.0, 5_000))
    noise = sa.DiagonalNoise(np.linspace(0.1, 1.0, lam.size))
    return sa.Quadratic(sa.Spectrum(lam, 100), noise, np.linspace(-3.0, 3.0, lam.size))


SCHEDULE = np.linspace(0.0, 6e-3, STEPS)
CASES = {
    "close": lambda: (close(), 3e-3, {}),
    "gap beyond a shard": lambda: (close(12_001), 3e-3, {}),
    "hessian, weights": lambda: (
        wide(sa.HessianNoise(0.3)), 3e-3, {"update": (0.5, 1.5), "record_every": 7},
    ),
    "schedule, float32": lambda: (wide(sa.IsotropicNoise(0.5)), SCHEDULE, {"dtype": "float32"}),
    "given noise": lambda: (
        close(noise=sa.DiagonalNoise(np.linspace(0.2, 1.4, DIM))), 3e-3, {"update": "bulk"},
    ),
    "levels": lambda: (levels(), 3e-3, {"record_at": [1, 2, 30, 49]}),
    "levels, schedule": lambda: (levels(sa.HessianNoise(0.1)), SCHEDULE, {}),
    "levels, started": lambda: (levels(initial=[1.0, 2.0, 3.0, 4.0, 5.0]), 3e-3, {}),
    "simple at first": lambda: (simple_at_first(), 3e-3, {"record_every": 3}),
    "started": lambda: (unsorted(), 3e-3, {}),
    "law of all levels": lambda: (wide(OfAllLevels()), 3e-3, {}),
    "nearly a law": lambda: (wide(Nearly()), 3e-3, {}),
    "steep law": lambda: (wide(Steep()), 3e-3, {}),
    "parts of many blocks": lambda: (
        sa.Quadratic(sa.Spectrum.linear_bands(600_001, 5_000)), 3e-3, {"num_steps": 8},
    ),
    "own noise": lambda: (levels(OwnNoise()), 3e-3, {}),
    "diverges": lambda: (close(), 30.0, {"update": "dominant"}),
    "tiny": lambda: (sa.Quadratic(sa.Spectrum([5.0, 4.0, 1.0, 0.3], 2)), 1e-2, {}),
    "no steps": lambda: (close(), 1e-3, {"num_steps": 0}),
}  # fmt: skip


def run(case, engine, **how):
    problem, size, options = CASES[case]()
    return sa.simulate(problem, size, **({"num_steps": STEPS} | options | how), engine=engine)


@pytest.fixture(scope="module")
def pool():
    with processes() as made:
        yield made


@pytest.fixture
def threads():
    with ThreadPoolExecutor(2) as made:
        yield made


@pytest.fixture
def short(monkeypatch):
    """Have stretches end after seven rows, so that states come and go."""
    monkeypatch.setattr(sharded, "ROWS", 7)


@pytest.mark.long
@pytest.mark.parametrize("engine", ["step", "jump"])
@pytest.mark.parametrize("case", CASES)
def test_shards_have_the_bits_of_one_machine(case, engine, pool, monkeypatch):
    expected = run(case, engine)
    if case == "diverges":
        assert expected.status == "diverged"
    assert_same_bits(run(case, engine, executor=pool), expected)
    for workers in (1, 2, 3):
        with ThreadPoolExecutor(workers) as threads:
            found = run(case, engine, executor=threads)
            assert found.status == expected.status
            assert_same_bits(found, expected)
    monkeypatch.setattr(sharded, "ROWS", 7)
    assert_same_bits(run(case, engine, executor=pool), expected)
    assert_same_bits(run(case, engine, executor=pool, num_threads=2), expected)


@pytest.mark.parametrize("name", ["loky", "dask"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_other_executors_have_them_too(name, short):
    executor = POOLS[name]()
    try:
        assert workers_of(executor) == 2
        for engine in ("step", "jump"):
            found = run("close", engine, executor=executor)
            assert_same_bits(found, run("close", engine))
    finally:
        executor.shutdown(wait=True)


def works_of(monkeypatch):
    """Return a list of the work that will have been handed out."""
    given = []

    def noted(work):
        given.append(work)
        return remote.do_steps(work)

    monkeypatch.setattr(sharded, "do_steps", noted)
    return given


def test_work_is_spread_over_shards_of_whole_parts(threads, monkeypatch):
    given, do_steps = [], sharded.do_steps
    monkeypatch.setattr(sharded, "do_steps", lambda work: given.append(work) or do_steps(work))
    run("close", "step", executor=threads)
    whole = make_plan(close())
    assert len(given) == 8
    assert [work.shard.first for work in given] == [0, *(work.shard.stop for work in given[:-1])]
    assert given[-1].shard.stop == DIM
    starts = whole.blocks[whole.parts[:, FIRST], START]
    assert {work.shard.first for work in given} <= set(starts.tolist())
    assert all(len(pickle.dumps(work)) < 8 * DIM / 8 + 10_000 for work in given)
    assert not any(work.wants_state for work in given)  # one stretch is the whole run


def test_shards_of_large_problems_are_small(threads):
    problem = sa.Quadratic(sa.Spectrum.two_level(2**32, 5, 2.0, 1.0))
    shards = sharded.ShardedEngine(Run(problem, 1e-3, 5), threads).shards
    assert max(shard.stop - shard.first for shard in shards) <= sharded.LARGEST
    assert sum(shard.stop - shard.first for shard in shards) == 2**32


@pytest.mark.parametrize(
    "case", ["close", "gap beyond a shard", "levels", "simple at first", "parts of many blocks"]
)
def test_plans_of_shards_are_that_of_the_whole(case):
    problem, _, _ = CASES[case]()
    whole, columns = make_plan(problem), [START, STOP, KIND]
    blocks, parts = [], []
    for shard in sharded.shards_of(problem.spectrum.dim, 7):
        plan = make_plan(shard_of(problem, shard), shard)
        before = sum(map(len, blocks))
        parts.append(plan.parts + np.array([0, before, before]))
        blocks.append(plan.blocks[:, columns] + np.array([shard.first, shard.first, 0]))
    np.testing.assert_array_equal(np.concatenate(blocks), whole.blocks[:, columns])
    np.testing.assert_array_equal(np.concatenate(parts), whole.parts)


COMPILED = """
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from suspalign_fast.engines import make_engine, sharded
from suspalign_fast.kernels import advance, batch, jump
from suspalign_fast.model.run import Run
from tests.engines.test_sharded import CASES

def versions():
    kernels = advance.advance_parts, advance.sum_parts, batch.fill_normals
    return [k.signatures for k in (*kernels, jump.jump_parts, jump.jump_parts_by_size)]

with ThreadPoolExecutor(1) as pool, np.errstate(all="ignore"):
    for name in sys.argv[2:]:
        problem, size, options = CASES[name]()
        run = Run(problem, size, engine=sys.argv[1], num_steps=50, **options)
        engine, there = make_engine(run, executor=pool), versions()
        engine.advance(run.num_steps)
        assert versions() == there, name
        print("same")
"""


@pytest.mark.long
@pytest.mark.parametrize("engine", ["step", "jump"])
def test_kernels_are_compiled_before_workers_start(engine):
    names = ["close", "schedule, float32", "levels, schedule", "started"]
    found = subprocess.run(
        [sys.executable, "-c", COMPILED, engine, *names], capture_output=True, text=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == ["same"] * 4


# --- files -----------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_checkpoint_of_another_run_does_not_stay(tmp_path, threads, monkeypatch):
    path = tmp_path / "trace.h5"
    interrupted(monkeypatch, 20, "close", "step", path=path)
    assert checkpoint_path(path).exists()
    stretches = driver._stretches

    def interrupting(engine):
        os.kill(os.getpid(), signal.SIGINT)
        return stretches(engine)

    monkeypatch.setattr(driver, "_stretches", interrupting)
    with pytest.raises(sa.Interrupted, match="stopped at step 0 of 50"):
        run("close", "jump", path=path, overwrite=True, executor=threads)
    monkeypatch.undo()
    assert not checkpoint_path(path).exists()
    assert_same_bits(sa.resume(path), run("close", "jump"))


def test_a_pool_that_breaks_at_once_brings_no_state_here(tmp_path, monkeypatch):
    def too_large(run):
        raise MemoryError("the state of all directions")

    monkeypatch.setattr(sharded, "initial_state", too_large)
    wrong = pytest.raises(ExecutorStoppedError, match=r"lost at .*; stopped at step 0 of 50")
    with wrong:
        run("close", "step", executor=Losing(OSError()), path=tmp_path / "trace.h5")
    with ThreadPoolExecutor(2) as pool:
        trace = sa.resume(tmp_path / "trace.h5", executor=pool)
    assert_same_bits(trace, run("close", "step"))


@pytest.mark.parametrize("engine", ["step", "jump"])
def test_rows_go_to_files(tmp_path, engine, pool, short):
    path = tmp_path / "trace.h5"
    trace = run("levels, schedule", engine, executor=pool, path=path, checkpoint_every=1e-9)
    assert_same_bits(trace, run("levels, schedule", engine))
    assert sa.load_trace(path).status == "complete"
    assert [p.name for p in tmp_path.iterdir()] == ["trace.h5"]


def interrupted(monkeypatch, step, *what, **how):
    """Start a run that is interrupted at a step."""
    bounded, sent = driver._bounded, []

    def stopping(stretch, engine):
        if engine.step >= step and not sent:
            sent.append(os.kill(os.getpid(), signal.SIGINT))
        return min(7, bounded(stretch, engine))

    with monkeypatch.context() as patch:
        patch.setattr(driver, "_bounded", stopping)
        with pytest.raises(sa.Interrupted):
            run(*what, **how)


@pytest.mark.mostly_long
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(("case", "engine"), [("close", "step"), ("schedule, float32", "jump")])
@pytest.mark.parametrize("at", [0, 20])
def test_interrupted_runs_go_on_anywhere(tmp_path, case, engine, at, threads, short, monkeypatch):
    expected = run(case, engine)
    for how in ({}, {"executor": threads}):
        path = tmp_path / f"{len(how)}.h5"
        interrupted(monkeypatch, at, case, engine, executor=threads, path=path)
        assert checkpoint_path(path).exists()
        assert_same_bits(sa.resume(path, **how), expected)
    interrupted(monkeypatch, at, case, engine, path=tmp_path / "plain.h5")
    assert_same_bits(sa.resume(tmp_path / "plain.h5", executor=threads), expected)


# --- workers that die ------------------------------------------------------------------------


@pytest.mark.long
def test_work_of_workers_that_die_is_done_by_others(tmp_path, short):
    with Deadly(processes, tmp_path, deaths=2) as executor:
        assert_same_bits(run("close", "step", executor=executor), run("close", "step"))
        assert executor.died == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_dask_gives_it_to_others_itself(tmp_path):
    with Deadly(POOLS["dask"], tmp_path, deaths=1) as executor:
        assert_same_bits(run("close", "step", executor=executor), run("close", "step"))
        assert executor.died == 1


@pytest.mark.long
def test_a_pool_that_breaks_ends_a_run_in_one_sentence(tmp_path):
    wrong = pytest.raises(ExecutorStoppedError, match=r"^the executor takes no more work: .*")
    with Deadly(processes, tmp_path, deaths=1, renews=False) as executor, wrong as caught:
        run("close", "step", executor=executor)
    assert "\n" not in str(caught.value)


@pytest.mark.long
def test_a_pool_that_breaks_leaves_rows_and_a_checkpoint(tmp_path, short):
    path, deaths = tmp_path / "trace.h5", tmp_path / "deaths"
    deaths.mkdir()
    expected = run("close", "jump")
    said = r"takes no more work: .*; stopped at step 2\d of 50; resume with: suspalign resume"
    wrong = pytest.raises(ExecutorStoppedError, match=said)
    dying = Deadly(processes, deaths, deaths=1, renews=False, when=lambda work: work.step > 19)
    with dying as executor, wrong:
        run("close", "jump", executor=executor, path=path)
    left = sa.load_trace(path)
    assert left.status == "interrupted"
    assert 20 < len(left) < 31
    assert_same_bits(left, expected, slice(0, len(left)))
    assert_same_bits(sa.resume(path), expected)


def test_work_that_kills_everyone_is_given_up(tmp_path):
    wrong = pytest.raises(ExecutorStoppedError, match=f"{ATTEMPTS} workers in turn were lost")
    lost = Losing(BrokenPipeError("the worker is gone"))
    with wrong:
        run("close", "step", executor=lost)
    assert lost.given >= ATTEMPTS


class Losing(Executor):
    """An executor whose work always ends with one error."""

    def __init__(self, error):
        self.error, self.given = error, 0

    def submit(self, function, work):
        self.given += 1
        future = Future()
        future.set_exception(self.error)
        return future


def test_errors_of_the_work_itself_are_raised_at_once():
    failing = Losing(ZeroDivisionError("no"))
    failing._max_workers = 1
    with pytest.raises(ZeroDivisionError):
        run("close", "step", executor=failing)
    assert failing.given == 2  # those that are ahead


def test_an_executor_that_is_shut_down():
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(ExecutorStoppedError, match="the executor takes no more work"):
        run("close", "step", executor=pool)


def test_workers_with_other_kernels_are_refused():
    shard = sharded.shards_of(DIM, 1)[0]
    work = remote.ShardSteps(Run(close(), 1e-3, 5), shard, 0, 5, {})
    assert len(remote.do_steps(work).rows) == 6
    with pytest.raises(remote.OtherVersionError, match="install the same versions"):
        remote.do_steps(dataclasses.replace(work, digest="another"))


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_control_c_is_left_to_the_caller():
    """It reaches the workers of a terminal, too."""
    before = signal.getsignal(signal.SIGINT)
    with remote._in_peace(caller=-1):
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt), remote._in_peace(caller=os.getpid()):
        signal.raise_signal(signal.SIGINT)


def test_a_few_pieces_of_work_are_made_ahead():
    made = []

    def items():
        for i in range(50):
            made.append(i)
            yield i

    with ThreadPoolExecutor(3) as pool:
        for i, result in enumerate(in_order(pool, lambda i: i * i, items())):
            assert result == i * i
            assert len(made) <= i + 6
    assert len(made) == 50


# --- large dimensions ------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 2**33 + 2**28, 2**34, 2**35 + 2**34])
def test_directions_beyond_the_counters_of_a_word(first):
    dim, size, eta = 2**36, 5_000, 1e-2
    assert first % part_length(dim) == 0
    problem = sa.Quadratic(sa.Spectrum.two_level(dim, 7, 3.0, 2.0), initial=5.0)
    shard = Shard(first, first + size, dim)
    whole = Run(problem, eta, 3, seed=2**40 + 3)
    work = remote.ShardSteps(remote.run_of(whole, shard), shard, 0, 3, {})
    assert len(pickle.dumps(work)) < 5_000
    moved = remote.do_steps(work)
    lam = np.where(np.arange(first, first + size) < 7, 3.0, 2.0)
    c = 5.0 * standard_normals(whole.seed, domains.INITIAL, 0, size, first // 64)
    for step in range(3):
        c -= eta * (lam * c + standard_normals(whole.seed, domains.STEP, step, size, first // 64))
    np.testing.assert_allclose(moved.state, c, rtol=1e-13)
    sums = moved.rows.power_sums[-1].sum(0)
    np.testing.assert_allclose(sums, [(lam**p * c**2).sum() for p in (1, 2, 3, 4)], rtol=1e-12)


def test_a_state_that_does_not_fit_stays_with_the_workers(threads, short, monkeypatch):
    monkeypatch.setattr(sharded._memory, "available", lambda: 1000)
    with pytest.raises(MemoryError, match=r"51 rows, more than 7, brings its state here"):
        run("close", "step", executor=threads)
    monkeypatch.setattr(sharded, "ROWS", 51)
    monkeypatch.setattr(sharded, "SECONDS", 1e-9)
    monkeypatch.setattr(sharded, "LEAST", 1)
    given, do_steps = [], sharded.do_steps
    monkeypatch.setattr(sharded, "do_steps", lambda work: given.append(work) or do_steps(work))
    assert_same_bits(run("close", "step", executor=threads), run("close", "step"))
    assert {(work.num_steps, work.wants_state) for work in given} == {(STEPS, False)}


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"step_size": sa.CriticalStep(0.9)}, r"known in advance, got .*'levels' on spectrum.comp"),
        (
            {"problem": close(noise=sa.DataNoise(999))},
            r"noise is additive, got .*spectrum.compress",
        ),
        ({"optimizer": sa.Momentum(0.9)}, "plain SGD, got Momentum.*: run it without executor$"),
        (
            {"optimizer": sa.Momentum(0.9), "step_size": sa.CriticalStep(0.9)},
            "plain SGD, got Momentum.*: run it without executor$",
        ),
        (
            {"optimizer": sa.Momentum(0.9), "problem": close(noise=sa.DataNoise(999))},
            "plain SGD, got Momentum.*: run it without executor$",
        ),
        ({"engine": "levels"}, r"engines 'step' and 'jump', got 'levels': .*spectrum.compress"),
        ({"engine": "reference"}, "engines 'step' and 'jump', got 'reference'"),
        ({"num_threads": 0}, "num_threads must be an integer of at least 1"),
        ({"executor": 3}, "executor must be a concurrent.futures.Executor, got 3"),
        ({"executor": ThreadPoolExecutor}, "executor must be a concurrent.futures.Executor"),
    ],
)
def test_what_cannot_be_sharded_is_refused_before_work_starts(how, message):
    lost = Losing(RuntimeError("work has started"))
    given = {"problem": close(), "step_size": 1e-3, "num_steps": 5, "executor": lost} | how
    with pytest.raises(ValueError, match=message) as caught:
        sa.simulate(**given)
    assert "\n" not in str(caught.value)
    assert lost.given == 0


def test_interpreters_beside_this_one_are_refused(monkeypatch):
    """Python 3.14 has an executor of them; NumPy and Numba load in the first one alone."""
    given = []

    class Interpreters(ThreadPoolExecutor):
        def submit(self, *work):
            given.append(work)

    monkeypatch.setattr(concurrent.futures, "InterpreterPoolExecutor", Interpreters, raising=False)
    pool = Interpreters(1)
    with pytest.raises(ValueError, match="executor must be one of threads or processes"):
        sa.simulate(close(), 1e-3, 5, executor=pool)
    with pytest.raises(ValueError, match="executor must be one of threads or processes"):
        sa.sweep(lambda a: (close(), {"step_size": a}), {"a": [1e-3]}, 5, executor=pool)
    assert given == []


def test_compressed_spectra_and_gpus_are_refused():
    few = sa.Quadratic(sa.Spectrum.power_law(DIM, 10, 1.0).compress())
    with pytest.raises(ValueError, match="a compressed spectrum has none; take engine 'levels'"):
        sa.simulate(few, 1e-3, 5, executor=Losing(RuntimeError("work has started")))
    on_gpu = Run(close(), 1e-3, 5)
    object.__setattr__(on_gpu, "device", "cuda")
    with pytest.raises(ValueError, match="executor takes device 'cpu', got 'cuda'"):
        sharded.check_shardable(on_gpu)


def test_nothing_is_left_behind_by_a_refusal(tmp_path):
    with contextlib.suppress(ValueError):
        run("close", "levels", executor=Losing(RuntimeError()), path=tmp_path / "trace.h5")
    assert list(tmp_path.iterdir()) == []
