"""Many independent runs at once: every core takes the next one."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import _checks, _progress, _threads, cost, devices, labelled
from .driver import run_in_memory, run_together, warn_unstable
from .labelled_runs import LabelledRuns
from .optimizer import PLAIN, Optimizer
from .problem import Quadratic
from .run import EngineName, Run, Update
from .sink import MemoryTrace
from .step_size import StepSizeLike
from .trace import Trace

#: Rows that are done at once, and lists of runs that each worker gets, at least.
MAX_ROWS = 2**16
SHARES = 4


@overload
def simulate_ensemble(
    problems: Quadratic | Sequence[Quadratic],
    step_sizes: StepSizeLike | Sequence[Any],
    num_steps: int,
    *,
    seeds: int | Iterable[int] = ...,
    record_every: int = ...,
    record_at: ArrayLike | None = ...,
    engine: EngineName | Literal["auto"] = ...,
    device: devices.DeviceName = ...,
    dtype: DTypeLike = ...,
    update: Update = ...,
    optimizer: Optimizer = ...,
    num_threads: int | None = ...,
    variables: None = ...,
    progress: bool = ...,
) -> list[Trace]: ...


@overload
def simulate_ensemble(
    problems: Quadratic | Sequence[Quadratic],
    step_sizes: StepSizeLike | Sequence[Any],
    num_steps: int,
    *,
    seeds: int | Iterable[int] = ...,
    record_every: int = ...,
    record_at: ArrayLike | None = ...,
    engine: EngineName | Literal["auto"] = ...,
    device: devices.DeviceName = ...,
    dtype: DTypeLike = ...,
    update: Update = ...,
    optimizer: Optimizer = ...,
    num_threads: int | None = ...,
    variables: Sequence[str],
    progress: bool = ...,
) -> Any: ...


def simulate_ensemble(
    problems: Quadratic | Sequence[Quadratic],
    step_sizes: StepSizeLike | Sequence[Any],
    num_steps: int,
    *,
    seeds: int | Iterable[int] = 0,
    record_every: int = 1,
    record_at: ArrayLike | None = None,
    engine: EngineName | Literal["auto"] = "step",
    device: devices.DeviceName = "cpu",
    dtype: DTypeLike = "float64",
    update: Update = "full",
    optimizer: Optimizer = PLAIN,
    num_threads: int | None = None,
    variables: Sequence[str] | None = None,
    progress: bool = False,
) -> Any:
    """Simulate many independent runs, one a core at a time, and keep their traces in memory.

    Each trace has the very bits of the `simulate` with the same arguments. This is the way to run
    many small problems; a large one keeps all cores busy by itself.

    Parameters
    ----------
    problems : Quadratic or sequence of Quadratic
    step_sizes : float, StepSize, numba function, or a sequence of them
    seeds : int or iterable of int
        Of these three, what is not a sequence is the same in every run; the sequences must be of
        one length, the number of runs. A schedule of step sizes for one run is a ``Schedule`` or
        an array inside the sequence.
    num_steps, record_every, record_at, engine, device, dtype, update, optimizer
        As in `simulate`, the same in every run.
    num_threads : int, optional
        Runs at a time, by default as many as the machine has cores, which is the most it takes. On
        a GPU it is one.
    variables : sequence of str, optional
        Columns of the traces to keep, as one labelled array in place of the traces: 50,000 small
        runs take the memory of these columns alone.
    progress : bool
        Show a progress bar over the runs on standard error.

    Returns
    -------
    list of Trace, or xarray.Dataset
        In the order of the sequences. With `variables` a dataset with the dimensions ``run`` and
        ``step``, NaN past the end of a run that diverged, and ``seed`` and ``status`` of each run.

    Raises
    ------
    ValueError
        If sequences differ in length or an argument is not as described, before any work starts;
        or if a rule returns what cannot be a step size.
    MemoryError
        If the rows of all runs cannot fit.
    DeviceError
        If no GPU is usable; the message says what was looked for.
    ImportError
        If `variables` are given and xarray is not installed.

    Examples
    --------
    >>> import suspalign_fast as sa
    >>> problem = sa.Quadratic(sa.Spectrum.two_level(100, 5, 10.0, 1.0), initial=3.0)
    >>> len(sa.simulate_ensemble(problem, 1e-3, 50, seeds=range(4)))
    4
    >>> runs = sa.simulate_ensemble(problem, 1e-3, 50, seeds=range(4), variables=["loss"])
    >>> dict(runs.loss.sizes)
    {'run': 4, 'step': 51}
    """
    names = None if variables is None else labelled.check_variables(variables)
    given = {
        "problems": _listed("problems", problems),
        "step_sizes": _listed("step_sizes", step_sizes),
        "seeds": _listed("seeds", seeds),
    }
    count = _common_length(given)
    workers = (
        _threads.available() if num_threads is None else _threads.bounded(num_threads, stacklevel=2)
    )
    named = cost.first_engine(engine)
    where = devices.resolve(device, named)
    if where == "cuda":
        workers = 1  # one run after the other has the whole GPU
    runs = [
        Run(
            problem=_at(given["problems"], i),
            step_size=_at(given["step_sizes"], i),
            num_steps=num_steps,
            seed=_at(given["seeds"], i),
            record_every=record_every,
            record_at=record_at,  # type: ignore[arg-type]
            engine=named,
            device=where,
            dtype=dtype,  # type: ignore[arg-type]
            update=update,  # type: ignore[arg-type]
            optimizer=optimizer,
        )
        for i in range(count)
    ]

    runs = [cost.settled(run, engine)[0] for run in runs]
    kept = None if names is None else LabelledRuns(runs, names)
    if kept is None:
        MemoryTrace.check_memory(runs)
    warn_unstable(runs, 2)
    stop = threading.Event()

    def work(some: list[Run]) -> list[Trace]:
        together = run_together(some) if len(some) > 1 and not stop.is_set() else None
        return together or [run_in_memory(run, serial=True, stop=stop) for run in some]

    with ThreadPoolExecutor(workers) as pool, _progress.bar(count, "run", visible=progress) as bar:
        try:
            traces: list[Trace] = []
            for some in _in_order(pool, work, _together(runs, workers), 2 * workers):
                if kept is None:
                    traces += some
                else:
                    kept.append(some)
                bar.update(len(some))
            return traces if kept is None else kept.dataset()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def _in_order(
    pool: Executor, work: Callable[[list[Run]], list[Trace]], lists: list[list[Run]], ahead: int
) -> Iterator[list[Trace]]:
    """Yield what comes of lists of runs in their order; no more than some wait to be taken."""
    waiting: deque[Future[list[Trace]]] = deque()
    for some in lists:
        waiting.append(pool.submit(work, some))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _together(runs: list[Run], workers: int) -> list[list[Run]]:
    """Cut runs into lists that a worker does at once: small ones whose seeds alone differ."""
    most = max(1, min(MAX_ROWS // runs[0].num_rows, len(runs) // (SHARES * workers)))
    lists: list[list[Run]] = []
    for run in runs:
        if lists and len(lists[-1]) < most and _is_same_but_seed(run, lists[-1][0]):
            lists[-1].append(run)
        else:
            lists.append([run])
    return lists


def _is_same_but_seed(run: Run, other: Run) -> bool:
    return (
        run.problem is other.problem
        and run.step_size == other.step_size
        and run.engine == other.engine
    )


def _listed(name: str, value: Any) -> list[Any] | Any:
    """Return sequences of runs as lists, anything else as it is, for `Run` to judge."""
    if isinstance(value, np.ndarray):
        return list(value) if value.ndim else value
    one = str | bytes | bytearray | memoryview | Mapping | Set
    if not isinstance(value, Iterable) or isinstance(value, one):
        return value
    return _checks.listed(name, value, "one for all runs or a sequence of one a run")


def _at(value: Any, i: int) -> Any:
    return value[i] if isinstance(value, list) else value


def _common_length(given: dict[str, Any]) -> int:
    lengths = {name: len(value) for name, value in given.items() if isinstance(value, list)}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        found = ", ".join(f"{name} of {length}" for name, length in lengths.items())
        raise ValueError(f"sequences must be of one length, at least 1, got {found}")
    return next(iter(lengths.values()), 1)
