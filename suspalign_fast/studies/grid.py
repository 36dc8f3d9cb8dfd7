"""The grid of a study: axes of points, and the seeds of every point."""

import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..base import checks
from ..physics.row import columns
from ..traces.labelled import POWERS

Place = tuple[int, ...]
#: Names that an axis cannot have: the result has them already.
_NUMBERS = (int, float, np.bool_, np.integer, np.floating)
_TAKEN = ("seed", "step", "status", "error", "digest", "theory", "band", *POWERS.values())


class Grid(NamedTuple):
    """Points, as the product of axes, and seeds."""

    axes: dict[str, list[Any]]
    seeds: tuple[int, ...]

    @classmethod
    def of(cls, over: Any, seeds: Any) -> "Grid":
        """Return the grid of what a user gave.

        Raises ValueError if it is not a mapping of names to values, or not seeds.
        """
        if (
            not isinstance(seeds, Iterable)
            or getattr(seeds, "ndim", 1) != 1
            or isinstance(seeds, str | bytes)
        ):
            expected = "a sequence of integers, like range(5) for five runs or [5] for seed 5"
            raise checks.wrong("seeds", seeds, expected)
        each = tuple(
            checks.integer("seeds", seed, 0, 2**64 - 1)
            for seed in checks.listed("seeds", seeds, "integers")
        )
        if len(set(each)) < len(each):
            raise ValueError(f"seeds must differ, got {checks.describe(list(each))}")
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

        Raises ValueError if their axes have other names, or only one has seeds.
        """
        if set(self.axes) != set(other.axes):
            raise ValueError(f"its axes are {_listed(self.axes)}, not {_listed(other.axes)}")
        if bool(self.seeds) != bool(other.seeds):
            raise ValueError(f"it has {'no ' if other.seeds else ''}seeds")
        axes = {
            name: axis_of(f"its axis {name!r}", list(dict.fromkeys([*values, *other.axes[name]])))
            for name, values in self.axes.items()
        }
        return Grid(axes, tuple(dict.fromkeys([*self.seeds, *other.seeds])))

    def find(self, other: "Grid") -> dict[str, list[int]]:
        """Return where the axes and seeds of a grid that lies in this one are."""
        found = {name: _positions(values, other.axes[name]) for name, values in self.axes.items()}
        return found | {"seed": _positions(self.seeds, other.seeds)}


def seed_at(seed: int, point: Mapping[str, Any]) -> int:
    """Return the seed of a run whose noise no other point has.

    It follows from the seed and the values of the axes, in whatever order and type they are.

    Examples
    --------
    >>> from suspalign_fast.studies.grid import seed_at
    >>> seed_at(0, {"a": 1, "b": 2.0}) == seed_at(0, {"b": 2, "a": 1.0}) != seed_at(1, {"a": 1})
    True
    """
    values = [(name, _plain(value)) for name, value in sorted(point.items())]
    said = [
        (name, value if isinstance(value, str) or value != float(value) else float(value).hex())
        for name, value in values
    ]
    code = hashlib.blake2b(repr((int(seed), said)).encode(), digest_size=8).digest()
    return int.from_bytes(code, "little")


def _positions(values: Iterable[Any], wanted: Iterable[Any]) -> list[int]:
    at = {value: i for i, value in enumerate(values)}
    return [at[value] for value in wanted]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _axes(over: Any) -> dict[str, list[Any]]:
    if not isinstance(over, Mapping):
        raise checks.wrong("over", over, "a mapping of names to values, like {'step_size': [...]}")
    taken = {*_TAKEN, *columns()} - {"step_size"}
    for name in over:
        if (
            not isinstance(name, str)
            or not name.isidentifier()
            or name in taken
            or re.fullmatch(r"exact_.*|string\d+", name)
        ):
            raise ValueError(
                f"over must name its axes by identifiers of their own, got {checks.describe(name)}"
            )
    return {name: axis_of(f"over[{name!r}]", values) for name, values in over.items()}


def axis_of(name: str, values: Any) -> list[Any]:
    """Return the values of an axis: numbers or texts, each once.

    Parameters
    ----------
    name : str
        What errors call the axis.
    values : iterable
        In an order of their own: no set.

    Raises
    ------
    ValueError
        If they are not; the message calls them by the name.

    Examples
    --------
    >>> import numpy as np
    >>> from suspalign_fast.studies.grid import axis_of
    >>> axis_of("gap_ratio", np.array([10.0, 50.0]))
    [10.0, 50.0]
    """
    expected = "a sequence of numbers or texts that can be printed"
    is_iterable = isinstance(values, Iterable) and getattr(values, "ndim", 1) == 1
    if not is_iterable or isinstance(values, str | bytes | set | frozenset | Mapping):
        raise checks.wrong(name, values, expected)
    if hasattr(values, "__array__"):
        array = checks.array(name, values, expected)
        if array.dtype.kind not in "biufUO":
            raise checks.wrong(name, values, expected)
        values = array.tolist()
    given = checks.listed(name, values, expected)
    listed = [_plain(value) for value in given]
    if not listed:
        raise ValueError(f"{name} must have at least one value, got none")
    for value, plain in zip(given, listed, strict=True):
        if plain is None or isinstance(plain, str) != isinstance(listed[0], str):
            raise checks.wrong(name, value, expected)
    if len(set(listed)) < len(listed):
        twice = next(v for i, v in enumerate(listed) if v in listed[:i])
        raise ValueError(f"{name} must have each value once, got {checks.describe(twice)} twice")
    stored = np.asarray(listed)
    if stored.dtype == object or stored.tolist() != listed:
        raise checks.wrong(name, given, "of numbers that one type of 64 bits holds exactly")
    return listed


def _plain(value: Any) -> Any:
    """Return a number or a text as Python's own, None of anything else."""
    if isinstance(value, str):
        return str(value) if value.isprintable() else None
    if isinstance(value, np.timedelta64) or not isinstance(value, _NUMBERS):
        return None
    number = value.item() if isinstance(value, np.generic) else value
    return number if isinstance(number, int | float) and number == value == number else None
