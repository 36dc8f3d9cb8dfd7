"""Steps of sizes known in advance: many pass over a piece of the state before it is left."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..row import ROW_SIZE
from ..step_size import KnownStepSize
from .base import Engine, Rows
from .stepper import Stepper


class KnownSteps(Stepper):
    """An engine's steps of known sizes."""

    def __init__(self, engine: Engine, kernel: Any, *model: Any) -> None:
        super().__init__(engine, kernel, *model)
        assert isinstance(engine.run.step_size, KnownStepSize)
        self.rule: KnownStepSize = engine.run.step_size

    def mutable(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that steps change: none beside the state."""
        return {}

    def start(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the size of the first step."""
        return self.rule.values(self.engine.step, self.engine.step + 1)

    def advance(self, num_steps: int) -> Rows:
        """Do `num_steps` steps and return the rows recorded on the way."""
        first, recorded = self.engine.step, self.engine.recorded_steps(num_steps)
        slots = np.full(num_steps, -1, dtype=np.int64)
        slots[recorded - first - 1] = np.arange(recorded.size)
        sums = np.empty((recorded.size, 2, ROW_SIZE))
        sizes = self.rule.values(first, first + num_steps + 1)
        self.kernel(*self.model, first, sizes[:-1], slots, *self.engine.key, sums)
        return Rows.from_sums(recorded, sizes[recorded - first], sums)
