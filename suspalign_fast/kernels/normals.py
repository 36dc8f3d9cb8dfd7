"""Standard normals as a pure function of (seed, domain, coordinate, step).

Coordinates come in groups of 64. Group ``g`` uses the 16 counters ``16 g ... 16 g + 15``; word
``w`` of counter ``16 g + l`` belongs to coordinate ``64 g + 16 w + l``, and words (0, 1) and
(2, 3) go through Box-Muller together. The counter's four words are the low word of its index, the
domain (who draws, ``domains``) with the rest of the index above it, and the low and high word of
the step; the key is the seed's low and high word.
"""

import numpy as np

from .box_muller import box_muller
from .jit import inlined
from .philox import philox
from .simd import broadcast, low_word

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
