"""Variables of files as arrays of xarray, read by this package's own reader on first use.

This module imports xarray, which is optional: it is imported where something is opened.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray
from numpy.typing import NDArray
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from ..storage.dataset import Variable
from ..storage.growing import one_line
from ..storage.reader import Reader
from .values import Values


class ClosedError(OSError):
    """A dataset was closed before its values were read."""


class OpenFile:
    """A file that stays open for its arrays, and travels by its path.

    Parameters
    ----------
    what : str
        What errors call it.

    Attributes
    ----------
    path : Path
    reader : Reader
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path, self._what = path, what
        self.reader = Reader(path, is_lasting=True)
        self._variables: dict[str, Variable] = {}

    def __reduce__(self) -> Any:
        return type(self), (self.path, self._what)

    def variable(self, name: str) -> Variable:
        """Return a dataset of the file."""
        if not hasattr(self, "reader"):
            raise ClosedError(f"{self.path} was closed: load() before what is wanted afterwards")
        if name not in self._variables:
            self._variables[name] = self.reader.variable(name)
        return self._variables[name]

    @contextlib.contextmanager
    def damage_said(self) -> Any:
        """Turn whatever a damaged file raises into one error that names it."""
        try:
            yield
        except ClosedError:
            raise
        except Exception as error:
            raise OSError(f"{self.path} is a damaged {self._what}: {one_line(error)}") from error

    def close(self) -> None:
        """Close the file; what was read stays."""
        self._variables = {}
        with contextlib.suppress(AttributeError, OSError):
            self.reader.close()
            del self.reader

    def __del__(self) -> None:
        self.close()


class Plain(BackendArray):
    """A whole variable as it is in the file."""

    def __init__(self, file: OpenFile, name: str) -> None:
        self._file, self._name = file, name
        found = file.variable(name)
        self.shape, self.dtype = found.shape, found.dtype

    def __getitem__(self, key: Any) -> Any:
        """Read a part."""
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        wanted = [np.arange(n)[part] for n, part in zip(self.shape, key, strict=True)]
        with self._file.damage_said():
            found = self._chosen([np.atleast_1d(indices) for indices in wanted])
        return found.reshape([indices.size for indices in wanted if indices.ndim])

    def _chosen(self, wanted: list[NDArray[np.intp]]) -> NDArray[Any]:
        variable = self._file.variable(self._name)
        if not all(indices.size for indices in wanted):
            return np.empty([indices.size for indices in wanted], variable.dtype)
        first = [int(indices.min()) for indices in wanted]
        bounds = [(low, int(i.max()) + 1) for low, i in zip(first, wanted, strict=True)]
        found = variable.region(bounds)
        return found[np.ix_(*(i - low for low, i in zip(first, wanted, strict=True)))]


class Runs(Plain):
    """A variable of a study: the runs that are done, each checked by its sum."""

    def __init__(self, file: OpenFile, name: str, is_there: Any, sums: Any) -> None:
        super().__init__(file, name)
        self._is_there, self._sums = is_there, sums

    def _chosen(self, wanted: list[NDArray[np.intp]]) -> NDArray[Any]:
        variable = self._file.variable(self._name)
        return Values(variable, self._name, self._is_there, self._sums).chosen(wanted)


class Made(BackendEntrypoint):
    """Hands xarray a dataset that is there, so that it keeps what was read."""

    open_dataset_parameters = ("filename_or_obj", "drop_variables", "made")

    def open_dataset(  # noqa: D102
        self, filename_or_obj: Any, *, drop_variables: Any = None, made: Any = None
    ) -> Any:
        return made


def dataset(
    file: OpenFile,
    arrays: Mapping[str, tuple[tuple[str, ...], Any, Mapping[str, Any]]],
    attributes: Mapping[str, Any],
) -> Any:
    """Return arrays of a file as a dataset, those of the name of their dimension as coordinates.

    Parameters
    ----------
    file : OpenFile
        Closed with the dataset.
    attributes : mapping
        Of the whole.
    """
    variables = {
        name: xarray.Variable(
            dims,
            indexing.LazilyIndexedArray(array) if isinstance(array, Plain) else array,
            dict(about),
            {"source": str(file.path)},
        )
        for name, (dims, array, about) in arrays.items()
    }
    coordinates = {name: v for name, v in variables.items() if v.dims == (name,)}
    others = {name: v for name, v in variables.items() if name not in coordinates}
    made = xarray.Dataset(others, coords=coordinates, attrs=dict(attributes))
    made.set_close(file.close)
    made.encoding["source"] = str(file.path)
    with file.damage_said():
        return xarray.open_dataset("", engine=Made, made=made)
