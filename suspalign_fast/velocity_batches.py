"""What momentum makes of a row under mini-batches: the row of plain SGD with the same next step.

With ``c~ = c - eta q v``, a step is ``c' = c~ - eta p h``, and h given the size of a batch's
residuals is Gaussian with a mean and a covariance made of c alone (`batch_rows`). So every formula
there holds with eta p in the place of eta and, of ten sums, with

    sum lambda^p c~^2 in the place of S_2, S_5 and S_8,
    sum lambda^p c c~ in that of S_3, S_6 and S_9,

while S_1, S_4, S_7 and S_10 stay (docs/momentum.md). Rows have all that mean and variance take:
noise with ``s^2 = lambda`` makes X_4, X_5 and W_4 the sums of ``lambda^p c v``, p = 5, 6, and of
``lambda^5 v^2``.
"""

import numpy as np
from numpy.typing import NDArray

from .rise import node_cubes
from .row import Velocity
from .velocity_rows import C2, C3, V2, W4, X4, X5

Array = NDArray[np.float64]


def moved_sums(sums: Array, eta: Array, velocity: Velocity) -> tuple[Array, Array]:
    """Return the ten sums of the next step's law, and how far the first squares are moved.

    Parameters
    ----------
    sums : ndarray of float64, shape (..., 2, 10)
        S_1 ... S_10 of a row.
    eta : ndarray of float64, shape (..., 2)
        Step size times weight of each band.
    velocity : Velocity

    Returns
    -------
    moved : ndarray of float64, shape (..., 2, 10)
    drift : ndarray of float64, shape (..., 2)
        ``sum lambda^2 (c~^2 - c^2)``, without cancellation.

    Notes
    -----
    Rows lack the sums of the powers 8 and 9, which only skewness takes. What the velocity adds to
    them follows from what it adds to those of powers lower by three and by six, as if all of it
    were at the two eigenvalues that have S_4 ... S_7.

    Examples
    --------
    >>> import numpy as np
    >>> from suspalign_fast.row import Velocity
    >>> from suspalign_fast.velocity_batches import moved_sums
    >>> ones = np.ones((2, 10))
    >>> velocity = Velocity(np.ones((2, 8)), 1.0, 0.5)
    >>> moved, drift = moved_sums(ones, np.full(2, 0.5), velocity)
    >>> moved[0].tolist()
    [1.0, 0.5625, 0.75, 1.0, 0.5625, 0.75, 1.0, 0.5625, 0.75, 1.0]
    """
    extra, _, q = velocity
    shift = eta * q
    squares_2 = shift * (shift * extra[..., V2] - 2.0 * extra[..., C2])
    squares_5 = shift * (shift * extra[..., W4] - 2.0 * extra[..., X4])
    mixed_3, mixed_6 = -shift * extra[..., C3], -shift * extra[..., X5]
    with np.errstate(all="ignore"):
        total, product = node_cubes(*(sums[..., i] for i in range(3, 7)))
    moved = sums.copy()
    moved[..., 1] += squares_2
    moved[..., 2] += mixed_3
    moved[..., 4] += squares_5
    moved[..., 5] += mixed_6
    moved[..., 7] += total * squares_5 - product * squares_2
    moved[..., 8] += total * mixed_6 - product * mixed_3
    return moved, squares_2
