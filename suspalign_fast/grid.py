"""The grid of a study: axes of points, and the seeds of every point."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from . import _checks
from .labelled import POWERS
from .row import columns

Place = tuple[int, ...]
#: Names that an axis cannot have: the result has them already.
_TAKEN = ("seed", "step", "status", "error", "digest", "theory", "band", *POWERS.values())


class Grid(NamedTuple):
    """Points, as the product of axes, and seeds."""

    axes: dict[str, list[Any]]
    seeds: tuple[int, ...]

    @classmethod
    def of(cls, over: Any, seeds: Any) -> "Grid":
        """Return the grid of what a user gave.

        Raises
        ------
        ValueError
            If it is not a mapping of names to values, or not seeds.
        """
        given = (seeds,) if _checks.is_number(seeds) else tuple(seeds)
        each = tuple(_checks.integer("seeds", seed, 0, 2**64 - 1) for seed in given)
        if len(set(each)) < len(each):
            raise ValueError(f"seeds must differ, got {_checks.describe(list(each))}")
        return cls(_axes(over), each)

    @property
    def shape(self) -> Place:
        """Numbers of values along the axes."""
        return tuple(len(values) for values in self.axes.values())

    @property
    def num_runs(self) -> int:
        """Number of runs; of points, where there are no seeds."""
        return math.prod(self.shape) * max(1, len(self.seeds))

    def places(self) -> Iterator[Place]:
        """Yield the index of every point."""
        return np.ndindex(self.shape)

    def point(self, place: Place) -> dict[str, Any]:
        """Return the point at an index."""
        pairs = zip(self.axes.items(), place, strict=True)
        return {name: values[i] for (name, values), i in pairs}

    def joined(self, other: "Grid") -> "Grid":
        """Return the smallest grid that holds both; what is in this one keeps its index.

        Raises
        ------
        ValueError
            If their axes have other names, or only one has seeds.
        """
        if set(self.axes) != set(other.axes):
            raise ValueError(f"its axes are {_listed(self.axes)}, not {_listed(other.axes)}")
        if bool(self.seeds) != bool(other.seeds):
            raise ValueError(f"it has {'no ' if other.seeds else ''}seeds")
        axes = {
            name: list(dict.fromkeys([*values, *other.axes[name]]))
            for name, values in self.axes.items()
        }
        return Grid(axes, tuple(dict.fromkeys([*self.seeds, *other.seeds])))

    def find(self, other: "Grid") -> dict[str, list[int]]:
        """Return where the axes and seeds of a grid that lies in this one are."""
        found = {name: _positions(values, other.axes[name]) for name, values in self.axes.items()}
        return found | {"seed": _positions(self.seeds, other.seeds)}


def _positions(values: Iterable[Any], wanted: Iterable[Any]) -> list[int]:
    at = {value: i for i, value in enumerate(values)}
    return [at[value] for value in wanted]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _axes(over: Any) -> dict[str, list[Any]]:
    if not isinstance(over, Mapping):
        raise _checks.wrong("over", over, "a mapping of names to values, like {'step_size': [...]}")
    taken = {*_TAKEN, *columns()} - {"step_size"}
    for name in over:
        if (
            not isinstance(name, str)
            or not name.isidentifier()
            or name in taken
            or name.startswith("exact_")
        ):
            raise ValueError(f"over must name its axes by identifiers of their own, got {name!r}")
    return {name: axis_of(f"over[{name!r}]", values) for name, values in over.items()}


def axis_of(name: str, values: Any) -> list[Any]:
    """Return the values of an axis: numbers or texts, each once.

    Raises
    ------
    ValueError
        If they are not; the message calls them by the name.
    """
    expected = "a sequence of numbers or texts"
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise _checks.wrong(name, values, expected)
    listed = np.asarray(values).tolist() if isinstance(values, np.ndarray) else list(values)
    if not listed:
        raise ValueError(f"{name} must have at least one value, got none")
    texts = isinstance(listed[0], str)
    for value in listed:
        if not isinstance(value, str if texts else int | float | np.number) or value != value:
            raise _checks.wrong(name, value, expected)
    if not texts:
        listed = [value.item() if isinstance(value, np.number) else value for value in listed]
    if len(set(listed)) < len(listed):
        twice = next(v for i, v in enumerate(listed) if v in listed[:i])
        raise ValueError(f"{name} must have each value once, got {twice!r} twice")
    return listed
