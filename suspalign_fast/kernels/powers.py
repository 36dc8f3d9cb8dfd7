"""Moves of many steps of one size: ``a = (1 - x)^n``, ``x = eta lambda``, and the noise b.

With L the logarithm of ``|1 - x|``, one exponential of ``y = n L`` gives both: ``|a| = e^y`` and
``1 - a^2 = -h (2 + h)``, ``h = e^y - 1`` with all its digits. As ``y = k ln 2 + r``, h comes from a
Taylor polynomial of ``e^r - 1``, ``|r| <= ln 2 / 2``, whose remainder is below 5e-18 relative.
"""

import math

import numpy as np

from .jit import copy_values, inlined, kernel
from .simd import double_from_bits, fma

_MAGIC = 1.5 * 2.0**52  # added to a number, it leaves the nearest integer in the low bits
_LN_2 = math.log(2.0)
_LN_2_HIGH = float.fromhex("0x1.62e42fee00000p-1")  # times k without rounding
_LN_2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
#: Levels worked on at once.
CHUNK = 512
#: Exponents beyond these have a power of two that is no normal number: 0 and infinity.
_SMALLEST, _LARGEST = -708.0, 709.0
C2, C3, C4, C5, C6, C7, C8, C9, C10, C11, C12, C13 = (1.0 / math.factorial(n) for n in range(2, 14))
_BIAS, _MANTISSA_BITS = np.int64(1023), np.int64(52)


@inlined
def exponential(y):
    """Return ``e^y`` and ``e^y - 1``, each with all its digits; below the normal numbers 0."""
    inside = min(max(y, _SMALLEST), _LARGEST)
    shifted = inside * (1.0 / _LN_2) + _MAGIC
    k = shifted - _MAGIC
    r = fma(k, -_LN_2_LOW, fma(k, -_LN_2_HIGH, inside))
    p = fma(C13, r, C12)
    p = fma(p, r, C11)
    p = fma(p, r, C10)
    p = fma(p, r, C9)
    p = fma(p, r, C8)
    p = fma(p, r, C7)
    p = fma(p, r, C6)
    p = fma(p, r, C5)
    p = fma(p, r, C4)
    p = fma(p, r, C3)
    p = fma(p, r, C2)
    p = fma(p * r, r, r)
    scale = double_from_bits((np.int64(k) + _BIAS) << _MANTISSA_BITS)
    power = fma(scale, p, scale)
    less_one = fma(scale, p, scale - 1.0)
    if y > _LARGEST:
        return np.inf, np.inf
    return (0.0 if y < _SMALLEST else power), less_one


@inlined
def set_gains(eta, rates, pushes, xs, gains):
    """Set ``x = eta rate`` and what the root of ``1 - a^2``, or of n where x is 0 or 2, scales."""
    for i in range(rates.size):
        x = eta * rates[i]
        noise = eta * pushes[i]
        xs[i] = x
        gains[i] = noise if x == 0.0 or x == 2.0 else noise / np.sqrt(abs(x * (2.0 - x)))


@inlined
def moves_of_size(n, xs, gains, logs, a, b):
    """Write a and b of moves of n steps, from what `set_gains` has set."""
    is_odd = n % 2.0 == 1.0
    for i in range(xs.size):
        x = xs[i]
        power, less_one = exponential(n * logs[i])
        total = n if x == 0.0 or x == 2.0 else abs(less_one * (1.0 + power))
        a[i] = -power if is_odd and x > 1.0 else power
        b[i] = 0.0 if gains[i] == 0.0 else np.sqrt(total) * gains[i]


@kernel(error_model="numpy")
def write_moves(first, last, steps, eta, rate, push, log, a, b):
    """Write a and b of moves of so many steps for some of the levels, a row of them for each move.

    Parameters
    ----------
    first, last : int
        Levels ``first ... last - 1`` are written.
    steps : ndarray of float64, shape (moves,)
        Whole numbers of at least 1.
    eta : float
        Step size.
    rate, push, log : ndarray of float64, shape (levels,)
        Decay and noise per unit of step size, and the logarithm of ``|1 - eta rate|``.
    a, b : ndarray of float64, shape (moves, levels)
    """
    rates, pushes, logs = np.zeros(CHUNK), np.zeros(CHUNK), np.zeros(CHUNK)
    xs, gains = np.empty(CHUNK), np.empty(CHUNK)
    for start in range(first, last, CHUNK):
        count = min(CHUNK, last - start)
        # Whatever the layout of the arrays, loops over these are vectorized.
        copy_values(rates, 0, rate, start, count)
        copy_values(pushes, 0, push, start, count)
        copy_values(logs, 0, log, start, count)
        set_gains(eta, rates, pushes, xs, gains)
        for move in range(steps.size):
            moves_of_size(
                steps[move], xs[:count], gains[:count], logs[:count],
                a[move, start : start + count], b[move, start : start + count],
            )  # fmt: skip
