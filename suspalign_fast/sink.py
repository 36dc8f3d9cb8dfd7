"""Where the rows of a run go: the base class, and the sink that keeps them in memory."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _memory
from .engines import Rows
from .row import recorded, recorded_bytes
from .run import Run
from .trace import STATUSES, Trace


class Sink(ABC):
    """Takes the rows of one run in the order of their steps, and gives its trace.

    A context manager: what it holds open is closed at the end, whatever happens.
    """

    @abstractmethod
    def append(self, rows: Rows) -> None:
        """Take rows."""

    @abstractmethod
    def finish(self, status: str) -> None:
        """Set the final status; no rows follow."""

    @abstractmethod
    def trace(self) -> Trace:
        """Return the trace of a finished run."""

    def __enter__(self) -> "Sink":
        return self

    def __exit__(  # noqa: B027
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass


class MemoryTrace(Sink):
    """Keeps the rows of one run in memory."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._count = 0
        self._status = STATUSES[0]
        self._columns: dict[str, NDArray[Any]] = {}

    @staticmethod
    def check_memory(runs: Sequence[Run]) -> None:
        """Raise MemoryError if the rows of so many runs cannot fit."""
        count = sum(run.num_rows for run in runs)
        has_velocity = any(run.optimizer.has_velocity for run in runs)
        needed = count * recorded_bytes(has_velocity=has_velocity)
        _memory.check(f"a trace of {count:,} rows in memory", needed)

    def append(self, rows: Rows) -> None:
        """Keep rows."""
        stop = self._count + len(rows)
        for name in recorded(has_velocity=self._run.optimizer.has_velocity):
            values = getattr(rows, name)
            if name not in self._columns:
                # Memory that is never written to is never taken.
                shape = (self._run.num_rows, *values.shape[1:])
                self._columns[name] = np.empty(shape, values.dtype)
            self._columns[name][self._count : stop] = values
        self._count = stop

    def finish(self, status: str) -> None:
        """Set the final status."""
        self._status = status

    def trace(self) -> Trace:
        """Return the trace of all rows."""
        columns = {name: values[: self._count] for name, values in self._columns.items()}
        if self._count < self._run.num_rows:
            columns = {name: values.copy() for name, values in columns.items()}
        return Trace.from_columns(self._run, self._status, columns)
