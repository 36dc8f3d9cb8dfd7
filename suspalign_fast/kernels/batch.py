"""Normals of many coordinates at one step, in two loops: Philox words first, then Box-Muller.

Either loop has few live registers and short chains of its own; fused, a chain of ten rounds fills
the processor's schedulers and the independent Box-Muller behind it waits.

The first two Philox rounds multiply either what only the coordinate decides or what only the step
does. The products of the coordinate are *prepared* once and serve all steps, those of the step are
scalars: eight rounds are left.
"""

import numpy as np

from . import domains
from .box_muller import box_muller
from .jit import inlined, kernel
from .normals import COUNTERS, GROUP, domain_of
from .philox import (
    MULTIPLIER_0,
    MULTIPLIER_1,
    ROUNDS,
    WEYL_0,
    WEYL_1,
    WORD_BITS,
    WORD_MASK,
    philox_round,
)
from .simd import broadcast, interleave, iota, load, store

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
