"""Philox4x32-10, the counter-based generator of Salmon et al. (SC'11).

Words are vectors of uint32, or 32-bit values in the low halves of uint64 (scalars or vectors) whose
high halves are scratch, which saves the masking: a product only ever reads the low halves.
"""

import numpy as np

from .jit import inlined
from .simd import broadcast, high_half, low_half, word_product

ROUNDS = 10
MULTIPLIER_0 = np.uint64(0xD2511F53)
MULTIPLIER_1 = np.uint64(0xCD9E8D57)
WEYL_0 = np.uint32(0x9E3779B9)
WEYL_1 = np.uint32(0xBB67AE85)
WORD_MASK = np.uint64(0xFFFFFFFF)
WORD_BITS = np.uint64(32)


@inlined
def philox_round(c0, c1, c2, c3, k0, k1):
    """One round under the round's key words."""
    product_0 = word_product(c0, MULTIPLIER_0)
    product_1 = word_product(c2, MULTIPLIER_1)
    return (
        high_half(product_1, c0) ^ c1 ^ broadcast(k0, c0),
        low_half(product_1, c0),
        high_half(product_0, c0) ^ c3 ^ broadcast(k1, c0),
        low_half(product_0, c0),
    )


@inlined
def philox(c0, c1, c2, c3, key_0, key_1):
    """Encrypt a counter of four words under a key of two uint32 words."""
    k0 = np.uint32(key_0)
    k1 = np.uint32(key_1)
    for _ in range(ROUNDS):
        c0, c1, c2, c3 = philox_round(c0, c1, c2, c3, k0, k1)
        k0 = np.uint32(k0 + WEYL_0)
        k1 = np.uint32(k1 + WEYL_1)
    return c0, c1, c2, c3
