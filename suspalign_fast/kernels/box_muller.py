"""Two uint32 words to two standard normals, in float32, without a call to libm.

With ``u = (w0 + 1/2) / 2^32`` in float32 (``w0`` rounded, then the sum) and the angle ``pi x``,
``x`` the low 31 bits of ``w1`` as a fraction in [-1/2, 1/2), and a sign from its top bit::

    r = sqrt(-2 ln u),    z0 = +- r cos(pi x),    z1 = r sin(pi x)

The three polynomials are minimax fits (Remez): the logarithm over a mantissa in [2/3, 4/3) to
1.7e-7 relative, sine to 5.3e-9 relative and cosine to 4.7e-8 absolute over a half turn, before
float32 rounding. Rounding included, the largest deviations from the exact values over all 2^32
words are

- of the radius for the float32 ``u``: 5.35e-7 absolute, 2.03e-7 relative;
- of the radius for ``u`` before rounding: the same above r = 0.1; below, float32 ``u`` near 1 is
  2^-24 apart, which makes it 3.0e-8 / r, and 2.4e-4 at r = 0 (128 words give r = 0);
- of the cosine 2.16e-7, of the sine 1.71e-7, for all 31 bits of the angle;
- hence of a normal, at most 2.19e-6 for the float32 ``u``.

``u`` is at least 2^-33, so no ``|z|`` exceeds ``sqrt(66 ln 2)`` by more than rounding: the
largest that occurs is 6.7637067, the smallest but 0 is 5.1e-13.
"""

import numpy as np

from .jit import inlined
from .simd import (
    arithmetic_shift,
    broadcast,
    float_bits,
    float_from_bits,
    fma,
    signed_to_float,
    square_root,
    unsigned_to_float,
)

#: -2 ln(1 + t) / t, powers of t ascending.
LOG_COEFFICIENTS = tuple(
    np.float32(float.fromhex(c))
    for c in (
        "-0x1.fffffap+0",
        "0x1.ffffd6p-1",
        "-0x1.55618ap-1",
        "0x1.0013fap-1",
        "-0x1.956702p-2",
        "0x1.50488ap-2",
        "-0x1.5e6fe0p-2",
        "0x1.3ab080p-2",
    )
)
#: sin(pi x) / x, powers of x^2 ascending.
SINE_COEFFICIENTS = tuple(
    np.float32(c) for c in (3.1415927, -5.16771, 2.5500698, -0.5982421, 0.07756039)
)
#: cos(pi x), powers of x^2 ascending.
COSINE_COEFFICIENTS = tuple(
    np.float32(c) for c in (0.99999994, -4.934793, 4.058412, -1.3318802, 0.2196968)
)

HALF = np.float32(0.5)
ONE = np.float32(1.0)
#: Bits of float32 2/3: mantissas are taken from [2/3, 4/3), where ln is small near u = 1.
MANTISSA_FLOOR = np.uint32(0x3F2AAAAB)
MANTISSA_MASK = np.uint32(0x7FFFFF)
MANTISSA_BITS = np.uint32(23)
#: ``MANTISSA_FLOOR`` with the exponent of 2^32 added.
FLOOR_AT_2_32 = np.uint32(0x3F2AAAAB + (32 << 23))
MINUS_TWO_LN_2 = np.float32(-2.0 * np.log(2.0))
TURN_SCALE = np.float32(2.0**-32)
SIGN_BIT = np.uint32(0x80000000)
ONE_BIT = np.uint32(1)


@inlined
def squared_radius(word):
    """``-2 ln((word + 1/2) / 2^32)``, never negative, exactly 0 where float32 rounds to 1."""
    bits = float_bits(unsigned_to_float(word) + broadcast(HALF, unsigned_to_float(word)))
    shifted = bits - broadcast(FLOOR_AT_2_32, bits)
    exponent = signed_to_float(arithmetic_shift(shifted, broadcast(MANTISSA_BITS, bits)))
    mantissa = float_from_bits(
        (shifted & broadcast(MANTISSA_MASK, bits)) + broadcast(MANTISSA_FLOOR, bits)
    )
    t = mantissa - broadcast(ONE, mantissa)
    c = LOG_COEFFICIENTS
    p = broadcast(c[7], t)
    p = fma(p, t, broadcast(c[6], t))
    p = fma(p, t, broadcast(c[5], t))
    p = fma(p, t, broadcast(c[4], t))
    p = fma(p, t, broadcast(c[3], t))
    p = fma(p, t, broadcast(c[2], t))
    p = fma(p, t, broadcast(c[1], t))
    p = fma(p, t, broadcast(c[0], t))
    return fma(p, t, exponent * broadcast(MINUS_TWO_LN_2, t))


@inlined
def half_turn(word):
    """Cosine (>= 0 but for rounding) and sine of ``pi x``, ``x`` from the low 31 bits."""
    fraction = signed_to_float(word << broadcast(ONE_BIT, word))
    x = fraction * broadcast(TURN_SCALE, fraction)
    y = x * x
    s = SINE_COEFFICIENTS
    sine = broadcast(s[4], y)
    sine = fma(sine, y, broadcast(s[3], y))
    sine = fma(sine, y, broadcast(s[2], y))
    sine = fma(sine, y, broadcast(s[1], y))
    sine = fma(sine, y, broadcast(s[0], y))
    c = COSINE_COEFFICIENTS
    cosine = broadcast(c[4], y)
    cosine = fma(cosine, y, broadcast(c[3], y))
    cosine = fma(cosine, y, broadcast(c[2], y))
    cosine = fma(cosine, y, broadcast(c[1], y))
    cosine = fma(cosine, y, broadcast(c[0], y))
    return cosine, x * sine


@inlined
def box_muller(word_0, word_1):
    """Two independent standard normals from two independent uniform words."""
    radius = square_root(squared_radius(word_0))
    cosine, sine = half_turn(word_1)
    sign = word_1 & broadcast(SIGN_BIT, word_1)
    return float_from_bits(float_bits(radius) ^ sign) * cosine, radius * sine
