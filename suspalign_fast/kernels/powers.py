"""Moves of many steps of one size: ``a = (1 - x)^n``, ``x = eta lambda``, and the noise b.

With L the logarithm of ``|1 - x|``, one exponential of ``y = n L`` gives both: ``|a| = e^y`` and
``1 - a^2 = -h (2 + h)``, ``h = e^y - 1`` with all its digits. As ``y = k ln 2 + r``, h comes from a
Taylor polynomial of ``e^r - 1``, ``|r| <= ln 2 / 2``, whose remainder is below 5e-18 relative.
"""

import math

import numpy as np

from .jit import copy_values, inlined, kernel
from .simd import broadcast, double_from_bits, fma, load, store

# --- Numbers of twice the digits: a pair of doubles, the nearest one to the number and what is
# left.
#
# Results have a relative error of about 1e-31 of the operands. Pairs are tuples of scalars or of
# vectors (``simd``). What overflows is no number in the end.


@inlined
def exact_sum(a, b):
    """Return a + b as a pair, with all digits."""
    high = a + b
    part = high - a
    return high, (a - (high - part)) + (b - part)


@inlined
def exact_product(a, b):
    """Return a b as a pair, with all digits."""
    high = a * b
    return high, fma(a, b, broadcast(0.0, high) - high)


@inlined
def plus(a, b):
    """Return the sum of two pairs."""
    high, low = exact_sum(a[0], b[0])
    low = low + (a[1] + b[1])
    total = high + low
    return total, low - (total - high)


@inlined
def times(a, b):
    """Return the product of two pairs."""
    high, low = exact_product(a[0], b[0])
    low = fma(a[1], b[0], fma(a[0], b[1], low))
    total = high + low
    return total, low - (total - high)


@inlined
def minus(a):
    """Return a pair with the opposite sign."""
    zero = broadcast(0.0, a[0])
    return zero - a[0], zero - a[1]


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


# --- Moves of many steps of one size with momentum, to all digits --------------------------------
#
# In a direction, with x the product of step size and eigenvalue, and y the velocity times the step
# size, a step is ``(c, y)' = M (c, y) + eta s n xi`` with
#
#     M = [[1 - p x, -q], [x, beta]],    n = (-p, 1),
#
# and n steps are ``M^n`` and a normal of covariance ``eta^2 s^2 C_n``. Both double: ``M^(2n) =
# (M^n)^2``, ``C_(2n) = C_n + M^n C_n M^n'``. One rounding of M would be in all n steps: this is
# done in numbers of twice the digits, and there is no case to tell apart: neither small x, where 1
# - x loses digits, nor critical damping, nor x close to the edge of stability, where C_n is nearly
# singular.


LANES = 8
#: Levels worked on at once.

#: What is written of a move: entries of the power, then of the Cholesky factor of the covariance.
CC, CY, YC, YY, K_CC, K_YC, K_YY = range(7)
NUM_PARTS = 7


@inlined
def matrix_product(a, b):
    """Return the product of two matrices of pairs, row by row."""
    a11, a12, a21, a22 = a
    b11, b12, b21, b22 = b
    return (
        plus(times(a11, b11), times(a12, b21)),
        plus(times(a11, b12), times(a12, b22)),
        plus(times(a21, b11), times(a22, b21)),
        plus(times(a21, b12), times(a22, b22)),
    )


@inlined
def spread_on(first, m, c):
    """Return ``first + m c m'`` of symmetric matrices of pairs, each the lower half."""
    m11, m12, m21, m22 = m
    c11, c21, c22 = c
    g11, g12, g21, g22 = matrix_product(m, (c11, c21, c21, c22))
    return (
        plus(first[0], plus(times(g11, m11), times(g12, m12))),
        plus(first[1], plus(times(g21, m11), times(g22, m12))),
        plus(first[2], plus(times(g21, m21), times(g22, m22))),
    )


@inlined
def first_move(x, p, q, beta):
    """Return M and C of one step, of pairs like x."""
    zero, one = broadcast(0.0, x), broadcast(1.0, x)
    pull = exact_product(broadcast(p, x), x)
    stays = plus((one, zero), minus(pull))
    m = (stays, (broadcast(-q, x), zero), (x, zero), (broadcast(beta, x), zero))
    c = (exact_product(broadcast(p, x), broadcast(p, x)), (broadcast(-p, x), zero), (one, zero))
    return m, c


@inlined
def power_of(steps, x, p, q, beta):
    """Return M and C of so many steps, at least one, of pairs like x."""
    m_one, c_one = first_move(x, p, q, beta)
    m, c = m_one, c_one
    bit = np.int64(0)
    while steps >> (bit + 1):
        bit += 1
    while bit > 0:
        bit -= 1
        c = spread_on(c, m, c)
        m = matrix_product(m, m)
        if (steps >> bit) & 1:
            c = spread_on(c_one, m_one, c)
            m = matrix_product(m, m_one)
    return m, c


@inlined
def number_or_infinite(value):
    """Return a value, infinity for what has overflowed on the way."""
    return value if value == value else np.inf


@inlined
def _write_chunk(steps, x, count, p, q, beta, parts):
    """Write moves of so many steps of the first levels of a chunk, a row of them for each part."""
    for at in range(0, count, LANES):
        m, c = power_of(steps, load(x, at, LANES), p, q, beta)
        store(parts[CC], at, m[0][0])
        store(parts[CY], at, m[1][0])
        store(parts[YC], at, m[2][0])
        store(parts[YY], at, m[3][0])
        store(parts[K_CC], at, c[0][0])
        store(parts[K_YC], at, c[1][0])
        # A difference of products in which all digits of doubles may go.
        determinant = plus(times(c[0], c[2]), minus(times(c[1], c[1])))
        store(parts[K_YY], at, determinant[0])
    for i in range(count):
        parts[CC, i] = number_or_infinite(parts[CC, i])
        parts[CY, i] = number_or_infinite(parts[CY, i])
        parts[YC, i] = number_or_infinite(parts[YC, i])
        parts[YY, i] = number_or_infinite(parts[YY, i])
        variance = number_or_infinite(parts[K_CC, i])
        root = math.sqrt(variance)
        parts[K_CC, i] = root
        parts[K_YC, i] = number_or_infinite(parts[K_YC, i] / root)
        parts[K_YY, i] = number_or_infinite(math.sqrt(max(parts[K_YY, i], 0.0) / variance))


@kernel(error_model="numpy")
def write_momentum_moves(first, last, steps, x, p, q, beta, out):
    """Write moves of so many steps for some of the levels, a row of them for each move.

    Parameters
    ----------
    first, last : int
        Levels ``first ... last - 1`` are written.
    steps : ndarray of int64, shape (moves,)
        At least 1.
    x : ndarray of float64, shape (levels,)
        Products of step size and eigenvalue.
    p, q, beta : float
        Factors of the optimizer.
    out : ndarray of float64, shape (7, moves, levels)
        The power, (c, y) from (c, y) row by row, and the lower Cholesky factor of ``C_n``; what
        has overflowed is infinite.
    """
    xs, parts = np.zeros(CHUNK), np.empty((NUM_PARTS, CHUNK))
    for start in range(first, last, CHUNK):
        count = min(CHUNK, last - start)
        copy_values(xs, 0, x, start, count)
        for move in range(steps.size):
            _write_chunk(steps[move], xs, count, p, q, beta, parts)
            for part in range(NUM_PARTS):
                copy_values(out[part, move], start, parts[part], 0, count)


@inlined
def _product(factor, value):
    """``factor * value``, zero where either is, even if the other has overflowed."""
    return 0.0 if factor == 0.0 or value == 0.0 else factor * value


@inlined
def _unscale(parts, i, eta, lam, std, q):
    """Make a move of c and ``y = eta v`` and of unit noise one of c and v and of noise s.

    Both entries beside the diagonal are multiples of one polynomial of x, ``-q`` and x times it.
    Without a step size nothing moves c, and all noise is that of v.
    """
    polynomial = -parts[CY, i] / q
    along, across = parts[K_YC, i], parts[K_YY, i]
    if eta == 0.0:
        along, across = 0.0, math.sqrt(along * along + across * across)
    parts[CY, i] = eta * parts[CY, i]
    parts[YC, i] = lam * polynomial
    parts[K_CC, i] = _product(eta * std, parts[K_CC, i])
    parts[K_YC, i] = _product(std, along)
    parts[K_YY, i] = _product(std, across)


@kernel(error_model="numpy")
def write_velocity_moves(first, last, steps, lam, std, split, etas, p, q, beta, out):
    """Write moves of c and v for some of the levels, a row of them for each move.

    Parameters
    ----------
    first, last : int
        Levels ``first ... last - 1`` are written.
    steps : ndarray of int64, shape (moves,)
        At least 1.
    lam, std : ndarray of float64, shape (levels,)
        Eigenvalues and standard deviations of the noise.
    split : int
        Levels of the dominant band.
    etas : ndarray of float64, shape (2,)
        Step size of each band.
    p, q, beta : float
        Factors of the optimizer, q positive.
    out : ndarray of float64, shape (7, moves, levels)
        The matrix, (c, v) from (c, v) row by row, and the lower triangular factor of the noise.
    """
    xs, parts = np.zeros(CHUNK), np.empty((NUM_PARTS, CHUNK))
    for start in range(first, last, CHUNK):
        count = min(CHUNK, last - start)
        for i in range(count):
            xs[i] = etas[0 if start + i < split else 1] * lam[start + i]
        for move in range(steps.size):
            _write_chunk(steps[move], xs, count, p, q, beta, parts)
            for i in range(count):
                at = start + i
                _unscale(parts, i, etas[0 if at < split else 1], lam[at], std[at], q)
            for part in range(NUM_PARTS):
                copy_values(out[part, move], start, parts[part], 0, count)


@inlined
def _take_step(parts, i, eta, lam, p, q, beta):
    """Make a move of c and v, of unit noise, one that has a step more.

    The rows of its factor are those of three columns, the step's own noise the last; their last
    entry is the area that both span over the length of the first, a root of a sum of squares.
    """
    a, b = 1.0 - p * eta * lam, -q * eta
    cc, cv, vc, vv = parts[CC, i], parts[CY, i], parts[YC, i], parts[YY, i]
    parts[CC, i] = number_or_infinite(_product(a, cc) + _product(b, vc))
    parts[CY, i] = number_or_infinite(_product(a, cv) + _product(b, vv))
    parts[YC, i] = number_or_infinite(_product(lam, cc) + _product(beta, vc))
    parts[YY, i] = number_or_infinite(_product(lam, cv) + _product(beta, vv))
    k_cc, k_vc, k_vv = parts[K_CC, i], parts[K_YC, i], parts[K_YY, i]
    c1, c2, c3 = _product(a, k_cc) + _product(b, k_vc), _product(b, k_vv), p * eta
    v1, v2, v3 = _product(lam, k_cc) + _product(beta, k_vc), _product(beta, k_vv), -1.0
    minor_12, minor_13, minor_23 = c1 * v2 - c2 * v1, c1 * v3 - c3 * v1, c2 * v3 - c3 * v2
    length = math.sqrt(c1 * c1 + c2 * c2 + c3 * c3)
    area = math.sqrt(minor_12 * minor_12 + minor_13 * minor_13 + minor_23 * minor_23)
    alone = math.sqrt(v1 * v1 + v2 * v2 + v3 * v3)
    along = c1 * v1 + c2 * v2 + c3 * v3
    parts[K_CC, i] = number_or_infinite(length)
    parts[K_YC, i] = number_or_infinite(along / length) if length > 0.0 else 0.0
    parts[K_YY, i] = number_or_infinite(area / length) if length > 0.0 else alone


@kernel(error_model="numpy")
def write_scheduled_moves(first, last, sizes, lam, std, split, weights, p, q, beta, move, out):
    """Write a move of steps of some sizes, step after step; as `write_velocity_moves`.

    Parameters
    ----------
    first, last : int
    sizes : ndarray of float64, shape (steps,)
    lam, std : ndarray of float64, shape (levels,)
    split : int
    weights : ndarray of float64, shape (2,)
        What the sizes are multiplied by in each band.
    p, q, beta : float
    move : int
        Which of the moves in `out` it is.
    out : ndarray of float64, shape (7, moves, levels)
    """
    parts = np.empty((NUM_PARTS, CHUNK))
    for start in range(first, last, CHUNK):
        count = min(CHUNK, last - start)
        for part in range(NUM_PARTS):
            for i in range(count):
                parts[part, i] = 1.0 if part in (CC, YY) else 0.0
        for step in range(sizes.size):
            for i in range(count):
                eta = sizes[step] * weights[0 if start + i < split else 1]
                _take_step(parts, i, eta, lam[start + i], p, q, beta)
        for part in range(NUM_PARTS):
            for i in range(count):
                value = parts[part, i]
                is_noise = part >= K_CC
                out[part, move, start + i] = _product(std[start + i], value) if is_noise else value
