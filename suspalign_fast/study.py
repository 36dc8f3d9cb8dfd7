"""Reading the file of a study, also while a sweep writes it (docs/studies.md)."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _checks, labelled
from . import storage as _hdf5
from .cases import DIGEST_LENGTH, ERROR, ERROR_LENGTH, Plan
from .grid import Grid
from .storage import files as _files
from .storage import lock as _lock
from .storage import netcdf
from .storage.growing import one_line
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
            try:
                return cls._read(file)
            except Exception as error:  # whatever a file that is not ours makes the library raise
                raise OSError(f"{path} is a damaged study: {one_line(error)}") from error

    @classmethod
    def _read(cls, file: _hdf5.Reader) -> "Known":
        study = json.loads(str(file.attribute("", "study")))
        seeds = tuple(_small(file, "seed").tolist()) if study["has_seeds"] else ()
        axes = {name: list(values) for name, values in study["axes"].items()}
        status = netcdf.as_texts(_small(file, "status")) if seeds else np.empty(0, "U1")
        failed = list(zip(*np.nonzero(status == ERROR), strict=True))
        said = file.root()["error"] if failed and file.is_plain("error") else {}
        errors = {at: str(netcdf.as_texts(np.asarray(said[at], "S1"))) for at in failed}
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
            errors,
            has_theory,
            str(file.attribute("", "status")).rstrip("\0 ") == Status.COMPLETE,
        )

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
        As `sweep` returns it, with all that is in the file; values are read on first use. Runs
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
    xarray = labelled.load_xarray()
    labelled.check_reader()
    source = _files.absolute(path)
    with _hdf5.Reader(source) as file:
        check_format(file)
    is_live = _lock.is_held(source)
    try:
        found = xarray.open_dataset(source, engine="h5netcdf", driver_kwds={"swmr": True})
        found = found.drop_vars(INNER, errors="ignore")
        if "status" in found:
            found["status"] = found.status.astype(str)
            has_errors = bool((found.status == ERROR).any())
            found["error"] = found.error.astype(str) if has_errors else _nothing_like(found.status)
    except Exception as error:  # whatever a damaged file makes the libraries raise
        raise OSError(f"{source} is a damaged study: {one_line(error)}") from error
    if found.attrs.get("status") == Status.RUNNING and is_live is False:
        found.attrs["status"] = KILLED
    return found


def check_format(file: _hdf5.Reader) -> None:
    """Raise OSError unless an open file is one of a study, of a version that is known."""
    if file.format_name() != FORMAT:
        raise OSError(f"{file.path} is not a suspalign study: its 'format' is not {FORMAT!r}")
    version = int(file.attribute("", "format_version"))
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


def _nothing_like(texts: Any) -> Any:
    return texts.copy(data=np.full(texts.shape, "", dtype="U1"))
