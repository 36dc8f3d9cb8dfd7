"""Sweeps: many runs over a grid of cases, as one labelled array."""

import functools
import hashlib
import itertools
import math
import pickle
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import checks, executors, reports, threads
from ..base.executors import ExecutorStoppedError, Signals, in_batches, workers_of
from ..base.threads import one_thread
from ..base.values import packed
from ..engines import make_engine
from ..model.run import Recording
from ..storage.paths import AnyPath
from ..traces import labelled
from .cases import MISSING, NOT_IMPORTED, Item, Look, Plan, Work
from .grid import Grid, Place
from .table import SEEDS, Table
from .writing import StudyFile

# --- How many seeds are enough: until a mean is known as well as was asked for -------------------
#
# Runs that decide when to stop must not be part of the mean: where values have a long tail, those
# that happen to be small have a small deviation, too, and would end a point early. So a point is
# first tried with pilot runs, of seeds of their own, which are not kept; the mean of the others has
# no bias then. How many there are follows from the point alone, whoever runs it.


#: Pilot runs of a point at first, unless it is told.
FIRST = 8
#: Pilots are doubled until they are this share of the runs that they call for.
SHARE = 0.25


class Until(NamedTuple):
    """A standard error of the mean over seeds, at every recorded step."""

    stderr: float
    variable: str
    first: int = FIRST

    @classmethod
    def of(cls, given: Any, variables: Sequence[str]) -> "Until":
        """Return what a user gave.

        Raises ValueError if it is not a mapping like ``{"stderr": 0.01}``.
        """
        if not isinstance(given, Mapping) or "stderr" not in given or set(given) - set(cls._fields):
            raise checks.wrong(
                "until", given, "a mapping like {'stderr': 0.01, 'variable': 'loss', 'first': 8}"
            )
        variable = given.get("variable", variables[0] if variables else "")
        return cls(
            checks.real("until['stderr']", given["stderr"]),
            checks.choice("until['variable']", variable, tuple(variables)),
            checks.integer("until['first']", given.get("first", FIRST), 2),
        )

    def pilots(self, start: int) -> tuple[int, ...]:
        """Return the seeds of the next pilots after so many: as many again."""
        return tuple(_seed(number) for number in range(start, max(2 * start, self.first)))

    def needed(self, values: Sequence[NDArray[np.float64]], most: int) -> tuple[int, bool]:
        """Return how many runs a point needs, and whether its pilots are enough to know it.

        Parameters
        ----------
        values : sequence of ndarray
            Of each pilot that came to its end.
        most : int
            Runs that there can be.
        """
        if len(values) < 2:
            return most, True
        with np.errstate(all="ignore"):
            variance = np.var(values, axis=0, ddof=1).max()
            count = float(variance / np.float64(self.stderr) ** 2) if variance else 0.0
        # The mean of 1 / s^2 of n normal numbers is (n - 1) / (n - 3) of that of theirs.
        count *= (len(values) - 1) / max(len(values) - 3, 1)
        if not count < most:
            return most, True
        runs = max(math.ceil(count), min(self.first, most))
        return runs, len(values) >= SHARE * runs


def _seed(number: int) -> int:
    """Return the seed of a pilot."""
    code = hashlib.blake2b(f"pilot {number}".encode(), digest_size=8).digest()
    return int.from_bytes(code, "little")


def sweep(
    case: Callable[..., Any],
    over: Mapping[str, Sequence[Any]],
    num_steps: int,
    *,
    seeds: Iterable[int] = (0,),
    record_every: int = 1,
    record_at: ArrayLike | None = None,
    variables: Sequence[str] = ("alignment", "loss"),
    theory: bool = False,
    executor: Executor | None = None,
    path: AnyPath | None = None,
    overwrite: bool = False,
    until: Mapping[str, Any] | None = None,
    independent: bool = False,
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
    seeds : iterable of int
        Runs of every point, ``range(5)`` for five; none of them, ``()``, for exact theory alone.
    variables : sequence of str
        Columns of a trace that are kept.
    theory : bool
        Whether to add exact means and deviations of every point, named ``exact_...``; NaN under
        step-size rules. Those of the alignment take most of the time: in memory they are left out
        where `variables` has no alignment.
    executor : concurrent.futures.Executor, optional
        Where runs go: a ``ProcessPoolExecutor`` (its processes spawned), loky's, Dask's
        (``client.get_executor()``), ``MPIPoolExecutor``; by default threads of this process, one a
        core. Each run takes one thread. All give the same bits.
    path : path-like, optional
        A netCDF-4 file that grows as runs are done and that others may read meanwhile
        (`open_study`). The same call again goes on where that one was stopped; with more values on
        the axes, or more seeds, it runs what the file lacks. What was done is kept, and must be of
        the same case: a digest of the problem at every point tells.
    overwrite : bool
        Whether to start anew instead of going on with the file at `path`, which stays until the new
        one is laid out beside it and takes its place.
    until : mapping, optional
        ``{"stderr": 0.01}``: a point takes only so many of its `seeds` that the standard error of
        the mean of the first variable is about that small at every recorded step. Pilot runs of
        other seeds, at least 8, say how many; they are not kept, so that means have no bias.
        ``"variable"`` names another one, ``"first"`` another number than 8.
    independent : bool
        Whether each point has noise of its own. By default runs of one seed have the same noise at
        all points: differences between points are exact, but their errors are correlated. A run is
        then that of `simulate` with ``seed=suspalign_fast.studies.grid.seed_at(seed, point)``.
    on_error : {"keep", "raise"}
        Whether the error of a run is kept as a text beside the others, or ends the sweep.
    progress : bool
        Show a progress bar over the runs on standard error.

    Returns
    -------
    xarray.Dataset
        A dimension for every axis, ``seed`` and ``step``; the variables, NaN past the end of a run
        that diverged or raised; ``status`` and ``error`` of every run: "complete", "diverged",
        "error", or "missing" where none was needed or nobody got to it. Its attributes say what was
        simulated, by which version and when. With `path` values are read on first use.

    Raises
    ------
    ValueError
        If an argument is not as described, the file is of another study, or, with "raise", what a
        run raised.
    OSError
        If the file cannot be read or written; what is in it stays.
    Interrupted
        If a signal ends the sweep; threads give up the runs in hand, other executors finish theirs.
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
    if isinstance(executor, ProcessPoolExecutor):
        _check_travels(case, executor)
    if executor is not None:
        executors.check(executor)
    if not callable(case):
        raise checks.wrong("case", case, "a function that returns a Quadratic")
    grid = Grid.of(over, seeds)
    plan = Plan(
        case,
        _recording(num_steps, record_every, record_at),
        labelled.check_variables(variables),
        bool(theory),
        is_stored=path is not None,
        independent=checks.truth("independent", independent),
    )
    checks.truth("overwrite", overwrite)
    if not grid.seeds and not theory:
        raise ValueError("seeds must have at least one seed where theory is False, got none")
    if twice := set(plan.variables) & set(grid.axes):
        raise ValueError(f"variables must not be axes of the grid, got {twice.pop()!r}")
    if until is not None and not plan.variables:
        raise ValueError("variables must have at least one column where until is given, got none")
    checks.choice("on_error", on_error, ("keep", "raise"))
    enough = None if until is None or not grid.seeds else Until.of(until, plan.variables)
    with (
        Signals() as signals,
        _table(plan, grid, path, overwrite) as table,
        _pool(executor) as pool,
        _given_up_together() as stop,
        one_thread(),
    ):
        heed = functools.partial(signals.answer, _STOPPED[path is not None])
        work = Work(plan, stop if isinstance(pool, ThreadPoolExecutor) else None)
        try:
            if isinstance(table, StudyFile):
                _check_same(table, pool, heed)
            _run(table, pool, work, enough, on_error, progress, heed)
            heed()
            table.finish()
        except ExecutorStoppedError as error:
            if on_error == "raise":
                raise
            if table.lacks_anything():
                warnings.warn(f"{error}; what it did not do is {MISSING!r}", RuntimeWarning, 2)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            if executor is not None:
                _check_travels(case, executor)
            raise error
    _warn_of_failure(table)
    return table.dataset()


#: Pieces of work for each worker, at least.
SHARES = 8
#: Messages of a sweep that a signal ends: in memory, and with a file.
_STOPPED = "the sweep was stopped", "the sweep was stopped; the same call goes on with it"


def _table(plan: Plan, grid: Grid, path: AnyPath | None, overwrite: bool) -> Table:
    """Return where results go: memory, or a file."""
    if path is None:
        return Table(plan, grid)
    return StudyFile(path, plan, grid, overwrite=overwrite)


def _recording(num_steps: Any, record_every: Any, record_at: Any) -> Recording:
    """Return which steps become rows, checked."""
    spec = {"num_steps": num_steps, "record_every": record_every}
    if record_at is not None:
        spec["record_at"] = record_at
    return Recording.from_spec(spec, lambda _: record_at)


def _check_same(table: StudyFile, pool: Executor, heed: Callable[[], None]) -> None:
    """Raise ValueError unless the case still is, at every point that is done, what it was."""
    known = [place for place in table.asked_places() if table.digests[place]]
    points = [Item(place, table.grid.point(place), (), (), theory=False) for place in known]
    for batch in in_batches(pool, Look(table.plan), points, heed):
        for item, found in batch:
            if found.raised:
                table.refuse(f"at {_text(item.point)} its case raised {found.raised}")
            if found.digest != table.digests[item.place]:
                table.refuse(f"at {_text(item.point)} its problem was another{found.doubt}")


def _run(
    table: Table,
    pool: Executor,
    work: Work,
    enough: Until | None,
    on_error: str,
    progress: bool,
    heed: Callable[[], None],
) -> None:
    """Run what a table lacks."""
    places, seeds = table.asked_places(), table.grid.find(table.asked)["seed"]
    workers = workers_of(pool)
    together = table.asked.num_runs // (SHARES * workers)
    left = list(table.missing(places, seeds, together))
    if not left and table.is_closed:
        return
    if left:
        _try_first(table.plan, left[0])
    table.begin()
    total = sum(max(1, len(item.seeds)) for item in left)
    tried = dict.fromkeys(item.place for item in left)
    counts = _needed(table, pool, work, enough, list(tried), heed) if enough else {}
    items = itertools.chain.from_iterable(
        table.missing([place], seeds[: counts.get(place)], together) for place in places
    )
    with reports.bar(total, "run", visible=progress) as bar:
        for batch in in_batches(pool, work, items, heed):
            table.write(batch)
            bar.update(sum(max(1, len(item.seeds)) for item, _ in batch))
            for item, outcome in batch:
                raised = outcome.raised or next(filter(None, outcome.errors), "")
                if on_error == "raise" and raised:
                    raise ValueError(f"the run at {_text(item.point)} raised {raised}")


def _needed(
    table: Table,
    pool: Executor,
    work: Work,
    enough: Until,
    places: list[Place],
    heed: Callable[[], None],
) -> dict[Place, int]:
    """Return how many runs each point needs; pilot runs tell, which are not kept."""
    most, start, counts = len(table.asked.seeds), 0, dict[Place, int]()
    found: dict[Place, list[Any]] = {place: [] for place in places if most > enough.first}
    pilot = work.of(table.plan._replace(variables=(enough.variable,), is_stored=False))
    while found:
        seeds = enough.pilots(start)
        parts = range(0, len(seeds), SEEDS)
        items = [
            Item(place, table.grid.point(place), (at,), seeds[at : at + SEEDS], theory=False)
            for place in found
            for at in parts
        ]
        done = {
            (item.place, item.positions[0]): outcome
            for batch in in_batches(pool, pilot, items, heed)
            for item, outcome in batch
        }
        start += len(seeds)
        for place in list(found):
            outcomes = [done[place, at] for at in parts]
            found[place] += [
                values[enough.variable]
                for outcome in outcomes
                for values, status in zip(outcome.values, outcome.status, strict=True)
                if status == "complete"
            ]
            counts[place], is_known = enough.needed(found[place], most)
            if is_known or start >= most:
                del found[place]
    return counts


def _try_first(plan: Plan, item: Item) -> None:
    """Compile the kernels of a point, so that workers find them in the cache."""
    try:
        run = plan.runs(item.point, item.seeds[:1])[0]
        if item.seeds:
            make_engine(run, serial=True)
    except Exception:  # it is said where it belongs, beside the run
        return


def _check_travels(case: Any, executor: Executor) -> None:
    """Raise ValueError unless processes of an executor could be told of a case."""
    try:
        packed(case)
        if executors.cannot_start(executor):
            raise ValueError(executors.NO_FILE)
    except Exception as error:  # whatever an object of a user's raises
        raise ValueError(f"{NOT_IMPORTED}, got {checks.describe(case)}: {error}") from error


def _warn_of_failure(table: Table) -> None:
    """Warn if every run failed: the result then has no numbers."""
    if failure := table.failure():
        what, place, error = failure
        at = _text(table.grid.point(place))
        warnings.warn(f"{what} failed, the first at {at}: {error}", RuntimeWarning, 3)


def _pool(executor: Executor | None) -> Any:
    """Return an executor as a context that closes what was made here."""
    if executor is None:
        return ThreadPoolExecutor(threads.available())
    return nullcontext(executor)


@contextmanager
def _given_up_together() -> Iterator[threading.Event]:
    """Make an event that an error, or a signal, sets: for runs that are still going on."""
    stop = threading.Event()
    try:
        yield stop
    except BaseException:
        stop.set()
        raise


def _text(point: Mapping[str, Any]) -> str:
    return checks.pairs(point) or "its only point"
