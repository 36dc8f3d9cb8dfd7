"""Where the rows of a run go: memory, a file, or a file beside the engine.

`Sink` is what the driver writes to.
"""

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import storage
from ..base import memory
from ..base.registry import Arrays
from ..base.reports import provenance
from ..model.run import Run
from ..physics.row import columns, derived_columns, recorded, recorded_bytes
from ..physics.rows import Rows
from ..storage import lock as _lock
from ..storage import paths
from ..storage.growing import Growing
from ..storage.output import Column
from . import labelled
from .trace import STATUSES, Conditions, Trace
from .trace_file import FORMAT, FORMAT_VERSION, TraceFile, run_id_of


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

    def __exit__(self, *failure: object) -> None:  # noqa: B027
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
        memory.check(f"a trace of {count:,} rows in memory", needed)

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


# --- The trace file: rows appended to chunked HDF5 as the run goes on (docs/file-format.md) ------


CHUNK_ROWS = 4096
#: Rows wait for a full chunk at most this many seconds.
COMMIT_INTERVAL = 1.0
#: Rows copied at once when a trace is continued.
COPY_ROWS = 65_536


class TraceWriter(Sink):
    """Writes the rows of one run to a new file; other processes may read it meanwhile.

    The file gets its name once it is laid out, so no reader ever sees one that is not.

    Parameters
    ----------
    path : path-like
    run : Run
    overwrite : bool
        Whether an existing file may be replaced.
    compression : {"gzip", "none"}
        Of rows and spectrum.
    lock : Lock, optional
        Locks of the run, to which that of the new file is added.

    Raises
    ------
    OSError
        If the file exists and may not be replaced, or cannot be written.
    """

    def __init__(
        self,
        path: paths.AnyPath,
        run: Run,
        *,
        overwrite: bool = False,
        compression: str = "gzip",
        lock: _lock.Lock | None = None,
    ) -> None:
        self._start(paths.real(path), run, secrets.token_hex(16), compression, lock)
        paths.check_new(self.path, overwrite=overwrite)
        described = run.to_json()
        with self._place.laid_out(self._size_of(run, described[1]), overwrite=overwrite):
            self._lay_out(run, *described)

    def _start(
        self, path: Path, run: Run, run_id: str, compression: str, lock: _lock.Lock | None
    ) -> None:
        self.path = path
        self.run = run
        self.run_id = run_id
        self._place = Growing(path, lock)
        self._compression = compression
        self._conditions = Conditions.of(run)
        self._failed: set[str] = set()
        self._rows = 0
        self._last_step = -1
        self._pending: list[Rows] = []
        self._last_commit = time.monotonic()

    @classmethod
    def continued(cls, trace: Trace, run: Run, *, lock: _lock.Lock | None = None) -> "TraceWriter":
        """Go on writing the trace of an earlier run.

        The committed rows, and what others put into the file, are copied to a new file that then
        takes the old one's place, so that whatever a killed writer left behind is never written
        to. Rows up to the last committed step are ignored by `append`: they are there.

        Parameters
        ----------
        trace : Trace
            Loaded from the file.
        run : Run
            The same run, perhaps with more steps.
        lock : Lock, optional
        """
        assert trace.path is not None
        path = paths.real(trace.path)
        with storage.Reader(path, live=False) as old:
            compression, run_id = old.dataset("trace/step").compression, run_id_of(old)
            size = old.stored
        writer = cls.__new__(cls)
        writer._start(path, run, run_id, compression, lock)
        described = run.to_json()
        size += writer._size_of(run, described[1])
        with writer._place.laid_out(size, overwrite=True) as new:
            writer._lay_out(run, *described)
            for start in range(0, len(trace), COPY_ROWS):
                stop = min(len(trace), start + COPY_ROWS)
                rows = {name: trace.read(name, start, stop) for name in writer._recorded}
                writer._extend(writer._completed(rows))
            writer._place.carry_over(new)
            for column in writer._columns.values():
                column.attach(writer._place.file["trace"])
        return writer

    def _size_of(self, run: Run, described: Arrays) -> int:
        """Bytes of the arrays that describe a run; compressed, a constant takes none."""
        spectrum = run.problem.spectrum
        arrays = spectrum.eigenvalues, spectrum.multiplicities, *described.values()
        is_small = self._compression == "gzip"
        return sum(a.nbytes for a in arrays if not (is_small and a.strides == (0,)))

    def _lay_out(self, run: Run, text: str, arrays: Arrays) -> None:
        file = self._place.file
        file.attrs["format"] = storage.text(FORMAT)
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["spec"] = storage.text(text)
        file.attrs["run_id"] = storage.text(self.run_id)
        file.attrs["status"] = np.bytes_(STATUSES[0].ljust(16))
        file.attrs["committed_rows"] = np.int64(0)
        file.attrs.update({name: storage.text(value) for name, value in provenance().items()})
        run.problem.spectrum.write(file, compression=self._compression)
        group = file.create_group("run", track_order=True)
        for name, values in arrays.items():
            storage.write(group, name, values, compression=self._compression)
        group.create_dataset("noise_constants", data=self._conditions.constants)
        trace = file.create_group("trace", track_order=True)
        chunk_rows = min(CHUNK_ROWS, run.num_rows)
        self._columns = {
            name: Column(trace, name, column.dtype, column.shape, chunk_rows, self._compression)
            for name, column in columns(has_velocity=run.optimizer.has_velocity).items()
        }
        labelled.label(trace)

    def append(self, rows: Rows) -> None:
        """Take rows; commit what fills chunks, and all of it once a second."""
        if len(rows) and rows.step[0] <= self._last_step:
            rows = rows[int(np.searchsorted(rows.step, self._last_step, side="right")) :]
        if len(rows) == 0:
            return
        self._pending.append(rows)
        waiting = sum(map(len, self._pending))
        if time.monotonic() - self._last_commit >= COMMIT_INTERVAL:
            self._commit(waiting)
        elif waiting >= CHUNK_ROWS:
            self._commit(waiting - (self._rows + waiting) % CHUNK_ROWS)

    def _commit(self, count: int, *, last: bool = False) -> None:
        """Write the first `count` waiting rows; readers see them from now on."""
        with self._writing():
            rows = Rows.joined(self._pending)
            now, later = rows[:count], rows[count:]
            values = {name: getattr(now, name) for name in self._recorded}
            self._extend(self._completed(values), last=last)
            self._pending = [later] if len(later) else []
        self._last_commit = time.monotonic()

    @property
    def _recorded(self) -> Mapping[str, Any]:
        return recorded(has_velocity=self.run.optimizer.has_velocity)

    def _completed(self, values: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Add the derived columns to recorded ones."""
        return values | derived_columns(self._conditions.part(values.__getitem__), self._failed)

    def _extend(self, values: dict[str, NDArray[Any]], *, last: bool = False) -> None:
        """Write rows, all columns before the count that tells readers of them."""
        end = self._rows + len(values["step"])
        for name, column in self._columns.items():
            column.append(values[name], last=last)
        self._place.file.flush()
        self._place.file.attrs.modify("committed_rows", np.int64(end))
        self._place.file.flush()
        self._rows = end
        self._last_step = int(values["step"][-1])

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with self._place.writing(f"{self._rows} committed rows"):
                yield
        finally:
            if not self._place.is_open:
                self._pending = []

    def finish(self, status: str) -> None:
        """Commit what waits, set the final status and close the file."""
        self.flush(last=True)
        with self._writing():
            self._place.file.attrs.modify("status", np.bytes_(status.ljust(16)))
            self._place.close()
        self._status = status
        self._place.release()

    def flush(self, *, last: bool = False) -> None:
        """Commit all rows that wait; tell whether they are the `last` ones."""
        if self._pending:
            self._commit(sum(map(len, self._pending)), last=last)

    def sync(self) -> None:
        """Commit all rows that wait and flush the file to the disk."""
        self.flush()
        with self._writing():
            self._place.sync()

    def trace(self) -> Trace:
        """Return the finished trace, to be read from the file on first use."""
        return TraceFile(self.path, self.run_id).trace(self._status, self._rows, self.run)

    def __enter__(self) -> "TraceWriter":
        return self

    def __exit__(self, *failure: object) -> None:
        try:
            if self._place.is_open:
                self.flush()
        finally:
            self._place.close()
            self._place.release()


# --- Rows that are written while the engine goes on: a sink in a thread of its own ---------------


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

    def __exit__(self, *failure: object) -> None:
        self._thread.shutdown()
        self._writer.__exit__(*failure)
