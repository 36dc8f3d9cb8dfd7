"""A trace file as netCDF-4: columns with named dimensions, coordinates, units and long names."""

import h5py

from .labelled import attributes_of, coordinates_of, dims_of
from .row import columns
from .storage import scales


def label(group: h5py.Group) -> None:
    """Name the dimensions of all columns, and say what they are.

    Parameters
    ----------
    group : h5py.Group
        Where every column is a dataset already. Coordinates are added; that of rows is a column.
    """
    names = list(columns())
    for name, values in coordinates_of(names).items():
        group.create_dataset(name, data=values)
    dimensions = {name: group[name] for name in ("step", *coordinates_of(names))}
    for number, (name, scale) in enumerate(dimensions.items()):
        scales.make(scale, name, number)
    for name in names:
        column = group[name]
        scales.describe(column, attributes_of(name))
        if name not in dimensions:
            scales.attach(column, [dimensions[d] for d in ("step", *dims_of(name))])
