"""Rows that are written while the engine goes on: a sink in a thread of its own."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import numpy as np

from .engines import Rows
from .sink import Sink
from .store import TraceWriter
from .trace import Trace


class Beside(Sink):
    """Hands the rows of one call of an engine to a writer while the next call is at work.

    One call's rows wait at most: whatever else is asked for comes after they are written, and an
    error of theirs is raised then.

    Parameters
    ----------
    writer : TraceWriter
    """

    def __init__(self, writer: TraceWriter) -> None:
        self._writer = writer
        self._thread = ThreadPoolExecutor(1, "suspalign-writer")
        self._written: Future[None] | None = None

    @property
    def path(self) -> Path:
        """The file."""
        return self._writer.path

    @property
    def run_id(self) -> str:
        """What the writer called the file."""
        return self._writer.run_id

    def append(self, rows: Rows) -> None:
        """Write rows once those before are written, without waiting for it."""
        self._settle()
        self._written = self._thread.submit(self._append, rows)

    def _append(self, rows: Rows) -> None:
        with np.errstate(all="ignore"):  # which is every thread's own
            self._writer.append(rows)

    def _settle(self) -> None:
        """Wait until all rows are written, and raise the error of their writer."""
        written, self._written = self._written, None
        if written is not None:
            written.result()

    def sync(self) -> None:
        """Have all rows on the disk."""
        self._settle()
        self._writer.sync()

    def finish(self, status: str) -> None:
        """Set the final status."""
        self._settle()
        self._writer.finish(status)

    def trace(self) -> Trace:
        """Return the trace of a finished run."""
        return self._writer.trace()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._thread.shutdown()
        self._writer.__exit__(kind, error, traceback)
