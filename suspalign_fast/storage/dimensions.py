"""Dimensions of the variables in the root of a netCDF-4 file, by the numbers that they have.

What points from one dataset to another, DIMENSION_LIST, is never read: libhdf5 follows it into a
heap and can loop there for ever. The libraries write the numbers beside it.
"""

from typing import Any, NamedTuple

from .reader import Reader

_IS_NONE = "This is a netCDF dimension but not a netCDF variable"
#: Attributes that are of the format, not of a variable.
_OF_FORMAT = {"CLASS", "NAME", "_Netcdf4Dimid", "_Netcdf4Coordinates", "_Encoding"}


class Found(NamedTuple):
    """The variables of a file.

    Attributes
    ----------
    dims : dict of str to tuple of str
        Dimensions of every variable that can be read.
    attributes : dict
        Attributes of every variable that can be read, those that are short texts or numbers.
    left_out : list of str
        Variables that cannot be read, or of which the dimensions are not known.
    """

    dims: dict[str, tuple[str, ...]]
    attributes: dict[str, dict[str, Any]]
    left_out: list[str]


def find(file: Reader) -> Found:
    """Return the variables of a file's root."""
    attributes: dict[str, dict[str, Any]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    left_out = []
    for name in file.datasets():
        try:
            attributes[name], shapes[name] = file.attributes(name), file.variable(name).shape
        except Exception:  # whatever the library raises of what is damaged
            left_out.append(name)
    scales: dict[int, str] = {}
    for name in shapes:
        number = attributes[name].get("_Netcdf4Dimid")
        if attributes[name].get("CLASS") == "DIMENSION_SCALE" and isinstance(number, int):
            scales[number] = name
    dims = {}
    for name, shape in shapes.items():
        about = attributes[name]
        if str(about.get("NAME", "")).startswith(_IS_NONE):
            continue
        own = [number for number, scale in scales.items() if scale == name]
        numbers = about.get("_Netcdf4Coordinates", own)
        numbers = [int(number) for number in numbers] if hasattr(numbers, "__iter__") else own
        names = tuple(scales.get(number, "") for number in numbers)
        lengths = tuple(shapes.get(scale, (-1,))[0] for scale in names)
        if lengths == shape and len(set(names)) == len(names):
            dims[name] = names
        else:
            left_out.append(name)
    for about in attributes.values():
        for key in _OF_FORMAT & set(about):
            del about[key]
    return Found(dims, {name: attributes[name] for name in shapes}, left_out)
