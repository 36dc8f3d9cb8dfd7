"""Reading trace files, also while a run writes them (docs/file-format.md)."""

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import storage
from ..base.registry import arrays_in
from ..base.reports import provenance
from ..model.noise import state_noise
from ..model.run import Recording, Run, stored_optimizer, update_weights
from ..model.spectrum.spectrum import Spectrum
from ..physics import rows as measured
from ..physics.layout import CONSTANTS_SHAPE
from ..physics.row import derived_columns, recorded
from ..storage import lock, paths
from ..storage.growing import Growing, one_line
from ..storage.output import Column
from . import labelled
from .trace import KILLED, STATUSES, Conditions, Trace

# --- Reading the rows of a file: of one writer's file, of no other that takes its place ----------


class RowFile:
    """Reads parts of one file of rows; of no other that takes its place.

    Parameters
    ----------
    path : Path
    run_id : str
        What the writer called the file.
    live : bool, optional
        Whether a writer has it open; by default its lock tells, each time.
    """

    def __init__(self, path: Path, run_id: str, live: bool | None = None) -> None:
        self.path: Path = path
        self.run_id: str = run_id
        self._live = live

    def column(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Read rows of a column."""
        with self._open(f"column {name!r}") as file:
            return file.dataset(f"trace/{name}").rows(start, stop)

    @contextmanager
    def _open(self, what: str) -> Iterator[storage.Reader]:
        with storage.Reader(self.path, live=self._live) as file:
            try:
                if run_id_of(file) != self.run_id:
                    raise ValueError("another run replaced the file since the trace was loaded")
                yield file
            except Exception as error:
                reason = one_line(error)
                raise OSError(f"{self.path} cannot be read: {what}: {reason}") from error


class NotOursError(ValueError):
    """The file is of another kind, or one of a later version."""


def run_id_of(file: storage.Reader) -> str:
    """Return the identity of the run behind an open file."""
    try:
        return str(file.attribute("", "run_id"))
    except KeyError:  # files of the first version had none
        return ""


def check_columns(file: storage.Reader, wanted: dict[str, Any], num_rows: int) -> None:
    """Raise ValueError unless a file has so many rows of columns as they are wanted."""
    for name, like in wanted.items():
        column = file.dataset(f"trace/{name}")
        if column.dtype != like.dtype:
            raise ValueError(f"column {name!r} has type {column.dtype}")
        if column.shape[1:] != like.shape or not 0 <= num_rows <= column.shape[0]:
            raise ValueError(
                f"column {name!r} of shape {column.shape} does not hold {num_rows} rows"
            )


# --- The file of rows that were measured (docs/file-format.md): no run is behind them ------------


MEASURED_FORMAT = "suspalign-measured"
FORMAT_VERSION = 1
CHUNK_ROWS = 64


class MeasuredFile(RowFile):
    """Reads parts of a file of measured rows."""

    def column(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Read rows of a column, which are checked."""
        values = super().column(name, start, stop)
        try:
            measured.check_values(name, values)
        except ValueError as error:
            raise OSError(f"{self.path} cannot be read: column {name!r}: {error}") from error
        return values

    def conditions(self) -> Conditions:
        """Read what the physics of the rows needs beside them."""
        with self._open("what was measured") as file:
            return _About.read(file).conditions


class _About(NamedTuple):
    """What a file says of its rows."""

    source: str
    conditions: Conditions

    @classmethod
    def read(cls, file: storage.Reader) -> "_About":
        spec = json.loads(str(file.attribute("", "spec")))
        shapes = {name: tuple(shape) for name, shape in spec["measured"].items()}
        if measured.CONSTANTS.name not in shapes:
            raise ValueError("rows have no constants of the noise")
        return cls(str(spec["source"]), _conditions(spec["update"], shapes))


def _conditions(update: Any, shapes: Mapping[str, tuple[int, ...]]) -> Conditions:
    weights = update_weights(tuple(update) if isinstance(update, list) else update)
    unknown = np.full(CONSTANTS_SHAPE, np.nan)
    return Conditions(unknown, weights, measured=measured.columns_of(shapes))


def load(file: storage.Reader, held: bool | None, live: bool | None) -> Trace:
    """Return the trace of an open file.

    Parameters
    ----------
    file : Reader
    held : bool or None
        Whether a process holds the file's lock.
    live : bool or None
        As `RowFile` has it.

    Raises
    ------
    ValueError
        If its header is not of such a file.
    """
    version = int(file.attribute("", "format_version"))
    if version > FORMAT_VERSION:
        raise NotOursError(
            f"has format version {version} of measured rows; this package reads up to "
            f"{FORMAT_VERSION}"
        )
    status = str(file.attribute("", "status"))
    if status not in STATUSES:
        raise ValueError(f"unknown status {status!r}")
    about, count = _About.read(file), int(file.attribute("", "committed_rows"))
    check_columns(file, about.conditions.recorded, count)
    status = KILLED if status == STATUSES[0] and held is False else status
    rows = MeasuredFile(file.path, run_id_of(file), live)
    return Trace(None, status, count, rows.column, file.path, rows.conditions, about.source)


class MeasuredWriter:
    """Writes rows to a new file one by one; other processes may read it meanwhile.

    Parameters
    ----------
    path : path-like
    source : str
    shapes : mapping of str to tuple of int
        Shape of a row of every column of `suspalign_fast.physics.rows` that there is.
    update : {"full", "dominant", "bulk"} or tuple of two float
    overwrite : bool
    earlier : mapping of str to array_like, optional
        Rows that the file begins with; those of the file that is replaced are never away.

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
        self.path = paths.real(path)
        self._conditions = _conditions(update, shapes)
        self._failed: set[str] = set()
        spec: dict[str, Any] = {"source": source, "update": list(self._conditions.update)}
        spec["measured"] = {name: list(shape) for name, shape in shapes.items()}
        self._rows = 0
        self._place = Growing(self.path)
        paths.check_new(self.path, overwrite=overwrite)
        text = json.dumps(spec)
        with self._place.laid_out(len(text), overwrite=overwrite):
            self._lay_out(text)
            if earlier and len(np.asarray(earlier["step"])):
                self._add(earlier, last=False)

    def _lay_out(self, spec: str) -> None:
        file = self._place.file
        file.attrs["format"] = storage.text(MEASURED_FORMAT)
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["spec"] = storage.text(spec)
        file.attrs["run_id"] = storage.text(secrets.token_hex(16))
        file.attrs["status"] = np.bytes_(STATUSES[0].ljust(16))
        file.attrs["committed_rows"] = np.int64(0)
        file.attrs.update({name: storage.text(value) for name, value in provenance().items()})
        trace = file.create_group("trace", track_order=True)
        self._columns = {
            name: Column(trace, name, column.dtype, column.shape, CHUNK_ROWS, "gzip")
            for name, column in self._conditions.columns.items()
        }
        labelled.label(trace)

    def append(self, rows: Mapping[str, ArrayLike], *, last: bool = False) -> None:
        """Write rows, recorded columns by name."""
        self._check(rows)
        with self._place.writing(f"{self._rows} committed rows"):
            self._add(rows, last=last)

    def _check(self, rows: Mapping[str, ArrayLike]) -> None:
        """Raise ValueError if rows have another shape than their columns, or impossible values."""
        for name, column in self._conditions.recorded.items():
            values = np.asarray(rows[name], column.dtype)
            if values.shape[1:] != column.shape or values.ndim == 0:
                raise ValueError(
                    f"rows of {name!r} must have shape {column.shape}, got {values.shape[1:]}"
                )
            measured.check_values(name, values)

    def _add(self, rows: Mapping[str, ArrayLike], *, last: bool) -> None:
        recorded = self._conditions.recorded
        values = {name: np.asarray(rows[name], column.dtype) for name, column in recorded.items()}
        # What was measured is not what would follow from sums.
        values = derived_columns(self._conditions.part(values.__getitem__), self._failed) | values
        for name, column in self._columns.items():
            column.append(values[name], last=last)
        self._place.file.flush()
        self._rows += len(values["step"])
        self._place.file.attrs.modify("committed_rows", np.int64(self._rows))
        self._place.file.flush()

    @property
    def is_open(self) -> bool:
        """Whether rows may still be written."""
        return self._place.is_open

    def finish(self, status: str) -> None:
        """Set the final status and close the file."""
        if not self.is_open:
            return
        with self._place.writing(f"{self._rows} committed rows"):
            self._place.file.attrs.modify("status", np.bytes_(status.ljust(16)))
            self._place.close()
        self._place.release()


FORMAT = "suspalign-trace"


def load_trace(path: paths.AnyPath) -> Trace:
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
    return _load(paths.absolute(path), None)


def load_unlocked(path: Path) -> Trace:
    """Open the trace in a file whose lock is ours, so that no other run writes it."""
    return _load(path, live=False)


def _load(source: Path, live: bool | None) -> Trace:
    held = lock.is_held(source) if live is None else live
    with storage.Reader(source, live=held) as file:
        try:
            if file.format_name() == MEASURED_FORMAT:
                return load(file, held, live)
            header = _Header.read(file)
        except NotOursError as error:
            raise OSError(f"{source} {error}") from None
        except Exception as error:  # whatever a file that is not ours makes the library raise
            raise OSError(f"{source} is a damaged suspalign trace: {one_line(error)}") from error
    is_killed = header.status == STATUSES[0] and held is False
    status = KILLED if is_killed else header.status
    return TraceFile(source, header.run_id, live).trace(status, header.num_rows)


def read_run_id(path: Path) -> str:
    """Return the identity of the run behind a trace file whose lock is ours."""
    with storage.Reader(path, live=False) as file:
        return run_id_of(file)


class TraceFile(RowFile):
    """Reads parts of one run's trace file; of no other run's that takes its place."""

    def trace(self, status: str, num_rows: int, run: Run | None = None) -> Trace:
        """Return the trace of the file's first rows."""
        return Trace(run or self.run, status, num_rows, self.column, self.path, self.conditions)

    def run(self) -> Run:
        """Read the run."""
        with self._open("the run") as file:
            spec = _spec(file)
            arrays = {name: file.read(f"run/{name}") for name in arrays_in(json.loads(spec))}
            return Run.from_json(spec, arrays, Spectrum.read(file))

    def conditions(self) -> Conditions:
        """Read the constants of the noise and the weights of the update."""
        with self._open("the constants of the noise") as file:
            spec = json.loads(_spec(file))
            weights, noise = update_weights(spec["update"]), state_noise(spec["noise"])
            constants = file.read("run/noise_constants")
            return Conditions(constants, weights, noise, stored_optimizer(spec))


class _Header(NamedTuple):
    """What is read of a file at once."""

    status: str
    num_rows: int
    run_id: str

    @classmethod
    def read(cls, file: storage.Reader) -> "_Header":
        """Read and check it."""
        if file.format_name() != FORMAT:
            raise NotOursError(f"is not a suspalign trace: its 'format' is not {FORMAT!r}")
        version = int(file.attribute("", "format_version"))
        if version > FORMAT_VERSION:
            raise NotOursError(
                f"has trace format version {version}; this package reads up to {FORMAT_VERSION}"
            )
        status = str(file.attribute("", "status"))
        if status not in STATUSES:
            raise ValueError(f"unknown status {status!r}")
        header = cls(status, int(file.attribute("", "committed_rows")), run_id_of(file))
        header._check_columns(file)
        Spectrum.check(file)
        if file.dataset("run/noise_constants").shape != CONSTANTS_SHAPE:
            raise ValueError("the constants of the noise are not of both bands")
        header._check_rows(file, Recording.from_spec(json.loads(_spec(file)), file.read))
        return header

    def _check_columns(self, file: storage.Reader) -> None:
        has_velocity = stored_optimizer(json.loads(_spec(file))).has_velocity
        check_columns(file, recorded(has_velocity=has_velocity), self.num_rows)

    def _check_rows(self, file: storage.Reader, recording: Recording) -> None:
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


def _spec(file: storage.Reader) -> str:
    return str(file.attribute("", "spec"))
