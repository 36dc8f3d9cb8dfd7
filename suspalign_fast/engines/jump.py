"""One normal a coordinate and recorded row, whatever lies between rows (DESIGN section 3)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.jump import jump_rows
from ..kernels.plan import ROW
from ..run import Run
from ..step_size import KnownStepSize
from .base import Rows
from .moves import Moves
from .step import StepEngine, level_ends


class JumpEngine(StepEngine):
    """Moves from recorded row to recorded row: exact in law there, for known step sizes."""

    jumps = True
    moves_per_direction = 4

    def __init__(self, run: Run, *, serial: bool = False) -> None:
        if not isinstance(run.step_size, KnownStepSize):
            raise ValueError(
                "engine 'jump' skips the steps between rows, so their sizes must be known in "
                f"advance, got step_size = {run.step_size!r}; take engine 'step' or 'levels'"
            )
        super().__init__(run, serial=serial)

    def _prepare(self) -> None:
        run = self.run
        assert isinstance(run.step_size, KnownStepSize)
        spectrum = run.problem.spectrum
        weight = spectrum.per_level(run.update)
        self.moves = Moves(run.step_size, weight * spectrum.eigenvalues, weight * run.problem.stds)
        self.level_ends = level_ends(spectrum)

    def mutable(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that moves change."""
        return {"state": self.state, "now": self.moves.now}

    def initial_row(self) -> Rows:
        """Return row 0, the initial state."""
        sizes = self.moves.rule.values(self.step, self.step + 1)
        return Rows.from_sums(np.array([self.step]), sizes, self.sums_of(self.state)[None])

    def advance(self, num_steps: int) -> Rows:
        """Move to the rows within the next `num_steps` steps and return them."""
        recorded = self.recorded_steps(num_steps)
        sums = np.empty((recorded.size, 2, ROW))
        for batch, a, b in self.moves.to(recorded):
            jump_rows(
                self.state, self.plan, a, b, self.level_ends, recorded[batch], *self.key,
                sums[batch],
            )  # fmt: skip
        self.step += num_steps
        return Rows.from_sums(recorded, self.moves.sizes_at(recorded), sums)
