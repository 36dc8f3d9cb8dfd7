"""An axis of a study in a picture: values in order, ends of cells, logarithmic or not."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.words import drawn

Array = NDArray[np.float64]

#: Values closer together than this factor, first to last, are on a linear axis.
LEAST_RATIO = 5.0
#: As many texts have horizontal labels.
FEW_TEXTS = 6
#: Letters of a text that is a value.
LONGEST = 24


@dataclass(frozen=True)
class GridAxis:
    """An axis of the grid: numbers ascend, texts stay as given; `order` is where they stand."""

    name: str
    values: NDArray[Any]
    order: NDArray[np.intp]

    @classmethod
    def of(cls, name: str, values: NDArray[Any]) -> "GridAxis":
        """Return the axis of a coordinate."""
        if values.dtype.kind in "iuf":
            order = np.argsort(values, kind="stable")
            return cls(name, values[order].astype(np.float64), order)
        return cls(name, values.astype(str), np.arange(values.size))

    @property
    def is_numeric(self) -> bool:
        """Whether the values are numbers."""
        return self.values.dtype.kind == "f"

    @property
    def is_logarithmic(self) -> bool:
        """Whether values are spaced more evenly on a logarithmic axis than on a linear one."""
        if not self.is_numeric or self.values[0] <= 0.0:
            return False
        if self.values[-1] < LEAST_RATIO * self.values[0]:
            return False
        return self.values.size < 3 or _unevenness(np.log(self.values)) < _unevenness(self.values)

    @property
    def places(self) -> Array:
        """Where the values lie: numbers at themselves, texts one after the other."""
        return self.values if self.is_numeric else np.arange(self.values.size, dtype=np.float64)

    @property
    def edges(self) -> Array:
        """Ends of the cells around the values, half-way between two."""
        places = np.log(self.places) if self.is_logarithmic else self.places
        if places.size == 1:
            ends = places[0] + np.array([-0.5, 0.5])
        else:
            between = (places[1:] + places[:-1]) / 2.0
            first, last = 2.0 * places[0] - between[0], 2.0 * places[-1] - between[-1]
            ends = np.concatenate([[first], between, [last]])
        found: Array = np.exp(ends) if self.is_logarithmic else ends
        return found

    @property
    def label(self) -> str:
        """Its name in words."""
        return drawn(self.name.replace("_", " "))

    def text(self, at: int) -> str:
        """Return a value as a text."""
        return value_text(self.values[at])

    def set_up(self, axes: Any, which: str) -> None:
        """Make the x- or y-axis ("x", "y") of a panel this one."""
        getattr(axes, f"set_{which}label")(self.label)
        side = getattr(axes, f"{which}axis")
        if self.is_logarithmic:
            getattr(axes, f"set_{which}scale")("log")
            if self.edges[-1] < 1e4 and self.edges[0] > 1e-3:
                side.set_major_formatter("{x:g}")
            if self.edges[-1] > 20.0 * self.edges[0]:
                side.set_minor_formatter("")
        elif not self.is_numeric:
            turned = which == "x" and self.values.size > FEW_TEXTS
            side.set_ticks(self.places, [drawn(text, LONGEST) for text in self.values.tolist()],
                           rotation=90 if turned else 0)  # fmt: skip


def value_text(value: Any) -> str:
    """Return a value of an axis as a short text: four digits, all of an integer."""
    if np.asarray(value).dtype.kind in "iu":
        return str(value)
    return f"{float(value):.4g}" if np.asarray(value).dtype.kind == "f" else drawn(value, LONGEST)


def _unevenness(places: Array) -> float:
    spacing = np.diff(places)
    return float(spacing.std() / spacing.mean())
