"""What a sweep has found: labelled arrays in memory, filled as runs come in."""

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..base import memory, reports
from ..physics.row import columns
from ..traces import exact, labelled
from .cases import DONE, ERROR, MISSING, Item, Outcome, Plan
from .grid import Grid, Place

#: Bytes of a status in memory.
STATUS_BYTES = 32
#: Seeds of a point that are one piece of work, at most.
SEEDS = 64


class Table:
    """The results of a sweep in memory, and the base of those in files.

    Attributes
    ----------
    grid : Grid
        All points and seeds that it has a place for.
    status : ndarray of str, shape (*points, seeds)
    has_theory : ndarray of bool, shape (*points,)
    is_closed : bool
        Whether nothing is left to do once no run is missing.
    """

    is_closed: bool = True

    def __init__(self, plan: Plan, asked: Grid) -> None:
        self.plan, self.asked = plan, asked
        self.grid = self._grid()
        rows = plan.recording.num_rows
        memory.check(f"a sweep of {self.grid.num_runs:,} runs of {rows:,} rows", self._needed())
        runs = (*self.grid.shape, len(self.grid.seeds))
        self.status = np.full(runs, MISSING, dtype="U8")
        self.has_theory = np.zeros(self.grid.shape, dtype=bool)
        self._errors: dict[Place, str] = {}
        self._raised: dict[Place, str] = {}
        self._values = self._arrays()

    def _grid(self) -> Grid:
        return self.asked

    def _needed(self) -> int:
        """Bytes of memory: of statuses, and of values."""
        return STATUS_BYTES * self.grid.num_runs + self._needed_by_values()

    def _needed_by_values(self) -> int:
        return 8 * sum(math.prod(shape) for shape in self.shapes.values())

    def _arrays(self) -> Any:
        return {name: np.full(shape, np.nan) for name, shape in self.shapes.items()}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the variables."""
        rows, seeds = self.plan.recording.num_rows, self.grid.seeds
        runs = {
            name: (*self.grid.shape, len(seeds), rows, *columns()[name].shape)
            for name in (self.plan.variables if seeds else ())
        }
        return runs | {f"exact_{name}": (*self.grid.shape, rows) for name in self.plan.moments}

    def dims(self, name: str) -> tuple[str, ...]:
        """Return the names of the dimensions of a variable."""
        if name.startswith("exact_"):
            return (*self.grid.axes, "step")
        return (*self.grid.axes, "seed", "step", *labelled.dims_of(name))

    def asked_places(self) -> list[Place]:
        """Return the indices of the points that were asked for."""
        at = self.grid.find(self.asked)
        return list(itertools.product(*(at[name] for name in self.grid.axes)))

    def missing(
        self, places: Iterable[Place], positions: list[int], together: int
    ) -> Iterator[Item]:
        """Yield what is not done yet of some points and seeds, in pieces of so many seeds."""
        together = max(1, min(SEEDS, together))
        for place in places:
            left = [at for at in positions if self.status[(*place, at)] not in DONE]
            wants_theory = self.plan.theory and not self.has_theory[place]
            point = self.grid.point(place)
            for first in range(0, len(left) or int(wants_theory), together):
                part = tuple(left[first : first + together])
                seeds = tuple(self.grid.seeds[at] for at in part)
                yield Item(place, point, part, seeds, wants_theory and first == 0)

    def lacks_anything(self) -> bool:
        """Whether some run, or the theory of some point, is missing."""
        lacks_theory = self.plan.theory and not self.has_theory.all()
        return bool((self.status == MISSING).any() or lacks_theory)

    def failure(self) -> tuple[str, Place, str] | None:
        """Return what failed, the first place and its error, if nothing was done; else None."""
        if not self.grid.seeds:
            count, points = len(self._raised), len(self.asked_places())
            if not count:
                return None
            first = min(self._raised)
            return f"{count:,} of {points:,} points", first, self._raised[first]
        seeds = self.grid.find(self.asked)["seed"]
        runs = [(*place, at) for place in self.asked_places() for at in seeds]
        found = {str(self.status[run]) for run in runs}
        if ERROR not in found or found & set(DONE):
            return None
        failed = [run for run in runs if self.status[run] == ERROR]
        some = "all " if len(failed) == len(runs) else f"{len(failed):,} of "
        return f"{some}{len(runs):,} runs", failed[0][:-1], self._errors[failed[0]]

    def write(self, done: list[tuple[Item, Outcome]]) -> None:
        """Keep what came of some items."""
        for item, outcome in done:
            for name in dict.fromkeys(name for values in outcome.values for name in values):
                self._put_runs(name, item, [values.get(name) for values in outcome.values])
            for name, rows in outcome.exact.items():
                self._put(f"exact_{name}", item.place, rows)
        for item, outcome in done:
            if outcome.raised:
                self._raised[item.place] = outcome.raised
            for at, status, error in zip(
                item.positions, outcome.status, outcome.errors, strict=True
            ):
                self.status[(*item.place, at)] = status
                self._errors[(*item.place, at)] = error
                if not error:
                    del self._errors[(*item.place, at)]
            self.has_theory[item.place] |= item.theory and not outcome.raised

    def _put_runs(self, name: str, item: Item, rows: list[Any]) -> None:
        for at, values in zip(item.positions, rows, strict=True):
            if values is not None:
                self._put(name, (*item.place, at), values)

    def _put(self, name: str, at: Place, rows: NDArray[np.float64]) -> None:
        """Write the first rows of a variable at an index."""
        self._values[name][at][: len(rows)] = rows

    def dataset(self) -> Any:
        """Return the labelled result."""
        xarray = labelled.load_xarray()
        found: dict[str, Any] = {
            name: (dims, values, attributes_of(name, dims), {"source": "sweep"})
            for name, values in self._values.items()
            for dims in [self.dims(name)]
        }
        if self.grid.seeds:
            errors = np.full(self.status.shape, "", dtype=object)
            for at, text in self._errors.items():
                errors[at] = text
            for name, texts in (("status", self.status), ("error", errors)):
                found[name] = ((*self.grid.axes, "seed"), texts.astype(str))
        return xarray.Dataset(found, coords=self.coordinates(), attrs=provenance(self.plan))

    def coordinates(self) -> dict[str, Any]:
        """Return axes, seeds, steps and what else has labels."""
        found: dict[str, Any] = dict(self.grid.axes)
        if self.grid.seeds:
            found["seed"] = labelled.seeds_of(self.grid.seeds)
        found["step"] = ("step", self.plan.steps, labelled.attributes_of("step"))
        return found | labelled.coordinates_of(list(self.shapes))

    def begin(self) -> None:
        """Get ready for results."""

    def finish(self) -> None:
        """Note that all runs are done."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        """Keep what is there."""


def attributes_of(name: str, dims: tuple[str, ...]) -> dict[str, str]:
    """Return units and long name of a variable; of exact theory, too, that it is."""
    is_exact = name.startswith("exact_")
    return exact.attributes_of(name, dims) if is_exact else labelled.attributes_of(name)


def provenance(plan: Plan) -> Mapping[str, str]:
    """Return what was simulated, by which version and when."""
    case = f"{plan.case.__module__}.{getattr(plan.case, '__qualname__', plan.case)}"
    spec = json.dumps({"case": case, "num_steps": plan.recording.num_steps})
    return {**reports.provenance(), "spec": spec}
