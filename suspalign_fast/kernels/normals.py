"""Standard normals as a pure function of (seed, domain, coordinate, step).

Coordinates come in groups of 64. Group ``g`` uses the 16 counters ``16 g ... 16 g + 15``; word
``w`` of counter ``16 g + l`` belongs to coordinate ``64 g + 16 w + l``, and words (0, 1) and
(2, 3) go through Box-Muller together. The counter's four words are its index, the domain (who
draws, ``domains``), and
the low and high word of the step; the key is the seed's low and high word.
"""

import numpy as np

from .box_muller import box_muller
from .jit import inlined
from .philox import WORD_BITS, WORD_MASK, philox
from .simd import broadcast, iota, low_word, lower_half, store, to_double, upper_half

#: Counters a group of coordinates draws from, and the coordinates of a group.
COUNTERS = 16
GROUP = 4 * COUNTERS
#: Counter indices are one 32-bit word.
MAX_COORDINATES = 4 * 2**32


def seed_key(seed):
    """Split a 64-bit seed into the two uint32 words of the Philox key."""
    return np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32)


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


@inlined
def _counters_of(group):
    lanes = iota(np.uint64(0), COUNTERS)
    return lanes + broadcast(np.uint64(group) * np.uint64(COUNTERS), lanes)


@inlined
def _halves(step):
    return np.uint64(step) & WORD_MASK, np.uint64(step) >> WORD_BITS


@inlined
def group_normals(group, domain, step, key_0, key_1):
    """Normals of coordinates ``GROUP * group ...`` as four float32 vectors, in their order."""
    low, high = _halves(step)
    return counter_normals(_counters_of(group), domain, low, high, key_0, key_1)


@inlined
def _store_doubles(out, offset, z):
    store(out, offset, to_double(lower_half(z)))
    store(out, offset + COUNTERS // 2, to_double(upper_half(z)))


@inlined
def write_group(out, offset, group, domain, step, key_0, key_1):
    """Write the 64 normals of a group to ``out[offset : offset + 64]``."""
    z0, z1, z2, z3 = group_normals(group, domain, step, key_0, key_1)
    _store_doubles(out, offset, z0)
    _store_doubles(out, offset + COUNTERS, z1)
    _store_doubles(out, offset + 2 * COUNTERS, z2)
    _store_doubles(out, offset + 3 * COUNTERS, z3)


@inlined
def write_words(out, offset, group, domain, step, key_0, key_1):
    """Write the 64 uniform words of a group to ``out[offset : offset + 64]``."""
    low, high = _halves(step)
    w0, w1, w2, w3 = counter_words(_counters_of(group), domain, low, high, key_0, key_1)
    store(out, offset, w0)
    store(out, offset + COUNTERS, w1)
    store(out, offset + 2 * COUNTERS, w2)
    store(out, offset + 3 * COUNTERS, w3)
