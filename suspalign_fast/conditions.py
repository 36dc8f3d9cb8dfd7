"""What the physics of rows needs beside the rows."""

from collections.abc import Callable
from typing import Any, NamedTuple

from numpy.typing import NDArray

from .noise import ADDITIVE, Noise
from .optimizer import PLAIN, Optimizer
from .power_sums import Array, Weights
from .row import Part
from .run import Run


class Conditions(NamedTuple):
    """What the physics of a row needs beside the row: the same in every row of a run.

    Attributes
    ----------
    constants : ndarray of float64, shape (2, 3)
    update : tuple of two float
    noise : Noise
        The model, where that depends on the state; any other will do where it does not.
    optimizer : Optimizer
    """

    constants: Array
    update: Weights
    noise: Noise = ADDITIVE
    optimizer: Optimizer = PLAIN

    @classmethod
    def of(cls, run: Run) -> "Conditions":
        """Return those of a run."""
        noise = run.problem.noise if run.problem.noise.depends_on_state else ADDITIVE
        return cls(run.problem.noise_constants, run.update, noise, run.optimizer)

    def part(self, read: Callable[[str], NDArray[Any]]) -> Part:
        """Return rows that `read` reads as functions of columns take them."""
        at = self.noise.constants_at if self.noise.depends_on_state else None
        pull, carry, _ = self.optimizer.factors
        factors = (pull, carry) if self.optimizer.has_velocity else None
        return Part(read, self.constants, self.update, at, factors)
