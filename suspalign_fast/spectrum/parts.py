"""What a spectrum is made of, before it is one."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Compression(NamedTuple):
    """What real multiplicities do not say of a compressed spectrum.

    Attributes
    ----------
    dim, num_dominant_levels : int
    error : float
    """

    dim: int
    num_dominant_levels: int
    error: float


class Parts(NamedTuple):
    """Arguments of a spectrum, not yet checked.

    Attributes
    ----------
    eigenvalues : ndarray of float64
        Nobody else's: a spectrum keeps it.
    num_dominant : int
    multiplicities : array_like of int or None
    error : float
        Quantization error.
    compression : Compression or None
        Of a compressed spectrum, whose multiplicities are real numbers.
    """

    eigenvalues: NDArray[np.float64]
    num_dominant: int
    multiplicities: ArrayLike | None = None
    error: float = 0.0
    compression: Compression | None = None
