"""What a row of a trace is: the sums that engines record, and the columns that follow from them.

Kernels, rules, traces, files, pictures and pages take names, widths and offsets from here.

A row has sums for the dominant and for the bulk band. `SUMS` lists them by groups, which lie one
after the other in ROW_SIZE numbers a band, padded to whole vectors of a processor. Everything else
that a trace shows is a derived column: a function of the recorded ones and of what is the same in
every row of a run (`Part`). `derived` adds one; it is then an attribute and an
item of every trace, a dataset of every file written from then on, and a line of the table in
``docs/file-format.md``.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from . import layout
from .layout import CROSS_SUMS, DIMENSIONS, SUMS, Array


class Velocity(NamedTuple):
    """What rows have beside their sums where there is a velocity.

    Attributes
    ----------
    sums : ndarray of float64, shape (..., 2, 8)
        Those of `CROSS_SUMS` of both bands.
    pull, carry : float
        What the optimizer multiplies gradient and velocity by in a step.
    """

    sums: Array
    pull: float
    carry: float


def __getattr__(name: str) -> Any:
    """Look up what `layout` says of the sums: it belongs to a row, too."""
    return getattr(layout, name)


# --- columns of a trace ------------------------------------------------------------------------


class Part:
    """Recorded columns of some rows, each read once it is asked for, and what is the same in all.

    ``part.step``, ``part.step_size``, ``part.power_sums`` of shape (rows, 2, 4) and
    ``part.noise_sums`` of shape (rows, 2, 3) are the columns.

    Parameters
    ----------
    read : callable
        ``read(name)`` returns a recorded column.
    constants : ndarray of float64, shape (2, 3)
    update : tuple of two float
    constants_at : callable, optional
        ``constants_at(constants, power_sums, noise_sums)`` returns those of rows, where noise
        depends on the state.
    factors : tuple of two float, optional
        Those of gradient and velocity in a step, where there is a velocity.

    Attributes
    ----------
    constants : ndarray of float64, shape (2, 3) or (rows, 2, 3)
        N_1, N_2 and K of both bands.
    """

    def __init__(
        self,
        read: Callable[[str], NDArray[Any]],
        constants: Array,
        update: tuple[float, float],
        constants_at: Callable[[Array, Array, Array], Array] | None = None,
        factors: tuple[float, float] | None = None,
    ) -> None:
        self._read = read
        self._factors = factors
        self._constants = constants
        self._constants_at = constants_at
        self.update = update

    @functools.cached_property
    def constants(self) -> Array:
        """N_1, N_2 and K, of the run or of each row."""
        if self._constants_at is None:
            return self._constants
        return self._constants_at(self._constants, self.power_sums, self.noise_sums)

    @functools.cached_property
    def velocity(self) -> Velocity | None:
        """What rows have where there is a velocity, None without."""
        return None if self._factors is None else Velocity(self.cross_sums, *self._factors)

    def __getattr__(self, name: str) -> NDArray[Any]:
        if name not in recorded(has_velocity=self.__dict__.get("_factors") is not None):
            raise AttributeError(name)
        values = self.__dict__[name] = self._read(name)
        return values


class Column(NamedTuple):
    """A column of a trace.

    Attributes
    ----------
    name : str
    unit : str
        In terms of the loss and the parameters theta; "1" where it has none.
    meaning : str
    dtype : type
        int64 or float64.
    shape : tuple of int
        Shape of a row.
    function : callable or None
        ``function(part)`` returns its values; None where they are recorded.
    """

    name: str
    unit: str
    meaning: str
    dtype: type[Any] = np.float64
    shape: tuple[int, ...] = ()
    function: Callable[[Part], Array] | None = None


_STEP = Column("step", "1", "step t", np.int64)
_STEP_SIZE = Column("step_size", "theta^2/loss", "step size that the rule assigns at the row")
_OF_SUMS = tuple(Column(s.name, "varies", s.meaning, shape=s.shape) for s in SUMS)

#: Columns that engines record; all others follow from them. With a velocity there is one more.
RECORDED = {column.name: column for column in (_STEP, _STEP_SIZE, *_OF_SUMS)}
_CROSS_COLUMN = Column(CROSS_SUMS.name, "varies", CROSS_SUMS.meaning, shape=CROSS_SUMS.shape)


def recorded(*, has_velocity: bool = False) -> dict[str, Column]:
    """Return the columns that engines record, by name."""
    return RECORDED | {_CROSS_COLUMN.name: _CROSS_COLUMN} if has_velocity else RECORDED


def recorded_bytes(*, has_velocity: bool = False) -> int:
    """Return the bytes of a recorded row."""
    every = recorded(has_velocity=has_velocity).values()
    return sum(8 * int(np.prod(column.shape)) for column in every)


_derived: dict[str, Column] = {}
_Function = TypeVar("_Function", bound=Callable[[Part], Array])


def derived(name: str, *, unit: str, meaning: str) -> Callable[[_Function], _Function]:
    """Make a function of the recorded columns a column of every trace.

    Parameters
    ----------
    name : str
        An identifier that no column and no dimension of one has yet.
    unit, meaning : str

    Raises
    ------
    ValueError
        If there is a column or a dimension of that name, or it is no identifier.

    Examples
    --------
    >>> from suspalign_fast import row
    >>> @row.derived("gradient_norm", unit="loss/theta", meaning="norm of the gradient")
    ... def gradient_norm(part):
    ...     return part.power_sums[..., 1].sum(-1) ** 0.5
    >>> row.remove("gradient_norm")
    """
    if not name.isidentifier() or name in columns() or name in DIMENSIONS:
        raise ValueError(
            f"name must be an identifier that no column and no dimension has, got {name!r}"
        )

    def register(function: _Function) -> _Function:
        _derived[name] = Column(name, unit, meaning, function=function)
        return function

    return register


def remove(name: str) -> None:
    """Take back a derived column.

    Raises
    ------
    KeyError
        If there is none of that name.
    """
    del _derived[name]


def columns(*, has_velocity: bool = False) -> dict[str, Column]:
    """Return all columns by name: step and step size, the derived ones, the sums."""
    head = {column.name: column for column in (_STEP, _STEP_SIZE)}
    sums = (*_OF_SUMS, _CROSS_COLUMN) if has_velocity else _OF_SUMS
    return head | _derived | {column.name: column for column in sums}


def derived_columns(part: Part, failed: set[str]) -> dict[str, Array]:
    """Return all derived columns by name: NaN where one fails, which is said if not in `failed`."""
    found = {}
    for name, column in _derived.items():
        try:
            found[name] = values_of(column, part)
        except ColumnError as error:
            found[name] = nan_for(error, len(part.power_sums), is_said=name in failed)
            failed.add(name)
    return found


def nan_for(error: "ColumnError", count: int, *, is_said: bool = False) -> Array:
    """Return what stands for a column whose function failed, with a warning."""
    if not is_said:
        warnings.warn(f"{error}; the column is NaN", RuntimeWarning, stacklevel=3)
    return np.full(count, np.nan)


class ColumnError(ValueError):
    """The function of a derived column fails."""


def values_of(column: Column, part: Part) -> Array:
    """Return the values of a derived column; raise ColumnError if there is not one a row."""
    assert column.function is not None
    try:
        values = np.asarray(column.function(part), dtype=np.float64)
    except Exception as error:  # whatever a function of a user's raises
        raise ColumnError(
            f"the function of column {column.name!r} raised {type(error).__name__}: {error}"
        ) from error
    expected = part.power_sums.shape[:1]
    if values.shape != expected:
        raise ColumnError(
            f"the function of column {column.name!r} must return an array of shape {expected}, "
            f"got {values.shape}"
        )
    return values
