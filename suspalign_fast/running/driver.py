"""The loop of a run: an engine advances, a sink takes its rows, signals and clocks interrupt."""

import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..base import reports
from ..base.executors import ExecutorStoppedError, Interrupted, Signals
from ..base.registry import ENGINES
from ..engines import make_engine
from ..engines.base import Engine, StepSizeError, Stretches
from ..model.run import Run
from ..storage import lock, paths
from ..traces import checkpoint
from ..traces.trace import Trace
from ..traces.writers import Beside, MemoryTrace, Sink, TraceWriter

#: Bounds on how many rows and steps one call of an engine may cover.
MAX_ROWS = 4096
MAX_STEPS = 2**18
#: Numbers that the first call works on, about.
FIRST_NUMBERS = 2**18
#: Seconds between two commits, and two moves of the progress bar.
COMMIT_INTERVAL = 0.2


class Cancelled(Exception):
    """A run was stopped because its ensemble or sweep ends early."""


class UnstableWarning(RuntimeWarning):
    """Expected losses of a run will grow without end."""


def warn_unstable(runs: Sequence[Run], stacklevel: int) -> None:
    """Warn of the first run whose step sizes, known in advance, are all above the edge.

    `Run.why_unstable` knows the edge under every noise, optimizer and update.
    """
    for run in runs:
        if reason := run.why_unstable():
            warnings.warn(
                f"{reason}: expected losses grow without end",
                UnstableWarning,
                stacklevel=stacklevel + 1,
            )
            return


def run_in_memory(
    run: Run,
    *,
    engine: Engine | None = None,
    serial: bool = False,
    progress: bool = False,
    stop: threading.Event | None = None,
) -> Trace:
    """Simulate a run and keep its rows.

    Parameters
    ----------
    engine : Engine, optional
        Of the run, at its start; made here without one.
    serial : bool
        In the calling thread alone.
    stop : Event, optional
        Set by another thread to have the run given up by `Cancelled`.
    """

    def between_stretches() -> None:
        if stop is not None and stop.is_set():
            raise Cancelled

    between_stretches()
    with quiet():
        engine, sink = engine or make_engine(run, serial=serial), MemoryTrace(run)
        with _bar(engine, progress) as bar:
            sink.finish(_drive(engine, sink, bar, between_stretches))
        return sink.trace()


def run_together(runs: Sequence[Run]) -> list[Trace] | None:
    """Simulate runs whose seeds alone differ, if their engine can do that at once."""
    with quiet():
        all_rows = ENGINES[runs[0].engine].on_device_of(runs[0]).rows_of(runs)
        if all_rows is None:
            return None
        traces = []
        for run, rows in zip(runs, all_rows, strict=True):
            sink, finite = MemoryTrace(run), rows.finite_prefix()
            sink.append(finite)
            sink.finish("complete" if len(finite) == len(rows) else "diverged")
            traces.append(sink.trace())
        return traces


def run_to_file(engine: Engine, writer: TraceWriter, every: float, progress: bool) -> Trace:
    """Run an engine to its last step, its rows and checkpoints going to the disk."""
    last = time.monotonic()

    def between_stretches() -> None:
        nonlocal last
        if signals.received is not None:
            raise stopped(signals.received)
        if engine.step > 0 and time.monotonic() - last >= every:
            _write_checkpoint(engine, sink, final=False)
            last = time.monotonic()

    def stopped(number: int) -> Interrupted:
        said = _end_early(engine, sink, "stopped")
        signals.answered = True
        return Interrupted(said, number)

    sink = Beside(writer) if engine.leaves_the_cpu else writer
    with Signals() as signals, sink, _bar(engine, progress) as bar:
        try:
            status = _drive(engine, sink, bar, between_stretches)
        except ExecutorStoppedError as error:
            if signals.received is not None:  # which has reached the workers, too
                raise stopped(signals.received) from error
            raise ExecutorStoppedError(_end_early(engine, sink, f"{error}; stopped")) from error
        sink.finish(status)
        tidy(writer.path)
    return writer.trace()


def _end_early(engine: Engine, writer: TraceWriter | Beside, what: str) -> str:
    """Write a last checkpoint and close the file; return the message for the user."""
    problem = _write_checkpoint(engine, writer, final=True)
    writer.finish("interrupted")
    how = f"; {problem}; without one a resumed run starts over" if problem else ""
    return (
        f"{what} at step {engine.step} of {engine.run.num_steps}{how}; "
        f"resume with: suspalign resume {paths.shown(writer.path)}"
    )


def _write_checkpoint(engine: Engine, writer: TraceWriter | Beside, *, final: bool) -> str:
    """Write a checkpoint; return what went wrong, which does not end the run, or an empty text."""
    writer.sync()  # a checkpoint must never be ahead of the rows on the disk
    try:
        if engine.step == 0:  # nothing to go on from: what lies there is another run's
            with suppress(OSError):
                checkpoint.remove(writer.path)
            return ""
        checkpoint.write(writer.path, writer.run_id, engine.snapshot())
    except checkpoint.CheckpointError as error:
        if not final:
            warnings.warn(f"{error}; the run goes on without it", RuntimeWarning, stacklevel=4)
        return str(error)
    return ""


def tidy(trace: Path) -> None:
    """Remove the checkpoint of a complete run, and files that killed runs left behind."""
    checkpoint.remove(trace)
    paths.remove_leftovers(trace, in_use=lock.is_held)


def _drive(
    engine: Engine,
    sink: Sink,
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
    sink: Sink,
    bar: Any,
    between_stretches: Callable[[], None],
) -> str:
    run = engine.run
    rows = engine.initial_row() if engine.step == 0 else None
    wanted = _stretches(engine)
    stretch = wanted.first
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
        faster = min(4.0, wanted.seconds / max(elapsed, 1e-9))
        stretch = max(wanted.least, int(stretch * faster))


def _stretches(engine: Engine) -> Stretches:
    """Return how much an engine should do at once."""
    first = max(1, FIRST_NUMBERS // engine.width)
    most = engine.run.num_steps if engine.jumps else MAX_STEPS
    return engine.stretches or Stretches(first, 1, most, MAX_ROWS, COMMIT_INTERVAL)


def _bounded(stretch: int, engine: Engine) -> int:
    """Steps of the next call: not too many at once, and not too many rows."""
    bounds = _stretches(engine)
    stretch = min(stretch, bounds.most, engine.run.num_steps - engine.step)
    while engine.recorded_steps_count(stretch) > bounds.rows:
        stretch //= 2
    return stretch


@contextmanager
def quiet() -> Iterator[None]:
    """Silence NumPy: an overflow is an outcome of a run, told by its status."""
    with np.errstate(all="ignore"):
        yield


def _bar(engine: Engine, visible: bool) -> Any:
    return reports.bar(
        engine.run.num_steps, "step", visible=visible, initial=engine.step, unit_scale=True
    )
