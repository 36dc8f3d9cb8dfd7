"""Engines: ways to produce the rows of a trace. See DESIGN section 4 for which is exact in what."""

from ..run import Run
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


def make_engine(run: Run) -> Engine:
    """Return the engine a run asks for, at its initial state."""
    return _ENGINES[run.engine](run)
