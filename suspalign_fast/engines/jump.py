"""A normal a coordinate and recorded row, whatever the stride (docs/model.md, section 3).

With a velocity two normals, and a move is a matrix (docs/momentum.md).
"""

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from ..kernels.momentum_powers import NUM_PARTS
from ..kernels.plan import BLOCK
from ..run import Run
from ..shard import Shard
from ..spec import ENGINES
from ..step_size import ConstantStep
from .base import VELOCITY
from .coordinates import level_ends
from .shares import jump_rows, jump_rows_by_size, jump_velocity_rows
from .step import StepEngine
from .steppers import Jumps, JumpsOfOneSize, check_known

#: Work of a coordinate and row, in normals, and with a velocity.
NORMALS, VELOCITY_NORMALS = 2.2, 4.0
#: Work of the move of a level with a velocity, for each doubling of its steps, or for each step of
#: a schedule.
JOINING = 40.0


@ENGINES.register("jump")
class JumpEngine(StepEngine):
    """Moves from recorded row to recorded row: exact in law there, for known step sizes."""

    jumps = True
    elsewhere: ClassVar[Mapping[str, tuple[str, str]]] = {
        "cuda": ("suspalign_fast.engines.gpu", "GpuJumpEngine")
    }
    elsewhere_of_state = elsewhere  # where such noise is refused, as here
    needs_known_steps = True
    is_exact_in_law = True

    @classmethod
    def seconds(cls, run: Run, threads: int, normal: float) -> float:
        """Return the expected time of a run."""
        dim = run.problem.spectrum.dim
        work = run.num_rows * dim * NORMALS
        if run.optimizer.has_velocity:
            work = run.num_rows * dim * VELOCITY_NORMALS + _work_of_moves(run)
        return work * normal / max(1, min(threads, dim // BLOCK))

    def __init__(self, run: Run, *, serial: bool = False, shard: Shard | None = None) -> None:
        check_known(run)
        super().__init__(run, serial=serial, shard=shard)

    @classmethod
    def bytes_of_moves(cls, run: Run) -> int:
        """Memory of the coefficients of a move, and of rates where the update has weights."""
        if run.optimizer.has_velocity:
            return 8 * NUM_PARTS * run.problem.spectrum.num_levels
        weighted = run.update != (1.0, 1.0)
        if _is_of_one_size(run):
            return 8 * run.problem.spectrum.num_levels * (1 + weighted)
        irregular = run.record_at is not None and isinstance(run.step_size, ConstantStep)
        return 16 * run.problem.spectrum.num_levels * (1 + weighted + irregular)

    def _prepare(self) -> None:
        model = self.state, self.plan
        if self.run.optimizer.has_velocity:
            velocity = self.planes[VELOCITY] = np.zeros_like(self.state)
            ends = level_ends(self.run.problem.spectrum)
            self.stepper = Jumps(self, jump_velocity_rows, *model, velocity, ends)
            return
        if _is_of_one_size(self.run):
            self.stepper = JumpsOfOneSize(self, self._finished(jump_rows_by_size), *model)
        else:
            ends = level_ends(self.run.problem.spectrum)
            self.stepper = Jumps(self, self._finished(jump_rows), *model, ends)


def _is_of_one_size(run: Run) -> bool:
    """Whether the kernel makes the coefficients of moves: where each direction has its own."""
    return type(run.step_size) is ConstantStep and run.problem.spectrum.is_simple


def _work_of_moves(run: Run) -> float:
    """Return the work of the coefficients of all moves with a velocity, in normals."""
    levels = run.problem.spectrum.num_levels
    if type(run.step_size) is not ConstantStep:
        return levels * run.num_steps * JOINING
    moves = 1 if run.record_at is None else run.num_rows
    stride = max(1.0, run.num_steps / run.num_rows)
    return levels * moves * (1.0 + math.log2(stride)) * JOINING
