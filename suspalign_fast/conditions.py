"""What the physics of rows needs beside the rows."""

from collections.abc import Callable
from typing import Any, NamedTuple

from numpy.typing import NDArray

from . import measured as measured_rows
from .noise import ADDITIVE, Noise
from .optimizer import PLAIN, Optimizer
from .power_sums import Array, Weights
from .row import Column, Part, columns, recorded
from .run import Run

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
        return measured_rows.CONSTANTS in self.measured

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
    return lambda constants, power_sums, noise_sums: read(measured_rows.CONSTANTS.name)
