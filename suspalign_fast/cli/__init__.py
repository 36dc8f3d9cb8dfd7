"""The command line: ``suspalign run``, ``resume``, ``verify``, ``info`` and ``plot``."""

from .commands import main

__all__ = ["main"]
