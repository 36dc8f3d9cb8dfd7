"""Reading trace files, also while a run writes them (docs/file-format.md)."""

import json
from pathlib import Path
from typing import NamedTuple

from . import measured_file
from . import storage as _hdf5
from .conditions import Conditions
from .noise import state_noise
from .row import CONSTANTS_SHAPE, recorded
from .row_file import NotOursError, RowFile, check_columns, run_id_of
from .run import Recording, Run, stored_optimizer, update_weights
from .spec import arrays_in
from .spectrum import Spectrum
from .storage import files as _files
from .storage import lock as _lock
from .storage.growing import one_line
from .trace import KILLED, STATUSES, Trace

FORMAT = "suspalign-trace"
FORMAT_VERSION = 1


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
            if file.format_name() == measured_file.FORMAT:
                return measured_file.load(file, held, live)
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
    with _hdf5.Reader(path, live=False) as file:
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
    def read(cls, file: _hdf5.Reader) -> "_Header":
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

    def _check_columns(self, file: _hdf5.Reader) -> None:
        has_velocity = stored_optimizer(json.loads(_spec(file))).has_velocity
        check_columns(file, recorded(has_velocity=has_velocity), self.num_rows)

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
