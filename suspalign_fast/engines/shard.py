"""What a worker does of a run: some steps of a shard, whose state comes and goes with the work."""

import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _threads
from ..kernels.jit import source_digest
from ..kernels.plan import BAND
from ..run import Run
from ..shard import Shard, shard_of
from ..spec import ENGINES
from .base import STATE, Rows
from .step import StepEngine

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
