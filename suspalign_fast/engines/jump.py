"""One normal a coordinate and recorded row, whatever the stride (docs/model.md, section 3)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.jump import jump_rows
from ..kernels.plan import ROW
from ..run import Run
from ..step_size import ConstantStep, KnownStepSize
from .base import Engine, Rows
from .moves import Moves
from .step import StepEngine, level_ends
from .stepper import Stepper


class Jumps(Stepper):
    """An engine's moves between recorded rows."""

    def __init__(self, engine: Engine, kernel: Any, *model: Any) -> None:
        super().__init__(engine, kernel, *model)
        run = engine.run
        assert isinstance(run.step_size, KnownStepSize)
        spectrum = run.problem.spectrum
        rate, push = (
            spectrum.weighted(values, run.update)
            for values in (spectrum.eigenvalues, run.problem.stds)
        )
        self.moves: Moves = Moves(run.step_size, rate, push)

    def mutable(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that moves change."""
        return {"now": self.moves.now}

    def start(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the size of the first step."""
        return self.moves.rule.values(self.engine.step, self.engine.step + 1)

    def advance(self, num_steps: int) -> Rows:
        """Move to the rows within the next `num_steps` steps and return them."""
        recorded = self.engine.recorded_steps(num_steps)
        sums = np.empty((recorded.size, 2, ROW))
        for batch, a, b in self.moves.to(recorded):
            self.kernel(*self.model, a, b, recorded[batch], *self.engine.key, sums[batch])
        return Rows.from_sums(recorded, self.moves.sizes_at(recorded), sums)


def check_known(run: Run) -> None:
    """Raise ValueError unless the step sizes of a run are known in advance."""
    if not isinstance(run.step_size, KnownStepSize):
        raise ValueError(
            "engine 'jump' skips the steps between rows, so their sizes must be known in "
            f"advance, got step_size = {run.step_size!r}; take engine 'step' or 'levels'"
        )


class JumpEngine(StepEngine):
    """Moves from recorded row to recorded row: exact in law there, for known step sizes."""

    jumps = True

    def __init__(self, run: Run, *, serial: bool = False) -> None:
        check_known(run)
        super().__init__(run, serial=serial)

    @classmethod
    def bytes_of_moves(cls, run: Run) -> int:
        """Memory of factor and spread of a move, and of rates where the update has weights."""
        weighted = run.update != (1.0, 1.0)
        irregular = run.record_at is not None and isinstance(run.step_size, ConstantStep)
        return 16 * run.problem.spectrum.num_levels * (1 + weighted + irregular)

    def _prepare(self) -> None:
        ends = level_ends(self.run.problem.spectrum)
        self.stepper = Jumps(self, jump_rows, self.state, self.plan, ends)
