"""Reading the file of a study, also while a sweep writes it (docs/studies.md)."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from . import _checks, labelled
from . import storage as _hdf5
from .cases import DIGEST_LENGTH, ERROR, ERROR_LENGTH, MISSING, Plan
from .grid import Grid
from .storage import files as _files
from .storage import netcdf
from .storage.growing import one_line
from .storage.superblock import ClosedFile
from .trace import KILLED

FORMAT = "suspalign-study"
FORMAT_VERSION = 1
STATUS_LENGTH = 16
#: Texts of a run or a point, and their lengths.
TEXTS = {
    "status": STATUS_LENGTH, "error": ERROR_LENGTH, "digest": DIGEST_LENGTH,
    "theory": STATUS_LENGTH,
}  # fmt: skip
#: Those that only sweeps read: of a point, what it is, and whether all its theory is there.
INNER = ("digest", "theory")
#: What "theory" says where it is.
THERE = "there"


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

        Raises
        ------
        OSError
            If it is not the file of a study, or damaged.
        """
        with _hdf5.Reader(path, live=False) as file:
            check_format(file)
            with _damage_said(path):
                known = cls.read(file)
                return known._replace(errors=_errors_of(file, known.status))

    @classmethod
    def read(cls, file: _hdf5.Reader) -> "Known":
        """Read it from an open file, without texts of errors; damage is whatever is raised."""
        study = json.loads(str(file.attribute("", "study")))
        seeds = tuple(_small(file, "seed").tolist()) if study["has_seeds"] else ()
        axes = {name: list(values) for name, values in study["axes"].items()}
        status = netcdf.as_texts(_small(file, "status")) if seeds else np.empty(0, "U1")
        digests = netcdf.as_texts(_small(file, "digest"))
        grid = Grid(axes, seeds)
        shape = grid.shape
        if digests.shape != shape or (seeds and status.shape != (*shape, len(seeds))):
            raise ValueError("its texts are not of its grid")
        has_theory = np.zeros(shape, dtype=bool)
        if study["theory"]:
            has_theory = np.asarray(netcdf.as_texts(_small(file, "theory")) == THERE)
            if has_theory.shape != shape:
                raise ValueError("'theory' is not of its grid")
        return cls(
            grid,
            file.read("step"),
            tuple(study["variables"]),
            bool(study["theory"]),
            digests,
            status,
            {},
            has_theory,
            str(file.attribute("", "status")).rstrip("\0 ") == Status.COMPLETE,
        )

    def check_parts(self, file: _hdf5.Reader) -> None:
        """Raise ValueError or KeyError unless what else belongs to it is in its file."""
        points = tuple(self.grid.axes)
        own = (*points, "step", *labelled.coordinates_of(list(self.variables)))
        parts: dict[str, tuple[str, ...]] = {name: (name,) for name in own}
        texts = {"digest": points} | ({"theory": points} if self.theory else {})
        if self.grid.seeds:
            runs = (*points, "seed")
            parts |= {name: (*runs, "step", *labelled.dims_of(name)) for name in self.variables}
            parts["seed"] = ("seed",)
            texts |= {"status": runs, "error": runs}
        parts |= {name: (*dims, f"string{TEXTS[name]}") for name, dims in texts.items()}
        for name, dims in parts.items():
            if not (file.is_plain(name) and isinstance(file.root()[name], h5py.Dataset)):
                raise ValueError(f"{name!r} is missing")
            if netcdf.dimensions_of(file.root()[name]) != dims:
                raise ValueError(f"{name!r} does not have the dimensions {', '.join(dims)}")

    def check(self, plan: Plan) -> None:
        """Raise ValueError unless it is of the same plan."""
        for what, there, asked in (
            ("recorded steps", self.steps.tolist(), plan.steps.tolist()),
            ("variables", sorted(self.variables), sorted(plan.variables)),
            ("theory", self.theory, plan.theory),
        ):
            if there != asked:
                raise ValueError(
                    f"its {what} are {_checks.describe(there)}, not {_checks.describe(asked)}"
                )


def open_study(path: _files.AnyPath) -> Any:
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
        If xarray or h5netcdf is not installed.

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


def as_stored(path: _files.AnyPath) -> Any:
    """Open the file of a study with its axes as they have grown."""
    labelled.load_xarray()
    labelled.check_reader()
    source = _files.absolute(path)
    with _hdf5.Reader(source) as file:
        check_format(file)
        with _damage_said(source):
            known = Known.read(file)
            known.check_parts(file)
    with _damage_said(source):
        found = _dataset(source, is_live=file.is_live)
        if file.is_cut:
            found = _without_what_is_not_done(found.load(), known)
    if file.is_killed:
        found.attrs["status"] = KILLED
    return found


def _dataset(source: Path, *, is_live: bool) -> Any:
    """Open the dataset of a study whose parts are there."""
    place = source if is_live else ClosedFile(source)
    how = {"driver_kwds": {"swmr": True}} if is_live else {}
    found = labelled.load_xarray().open_dataset(place, engine="h5netcdf", **how)
    found = found.drop_vars(INNER, errors="ignore")
    if "status" in found:
        found["status"] = found.status.astype(str)
        has_errors = bool((found.status == ERROR).any())
        found["error"] = found.error.astype(str) if has_errors else _nothing_like(found.status)
    return found


def _without_what_is_not_done(found: Any, known: Known) -> Any:
    """Return values where they are known to be there, NaN elsewhere: a disk was full."""
    is_there = {"exact": known.has_theory, "run": known.status != MISSING}
    for name, variable in found.data_vars.items():
        if variable.dtype == float:
            mask = is_there["exact" if name.startswith("exact_") else "run"]
            dims = variable.dims[: mask.ndim]
            found[name] = variable.where(labelled.load_xarray().DataArray(mask, dims=dims))
    return found


@contextmanager
def _damage_said(path: Path) -> Iterator[None]:
    """Say of whatever a file that is not ours makes the libraries raise that it is damaged."""
    try:
        yield
    except Exception as error:
        raise OSError(f"{path} is a damaged study: {one_line(error)}") from error


def check_format(file: _hdf5.Reader) -> None:
    """Raise OSError unless an open file is one of a study, of a version that is known."""
    if file.format_name() != FORMAT:
        raise OSError(f"{file.path} is not a suspalign study: its 'format' is not {FORMAT!r}")
    try:
        version = _checks.integer("format_version", file.attribute("", "format_version"), 1)
    except (KeyError, ValueError) as error:
        raise OSError(f"{file.path} is a damaged study: {one_line(error)}") from error
    if version > FORMAT_VERSION:
        raise OSError(
            f"{file.path} has study format version {version}; this package reads up to "
            f"{FORMAT_VERSION}"
        )


def _small(file: _hdf5.Reader, name: str) -> NDArray[Any]:
    """Read a dataset of integers or single bytes that is no longer than its file."""
    if not file.is_plain(name):
        raise ValueError(f"{name!r} is not a plain dataset")
    found = file.root()[name]
    if found.dtype.kind not in "iuS" or found.size > max(file.size, 2**20):
        raise ValueError(f"{name!r} is not of texts or integers")
    values: NDArray[Any] = found[...]
    return values


def _errors_of(file: _hdf5.Reader, status: NDArray[Any]) -> dict[tuple[int, ...], str]:
    """Read the texts of the runs that raised."""
    failed = list(zip(*np.nonzero(status == ERROR), strict=True))
    said = file.root()["error"] if failed and file.is_plain("error") else {}
    return {at: str(netcdf.as_texts(np.asarray(said[at], "S1"))) for at in failed}


def _nothing_like(texts: Any) -> Any:
    return texts.copy(data=np.full(texts.shape, "", dtype="U1"))
