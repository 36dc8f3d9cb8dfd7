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
    moves = np.empty((step_sizes.size, NUM_BANDS, NUM_PARTS))
    np.multiply(step_sizes[:, None], -np.asarray(weights), out=moves[:, :, DRIFT])
    moves[:, :, SPREAD] = moves[:, :, DRIFT]
    return moves


@inlined
def set_move(moves, at, step_size, weights):
    """Set a move of both bands, one of shape (moves, bands, 2), to that of a step of SGD."""
    for band in range(NUM_BANDS):
        minus_eta = -(weights[band] * step_size)
        moves[at, band, DRIFT] = minus_eta
        moves[at, band, SPREAD] = minus_eta
