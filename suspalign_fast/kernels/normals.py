"""Standard normals as a pure function of (seed, domain, coordinate, step).

Coordinates come in groups of 64. Group ``g`` uses the 16 counters ``16 g ... 16 g + 15``; word
``w`` of counter ``16 g + l`` belongs to coordinate ``64 g + 16 w + l``, and words (0, 1) and
(2, 3) go through Box-Muller together. The counter's four words are the low word of its index, the
domain (who draws, ``domains``) with the rest of the index above it, and the low and high word of
the step; the key is the seed's low and high word.
"""

import numpy as np

from . import domains
from .jit import inlined, kernel
from .philox import (
    MULTIPLIER_0,
    MULTIPLIER_1,
    ROUNDS,
    WEYL_0,
    WEYL_1,
    WORD_BITS,
    WORD_MASK,
    philox,
    philox_round,
)
from .simd import (
    arithmetic_shift,
    broadcast,
    float_bits,
    float_from_bits,
    fma,
    interleave,
    iota,
    load,
    low_word,
    signed_to_float,
    square_root,
    store,
    unsigned_to_float,
)

# --- Two uint32 words to two standard normals, in float32, without a call to libm ----------------
#
# With ``u = (w0 + 1/2) / 2^32`` in float32 (``w0`` rounded, then the sum) and the angle ``pi x``,
# ``x`` the low 31 bits of ``w1`` as a fraction in [-1/2, 1/2), and a sign from its top bit::
#
#     r = sqrt(-2 ln u),    z0 = +- r cos(pi x),    z1 = r sin(pi x)
#
# The three polynomials are minimax fits (Remez): the logarithm over a mantissa in [2/3, 4/3) to
# 1.7e-7 relative, sine to 5.3e-9 relative and cosine to 4.7e-8 absolute over a half turn, before
# float32 rounding. Rounding included, the largest deviations from the exact values over all 2^32
# words are
#
# - of the radius for the float32 ``u``: 5.35e-7 absolute, 2.03e-7 relative;
# - of the radius for ``u`` before rounding: the same above r = 0.1; below, float32 ``u`` near 1 is
#   2^-24 apart, which makes it 3.0e-8 / r, and 2.4e-4 at r = 0 (128 words give r = 0);
# - of the cosine 2.16e-7, of the sine 1.71e-7, for all 31 bits of the angle;
# - hence of a normal, at most 2.19e-6 for the float32 ``u``.
#
# ``u`` is at least 2^-33, so no ``|z|`` exceeds ``sqrt(66 ln 2)`` by more than rounding: the
# largest that occurs is 6.7637067, the smallest but 0 is 5.1e-13.


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


#: Counters a group of coordinates draws from, and the coordinates of a group.
COUNTERS = 16
GROUP = 4 * COUNTERS
#: Bits of the second word that hold the domain; the others are those of the index above 32.
DOMAIN_BITS = 16
#: Coordinates that counter indices are enough for: of all their bits, and of one word.
MAX_COORDINATES = (GROUP // COUNTERS) * 2 ** (64 - DOMAIN_BITS)
COORDINATES_OF_A_WORD = (GROUP // COUNTERS) * 2**32
_GROUPS_OF_A_WORD = np.uint64(32 - (COUNTERS - 1).bit_length())  # as a power of two


def seed_key(seed):
    """Split a 64-bit seed into the two uint32 words of the Philox key."""
    return np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32)


@inlined
def domain_of(domain, group):
    """The second word of the counters of a group: a domain, and what the first has no room for."""
    high = np.uint64(group) >> _GROUPS_OF_A_WORD
    return np.uint64(domain) | (high << np.uint64(DOMAIN_BITS))


@inlined
def counter_words(index, domain, low, high, key_0, key_1):
    """The four words of counters; `index` is a vector of words, `low` and `high` the step."""
    c1 = broadcast(domain, index)
    c2 = broadcast(low, index)
    c3 = broadcast(high, index)
    w0, w1, w2, w3 = philox(index, c1, c2, c3, key_0, key_1)
    return low_word(w0), low_word(w1), low_word(w2), low_word(w3)


@inlined
def counter_normals(index, domain, low, high, key_0, key_1):
    """The four float32 normals of counters: words (0, 1) make two, words (2, 3) two more."""
    w0, w1, w2, w3 = counter_words(index, domain, low, high, key_0, key_1)
    z0, z1 = box_muller(w0, w1)
    z2, z3 = box_muller(w2, w3)
    return z0, z1, z2, z3


# --- Normals of many coordinates at one step, in two loops: Philox words first, then Box-Muller --
#
# Either loop has few live registers and short chains of its own; fused, a chain of ten rounds fills
# the processor's schedulers and the independent Box-Muller behind it waits.
#
# The first two Philox rounds multiply either what only the coordinate decides or what only the step
# does. The products of the coordinate are *prepared* once and serve all steps, those of the step
# are scalars: eight rounds are left.


#: Groups whose normals are made at once.
BATCH = 16
LANES = COUNTERS // 2
#: Prepared words of a counter vector, and of a group: its even counters, then its odd ones.
_VECTOR = 3 * LANES
PREPARED = 2 * _VECTOR
#: What `prepared` holds: first group and high word of the step, plus one so that 0 is nothing.
_FIRST, _HIGH = BATCH * PREPARED, BATCH * PREPARED + 1


@inlined
def round_keys(key_0, key_1):
    """The two key words of every round."""
    keys = np.empty(2 * ROUNDS, np.uint64)
    k0 = np.uint32(key_0)
    k1 = np.uint32(key_1)
    for r in range(ROUNDS):
        keys[2 * r] = k0
        keys[2 * r + 1] = k1
        k0 = np.uint32(k0 + WEYL_0)
        k1 = np.uint32(k1 + WEYL_1)
    return keys


@inlined
def make_scratch(key_0, key_1):
    """Working memory of `write_normals`: prepared counters, round keys and words."""
    prepared = np.zeros(BATCH * PREPARED + 2, np.uint64)
    return prepared, round_keys(key_0, key_1), np.empty(BATCH * GROUP, np.uint32)


@inlined
def scratch_of(work, worker):
    """Scratch of a worker, whose arrays lie in `work`."""
    return work.prepared[worker], work.keys, work.words[worker]


@inlined
def _prepare_vector(prepared, offset, first_counter, high, keys):
    """Two rounds of the words that only the coordinate decides, of every other counter."""
    pairs = iota(np.uint64(0), LANES)
    index = pairs + pairs + broadcast(first_counter, pairs)
    word_bits = broadcast(WORD_BITS, index)
    low = broadcast(WORD_MASK, index)
    product_0 = index * broadcast(MULTIPLIER_0, index)
    c2 = (product_0 >> word_bits) ^ broadcast(high ^ keys[1], index)
    product_1 = (c2 & low) * broadcast(MULTIPLIER_1, index)
    store(prepared, offset, product_1 >> word_bits)
    store(prepared, offset + LANES, product_1)
    store(prepared, offset + 2 * LANES, product_0)


@inlined
def prepare(prepared, first_group, groups, high, keys):
    """Prepare the counters of groups for all steps of a high word."""
    for group in range(groups):
        counter = (np.uint64(first_group + group) * np.uint64(COUNTERS)) & WORD_MASK
        offset = group * PREPARED
        _prepare_vector(prepared, offset, counter, high, keys)
        _prepare_vector(prepared, offset + _VECTOR, counter + np.uint64(1), high, keys)


@inlined
def _step_words(domain, step, keys):
    """Two rounds of the words that only the step decides: what joins c0 and c2, and c3."""
    product_1 = (np.uint64(step) & WORD_MASK) * MULTIPLIER_1
    c0 = (product_1 >> WORD_BITS) ^ np.uint64(domain) ^ keys[0]
    product_0 = (c0 & WORD_MASK) * MULTIPLIER_0
    return (
        (product_1 & WORD_MASK) ^ keys[2],
        (product_0 >> WORD_BITS) ^ keys[3],
        product_0 & WORD_MASK,
    )


@inlined
def _start(prepared, offset, joins_0, joins_2, word_3):
    c0 = load(prepared, offset, LANES)
    c1 = load(prepared, offset + LANES, LANES)
    c2 = load(prepared, offset + 2 * LANES, LANES)
    return c0 ^ broadcast(joins_0, c0), c1, c2 ^ broadcast(joins_2, c0), broadcast(word_3, c0)


@inlined
def _store_words(words, offset, even, odd):
    store(words, offset, interleave(even[0], odd[0]))
    store(words, offset + COUNTERS, interleave(even[1], odd[1]))
    store(words, offset + 2 * COUNTERS, interleave(even[2], odd[2]))
    store(words, offset + 3 * COUNTERS, interleave(even[3], odd[3]))


@inlined
def write_words(words, prepared, first, groups, domain, step, keys):
    """Words of groups prepared from `first` on, two at a time: four chains hide latency.

    Word w of counter l of a group goes to place ``16 w + l`` of the group's 64. There must be room
    for one group more where their number is odd.
    """
    joins_0, joins_2, word_3 = _step_words(domain, step, keys)
    for group in range(0, groups, 2):
        offset = (first + group) * PREPARED
        a = _start(prepared, offset, joins_0, joins_2, word_3)
        b = _start(prepared, offset + _VECTOR, joins_0, joins_2, word_3)
        c = _start(prepared, offset + 2 * _VECTOR, joins_0, joins_2, word_3)
        d = _start(prepared, offset + 3 * _VECTOR, joins_0, joins_2, word_3)
        for r in range(2, keys.size // 2):
            k0 = keys[2 * r]
            k1 = keys[2 * r + 1]
            a = philox_round(a[0], a[1], a[2], a[3], k0, k1)
            b = philox_round(b[0], b[1], b[2], b[3], k0, k1)
            c = philox_round(c[0], c[1], c[2], c[3], k0, k1)
            d = philox_round(d[0], d[1], d[2], d[3], k0, k1)
        _store_words(words, GROUP * group, a, b)
        _store_words(words, GROUP * (group + 1), c, d)


@inlined
def write_words_of(first_group, groups, domain, step, scratch):
    """Write the words of ``groups`` groups, at most BATCH, to those of the scratch.

    The indices of their counters differ in the low word alone.
    """
    prepared, keys, words = scratch
    high = np.uint64(step) >> WORD_BITS
    if prepared[_FIRST] != np.uint64(first_group) + np.uint64(1) or prepared[_HIGH] != high + 1:
        prepare(prepared, first_group, BATCH, high, keys)
        prepared[_FIRST] = np.uint64(first_group) + np.uint64(1)
        prepared[_HIGH] = high + np.uint64(1)
    write_words(words, prepared, 0, groups, domain_of(domain, first_group), step, keys)
    return words


@kernel()
def write_normals(out, offset, first_group, groups, domain, step, scratch):
    """Write float32 normals of ``groups`` groups at a step to ``out[offset:]``.

    ``groups`` is at most BATCH; room for one group more is needed where it is odd.
    """
    words = write_words_of(first_group, groups, domain, step, scratch)
    for i in range(0, GROUP * groups, 2 * COUNTERS):
        z0, z1 = box_muller(load(words, i, COUNTERS), load(words, i + COUNTERS, COUNTERS))
        store(out, offset + i, z0)
        store(out, offset + i + COUNTERS, z1)


@kernel()
def fill_normals(out, scale, domain, step, key_0, key_1, block=0):
    """Set ``out[i] = scale * xi(step)`` of coordinate i, counted from where a block starts."""
    scratch = make_scratch(key_0, key_1)
    normals = np.empty(BATCH * GROUP, np.float32)
    for start in range(0, out.size, normals.size):
        stop = min(start + normals.size, out.size)
        groups = (stop - start - 1) // GROUP + 1
        first = BATCH * block + start // GROUP
        # A number that is no literal: with one, Numba compiles a second version.
        write_normals(normals, start - start, first, groups, domain, step, scratch)
        for i in range(start, stop):
            out[i] = scale * np.float64(normals[i - start])


@kernel()
def only_normals(num_batches, num_steps, key_0, key_1):
    """Generate normals, nothing else: the noise ceiling of every engine. Return the last ones."""
    scratch = make_scratch(key_0, key_1)
    normals = np.empty(BATCH * GROUP, np.float32)
    for batch in range(num_batches):
        for step in range(num_steps):
            write_normals(normals, 0, BATCH * batch, BATCH, domains.STEP, step, scratch)
    return normals
