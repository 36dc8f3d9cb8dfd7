"""Cases of a sweep: what is to be run at a point of its grid, and running it."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _checks, _threads, cost, theory
from .driver import run_in_memory, run_together
from .problem import Quadratic
from .run import Recording, Run
from .step_size import KnownStepSize
from .trace import Trace

Array = NDArray[np.float64]
#: What a case may say of its runs beside the problem.
OPTIONS = ("step_size", "engine", "device", "dtype", "update")
#: Status of a run whose case or rule raised.
ERROR = "error"


class Plan(NamedTuple):
    """What is the same in every run of a sweep."""

    case: Callable[..., Any]
    num_steps: int
    record_every: int
    record_at: NDArray[np.int64] | None
    variables: tuple[str, ...]
    theory: bool

    @property
    def recording(self) -> Recording:
        """Which steps become rows."""
        return Recording(self.num_steps, self.record_every, self.record_at)

    @property
    def steps(self) -> NDArray[np.int64]:
        """Steps of the rows."""
        return np.concatenate([[0], self.recording.recorded_steps(0, self.num_steps)])

    def runs(self, point: Mapping[str, Any], seeds: Sequence[int]) -> list[Run]:
        """Return the runs of a point, one a seed, at least one."""
        problem, options = _case_at(self.case, point)
        engine = options.pop("engine", "step")
        run = Run(
            problem,
            num_steps=self.num_steps,
            record_every=self.record_every,
            record_at=self.record_at,
            engine=cost.first_engine(engine),
            seed=seeds[0] if seeds else 0,
            **options,
        )
        first, _ = cost.settled(run, engine)
        return [first, *(dataclasses.replace(first, seed=seed) for seed in seeds[1:])]


class Item(NamedTuple):
    """Some runs of one point."""

    place: tuple[int, ...]
    point: dict[str, Any]
    first_seed: int
    seeds: tuple[int, ...]


class Outcome(NamedTuple):
    """What comes back of an item: values of each run, status, errors, exact theory."""

    values: list[dict[str, Array]]
    status: list[str]
    errors: list[str]
    exact: dict[str, Array]


class Work:
    """Does items, wherever it is."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def __call__(self, item: Item) -> Outcome:
        """Run an item: what its case or a rule raises is kept beside its runs."""
        with _threads.limited(1):
            try:
                runs = self.plan.runs(item.point, item.seeds)
                exact = self._exact(runs[0]) if item.first_seed == 0 else {}
            except Exception as error:  # whatever a case raises
                count = len(item.seeds)
                return Outcome([{}] * count, [ERROR] * count, [_said(error)] * count, {})
            traces = self._traces(runs) if item.seeds else []
        values = [self._values(t) if isinstance(t, Trace) else {} for t in traces]
        status = [t.status if isinstance(t, Trace) else ERROR for t in traces]
        errors = ["" if isinstance(t, Trace) else t for t in traces]
        return Outcome(values, status, errors, exact)

    def _traces(self, runs: list[Run]) -> list[Trace | str]:
        """Traces of runs, or what was raised instead."""
        if len(runs) > 1 and (together := run_together(runs)):
            return list(together)
        traces: list[Trace | str] = []
        for run in runs:
            try:
                traces.append(run_in_memory(run, serial=True))
            except Exception as error:  # a rule's, or the machine's
                traces.append(_said(error))
        return traces

    def _values(self, trace: Trace) -> dict[str, Array]:
        return {name: trace[name] for name in self.plan.variables}

    def _exact(self, run: Run) -> dict[str, Array]:
        """Exact means and deviations along the steps, where there are any."""
        if not self.plan.theory or not isinstance(run.step_size, KnownStepSize):
            return {}
        with np.errstate(all="ignore"):
            exact = theory.expected(run.problem, run.step_size, self.plan.steps, update=run.update)
        return {name: getattr(exact, name) for name in theory.MOMENTS}


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
        raise _checks.wrong("case(...)", made, "a Quadratic, or one and a dictionary of options")
    if unknown := set(options) - set(OPTIONS):
        raise ValueError(f"options of a case must be {', '.join(OPTIONS)}, got {sorted(unknown)}")
    asked = {name: point[name] for name in OPTIONS if name in point} | dict(options)
    if "step_size" not in asked:
        raise ValueError("case must say a step_size where over has no axis of that name")
    return problem, asked


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
