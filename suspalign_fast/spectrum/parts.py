"""What a spectrum is made of, before it is one."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
    """

    eigenvalues: NDArray[np.float64]
    num_dominant: int
    multiplicities: ArrayLike | None = None
    error: float = 0.0
