"""Mini-batches of data: a step of SGD on least squares with fresh samples, as two numbers.

A batch of B samples makes the gradient

    kd lambda_i c_i + rho sqrt(lambda_i) zeta_i,
    rho = sqrt(u P) / B,    kd = u / B - sqrt(u) w / (B (sqrt(P) + tau)),

with ``P = S_1 + tau^2`` and ``w = sum sqrt(lambda_i) c_i zeta_i`` over both bands, zeta the normals
of the step and u a chi-square of B degrees of freedom (docs/model.md, section 6). It is the step of
additive noise with ``s = sqrt(lambda)``, of which drift and spread are multiplied by kd and rho.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..physics.layout import CONSTANTS_AT, NUM_BANDS
from . import domains
from .chi_square import candidate, chi_square, proposals_for
from .jit import inlined, kernel
from .simd import fma, to_double
from .sums import DRIFT, SPREAD

#: Columns of S_1, S_3, S_4 and, being R_6, S_7 in a row; of N_1, N_2 and K among the constants.
S1, S3, S4, S7 = 0, 2, 3, 6
N1, N2, K = range(3)


class Batches(NamedTuple):
    """Mini-batches, as the kernels take them.

    Attributes
    ----------
    size, label_std : float
        B and tau.
    twice_d, slope : float
        The proposal of chi-squares of B degrees of freedom (`chi_square.Proposals`).
    traces : ndarray of float64, shape (2, 3)
        ``sum lambda^q``, q = 2, 3, 6, of both bands: N_1, N_2 and K of ``s = sqrt(lambda)``.
    """

    size: float
    label_std: float
    twice_d: float
    slope: float
    traces: NDArray[np.float64]


def make_batches(size: int, label_std: float, traces: NDArray[np.float64]) -> Batches:
    """Return batches of so many samples whose labels have noise of a standard deviation."""
    proposals = proposals_for(np.array([float(size)]))
    twice_d, slope = float(proposals.twice_d[0]), float(proposals.slope[0])
    return Batches(float(size), float(label_std), twice_d, slope, traces)


@inlined
def squared_norm(step, key_0, key_1, twice_d, slope):
    """The chi-square u of a step."""
    at = np.uint64(step)
    if twice_d > 0.0:
        return chi_square(np.uint64(0), domains.BATCH_STEP, at, key_0, key_1, twice_d, slope)
    normal, _ = candidate(np.uint64(0), domains.BATCH_STEP, at, key_0, key_1)
    return normal * normal


@kernel()
def squared_norms(first_step, key_0, key_1, twice_d, slope, out):
    """Write the chi-squares of steps from a first one on."""
    for t in range(out.size):
        out[t] = squared_norm(first_step + t, key_0, key_1, twice_d, slope)


@inlined
def residual_variance(row, label_std):
    """P of a row of sums of both bands."""
    return row[0, 0] + row[1, 0] + label_std * label_std


@inlined
def factors(variance, w, u, size, label_std):
    """Return kd and rho of a batch; nothing moves where every residual is zero."""
    root = math.sqrt(variance)
    if root == 0.0:
        return 0.0, 0.0
    # Divisions that do not wait for w, the last number to be known.
    norm = math.sqrt(u) / size
    turn = norm / (root + label_std)
    return u / size - turn * w, norm * root


@inlined
def add_product(total, c, std, z):
    """Return the sum ``v'z`` of vectors of coordinates with one more added, ``v = s c``."""
    return fma(std * c, to_double(z), total)


@inlined
def turn_of(norm, xi, product):
    """What a block's zeta have of v beside their z, as a multiple of v."""
    return (xi - product / norm) / norm if norm > 0.0 else 0.0


@inlined
def gain_of(kd, rho, turn):
    """What the gradient of a block has of ``lambda c``, the noise along its state included."""
    return kd + rho * turn


@inlined
def gradient(c, lam, std, gain, spread, z):
    """Gradient ``gain lambda c + spread s z`` of a vector of coordinates."""
    return fma(gain * lam, c, (spread * std) * to_double(z))


@inlined
def set_batch_move(moves, step_size, weights, kd, rho):
    """Set the first move of both bands to that of a batch."""
    for band in range(NUM_BANDS):
        minus_eta = -(weights[band] * step_size)
        moves[0, band, DRIFT] = minus_eta * kd
        moves[0, band, SPREAD] = minus_eta * rho


@inlined
def write_constants(table, row, size, label_std, traces):
    """Write N_1, N_2 and K of the noise at a row to a rule's table.

    ``(lambda^2 c^2 + P lambda) / B`` is the variance of the gradient in a direction.
    """
    p = residual_variance(row, label_std)
    share = 1.0 / size
    for band in range(NUM_BANDS):
        s4, s7 = row[band, S4], row[band, S7]
        table[band, CONSTANTS_AT + N1] = (row[band, S3] + p * traces[band, N1]) * share
        table[band, CONSTANTS_AT + N2] = (s4 + p * traces[band, N2]) * share
        squares = p * (p * traces[band, K] - 2.0 * s7) + s4 * s4
        table[band, CONSTANTS_AT + K] = squares * share * share
