"""What a picture shows of a study: a variable over at most three axes, at a step or along all."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base import checks
from ..base.words import drawn, printable
from ..traces import exact as theory
from .grid_axis import GridAxis, value_text

Array = NDArray[np.float64]
#: Dimensions that are no axes of the grid.
SEED, STEP = "seed", "step"
#: Statuses whose runs are not there, and what pictures call them.
ENDED = "complete"
REASONS = {"diverged": "diverged", "error": "error"}
MISSING = "missing"
#: What pictures call the lack of a value whose reason is not known.
NO_VALUE = "no value"


@dataclass(frozen=True)
class View:
    """A variable of a study, ready to be drawn.

    Attributes
    ----------
    variable, unit : str
    axes : tuple of GridAxis
    seeds : ndarray
        Empty where there is exact theory alone.
    steps : ndarray of int64
    kind : str
        What is known of a variable without seeds: "mean" or "standard deviation" of exact theory.
        Nothing is known of others.
    column : str
        What it is a moment of, the variable itself where that is not known.
    values : ndarray, shape (axes..., seeds, steps)
        NaN where there is no value. A variable that has no seeds is one of them; an exact mean is
        none.
    status : ndarray of str, shape (axes..., seeds)
        No seeds where the dataset does not say.
    runs : ndarray of str
        How the runs ended.
    exact, exact_std : ndarray, shape (axes..., steps), or None
    fixed : dict
        Values of the axes that were selected, or have but one.
    """

    variable: str
    kind: str
    column: str
    unit: str
    axes: tuple[GridAxis, ...]
    seeds: NDArray[Any]
    steps: NDArray[np.int64]
    values: Array
    status: NDArray[Any]
    runs: NDArray[Any]
    exact: Array | None
    exact_std: Array | None
    fixed: dict[str, Any]

    def at(self, row: int) -> "View":
        """Return the view of one row of the steps."""
        cut = {
            name: None if getattr(self, name) is None else getattr(self, name)[..., [row]]
            for name in ("values", "exact", "exact_std")
        }
        return View(**self.__dict__ | cut | {"steps": self.steps[[row]]})

    def along(self, axis: int, index: int) -> "View":
        """Return the view at one value of an axis."""
        names = ("values", "status", "exact", "exact_std")
        cut = {
            name: None if getattr(self, name) is None else getattr(self, name).take(index, axis)
            for name in names
        }
        axes = self.axes[:axis] + self.axes[axis + 1 :]
        return View(**self.__dict__ | cut | {"axes": axes})

    @property
    def label(self) -> str:
        """Return the variable in words: what cannot be known for theory is quoted."""
        if not self.kind and self.column.startswith("exact_"):
            return f"variable {drawn(self.column)}"
        return drawn(self.column.replace("_", " "))

    @property
    def title(self) -> str:
        """Return what is known of the variable, and its name."""
        return f"exact {self.kind} of {self.label}" if self.kind else self.label

    @property
    def has_values(self) -> bool:
        """Whether it has values that are no exact mean."""
        return self.values.shape[-2] > 0

    @property
    def count(self) -> NDArray[np.int64]:
        """Seeds that have a value, shape (axes..., steps)."""
        return np.isfinite(self.values).sum(-2)

    @property
    def mean(self) -> Array:
        """Mean over the seeds that have a value, the exact one where there are no seeds."""
        if not self.has_values:
            assert self.exact is not None
            return self.exact
        with np.errstate(invalid="ignore", over="ignore"):
            total = np.where(np.isfinite(self.values), self.values, 0.0).sum(-2)
            return np.where(self.count > 0, total / self.count, np.nan)

    @property
    def std(self) -> Array:
        """Standard deviation over the seeds, NaN where fewer than two have a value."""
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            off = self.values - self.mean[..., None, :]
            total = np.where(np.isfinite(self.values), off**2, 0.0).sum(-2)
            return np.where(self.count > 1, np.sqrt(total / (self.count - 1)), np.nan)

    @property
    def stderr(self) -> Array:
        """Standard error of the mean."""
        return self.std / np.sqrt(np.maximum(self.count, 1))

    @property
    def reason(self) -> NDArray[Any]:
        """Why there is no mean, "" where there is one, shape (axes...), of a view at one step."""
        mean = self.mean[..., 0]
        found = np.where(np.isfinite(mean), "", NO_VALUE).astype(object)
        if self.status.shape[-1]:
            for status, name in {MISSING: MISSING, **REASONS}.items():
                found[~np.isfinite(mean) & (self.status == status).any(-1)] = name
        return found

    @property
    def is_partial(self) -> NDArray[np.bool_]:
        """Where some seeds that were run have no value, shape (axes...), of a view at one step."""
        count = self.count[..., 0]
        is_told = self.status.shape[-1] > 0
        wanted = (self.status != MISSING).sum(-1) if is_told else self.values.shape[-2]
        return (count > 0) & (count < wanted)

    def ends(self) -> list[str]:
        """Say how many runs ended how, nothing where the dataset does not."""
        if not self.runs.size:
            return []
        found = Counter(self.runs.ravel().tolist())
        names = [ENDED, *REASONS, *sorted(set(found) - {ENDED, *REASONS})]
        said = [f"{found[n]:,} {drawn(n)}" for n in names if found[n]]
        total = f"{self.runs.size:,} run" + ("s" if self.runs.size > 1 else "")
        return [f"{total}, complete" if set(found) == {ENDED} else f"{total}: {', '.join(said)}"]


def view(dataset: Any, variable: str, select: Mapping[str, Any]) -> View:
    """Return the view of a variable, some axes at one value; ValueError if one is unknown."""
    known = sorted(n for n in dataset.data_vars if STEP in dataset[n].dims and isinstance(n, str))
    of_theory = theory.name_of(variable, "mean") if isinstance(variable, str) else ""
    if not of_theory or not {variable, of_theory} & set(known):
        raise checks.wrong("variable", variable, f"one of {printable(', '.join(known))}")
    name = variable if variable in known else of_theory
    column, kind = theory.found(dataset, name) if SEED not in dataset[name].dims else ("", "")
    moments = {k: theory.name_of(column or name, k) for k in theory.KINDS}
    moments = {k: n for k, n in moments.items() if n in known and any(theory.found(dataset, n))}
    found, fixed = _selected(dataset, dataset[name].dims, select)
    main = found[name]
    axes = tuple(
        GridAxis.of(dim, found[dim].values if dim in found.coords else np.arange(found.sizes[dim]))
        for dim in main.dims
        if dim not in (SEED, STEP)
    )
    dims = [axis.name for axis in axes]
    exact = {
        k: _ordered(found[n], [*dims, STEP], axes)
        for k, n in moments.items()
        if set(found[n].dims) == {*dims, STEP} and kind != "std"
    }
    has_seeds = SEED in main.dims
    values = _ordered(main, [*dims, *([SEED] if has_seeds else []), STEP], axes)
    if not has_seeds:  # an exact mean is no value of one
        values = values[..., None, :][..., : 0 if kind == "mean" else 1, :]
    sides = tuple(axis.values.size for axis in axes)
    status, runs = np.full((*sides, 0), ""), np.empty(0, dtype=str)
    if has_seeds and "status" in found:
        runs = found["status"].values
        like = found["status"].broadcast_like(main.isel({STEP: 0}))
        status = _ordered(like, [*dims, SEED], axes)
    return View(
        variable,
        theory.KINDS.get(kind, ""),
        column or variable,
        str(main.attrs.get("units", "1")),
        axes,
        found[SEED].values if has_seeds else np.empty(0),
        _steps_of(found),
        values,
        status,
        runs,
        exact.get("mean"),
        exact.get("std"),
        fixed,
    )


def _steps_of(dataset: Any) -> NDArray[np.int64]:
    """Return the steps, which are integers."""
    steps = dataset[STEP].values
    whole: NDArray[np.int64] = steps.astype(np.int64)
    if not (whole == steps).all():
        raise ValueError(f"dataset must have integers as steps, got {checks.describe(steps)}")
    return whole


def _ordered(array: Any, dims: list[str], axes: tuple[GridAxis, ...]) -> NDArray[Any]:
    """Return an array with its dimensions, and the values along its axes, in order."""
    values: NDArray[Any] = array.transpose(*dims).values
    for place, axis in enumerate(axes):
        values = values.take(axis.order, place)
    return values


def _selected(dataset: Any, dims: Any, select: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return a dataset without the axes that are selected or have one value, and those values."""
    names = [dim for dim in dims if dim != STEP]
    fixed: dict[str, Any] = {}
    for name, value in select.items():
        if name not in names:
            raise ValueError(
                f"select must name axes of the study, {printable(', '.join(names))}, "
                f"got {checks.describe(name)}"
            )
        fixed[name] = dataset[name].values[_index(name, dataset[name].values, value)]
    for name in names:
        if name not in fixed and name != SEED and dataset.sizes[name] == 1:
            fixed[name] = dataset[name].values[0]
    for name, value in fixed.items():
        at = int(np.flatnonzero(dataset[name].values == value)[0])
        dataset = dataset.isel({name: [at] if name == SEED else at})
    return dataset, fixed


def _index(name: str, values: NDArray[Any], wanted: Any) -> int:
    """Return where a value stands: a number to nine digits or as it is shown, a text exactly."""
    try:
        near = values.astype(str) == str(wanted)
    except Exception:  # whatever an object of a user's raises
        near = np.zeros(values.shape, dtype=bool)
    if values.dtype.kind in "iuf" and not near.any():
        try:
            number = float(wanted)
        except Exception:  # whatever an object of a user's raises
            number = np.nan
        near = np.isclose(values.astype(np.float64), number, rtol=1e-9, atol=0.0)
        if not near.any():
            near = np.array([value_text(value) == value_text(number) for value in values])
    if near.sum() != 1:
        listed = ", ".join(value_text(value) for value in values[:12])
        more = ", ..." if values.size > 12 else ""
        raise ValueError(
            f"select of {printable(name)} must be one of {listed}{more}, "
            f"got {checks.describe(wanted)}"
        )
    return int(near.argmax())


def row_of(steps: NDArray[np.int64], at: int | None) -> int:
    """Return the row of a step, the last one by default; ValueError names the nearest one."""
    if at is None:
        return steps.size - 1
    wanted = checks.integer("at", at, 0)
    row = int(np.abs(steps - min(wanted, int(steps[-1]))).argmin())
    if steps[row] != wanted:
        raise ValueError(
            f"at must be a recorded step, of which {int(steps[row])} is the nearest, "
            f"got {checks.describe(wanted)}"
        )
    return row
