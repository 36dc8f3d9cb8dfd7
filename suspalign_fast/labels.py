"""What the columns of a trace file are: dimensions, coordinates, units, long names (netCDF-4)."""

import h5py

from . import measured
from .labelled import attributes_of, coordinates_of, dims_of
from .row import columns
from .storage import netcdf


def label(group: h5py.Group) -> None:
    """Name the dimensions of all columns, and say what they are.

    Parameters
    ----------
    group : h5py.Group
        Where every column is a dataset already. Coordinates are added; that of rows is a column.
    """
    known = columns(has_velocity=True) | measured.columns()
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
