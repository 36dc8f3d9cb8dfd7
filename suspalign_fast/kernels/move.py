"""A step as two numbers a band: ``c <- c + drift lambda c + spread s xi``.

Plain SGD with step size eta and a band's weight a has ``drift = spread = -eta a``. Whatever else a
step may be (noise that scales with the loss, an estimate instead of the size) is another pair.
"""

import numpy as np
from numpy.typing import NDArray

from ..row import NUM_BANDS
from .jit import inlined

DRIFT, SPREAD = range(2)
NUM_PARTS = 2


def moves_of(
    step_sizes: NDArray[np.float64], weights: tuple[float, float] | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the moves of steps of known sizes, shape (steps, bands, 2)."""
    minus_eta = -(np.asarray(weights) * step_sizes[:, None])
    return np.repeat(minus_eta[:, :, None], NUM_PARTS, axis=2)


@inlined
def set_move(move, step_size, weights):
    """Set the move of both bands, shape (bands, 2), to that of a step of SGD."""
    for band in range(NUM_BANDS):
        minus_eta = -(weights[band] * step_size)
        move[band, DRIFT] = minus_eta
        move[band, SPREAD] = minus_eta
