"""Steps whose sizes a rule chooses from row to row, by an engine's kernel for them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..row import NOISY_AT, ROW_SIZE, WEIGHT_AT
from ..step_size import AdaptiveStepSize
from .base import Engine, Rows, check_step_size, fill_constants, rule_table
from .stepper import Stepper

Array = NDArray[np.float64]


class AdaptiveSteps(Stepper):
    """An engine's steps under a rule: its memory, the table it reads, the size of the next step."""

    def __init__(self, engine: Engine, kernel: Any, *model: Any) -> None:
        super().__init__(engine, kernel, *model)
        assert isinstance(engine.run.step_size, AdaptiveStepSize)
        self.rule: AdaptiveStepSize = engine.run.step_size
        self.memory: Array = self.rule.memory(engine.run.problem)
        self.sums: Array = rule_table(engine.run)
        self.step_size: Array = np.zeros(1)

    def mutable(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that steps change."""
        return {"memory": self.memory, "sums": self.sums, "step_size": self.step_size}

    def refill(self) -> None:
        """Write what no step changes to the table again."""
        fill_constants(self.sums, self.engine.run)

    def start(self, sums: Array) -> Array:
        """Return the size of the first step."""
        self.sums[:, :ROW_SIZE] = sums
        if np.isfinite(sums).all():
            if self.rule.observes:
                self.engine.observe(self.sums[:, NOISY_AT:WEIGHT_AT])
            self.step_size[0] = self.rule.evaluate(self.engine.step, self.sums, self.memory)
            self._check(self.engine.step, None)
        return self.step_size.copy()

    def advance(self, num_steps: int) -> Rows:
        """Do `num_steps` steps and return the rows recorded on the way."""
        first, recorded = self.engine.step, self.engine.recorded_steps(num_steps)
        capacity = recorded.size + 1  # a row that is not finite is recorded in any case
        sums, sizes = np.empty((capacity, 2, ROW_SIZE)), np.empty(capacity)
        steps = np.empty(capacity, np.int64)
        done, count = self.kernel(
            *self.model, first, num_steps, self.rule.address, self.rule.observes, self.memory,
            self.sums, self.step_size, recorded, *self.engine.key, sums, steps, sizes,
        )  # fmt: skip
        rows = Rows.from_sums(steps[:count], sizes[:count], sums[:count])
        if np.isfinite(self.sums[:, :ROW_SIZE]).all():
            self._check(first + done, rows)
        return rows

    def _check(self, step: int, rows: Rows | None) -> None:
        """Raise StepSizeError unless the rule's last answer is a step size."""
        size = float(self.step_size[0])
        raised = self.rule.raised(step, self.sums, self.memory) if np.isnan(size) else None
        check_step_size(step, size, rows, raised)
