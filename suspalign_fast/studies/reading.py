"""Reading the file of a study, also while a sweep writes it (docs/studies.md)."""

import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import storage, theory
from ..base import checks
from ..storage import dimensions, netcdf, paths
from ..storage.dataset import FREE
from ..storage.growing import one_line
from ..storage.reader import Reader
from ..traces import labelled
from ..traces.labelled import attributes_of, load_xarray
from ..traces.trace import KILLED
from .cases import DIGEST_LENGTH, DONE, ERROR, ERROR_LENGTH, MISSING, Plan
from .grid import Grid
from .values import EXACT_SUMS, SUMS, Values

if TYPE_CHECKING:
    from .arrays import OpenFile

FORMAT = "suspalign-study"
FORMAT_VERSION = 1
STATUS_LENGTH = 16
#: Texts of a run or a point, and their lengths.
TEXTS = {
    "status": STATUS_LENGTH, "error": ERROR_LENGTH, "digest": DIGEST_LENGTH,
    "theory": STATUS_LENGTH,
}  # fmt: skip
#: Texts of a point that only sweeps read: its digest, and whether all its theory is there.
INNER = ("digest", "theory")
#: What "theory" says where it is.
THERE = "there"
#: What "status" may say of a run.
STATUSES = (*DONE, ERROR, MISSING)


class Status:
    """What a file says of itself."""

    RUNNING, COMPLETE, INTERRUPTED = "running", "complete", "interrupted"


class Known(NamedTuple):
    """What is in the file of an earlier call."""

    grid: Grid
    steps: NDArray[np.int64]
    variables: tuple[str, ...]
    theory: bool
    digests: NDArray[Any]
    status: NDArray[Any]
    errors: dict[tuple[int, ...], str]
    has_theory: NDArray[np.bool_]
    is_closed: bool

    @classmethod
    def of(cls, path: Path) -> "Known":
        """Read it from a file whose lock is ours.

        Raises OSError if it is not the file of a study, or damaged.
        """
        with storage.Reader(path, live=False) as file:
            check_format(file)
            with _damage_said(path):
                return cls.of_open(file)

    @classmethod
    def of_open(cls, file: storage.Reader) -> "Known":
        """Read it from an open file; damage is whatever is raised."""
        known = cls.read(file)
        return known._replace(errors=_errors_of(file, known.status))

    @classmethod
    def read(cls, file: storage.Reader) -> "Known":
        """Read it from an open file, without texts of errors; damage is whatever is raised."""
        study = json.loads(str(file.attribute("", "study")))
        seeds = tuple(_small(file, "seed", "iu").tolist()) if study["has_seeds"] else ()
        axes = {str(name): list(values) for name, values in study["axes"].items()}
        status = _texts(file, "status", STATUSES) if seeds else np.empty(0, "U1")
        digests = netcdf.as_texts(_small(file, "digest", "S"))
        has_theory = np.zeros(digests.shape, dtype=bool)
        if study["theory"]:
            has_theory = np.asarray(_texts(file, "theory", ("", THERE)) == THERE)
        known = cls(
            Grid(axes, seeds),
            _small(file, "step", "i"),
            tuple(map(str, study["variables"])),
            bool(study["theory"]),
            digests,
            status,
            {},
            has_theory,
            str(file.attribute("", "status")).rstrip("\0 ") == Status.COMPLETE,
        )
        known._check_parts(file, study.get("crc32", {}))
        return known

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        """Dimensions of what belongs to every study of its kind, exact theory left aside."""
        points = tuple(self.grid.axes)
        labels = labelled.coordinates_of(list(self.variables))
        found: dict[str, tuple[str, ...]] = {name: (name,) for name in (*points, "step", *labels)}
        texts = {"digest": points} | ({"theory": points} if self.theory else {})
        if self.grid.seeds:
            runs = (*points, "seed")
            found |= {name: (*runs, "step", *labelled.dims_of(name)) for name in self.variables}
            found["seed"] = ("seed",)
            texts |= {"status": runs, "error": runs}
        return found | {name: (*dims, f"string{TEXTS[name]}") for name, dims in texts.items()}

    @property
    def coordinates(self) -> dict[str, Any]:
        """Values along every dimension that has some."""
        found: dict[str, Any] = dict(self.grid.axes)
        if self.grid.seeds:
            found["seed"] = labelled.seeds_of(self.grid.seeds)
        return found | {"step": self.steps} | labelled.coordinates_of(list(self.variables))

    def _check_parts(self, file: storage.Reader, sums: Mapping[str, int]) -> None:
        """Raise ValueError or KeyError unless what belongs to it is in its file."""
        coordinates = self.coordinates
        sizes = {name: len(values) for name, values in coordinates.items()}
        sizes |= {f"string{length}": length for length in TEXTS.values()}
        if len(set(self.grid.seeds)) < len(self.grid.seeds) or (np.diff(self.steps) <= 0).any():
            raise ValueError("its seeds or steps are not each there once")
        if math.prod(self.grid.shape) > max(file.size, FREE):
            raise ValueError("it has more points than bytes")
        for name, dims in self.dims.items():
            part = file.variable(name)
            if part.shape != tuple(sizes[dimension] for dimension in dims):
                raise ValueError(f"{name!r} does not have the dimensions {', '.join(dims)}")
            if name in coordinates:
                _check_coordinate(name, part.read(), coordinates[name], sums.get(name))
            elif not part.is_chunked or part.dtype != ("S1" if name in TEXTS else np.float64):
                raise ValueError(f"{name!r} is not stored as a study has it")

    def values(self, name: str, variable: storage.Variable, sums: Any) -> Values:
        """Return the values of a variable, of runs or of exact theory.

        Raises ValueError if it is not of the grid.
        """
        is_there, shape = self.is_there(name), variable.shape
        if variable.dtype != np.float64 or shape[: is_there.ndim + 1] != (
            *is_there.shape,
            self.steps.size,
        ):
            raise ValueError(f"{name!r} is not of its grid")
        return Values(variable, name, is_there, sums)

    def values_in(self, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Dimensions of the variables of runs, and of those among some names of exact theory."""
        needed = [f"exact_{name}" for name in theory.MOMENTS]
        more = [n for n in names if n.startswith("exact_") and n not in (*self.inner, *needed)]
        points = tuple(self.grid.axes)
        found = {name: self.dims[name] for name in (self.variables if self.grid.seeds else ())}
        return found | (dict.fromkeys([*needed, *more], (*points, "step")) if self.theory else {})

    @property
    def inner(self) -> set[str]:
        """Datasets that only sweeps read."""
        lengths = {f"string{length}" for length in TEXTS.values()}
        sums = {SUMS, EXACT_SUMS, checked(SUMS), checked(EXACT_SUMS)}
        return {*INNER, *lengths, *sums}

    def is_there(self, name: str) -> NDArray[np.bool_]:
        """Which runs, or points, of a variable are done."""
        return self.has_theory if name.startswith("exact_") else np.isin(self.status, DONE)

    def sums(self, file: storage.Reader) -> dict[str, NDArray[np.int64]]:
        """Return the checksums of every variable; none in older files."""
        found: dict[str, NDArray[np.int64]] = {}
        for part, is_exact in ((SUMS, False), (EXACT_SUMS, True)):
            if not file.has(part):
                continue
            names = theory.MOMENTS if is_exact else self.variables
            all_of_them = file.variable(part)
            shape = (*(self.has_theory if is_exact else self.status).shape, len(names))
            if all_of_them.dtype != np.int64 or all_of_them.shape != shape:
                raise ValueError(f"{part!r} is not of its grid")
            each = np.moveaxis(all_of_them.read(), -1, 0)
            prefix = "exact_" if is_exact else ""
            found |= {f"{prefix}{name}": part for name, part in zip(names, each, strict=True)}
        return found

    def check(self, plan: Plan) -> None:
        """Raise ValueError unless it is of the same plan."""
        for what, there, asked in (
            ("recorded steps", self.steps.tolist(), plan.steps.tolist()),
            ("variables", sorted(self.variables), sorted(plan.variables)),
            ("theory", self.theory, plan.theory),
        ):
            if there != asked:
                raise ValueError(
                    f"its {what} are {checks.describe(there)}, not {checks.describe(asked)}"
                )


def open_study(path: paths.AnyPath) -> Any:
    """Open the file of a study, also while a sweep writes it or after it was killed.

    Parameters
    ----------
    path : path-like
        Of ``sweep(..., path=...)``.

    Returns
    -------
    xarray.Dataset
        As `sweep` returns it, with all that is in the file, also where axes have grown: numbers on
        them are then in ascending order. Values are read on first use. Runs
        that are not there yet have the status "missing". The attribute ``status`` is "running",
        "complete", "interrupted", or "killed" where nobody writes the file any more.

    Raises
    ------
    OSError
        If it is not the file of a study.
    ImportError
        If xarray is not installed.

    Examples
    --------
    >>> import suspalign_fast as sa
    >>> def case(gap_ratio):
    ...     return sa.Quadratic(sa.Spectrum.two_level(100, 5, gap_ratio, 1.0)), {"step_size": 1e-3}
    >>> sa.sweep(case, {"gap_ratio": [5.0, 10.0]}, 20, path="study.nc").close()
    >>> with sa.open_study("study.nc") as study:
    ...     study.attrs["status"], dict(study.loss.sizes)
    ('complete', {'gap_ratio': 2, 'seed': 1, 'step': 21})
    """
    return labelled.in_order(as_stored(path))


def as_stored(path: paths.AnyPath) -> Any:
    """Open the file of a study with its axes as they have grown."""
    labelled.load_xarray()
    from .arrays import OpenFile, dataset

    file = OpenFile(paths.absolute(path), "study")
    check_format(file.reader)
    with file.damage_said():
        known = Known.of_open(file.reader)
        found = dimensions.find(file.reader)
        about = _attributes(file.reader, known, found)
        return dataset(file, _arrays(file, known, found), about)


def _arrays(file: "OpenFile", known: Known, found: dimensions.Found) -> dict[str, Any]:
    """Return dimensions, values and attributes of all that a study shows."""
    from .arrays import Plain, Runs

    sums = known.sums(file.reader)
    arrays: dict[str, Any] = {}
    for name, values in known.coordinates.items():
        is_text = isinstance(values[0], str)
        arrays[name] = (name,), np.asarray(values) if is_text else file.variable(name).read()
    for name, dims in known.values_in(found.attributes).items():
        known.values(name, file.variable(name), sums.get(name))
        arrays[name] = dims, Runs(file, name, known.is_there(name), sums.get(name))
    if known.grid.seeds:
        errors = np.full(known.status.shape, "", object)
        for at, text in known.errors.items():
            errors[at] = text
        for name, texts in (("status", known.status), ("error", errors.astype(str))):
            arrays[name] = (*known.grid.axes, "seed"), texts
    foreign = set(found.dims) - set(arrays) - known.inner
    arrays |= {name: (found.dims[name], Plain(file, name)) for name in foreign}
    about = {name: dict(attributes) for name, attributes in found.attributes.items()}
    for attributes in about.values():
        attributes.pop("_FillValue", None)  # what is not there yet is known by its status
    return {name: (dims, values, about.get(name, {})) for name, (dims, values) in arrays.items()}


def _attributes(file: storage.Reader, known: Known, found: dimensions.Found) -> dict[str, Any]:
    """Return what a file says of itself, and which variables of others it has that stay there."""
    about = file.attributes()
    left_out = set(found.left_out) - set(known.dims) - known.inner
    left_out -= set(known.values_in(left_out))
    if left_out:
        about["left_out"] = ", ".join(sorted(left_out))
    return about | ({"status": KILLED} if file.is_killed else {})


@contextmanager
def _damage_said(path: Path) -> Iterator[None]:
    """Turn any error from reading a file into one that says the file is damaged."""
    try:
        yield
    except Exception as error:
        raise OSError(f"{path} is a damaged study: {one_line(error)}") from error


def check_format(file: storage.Reader) -> None:
    """Raise OSError unless an open file is one of a study, of a version that is known."""
    if file.format_name() != FORMAT:
        raise OSError(f"{file.path} is not a suspalign study: its 'format' is not {FORMAT!r}")
    try:
        version = checks.integer("format_version", file.attribute("", "format_version"), 1)
    except Exception as error:  # it is missing or damaged
        raise OSError(f"{file.path} is a damaged study: {one_line(error)}") from error
    if version > FORMAT_VERSION:
        raise OSError(
            f"{file.path} has study format version {version}; this package reads up to "
            f"{FORMAT_VERSION}"
        )


def checked(name: str) -> str:
    """Return the name of the dimension along which a dataset of checksums has its variables."""
    return f"{name}_of"


def _check_coordinate(name: str, stored: NDArray[Any], known: Any, wanted: int | None) -> None:
    """Raise ValueError unless a coordinate has the values that the description has."""
    if stored.dtype == object:
        is_same = stored.tolist() == [str(value) for value in known]
    else:
        values = np.asarray(known)
        values = values.astype(np.int64) if values.dtype.kind == "b" else values
        is_same = stored.dtype.kind == values.dtype.kind and np.array_equal(stored, values)
    if not is_same or (wanted is not None and wanted != sum_of_integers(stored)):
        raise ValueError(f"its coordinate {name!r} is not that of its description")


def sum_of_integers(values: NDArray[Any]) -> int:
    """Return the checksum of seeds or steps."""
    return zlib.crc32(values.astype(values.dtype.newbyteorder("<")).tobytes())


def _small(file: storage.Reader, name: str, kinds: str) -> NDArray[Any]:
    """Read a dataset of some kinds of type that is no longer than its file."""
    found = file.variable(name)
    if found.dtype.kind not in kinds or math.prod(found.shape) > max(file.size, FREE):
        raise ValueError(f"{name!r} is not of texts or integers")
    return found.read()


def _texts(file: storage.Reader, name: str, expected: Sequence[str]) -> NDArray[Any]:
    """Read texts of which only some are possible."""
    texts = netcdf.as_texts(_small(file, name, "S"))
    if unknown := set(np.unique(texts).tolist()) - set(expected):
        raise ValueError(f"{name!r} cannot be {unknown.pop()!r}")
    return texts


def _errors_of(file: storage.Reader, status: NDArray[Any]) -> dict[tuple[int, ...], str]:
    """Read the texts of the runs that raised."""
    failed = list(zip(*np.nonzero(status == ERROR), strict=True))
    if not failed:
        return {}
    texts = netcdf.as_texts(file.variable("error").read())
    return {at: str(texts[at]) for at in failed}


# --- Studies in netCDF files of whatever origin: telling them from traces, and reading them ------


#: First bytes of netCDF files that are not HDF5.
_OLDER = b"CDF"
#: What netCDF-4 libraries leave in the root of their files.
_NETCDF = "_NCProperties"


def is_study(path: Path) -> bool:
    """Whether a file is that of a sweep, or other netCDF, as ``Dataset.to_netcdf`` writes it.

    Raises OSError if it cannot be read.
    """
    if _is_older(path):
        return True
    with Reader(path) as file:
        found = file.format_name()
        return found == FORMAT or (not found and _NETCDF in _names(file))


def is_own(path: Path) -> bool:
    """Whether a file is one that a sweep writes, or wrote.

    Raises OSError if it cannot be read.
    """
    with Reader(path) as file:
        return file.format_name() == FORMAT and not _is_copy(file)


def _is_copy(file: Reader) -> bool:
    """Whether xarray wrote it from a study: it then has the attributes, but no digests."""
    return _NETCDF in _names(file) and not file.has("digest")


def _is_older(path: Path) -> bool:
    return (paths.first_bytes(path, len(_OLDER)) or b"") == _OLDER


def _names(file: Reader) -> list[str]:
    try:
        return file.attribute_names()
    except Exception as error:  # whatever the library raises of what is damaged
        raise OSError(f"{file.path} is damaged: {one_line(error)}") from error


def read_study(path: Path) -> Any:
    """Open the dataset of a study, also while a sweep writes its file.

    Raises OSError if the file cannot be read, or is none of a study. Raises ImportError if xarray
    is not installed.
    """
    xarray = load_xarray()
    if _is_older(path):
        try:
            dataset = xarray.open_dataset(path, engine="scipy").load()
        except Exception as error:  # whatever a file makes the library raise
            raise OSError(f"{path} is not a readable netCDF file: {one_line(error)}") from error
    else:
        dataset = open_study(path) if is_own(path) else _of_others(path)
    if "step" not in dataset.dims:
        raise OSError(f"{path} is not a study: it has no dimension 'step'")
    return dataset


def _of_others(path: Path) -> Any:
    """Open the variables that can be read of a netCDF-4 file of any origin."""
    from .arrays import OpenFile, Plain, dataset

    file = OpenFile(path, "netCDF file")
    with file.damage_said():
        found = dimensions.find(file.reader)
        arrays = {
            name: (dims, Plain(file, name), _about(name, found.attributes[name]))
            for name, dims in found.dims.items()
        }
        made = dataset(file, arrays, file.reader.attributes())
        decoded = load_xarray().decode_cf(made, decode_times=False)  # packed and missing values
    decoded.set_close(file.close)
    return decoded


def _about(name: str, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the attributes of a variable, filled up with those that this package gives its own."""
    known = {
        key: value.item() if getattr(value, "size", 0) == 1 else value
        for key, value in attributes.items()
    }
    try:
        return {**attributes_of(name), **known}
    except KeyError:
        return known
