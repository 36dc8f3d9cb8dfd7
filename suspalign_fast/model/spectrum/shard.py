"""The spectrum of some directions that follow each other."""

import numpy as np
from numpy.typing import NDArray

from .parts import is_ones, ones
from .spectrum import Spectrum


def shard_of(spectrum: Spectrum, first: int, stop: int) -> tuple[Spectrum, slice]:
    """Return the spectrum of directions ``first ... stop - 1``, and which levels these have.

    Either band may be empty in it. It shares the memory of the eigenvalues.
    """
    levels, counts = slice(first, stop), ones(stop - first)
    if not is_ones(spectrum.multiplicities):
        levels, counts = _levels(spectrum.multiplicities, first, stop)
    split = spectrum.num_dominant_levels - levels.start
    shard = Spectrum.__new__(Spectrum)
    shard._keep(
        spectrum.eigenvalues[levels], counts,
        min(max(spectrum.num_dominant - first, 0), stop - first), None, stop - first,
        min(max(split, 0), counts.size), 0.0,
    )  # fmt: skip
    return shard, levels


def _levels(
    multiplicities: NDArray[np.int64], first: int, stop: int
) -> tuple[slice, NDArray[np.int64]]:
    """Return the levels of some directions, and how many of these each has."""
    ends = np.cumsum(multiplicities)
    a = int(np.searchsorted(ends, first, side="right"))
    b = int(np.searchsorted(ends, stop, side="left")) + 1
    edges = np.clip(ends[a:b], first, stop)
    counts = np.diff(edges, prepend=first)
    return slice(a, b), ones(b - a) if (counts == 1).all() else counts
