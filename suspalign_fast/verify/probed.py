"""What an engine must offer for single steps to be tried at its states."""

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..engines import Engine, Rows, make_engine
from ..run import Run
from ..spec import ENGINES

Array = NDArray[np.float64]


@runtime_checkable
class Probed(Protocol):
    """An engine that can try a step without doing it; it says so by ``can_be_probed = True``."""

    run: Run
    step: int
    state: Array

    def initial_row(self) -> Rows:
        """Return row 0, the initial state."""

    def advance(self, num_steps: int) -> Rows:
        """Do `num_steps` steps and return the rows recorded on the way."""

    def sums_of(self, state: Array) -> Array:
        """Sums of both bands of a state, laid out as ``row`` says, shape (bands, ROW_SIZE)."""

    def sums_after(
        self, state: Array, noise_step: int, step_size: float, update: tuple[float, float]
    ) -> Array:
        """Sums one step after a state, with the noise of step `noise_step`; changes nothing."""

    def scaled_bulk(self, state: Array, factor: float) -> Array:
        """Return a state with its bulk coefficients multiplied by a factor."""

    def squares(self, state: Array) -> Array:
        """Squared norm of the coefficients behind each entry of a state."""


def probed_engines() -> tuple[str, ...]:
    """Names of the engines that can be probed."""
    return tuple(name for name in ENGINES.names() if ENGINES[name].can_be_probed)


def make_probed(run: Run) -> Probed:
    """Return the engine of a run.

    Raises
    ------
    TypeError
        If it cannot be probed.
    """
    engine: Engine = make_engine(run)
    if not (engine.can_be_probed and isinstance(engine, Probed)):
        raise TypeError(f"engine {run.engine!r} cannot try single steps: {type(engine).__name__}")
    return engine
