"""Reading trace files, also while a run writes them (docs/file-format.md)."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import storage
from ..base.registry import arrays_in
from ..model.noise import state_noise
from ..model.run import Recording, Run, stored_optimizer, update_weights
from ..model.spectrum.spectrum import Spectrum
from ..physics import rows as measured
from ..physics.layout import CONSTANTS_SHAPE
from ..physics.row import recorded
from ..storage import lock, paths
from ..storage.growing import one_line
from .trace import KILLED, STATUSES, Conditions, Trace

#: What the attribute "format" says of rows of a run, and of rows that were measured.
RUN_FORMAT, MEASURED_FORMAT = "suspalign-trace", "suspalign-measured"
#: Latest version of each format.
VERSIONS = {RUN_FORMAT: 1, MEASURED_FORMAT: 1}


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
            return _trace_in(file, held, live)
        except NotOursError as error:
            raise OSError(f"{source} {error}") from None
        except Exception as error:  # whatever a file that is not ours makes the library raise
            raise OSError(f"{source} is a damaged suspalign trace: {one_line(error)}") from error


class NotOursError(ValueError):
    """The file is of another kind, or one of a later version."""


def _trace_in(file: storage.Reader, held: bool | None, live: bool | None) -> Trace:
    """Check the head of an open file, and return the trace of the rows committed so far."""
    name = file.format_name()
    if name not in VERSIONS:
        raise NotOursError(f"is not a suspalign trace: its 'format' is not {RUN_FORMAT!r}")
    version, known = int(file.attribute("", "format_version")), VERSIONS[name]
    if version > known:
        what = "rows of a run" if name == RUN_FORMAT else "measured rows"
        raise NotOursError(
            f"has format version {version} of {what}; this package reads up to {known}"
        )
    stored = str(file.attribute("", "status"))
    if stored not in STATUSES:
        raise ValueError(f"unknown status {stored!r}")
    count, run_id = int(file.attribute("", "committed_rows")), run_id_of(file)
    status = KILLED if stored == STATUSES[0] and held is False else stored
    if name == MEASURED_FORMAT:
        source, conditions = _measured(file)
        _check_columns(file, conditions.recorded, count)
        rows = MeasuredFile(file.path, run_id, live)
        return Trace(None, status, count, rows.column, file.path, rows.conditions, source)
    _check_run(file, stored, count)
    return TraceFile(file.path, run_id, live).trace(status, count)


def _check_run(file: storage.Reader, status: str, num_rows: int) -> None:
    """Raise ValueError unless the rows of a file are of the run that it describes."""
    spec = _spec(file)
    _check_columns(file, recorded(has_velocity=stored_optimizer(spec).has_velocity), num_rows)
    Spectrum.check(file)
    if file.dataset("run/noise_constants").shape != CONSTANTS_SHAPE:
        raise ValueError("the constants of the noise are not of both bands")
    recording = Recording.from_spec(spec, file.read)
    is_short = status == "complete" and num_rows < recording.num_rows
    if num_rows > recording.num_rows or is_short:
        raise ValueError(
            f"it has {num_rows} rows and says that it is {status}, its run has {recording.num_rows}"
        )
    if num_rows:
        last = int(file.dataset("trace/step").rows(num_rows - 1, num_rows)[0])
        if last != recording.step_of_row(num_rows - 1):
            raise ValueError(f"its row {num_rows - 1} is not one of its run: step {last}")


def _check_columns(file: storage.Reader, wanted: Mapping[str, Any], num_rows: int) -> None:
    """Raise ValueError unless a file has so many rows of the wanted columns."""
    for name, like in wanted.items():
        column = file.dataset(f"trace/{name}")
        if column.dtype != like.dtype:
            raise ValueError(f"column {name!r} has type {column.dtype}")
        if column.shape[1:] != like.shape or not 0 <= num_rows <= column.shape[0]:
            raise ValueError(
                f"column {name!r} of shape {column.shape} does not hold {num_rows} rows"
            )


def _measured(file: storage.Reader) -> tuple[str, Conditions]:
    """Return what was measured, and the conditions of the rows."""
    spec = _spec(file)
    shapes = {name: tuple(shape) for name, shape in spec["measured"].items()}
    if measured.CONSTANTS.name not in shapes:
        raise ValueError("rows have no constants of the noise")
    return str(spec["source"]), measured_conditions(spec["update"], shapes)


def measured_conditions(update: Any, shapes: Mapping[str, tuple[int, ...]]) -> Conditions:
    """Return the conditions of measured rows that have columns of these shapes."""
    weights = update_weights(tuple(update) if isinstance(update, list) else update)
    unknown = np.full(CONSTANTS_SHAPE, np.nan)
    return Conditions(unknown, weights, measured=measured.columns_of(shapes))


def read_run_id(path: Path) -> str:
    """Return the identity of the run behind a trace file whose lock is ours."""
    with storage.Reader(path, live=False) as file:
        return run_id_of(file)


def run_id_of(file: storage.Reader) -> str:
    """Return the identity of the run behind an open file."""
    try:
        return str(file.attribute("", "run_id"))
    except KeyError:  # files of the first version had none
        return ""


def _spec(file: storage.Reader) -> dict[str, Any]:
    spec: dict[str, Any] = json.loads(str(file.attribute("", "spec")))
    return spec


class RowFile:
    """Reads rows of one writer's file, and of no other file that takes its place.

    Parameters
    ----------
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


class TraceFile(RowFile):
    """Reads the file of one run."""

    def trace(self, status: str, num_rows: int, run: Run | None = None) -> Trace:
        """Return the trace of the file's first rows."""
        return Trace(run or self.run, status, num_rows, self.column, self.path, self.conditions)

    def run(self) -> Run:
        """Read the run."""
        with self._open("the run") as file:
            text = str(file.attribute("", "spec"))
            arrays = {name: file.read(f"run/{name}") for name in arrays_in(json.loads(text))}
            return Run.from_json(text, arrays, Spectrum.read(file))

    def conditions(self) -> Conditions:
        """Read the constants of the noise and the weights of the update."""
        with self._open("the constants of the noise") as file:
            spec = _spec(file)
            weights, noise = update_weights(spec["update"]), state_noise(spec["noise"])
            constants = file.read("run/noise_constants")
            return Conditions(constants, weights, noise, stored_optimizer(spec))


class MeasuredFile(RowFile):
    """Reads a file of measured rows."""

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
            return _measured(file)[1]
