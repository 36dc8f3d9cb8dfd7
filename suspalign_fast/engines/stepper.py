"""An engine made of a state and a stepper, which takes it from row to row."""

import weakref
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _threads
from ..kernels.normals import MAX_COORDINATES
from ..run import Run
from .base import Engine, Rows

Array = NDArray[np.float64]


class Stepper(ABC):
    """Takes an engine from row to row; ``kernel(*model, ...)`` does the arithmetic."""

    def __init__(self, engine: Engine, kernel: Any, *model: Any) -> None:
        # The engine owns this object: a reference back would keep its state in memory.
        self.engine: Engine = weakref.proxy(engine)
        self.kernel: Any = kernel
        self.model: tuple[Any, ...] = model

    @abstractmethod
    def mutable(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that steps change, beside the state."""

    def refill(self) -> None:  # noqa: B027
        """Write what no step changes to those arrays again."""

    @abstractmethod
    def start(self, sums: Array) -> Array:
        """Return the size of the first step from a state with these sums."""

    @abstractmethod
    def advance(self, num_steps: int) -> Rows:
        """Do `num_steps` steps and return the rows recorded on the way."""


class SteppingEngine(Engine):
    """Hands its work to a stepper.

    Attributes
    ----------
    stepper : Stepper
    """

    stepper: Stepper
    #: Threads of the CPU that its kernels use.
    threads = 1

    def __init__(self, run: Run, *, serial: bool = False) -> None:
        super().__init__(run, serial=serial)
        dim = run.problem.spectrum.dim
        if dim > MAX_COORDINATES:
            raise ValueError(
                f"engine {run.engine!r} takes at most {MAX_COORDINATES} dimensions, got {dim}; "
                "engine 'levels' takes any number"
            )

    def given_state(self) -> NDArray[Any] | None:
        """Return the initial coefficients of all directions, None where they are to be drawn."""
        problem = self.run.problem
        if not isinstance(problem.initial, np.ndarray):
            return None
        values = problem.initial.astype(self.run.dtype)
        if values.size == problem.spectrum.dim:
            return values
        return np.repeat(values, problem.spectrum.multiplicities)

    @abstractmethod
    def initial_sums(self) -> Array:
        """Sums of the state, shape (2, 8)."""

    def mutable(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that steps change."""
        return {"state": self.state} | self.stepper.mutable()

    def refill(self) -> None:
        """Write what no step changes again."""
        self.stepper.refill()

    def initial_row(self) -> Rows:
        """Return row 0, the initial state."""
        sums = self.initial_sums()
        return Rows.from_sums(np.array([self.step]), self.stepper.start(sums), sums[None])

    def advance(self, num_steps: int) -> Rows:
        """Do `num_steps` steps and return the rows recorded on the way."""
        with _threads.turn(self.threads):
            rows = self.stepper.advance(num_steps)
        self.step += num_steps
        return rows
