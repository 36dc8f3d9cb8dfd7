"""Columns as labelled arrays: xarray with a name for every dimension."""

import importlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ..base import checks
from ..physics import rows
from ..physics.layout import BANDS, CROSS_SUMS, SUMS
from ..physics.row import columns
from ..storage import netcdf

#: Dimension of the powers of each group of sums.
POWERS = {sums.name: sums.dimension for sums in (*SUMS, CROSS_SUMS)}


def load_xarray() -> Any:
    """Return the module.

    Raises ImportError if it is not installed; the message says how to.
    """
    return _package("xarray", "labelled results")


def _package(name: str, what: str) -> Any:
    """Return a module of the extra `studies`, which something needs."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{what} need the package {name}, which is not installed "
            "(pip install 'suspalign-fast[studies]')"
        ) from error


def seeds_of(seeds: Sequence[int]) -> NDArray[Any]:
    """Return seeds as a coordinate: int64, or uint64 if one of them needs it."""
    return np.array(seeds, dtype=np.int64 if max(seeds) < 2**63 else np.uint64)


def check_variables(variables: Any) -> tuple[str, ...]:
    """Return names of columns that were asked for, one or a sequence.

    Raises ValueError if they are no names, or a trace has no such column, or one is named twice.
    """
    expected = "names of columns of a trace"
    if not isinstance(variables, Iterable) or isinstance(variables, bytes):
        raise checks.wrong("variables", variables, expected)
    given = [variables] if isinstance(variables, str) else variables
    names = tuple(checks.listed("variables", given, expected))
    for name in names:
        if not isinstance(name, str) or name not in columns() or name == "step":
            known = ", ".join(column for column in columns() if column != "step")
            raise checks.wrong("variables", name, f"columns of a trace: {known}")
    if len(set(names)) < len(names):
        raise checks.wrong("variables", list(names), "columns of a trace, each once")
    return tuple(map(str, names))


def dims_of(name: str) -> tuple[str, ...]:
    """Return the dimensions of a row of a column: none, or band and power."""
    return ("band", POWERS[name]) if name in POWERS else rows.DIMENSIONS.get(name, ())


def attributes_of(name: str) -> dict[str, str]:
    """Return units and long name of a column."""
    column = (rows.columns() | columns(has_velocity=True))[name]
    return {"units": column.unit, "long_name": column.meaning}


def coordinates_of(names: Mapping[str, Any] | list[str]) -> dict[str, Any]:
    """Return the coordinates of the dimensions that rows of some columns have."""
    found: dict[str, Any] = {}
    for sums in SUMS:
        if sums.name in names:
            found["band"] = list(BANDS)
            found[POWERS[sums.name]] = np.array(sums.powers)
    if CROSS_SUMS.name in names:
        found["band"], found["cross"] = list(BANDS), list(CROSS_SUMS.labels)
    return found | (rows.coordinates_of(names) if isinstance(names, Mapping) else {})


def in_order(found: Any) -> Any:
    """Return a dataset with its numeric axes sorted, unless they ascend or descend already."""
    orders = {}
    for name, values in found.indexes.items():
        in_order = values.is_monotonic_increasing or values.is_monotonic_decreasing
        if found[name].dtype.kind in "biuf" and not in_order:
            orders[name] = np.argsort(values.to_numpy(), kind="stable")
    return found.isel(orders)


def dataset(columns_of_trace: Mapping[str, NDArray[Any]], attributes: Mapping[str, Any]) -> Any:
    """Return columns of one trace as an ``xarray.Dataset`` along its steps.

    Parameters
    ----------
    columns_of_trace : mapping
        By name, step among them.
    attributes : mapping
        Of the whole.
    """
    xarray = load_xarray()
    variables = {
        name: (("step", *dims_of(name)), values, attributes_of(name))
        for name, values in columns_of_trace.items()
        if name != "step"
    }
    step = ("step", columns_of_trace["step"], attributes_of("step"))
    values = {name: variable[1] for name, variable in variables.items()}
    coordinates = {"step": step} | coordinates_of(values)
    return xarray.Dataset(variables, coords=coordinates, attrs=dict(attributes))


# --- What the columns of a trace file are: dimensions, coordinates, units, long names (netCDF-4).


def label(group: h5py.Group) -> None:
    """Name the dimensions of all columns, and say what they are.

    Parameters
    ----------
    group : h5py.Group
        Where every column is a dataset already. Coordinates are added; that of rows is a column.
    """
    known = columns(has_velocity=True) | rows.columns()
    datasets = {name: group[name] for name in known if name in group}
    netcdf.make_scale(datasets["step"], "step", 0)
    scales = {"step": datasets["step"]}
    for number, (name, values) in enumerate(coordinates_of(datasets).items(), 1):
        netcdf.add_coordinate(group, name, values, number)
        scales[name] = group[name]
    for name, dataset in datasets.items():
        netcdf.describe(dataset, attributes_of(name))
        if name != "step":
            netcdf.attach(dataset, [scales[dimension] for dimension in ("step", *dims_of(name))])
