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

Array = NDArray[np.float64]

BANDS = ("dominant", "bulk")
NUM_BANDS = len(BANDS)
#: Numbers of a vector register that rows are padded to.
VECTOR = 8


class Sums(NamedTuple):
    """A group of sums that every row has for each band.

    Attributes
    ----------
    name : str
        Of the column.
    letter : str
        S_1 is the sum of power 1 in the group of letter S.
    powers : tuple of int
        Powers of lambda, one a sum.
    takes_noise : bool
        Whether c^2 is weighted by s^2.
    meaning : str
    """

    name: str
    letter: str
    powers: tuple[int, ...]
    takes_noise: bool
    meaning: str

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the sums, like S1."""
        return tuple(f"{self.letter}{power}" for power in self.powers)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of a row of the column: bands and powers."""
        return NUM_BANDS, len(self.powers)

    @property
    def dimension(self) -> str:
        """Name of the dimension of the powers."""
        return "noise_power" if self.takes_noise else "power"


POWER_SUMS = Sums("power_sums", "S", (1, 2, 3, 4), False, "S_p = sum lambda^p c^2 of each band")
NOISE_SUMS = Sums("noise_sums", "R", (4, 5, 6), True, "R_p = sum lambda^p s^2 c^2 of each band")
SUMS = (POWER_SUMS, NOISE_SUMS)
#: Dimensions of columns beside that of rows, which is a column.
DIMENSIONS = ("band", *(sums.dimension for sums in SUMS))

#: Sums of a band in a row, and the numbers that hold them.
NUM_SUMS = sum(len(sums.powers) for sums in SUMS)
ROW_SIZE = VECTOR * -(-NUM_SUMS // VECTOR)


def _slices() -> dict[str, slice]:
    ends = np.cumsum([len(sums.powers) for sums in SUMS]).tolist()
    return {
        sums.name: slice(end - len(sums.powers), end) for sums, end in zip(SUMS, ends, strict=True)
    }


#: Where the sums of each group lie.
SLICES = _slices()


#: Power of lambda in every sum, and whether it takes s^2.
SUM_POWERS = tuple((power, sums.takes_noise) for sums in SUMS for power in sums.powers)


class CrossSums(NamedTuple):
    """The group of sums that rows have where there is a velocity v beside the coefficients.

    Attributes
    ----------
    name : str
        Of the column.
    labels : tuple of str
        Names of the sums, like C1.
    terms : tuple of tuple
        Power of lambda, whether it takes s^2, and whether it is of c v or of v^2, of each.
    meaning : str
    """

    name: str
    labels: tuple[str, ...]
    terms: tuple[tuple[int, bool, bool], ...]
    meaning: str

    @property
    def dimension(self) -> str:
        """Name of the dimension of the sums."""
        return "cross"

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of a row of the column: bands and sums."""
        return NUM_BANDS, len(self.terms)


_CROSS = {
    "C1": (1, False, True), "C2": (2, False, True), "C3": (3, False, True),
    "V1": (1, False, False), "V2": (2, False, False),
    "X4": (4, True, True), "X5": (5, True, True), "W4": (4, True, False),
}  # fmt: skip
CROSS_SUMS = CrossSums(
    "cross_sums",
    tuple(_CROSS),
    tuple(_CROSS.values()),
    "C_p = sum lambda^p c v, V_p of v^2, X_p = sum lambda^p s^2 c v, W_p of v^2, of each band",
)
#: With a velocity kernels sum three parts of ROW_SIZE numbers, laid out alike: of c^2, c v and v^2.
CROSS_ROW_SIZE = 3 * ROW_SIZE
#: Where the sums of `CROSS_SUMS` lie in them.
CROSS_COLUMNS = tuple(
    ROW_SIZE * (1 if is_of_both else 2) + SUM_POWERS.index((power, takes_noise))
    for power, takes_noise, is_of_both in CROSS_SUMS.terms
)


def cross_sums_of(sums: Array) -> Array:
    """Return the sums of `CROSS_SUMS` of rows of three parts, none of rows of one."""
    columns = CROSS_COLUMNS if sums.shape[-1] == CROSS_ROW_SIZE else ()
    return sums[..., list(columns)] if columns else sums[..., :0]


def cross_terms(lam: Array, std: Array, c: Array, v: Array) -> list[Array]:
    """Return what directions add to every sum of `CROSS_SUMS`."""
    products = {True: c * v, False: v * v}
    return [
        (lam**power * std**2 if takes_noise else lam**power) * products[is_of_both]
        for power, takes_noise, is_of_both in CROSS_SUMS.terms
    ]


def sum_weights(lam: Array, std: Array) -> list[Array]:
    """Return what c^2 is multiplied by in every sum, for directions of given lambda and s."""
    return [lam**power * std**2 if takes_noise else lam**power for power, takes_noise in SUM_POWERS]


#: What belongs to a run: N_1, N_2 and K of each band, one of NOISE_CONSTANTS a column.
NOISE_CONSTANTS = ("N1", "N2", "K")
CONSTANTS_SHAPE = (NUM_BANDS, len(NOISE_CONSTANTS))
#: Powers of lambda in the sums of the noisy gradient, ``sum lambda^p h^2``.
NOISY_POWERS = (0, 1, 2)
NUM_NOISY = len(NOISY_POWERS)

#: What a step-size rule reads of each band: the sums of the row, then at these columns the
#: constants, the sums of the noisy gradient, and the weight of the band in the update.
CONSTANTS_AT = ROW_SIZE
NOISY_AT = CONSTANTS_AT + len(NOISE_CONSTANTS)
WEIGHT_AT = NOISY_AT + NUM_NOISY
#: Where there is a velocity, also its sums and the factors of the optimizer: pull and carry.
CROSS_AT = VECTOR * -(-(WEIGHT_AT + 1) // VECTOR)
FACTORS_AT = CROSS_AT + len(CROSS_SUMS.terms)
NUM_FACTORS = 2
RULE_COLUMNS = VECTOR * -(-(FACTORS_AT + NUM_FACTORS) // VECTOR)


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
