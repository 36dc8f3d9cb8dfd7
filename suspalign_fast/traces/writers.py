"""Where rows go: memory, a file, or a file that a second thread writes.

The driver of a run writes to a `Sink`, a probe of a network to a `MeasuredWriter`.
"""

import json
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import storage
from ..base import memory
from ..base.reports import provenance
from ..model.run import Run
from ..physics import rows as measured
from ..physics.row import derived_columns, recorded, recorded_bytes
from ..physics.rows import Rows
from ..storage import lock as _lock
from ..storage import paths
from ..storage.growing import Growing
from ..storage.output import Column
from . import labelled
from .trace import STATUSES, Conditions, Trace
from .trace_file import (
    MEASURED_FORMAT,
    RUN_FORMAT,
    VERSIONS,
    TraceFile,
    measured_conditions,
    run_id_of,
)


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


# --- Trace files: rows appended to chunked HDF5 as they come (docs/file-format.md) ---------------


#: Rows of a chunk.
CHUNK_ROWS, MEASURED_CHUNK_ROWS = 4096, 64
#: Rows wait for a full chunk at most this many seconds.
COMMIT_INTERVAL = 1.0
#: Rows copied at once when a trace is continued.
COPY_ROWS = 65_536


class RowWriter:
    """A new file of rows: what the writers of runs and of measured rows have in common.

    Parameters
    ----------
    path : Path
        Links followed.
    conditions : Conditions
        They say which columns there are.
    lock : Lock, optional
        Locks of the writer, to which that of the new file is added.
    """

    def __init__(
        self, path: Path, conditions: Conditions, run_id: str, lock: _lock.Lock | None = None
    ) -> None:
        self.path, self.run_id = path, run_id
        self._place = Growing(path, lock)
        self._conditions = conditions
        self._columns: dict[str, Column] = {}
        self._failed: set[str] = set()
        self._rows = 0

    def _write_head(self, name: str, spec: str) -> None:
        attributes = self._place.file.attrs
        attributes["format"] = storage.text(name)
        attributes["format_version"] = VERSIONS[name]
        attributes["spec"] = storage.text(spec)
        attributes["run_id"] = storage.text(self.run_id)
        attributes["status"] = np.bytes_(STATUSES[0].ljust(16))
        attributes["committed_rows"] = np.int64(0)
        attributes.update({name: storage.text(value) for name, value in provenance().items()})

    def _make_columns(self, chunk_rows: int, compression: str) -> None:
        trace = self._place.file.create_group("trace", track_order=True)
        self._columns = {
            name: Column(trace, name, column.dtype, column.shape, chunk_rows, compression)
            for name, column in self._conditions.columns.items()
        }
        labelled.label(trace)

    def _extend(self, values: dict[str, NDArray[Any]], *, last: bool = False) -> None:
        """Write rows and what follows from them, all columns before the count of rows."""
        # What was measured is not replaced by what would follow from sums.
        values = derived_columns(self._conditions.part(values.__getitem__), self._failed) | values
        for name, column in self._columns.items():
            column.append(values[name], last=last)
        self._place.file.flush()
        rows = self._rows + len(values["step"])
        self._place.file.attrs.modify("committed_rows", np.int64(rows))
        self._place.file.flush()
        self._rows = rows  # an error may call them committed from here on

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._place.writing(f"{self._rows} committed rows"):
            yield

    @property
    def is_open(self) -> bool:
        """Whether rows may still be written."""
        return self._place.is_open

    def _close(self, status: str) -> None:
        """Set the final status and close the file."""
        with self._writing():
            self._place.file.attrs.modify("status", np.bytes_(status.ljust(16)))
            self._place.close()
        self._place.release()


class TraceWriter(RowWriter, Sink):
    """Writes the rows of one run to a new file; other processes may read it meanwhile.

    It is checked at once that the file can be made, and that it can describe the run. The file is
    made when a `with` block begins, and gets its name once it is laid out, so that no reader sees a
    part of it.

    Raises OSError if the file exists and may not be replaced, or cannot be written. Raises
    ValueError if a file cannot hold the run.

    Parameters
    ----------
    path : Path
        Links followed.
    overwrite : bool
        Whether an existing file may be replaced.
    compression : {"gzip", "none"}
        Of rows and spectrum.
    lock : Lock, optional
        Locks of the run, to which that of the new file is added.
    """

    def __init__(
        self,
        path: Path,
        run: Run,
        *,
        overwrite: bool = False,
        compression: str = "gzip",
        lock: _lock.Lock | None = None,
    ) -> None:
        super().__init__(path, Conditions.of(run), secrets.token_hex(16), lock)
        paths.check_new(path, overwrite=overwrite)
        self.run, self._overwrite, self._compression = run, overwrite, compression
        self._spec, self._arrays = run.to_json()
        self._earlier: Trace | None = None
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
        """
        assert trace.path is not None
        with storage.Reader(trace.path, live=False) as old:
            compression, run_id = old.dataset("trace/step").compression, run_id_of(old)
        writer = cls(trace.path, run, overwrite=True, compression=compression, lock=lock)
        writer.run_id, writer._earlier = run_id, trace
        return writer

    def __enter__(self) -> "TraceWriter":
        with self._place.laid_out(self._size(), overwrite=self._overwrite) as new:
            self._lay_out()
            if self._earlier is not None:
                self._copy(self._earlier)
                self._place.carry_over(new)
                for column in self._columns.values():
                    column.attach(self._place.file["trace"])
        return self

    def _size(self) -> int:
        """Bytes of what is written first; compressed, a constant takes none."""
        spectrum, is_small = self.run.problem.spectrum, self._compression == "gzip"
        arrays = spectrum.eigenvalues, spectrum.multiplicities, *self._arrays.values()
        size = sum(a.nbytes for a in arrays if not (is_small and a.strides == (0,)))
        if self._earlier is not None:
            with storage.Reader(self.path, live=False) as old:
                size += old.stored
        return size

    def _lay_out(self) -> None:
        file, compression = self._place.file, self._compression
        self._write_head(RUN_FORMAT, self._spec)
        self.run.problem.spectrum.write(file, compression=compression)
        group = file.create_group("run", track_order=True)
        for name, values in self._arrays.items():
            storage.write(group, name, values, compression=compression)
        group.create_dataset("noise_constants", data=self._conditions.constants)
        self._make_columns(min(CHUNK_ROWS, self.run.num_rows), compression)

    def _copy(self, trace: Trace) -> None:
        for start in range(0, len(trace), COPY_ROWS):
            stop = min(len(trace), start + COPY_ROWS)
            names = self._conditions.recorded
            self._extend({name: trace.read(name, start, stop) for name in names})

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
            self._extend(
                {name: getattr(now, name) for name in self._conditions.recorded}, last=last
            )
            self._pending = [later] if len(later) else []
        self._last_commit = time.monotonic()

    def _extend(self, values: dict[str, NDArray[Any]], *, last: bool = False) -> None:
        super()._extend(values, last=last)
        self._last_step = int(values["step"][-1])

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with super()._writing():
                yield
        finally:
            if not self.is_open:
                self._pending = []

    def finish(self, status: str) -> None:
        """Commit what waits, set the final status and close the file."""
        self.flush(last=True)
        self._close(status)
        self._status = status

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

    def __exit__(self, *failure: object) -> None:
        try:
            if self.is_open:
                self.flush()
        finally:
            self._place.close()
            self._place.release()


class MeasuredWriter(RowWriter):
    """Writes measured rows to a new file one by one; other processes may read it meanwhile.

    Parameters
    ----------
    path : path-like
    source : str
        What is measured.
    shapes : mapping of str to tuple of int
        Shape of a row of every column of `suspalign_fast.physics.rows` that there is.
    update : {"full", "dominant", "bulk"} or tuple of two float
    overwrite : bool
    earlier : mapping of str to array_like, optional
        Rows that the file begins with. If they are those of the file that is replaced, they are
        never away.

    Raises
    ------
    OSError
        If the file exists and may not be replaced, or cannot be written.
    """

    def __init__(
        self,
        path: paths.AnyPath,
        source: str,
        shapes: Mapping[str, tuple[int, ...]],
        *,
        update: Any = "full",
        overwrite: bool = False,
        earlier: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        conditions = measured_conditions(update, shapes)
        super().__init__(paths.real(path), conditions, secrets.token_hex(16))
        paths.check_new(self.path, overwrite=overwrite)
        lists = {name: list(shape) for name, shape in shapes.items()}
        spec = json.dumps({"source": source, "update": list(conditions.update), "measured": lists})
        with self._place.laid_out(len(spec), overwrite=overwrite):
            self._write_head(MEASURED_FORMAT, spec)
            self._make_columns(MEASURED_CHUNK_ROWS, "gzip")
            if earlier and len(np.asarray(earlier["step"])):
                self._extend(self._arrays(earlier))

    def append(self, rows: Mapping[str, ArrayLike], *, last: bool = False) -> None:
        """Write rows, recorded columns by name.

        Raises
        ------
        ValueError
            If rows have another shape than their columns, or values that cannot be.
        """
        values = self._arrays(rows)
        for name, column in self._conditions.recorded.items():
            if values[name].shape[1:] != column.shape or values[name].ndim == 0:
                raise ValueError(
                    f"rows of {name!r} must have shape {column.shape}, got {values[name].shape[1:]}"
                )
            measured.check_values(name, values[name])
        with self._writing():
            self._extend(values, last=last)

    def _arrays(self, rows: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
        recorded = self._conditions.recorded
        return {name: np.asarray(rows[name], column.dtype) for name, column in recorded.items()}

    def finish(self, status: str) -> None:
        """Set the final status and close the file, unless it is closed."""
        if self.is_open:
            self._close(status)


# --- Rows that are written while the engine goes on: a sink in a thread of its own ---------------


class Beside(Sink):
    """Hands the rows of one call of an engine to a writer while the next call is at work.

    One call's rows wait at most: whatever else is asked for comes after they are written, and an
    error of theirs is raised then.
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

    def __enter__(self) -> "Beside":
        self._writer.__enter__()
        return self

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
