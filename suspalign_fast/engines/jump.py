"""One normal a coordinate and recorded row, whatever the stride (docs/model.md, section 3)."""

from collections.abc import Mapping
from typing import ClassVar

from ..kernels.plan import BLOCK
from ..run import Run
from ..shard import Shard
from ..spec import ENGINES
from ..step_size import ConstantStep
from .coordinates import level_ends
from .shares import jump_rows, jump_rows_by_size
from .step import StepEngine
from .steppers import Jumps, JumpsOfOneSize, check_known

#: Work of a coordinate and row, in normals.
NORMALS = 2.2


@ENGINES.register("jump")
class JumpEngine(StepEngine):
    """Moves from recorded row to recorded row: exact in law there, for known step sizes."""

    jumps = True
    takes_velocity = False
    elsewhere: ClassVar[Mapping[str, tuple[str, str]]] = {
        "cuda": ("suspalign_fast.engines.gpu", "GpuJumpEngine")
    }
    needs_known_steps = True
    is_exact_in_law = True

    @classmethod
    def seconds(cls, run: Run, threads: int, normal: float) -> float:
        """Return the expected time of a run."""
        dim = run.problem.spectrum.dim
        return run.num_rows * dim * NORMALS * normal / max(1, min(threads, dim // BLOCK))

    def __init__(self, run: Run, *, serial: bool = False, shard: Shard | None = None) -> None:
        check_known(run)
        super().__init__(run, serial=serial, shard=shard)

    @classmethod
    def bytes_of_moves(cls, run: Run) -> int:
        """Memory of factor and spread of a move, and of rates where the update has weights."""
        weighted = run.update != (1.0, 1.0)
        if _is_of_one_size(run):
            return 8 * run.problem.spectrum.num_levels * (1 + weighted)
        irregular = run.record_at is not None and isinstance(run.step_size, ConstantStep)
        return 16 * run.problem.spectrum.num_levels * (1 + weighted + irregular)

    def _prepare(self) -> None:
        model = self.state, self.plan
        if _is_of_one_size(self.run):
            self.stepper = JumpsOfOneSize(self, self._finished(jump_rows_by_size), *model)
        else:
            ends = level_ends(self.run.problem.spectrum)
            self.stepper = Jumps(self, self._finished(jump_rows), *model, ends)


def _is_of_one_size(run: Run) -> bool:
    """Whether the kernel makes the coefficients of moves: where each direction has its own."""
    return type(run.step_size) is ConstantStep and run.problem.spectrum.is_simple
