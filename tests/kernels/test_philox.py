import numba
import numpy as np
import pytest

from suspalign_fast.engines.reference import philox4x32
from suspalign_fast.kernels.philox import philox
from suspalign_fast.kernels.simd import iota, low_word, store, zeros

# Known-answer vectors published with Random123 (Salmon et al., SC'11): counter, key, output.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip


def words(text):
    return [int(word, 16) for word in text.split()]


@numba.njit
def compiled_scalar(c, key_0, key_1):
    w0, w1, w2, w3 = philox(c[0], c[1], c[2], c[3], key_0, key_1)
    return low_word(w0), low_word(w1), low_word(w2), low_word(w3)


@numba.njit
def compiled_vector(c, key_0, key_1, out):
    zero = zeros(np.uint64(0), 8)
    lanes = iota(np.uint64(0), 8)
    lane = np.uint64(0)
    w = philox(lanes ^ lanes, lanes, zero, lanes, key_0, key_1)
    store(out[0], lane, low_word(w[0]))
    store(out[1], lane, low_word(w[1]))
    store(out[2], lane, low_word(w[2]))
    store(out[3], lane, low_word(w[3]))


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_plain_generator_gives_the_published_vectors(counter, key, expected):
    actual = philox4x32(np.array(words(counter), np.uint32), tuple(words(key)))
    assert actual.tolist() == words(expected)


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_compiled_generator_gives_the_published_vectors(counter, key, expected):
    actual = compiled_scalar(np.array(words(counter), np.uint64), *map(np.uint32, words(key)))
    assert list(actual) == words(expected)


def test_compiled_vectors_agree_with_the_plain_generator():
    out = np.zeros((4, 8), np.uint32)
    key = (0xDEADBEEF, 0x12345678)
    compiled_vector(np.zeros(4, np.uint64), *map(np.uint32, key), out)
    counter = np.zeros((8, 4), np.uint32)
    counter[:, 1] = counter[:, 3] = np.arange(8)
    np.testing.assert_array_equal(out.T, philox4x32(counter, key))
