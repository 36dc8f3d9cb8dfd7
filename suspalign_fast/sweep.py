"""Sweeps: many runs over a grid of cases, as one labelled array."""

import json
import math
import pickle
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks, _memory, _progress, _threads, executors, labelled, theory
from ._blas import one_thread
from .cases import Item, Outcome, Plan, Work
from .engines import make_engine
from .executors import ExecutorStoppedError, in_batches, workers_of
from .problem import Quadratic
from .row import columns
from .run import Run
from .spectrum import Spectrum

Array = NDArray[np.float64]
#: Status of a run that no worker got to.
LOST = "lost"


def sweep(
    case: Callable[..., Any],
    over: Mapping[str, Sequence[Any]],
    num_steps: int,
    *,
    seeds: int | Iterable[int] = 0,
    record_every: int = 1,
    record_at: ArrayLike | None = None,
    variables: Sequence[str] = ("alignment", "loss"),
    theory: bool = False,
    executor: Executor | None = None,
    on_error: Literal["keep", "raise"] = "keep",
    progress: bool = False,
) -> Any:
    """Simulate a grid of cases and return one labelled array.

    Parameters
    ----------
    case : callable
        ``case(**point)`` returns a `Quadratic`, or one and a dictionary of options: "step_size",
        "engine", "device", "dtype", "update", as in `simulate`. An axis of one of these names is
        that option where the case does not say it. For executors of other processes a function
        that can be imported there.
    over : mapping of str to sequence
        Axes of the grid: numbers or texts, each once.
    num_steps, record_every, record_at
        As in `simulate`.
    seeds : int or iterable of int
        Runs of every point; none of them, ``()``, for exact theory alone.
    variables : sequence of str
        Columns of a trace that are kept.
    theory : bool
        Whether to add exact means and deviations of every point, named ``exact_...``; NaN under
        step-size rules.
    executor : concurrent.futures.Executor, optional
        Where runs go: a ``ProcessPoolExecutor`` (its processes spawned), loky's, Dask's
        (``client.get_executor()``), ``MPIPoolExecutor``; by default threads of this process, one a
        core. Each run takes one thread. All give the same bits.
    on_error : {"keep", "raise"}
        Whether the error of a run is kept as a text beside the others, or ends the sweep.
    progress : bool
        Show a progress bar over the runs on standard error.

    Returns
    -------
    xarray.Dataset
        A dimension for every axis, ``seed`` and ``step``; the variables, NaN past the end of a run
        that diverged or raised; ``status`` and ``error`` of every run. Its attributes say what was
        simulated, by which version and when.

    Raises
    ------
    ValueError
        If an argument is not as described, or, with "raise", what a run raised.
    MemoryError
        If the results cannot fit.
    ImportError
        If xarray is not installed.

    Examples
    --------
    >>> import suspalign_fast as sa
    >>> def case(gap_ratio):
    ...     spectrum = sa.Spectrum.two_level(1000, 10, gap_ratio, 1.0)
    ...     return sa.Quadratic(spectrum, initial=10.0), {"engine": "levels"}
    >>> axes = {"gap_ratio": [10.0, 100.0], "step_size": [1e-3, 2e-3]}
    >>> study = sa.sweep(case, axes, 500, seeds=range(3), record_every=100)
    >>> dict(study.alignment.sizes)
    {'gap_ratio': 2, 'step_size': 2, 'seed': 3, 'step': 6}
    """
    labelled.load_xarray()
    axes = _axes(over)
    plan = _plan(case, num_steps, record_every, record_at, variables, theory)
    given = (seeds,) if _checks.is_number(seeds) else tuple(seeds)  # type: ignore[arg-type]
    each = tuple(_checks.integer("seeds", seed, 0, 2**64 - 1) for seed in given)
    if len(set(each)) < len(each):
        raise ValueError(f"seeds must differ, got {_checks.describe(list(each))}")
    if not each and not theory:
        raise ValueError("seeds must have at least one seed where theory is False, got none")
    _checks.choice("on_error", on_error, ("keep", "raise"))
    table = _Table(plan, axes, each)
    _try_first(plan, axes, each)
    work = Work(plan)
    bar = _progress.bar(table.count, "run", visible=progress)
    with bar, one_thread(), _pool(executor) as pool:
        try:
            for item, outcome in in_batches(pool, work, table.items(workers_of(pool))):
                if on_error == "raise" and (raised := next(filter(None, outcome.errors), "")):
                    raise ValueError(f"the run at {_point_text(item.point)} raised {raised}")
                table.write(item, outcome)
                bar.update(max(1, len(item.seeds)))
        except ExecutorStoppedError as error:
            if on_error == "raise":
                raise
            warnings.warn(f"{error}; runs that are missing are {LOST!r}", RuntimeWarning, 2)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            if executor is None or "pickle" not in str(error).lower():
                raise
            raise ValueError(
                f"case must be a function that workers can import, got {case!r}: {error}"
            ) from error
    return table.dataset()


class _Table:
    """The arrays of a sweep, filled as runs come in."""

    def __init__(self, plan: Plan, axes: dict[str, list[Any]], seeds: tuple[int, ...]) -> None:
        self.plan, self.axes, self.seeds = plan, axes, seeds
        self.grid = tuple(len(values) for values in axes.values())
        self.count = int(np.prod(self.grid)) * max(1, len(seeds))
        rows = plan.recording.num_rows
        shapes = {
            name: (*self.grid, len(seeds), rows, *columns()[name].shape)
            for name in (plan.variables if seeds else ())
        }
        exact = theory.MOMENTS if plan.theory else ()
        shapes |= {f"exact_{name}": (*self.grid, rows) for name in exact}
        needed = 8 * sum(math.prod(shape) for shape in shapes.values())
        _memory.check(f"a sweep of {self.count:,} runs of {rows:,} rows", needed)
        self.values = {name: np.full(shape, np.nan) for name, shape in shapes.items()}
        self.status = np.full((*self.grid, len(seeds)), LOST, dtype=object)
        self.errors = np.full((*self.grid, len(seeds)), "", dtype=object)

    def items(self, workers: int) -> Iterator[Item]:
        """Yield the work: seeds of a point together, so many that every worker gets a share."""
        together = max(1, min(SEEDS, self.count // (SHARES * workers)))
        for index in np.ndindex(self.grid):
            point = {
                name: values[i] for (name, values), i in zip(self.axes.items(), index, strict=True)
            }
            if not self.seeds:
                yield Item(index, point, 0, ())
            for first in range(0, len(self.seeds), together):
                yield Item(index, point, first, self.seeds[first : first + together])

    def write(self, item: Item, outcome: Outcome) -> None:
        """Keep what came of an item."""
        for i, values in enumerate(outcome.values):
            at = (*item.place, item.first_seed + i)
            self.status[at], self.errors[at] = outcome.status[i], outcome.errors[i]
            for name, rows in values.items():
                self.values[name][at][: len(rows)] = rows
        for name, rows in outcome.exact.items():
            self.values[f"exact_{name}"][item.place] = rows

    def dataset(self) -> Any:
        """Return the labelled result."""
        xarray = labelled.load_xarray()
        point = tuple(self.axes)
        found: dict[str, Any] = {}
        for name, values in self.values.items():
            if name.startswith("exact_"):
                found[name] = ((*point, "step"), values, _exact_attributes(name))
            else:
                dims = (*point, "seed", "step", *labelled.dims_of(name))
                found[name] = (dims, values, labelled.attributes_of(name))
        if self.seeds:
            for name, texts in (("status", self.status), ("error", self.errors)):
                found[name] = ((*point, "seed"), texts.astype(str))
        coordinates: dict[str, Any] = dict(self.axes)
        if self.seeds:
            kind = np.int64 if max(self.seeds) < 2**63 else np.uint64
            coordinates["seed"] = np.array(self.seeds, dtype=kind)
        coordinates["step"] = ("step", self.plan.steps, labelled.attributes_of("step"))
        coordinates |= labelled.coordinates_of(list(found))
        return xarray.Dataset(found, coords=coordinates, attrs=_provenance(self.plan))


#: Seeds of a point that are one piece of work, at most, and pieces for each worker, at least.
SEEDS, SHARES = 64, 8


def _axes(over: Any) -> dict[str, list[Any]]:
    """Return the axes of a grid, checked."""
    if not isinstance(over, Mapping):
        raise _checks.wrong("over", over, "a mapping of names to values, like {'step_size': [...]}")
    taken = {"seed", "step", "status", "error", *columns()} - {"step_size"}
    axes: dict[str, list[Any]] = {}
    for name, values in over.items():
        if not isinstance(name, str) or not name.isidentifier() or name in taken:
            raise ValueError(f"over must name its axes by identifiers of their own, got {name!r}")
        if isinstance(values, str | bytes) or not isinstance(values, Iterable):
            raise _checks.wrong(f"over[{name!r}]", values, "a sequence of numbers or texts")
        listed = np.asarray(values).tolist() if isinstance(values, np.ndarray) else list(values)
        if not listed:
            raise ValueError(f"over[{name!r}] must have at least one value, got none")
        for value in listed:
            if not isinstance(value, int | float | str | np.number):
                raise _checks.wrong(f"over[{name!r}]", value, "a sequence of numbers or texts")
        if len(set(listed)) < len(listed):
            twice = next(v for i, v in enumerate(listed) if v in listed[:i])
            raise ValueError(f"over[{name!r}] must have each value once, got {twice!r} twice")
        axes[name] = listed
    return axes


def _plan(
    case: Any, num_steps: int, record_every: int, record_at: Any, variables: Any, theory: bool
) -> Plan:
    """Return what is the same in all runs, checked."""
    if not callable(case):
        raise _checks.wrong("case", case, "a function that returns a Quadratic")
    names = (variables,) if isinstance(variables, str) else tuple(variables)
    for name in names:
        if name not in columns() or name == "step":
            known = ", ".join(column for column in columns() if column != "step")
            raise _checks.wrong("variables", name, f"columns of a trace: {known}")
    tiny = Quadratic(Spectrum([2.0, 1.0], 1))
    run = Run(tiny, 1.0, num_steps, record_every=record_every, record_at=record_at)  # type: ignore[arg-type]
    return Plan(case, run.num_steps, run.record_every, run.record_at, names, bool(theory))


def _try_first(plan: Plan, axes: dict[str, list[Any]], seeds: tuple[int, ...]) -> None:
    """Compile the kernels of the first point, so that workers find them in the cache."""
    point = {name: values[0] for name, values in axes.items()}
    try:
        run = plan.runs(point, seeds[:1])[0]
        if seeds:
            make_engine(run, serial=True)
    except Exception:  # it is said where it belongs, beside the run
        return


def _pool(executor: Executor | None) -> Any:
    """Return an executor as a context that closes what was made here."""
    if executor is None:
        return ThreadPoolExecutor(_threads.available())
    executors.check(executor)
    return nullcontext(executor)


def _point_text(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value!r}" for name, value in point.items()) or "its only point"


def _exact_attributes(name: str) -> dict[str, str]:
    column, _, kind = name.removeprefix("exact_").rpartition("_")
    known = columns()[column]
    what = "mean" if kind == "mean" else "standard deviation"
    return {"units": known.unit, "long_name": f"exact {what}: {known.meaning}"}


def _provenance(plan: Plan) -> dict[str, str]:
    """What was simulated, by which version and when."""
    try:
        number = version("suspalign-fast")
    except PackageNotFoundError:
        number = "unknown"
    about = {
        "case": f"{plan.case.__module__}.{getattr(plan.case, '__qualname__', plan.case)}",
        "num_steps": plan.num_steps,
    }
    return {
        "source": f"suspalign-fast {number}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "spec": json.dumps(about),
    }
