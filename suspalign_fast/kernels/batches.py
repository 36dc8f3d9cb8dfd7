"""Mini-batches of data: a step of SGD on least squares with fresh samples, as two numbers.

A batch of B samples makes the gradient

    kd lambda_i c_i + rho sqrt(lambda_i) zeta_i,
    rho = sqrt(u P) / B,    kd = u / B - sqrt(u) w / (B (sqrt(P) + tau)),

with ``P = S_1 + tau^2`` and ``w = sum sqrt(lambda_i) c_i zeta_i`` over both bands, zeta the normals
of the step and u a chi-square of B degrees of freedom (docs/model.md, section 6). It is the step of
additive noise with ``s = sqrt(lambda)``, of which drift and spread are multiplied by kd and rho.

The engine `step` draws a batch block by block. A step needs w over all coordinates before it can
move the first, which would take a pass of its own if the normals of the coordinates decided it.
Here every block has one normal xi more, the noise along the block's own part ``v = s c`` of the
state, and ``w = sum |v| xi`` is a sum over blocks, whose norms the last step has left. The normals
z of its coordinates then only say what is orthogonal to v:

    zeta = z + (xi - v'z / |v|) v / |v|,

independent standard normals as before, and in the gradient nothing but another multiple of
``lambda c`` for each block.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..physics.layout import CONSTANTS_AT, NUM_BANDS
from . import domains
from .chi_square import candidate, chi_square, proposals_for
from .jit import inlined, internal, kernel
from .normals import (
    BATCH,
    COUNTERS,
    GROUP,
    LANES,
    box_muller,
    scratch_of,
    write_normals,
    write_words_of,
)
from .simd import (
    fma,
    horizontal_sum,
    load,
    load_doubles,
    lower_half,
    store,
    to_double,
    upper_half,
    zeros,
)

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


# --- What a batch has along each block, and across it --------------------------------------------


@inlined
def _add_product(total, c, std, z, i):
    return add_product(total, load_doubles(c, i, LANES), load(std, i, LANES), z)


@kernel()
def draw_block(normals, c, std, first_group, groups, step, scratch):
    """Write a block's normals of a step; return their ``v'z``, summed up while they are made."""
    words = write_words_of(first_group, groups, domains.STEP, step, scratch)
    s0 = zeros(0.0, LANES)
    s1 = zeros(0.0, LANES)
    s2 = zeros(0.0, LANES)
    s3 = zeros(0.0, LANES)
    for i in range(0, GROUP * groups, 2 * COUNTERS):
        z0, z1 = box_muller(load(words, i, COUNTERS), load(words, i + COUNTERS, COUNTERS))
        store(normals, i, z0)
        store(normals, i + COUNTERS, z1)
        s0 = _add_product(s0, c, std, lower_half(z0), i)
        s1 = _add_product(s1, c, std, upper_half(z0), i + LANES)
        s2 = _add_product(s2, c, std, lower_half(z1), i + 2 * LANES)
        s3 = _add_product(s3, c, std, upper_half(z1), i + 3 * LANES)
    return horizontal_sum((s0 + s1) + (s2 + s3))


@internal()
def draw_batch(step, work, key_0, key_1, batches, out):
    """Draw what a batch has along each block; write kd and rho."""
    size, label_std, twice_d, slope, _ = batches
    p = label_std * label_std
    w = 0.0
    for first in range(0, work.rows.shape[0], BATCH * GROUP):
        count = min(BATCH * GROUP, work.rows.shape[0] - first)
        write_normals(
            work.xi, first, first // GROUP, (count - 1) // GROUP + 1, domains.BATCH_BLOCK, step,
            scratch_of(work, 0),
        )  # fmt: skip
        for b in range(first, first + count):
            p += work.rows[b, S1]
            w += work.norms[b] * np.float64(work.xi[b])
    u = squared_norm(step, key_0, key_1, twice_d, slope)
    out[0], out[1] = factors(p, w, u, size, label_std)
