"""The command line: ``suspalign run``, ``resume``, ``verify``, ``sweep``, ``info`` and ``plot``."""

from . import picture, study  # noqa: F401  (commands of their own)
from .commands import main

__all__ = ["main"]
