"""The trace file: rows appended to chunked HDF5 as the run goes on (docs/file-format.md)."""

import json
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from . import _memory
from . import storage as _hdf5
from .engines import Rows
from .run import Recording, Run, update_weights
from .spectrum import Spectrum
from .storage import files as _files
from .storage import foreign as _foreign
from .storage import lock as _lock
from .storage.column import Column
from .trace import COLUMNS, RECORDED, Conditions, Trace, derived_columns

FORMAT = "suspalign-trace"
FORMAT_VERSION = 1
CHUNK_ROWS = 4096
#: Rows wait for a full chunk at most this many seconds.
COMMIT_INTERVAL = 1.0
#: What a file says of its run, and what is said of one that is "running" and whose writer is gone.
STATUSES = ("running", "complete", "diverged", "failed", "interrupted")
KILLED = "killed"
#: Rows copied at once when a trace is continued.
COPY_ROWS = 65_536
#: Arrays of a run that ``spec`` may refer to.
ARRAYS = ("initial", "noise_stds", "step_size", "record_at")
#: Bytes of a recorded row.
ROW_BYTES = 8 * (1 + 1 + 8 + 6)
ROW_SHAPES = {"power_sums": (2, 4), "noise_sums": (2, 3)}


class TraceWriter:
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
        self._constants = run.problem.noise_constants
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
            compression, run_id = old.dataset("trace/step").compression, _run_id(old)
        writer = cls.__new__(cls)
        writer._start(path, run, run_id, compression, lock)
        with writer._replacement(overwrite=True) as new:
            for start in range(0, len(trace), COPY_ROWS):
                stop = min(len(trace), start + COPY_ROWS)
                rows = {name: trace.read(name, start, stop) for name in RECORDED}
                rows |= derived_columns(rows["power_sums"], writer._constants, run.update)
                writer._extend(rows)
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
                reason = _one_line(error)
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
        group.create_dataset("noise_constants", data=self._constants)
        trace = file.create_group("trace")
        chunk_rows = min(CHUNK_ROWS, run.num_rows)
        self._columns = {
            name: Column(
                trace,
                name,
                np.int64 if name == "step" else np.float64,
                ROW_SHAPES.get(name, ()),
                chunk_rows,
                self._compression,
            )
            for name in COLUMNS
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
            columns = {name: getattr(now, name) for name in RECORDED}
            columns |= derived_columns(now.power_sums, self._constants, self.run.update)
            self._extend(columns, last=last)
            self._pending = [later] if len(later) else []
        self._last_commit = time.monotonic()

    def _extend(self, columns: dict[str, NDArray[Any]], *, last: bool = False) -> None:
        """Write rows, all columns before the count that tells readers of them."""
        end = self._rows + len(columns["step"])
        for name, column in self._columns.items():
            column.append(columns[name], last=last)
        self._file.flush()
        self._file.attrs.modify("committed_rows", np.int64(end))
        self._file.flush()
        self._rows = end
        self._last_step = int(columns["step"][-1])

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
                f"writing {self.path} failed after {self._rows} committed rows: {_one_line(error)}"
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


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class MemoryTrace:
    """Collects the rows of one run in memory, with the surface of `TraceWriter`."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._count = 0
        self._status = STATUSES[0]
        self._columns: dict[str, NDArray[Any]] = {}

    @staticmethod
    def check_memory(runs: Sequence[Run]) -> None:
        """Raise MemoryError if the rows of so many runs cannot fit."""
        count = sum(run.num_rows for run in runs)
        _memory.check(f"a trace of {count:,} rows in memory", count * ROW_BYTES)

    def append(self, rows: Rows) -> None:
        """Keep rows."""
        stop = self._count + len(rows)
        for name in RECORDED:
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

    def __enter__(self) -> "MemoryTrace":
        return self

    def __exit__(self, *error: object) -> None:
        pass


def load_trace(path: _files.AnyPath) -> Trace:
    """Open the trace in a file; everything else is read on first use.

    Parameters
    ----------
    path : path-like
        A file written by ``simulate(..., path=...)`` or ``suspalign run``, also while the run
        still writes it: the trace then holds the rows committed so far.

    Returns
    -------
    Trace
        Its `status` is "killed" where the file says "running" and no process writes it.

    Raises
    ------
    OSError
        If the file cannot be read or is not a trace file of a version this package knows; from the
        first use of a column or of `run` if that is damaged.
    """
    return _load(_files.absolute(path), None)


def load_unlocked(path: Path) -> Trace:
    """Open the trace in a file whose lock is ours, so that no other run writes it."""
    return _load(path, live=False)


def _load(source: Path, live: bool | None) -> Trace:
    held = _lock.is_held(source) if live is None else live
    with _hdf5.Reader(source, live=held) as file:
        try:
            header = _Header.read(file)
        except _NotOursError as error:
            raise OSError(f"{source} {error}") from None
        except Exception as error:  # whatever a file that is not ours makes the library raise
            raise OSError(f"{source} is a damaged suspalign trace: {_one_line(error)}") from error
    is_killed = header.status == STATUSES[0] and held is False
    status = KILLED if is_killed else header.status
    return TraceFile(source, header.run_id, live).trace(status, header.num_rows)


def read_run_id(path: Path) -> str:
    """Return the identity of the run behind a trace file whose lock is ours."""
    with _hdf5.Reader(path, live=False) as file:
        return _run_id(file)


class TraceFile:
    """Reads parts of one run's trace file; of no other run's that takes its place.

    Parameters
    ----------
    path : Path
    run_id : str
    live : bool, optional
        Whether a writer has it open; by default its lock tells, each time.
    """

    def __init__(self, path: Path, run_id: str, live: bool | None = None) -> None:
        self.path: Path = path
        self.run_id: str = run_id
        self._live = live

    def trace(self, status: str, num_rows: int, run: Run | None = None) -> Trace:
        """Return the trace of the file's first rows."""
        return Trace(run or self.run, status, num_rows, self.column, self.path, self.conditions)

    def run(self) -> Run:
        """Read the run."""
        with self._open("the run") as file:
            spec, arrays = _spec(file), _arrays(file)
            return Run.from_json(spec, arrays, Spectrum.read(file))

    def conditions(self) -> Conditions:
        """Read the constants of the noise and the weights of the update."""
        with self._open("the constants of the noise") as file:
            weights = update_weights(json.loads(_spec(file))["update"])
            return Conditions(file.read("run/noise_constants"), weights)

    def column(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Read rows of a column."""
        with self._open(f"column {name!r}") as file:
            return file.dataset(f"trace/{name}").rows(start, stop)

    @contextmanager
    def _open(self, what: str) -> Iterator[_hdf5.Reader]:
        with _hdf5.Reader(self.path, live=self._live) as file:
            try:
                if _run_id(file) != self.run_id:
                    raise ValueError("another run replaced the file since the trace was loaded")
                yield file
            except Exception as error:
                reason = _one_line(error)
                raise OSError(f"{self.path} cannot be read: {what}: {reason}") from error


class _NotOursError(ValueError):
    """The file is not a trace, or one of a later version."""


class _Header(NamedTuple):
    """What is read of a file at once."""

    status: str
    num_rows: int
    run_id: str

    @classmethod
    def read(cls, file: _hdf5.Reader) -> "_Header":
        """Read and check it."""
        if _format(file) != FORMAT:
            raise _NotOursError(f"is not a suspalign trace: its 'format' is not {FORMAT!r}")
        version = int(file.attribute("", "format_version"))
        if version > FORMAT_VERSION:
            raise _NotOursError(
                f"has trace format version {version}; this package reads up to {FORMAT_VERSION}"
            )
        status = str(file.attribute("", "status"))
        if status not in STATUSES:
            raise ValueError(f"unknown status {status!r}")
        header = cls(status, int(file.attribute("", "committed_rows")), _run_id(file))
        header._check_columns(file)
        Spectrum.check(file)
        if file.dataset("run/noise_constants").shape != (2, 3):
            raise ValueError("the constants of the noise are not of both bands")
        header._check_rows(file, Recording.from_spec(json.loads(_spec(file)), file.read))
        return header

    def _check_columns(self, file: _hdf5.Reader) -> None:
        for name in RECORDED:
            column = file.dataset(f"trace/{name}")
            if column.dtype.kind != ("i" if name == "step" else "f"):
                raise ValueError(f"column {name!r} has type {column.dtype}")
            wanted = ROW_SHAPES.get(name, ())
            if column.shape[1:] != wanted or not 0 <= self.num_rows <= column.shape[0]:
                raise ValueError(
                    f"column {name!r} of shape {column.shape} does not hold {self.num_rows} rows"
                )

    def _check_rows(self, file: _hdf5.Reader, recording: Recording) -> None:
        """Raise ValueError unless rows and description are of the same run."""
        if self.num_rows > recording.num_rows or (
            self.status == "complete" and self.num_rows < recording.num_rows
        ):
            raise ValueError(
                f"it has {self.num_rows} rows and says that it is {self.status}, its run has "
                f"{recording.num_rows}"
            )
        if self.num_rows:
            last = int(file.dataset("trace/step").rows(self.num_rows - 1, self.num_rows)[0])
            if last != recording.step_of_row(self.num_rows - 1):
                raise ValueError(f"its row {self.num_rows - 1} is not one of its run: step {last}")


def _spec(file: _hdf5.Reader) -> str:
    return str(file.attribute("", "spec"))


def _arrays(file: _hdf5.Reader) -> dict[str, NDArray[Any]]:
    return {name: file.read(f"run/{name}") for name in ARRAYS if file.has(f"run/{name}")}


def _format(file: _hdf5.Reader) -> str:
    try:
        return str(file.attribute("", "format"))
    except (KeyError, ValueError):
        return ""


def _run_id(file: _hdf5.Reader) -> str:
    try:
        return str(file.attribute("", "run_id"))
    except KeyError:  # files of the first version had none
        return ""
