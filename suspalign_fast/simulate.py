"""The entry function: run SGD on a quadratic and return its trace."""

import dataclasses
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike
from tqdm import tqdm

from . import _checks, _hdf5, _lock, checkpoint, devices
from ._column import COMPRESSIONS
from .engines import Engine, make_engine
from .engines.base import StepSizeError
from .problem import Quadratic
from .run import Run
from .step_size import StepSize, refuse_foreign
from .store import MemoryTrace, TraceWriter, load_trace, read_run_id
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
    dtype: str = "float64",
    update: str | tuple[float, float] = "full",
    path: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    compression: str = "gzip",
    checkpoint_every: float = 60.0,
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
    device : {"cpu", "cuda", "auto"}
        Where the engine runs. "cuda" is an NVIDIA GPU, for engines "step" and "jump": the same
        noise and coefficients, sums that differ in the last digits (the order of addition is
        another). "auto" is the GPU where there is a usable one, whatever the problem, else the
        CPU.
    dtype : {"float64", "float32"}
        Type of the state in engines "step", "jump" and "reference". A float32 state takes half
        the memory and is rounded to after every step: a coefficient no longer moves where a step
        changes it by less than 6e-8 of itself. Arithmetic and sums are float64 either way.
    update : {"full", "dominant", "bulk"} or tuple of two float
        Weights of the dominant and the bulk part of the update: "dominant" is Dom-SGD, (1, 0).
    path : path-like, optional
        Stream the trace to this HDF5 file; memory then does not grow with the number of steps.
    overwrite : bool
        Whether an existing file may be replaced.
    compression : {"gzip", "none"}
        How the file stores its arrays. "none" is faster where rows cost next to nothing.
    checkpoint_every : float
        With `path`, seconds between checkpoints of the state, written beside the trace and removed
        when the run completes. SIGINT and SIGTERM write one and end the run; `resume` goes on.
    num_threads : int, optional
        Number of threads, by default all the machine has; of no effect on a GPU.
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
    DeviceError
        If no GPU is usable; the message says what was looked for.
    OSError
        If the file exists and `overwrite` is false, is being written by another run, or cannot be
        written.
    Interrupted
        After SIGINT or SIGTERM of a run with a file, which can be resumed.
    """
    every = _checks.real("checkpoint_every", checkpoint_every, positive=True)
    _checks.choice("compression", compression, COMPRESSIONS)
    run = Run(
        problem=problem,
        step_size=step_size,  # type: ignore[arg-type]
        num_steps=num_steps,
        seed=seed,
        record_every=record_every,
        record_at=record_at,  # type: ignore[arg-type]
        engine=engine,
        device=devices.resolve(device, engine),
        dtype=dtype,
        update=update,  # type: ignore[arg-type]
    )
    with _threads(num_threads), _quiet():
        if path is None:
            return run_in_memory(run, progress=progress)
        with _lock.exclusive(path):
            _hdf5.check_new(path, overwrite=overwrite)
            simulator = make_engine(run)
            writer = TraceWriter(path, run, overwrite=overwrite, compression=compression)
            checkpoint.checkpoint_path(writer.path).unlink(missing_ok=True)
            return _run_to_file(simulator, writer, every, progress)


def resume(
    path: str | os.PathLike[str],
    *,
    num_steps: int | None = None,
    device: str | None = None,
    checkpoint_every: float = 60.0,
    num_threads: int | None = None,
    progress: bool = False,
) -> Trace:
    """Go on with a run that was interrupted or killed, or extend one that is complete.

    Everything is taken from the file and from the checkpoint beside it. Without a checkpoint the
    run starts over, keeping the rows there are; the trace ends with the very bits of a run that
    was never interrupted either way.

    Parameters
    ----------
    path : path-like
        Trace file.
    num_steps : int, optional
        New length of the run, at least the old one.
    device : {"cpu", "cuda", "auto"}, optional
        Where to go on, by default where the run was. After a change of device the rows to come
        differ in their last digits from those of a run that stayed.
    checkpoint_every, num_threads, progress
        As in `simulate`.

    Returns
    -------
    Trace

    Raises
    ------
    ValueError
        If the run diverged or failed, its step-size rule is a function whose code the file does
        not hold, or an argument is not as described.
    OSError
        If the file is not a trace, is being written by another run, or its checkpoint is damaged
        or belongs to another trace.
    """
    every = _checks.real("checkpoint_every", checkpoint_every, positive=True)
    with _lock.exclusive(path):
        trace = load_trace(path)
        assert trace.path is not None
        run = trace.run
        device = run.device if device is None else device
        devices.check(device, run.engine)
        if num_steps is not None:
            total = _checks.integer("num_steps", num_steps, run.num_steps, 2**62)
            run = dataclasses.replace(run, num_steps=total)
        if trace.status in ("diverged", "failed"):
            raise ValueError(f"{path} cannot be resumed: its run {trace.status}")
        refuse_foreign(run.step_size)
        if trace.status == "complete" and run.num_steps == trace.run.num_steps:
            _tidy(trace.path)
            return trace
        beside = checkpoint.checkpoint_path(trace.path)
        run = dataclasses.replace(run, device=devices.resolve(device, run.engine))
        snapshot = checkpoint.read(beside, read_run_id(trace.path))
        with _threads(num_threads), _quiet():
            engine = make_engine(run)
            if snapshot is not None:
                try:
                    engine.restore(snapshot)
                except ValueError as error:
                    raise checkpoint.CheckpointError(f"{beside} is damaged: {error}") from error
            return _run_to_file(engine, TraceWriter.continued(trace, run), every, progress)


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal after writing a checkpoint."""


def run_in_memory(run: Run, *, serial: bool = False, progress: bool = False) -> Trace:
    """Simulate a run and keep its rows; `serial`: in the calling thread alone."""
    with _quiet():
        engine, sink = make_engine(run, serial=serial), MemoryTrace(run)
        with _progress_bar(run, engine, progress) as bar:
            sink.finish(_drive(engine, sink, bar, lambda: None))
        return sink.trace()


def _run_to_file(engine: Engine, writer: TraceWriter, every: float, progress: bool) -> Trace:
    beside = checkpoint.checkpoint_path(writer.path)
    last = time.monotonic()

    def between_stretches() -> None:
        nonlocal last
        stopped = signals.received is not None
        if stopped or time.monotonic() - last >= every:
            writer.flush()
            checkpoint.write(beside, writer.run_id, engine.snapshot())
            last = time.monotonic()
        if stopped:
            writer.finish("interrupted")
            raise Interrupted(
                f"stopped at step {engine.step} of {engine.run.num_steps}; "
                f"resume with: suspalign resume {writer.path}"
            )

    with _Signals() as signals, writer, _progress_bar(engine.run, engine, progress) as bar:
        writer.finish(_drive(engine, writer, bar, between_stretches))
    _tidy(writer.path)
    return writer.trace()


def _tidy(trace: Path) -> None:
    """Remove what a complete run no longer needs and what killed ones may have left behind."""
    beside = checkpoint.checkpoint_path(trace)
    for path in (beside, *(p.with_name(p.name + ".new") for p in (trace, beside))):
        path.unlink(missing_ok=True)


class _Signals:
    """Remembers SIGINT and SIGTERM while it lasts, in the main thread."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "_Signals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: object) -> None:
        self.received = number


def _drive(
    engine: Engine,
    sink: TraceWriter | MemoryTrace,
    bar: Any,
    between_stretches: Callable[[], None],
) -> str:
    """Run an engine to its last step, handing rows to `sink`; return the final status."""
    try:
        return _advance_to_end(engine, sink, bar, between_stretches)
    except StepSizeError as error:
        if error.rows is not None:
            sink.append(error.rows.finite_prefix())
        sink.finish("failed")
        raise


def _advance_to_end(
    engine: Engine,
    sink: TraceWriter | MemoryTrace,
    bar: Any,
    between_stretches: Callable[[], None],
) -> str:
    run = engine.run
    rows = engine.initial_row() if engine.step == 0 else None
    stretch = 1
    while True:
        if rows is not None:
            finite = rows.finite_prefix()
            sink.append(finite)
            if len(finite) < len(rows):
                return "diverged"
        if engine.step >= run.num_steps:
            return "complete"
        between_stretches()
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


def _quiet() -> Any:
    """Overflow is an outcome of a run, ``status`` says so, and no reason to warn."""
    return np.errstate(all="ignore")


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
