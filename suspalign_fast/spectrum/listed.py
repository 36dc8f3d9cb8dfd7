"""Eigenvalues in a ``.npy`` file, which may be anything."""

import math
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ..storage import files

EXPECTED = "a one-dimensional .npy array of real numbers"


def read_npy(path: files.AnyPath) -> NDArray[np.float64]:
    """Read the eigenvalues of a file that ``numpy.save`` wrote; nothing of it is ever run.

    Raises
    ------
    OSError
        If it does not exist, or is no whole ``.npy`` file of a one-dimensional array of numbers.
    """
    target = files.absolute(path)
    try:
        descriptor = files.open_regular(target, follow=True)
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
