"""The entry function: run SGD on a quadratic and return its trace."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numba
from numpy.typing import ArrayLike
from tqdm import tqdm

from . import _checks
from .engines import Engine, make_engine
from .engines.base import StepSizeError
from .problem import Quadratic
from .run import Run
from .step_size import ForeignStep, StepSize
from .store import MemoryTrace, TraceWriter
from .trace import Trace

#: Bounds on how many rows and steps one call of an engine may cover.
MAX_ROWS = 4096
MAX_STEPS = 2**18
#: Seconds between two commits, and two moves of the progress bar.
COMMIT_INTERVAL = 0.2


def simulate(
    problem: Quadratic,
    step_size: float | ArrayLike | StepSize,
    num_steps: int,
    *,
    seed: int = 0,
    record_every: int = 1,
    record_at: ArrayLike | None = None,
    engine: str = "step",
    device: str = "cpu",
    update: str | tuple[float, float] = "full",
    path: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    num_threads: int | None = None,
    progress: bool = False,
) -> Trace:
    """Simulate SGD on a quadratic and record alignment, loss and power sums.

    Parameters
    ----------
    problem : Quadratic
        Spectrum, noise and initial state.
    step_size : float, array_like of shape (num_steps,), StepSize or numba function
        Step size eta, the same at every step, one a step, or a rule: `CriticalStep`,
        `LossIntervalStep`, `OnlineCriticalStep`, or a function of the row of your own compiled by
        ``numba.njit`` (`RowStep`).
    num_steps : int
        Number of SGD steps, at least 0.
    seed : int
        From 0 to 2**64 - 1. All random numbers are a pure function of it, the coordinate and the
        step: neither threads nor `record_every` nor `path` change a bit.
    record_every : int
        Record steps 0, record_every, 2 record_every, ...
    record_at : array_like of int, optional
        Record these steps instead, increasing and at most `num_steps`; step 0 is always recorded.
    engine : {"step", "jump", "levels", "reference"}
        "step" simulates every step of the sample path. "jump" draws one normal a coordinate and
        recorded row, "levels" two random numbers a level and row: both have exactly the same law
        at the recorded rows. "jump" needs step sizes known in advance. "reference" is "step" in
        plain NumPy.
    device : {"cpu"}
        Where the engine runs.
    update : {"full", "dominant", "bulk"} or tuple of two float
        Weights of the dominant and the bulk part of the update: "dominant" is Dom-SGD, (1, 0).
    path : path-like, optional
        Stream the trace to this HDF5 file; memory then does not grow with the number of steps.
    overwrite : bool
        Whether an existing file may be replaced.
    num_threads : int, optional
        Number of threads, by default all the machine has.
    progress : bool
        Show a progress bar on standard error.

    Returns
    -------
    Trace
        With ``status`` "complete", or "diverged" if a sum overflowed; it then holds the rows
        before. With `path`, columns are read from the file on first use.

    Raises
    ------
    ValueError
        If an argument is not as described, before any work starts; or if a rule returns a step
        size that is not a finite number of at least zero, naming the step. Rows before are kept.
    OSError
        If the file exists and `overwrite` is false, or cannot be written.
    """
    run = Run(
        problem=problem,
        step_size=step_size,  # type: ignore[arg-type]
        num_steps=num_steps,
        seed=seed,
        record_every=record_every,
        record_at=record_at,  # type: ignore[arg-type]
        engine=engine,
        device=device,
        update=update,  # type: ignore[arg-type]
    )
    if isinstance(run.step_size, ForeignStep):
        raise ValueError(
            f"step_size is the function {run.step_size.name!r} of a stored trace, whose code the "
            "file does not hold; pass the function itself"
        )
    with _threads(num_threads):
        simulator = make_engine(run)
        sink = MemoryTrace(run) if path is None else TraceWriter(path, run, overwrite=overwrite)
        with sink, _progress_bar(run, simulator, progress) as bar:
            sink.finish(_drive(simulator, sink, bar))
    return sink.trace()


def _drive(engine: Engine, sink: TraceWriter | MemoryTrace, bar: Any) -> str:
    """Run an engine to its last step, handing rows to `sink`; return the final status."""
    try:
        return _advance_to_end(engine, sink, bar)
    except StepSizeError as error:
        if error.rows is not None:
            sink.append(error.rows.finite_prefix())
        sink.finish("failed")
        raise


def _advance_to_end(engine: Engine, sink: TraceWriter | MemoryTrace, bar: Any) -> str:
    run = engine.run
    rows = engine.initial_row()
    stretch = 1
    while True:
        finite = rows.finite_prefix()
        sink.append(finite)
        if len(finite) < len(rows):
            return "diverged"
        if engine.step == run.num_steps:
            return "complete"
        stretch = _bounded(stretch, engine)
        started = time.perf_counter()
        rows = engine.advance(stretch)
        elapsed = time.perf_counter() - started
        bar.update(stretch)
        stretch = max(1, int(stretch * min(4.0, COMMIT_INTERVAL / max(elapsed, 1e-9))))


def _bounded(stretch: int, engine: Engine) -> int:
    """Steps of the next call: not too many at once, and not too many rows."""
    run = engine.run
    stretch = min(stretch, run.num_steps - engine.step)
    if not engine.jumps:
        stretch = min(stretch, MAX_STEPS)
    while engine.recorded_steps_count(stretch) > MAX_ROWS:
        stretch //= 2
    return stretch


@contextmanager
def _threads(num_threads: int | None) -> Iterator[None]:
    if num_threads is None:
        yield
        return
    count = _checks.integer("num_threads", num_threads, 1, numba.config.NUMBA_NUM_THREADS)
    before = numba.get_num_threads()
    numba.set_num_threads(count)
    try:
        yield
    finally:
        numba.set_num_threads(before)


def _progress_bar(run: Run, engine: Engine, visible: bool) -> Any:
    return tqdm(
        total=run.num_steps,
        initial=engine.step,
        unit="step",
        unit_scale=True,
        disable=not visible,
        smoothing=0.1,
        dynamic_ncols=True,
    )
