"""The noise contract in plain NumPy, written to be read: the oracle of the compiled kernels.

Same integers, same transform and same mapping to coordinates as ``kernels.normals``. A fused
multiply-add in float32 is a float64 one rounded once more, which differs from the true one in
about one of 2^29 cases, by the last bit.
"""

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from ..kernels import box_muller as coefficients
from ..kernels.normals import COUNTERS, DOMAIN_BITS
from ..kernels.philox import MULTIPLIER_0, MULTIPLIER_1, ROUNDS, WEYL_0, WEYL_1

Words = NDArray[np.uint32]
Singles = NDArray[np.float32]


def philox4x32(counter: Words, key: tuple[int, int], rounds: int = ROUNDS) -> Words:
    """Encrypt counters with Philox4x32 (Salmon et al., SC'11).

    Parameters
    ----------
    counter : ndarray of uint32, shape (..., 4)
    key : tuple of two int
        Words of the key.
    rounds : int

    Returns
    -------
    ndarray of uint32, shape (..., 4)
    """
    c0, c1, c2, c3 = np.moveaxis(counter.astype(np.uint64), -1, 0)
    k0, k1 = key
    word = np.uint64(32)
    low = np.uint64(0xFFFFFFFF)
    for _ in range(rounds):
        p0, p1 = c0 * MULTIPLIER_0, c2 * MULTIPLIER_1
        c0, c1, c2, c3 = (
            (p1 >> word) ^ c1 ^ np.uint64(k0),
            p1 & low,
            (p0 >> word) ^ c3 ^ np.uint64(k1),
            p0 & low,
        )
        k0, k1 = (k0 + int(WEYL_0)) & 0xFFFFFFFF, (k1 + int(WEYL_1)) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def _fma(a: Singles, b: Singles, c: Singles | np.float32) -> Singles:
    return (a.astype(np.float64) * b + c).astype(np.float32)


def _horner(x: Singles, ascending: tuple[np.float32, ...]) -> Singles:
    value = np.full_like(x, ascending[-1])
    for coefficient in ascending[-2::-1]:
        value = _fma(value, x, coefficient)
    return value


def box_muller(word_0: Words, word_1: Words) -> tuple[Singles, Singles]:
    """Turn two arrays of uniform words into two arrays of standard normals."""
    u = word_0.astype(np.float32) + np.float32(0.5)  # uniform on (0, 2^32]
    mantissa, exponent = np.frexp(u)  # in [1/2, 1); wanted in [2/3, 4/3)
    low = mantissa < np.float32(2.0 / 3.0)
    t = np.where(low, mantissa * np.float32(2.0), mantissa) - np.float32(1.0)
    power = (exponent - low - 32).astype(np.float32)
    log_part = power * coefficients.MINUS_TWO_LN_2
    radius = np.sqrt(_fma(_horner(t, coefficients.LOG_COEFFICIENTS), t, log_part))

    x = (word_1 << np.uint32(1)).view(np.int32).astype(np.float32) * np.float32(2.0**-32)
    cosine = _horner(x * x, coefficients.COSINE_COEFFICIENTS)
    sine = x * _horner(x * x, coefficients.SINE_COEFFICIENTS)
    sign = np.where(word_1 >> np.uint32(31), np.float32(-1.0), np.float32(1.0))
    return sign * radius * cosine, radius * sine


def standard_normals(
    seed: int, domain: int, step: int, count: int, first_group: int = 0
) -> NDArray[np.float64]:
    """Return the normals of some coordinates at one step.

    Parameters
    ----------
    seed, step : int
        64-bit.
    domain : int
        Counter domain, see ``kernels.normals``.
    count : int
    first_group : int
        Group of 64 that the first coordinate is the first of.

    Returns
    -------
    ndarray of float64, shape (count,)
        Values are float32.
    """
    num_groups = -(-count // (4 * COUNTERS))
    counter = np.empty((num_groups * COUNTERS, 4), dtype=np.uint32)
    index = COUNTERS * np.uint64(first_group) + np.arange(num_groups * COUNTERS, dtype=np.uint64)
    counter[:, 0] = index & np.uint64(0xFFFFFFFF)
    counter[:, 1] = np.uint64(domain) | (index >> np.uint64(32) << np.uint64(DOMAIN_BITS))
    counter[:, 2:] = step & 0xFFFFFFFF, step >> 32
    words = philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32))
    normals = np.stack([*box_muller(*words.T[:2]), *box_muller(*words.T[2:])])
    grouped = normals.reshape(4, num_groups, COUNTERS).swapaxes(0, 1)
    return grouped.reshape(-1)[:count].astype(np.float64)


def plain_chi_square(seed: int, first_domain: int, step: int, freedom: int) -> float:
    """Return a chi-square of a whole number of degrees of freedom, from counter 0 of a step.

    Marsaglia and Tsang's method (ACM TOMS 26, 2000), an attempt a domain; the square of a normal
    for a single degree.
    """
    d = 0.5 * freedom - 1.0 / 3.0
    for domain in itertools.count(first_domain):
        counter = np.array([0, domain, step & 0xFFFFFFFF, step >> 32], dtype=np.uint32)
        words = philox4x32(counter[None], (seed & 0xFFFFFFFF, seed >> 32))
        _, normal = box_muller(words[:, 0], words[:, 1])
        x, uniform = float(normal[0]), (float(words[0, 2]) + 0.5) * 2.0**-32
        if freedom == 1:
            return x * x
        cube = (1.0 + x / math.sqrt(9.0 * d)) ** 3
        if cube > 0.0 and math.log(uniform) < 0.5 * x * x + d * (1.0 - cube + math.log(cube)):
            return 2.0 * d * cube
    raise AssertionError("unreachable")
