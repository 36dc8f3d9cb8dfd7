"""The command line: ``suspalign run``, ``resume``, ``verify``, ``sweep``, ``info`` and ``plot``.

==========  ===============================================================
`console`   what is printed, how a command ends, executors by name
`options`   options that several commands share
`text`      problems, runs and traces in lines of text
`commands`  the commands of runs
`sweep`     the command of studies
`plot`      the command that draws
==========  ===============================================================
"""

from . import plot, sweep  # noqa: F401  (commands of their own)
from .commands import main

__all__ = ["main"]
