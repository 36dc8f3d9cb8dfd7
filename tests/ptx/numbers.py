"""Float arithmetic of PTX on Python's floats: every operation rounded once, to nearest even.

A float32 is a Python float that a float32 can hold.
"""

import math
from ctypes import c_float
from fractions import Fraction


def single(x):
    """Nearest float32.

    Sums and products of two float32 may go through float64: it is more than twice as long, so
    rounding again changes nothing.
    """
    return c_float(x).value


def fma_single(a, b, c):
    """``a * b + c`` in float32."""
    product = a * b  # exact in float64
    total = product + c
    rounded = c_float(total).value
    part = total - product
    error = (product - (total - part)) + (c - part)
    if error == 0.0 or error != error:
        return rounded
    # What float64 lost decides only where the rest lies halfway between two float32.
    other = c_float(math.nextafter(total, math.copysign(math.inf, error))).value
    return other if total - rounded == other - total != 0.0 else rounded


def _split(a):
    """Return two halves of few bits that add up to a float64."""
    high = 134217729.0 * a
    high -= high - a
    return high, a - high


def _exact_fma(a, b, c):
    if a == 0.0 or b == 0.0 or not (math.isfinite(a) and math.isfinite(b)):
        return a * b + c
    if not math.isfinite(c):
        return c
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def _fma(a, b, c):
    product = a * b
    if not (1e-250 < abs(product) < 1e290 and max(abs(a), abs(b), abs(c)) < 1e290):
        return _exact_fma(a, b, c)
    a_0, a_1 = _split(a)
    b_0, b_1 = _split(b)
    error = ((a_0 * b_0 - product) + a_0 * b_1 + a_1 * b_0) + a_1 * b_1
    return math.fsum((product, error, c))  # rounded once


#: ``a * b + c`` in float64.
fma_double = getattr(math, "fma", None) or _fma


def divide(a, b):
    """``a / b`` in float64."""
    if b != 0.0:
        return a / b
    if a == 0.0 or a != a:
        return math.nan
    return math.copysign(math.inf, a) * math.copysign(1.0, b)


def square_root(x):
    """``sqrt(x)`` in float64."""
    return math.sqrt(x) if x >= 0.0 else math.nan


def inverse_root(x):
    """The float32 nearest to ``1 / sqrt(x)``, subnormals taken as 0; hardware may err a little."""
    if abs(x) < 2.0**-126:
        return math.copysign(math.inf, x)
    if not x > 0.0:
        return math.nan
    root = 1.0 / math.sqrt(x)
    low, high = single(root * (1.0 - 2.0**-50)), single(root * (1.0 + 2.0**-50))
    if low == high:
        return low
    return high if Fraction((low + high) / 2.0) ** 2 * Fraction(x) < 1 else low


def least(a, b):
    """The smaller one, or the one that is a number."""
    return b if a != a or b < a else a


def greatest(a, b):
    """The greater one, or the one that is a number."""
    return b if a != a or b > a else a
