"""Philox4x32-10, the counter-based generator of Salmon et al. (SC'11).

Words are 32-bit values in the low half of 64-bit integers (scalars or vectors); the high halves
are scratch, which saves the masking: a product only ever reads the low halves.
"""

import numpy as np

from .jit import inlined
from .simd import broadcast

ROUNDS = 10
MULTIPLIER_0 = np.uint64(0xD2511F53)
MULTIPLIER_1 = np.uint64(0xCD9E8D57)
WEYL_0 = np.uint32(0x9E3779B9)
WEYL_1 = np.uint32(0xBB67AE85)
WORD_MASK = np.uint64(0xFFFFFFFF)
WORD_BITS = np.uint64(32)


@inlined
def philox_round(c0, c1, c2, c3, k0, k1):
    """One round under the round's key words; only the low halves of c0 and c2 are read."""
    low = broadcast(WORD_MASK, c0)
    word_bits = broadcast(WORD_BITS, c0)
    product_0 = (c0 & low) * broadcast(MULTIPLIER_0, c0)
    product_1 = (c2 & low) * broadcast(MULTIPLIER_1, c0)
    return (
        (product_1 >> word_bits) ^ c1 ^ broadcast(k0, c0),
        product_1,
        (product_0 >> word_bits) ^ c3 ^ broadcast(k1, c0),
        product_0,
    )


@inlined
def philox(c0, c1, c2, c3, key_0, key_1):
    """Encrypt a counter of four words under a key of two uint32 words; read the low halves."""
    k0 = np.uint32(key_0)
    k1 = np.uint32(key_1)
    for _ in range(ROUNDS):
        c0, c1, c2, c3 = philox_round(c0, c1, c2, c3, k0, k1)
        k0 = np.uint32(k0 + WEYL_0)
        k1 = np.uint32(k1 + WEYL_1)
    return c0, c1, c2, c3
