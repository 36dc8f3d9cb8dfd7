"""Steps on mini-batches of data: what engines share (``kernels.data_noise``)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data_noise import DataNoise
from ..kernels.data_noise import Batches, make_batches
from ..kernels.rules import Record, Ruling
from ..problem import Quadratic
from ..row import NUM_BANDS, ROW_SIZE
from ..run import Run
from ..step_size import AdaptiveStepSize, ConstantStep, KnownRule, KnownStepSize
from .base import Rows, fill_constants_at_row, rule_table
from .steppers import AdaptiveSteps

Array = NDArray[np.float64]


def batches_of(problem: Quadratic) -> Batches | None:
    """Return a problem's batches as kernels take them, None where its noise is additive."""
    noise = problem.noise
    if not isinstance(noise, DataNoise):
        return None
    return make_batches(noise.batch_size, noise.label_std, problem.noise_constants)


class BatchSteps(AdaptiveSteps):
    """Steps on mini-batches of data, of sizes known in advance or chosen by a rule.

    The table of the rule holds the noise at the row; kernels take the sums from the state itself.
    """

    @staticmethod
    def rule_of(run: Run) -> AdaptiveStepSize:
        """Return the rule of a run, or one that knows its step sizes."""
        if isinstance(run.step_size, KnownStepSize):
            return KnownRule(run.step_size, run.num_steps)
        return AdaptiveSteps.rule_of(run)

    def mutable(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that steps change."""
        arrays = super().mutable()
        if isinstance(self.rule, KnownRule):
            del arrays["memory"]
        return arrays

    def refill(self) -> None:
        """Write what follows from the rest of the table again."""
        super().refill()
        fill_constants_at_row(self.ruling.sums, self.engine.run)

    def start(self, sums: Array) -> Array:
        """Return the size of the first step."""
        self.ruling.sums[:, :ROW_SIZE] = sums[:, :ROW_SIZE]
        fill_constants_at_row(self.ruling.sums, self.engine.run)
        return super().start(sums)

    def after(
        self, planes: Mapping[str, Array], step: int, size: float, update: tuple[float, float]
    ) -> Array:
        """Do one step of a size from a state, which it changes, and return the sums after it."""
        model = self.model_on(planes)
        table = rule_table(self.engine.run)
        rule = KnownRule(ConstantStep(size), 1)
        memory = rule.memory(self.engine.run.problem)
        ruling = Ruling(rule.address, False, memory, table, np.array([size]), np.array(update))
        record = Record(
            np.array([step + 1]),
            np.empty((2, NUM_BANDS, self.engine.row_size)),
            np.empty(2, np.int64),
            np.empty(2),
        )
        self.kernel(*model, step, 1, ruling, record, *self.engine.key)
        return record.sums[0]

    def _check(self, step: int, rows: Rows | None) -> None:
        if not isinstance(self.rule, KnownRule):
            super()._check(step, rows)
