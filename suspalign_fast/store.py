"""The trace file: rows appended to chunked HDF5 as the run goes on (docs/file-format.md)."""

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from . import _hdf5
from ._column import Column
from .engines import Rows
from .run import Run
from .spectrum import Spectrum
from .trace import COLUMNS, RECORDED, Trace, derived_columns

FORMAT = "suspalign-trace"
FORMAT_VERSION = 1
CHUNK_ROWS = 4096
#: Rows wait for a full chunk at most this many seconds.
COMMIT_INTERVAL = 1.0
STATUSES = ("running", "complete", "diverged", "failed", "interrupted")
#: Rows copied at once when a trace is continued.
COPY_ROWS = 65_536
#: Arrays of a run that ``spec`` may refer to.
ARRAYS = ("initial", "noise_stds", "step_size", "record_at")
ROW_SHAPES = {"power_sums": (2, 4), "noise_sums": (2, 3)}


class TraceWriter:
    """Writes the rows of one run to a new file; other processes may read it meanwhile.

    Parameters
    ----------
    path : path-like
    run : Run
    overwrite : bool
        Whether an existing file may be replaced.
    compression : {"gzip", "none"}
        Of rows and spectrum.

    Raises
    ------
    OSError
        If the file exists and may not be replaced, or cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        run: Run,
        *,
        overwrite: bool = False,
        compression: str = "gzip",
    ) -> None:
        self._start(Path(path), run, secrets.token_hex(16), compression)
        self._file = _hdf5.create(path, overwrite=overwrite)
        try:
            self._lay_out(run)
            self._file.swmr_mode = True
        except RuntimeError as error:
            self._file.close()
            raise OSError(f"{self.path} cannot be written: {error}") from error
        except BaseException:
            self._file.close()
            raise

    def _start(self, path: Path, run: Run, run_id: str, compression: str) -> None:
        self.path = path
        self.run = run
        self.run_id = run_id
        self._compression = compression
        self._constants = run.problem.noise_constants
        self._rows = 0
        self._last_step = -1
        self._pending: list[Rows] = []
        self._last_commit = time.monotonic()

    @classmethod
    def continued(cls, trace: Trace, run: Run) -> "TraceWriter":
        """Go on writing the trace of an earlier run.

        The committed rows are copied to a new file that then takes the old one's place, so that
        whatever a killed writer left behind is never written to. Rows up to the last committed
        step are ignored by `append`: they are there.

        Parameters
        ----------
        trace : Trace
            Loaded from the file.
        run : Run
            The same run, perhaps with more steps.
        """
        assert trace.path is not None
        writer = cls.__new__(cls)
        with _hdf5.open_for_reading(trace.path) as old:
            compression = _hdf5.dataset(old, "trace/step").compression or "none"
        writer._start(trace.path, run, read_run_id(trace.path), compression)
        temporary = trace.path.with_name(trace.path.name + ".new")
        writer._file = _hdf5.create(temporary, overwrite=True)
        try:
            writer._lay_out(run)
            with _hdf5.open_for_reading(trace.path) as old:
                for start in range(0, len(trace), COPY_ROWS):
                    stop = min(len(trace), start + COPY_ROWS)
                    writer._extend({name: old["trace"][name][start:stop] for name in COLUMNS})
            writer._file.swmr_mode = True
            os.replace(temporary, trace.path)
        except BaseException:
            writer._file.close()
            temporary.unlink(missing_ok=True)
            raise
        return writer

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
        rows = Rows.joined(self._pending)
        now, later = rows[:count], rows[count:]
        columns = {name: getattr(now, name) for name in RECORDED}
        columns |= derived_columns(now.power_sums, self._constants, self.run.update)
        with self._writing():
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
        """Turn a failed write into one clear error and leave the file as the failure left it.

        After a failed write libhdf5 goes on trying, and crashes when the file is closed. Its
        descriptor is therefore pointed at the null device: what was committed stays untouched.
        """
        try:
            if not self.path.exists():
                raise FileNotFoundError(f"{self.path} was removed while the run wrote it")
            yield
        except Exception as error:
            self._pending = []
            handle = os.open(os.devnull, os.O_RDWR)
            os.dup2(handle, self._file.id.get_vfd_handle())
            os.close(handle)
            with suppress(Exception):
                self._file.close()
            reason = " ".join(str(error).split())
            raise OSError(
                f"writing {self.path} failed after {self._rows} committed rows: {reason}"
            ) from error

    def finish(self, status: str) -> None:
        """Commit what waits, set the final status and close the file."""
        self.flush(last=True)
        with self._writing():
            self._file.attrs.modify("status", np.bytes_(status.ljust(16)))
            self._file.flush()
        self._file.close()
        self._status = status

    def flush(self, *, last: bool = False) -> None:
        """Commit all rows that wait; tell whether they are the `last` ones."""
        if self._pending:
            self._commit(sum(map(len, self._pending)), last=last)

    def trace(self) -> Trace:
        """Return the finished trace, to be read from the file on first use."""
        return _trace_in_file(self.path, self.run_id, self.run, self._status, self._rows)

    def __enter__(self) -> "TraceWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file:
            try:
                self.flush()
            finally:
                self._file.close()


class MemoryTrace:
    """Collects the rows of one run in memory, with the surface of `TraceWriter`."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._rows: list[Rows] = []
        self._status = STATUSES[0]

    def append(self, rows: Rows) -> None:
        """Keep rows."""
        self._rows.append(rows)

    def finish(self, status: str) -> None:
        """Set the final status."""
        self._status = status

    def trace(self) -> Trace:
        """Return the trace of all rows."""
        rows = Rows.joined(self._rows)
        columns = {name: getattr(rows, name) for name in RECORDED}
        return Trace.from_columns(self._run, self._status, columns)

    def __enter__(self) -> "MemoryTrace":
        return self

    def __exit__(self, *error: object) -> None:
        pass


def load_trace(path: str | os.PathLike[str]) -> Trace:
    """Open the trace in a file; columns are read on first use.

    Parameters
    ----------
    path : path-like
        A file written by ``simulate(..., path=...)`` or ``suspalign run``, also while the run
        still writes it: the trace then holds the rows committed so far.

    Returns
    -------
    Trace

    Raises
    ------
    OSError
        If the file cannot be read or is not a trace file of a version this package knows.
    """
    source = Path(path)
    with _hdf5.open_for_reading(source) as file:
        try:
            status, num_rows, run = _read_header(file, source)
            run_id = _run_id(file)
        except _NotOurs:
            raise
        except Exception as error:  # whatever a file that is not ours makes the library raise
            raise OSError(f"{source} is a damaged suspalign trace: {error}") from error
    return _trace_in_file(source, run_id, run, status, num_rows)


def _trace_in_file(path: Path, run_id: str, run: Run, status: str, num_rows: int) -> Trace:
    def read(name: str) -> NDArray[Any]:
        with _hdf5.open_for_reading(path) as file:
            try:
                if _run_id(file) != run_id:
                    raise ValueError("another run replaced the file since the trace was loaded")
                values: NDArray[Any] = _hdf5.dataset(file, f"trace/{name}")[:num_rows]
            except Exception as error:
                raise OSError(f"{path} cannot be read: column {name!r}: {error}") from error
            return values

    return Trace(run, status, num_rows, read, path)


def read_run_id(path: Path) -> str:
    """Return the identity of the run behind a trace file; empty in files without one."""
    with _hdf5.open_for_reading(path) as file:
        try:
            return _run_id(file)
        except ValueError as error:
            raise OSError(f"{path} is a damaged suspalign trace: {error}") from error


def _format(file: h5py.File) -> str:
    try:
        return str(_hdf5.attribute(file, "format"))
    except (KeyError, ValueError):
        return ""


def _run_id(file: h5py.File) -> str:
    return str(_hdf5.attribute(file, "run_id")) if "run_id" in file.attrs else ""


class _NotOurs(OSError):
    """The file is not a trace, or one of a later version."""


def _read_header(file: h5py.File, path: Path) -> tuple[str, int, Run]:
    if _format(file) != FORMAT:
        raise _NotOurs(f"{path} is not a suspalign trace: its 'format' is not {FORMAT!r}")
    version = int(_hdf5.attribute(file, "format_version"))
    if version > FORMAT_VERSION:
        raise _NotOurs(
            f"{path} has trace format version {version}; this package reads up to {FORMAT_VERSION}"
        )
    status = str(_hdf5.attribute(file, "status"))
    if status not in STATUSES:
        raise ValueError(f"unknown status {status!r}")
    num_rows = int(_hdf5.attribute(file, "committed_rows"))
    for name in COLUMNS:
        column = _hdf5.dataset(file, f"trace/{name}")
        shape = column.shape
        if column.dtype.kind != ("i" if name == "step" else "f"):
            raise ValueError(f"column {name!r} has type {column.dtype}")
        if shape[1:] != ROW_SHAPES.get(name, ()) or not 0 <= num_rows <= shape[0]:
            raise ValueError(f"column {name!r} of shape {shape} does not hold {num_rows} rows")
    group = _hdf5.group(file, "run")
    arrays = {name: _hdf5.read(file, f"run/{name}") for name in ARRAYS if name in group}
    text = _hdf5.attribute(file, "spec")
    run = Run.from_json(str(text), arrays, Spectrum.read(file, path))
    return status, num_rows, run
