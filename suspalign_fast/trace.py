"""A trace: one row a recorded step, with every column of docs/file-format.md."""

import json
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import power_sums as physics
from .run import Run

Array = NDArray[np.float64]

#: Columns an engine records; the others follow from them and the constants.
RECORDED = ("step", "step_size", "power_sums", "noise_sums")
#: Every column, in the order of docs/file-format.md.
COLUMNS = (
    "step",
    "step_size",
    "loss",
    "loss_dominant",
    "loss_bulk",
    "grad_sq_dominant",
    "grad_sq_bulk",
    "alignment",
    "critical_step_size",
    "power_sums",
    "noise_sums",
)


def derived_columns(
    power_sums: Array, constants: Array, update: physics.Weights = physics.FULL
) -> dict[str, Array]:
    """Return the columns that are functions of a row's power sums.

    Parameters
    ----------
    power_sums : ndarray of float64, shape (rows, 2, 4)
    constants : ndarray of float64, shape (2, 3)
    update : tuple of two float
        Weights of the dominant and the bulk part of the update.
    """
    losses, grad_sq = physics.band_losses(power_sums), physics.band_grad_sq(power_sums)
    with np.errstate(over="ignore"):
        loss = physics.loss(power_sums)
    return {
        "loss": loss,
        "loss_dominant": losses[:, 0],
        "loss_bulk": losses[:, 1],
        "grad_sq_dominant": grad_sq[:, 0],
        "grad_sq_bulk": grad_sq[:, 1],
        "alignment": physics.alignment(power_sums),
        "critical_step_size": physics.critical_step_size(power_sums, constants, update),
    }


class Conditions(NamedTuple):
    """What the physics of a row needs beside the row: the same in every row of a run."""

    constants: Array
    update: physics.Weights


class Trace:
    """Rows of a run, in memory or read from its file column by column on first use.

    Columns are attributes and items: ``trace.alignment`` or ``trace["alignment"]``. Made by
    `simulate` and `load_trace`.

    Attributes
    ----------
    run : Run
        The problem and how it was simulated.
    status : str
        "running", "complete", "diverged", "failed" or "interrupted"; "killed" where a file says
        "running" and no process writes it.
    path : Path or None
        The file behind the trace.
    """

    def __init__(
        self,
        run: Run | Callable[[], Run],
        status: str,
        num_rows: int,
        read: Callable[[str, int, int], NDArray[Any]],
        path: Path | None = None,
        conditions: Callable[[], Conditions] | None = None,
    ) -> None:
        self.status = status
        self.path = path
        self._given_run, self._given_conditions = run, conditions
        self._num_rows = num_rows
        self._read = read
        self._cache: dict[str, NDArray[Any]] = {}

    @classmethod
    def from_columns(cls, run: Run, status: str, columns: Mapping[str, NDArray[Any]]) -> "Trace":
        """Return a trace of recorded columns held in memory."""

        def read(name: str, start: int, stop: int) -> NDArray[Any]:
            return columns[name][start:stop]

        return cls(run, status, len(columns["step"]), read)

    @cached_property
    def run(self) -> Run:
        """The problem and how it was simulated."""
        return self._given_run if isinstance(self._given_run, Run) else self._given_run()

    def __len__(self) -> int:
        return self._num_rows

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._cache:
            self._check_name(name)
            if name in RECORDED:
                self._cache[name] = self._read(name, 0, len(self))
            else:
                self._cache |= derived_columns(self["power_sums"], *self._conditions)
        return self._cache[name]

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
        if name in RECORDED:
            return self._read(name, start, max(start, stop))
        return derived_columns(self.read("power_sums", start, stop), *self._conditions)[name]

    def _check_name(self, name: str) -> None:
        if name not in COLUMNS:
            raise KeyError(f"a trace has no column {name!r}; it has {', '.join(COLUMNS)}")

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return all columns by name."""
        return {name: self[name] for name in COLUMNS}

    def table(self) -> dict[str, NDArray[Any]]:
        """Return all columns as one-dimensional ones: ``pandas.DataFrame(trace.table())``.

        The sums are named ``S1_dominant``, ``S1_bulk``, ... ``R6_bulk``.
        """
        flat = {name: self[name] for name in COLUMNS if self[name].ndim == 1}
        for letter, first, name in (("S", 1, "power_sums"), ("R", 4, "noise_sums")):
            for band, label in enumerate(("dominant", "bulk")):
                for p in range(self[name].shape[2]):
                    flat[f"{letter}{first + p}_{label}"] = self[name][:, band, p]
        return flat

    @cached_property
    def constants(self) -> Array:
        """N_1, N_2 and K of the dominant and the bulk band, shape (2, 3)."""
        return self._conditions.constants

    @cached_property
    def _conditions(self) -> Conditions:
        if self._given_conditions is not None:
            return self._given_conditions()
        return Conditions(self.run.problem.noise_constants, self.run.update)

    @property
    def spec(self) -> dict[str, Any]:
        """The run as a dictionary."""
        spec: dict[str, Any] = json.loads(self.run.to_json()[0])
        return spec

    @property
    def step(self) -> NDArray[np.int64]:
        """Step t of every row, shape (rows,)."""
        return self["step"]

    @property
    def step_size(self) -> Array:
        """Step size assigned at every row; NaN where a schedule has ended."""
        return self["step_size"]

    @property
    def loss(self) -> Array:
        """Loss ``L(theta)``."""
        return self["loss"]

    @property
    def loss_dominant(self) -> Array:
        """Loss in the dominant subspace."""
        return self["loss_dominant"]

    @property
    def loss_bulk(self) -> Array:
        """Loss in the bulk subspace."""
        return self["loss_bulk"]

    @property
    def grad_sq_dominant(self) -> Array:
        """Squared norm of the gradient in the dominant subspace."""
        return self["grad_sq_dominant"]

    @property
    def grad_sq_bulk(self) -> Array:
        """Squared norm of the gradient in the bulk subspace."""
        return self["grad_sq_bulk"]

    @property
    def alignment(self) -> Array:
        """Alignment A in [0, 1]; NaN where the gradient is zero."""
        return self["alignment"]

    @property
    def critical_step_size(self) -> Array:
        """Critical step size under the run's update; see `power_sums.critical_step_size`.

        +inf where alignment falls and 0 where it rises for every step size.
        """
        return self["critical_step_size"]

    @property
    def regime(self) -> NDArray[np.str_]:
        """Where each row's step size stands under the run's update; see `power_sums.regime`.

        "below" and "above" the critical step size, "self-correcting" or "rising" whatever the
        step size, "rising-below" and "falling-above" a reversed one.
        """
        reverses = physics.is_reversed(self.power_sums, *self._conditions)
        return physics.regime(self.step_size, self.critical_step_size, reverses)

    @property
    def loss_interval(self) -> Array:
        """Bounds (lower, upper) of claim 3, shape (rows, 2); see `power_sums.loss_interval`."""
        return physics.loss_interval(self.power_sums, self.constants)

    @property
    def predicted(self) -> physics.Prediction:
        """Predicted alignment one step after every row; the chance that it rises among others."""
        return physics.predict_alignment(
            self.power_sums,
            self.noise_sums,
            self.constants,
            self.step_size,
            self._conditions.update,
            self.run.problem.noise_shape,
        )

    @property
    def power_sums(self) -> Array:
        """S_1 ... S_4 of the dominant and the bulk band, shape (rows, 2, 4)."""
        return self["power_sums"]

    @property
    def noise_sums(self) -> Array:
        """R_4 ... R_6 of the dominant and the bulk band, shape (rows, 2, 3)."""
        return self["noise_sums"]

    def __repr__(self) -> str:
        where = "" if self.path is None else f", path={str(self.path)!r}"
        return (
            f"Trace({len(self)} rows, engine={self.run.engine!r}, status={self.status!r}, "
            f"problem={self.run.problem!r}{where})"
        )
