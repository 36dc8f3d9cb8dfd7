"""What a picture shows of a study: a variable over at most three axes, at a step or along all."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _checks
from .grid_axis import GridAxis, value_text

Array = NDArray[np.float64]
#: Dimensions that are no axes of the grid.
SEED, STEP = "seed", "step"
#: Statuses whose runs are not there, and what pictures call them.
ENDED = "complete"
REASONS = {"diverged": "diverged", "error": "error"}
MISSING = "missing"


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
    values : ndarray, shape (axes..., seeds, steps)
        NaN where there is no value.
    status : ndarray of str, shape (axes..., seeds)
    exact, exact_std : ndarray, shape (axes..., steps), or None
    fixed : dict
        Values of the axes that were selected, or have but one.
    """

    variable: str
    unit: str
    axes: tuple[GridAxis, ...]
    seeds: NDArray[Any]
    steps: NDArray[np.int64]
    values: Array
    status: NDArray[Any]
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
    def count(self) -> NDArray[np.int64]:
        """Seeds that have a value, shape (axes..., steps)."""
        return np.isfinite(self.values).sum(-2)

    @property
    def mean(self) -> Array:
        """Mean over the seeds that have a value, the exact one where there are no seeds."""
        if not self.seeds.size:
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
        found = np.where(np.isfinite(mean), "", MISSING).astype(object)
        if self.seeds.size:
            for status, name in REASONS.items():
                found[~np.isfinite(mean) & (self.status == status).any(-1)] = name
        return found

    @property
    def is_partial(self) -> NDArray[np.bool_]:
        """Where some seeds that were run have no value, shape (axes...), of a view at one step."""
        count = self.count[..., 0]
        return (count > 0) & (count < (self.status != MISSING).sum(-1))

    def ends(self) -> str:
        """Say how many runs ended how."""
        found = Counter(self.status.ravel().tolist())
        names = [ENDED, *REASONS, *sorted(set(found) - {ENDED, *REASONS})]
        said = [f"{found[n]:,} {n}" for n in names if found[n]]
        total = f"{self.status.size:,} run" + ("s" if self.status.size > 1 else "")
        return f"{total}, complete" if set(found) == {ENDED} else f"{total}: {', '.join(said)}"


def view(dataset: Any, variable: str, select: Mapping[str, Any]) -> View:
    """Return the view of a variable of a dataset, some of its axes at one value.

    Raises
    ------
    ValueError
        If there is no such variable, axis or value.
    """
    exact = f"exact_{variable}_mean"
    known = sorted(n for n in dataset.data_vars if STEP in dataset[n].dims)
    if variable not in known and exact not in known:
        raise _checks.wrong("variable", variable, f"one of {', '.join(known)}")
    name = variable if variable in known else exact
    found, fixed = _selected(dataset, dataset[name].dims, select)
    main = found[name]
    has_seeds = SEED in main.dims
    axes = tuple(
        GridAxis.of(dim, found[dim].values if dim in found.coords else np.arange(found.sizes[dim]))
        for dim in main.dims
        if dim not in (SEED, STEP)
    )
    dims = [axis.name for axis in axes]
    moments = [f"exact_{variable}_mean", f"exact_{variable}_std"] if has_seeds else [name]
    if name.startswith("exact_") and name.endswith("_mean"):
        moments = [name, name.removesuffix("_mean") + "_std"]
    ordered = {
        n: _ordered(found[n], [*dims, STEP], axes)
        for n in moments
        if n in found and set(found[n].dims) == {*dims, STEP}
    }
    values = _ordered(main, [*dims, SEED, STEP], axes) if has_seeds else None
    status = np.full((*(axis.values.size for axis in axes), 0), "")
    if has_seeds:
        status = np.full(values.shape[:-1], ENDED)  # type: ignore[union-attr]
        if "status" in found:
            like = found["status"].broadcast_like(main.isel({STEP: 0}))
            status = _ordered(like, [*dims, SEED], axes)
    return View(
        variable,
        str(main.attrs.get("units", "1")),
        axes,
        found[SEED].values if has_seeds else np.empty(0),
        found[STEP].values.astype(np.int64),
        np.empty((*status.shape, found.sizes[STEP])) if values is None else values,
        status,
        ordered.get(moments[0]),
        ordered.get(moments[-1]) if len(moments) > 1 else None,
        fixed,
    )


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
                f"select must name axes of the study, {', '.join(names)}, got {name!r}"
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
    near = values.astype(str) == str(wanted)
    if values.dtype.kind in "iuf" and not near.any():
        try:
            number = float(wanted)
        except (TypeError, ValueError):
            number = np.nan
        near = np.isclose(values.astype(np.float64), number, rtol=1e-9, atol=0.0)
        if not near.any():
            near = np.array([value_text(value) == value_text(number) for value in values])
    if near.sum() != 1:
        listed = ", ".join(value_text(value) for value in values[:12])
        more = ", ..." if values.size > 12 else ""
        raise ValueError(f"select of {name} must be one of {listed}{more}, got {wanted!r}")
    return int(near.argmax())


def row_of(steps: NDArray[np.int64], at: int | None) -> int:
    """Return the row of a step, the last one by default.

    Raises
    ------
    ValueError
        If it is not among them; the message names the nearest one.
    """
    if at is None:
        return steps.size - 1
    wanted = _checks.integer("at", at, 0)
    row = int(np.abs(steps - min(wanted, int(steps[-1]))).argmin())
    if steps[row] != wanted:
        raise ValueError(
            f"at must be a recorded step, of which {int(steps[row])} is the nearest, got {wanted}"
        )
    return row
