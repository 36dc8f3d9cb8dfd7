"""Cases of a sweep: what is to be run at a point of its grid, and running it."""

import contextlib
import dataclasses
import hashlib
import inspect
import pickle
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import theory
from ..base import checks, threads
from ..base.code import BYTECODE
from ..base.values import packed
from ..model.problem import Quadratic
from ..model.run import Recording, Run
from ..model.step_size import KnownStepSize
from ..physics.row import ColumnError, nan_for
from ..running import cost
from ..running.driver import Cancelled, run_in_memory, run_together
from ..traces.trace import Trace
from .grid import seed_at

Array = NDArray[np.float64]
#: What a case may say of its runs beside the problem.
OPTIONS = ("step_size", "engine", "device", "dtype", "update", "optimizer")
#: Status of a run whose case or rule raised an error, and of one that was never run.
ERROR, MISSING = "error", "missing"
#: Statuses of runs that are done for good.
DONE = ("complete", "diverged")
#: Added to an error about a rule whose source is not known.
_DOUBT = ", or other code of its rule: its source cannot be read, and versions of Python differ"
#: The error for a case that other processes cannot import.
NOT_IMPORTED = "case must be a function that workers can import"
#: Characters of an error that are kept, and of a digest.
ERROR_LENGTH, DIGEST_LENGTH = 400, 32


class Plan(NamedTuple):
    """What is the same in every run of a sweep."""

    case: Callable[..., Any]
    recording: Recording
    variables: tuple[str, ...]
    theory: bool
    is_stored: bool = False
    independent: bool = False

    def digest(self, run: Run) -> str:
        """Return the digest of a point."""
        return digest_of(run, "independent" if self.independent else "")

    @property
    def steps(self) -> NDArray[np.int64]:
        """Steps of the rows."""
        return np.concatenate([[0], self.recording.recorded_steps(0, self.recording.num_steps)])

    @property
    def moments(self) -> tuple[str, ...]:
        """Names of exact moments: those of the alignment, which take integrals, where it is asked.

        Files have them all, as those of earlier versions, so that they can go on.
        """
        if not self.theory:
            return ()
        has_alignment = self.is_stored or "alignment" in self.variables
        return tuple(n for n in theory.MOMENTS if has_alignment or not n.startswith("alignment_"))

    def runs(self, point: Mapping[str, Any], seeds: Sequence[int]) -> list[Run]:
        """Return the runs of a point, one a seed, at least one."""
        problem, options = _case_at(self.case, point)
        if self.independent:
            seeds = [seed_at(seed, point) for seed in seeds]
        engine = options.pop("engine", "step")
        run = Run(
            problem,
            **vars(self.recording),
            engine=cost.first_engine(engine),
            seed=seeds[0] if seeds else 0,
            **options,
        )
        first, _ = cost.settled(run, engine)
        return [first, *(dataclasses.replace(first, seed=seed) for seed in seeds[1:])]


class Item(NamedTuple):
    """Some runs of one point, whose results belong at ``positions`` among its seeds."""

    place: tuple[int, ...]
    point: dict[str, Any]
    positions: tuple[int, ...]
    seeds: tuple[int, ...]
    theory: bool


class Outcome(NamedTuple):
    """What comes back of an item: values of each run, status, errors, exact theory, its digest.

    `raised` is what its case raised, which is then the error of all its runs; `doubt` why the
    digest may be another though the run is not.
    """

    values: list[dict[str, Array]]
    status: list[str]
    errors: list[str]
    exact: dict[str, Array]
    digest: str = ""
    raised: str = ""
    doubt: str = ""


class _OfPlan:
    """Work of a plan. If its case cannot be imported, the error comes when the case is used."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._case = plan, b""

    @property
    def plan(self) -> Plan:
        """The plan.

        Raises ValueError if its case cannot be imported here.
        """
        if self._case:
            try:
                case = pickle.loads(self._case)
            except Exception as error:  # whatever an import raises
                raise ValueError(f"{NOT_IMPORTED}: {error}") from error
            self._plan, self._case = self._plan._replace(case=case), b""
        return self._plan

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        with contextlib.suppress(ValueError):  # said where it is needed
            _ = self.plan

    def __getstate__(self) -> dict[str, Any]:
        case = self._case or packed(self._plan.case)
        return vars(self) | {"_plan": self._plan._replace(case=_unknown), "_case": case}


def _unknown() -> None:
    """Take the place of a case that is not unpacked yet."""


class Work(_OfPlan):
    """Does items, wherever it is.

    Parameters
    ----------
    stop : Event, optional
        Set to have work of this process given up by `driver.Cancelled`.
    """

    def __init__(self, plan: Plan, stop: threading.Event | None = None) -> None:
        super().__init__(plan)
        self._stop = stop

    def of(self, plan: Plan) -> "Work":
        """Return the work of another plan, given up with this one."""
        return Work(plan, self._stop)

    def __call__(self, item: Item) -> Outcome:
        """Run an item; an error of its case or of a rule becomes the result of that run."""
        with threads.limited(1):
            try:
                runs = self.plan.runs(item.point, item.seeds)
                exact = self._exact(runs[0]) if item.theory else {}
                digest = self.plan.digest(runs[0]) if self.plan.is_stored else ""
            except Exception as error:  # whatever a case raises
                count = len(item.seeds)
                said = _said(error)
                return Outcome([{}] * count, [ERROR] * count, [said] * count, {}, raised=said)
            traces = self._traces(runs) if item.seeds else []
        values = [self._values(t) if isinstance(t, Trace) else {} for t in traces]
        status = [t.status if isinstance(t, Trace) else ERROR for t in traces]
        errors = ["" if isinstance(t, Trace) else t for t in traces]
        return Outcome(values, status, errors, exact, digest)

    def _traces(self, runs: list[Run]) -> list[Trace | str]:
        """Return the trace of each run, or its error as a text."""
        if len(runs) > 1 and (together := run_together(runs)):
            return list(together)
        traces: list[Trace | str] = []
        for run in runs:
            try:
                traces.append(run_in_memory(run, serial=True, stop=self._stop))
            except Cancelled:
                raise
            except Exception as error:  # a rule's, or the machine's
                traces.append(_said(error))
        return traces

    def _values(self, trace: Trace) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for name in self.plan.variables:
            try:
                found[name] = trace[name]
            except ColumnError as error:  # as in files
                found[name] = nan_for(error, len(trace))
        return found

    def _exact(self, run: Run) -> dict[str, Array]:
        """Exact means and deviations along the steps, where there are any."""
        if not isinstance(run.step_size, KnownStepSize):
            return {}
        with np.errstate(all="ignore"):
            exact = theory.expected(
                run.problem,
                run.step_size,
                self.plan.steps,
                update=run.update,
                optimizer=run.optimizer,
                columns=tuple({name.rpartition("_")[0] for name in self.plan.moments}),
            )
        return {name: getattr(exact, name) for name in self.plan.moments}


class Look(_OfPlan):
    """Finds the digest of a plan's case at points, and runs nothing."""

    def __call__(self, item: Item) -> Outcome:
        """Return the digest of an item's point, or what the case raises instead."""
        try:
            run = self.plan.runs(item.point, ())[0]
            doubt = _DOUBT if BYTECODE in run.step_size.code() else ""
            return Outcome([], [], [], {}, digest=self.plan.digest(run), doubt=doubt)
        except Exception as error:  # whatever a case raises
            return Outcome([], [], [], {}, raised=_said(error))


def digest_of(run: Run, more: str = "") -> str:
    """Return a digest of everything that determines a run, except for its seed."""
    text, arrays = dataclasses.replace(run, seed=0).to_json()
    text += run.step_size.code() + more
    found = hashlib.blake2b(text.encode(), digest_size=DIGEST_LENGTH // 2)
    spectrum = run.problem.spectrum
    every = {"eigenvalues": spectrum.eigenvalues, "multiplicities": spectrum.multiplicities}
    for name, values in sorted((every | arrays).items()):
        found.update(f"{name} {values.shape} {values.dtype}".encode())
        found.update(np.ascontiguousarray(values).data)
    return found.hexdigest()


def _case_at(case: Callable[..., Any], point: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return problem and options of a point."""
    names = inspect.signature(case).parameters
    takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in names.values())
    own = {name: value for name, value in point.items() if takes_all or name in names}
    unused = set(point) - set(own) - set(OPTIONS)
    if unused:
        raise ValueError(f"case must take {', '.join(sorted(unused))}, which over has as axes")
    made = case(**own)
    problem, options = made if isinstance(made, tuple) and len(made) == 2 else (made, {})
    if not isinstance(problem, Quadratic) or not isinstance(options, Mapping):
        raise checks.wrong("case(...)", made, "a Quadratic, or one and a dictionary of options")
    if unknown := set(options) - set(OPTIONS):
        raise ValueError(f"options of a case must be {', '.join(OPTIONS)}, got {sorted(unknown)}")
    asked = {name: point[name] for name in OPTIONS if name in point} | dict(options)
    if "step_size" not in asked:
        raise ValueError("case must say a step_size where over has no axis of that name")
    return problem, asked


def _said(error: BaseException) -> str:
    """Return an error as a text that files can hold, of ERROR_LENGTH bytes at most."""
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:  # whatever an error of a user's does
        text = type(error).__name__
    code = text.encode(errors="backslashreplace")
    if len(code) > ERROR_LENGTH:
        code = code[: ERROR_LENGTH - 3] + b"..."
    return code.decode(errors="ignore")
