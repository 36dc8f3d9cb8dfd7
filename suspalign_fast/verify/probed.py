"""What an engine must offer for single steps to be tried at its states."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..engines import Engine, Rows, make_engine
from ..run import Run
from ..spec import ENGINES

Array = NDArray[np.float64]
#: A state: what steps act on, by the names of an engine.
Planes = Mapping[str, Array]


@runtime_checkable
class Probed(Protocol):
    """An engine that can try a step without doing it; it says so by ``can_be_probed = True``."""

    run: Run
    step: int
    planes: dict[str, Array]

    def initial_row(self) -> Rows:
        """Return row 0, the initial state."""

    def advance(self, num_steps: int) -> Rows:
        """Do `num_steps` steps and return the rows recorded on the way."""

    def sums_of(self, planes: Planes) -> Array:
        """Sums of both bands of a state, laid out as ``row`` says, shape (bands, row_size)."""

    def sums_after(
        self, planes: Planes, noise_step: int, step_size: float, update: tuple[float, float]
    ) -> Array:
        """Sums one step after a state, with the noise of step `noise_step`; changes nothing."""

    def scaled(
        self,
        planes: Planes,
        coefficients: tuple[float, float],
        velocity: tuple[float, float] = (1.0, 1.0),
    ) -> dict[str, Array]:
        """Return a state with coefficients and velocities of each band multiplied by factors."""

    def products(self, planes: Planes) -> Array:
        """Squares of the coefficients; with a velocity its products with them and its squares.

        Squared norms and products of what is behind each entry of a plane, shape (1 or 3, entries).
        """


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
