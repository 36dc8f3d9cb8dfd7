"""Spectra in HDF5 files: ones of their own, and the group ``/spectrum`` of others."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import h5py
import numpy as np

from .. import _checks
from ..storage import Output, Reader, files, text, write
from .parts import Parts

FORMAT = "suspalign-spectrum"
FORMAT_VERSION = 1


def save(
    path: files.AnyPath,
    parts: Parts,
    *,
    description: str,
    attributes: Mapping[str, Any] | None,
    overwrite: bool,
) -> None:
    """See `Spectrum.save`."""
    target = files.real(path)
    files.check_new(target, overwrite=overwrite)
    replacement = files.Replacement(target)
    try:
        output = Output(replacement.path, "w")
        with output.abandoned_on_failure():
            file = output.file
            file.attrs["format"] = text(FORMAT)
            file.attrs["format_version"] = FORMAT_VERSION
            file.attrs["description"] = description
            file.attrs.update(attributes or {})
            write_group(file, parts)
        output.close()
        replacement.put(overwrite=overwrite)
    except RuntimeError as error:  # what libhdf5 raises where a write fails
        raise OSError(f"{target} cannot be written: {error}") from error
    finally:
        replacement.discard()


def write_group(file: h5py.File, parts: Parts, *, compression: str = "gzip") -> None:
    """Write ``/spectrum`` into an open file."""
    group = file.create_group("spectrum")
    group.attrs["num_dominant"] = parts.num_dominant
    group.attrs["quantization_error"] = np.float64(parts.error)
    for name in ("eigenvalues", "multiplicities"):
        write(group, name, getattr(parts, name), compression=compression)


def read_group(file: Reader) -> Parts:
    """Read ``/spectrum`` of an open file, of which nothing is sure yet."""
    return Parts(
        eigenvalues=file.read("spectrum/eigenvalues"),
        multiplicities=file.read("spectrum/multiplicities"),
        num_dominant=file.attribute("spectrum", "num_dominant"),
        error=_stored_error(file),
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


def _stored_error(file: Reader) -> float:
    try:
        error = float(file.attribute("spectrum", "quantization_error"))
    except KeyError:  # as in files of earlier versions
        return 0.0
    if not error >= 0.0:
        raise _checks.wrong("quantization_error", error, "a number of at least zero")
    return error


@contextmanager
def reading() -> Iterator[None]:
    """Turn whatever a file that is not ours makes the library raise into one error."""
    try:
        yield
    except Exception as error:
        raise OSError(f"does not hold a suspalign spectrum: {error}") from error
