"""Reading the rows of a file: of one writer's file, of no other that takes its place."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from . import storage as _hdf5
from .storage.growing import one_line


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
    def _open(self, what: str) -> Iterator[_hdf5.Reader]:
        with _hdf5.Reader(self.path, live=self._live) as file:
            try:
                if run_id_of(file) != self.run_id:
                    raise ValueError("another run replaced the file since the trace was loaded")
                yield file
            except Exception as error:
                reason = one_line(error)
                raise OSError(f"{self.path} cannot be read: {what}: {reason}") from error


class NotOursError(ValueError):
    """The file is of another kind, or one of a later version."""


def run_id_of(file: _hdf5.Reader) -> str:
    """Return the identity of the run behind an open file."""
    try:
        return str(file.attribute("", "run_id"))
    except KeyError:  # files of the first version had none
        return ""


def check_columns(file: _hdf5.Reader, wanted: dict[str, Any], num_rows: int) -> None:
    """Raise ValueError unless a file has so many rows of columns as they are wanted."""
    for name, like in wanted.items():
        column = file.dataset(f"trace/{name}")
        if column.dtype != like.dtype:
            raise ValueError(f"column {name!r} has type {column.dtype}")
        if column.shape[1:] != like.shape or not 0 <= num_rows <= column.shape[0]:
            raise ValueError(
                f"column {name!r} of shape {column.shape} does not hold {num_rows} rows"
            )
