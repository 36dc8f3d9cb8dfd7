"""The trace file: rows appended to chunked HDF5 as the run goes on (docs/file-format.md)."""

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from . import storage as _hdf5
from .conditions import Conditions
from .engines import Rows
from .row import RECORDED, check_columns, columns, derived_columns
from .run import Run
from .sink import Sink
from .storage import files as _files
from .storage import foreign as _foreign
from .storage import lock as _lock
from .storage.column import Column
from .trace import STATUSES, Trace
from .trace_file import FORMAT, FORMAT_VERSION, TraceFile, load_trace, one_line, run_id_of

__all__ = ["TraceWriter", "load_trace"]

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
        path: _files.AnyPath,
        run: Run,
        *,
        overwrite: bool = False,
        compression: str = "gzip",
        lock: _lock.Lock | None = None,
    ) -> None:
        self._start(_files.real(path), run, secrets.token_hex(16), compression, lock)
        _files.check_new(self.path, overwrite=overwrite)
        with self._replacement(overwrite=overwrite):
            pass

    def _start(
        self, path: Path, run: Run, run_id: str, compression: str, lock: _lock.Lock | None
    ) -> None:
        self.path = path
        self.run = run
        self.run_id = run_id
        self._lock = _lock.Lock(path) if lock is None else lock
        self._owns_lock = lock is None
        self._compression = compression
        self._conditions = Conditions.of(run)
        check_columns(self._conditions.part)
        self._outputs: list[_hdf5.Output] = []
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
        path = _files.real(trace.path)
        with _hdf5.Reader(path, live=False) as old:
            compression, run_id = old.dataset("trace/step").compression, run_id_of(old)
        writer = cls.__new__(cls)
        writer._start(path, run, run_id, compression, lock)
        with writer._replacement(overwrite=True) as new:
            for start in range(0, len(trace), COPY_ROWS):
                stop = min(len(trace), start + COPY_ROWS)
                rows = {name: trace.read(name, start, stop) for name in RECORDED}
                writer._extend(writer._completed(rows))
            writer._output.close()
            _foreign.carry_over(path, new)
            writer._reopen(new)
        return writer

    @contextmanager
    def _replacement(self, *, overwrite: bool) -> Iterator[Path]:
        """Make the file beside its place, and put it there when the block ends."""
        replacement = _files.Replacement(self.path)
        try:
            self._lock.add(replacement.path)
            self._outputs.append(_hdf5.Output(replacement.path, "w"))
            self._lay_out(self.run)
            yield replacement.path
            self._file.swmr_mode = True
            self._inode = os.stat(replacement.path)
            replacement.put(overwrite=overwrite)
        except BaseException as error:
            for output in self._outputs:
                output.abandon()
            self._release()
            if isinstance(error, FileExistsError | _foreign.NotCopiedError):
                raise
            if isinstance(error, OSError | RuntimeError):  # libhdf5 raises both
                reason = one_line(error)
                raise OSError(f"{self.path} cannot be written: {reason}") from error
            raise
        finally:
            replacement.discard()

    @property
    def _output(self) -> _hdf5.Output:
        return self._outputs[-1]

    @property
    def _file(self) -> h5py.File:
        return self._output.file

    def _reopen(self, path: Path) -> None:
        self._outputs.append(_hdf5.Output(path, "r+"))
        for column in self._columns.values():
            column.attach(self._file["trace"])

    def _lay_out(self, run: Run) -> None:
        file = self._file
        text, arrays = run.to_json()
        file.attrs["format"] = _hdf5.text(FORMAT)
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["spec"] = _hdf5.text(text)
        file.attrs["run_id"] = _hdf5.text(self.run_id)
        file.attrs["status"] = np.bytes_(STATUSES[0].ljust(16))
        file.attrs["committed_rows"] = np.int64(0)
        run.problem.spectrum.write(file, compression=self._compression)
        group = file.create_group("run")
        for name, values in arrays.items():
            _hdf5.write(group, name, values, compression=self._compression)
        group.create_dataset("noise_constants", data=self._conditions.constants)
        trace = file.create_group("trace")
        chunk_rows = min(CHUNK_ROWS, run.num_rows)
        self._columns = {
            name: Column(trace, name, column.dtype, column.shape, chunk_rows, self._compression)
            for name, column in columns().items()
        }

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
            recorded = {name: getattr(now, name) for name in RECORDED}
            self._extend(self._completed(recorded), last=last)
            self._pending = [later] if len(later) else []
        self._last_commit = time.monotonic()

    def _completed(self, recorded: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Add the derived columns to recorded ones."""
        return recorded | derived_columns(self._conditions.part(recorded.__getitem__))

    def _extend(self, values: dict[str, NDArray[Any]], *, last: bool = False) -> None:
        """Write rows, all columns before the count that tells readers of them."""
        end = self._rows + len(values["step"])
        for name, column in self._columns.items():
            column.append(values[name], last=last)
        self._file.flush()
        self._file.attrs.modify("committed_rows", np.int64(end))
        self._file.flush()
        self._rows = end
        self._last_step = int(values["step"][-1])

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn a failed write into one clear error and leave the file as the failure left it."""
        self._output.check_process()
        try:
            with self._output.abandoned_on_failure():
                self._check_place()
                yield
        except Exception as error:
            raise OSError(
                f"writing {self.path} failed after {self._rows} committed rows: {one_line(error)}"
            ) from error
        finally:
            if not self._output.is_open:
                self._pending = []

    def _check_place(self) -> None:
        """Raise OSError unless the file is where the run began it."""
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            raise FileNotFoundError(f"{self.path} was removed while the run wrote it") from None
        if not os.path.samestat(there, self._inode):
            raise OSError(f"{self.path} was replaced by another file while the run wrote it")

    def finish(self, status: str) -> None:
        """Commit what waits, set the final status and close the file."""
        self.flush(last=True)
        with self._writing():
            self._file.attrs.modify("status", np.bytes_(status.ljust(16)))
            self._output.close()
        self._status = status
        self._release()

    def flush(self, *, last: bool = False) -> None:
        """Commit all rows that wait; tell whether they are the `last` ones."""
        if self._pending:
            self._commit(sum(map(len, self._pending)), last=last)

    def sync(self) -> None:
        """Commit all rows that wait and flush the file to the disk."""
        self.flush()
        with self._writing():
            os.fsync(self._output.descriptor)

    def trace(self) -> Trace:
        """Return the finished trace, to be read from the file on first use."""
        return TraceFile(self.path, self.run_id).trace(self._status, self._rows, self.run)

    def _release(self) -> None:
        if self._owns_lock:
            self._lock.release()

    def __enter__(self) -> "TraceWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self._output.is_open:
                self.flush()
        finally:
            if self._output.is_open:
                self._output.close()
            self._release()
