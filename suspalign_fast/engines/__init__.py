"""Ways to make rows (docs/model.md, section 4: what is exact in each).

Importing this package registers its engines under their names (`base.registry.ENGINES`).

===========  ===============================================================
`base`       what every engine does
`plan`       how a problem is cut for the kernels, and shards of it
`moves`      coefficients of the moves between recorded rows
`steppers`   the ways from row to row: known sizes, a rule, jumps, mini-batches
`step`       the engines `step` and `jump`
`levels`     the engine `levels`
`reference`  plain NumPy, the oracle of paths
`sharded`    one run over the workers of an executor
`gpu`        `step` and `jump` on a GPU
===========  ===============================================================
"""

from concurrent.futures import Executor

from ..base.registry import ENGINES
from ..model.run import Run
from ..model.step_size import refuse_foreign
from ..physics.rows import Rows
from .base import Engine
from .step import JumpEngine, StepEngine

# isort: split
from .levels import LevelsEngine  # engines register in the order in which they are imported
from .reference import ReferenceEngine
from .sharded import ShardedEngine

__all__ = [
    "Engine",
    "JumpEngine",
    "LevelsEngine",
    "ReferenceEngine",
    "Rows",
    "ShardedEngine",
    "StepEngine",
    "make_engine",
]


def make_engine(
    run: Run, *, serial: bool = False, executor: Executor | None = None, num_threads: int = 1
) -> Engine:
    """Return the engine a run asks for, at its initial state, with its kernels compiled.

    Parameters
    ----------
    run : Run
    serial : bool
        Whether it works in the calling thread alone, so that others may work beside it.
    executor : Executor, optional
        Whose workers do the work instead, `num_threads` threads each.

    Raises
    ------
    ValueError
        If the step-size rule is a function whose code is not there, or the run cannot be sharded.
    """
    refuse_foreign(run.step_size)
    if executor is not None:
        return ShardedEngine(run, executor, num_threads)
    engine: Engine = ENGINES[run.engine].on_device_of(run)(run, serial=serial)
    engine.warm_up()
    return engine
