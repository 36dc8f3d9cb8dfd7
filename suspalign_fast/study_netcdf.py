"""Studies in netCDF files of whatever origin: telling them from traces, and reading them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import netcdf_dimensions
from .labelled import attributes_of, load_xarray
from .storage import Reader, files
from .storage.growing import one_line
from .study import FORMAT, open_study

#: First bytes of netCDF files that are not HDF5.
_OLDER = b"CDF"
#: What netCDF-4 libraries leave in the root of their files.
_NETCDF = "_NCProperties"


def is_study(path: Path) -> bool:
    """Whether a file is that of a sweep, or other netCDF, as ``Dataset.to_netcdf`` writes it.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    if _is_older(path):
        return True
    with Reader(path) as file:
        found = file.format_name()
        return found == FORMAT or (not found and _NETCDF in _names(file))


def is_own(path: Path) -> bool:
    """Whether a file is one that a sweep writes, or wrote.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with Reader(path) as file:
        return file.format_name() == FORMAT and not _is_copy(file)


def _is_copy(file: Reader) -> bool:
    """Whether it is what xarray wrote of a study: it has the attributes, not the digests."""
    return _NETCDF in _names(file) and not file.has("digest")


def _is_older(path: Path) -> bool:
    return (files.first_bytes(path, len(_OLDER)) or b"") == _OLDER


def _names(file: Reader) -> list[str]:
    try:
        return file.attribute_names()
    except Exception as error:  # whatever the library raises of what is damaged
        raise OSError(f"{file.path} is damaged: {one_line(error)}") from error


def read_study(path: Path) -> Any:
    """Open the dataset of a study, also while a sweep writes its file.

    Raises
    ------
    OSError
        If the file cannot be read, or is none of a study.
    ImportError
        If xarray is not installed.
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
    from .study_arrays import OpenFile, Plain, dataset

    file = OpenFile(path, "netCDF file")
    with file.damage_said():
        found = netcdf_dimensions.find(file.reader)
        arrays = {
            name: (dims, Plain(file, name), _about(name, found.attributes[name]))
            for name, dims in found.dims.items()
        }
        return dataset(file, arrays, file.reader.attributes())


def _about(name: str, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what is said of a variable; what this package says of its own where texts are lost."""
    try:
        return {**attributes_of(name), **attributes}
    except KeyError:
        return attributes
