"""One run over the workers of an executor: each does steps of a shard, the caller adds the sums.

Shards are made of whole parts of the plan, and parts are added in their order: whoever did which,
rows have the bits of one machine.
"""

import os
import secrets
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..base import memory as _memory
from ..base import threads as _threads
from ..base.executors import in_order, workers_of
from ..base.registry import ENGINES
from ..kernels.blocks import BAND, BLOCK, part_length
from ..kernels.jit import source_digest
from ..model.run import MAX_STEPS, Run
from ..model.step_size import KnownStepSize
from ..physics.layout import NUM_BANDS, ROW_SIZE, SLICES
from ..physics.rows import Rows
from .base import STATE, Engine, Stretches
from .plan import Shard, check_directions, shard_of
from .step import StepEngine, initial_state

# --- What a worker does of a run: some steps of a shard, whose state comes and goes with the
# work.


Arrays = dict[str, NDArray[Any]]


class OtherVersionError(RuntimeError):
    """A worker's kernels are not those of the caller: rows would differ in their last digits."""


@dataclass(frozen=True)
class ShardSteps:
    """Steps of a shard.

    Attributes
    ----------
    run : Run
        Of the shard alone, its initial coefficients those of now: see `run_of`.
    shard : Shard
    step, num_steps : int
        Steps that are done, and to do.
    memory : dict of ndarray
        What steps change beside the state.
    wants_state : bool
        Whether the state after the steps is asked for.
    num_threads : int
    digest : str
        Of the caller's kernels.
    caller : int
        Its process.
    """

    run: Run
    shard: Shard
    step: int
    num_steps: int
    memory: Arrays
    wants_state: bool = True
    num_threads: int = 1
    digest: str | None = field(default_factory=source_digest)
    caller: int = field(default_factory=os.getpid)

    def __dask_tokenize__(self) -> str:
        """Return another text each time: Dask need not hash the arrays, and does work anew."""
        return secrets.token_hex(16)


class Moved(NamedTuple):
    """What comes back: rows with a line for each part, the parts' bands, and what steps changed."""

    rows: Rows
    bands: NDArray[np.int64]
    state: NDArray[Any] | None
    memory: Arrays


def do_steps(work: ShardSteps) -> Moved:
    """Do steps of a shard, wherever this is."""
    if work.digest != source_digest():
        raise OtherVersionError(
            "a worker of the executor has other kernels than the caller: install the same versions "
            "of suspalign-fast, Numba and llvmlite on all machines"
        )
    threads = min(work.num_threads, _threads.available())
    with _threads.limited(threads), np.errstate(all="ignore"), _in_peace(work.caller):
        engine = engine_of(work.run, work.shard, serial=threads == 1)
        arrays = engine.mutable()
        for name, values in work.memory.items():
            arrays[name][...] = values
        engine.step = work.step
        rows = [engine.initial_row()] if work.step == 0 else []
        rows.append(engine.advance(work.num_steps))
    return Moved(
        Rows.joined(rows),
        engine.plan.parts[:, BAND].copy(),
        engine.state if work.wants_state else None,
        memory_of(engine),
    )


def run_of(run: Run, shard: Shard, state: NDArray[Any] | None = None) -> Run:
    """Return the run of a shard, from its initial coefficients or from given ones."""
    return replace(run, problem=shard_of(run.problem, shard, state))


def engine_of(run: Run, shard: Shard, *, serial: bool) -> StepEngine:
    """Return the engine of a shard's run."""
    engine: StepEngine = ENGINES[run.engine](run, serial=serial, shard=shard)
    return engine


def memory_of(engine: StepEngine) -> Arrays:
    """Return what steps change beside the state."""
    return {name: values for name, values in engine.mutable().items() if name != STATE}


@contextmanager
def _in_peace(caller: int) -> Iterator[None]:
    """Leave Ctrl-C, which reaches all processes of a terminal, to the caller's process."""
    alone = threading.current_thread() is threading.main_thread()
    if os.getpid() == caller or not alone or signal.getsignal(signal.SIGINT) is None:
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


#: Shards of each worker, as some are faster than others and some die; and directions of a shard,
#: at most, where parts are not longer.
SHARDS, LARGEST = 4, 2**27
#: Seconds of a call, rows that it brings at most, and steps that it has at least for each worker,
#: between which the state comes here and goes back.
SECONDS, ROWS, LEAST = 5.0, 2**14, 256
#: Steps of a call at most, whose sizes are listed.
MOST = 2**18
#: Seconds of a normal, about.
NORMAL = 5e-10


class ShardedEngine(Engine):
    """A run whose shards an executor's workers take from stretch to stretch.

    The state comes back between stretches, so that any worker may take any shard; where a run is
    one stretch it is nowhere but with the workers.

    Parameters
    ----------
    run : Run
    executor : Executor
    num_threads : int
        Threads of each worker.

    Raises
    ------
    ValueError
        If the run cannot be sharded.
    MemoryError
        If there are too many rows for one stretch, and the state does not fit here.
    """

    def __init__(self, run: Run, executor: Executor, num_threads: int = 1) -> None:
        check_shardable(run)
        super().__init__(run)
        self.executor: Executor = executor
        self.num_threads: int = num_threads
        workers = workers_of(executor)
        dim = run.problem.spectrum.dim
        self.shards: list[Shard] = shards_of(dim, max(SHARDS * workers, -(-dim // LARGEST)))
        self.stretches: Stretches = _stretches(run, workers, num_threads)
        self.jumps: bool = ENGINES[run.engine].jumps
        self._memory: Arrays = _compiled(run)
        #: State of each shard, None before the first stretch.
        self._states: list[NDArray[Any] | None] = [None] * len(self.shards)

    def mutable(self) -> Arrays:
        """Return what steps change, as engines have it whose run is not sharded."""
        return {STATE: self._whole_state()} | self._memory

    def _whole_state(self) -> NDArray[Any]:
        """Return the state as one array, whose pieces are those of the shards from now on."""
        pieces = [piece for piece in self._states if piece is not None]
        if len(pieces) < len(self.shards):
            whole = initial_state(self.run)
        else:
            whole = np.concatenate(pieces)
        self._states = [whole[shard.first : shard.stop] for shard in self.shards]
        return whole

    def initial_row(self) -> Rows:
        """Return no row: it comes with those of the first stretch."""
        if self.run.num_steps == 0:
            return self._moved(0)
        return Rows.from_sums(*_EMPTY)

    def advance(self, num_steps: int) -> Rows:
        """Do `num_steps` steps and return the rows recorded on the way."""
        rows = self._moved(num_steps)
        self.step += num_steps
        return rows

    def _moved(self, num_steps: int) -> Rows:
        """Have all shards moved; what steps change stays as it is until they all are."""
        wants_state = self.step + num_steps < self.run.num_steps
        total, states, memory = None, [], self._memory
        works = self._works(num_steps, wants_state)
        for moved in in_order(self.executor, do_steps, works):
            total = add_parts(total, moved)
            states.append(moved.state)
            memory = moved.memory
        assert total is not None
        self._states, self._memory = states, memory
        return total

    def _works(self, num_steps: int, wants_state: bool) -> Iterator[ShardSteps]:
        for shard, state in zip(self.shards, self._states, strict=True):
            yield ShardSteps(
                run_of(self.run, shard, state), shard, self.step, num_steps, self._memory,
                wants_state=wants_state, num_threads=self.num_threads,
            )  # fmt: skip


def _compiled(run: Run) -> Arrays:
    """Have all kernels compiled, for workers to find in the cache; return what steps change.

    That is what they change beside the state, at the start.
    """
    dim = run.problem.spectrum.dim
    few = Shard(0, min(dim, BLOCK), dim)
    engine = engine_of(replace(run_of(run, few), record_every=1, record_at=None), few, serial=True)
    memory = {name: values.copy() for name, values in memory_of(engine).items()}
    engine.initial_row()
    engine.advance(min(1, run.num_steps))
    return memory


_EMPTY = np.empty(0, np.int64), np.empty(0), np.empty((0, NUM_BANDS, ROW_SIZE))


def check_shardable(run: Run) -> None:
    """Raise ValueError unless each direction of a run can go its way by itself."""
    instead = "take engine 'levels' on spectrum.compress(), which no large d makes slow"
    if run.optimizer.has_velocity:  # compressed spectra are for plain SGD alone
        got = f"got {run.optimizer!r}: run it without executor"
        raise ValueError(f"executor takes plain SGD, {got}")
    if not isinstance(run.step_size, KnownStepSize):
        raise ValueError(
            "executor takes runs whose step sizes are known in advance, got step_size = "
            f"{run.step_size!r}, which looks at the whole state after every step; {instead}"
        )
    if run.problem.noise.depends_on_state:
        raise ValueError(
            f"executor takes runs whose noise is additive, got {run.problem.noise!r}, which "
            f"depends on the whole state at every step; {instead}"
        )
    if run.device != "cpu":
        raise ValueError(f"executor takes device 'cpu', got {run.device!r}")
    if not ENGINES[run.engine].can_be_sharded:
        names = " and ".join(repr(n) for n in ENGINES.names() if ENGINES[n].can_be_sharded)
        raise ValueError(
            f"executor takes engines {names}, got {run.engine!r}: without executor, engine "
            "'levels' on spectrum.compress() takes one core whatever d is"
        )
    check_directions(run)


def shards_of(dim: int, count: int) -> list[Shard]:
    """Cut directions into at most `count` shards that start where parts do."""
    length = part_length(dim)
    units = -(-dim // length)
    count = min(count, units)
    ends = [min(dim, length * (units * i // count)) for i in range(count + 1)]
    return [Shard(first, stop, dim) for first, stop in pairwise(ends)]


def add_parts(total: Rows | None, moved: Moved) -> Rows:
    """Add the parts of a shard to rows of both bands, as one machine does: one after the other."""
    rows = moved.rows
    if total is None:
        total = Rows.from_sums(
            rows.step, rows.step_size, np.zeros((len(rows), NUM_BANDS, ROW_SIZE))
        )
    for name in SLICES:
        sums, parts = getattr(total, name), getattr(rows, name)
        for p, band in enumerate(moved.bands.tolist()):
            sums[:, band] += parts[:, p]
    return total


def _stretches(run: Run, workers: int, num_threads: int) -> Stretches:
    """Return how many steps workers should do at once."""
    size = 2 * np.dtype(run.dtype).itemsize * run.problem.spectrum.dim  # of two stretches
    there = _memory.available()
    if there is not None and size > there:
        if run.num_rows > ROWS:
            raise MemoryError(
                f"a run of {run.num_rows:,} rows, more than {ROWS:,}, brings its state here, "
                f"which needs {size / 1e9:,.3g} GB of {there / 1e9:,.3g} GB that are left; record "
                "fewer rows, or take engine 'levels' on spectrum.compress()"
            )
        return Stretches(run.num_steps, run.num_steps, MAX_STEPS, ROWS, SECONDS)
    steps = max(1, run.num_steps)
    seconds = ENGINES[run.engine].seconds(run, workers * num_threads, NORMAL) / steps
    jumps = ENGINES[run.engine].jumps
    least = LEAST * workers * (steps // run.num_rows if jumps else 1)
    first = max(least, int(SECONDS / max(seconds, 1e-12)))
    return Stretches(first, least, MAX_STEPS if jumps else MOST, ROWS, SECONDS)
