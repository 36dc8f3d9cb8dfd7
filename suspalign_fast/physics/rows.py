"""Recorded rows: the columns from which all others follow, computed or measured."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .layout import CONSTANTS_SHAPE, NOISE_CONSTANTS, SLICES, cross_sums_of
from .row import Column


@dataclass(frozen=True)
class Rows:
    """Recorded steps: the columns from which all others follow.

    Attributes
    ----------
    step : ndarray of int64, shape (rows,)
    step_size : ndarray of float64, shape (rows,)
        The size the rule assigns at the row; NaN where a schedule has ended.
    power_sums : ndarray of float64, shape (rows, 2, 4)
    noise_sums : ndarray of float64, shape (rows, 2, 3)
    cross_sums : ndarray of float64, shape (rows, 2, 8), or (rows, 2, 0) without a velocity
    """

    step: NDArray[np.int64]
    step_size: NDArray[np.float64]
    power_sums: NDArray[np.float64]
    noise_sums: NDArray[np.float64]
    cross_sums: NDArray[np.float64]

    @classmethod
    def from_sums(
        cls, step: NDArray[np.int64], step_size: NDArray[np.float64], sums: NDArray[np.float64]
    ) -> "Rows":
        """Split sums of shape (rows, bands, NUM_SUMS or more) into their groups."""
        power, noise = (sums[..., part] for part in SLICES.values())
        return cls(step, step_size, power, noise, cross_sums_of(sums))

    @classmethod
    def joined(cls, parts: "list[Rows]") -> "Rows":
        """Return the rows of all parts, one after the other."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))

    def __len__(self) -> int:
        return len(self.step)

    def __getitem__(self, rows: slice) -> "Rows":
        return Rows(*(getattr(self, f.name)[rows] for f in fields(self)))

    def finite_prefix(self) -> "Rows":
        """Return the rows before the first one with a sum that is not finite."""
        every = (self.power_sums, self.noise_sums, self.cross_sums)
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(sum(sums.sum() for sums in every)):
                return self
        finite = np.logical_and.reduce([np.isfinite(sums).all((1, 2)) for sums in every])
        if finite.all():
            return self
        return self[: int(np.argmin(finite))]


# --- Columns of rows that were measured, beside those that every row has -------------------------
#
# They are recorded, not derived: what was measured on a network does not follow from its sums
# alone.


#: Up to here the step size eta* is one at which a quadratic still tells what a step does.
EDGE = 0.9

CONSTANTS = Column(
    "noise_constants", "varies", "N_1, N_2 and K of each band", shape=CONSTANTS_SHAPE
)
LOSS = Column("loss", "loss", "loss L(theta), measured")
ERROR = Column("critical_error", "theta^2/loss", "standard error of eta*_t, noise estimated")
CRITICAL_EDGE = Column("critical_edge", "1", "eta*_t lambda_1 / 2")
BEYOND = Column(
    "beyond_quadratic", "1", f"1 where eta*_t lambda_1 / 2 is not below {EDGE}", np.int64
)
TOP = Column("top_eigenvalues", "loss/theta^2", "lambda_1 ... lambda_(k+1)")
OF_ANY_LENGTH = TOP.name

#: Dimensions of a row of a column.
DIMENSIONS = {CONSTANTS.name: ("band", "constant"), TOP.name: ("rank",)}
_COLUMNS = {c.name: c for c in (LOSS, CONSTANTS, ERROR, CRITICAL_EDGE, BEYOND, TOP)}


def columns_of(shapes: Mapping[str, tuple[int, ...]]) -> tuple[Column, ...]:
    """Return the columns of some names, checked to have the shapes of these."""
    found = []
    for name in shapes:
        if name not in _COLUMNS:
            raise ValueError(f"measured columns must be of {', '.join(_COLUMNS)}, got {name!r}")
    for name in (known for known in _COLUMNS if known in shapes):
        column, shape = _COLUMNS[name], shapes[name]
        if name == OF_ANY_LENGTH:
            if len(shape) != 1 or shape[0] < 2:
                raise ValueError(f"rows of {name!r} must have shape (k + 1,), k >= 1, got {shape}")
            column = column._replace(shape=shape)
        if shape != column.shape:
            raise ValueError(f"rows of {name!r} must have shape {column.shape}, got {shape}")
        found.append(column)
    return tuple(found)


def check_values(name: str, values: NDArray[Any]) -> None:
    """Raise ValueError if rows of a column are what nobody can have measured.

    Top eigenvalues are numbers from the largest on; lambda_(k+1), the last, may be unknown (NaN).
    """
    if name != TOP.name:
        return
    known = np.where(np.isnan(values[:, -1:]), values[:, :-1].min(1, keepdims=True), values[:, -1:])
    rows = np.concatenate([values[:, :-1], known], axis=1)
    wrong = ~(np.isfinite(rows).all(1) & (np.diff(rows, axis=1) <= 0.0).all(1))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise ValueError(
            f"{name} must be finite and descending, from lambda_1 to lambda_(k+1), of which only "
            f"the last may be NaN, got {values[at].tolist()} at row {at}"
        )


def columns() -> dict[str, Column]:
    """Return all of them by name."""
    return dict(_COLUMNS)


def coordinates_of(names: Mapping[str, Any]) -> dict[str, NDArray[Any] | list[str]]:
    """Return the coordinates of the dimensions that only these columns have."""
    found: dict[str, NDArray[Any] | list[str]] = {}
    if CONSTANTS.name in names:
        found["constant"] = list(NOISE_CONSTANTS)
    if TOP.name in names:
        found["rank"] = np.arange(1, names[TOP.name].shape[-1] + 1)
    return found
