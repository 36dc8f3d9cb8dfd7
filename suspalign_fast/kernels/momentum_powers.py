"""Moves of many steps of one size with momentum, to all digits.

In a direction, with x the product of step size and eigenvalue, and y the velocity times the step
size, a step is ``(c, y)' = M (c, y) + eta s n xi`` with

    M = [[1 - p x, -q], [x, beta]],    n = (-p, 1),

and n steps are ``M^n`` and a normal of covariance ``eta^2 s^2 C_n``. Both double:
``M^(2n) = (M^n)^2``, ``C_(2n) = C_n + M^n C_n M^n'``. One rounding of M would be in all n steps:
this is done in numbers of twice the digits, and there is no case to tell apart: neither small x,
where 1 - x loses digits, nor critical damping, nor x close to the edge of stability, where C_n is
nearly singular.
"""

import math

import numpy as np

from .double_double import exact_product, minus, plus, times
from .jit import copy_values, inlined, kernel
from .simd import broadcast, load, store

LANES = 8
#: Levels worked on at once.
CHUNK = 512
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
    """``factor * value``, zero where the factor is, even if the value has overflowed."""
    return 0.0 if factor == 0.0 else factor * value


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
