"""Many independent runs at once: every core takes the next one."""

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..base import checks, memory, reports, threads
from ..model import devices
from ..model.optimizer import PLAIN, Optimizer
from ..model.problem import Quadratic
from ..model.run import EngineName, Run, Update
from ..model.step_size import ConstantStep, Schedule, StepSizeLike, as_step_size
from ..physics.row import columns
from ..theory.expected import checked_steps
from ..theory.levels import MOMENTS, Expected
from ..traces import labelled
from ..traces.trace import Trace
from ..traces.writers import MemoryTrace
from . import cost
from .driver import run_in_memory, run_together, warn_unstable

# --- Some columns of many runs as one labelled array, filled run by run --------------------------


class LabelledRuns:
    """Columns of runs that record the same steps.

    Raises MemoryError if the columns cannot fit. Raises ImportError if xarray is not installed.
    """

    def __init__(self, runs: list[Run], names: Iterable[str]) -> None:
        self._xarray = labelled.load_xarray()
        self._seeds = labelled.seeds_of([run.seed for run in runs])
        recording = runs[0].recording
        self._steps = np.concatenate([[0], recording.recorded_steps(0, recording.num_steps)])
        shapes = {name: (len(runs), recording.num_rows, *columns()[name].shape) for name in names}
        what = f"an ensemble of {len(runs):,} runs of {recording.num_rows:,} rows"
        memory.check(what, 8 * sum(map(math.prod, shapes.values())))
        self._values = {name: np.full(shape, np.nan) for name, shape in shapes.items()}
        self._status: list[str] = []

    def append(self, traces: Iterable[Trace]) -> None:
        """Take the traces of the next runs."""
        for trace in traces:
            for name, values in self._values.items():
                values[len(self._status)][: len(trace)] = trace[name]
            self._status.append(trace.status)

    def dataset(self) -> Any:
        """Return the labelled array."""
        variables: dict[str, Any] = {
            name: (("run", "step", *labelled.dims_of(name)), values, labelled.attributes_of(name))
            for name, values in self._values.items()
        }
        coordinates = {
            "run": np.arange(len(self._status)),
            "seed": ("run", self._seeds),
            "step": ("step", self._steps, labelled.attributes_of("step")),
        }
        return self._xarray.Dataset(
            variables | {"status": ("run", np.array(self._status))},
            coords=coordinates | labelled.coordinates_of(list(variables)),
        )


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
        threads.available() if num_threads is None else threads.bounded(num_threads, stacklevel=2)
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

    with ThreadPoolExecutor(workers) as pool, reports.bar(count, "run", visible=progress) as bar:
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
    """Yield the traces of lists of runs in their order; at most `ahead` lists wait to be taken."""
    waiting: deque[Future[list[Trace]]] = deque()
    for some in lists:
        waiting.append(pool.submit(work, some))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _together(runs: list[Run], workers: int) -> list[list[Run]]:
    """Cut runs into lists; those in one list differ in their seeds alone and run at once."""
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
    """Return a sequence as a list, anything else as it is: `Run` checks it."""
    if isinstance(value, np.ndarray):
        return list(value) if value.ndim else value
    one = str | bytes | bytearray | memoryview | Mapping | Set
    if not isinstance(value, Iterable) or isinstance(value, one):
        return value
    return checks.listed(name, value, "one for all runs or a sequence of one a run")


def _at(value: Any, i: int) -> Any:
    return value[i] if isinstance(value, list) else value


def _common_length(given: dict[str, Any]) -> int:
    lengths = {name: len(value) for name, value in given.items() if isinstance(value, list)}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        found = ", ".join(f"{name} of {length}" for name, length in lengths.items())
        raise ValueError(f"sequences must be of one length, at least 1, got {found}")
    return next(iter(lengths.values()), 1)


# --- Means and standard deviations from many runs, where there is no exact theory or to test it --


Array = NDArray[np.float64]
#: Runs, at most.
MOST_RUNS = 2**31


def estimate(
    problem: Quadratic,
    step_size: StepSizeLike,
    steps: ArrayLike,
    *,
    runs: int = 1000,
    seed: int = 0,
    engine: EngineName | Literal["auto"] = "levels",
    update: Update = "full",
    optimizer: Optimizer = PLAIN,
    num_threads: int | None = None,
    progress: bool = False,
) -> Expected[Array]:
    """Return means and standard deviations of loss and alignment over many runs.

    What `theory.expected` returns exactly where it can, sampled: under step-size rules, and of what
    has no closed form under `DataNoise`.

    Parameters
    ----------
    problem : Quadratic
    step_size : float, array_like, StepSize or numba function
        As in `simulate`; a schedule must reach to the last step.
    steps : int or array_like of int, shape (times,)
        Steps t >= 0, in any order.
    runs : int
        Number of runs, at least 2; a mean errs by the standard deviation over its root.
    seed : int
        Of the first run; the others follow.
    engine : {"levels", "step", "jump", "reference", "auto"}
        "levels" has the exact law at a cost that the dimension does not enter, and takes
        compressed spectra.
    update, optimizer, num_threads, progress
        As in `simulate_ensemble`.

    Returns
    -------
    Expected
        With no ``unknown``. Where a run has diverged, the means of losses are infinite, deviations
        and what concerns the alignment NaN.

    Raises
    ------
    ValueError
        If an argument is not as described.

    Examples
    --------
    >>> import suspalign_fast as sa
    >>> spectrum = sa.Spectrum.two_level(10**6, 100, 5.0, 1.0)
    >>> problem = sa.Quadratic(spectrum, sa.DataNoise(batch_size=10**6, label_std=0.5))
    >>> found = sa.estimate(problem, 0.1, [0, 10, 100], runs=50)
    >>> found.alignment_mean.shape
    (3,)
    """
    count = checks.integer("runs", runs, 2, MOST_RUNS)
    first = checks.integer("seed", seed, 0, 2**64 - count)
    times = checked_steps(steps, least=1)
    at, place = np.unique(times, return_inverse=True)
    last = int(at[-1])
    rule: Any = as_step_size(step_size)
    if isinstance(rule, Schedule):
        rule = Schedule(rule.sizes[:last])
    traces = simulate_ensemble(
        problem,
        rule,
        last,
        seeds=range(first, first + count),
        record_at=at,
        engine=engine,
        update=update,
        optimizer=optimizer,
        num_threads=num_threads,
        progress=progress,
    )
    moments: dict[str, Any] = {name: _moment(traces, name, at)[place] for name in MOMENTS}
    stable = None
    if type(rule) is ConstantStep:
        run = traces[0].run
        stable = problem.noise.stability(problem.spectrum, rule.value, run.update, run.optimizer)
    return Expected(times, **moments, stability=stable)


def _moment(traces: Sequence[Trace], name: str, at: NDArray[np.int64]) -> Array:
    """Mean or standard deviation of a column at steps, in the order of `at`."""
    column, _, kind = name.rpartition("_")
    values = np.full((len(traces), at.size), np.nan if column == "alignment" else np.inf)
    for row, trace in zip(values, traces, strict=True):
        rows = trace[column][np.isin(trace.step, at)]
        row[: rows.size] = rows
    with np.errstate(invalid="ignore", over="ignore"):
        result: Array = values.mean(axis=0) if kind == "mean" else values.std(axis=0, ddof=1)
    return result
