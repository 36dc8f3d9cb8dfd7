"""A trace: one row a recorded step, with every column of docs/file-format.md."""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import checks, words
from ..base.values import Travels, may_underflow, same_values
from ..model.noise import ADDITIVE, Noise
from ..model.optimizer import PLAIN, Optimizer
from ..model.problem import Quadratic
from ..model.run import Run, Update, update_weights
from ..physics import formulas as physics
from ..physics import rows
from ..physics.formulas import Array, Weights
from ..physics.layout import BANDS, CONSTANTS_SHAPE, CROSS_SUMS, SUMS, CrossSums, Sums
from ..physics.row import RECORDED, Column, ColumnError, Part, columns, nan_for, recorded, values_of
from . import labelled

#: What a file says of its run, and what is said of one that is "running" and whose writer is gone.
STATUSES = ("running", "complete", "diverged", "failed", "interrupted")
KILLED = "killed"


def _column(name: str, meaning: str) -> Any:
    """Return the property of a trace that is one of its columns."""
    return property(lambda trace: trace[name], doc=meaning)


class Trace(Travels):
    """Rows of a run, in memory or read from its file column by column on first use.

    Columns are attributes and items: ``trace.alignment`` or ``trace["alignment"]``, read-only
    arrays. Made by `simulate` and `load_trace`; `Trace.measured` makes one of rows from
    anywhere else.

    Attributes
    ----------
    run : Run
        The problem and how it was simulated; an error where rows were measured.
    problem : Quadratic or None
        None where rows were measured.
    status : str
        "running", "complete", "diverged", "failed" or "interrupted"; "killed" where a file says
        "running" and no process writes it.
    path : Path or None
        The file behind the trace.

    Notes
    -----
    Traces are equal where their runs, their status and what was recorded are. One in memory pickles
    with what was recorded, one with a file as the name of that.
    """

    step: NDArray[np.int64] = _column("step", "Step t of every row, shape (rows,).")
    step_size: Array = _column(
        "step_size", "Step size assigned at every row; NaN where a schedule has ended."
    )
    loss: Array = _column("loss", "Loss ``L(theta)``.")
    loss_dominant: Array = _column("loss_dominant", "Loss in the dominant subspace.")
    loss_bulk: Array = _column("loss_bulk", "Loss in the bulk subspace.")
    grad_sq_dominant: Array = _column(
        "grad_sq_dominant", "Squared norm of the gradient in the dominant subspace."
    )
    grad_sq_bulk: Array = _column(
        "grad_sq_bulk", "Squared norm of the gradient in the bulk subspace."
    )
    alignment: Array = _column(
        "alignment", "Alignment A in [0, 1]; NaN where the gradient is zero."
    )
    critical_step_size: Array = _column(
        "critical_step_size",
        "Critical step size under the run's update; see "
        "`physics.formulas.critical_step_size`. +inf where alignment falls and 0 where it "
        "rises for every step size.",
    )
    power_sums: Array = _column(
        "power_sums", "S_1 ... S_4 of the dominant and the bulk band, shape (rows, 2, 4)."
    )
    noise_sums: Array = _column(
        "noise_sums", "R_4 ... R_6 of the dominant and the bulk band, shape (rows, 2, 3)."
    )
    cross_sums: Array = _column(
        "cross_sums",
        "C_1 ... C_3, V_1, V_2, X_4, X_5, W_4 of both bands under momentum, shape (rows, 2, "
        "8). ``C_p = sum lambda^p c v`` with the velocity v, ``V_p = sum lambda^p v^2``; X "
        "and W the same with ``s^2`` in every term.",
    )

    _made_anew: ClassVar[dict[str, Any]] = {"_cache": dict}

    def __init__(
        self,
        run: Run | Callable[[], Run] | None,
        status: str,
        num_rows: int,
        read: Callable[[str, int, int], NDArray[Any]],
        path: Path | None = None,
        conditions: "Callable[[], Conditions] | None" = None,
        source: str = "",
    ) -> None:
        self.status = status
        self.path = path
        self._given_run, self._given_conditions, self._source = run, conditions, source
        self._num_rows = num_rows
        self._read = read
        self._cache: dict[str, NDArray[Any]] = {}

    @classmethod
    def from_columns(cls, run: Run, status: str, columns: Mapping[str, NDArray[Any]]) -> "Trace":
        """Return a trace of recorded columns held in memory."""
        return cls(run, status, len(columns["step"]), _InMemory(dict(columns)).read)

    @classmethod
    def measured(
        cls,
        columns: Mapping[str, ArrayLike],
        constants: ArrayLike,
        *,
        source: str,
        update: Update = "full",
        status: str = "complete",
    ) -> "Trace":
        """Return a trace of rows that were measured, on a network or whatever else.

        Parameters
        ----------
        columns : mapping of str to array_like
            "step", "step_size", "power_sums" of shape (rows, 2, 4) and "noise_sums" of shape
            (rows, 2, 3): what engines record. Others are those of `suspalign_fast.physics.rows`;
            "top_eigenvalues", of shape (rows, k + 1), descend.
        constants : array_like, shape (2, 3) or (rows, 2, 3)
            N_1, N_2 and K of both bands, of all rows or of each.
        source : str
            What was measured, for pictures.
        update : {"full", "dominant", "bulk"} or tuple of two float
        status : str

        Raises
        ------
        ValueError
            If a column is missing or has another shape, or eigenvalues do not descend.

        Examples
        --------
        >>> import suspalign_fast as sa
        >>> rows = {"step": [0, 1], "step_size": [0.1, 0.1]}
        >>> rows |= {"power_sums": [[[1, 1, 1, 1], [3, 1, 1, 1]]] * 2}
        >>> rows |= {"noise_sums": [[[0, 0, 0]] * 2] * 2}
        >>> trace = sa.Trace.measured(rows, [[0, 0, 0]] * 2, source="two losses")
        >>> trace.alignment
        array([0.5, 0.5])
        """
        checked: dict[str, NDArray[Any]] = {}
        count = len(np.asarray(columns.get("step", [])))
        for name, column in RECORDED.items():
            shape = (count, *column.shape)
            if name not in columns or np.shape(columns[name]) != shape:
                found = np.shape(columns[name]) if name in columns else None
                raise ValueError(f"column {name!r} must have shape {shape}, got {found}")
            checked[name] = np.asarray(columns[name], column.dtype)
        numbers = np.asarray(constants, np.float64)
        others = {name: columns[name] for name in columns if name not in RECORDED}
        if numbers.shape == (count, *CONSTANTS_SHAPE):
            others[rows.CONSTANTS.name] = numbers
            numbers = np.full(CONSTANTS_SHAPE, np.nan)
        if numbers.shape != CONSTANTS_SHAPE:
            raise checks.wrong("constants", numbers, f"of shape {CONSTANTS_SHAPE}")
        extra = rows.columns_of({name: np.shape(value)[1:] for name, value in others.items()})
        for column in extra:
            checked[column.name] = np.asarray(others[column.name], column.dtype)
            if len(checked[column.name]) != count:
                raise ValueError(f"column {column.name!r} must have {count} rows")
            rows.check_values(column.name, checked[column.name])
        conditions = Conditions(numbers, update_weights(update), measured=extra)
        held = _InMemory(checked, conditions)
        return cls(None, status, count, held.read, None, held.conditions_of_all, source)

    @cached_property
    def run(self) -> Run:
        """The problem and how it was simulated.

        Raises
        ------
        ValueError
            If the rows were measured: there is neither.
        """
        if self._given_run is None:
            raise ValueError(
                f"the trace has no run: its rows were measured on {words.plain(self.source)}"
            )
        return self._given_run if isinstance(self._given_run, Run) else self._given_run()

    @property
    def problem(self) -> Quadratic | None:
        """The quadratic, None where rows were measured on something else."""
        return None if self._given_run is None else self.run.problem

    @property
    def source(self) -> str:
        """What the rows are of."""
        return f"SGD on {self.run.problem!r}" if self._given_run is not None else self._source

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Trace):
            return NotImplemented
        mine, its = (
            (t._given_run is None, t.status, len(t), t.source, *t._conditions)
            for t in (self, other)
        )
        if not same_values(mine, its) or (self._given_run is not None and self.run != other.run):
            return False
        return all(same_values([self[name]], [other[name]]) for name in self._recorded)

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return self._num_rows

    @may_underflow
    def __getitem__(self, name: str) -> NDArray[Any]:
        if not isinstance(name, str):
            at = _index(name)
            raise TypeError(
                f"a trace has columns, and they have rows: write trace.alignment[{at}], or "
                f"pandas.DataFrame(trace.table()).iloc[{at}] for all columns"
            )
        if name not in self._cache:
            self._check_name(name)
            if name in self._recorded:
                values = self._read(name, 0, len(self))
            else:
                values = values_of(self._columns()[name], self._part(self.__getitem__))
            self._cache[name] = checks.read_only(values.view())
        return self._cache[name]

    def __iter__(self) -> Iterator[Any]:
        raise TypeError(
            "a trace is no sequence: write trace.columns() for its columns by name, "
            "zip(trace.step, trace.alignment) for rows"
        )

    def __contains__(self, name: object) -> bool:
        return name in self._columns()

    def read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Return rows ``start ... stop - 1`` of a column, without keeping them.

        The way through traces that no memory holds.

        Parameters
        ----------
        name : str
        start, stop : int
        """
        self._check_name(name)
        start, stop, _ = slice(start, stop).indices(len(self))
        if name in self._cache:
            return self._cache[name][start:stop]
        if name in self._recorded:
            return checks.read_only(self._read(name, start, max(start, stop)).view())
        part = self._part(lambda recorded: self.read(recorded, start, stop))
        return values_of(self._columns()[name], part)

    def _part(self, read: Callable[[str], NDArray[Any]]) -> Part:
        return self._conditions.part(read)

    @cached_property
    def _has_velocity(self) -> bool:
        return self._conditions.optimizer.has_velocity

    @property
    def _recorded(self) -> Mapping[str, Any]:
        return self._conditions.recorded

    def _columns(self) -> Mapping[str, Any]:
        return self._conditions.columns

    def _check_name(self, name: str) -> None:
        if name not in self._columns():
            raise KeyError(f"a trace has no column {name!r}; it has {', '.join(self._columns())}")

    def __getattr__(self, name: str) -> NDArray[Any]:
        if name.startswith("_") or name not in self._columns():
            raise AttributeError(f"a trace has no attribute {name!r}")
        return self[name]

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return all columns by name; one whose function fails is NaN, with a warning."""
        found = {}
        for name in self._columns():
            try:
                found[name] = self[name]
            except ColumnError as error:
                found[name] = nan_for(error, len(self))
        return found

    def table(self) -> dict[str, NDArray[Any]]:
        """Return all columns as one-dimensional ones: ``pandas.DataFrame(trace.table())``.

        The sums are named ``S1_dominant``, ``S1_bulk``, ... ``R6_bulk``.
        """
        flat = {name: values for name, values in self.columns().items() if values.ndim == 1}
        groups: list[Sums | CrossSums] = [*SUMS, *([CROSS_SUMS] if self._has_velocity else [])]
        for sums in groups:
            for (band, name), (p, label) in itertools.product(
                enumerate(BANDS), enumerate(sums.labels)
            ):
                flat[f"{label}_{name}"] = self[sums.name][:, band, p]
        return flat

    def to_xarray(self) -> Any:
        """Return all columns as an ``xarray.Dataset`` along ``step``.

        Sums have dimensions ``band`` and their powers of lambda; variables have units and a long
        name, the whole says its run and status.

        Raises
        ------
        ImportError
            If xarray is not installed.

        Examples
        --------
        >>> import suspalign_fast as sa
        >>> problem = sa.Quadratic(sa.Spectrum.two_level(100, 10, 5.0, 1.0))
        >>> rows = sa.simulate(problem, 0.1, 20).to_xarray()
        >>> rows.power_sums.sel(band="bulk", power=2).dims
        ('step',)
        """
        about = {"spec": json.dumps(self.spec), "status": self.status, "source": self.source}
        return labelled.dataset(self.columns(), about)

    @cached_property
    def constants(self) -> Array:
        """N_1, N_2 and K of the dominant and the bulk band, shape (2, 3).

        Under `DataNoise` those of ``s = sqrt(lambda)``, the noise of one residual of variance one.
        Of rows that were measured, shape (rows, 2, 3) where each has its own.
        """
        if self._conditions.has_own_constants:
            return self[rows.CONSTANTS.name]
        return self._conditions.constants

    @cached_property
    def _conditions(self) -> "Conditions":
        if self._given_conditions is not None:
            return self._given_conditions()
        return Conditions.of(self.run)

    @property
    def spec(self) -> dict[str, Any]:
        """The run as a dictionary; the source alone where there is none."""
        if self._given_run is None:
            return {"source": self.source}
        spec: dict[str, Any] = json.loads(self.run.to_json()[0])
        return spec

    @property
    @may_underflow
    def regime(self) -> NDArray[np.str_]:
        """Where each row's step size stands under the run's update; see `physics.formulas.regime`.

        "below" and "above" the critical step size, "self-correcting" or "rising" whatever the
        step size, "rising-below" and "falling-above" a reversed one.
        """
        part = self._part(self.__getitem__)
        reverses = physics.is_reversed(part.power_sums, part.constants, part.update, part.velocity)
        return physics.regime(self.step_size, self.critical_step_size, reverses)

    @property
    @may_underflow
    def loss_interval(self) -> Array:
        """Bounds (lower, upper) of claim 3, shape (rows, 2); see `formulas.loss_interval`."""
        part = self._part(self.__getitem__)
        return physics.loss_interval(part.power_sums, part.constants, part.velocity)

    @property
    @may_underflow
    def predicted(self) -> physics.Prediction:
        """What every row predicts of the next alignment: the chance that it rises among others.

        `mean` is a ratio of expectations; ``theory.expected_next_alignment`` has the mean itself.
        """
        conditions = self._conditions
        part = self._part(self.__getitem__)
        return conditions.noise.predict_alignment(
            self.power_sums,
            self.noise_sums,
            part.constants if conditions.has_own_constants else conditions.constants,
            self.step_size,
            conditions.update,
            None if self.problem is None else self.problem.noise_shape,
            part.velocity,
        )

    def __repr__(self) -> str:
        where = "" if self.path is None else f", path={str(self.path)!r}"
        if self._given_run is None:
            return f"Trace({len(self)} rows, status={self.status!r}, source={self.source!r}{where})"
        return (
            f"Trace({len(self)} rows, engine={self.run.engine!r}, status={self.status!r}, "
            f"problem={self.run.problem!r}{where})"
        )


def _index(key: Any) -> str:
    """Return what stands between brackets, on one line."""
    if not isinstance(key, slice):
        return checks.describe(key)
    ends = ["" if end is None else checks.describe(end) for end in (key.start, key.stop, key.step)]
    return ":".join(ends if ends[2] else ends[:2])


# --- What the physics of rows needs beside the rows ----------------------------------------------


_ConstantsAt = Callable[[Array, Array, Array], Array]


class Conditions(NamedTuple):
    """What the physics of a row needs beside the row: the same in every row of a run.

    Attributes
    ----------
    constants : ndarray of float64, shape (2, 3)
    update : tuple of two float
    noise : Noise
        The model, where that depends on the state; any other will do where it does not.
    optimizer : Optimizer
    measured : tuple of Column
        What rows that were measured have beside those of a run. With "noise_constants" among them
        each has constants of its own.
    """

    constants: Array
    update: Weights
    noise: Noise = ADDITIVE
    optimizer: Optimizer = PLAIN
    measured: tuple[Column, ...] = ()

    @classmethod
    def of(cls, run: Run) -> "Conditions":
        """Return those of a run."""
        noise = run.problem.noise if run.problem.noise.depends_on_state else ADDITIVE
        return cls(run.problem.noise_constants, run.update, noise, run.optimizer)

    @property
    def has_own_constants(self) -> bool:
        """Whether every row has constants of its own."""
        return rows.CONSTANTS in self.measured

    @property
    def recorded(self) -> dict[str, Column]:
        """Columns that are recorded, by name."""
        others = {column.name: column for column in self.measured}
        return recorded(has_velocity=self.optimizer.has_velocity) | others

    @property
    def columns(self) -> dict[str, Column]:
        """All columns by name."""
        others = {column.name: column for column in self.measured}
        return columns(has_velocity=self.optimizer.has_velocity) | others

    def part(self, read: Callable[[str], NDArray[Any]]) -> Part:
        """Return rows that `read` reads as functions of columns take them."""
        at: _ConstantsAt | None = None
        if self.has_own_constants:
            at = _own(read)
        elif self.noise.depends_on_state:
            at = self.noise.constants_at
        pull, carry, _ = self.optimizer.factors
        factors = (pull, carry) if self.optimizer.has_velocity else None
        return Part(read, self.constants, self.update, at, factors)


def _own(read: Callable[[str], NDArray[Any]]) -> _ConstantsAt:
    return lambda constants, power_sums, noise_sums: read(rows.CONSTANTS.name)


class _InMemory(NamedTuple):
    """Recorded columns, and for measured ones the conditions of all rows."""

    columns: Mapping[str, NDArray[Any]]
    conditions: Conditions | None = None

    def read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Return rows of a column."""
        return self.columns[name][start:stop]

    def conditions_of_all(self) -> Conditions:
        """Return the conditions of all rows."""
        assert self.conditions is not None
        return self.conditions


# --- A trace in a few numbers, read piece by piece: no column is ever held as a whole ------------

#: Rows read at once.
PIECE = 65_536


class Mark(NamedTuple):
    """A value and the step it was recorded at."""

    value: float
    step: int


class Course(NamedTuple):
    """A column at the first row, at its lowest and at the last row.

    Attributes
    ----------
    start, end : Mark
    minimum : Mark or None
        None where no row has a finite value.
    """

    start: Mark
    minimum: Mark | None
    end: Mark


def courses(trace: Trace) -> dict[str, Course]:
    """Return the courses of alignment and loss; the trace must have a row."""
    found: dict[str, Course] = {}
    for start in range(0, len(trace), PIECE):
        stop = min(len(trace), start + PIECE)
        steps, sums = (trace.read(name, start, stop) for name in ("step", "power_sums"))
        is_run = trace.problem is not None
        loss = physics.loss(sums) if is_run else trace.read("loss", start, stop)
        for name, values in (("alignment", physics.alignment(sums)), ("loss", loss)):
            piece = _course(values, steps)
            found[name] = _joined(found[name], piece) if name in found else piece
    return found


def _course(values: np.ndarray, steps: np.ndarray) -> Course:
    first, last = (Mark(float(values[row]), int(steps[row])) for row in (0, -1))
    if not np.isfinite(values).any():
        return Course(first, None, last)
    row = int(np.nanargmin(values))
    return Course(first, Mark(float(values[row]), int(steps[row])), last)


def _joined(before: Course, after: Course) -> Course:
    lowest = [course.minimum for course in (before, after) if course.minimum is not None]
    return Course(before.start, min(lowest, key=lambda m: m.value, default=None), after.end)
