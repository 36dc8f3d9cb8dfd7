"""The file of rows that were measured (docs/file-format.md): no run is behind them."""

import json
import secrets
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import labels, measured
from . import storage as _hdf5
from ._provenance import provenance
from .conditions import Conditions
from .row import CONSTANTS_SHAPE, derived_columns
from .row_file import NotOursError, RowFile, check_columns, run_id_of
from .run import update_weights
from .storage import files as _files
from .storage.column import Column
from .storage.growing import Growing
from .trace import KILLED, STATUSES, Trace

FORMAT = "suspalign-measured"
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
    def read(cls, file: _hdf5.Reader) -> "_About":
        spec = json.loads(str(file.attribute("", "spec")))
        shapes = {name: tuple(shape) for name, shape in spec["measured"].items()}
        if measured.CONSTANTS.name not in shapes:
            raise ValueError("rows have no constants of the noise")
        return cls(str(spec["source"]), _conditions(spec["update"], shapes))


def _conditions(update: Any, shapes: Mapping[str, tuple[int, ...]]) -> Conditions:
    weights = update_weights(tuple(update) if isinstance(update, list) else update)
    unknown = np.full(CONSTANTS_SHAPE, np.nan)
    return Conditions(unknown, weights, measured=measured.columns_of(shapes))


def load(file: _hdf5.Reader, held: bool | None, live: bool | None) -> Trace:
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
        Shape of a row of every column of `suspalign_fast.measured` that there is.
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
        path: _files.AnyPath,
        source: str,
        shapes: Mapping[str, tuple[int, ...]],
        *,
        update: Any = "full",
        overwrite: bool = False,
        earlier: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        self.path = _files.real(path)
        self._conditions = _conditions(update, shapes)
        self._failed: set[str] = set()
        spec: dict[str, Any] = {"source": source, "update": list(self._conditions.update)}
        spec["measured"] = {name: list(shape) for name, shape in shapes.items()}
        self._rows = 0
        self._place = Growing(self.path)
        _files.check_new(self.path, overwrite=overwrite)
        text = json.dumps(spec)
        with self._place.laid_out(len(text), overwrite=overwrite):
            self._lay_out(text)
            if earlier and len(np.asarray(earlier["step"])):
                self._add(earlier, last=False)

    def _lay_out(self, spec: str) -> None:
        file = self._place.file
        file.attrs["format"] = _hdf5.text(FORMAT)
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["spec"] = _hdf5.text(spec)
        file.attrs["run_id"] = _hdf5.text(secrets.token_hex(16))
        file.attrs["status"] = np.bytes_(STATUSES[0].ljust(16))
        file.attrs["committed_rows"] = np.int64(0)
        file.attrs.update({name: _hdf5.text(value) for name, value in provenance().items()})
        trace = file.create_group("trace", track_order=True)
        self._columns = {
            name: Column(trace, name, column.dtype, column.shape, CHUNK_ROWS, "gzip")
            for name, column in self._conditions.columns.items()
        }
        labels.label(trace)

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
