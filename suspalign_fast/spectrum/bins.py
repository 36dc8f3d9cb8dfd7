"""Bins of close levels, inside each band, and what stands for them."""

import numpy as np
from numpy.typing import NDArray

from .. import _checks


def joined(
    lam: NDArray[np.float64], counts: NDArray[np.int64], k: int, width: float
) -> tuple[NDArray[np.float64], NDArray[np.int64], float]:
    """Join levels whose logarithms fall into one bin, counted from the top of the band.

    Parameters
    ----------
    lam, counts : ndarray
        Eigenvalues and multiplicities.
    k : int
        Number of levels of the dominant band.
    width : float

    Returns
    -------
    lam, counts : ndarray
        Of the bins.
    error : float
        Largest relative change of an eigenvalue.
    """
    first = np.flatnonzero(_bin_starts(lam, k, width))
    sizes = np.add.reduceat(counts, first)
    top = np.repeat(lam[first], np.diff(np.append(first, lam.size)))
    parts = np.divide(lam, top, out=np.zeros_like(lam), where=top > 0.0)
    means = lam[first] * (np.add.reduceat(parts * counts, first) / sizes)
    spread = np.repeat(means, np.diff(np.append(first, lam.size)))
    with np.errstate(all="ignore"):
        error = np.where(lam > 0.0, np.abs(spread / lam - 1.0), 0.0).max()
    return means, sizes, float(error)


def _bin_starts(lam: NDArray[np.float64], k: int, width: float) -> NDArray[np.bool_]:
    """Whether each level starts a bin: bins of a logarithmic width from the top of each band."""
    band = np.arange(lam.size) >= k
    top = np.where(band, lam[k], lam[0])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        number = np.floor((np.log(top) - np.log(lam)) / width)
    number = np.where(lam > 0.0, number, np.inf)
    starts = np.append(True, (number[1:] != number[:-1]) | (band[1:] != band[:-1]))
    starts[k] = True
    return starts


def narrowest(lam: NDArray[np.float64], k: int, num_levels: int) -> float:
    """Return the smallest bin width, to a thousandth, that gives at most `num_levels` levels.

    Parameters
    ----------
    lam : ndarray of float64
    k : int
        Number of levels of the dominant band.
    num_levels : int
    """
    low, high = 1e-16, 1500.0  # one bin a band at the upper end, whatever the eigenvalues
    if _bin_starts(lam, k, high).sum() > num_levels:
        raise _checks.wrong("num_levels", num_levels, "enough for both bands and the zeros")
    while high > 1.001 * low:
        middle = float(np.sqrt(low * high))
        fits = _bin_starts(lam, k, middle).sum() <= num_levels
        low, high = (low, middle) if fits else (middle, high)
    return high
