"""Engines: ways to make the rows of a trace (docs/model.md, section 4: what is exact in each)."""

from ..run import Run
from ..step_size import refuse_foreign
from .base import Engine, Rows
from .jump import JumpEngine
from .levels import LevelsEngine
from .reference import ReferenceEngine
from .step import StepEngine

__all__ = [
    "Engine",
    "JumpEngine",
    "LevelsEngine",
    "ReferenceEngine",
    "Rows",
    "StepEngine",
    "make_engine",
]

_ENGINES: dict[str, type[Engine]] = {
    "step": StepEngine,
    "jump": JumpEngine,
    "levels": LevelsEngine,
    "reference": ReferenceEngine,
}


def make_engine(run: Run, *, serial: bool = False) -> Engine:
    """Return the engine a run asks for, at its initial state.

    Parameters
    ----------
    run : Run
    serial : bool
        Whether it works in the calling thread alone, so that others may work beside it.

    Raises
    ------
    ValueError
        If the step-size rule is a function whose code is not there.
    """
    refuse_foreign(run.step_size)
    return _engine_type(run)(run, serial=serial)


def _engine_type(run: Run) -> type[Engine]:
    if run.device == "cpu":
        return _ENGINES[run.engine]
    from . import gpu  # which loads Numba's CUDA target

    return {"step": gpu.GpuStepEngine, "jump": gpu.GpuJumpEngine}[run.engine]
