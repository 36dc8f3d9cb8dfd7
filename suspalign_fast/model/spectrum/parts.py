"""What a spectrum is made of, before it is one."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...base import checks

# --- How many directions share a level -----------------------------------------------------------


MAX_MULTIPLICITY = 2**53
#: Of all together.
MAX_DIM = 2**62


def ones(num_levels: int) -> NDArray[np.int64]:
    """Multiplicities of a simple spectrum, in no memory."""
    return np.broadcast_to(np.int64(1), (num_levels,))


def is_ones(counts: NDArray[np.int64]) -> bool:
    """Whether an array is one that `ones` returned."""
    return counts.strides == (0,)


def real(given: ArrayLike | None, num_levels: int) -> NDArray[np.float64]:
    """Return the multiplicities of a compressed spectrum: finite numbers of at least 1."""
    counts = np.asarray(given, dtype=np.float64)
    good = counts.shape == (num_levels,) and bool((np.isfinite(counts) & (counts >= 1.0)).all())
    if not good:
        raise checks.wrong("multiplicities", given, f"{num_levels} finite numbers of at least 1")
    return counts


def checked(given: ArrayLike | None, num_levels: int) -> NDArray[np.int64]:
    """Return what a user gave as multiplicities, `ones` where all of them are 1."""
    if given is None:
        return ones(num_levels)
    expected = f"an array of {num_levels} positive integers, one a level"
    counts = checks.array("multiplicities", given, expected)
    if counts.dtype.kind not in "iuf" or counts.shape != (num_levels,):
        raise checks.wrong("multiplicities", given, expected)
    bad = ~((counts >= 1) & (counts <= MAX_MULTIPLICITY))
    if counts.dtype.kind == "f":
        bad |= counts != np.rint(counts)
    if bad.any():
        at = int(np.argmax(bad))
        raise ValueError(
            f"multiplicities must be integers from 1 to 2**53, got {counts[at]} at index {at}"
        )
    return ones(num_levels) if (counts == 1).all() else counts.astype(np.int64)


class Compression(NamedTuple):
    """What real multiplicities do not say of a compressed spectrum."""

    dim: int
    num_dominant_levels: int
    error: float


class Parts(NamedTuple):
    """Arguments of a spectrum, not yet checked; it keeps the array of eigenvalues."""

    eigenvalues: NDArray[np.float64]
    num_dominant: int
    multiplicities: ArrayLike | None = None
    error: float = 0.0
    compression: Compression | None = None
