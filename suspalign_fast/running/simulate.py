"""The entry function: run SGD on a quadratic and return its trace."""

import dataclasses
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..base import checks, executors, reports
from ..base import threads as _threads
from ..engines import make_engine
from ..engines.base import Engine
from ..model import devices
from ..model.optimizer import PLAIN, Optimizer
from ..model.problem import Quadratic
from ..model.run import MAX_STEPS, EngineName, Run, Update
from ..model.step_size import (
    ForeignStep,
    RowStep,
    StepSize,
    StepSizeLike,
    as_step_size,
    refuse_foreign,
)
from ..storage import lock as _lock
from ..storage import paths
from ..storage.output import COMPRESSIONS
from ..traces import checkpoint
from ..traces.trace import Trace
from ..traces.trace_file import load_trace, load_unlocked, read_run_id
from ..traces.writers import MemoryTrace, TraceWriter
from . import cost
from .driver import quiet, run_in_memory, run_to_file, tidy, warn_unstable

__all__ = ["execute", "resume", "simulate"]


class StartsOverWarning(RuntimeWarning):
    """A resumed run has no checkpoint to go on from, and computes its first steps again."""


def simulate(
    problem: Quadratic,
    step_size: StepSizeLike,
    num_steps: int,
    *,
    seed: int = 0,
    record_every: int = 1,
    record_at: ArrayLike | None = None,
    engine: EngineName | Literal["auto"] = "step",
    device: devices.DeviceName = "cpu",
    dtype: DTypeLike = "float64",
    update: Update = "full",
    optimizer: Optimizer = PLAIN,
    path: paths.AnyPath | None = None,
    overwrite: bool = False,
    compression: Literal["gzip", "none"] = "gzip",
    checkpoint_every: float = 60.0,
    num_threads: int | None = None,
    executor: Executor | None = None,
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
    engine : {"step", "jump", "levels", "reference", "auto"}
        "step" simulates every step of the sample path. "jump" draws one normal a coordinate and
        recorded row, two with momentum, "levels" two random numbers a level and row: both have
        exactly the same law at the recorded rows. "jump" needs step sizes known in advance.
        "reference" is "step" in plain NumPy. "auto" takes what has the same law in the least time:
        "step", "jump" or "levels", the last also on a compressed spectrum (`Spectrum.compress`)
        under plain SGD where noise and initial state are smooth in lambda. ``trace.run`` says what
        it took, and so does a line on standard error with `progress`.
    device : {"cpu", "cuda", "auto"}
        Where the engine runs. "cuda" is an NVIDIA GPU, for engines "step" and "jump": the same
        noise and coefficients, sums that differ in the last digits (the order of addition is
        another), under every noise model that the engine takes. "auto" is the GPU where there is
        a usable one, whatever the problem, else the CPU.
    dtype : {"float64", "float32"}
        Type of the state in engines "step", "jump" and "reference". A float32 state takes half
        the memory and is rounded to after every step: a coefficient no longer moves where a step
        changes it by less than 6e-8 of itself. Arithmetic and sums are float64 either way.
    update : {"full", "dominant", "bulk"} or tuple of two float
        Weights of the dominant and the bulk part of the update: "dominant" is Dom-SGD, (1, 0).
    optimizer : SGD or Momentum
        Plain SGD, the heavy ball or Nesterov's momentum.
    path : path-like, optional
        Stream the trace to this HDF5 file; memory then does not grow with the number of steps.
    overwrite : bool
        Whether an existing file may be replaced. It is, once the new one is laid out; processes
        that read the old one keep it.
    compression : {"gzip", "none"}
        How the file stores its arrays. "none" is faster where rows cost next to nothing.
    checkpoint_every : float
        With `path`, seconds between checkpoints of the state, written beside the trace and removed
        when the run completes. SIGINT, SIGTERM and SIGHUP write one and end the run; `resume`
        goes on. One that cannot be written (a full disk) is a warning.
    num_threads : int, optional
        Number of threads, by default all the machine has, which is the most it takes; of no effect
        on a GPU. With `executor` those of each worker, by default one.
    executor : concurrent.futures.Executor, optional
        Whose workers share the run, each with some of the coordinates: a ``ProcessPoolExecutor``
        (its processes spawned), loky's, Dask's (``client.get_executor()``),
        ``MPIPoolExecutor``, threads. All give the same bits as none. For engines "step" and "jump"
        on the CPU, step sizes known in advance and noise that does not depend on the state. A
        stretch of steps takes a few seconds at least; signals and checkpoints wait for its end.
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
        After SIGINT, SIGTERM or SIGHUP of a run with a file, which can be resumed.
    MemoryError
        If state or rows cannot fit.
    ForkError
        In a process forked from one whose kernels had started threads.
    suspalign_fast.base.executors.ExecutorStoppedError
        If the workers of `executor` died and it takes no more work. With `path`, rows before are
        kept, and `resume` goes on.

    Warns
    -----
    suspalign_fast.running.driver.UnstableWarning
        If step sizes known in advance are all above the edge of stability, ``2 / lambda_1`` of
        plain SGD under additive noise: the run is going to diverge (`theory.stability`).

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> import suspalign_fast as sa
    >>> problem = sa.Quadratic(sa.Spectrum.linear_bands(dim=10_000, num_dominant=10))
    >>> with ThreadPoolExecutor(2) as pool:
    ...     shared = sa.simulate(problem, 3e-3, 50, executor=pool)
    >>> shared == sa.simulate(problem, 3e-3, 50)
    True
    """
    named = cost.first_engine(engine)
    if executor is not None and device == "auto":
        device = "cpu"
    run = Run(
        problem=problem,
        step_size=step_size,  # type: ignore[arg-type]
        num_steps=num_steps,
        seed=seed,
        record_every=record_every,
        record_at=record_at,  # type: ignore[arg-type]
        engine=named,
        device=devices.resolve(device, named),
        dtype=dtype,  # type: ignore[arg-type]
        update=update,  # type: ignore[arg-type]
        optimizer=optimizer,
    )
    run, chosen = cost.settled(run, engine)
    if chosen and progress:
        reports.say(f"engine {chosen}")
    return execute(
        run,
        path=path,
        overwrite=overwrite,
        compression=compression,
        checkpoint_every=checkpoint_every,
        num_threads=num_threads,
        executor=executor,
        progress=progress,
    )


def execute(
    run: Run,
    *,
    path: paths.AnyPath | None = None,
    overwrite: bool = False,
    compression: Literal["gzip", "none"] = "gzip",
    checkpoint_every: float = 60.0,
    num_threads: int | None = None,
    executor: Executor | None = None,
    progress: bool = False,
) -> Trace:
    """Simulate a run: what `simulate` does with the `Run` that it makes of its arguments.

    Parameters
    ----------
    path, overwrite, compression, checkpoint_every, num_threads, executor, progress
        As in `simulate`.
    """
    every = checks.real("checkpoint_every", checkpoint_every, positive=True)
    checks.choice("compression", compression, COMPRESSIONS)
    warn_unstable([run], 3)
    with _where(executor, num_threads) as make, quiet():
        if path is None:
            MemoryTrace.check_memory([run])
            return run_in_memory(run, engine=make(run), progress=progress)
        target = paths.real(path)
        with _lock.exclusive(target) as lock:
            writer = TraceWriter(
                target, run, overwrite=overwrite, compression=compression, lock=lock
            )
            checkpoint.check_place(target)
            return run_to_file(make(run), writer, every, progress)


def resume(
    path: paths.AnyPath,
    *,
    num_steps: int | None = None,
    step_size: StepSize | Callable[..., Any] | None = None,
    device: devices.DeviceName | None = None,
    checkpoint_every: float = 60.0,
    num_threads: int | None = None,
    executor: Executor | None = None,
    progress: bool = False,
) -> Trace:
    """Go on with a run that was interrupted or killed, or extend one that is complete.

    Everything is taken from the file and from the checkpoint beside it. Without a checkpoint, which
    a complete run has none of, the run starts over, keeping the rows there are, and so it does
    where the trace is older than its checkpoint (a restored backup). The trace ends with the very
    bits of a run that was never interrupted either way. The file keeps its permissions and what
    others put into it.

    Parameters
    ----------
    path : path-like
        Trace file.
    num_steps : int, optional
        New length of the run, at least the old one.
    step_size : RowStep or numba function, optional
        The rule of the run, where that is a function: the file holds its name alone, which must
        agree.
    device : {"cpu", "cuda", "auto"}, optional
        Where to go on, by default where the run was. After a change of device the rows to come
        differ in their last digits from those of a run that stayed.
    checkpoint_every, num_threads, executor, progress
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
        If the file is not a trace, is being written by another run, what others put into it is
        damaged, or its checkpoint is damaged or belongs to another trace.

    Warns
    -----
    suspalign_fast.running.simulate.StartsOverWarning
        If the run starts over; it says how many steps are computed again.
    """
    every = checks.real("checkpoint_every", checkpoint_every, positive=True)
    target = paths.real(path)
    with _lock.exclusive(target) as lock:
        trace = load_unlocked(target)
        run = _with_rule(trace.run, step_size)
        where: str = run.device if device is None else device
        devices.check(where, run.engine)
        if num_steps is not None:
            total = checks.integer("num_steps", num_steps, run.num_steps, MAX_STEPS)
            run = dataclasses.replace(run, num_steps=total)
        if trace.status in ("diverged", "failed"):
            raise ValueError(f"{path!s} cannot be resumed: its run {trace.status}")
        if trace.status == "complete" and run.num_steps == trace.run.num_steps:
            tidy(target)
            return load_trace(path)
        refuse_foreign(run.step_size)
        _check_noise(run, trace)
        where = devices.resolve(where, run.engine)
        run = dataclasses.replace(run, device=where)
        with _where(executor, num_threads) as make, quiet():
            engine = _restored(run, trace, make)
            writer = TraceWriter.continued(trace, run, lock=lock)
            return run_to_file(engine, writer, every, progress)


def _with_rule(run: Run, step_size: Any) -> Run:
    """Return a stored run with the function that its file does not hold."""
    if step_size is None:
        return run
    rule = as_step_size(step_size)
    if not isinstance(run.step_size, ForeignStep):
        raise ValueError(
            f"step_size is not taken again: the file holds the run's {run.step_size!r}"
        )
    if not isinstance(rule, RowStep) or rule.name != run.step_size.name:
        given = rule.name if isinstance(rule, RowStep) else rule
        raise ValueError(
            f"step_size must be the function {run.step_size.name!r} of the run, "
            f"got {checks.describe(given)}"
        )
    return dataclasses.replace(run, step_size=rule)


def _check_noise(run: Run, trace: Trace) -> None:
    """Raise ValueError if the noise is not that of the file: a user's class may have changed.

    Constants of the noise may differ in their last digits from machine to machine.
    """
    with np.errstate(all="ignore"):
        same = np.isclose(run.problem.noise_constants, trace.constants, rtol=1e-9, equal_nan=True)
    if not same.all():
        raise ValueError(
            f"noise must be that of the run in {trace.path}, and {run.problem.noise!r} has other "
            "standard deviations now"
        )


@contextmanager
def _where(executor: Executor | None, num_threads: int | None) -> Iterator[Callable[[Run], Engine]]:
    """Yield a function that makes engines, on threads of this process or on an executor."""
    if executor is None:
        with _threads.limited(num_threads):
            yield make_engine
        return
    executors.check(executor)
    threads = 1 if num_threads is None else checks.integer("num_threads", num_threads, 1)
    yield partial(make_engine, executor=executor, num_threads=threads)


def _restored(run: Run, trace: Trace, make: Callable[[Run], Engine]) -> Engine:
    """Return the engine of a stored run, at its checkpoint if that can be used."""
    assert trace.path is not None
    engine = make(run)
    arrays = engine.snapshot() if checkpoint.is_there(trace.path) else None
    if arrays is None or not checkpoint.read_into(trace.path, read_run_id(trace.path), arrays):
        _warn_of_work_again("no checkpoint", trace)
        return engine
    step = int(arrays["step"])
    if not 0 <= step <= run.num_steps:
        name = checkpoint.checkpoint_path(trace.path)
        raise checkpoint.CheckpointError(f"{name} is damaged: it is at step {step}")
    if run.recorded_before(step) > len(trace):
        _warn_of_work_again(f"older than its checkpoint, which is at step {step:,}", trace)
        return make(run)
    engine.restore(arrays)
    return engine


def _warn_of_work_again(reason: str, trace: Trace) -> None:
    """Warn that a run starts over, if it had already made a step."""
    done = int(trace.read("step", len(trace) - 1, len(trace))[0]) if len(trace) else 0
    if done > 0:
        warnings.warn(
            f"{trace.path}: {reason}: {done:,} steps are computed again, rows are kept",
            StartsOverWarning,
            stacklevel=4,
        )
