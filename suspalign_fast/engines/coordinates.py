"""What engines with a coefficient for every direction share."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.normals import MAX_COORDINATES
from ..run import Run
from ..spectrum import Spectrum


def check_directions(run: Run, most: int = MAX_COORDINATES) -> None:
    """Raise ValueError if directions are not listed, or are more than there are counters for."""
    if run.problem.spectrum.is_compressed:
        raise ValueError(
            f"engine {run.engine!r} needs every direction, and a compressed spectrum has none; "
            "take engine 'levels', or the spectrum before it was compressed"
        )
    dim = run.problem.spectrum.dim
    if dim > most:
        raise ValueError(
            f"engine {run.engine!r} takes at most {most} dimensions, got {dim}; "
            "engine 'levels' takes any number"
        )


def given_coefficients(run: Run) -> NDArray[Any] | None:
    """Return the initial coefficients of all directions, None where they are to be drawn."""
    problem = run.problem
    if not isinstance(problem.initial, np.ndarray):
        return None
    values = problem.initial.astype(run.dtype)
    if values.size == problem.spectrum.dim:
        return values
    return np.repeat(values, problem.spectrum.multiplicities)


def level_ends(spectrum: Spectrum) -> NDArray[np.int64]:
    """Return the coordinates at which levels end; empty where every level is one coordinate."""
    return np.empty(0, np.int64) if spectrum.is_simple else np.cumsum(spectrum.multiplicities)
