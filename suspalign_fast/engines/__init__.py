"""Engines: ways to make the rows of a trace (docs/model.md, section 4: what is exact in each).

Importing this package registers its engines under their names (``spec.ENGINES``).
"""

from concurrent.futures import Executor

from ..run import Run
from ..spec import ENGINES
from ..step_size import refuse_foreign
from .base import Engine, Rows
from .jump import JumpEngine
from .levels import LevelsEngine
from .reference import ReferenceEngine
from .sharded import ShardedEngine
from .step import StepEngine

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
    """Return the engine a run asks for, at its initial state.

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
    return engine
