"""Numbers of twice the digits: a pair of doubles, the nearest one to the number and what is left.

Results have a relative error of about 1e-31 of the operands. Pairs are tuples of scalars or of
vectors (``simd``). What overflows is no number in the end.
"""

from .jit import inlined
from .simd import broadcast, fma


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
