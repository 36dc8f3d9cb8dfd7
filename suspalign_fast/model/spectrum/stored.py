"""Spectra in HDF5 files: ones of their own, and the group ``/spectrum`` of others."""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ...base import checks
from ...storage import paths
from ...storage.output import Output, text, write
from ...storage.reader import Reader
from .parts import Compression, Parts

# --- Eigenvalues in a ``.npy`` file, none of which is trusted ------------------------------------


EXPECTED = "a one-dimensional .npy array of real numbers"


def read_npy(path: paths.AnyPath) -> NDArray[np.float64]:
    """Read the eigenvalues of a ``.npy`` file, of which nothing is run; OSError for any other."""
    target = paths.absolute(path)
    try:
        descriptor = paths.open_regular(target, follow=True)
    except OSError as error:
        raise FileNotFoundError(f"{target} does not exist or cannot be read") from error
    with os.fdopen(descriptor, "rb") as file:
        shape, dtype = _header(file, target)
        if len(shape) != 1 or dtype.kind not in "iuf":
            found = "pickled objects" if dtype.hasobject else f"shape {shape} and dtype {dtype}"
            raise OSError(f"{target} must be {EXPECTED}, got {found}")
        needed, there = math.prod(shape) * dtype.itemsize, os.fstat(file.fileno()).st_size
        if needed > there - file.tell():
            raise OSError(f"{target} must be {EXPECTED}, got one cut off at {there:,} bytes")
        values = np.frombuffer(file.read(needed), dtype)
    return values.astype(np.float64)


def _header(file: BinaryIO, target: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and type of the array in an open file."""
    try:
        version = npy.read_magic(file)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, _, dtype = read(file)
    except (ValueError, KeyError) as error:
        raise OSError(f"{target} must be {EXPECTED}, got no .npy file") from error
    return shape, dtype


FORMAT = "suspalign-spectrum"
FORMAT_VERSION = 1


def save(
    path: paths.AnyPath,
    parts: Parts,
    *,
    description: str,
    attributes: Mapping[str, Any] | None,
    overwrite: bool,
) -> None:
    """See `Spectrum.save`."""
    target = paths.real(path)
    described = checks.text("description", description)
    if attributes is not None and not isinstance(attributes, Mapping):
        raise checks.wrong("attributes", attributes, "a mapping of names to values")
    paths.check_new(target, overwrite=overwrite)
    replacement = paths.Replacement(target)
    try:
        output = Output(replacement.path, "w")
        with output.abandoned_on_failure():
            file = output.file
            file.attrs["format"] = text(FORMAT)
            file.attrs["format_version"] = FORMAT_VERSION
            file.attrs["description"] = described
            _add_attributes(file, attributes or {})
            write_group(file, parts)
        output.close()
        replacement.put(overwrite=overwrite)
    except RuntimeError as error:  # what libhdf5 raises where a write fails
        raise OSError(f"{target} cannot be written: {error}") from error
    finally:
        replacement.discard()


def _add_attributes(file: h5py.File, attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        checks.text("names of attributes", name)
        try:
            file.attrs[name] = value
        except (TypeError, ValueError, OverflowError, RecursionError):
            expected = "a text, a number or an array of these"
            raise checks.wrong(f"attributes[{name!r}]", value, expected) from None


def write_group(file: h5py.File, parts: Parts, *, compression: str = "gzip") -> None:
    """Write ``/spectrum`` into an open file."""
    group = file.create_group("spectrum", track_order=True)
    group.attrs["num_dominant"] = parts.num_dominant
    group.attrs["quantization_error"] = np.float64(parts.error)
    if parts.compression is not None:
        group.attrs["dim"] = np.int64(parts.compression.dim)
        group.attrs["num_dominant_levels"] = np.int64(parts.compression.num_dominant_levels)
        group.attrs["compression_error"] = np.float64(parts.compression.error)
    for name in ("eigenvalues", "multiplicities"):
        write(group, name, getattr(parts, name), compression=compression)


def read_group(file: Reader) -> Parts:
    """Read ``/spectrum`` of an open file, of which nothing is sure yet."""
    return Parts(
        eigenvalues=file.read("spectrum/eigenvalues"),
        multiplicities=file.read("spectrum/multiplicities"),
        num_dominant=file.attribute("spectrum", "num_dominant"),
        error=_stored_error(file, "quantization_error"),
        compression=_compression(file),
    )


def check_group(file: Reader) -> None:
    """Raise OSError unless ``/spectrum`` of an open file looks like one, its values unread."""
    with reading():
        shapes = [
            file.dataset(f"spectrum/{name}").shape for name in ("eigenvalues", "multiplicities")
        ]
        file.attribute("spectrum", "num_dominant")
        if len(shapes[0]) != 1 or shapes[0] != shapes[1]:
            raise ValueError(f"arrays of shapes {shapes}")


def _stored_error(file: Reader, name: str, *, may_be_unknown: bool = False) -> float:
    try:
        error = float(file.attribute("spectrum", name))
    except KeyError:  # as in files of earlier versions
        return 0.0
    if not (error >= 0.0 or (may_be_unknown and np.isnan(error))):
        raise checks.wrong(name, error, "a number of at least zero")
    return error


def _compression(file: Reader) -> Compression | None:
    try:
        dim = file.attribute("spectrum", "dim")
    except KeyError:
        return None
    levels = file.attribute("spectrum", "num_dominant_levels")
    error = _stored_error(file, "compression_error", may_be_unknown=True)
    return Compression(dim, levels, error)


@contextmanager
def reading() -> Iterator[None]:
    """Turn whatever a file that is not ours makes the library raise into one error."""
    try:
        yield
    except Exception as error:
        raise OSError(f"does not hold a suspalign spectrum: {error}") from error
