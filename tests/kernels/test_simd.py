"""Every intrinsic of `kernels.simd` beside NumPy, on vectors and on scalars, at edge values."""

import math
import re
from fractions import Fraction
from pathlib import Path

import numba
import numpy as np
import pytest

from suspalign_fast.kernels import simd

LANES = 8
WORDS = np.array([0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 12345], np.uint32)
LONGS = np.array([0, 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1], np.uint64)
SINGLES = np.array([0.0, -0.0, 1.0, -1.5, np.inf, -np.inf, np.nan, 1e-45], np.float32)
DOUBLES = np.array([0.0, -0.0, 1.0, -1.5, np.inf, np.nan, 5e-324, 1.7e308])


def check(operation, result, *arguments):
    """Compare an operation on whole vectors and on every lane by itself; bits must agree."""
    arguments = [np.ascontiguousarray(a) for a in arguments]
    out = np.zeros_like(result)
    {1: on_one, 2: on_two, 3: on_three}[len(arguments)](operation)(out, *arguments)
    same_bits(out, result)
    single = numba.njit({1: lambda a: operation(a), 2: lambda a, b: operation(a, b),
                         3: lambda a, b, c: operation(a, b, c)}[len(arguments)])  # fmt: skip
    same_bits(np.array([single(*lane) for lane in zip(*arguments, strict=True)], out.dtype), result)


def on_one(operation):
    @numba.njit
    def vectors(out, a):
        simd.store(out, 0, operation(simd.load(a, 0, LANES)))

    return vectors


def on_two(operation):
    @numba.njit
    def vectors(out, a, b):
        simd.store(out, 0, operation(simd.load(a, 0, LANES), simd.load(b, 0, LANES)))

    return vectors


def on_three(operation):
    @numba.njit
    def vectors(out, a, b, c):
        x, y, z = simd.load(a, 0, LANES), simd.load(b, 0, LANES), simd.load(c, 0, LANES)
        simd.store(out, 0, operation(x, y, z))

    return vectors


def same_bits(actual, expected):
    """Equal type and bits; one NaN is as good as another."""
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual, expected)
    if actual.dtype.kind == "f":
        known = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(actual)[known], np.signbit(expected)[known])


# --- operators ---------------------------------------------------------------------------------


@numba.njit
def arithmetic(a, b, out):
    x, y = simd.load(a, 0, LANES), simd.load(b, 0, LANES)
    simd.store(out, 0, x + y)
    simd.store(out, LANES, x - y)
    simd.store(out, 2 * LANES, x * y)


@pytest.mark.parametrize("values", [WORDS, LONGS, SINGLES, DOUBLES], ids=lambda v: v.dtype.name)
def test_arithmetic_wraps_around_and_follows_ieee(values):
    a, b = values, np.roll(values, 3)
    out = np.zeros(3 * LANES, values.dtype)
    arithmetic(a, b, out)
    with np.errstate(all="ignore"):
        same_bits(out, np.concatenate([a + b, a - b, a * b]))


@numba.njit
def bits(a, b, shifts, out):
    x, y, n = simd.load(a, 0, LANES), simd.load(b, 0, LANES), simd.load(shifts, 0, LANES)
    simd.store(out, 0, x ^ y)
    simd.store(out, LANES, x & y)
    simd.store(out, 2 * LANES, x | y)
    simd.store(out, 3 * LANES, x << n)
    simd.store(out, 4 * LANES, x >> n)


@pytest.mark.parametrize("values", [WORDS, LONGS], ids=lambda v: v.dtype.name)
def test_operators_of_bits(values):
    width = 8 * values.itemsize
    a, b = values, np.roll(values, 3)
    shifts = np.array([0, 1, 2, 7, 31, width - 2, width - 1, width // 2], values.dtype)
    out = np.zeros(5 * LANES, values.dtype)
    bits(a, b, shifts, out)
    same_bits(out, np.concatenate([a ^ b, a & b, a | b, a << shifts, a >> shifts]))


# --- making and moving vectors -----------------------------------------------------------------


@pytest.mark.parametrize("values", [WORDS, LONGS, SINGLES, DOUBLES], ids=lambda v: v.dtype.name)
def test_broadcast(values):
    @numba.njit
    def spread(value, a, out):
        simd.store(out, 0, simd.broadcast(value, simd.load(a, 0, LANES)))
        return simd.broadcast(value, a[0])

    for value in values:
        out = np.zeros_like(values)
        alone = spread(value, values, out)
        same_bits(out, np.full_like(values, value))
        same_bits(np.array([alone], values.dtype), out[:1])


def test_broadcast_casts_to_the_type_of_its_example():
    @numba.njit
    def spread(a, b, out, words):
        simd.store(out, 0, simd.broadcast(0.1, simd.load(a, 0, LANES)))
        simd.store(words, 0, simd.broadcast(2**32 + 5, simd.load(b, 0, LANES)))

    out, words = np.zeros(LANES, np.float32), np.zeros(LANES, np.uint32)
    spread(SINGLES, WORDS, out, words)
    same_bits(out, np.full(LANES, 0.1, np.float32))
    same_bits(words, np.full(LANES, 5, np.uint32))


def test_iota_and_zeros():
    @numba.njit
    def make(longs, words, doubles, singles):
        simd.store(longs, 0, simd.iota(np.uint64(0), 16))
        simd.store(words, 0, simd.iota(np.uint32(0), 4))
        simd.store(doubles, 0, simd.zeros(0.0, 8))
        simd.store(singles, 0, simd.zeros(np.float32(0.0), 16))

    longs, words = np.full(17, 99, np.uint64), np.full(5, 99, np.uint32)
    doubles, singles = np.full(9, 99.0), np.full(17, 99.0, np.float32)
    make(longs, words, doubles, singles)
    same_bits(longs, np.append(np.arange(16, dtype=np.uint64), np.uint64(99)))
    same_bits(words, np.append(np.arange(4, dtype=np.uint32), np.uint32(99)))
    same_bits(doubles, np.append(np.zeros(8), 99.0))
    same_bits(singles, np.append(np.zeros(16, np.float32), np.float32(99.0)))


@pytest.mark.parametrize("at", [0, 1, 3, 8])
@pytest.mark.parametrize("values", [WORDS, LONGS, SINGLES, DOUBLES], ids=lambda v: v.dtype.name)
def test_load_and_store_at_any_place_and_nothing_beside_it(values, at):
    @numba.njit
    def move(source, i, out, j):
        simd.store(out, j, simd.load(source, i, LANES))

    source = np.concatenate([values[:at], values, values])
    out = np.full(20, 7, values.dtype)
    move(source, at, out, at + 1)
    expected = np.full(20, 7, values.dtype)
    expected[at + 1 : at + 1 + LANES] = source[at : at + LANES]
    same_bits(out, expected)


#: Float64 numbers whose float32 is exact, halfway (to even, down and up), tiny, too large.
LONG_FLOATS = np.array(
    [1.0, 1.0 + 2.0**-24, 1.0 + 3 * 2.0**-24, -0.1, 1e-46, -1e-42, 3.5e38, -math.inf]
)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_doubles_of_an_array_of_either_type(dtype):
    @numba.njit
    def move(source, out, back):
        doubles = simd.load_doubles(source, 1, LANES)
        simd.store(out, 1, doubles)
        simd.store_doubles(back, 1, doubles)

    with np.errstate(over="ignore", under="ignore"):
        source = np.append(7.0, LONG_FLOATS).astype(dtype)
    out, back = np.full(10, 9.0), np.full(10, 9.0, dtype)
    move(source, out, back)
    same_bits(out, np.concatenate([[9.0], source[1:].astype(np.float64), [9.0]]))
    same_bits(back, out.astype(dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_doubles_are_rounded_to_what_an_array_holds(dtype):
    @numba.njit
    def move(source, out, rounded):
        doubles = simd.load(source, 0, LANES)
        simd.store_doubles(out, 0, doubles)
        simd.store(rounded, 0, simd.rounded_like(out, doubles))

    out, rounded = np.zeros(LANES, dtype), np.zeros(LANES)
    move(LONG_FLOATS, out, rounded)
    with np.errstate(over="ignore", under="ignore"):
        expected = LONG_FLOATS.astype(dtype)
    same_bits(out, expected)
    same_bits(rounded, expected.astype(np.float64))


def test_prefetch_changes_nothing_and_may_lie_outside():
    @numba.njit
    def ask(a):
        for index in (-(2**40), -1, 0, 7, 8, 2**40):
            simd.prefetch(a, index)

    array = DOUBLES.copy()
    ask(array)
    same_bits(array, DOUBLES)


# --- arithmetic beyond operators ---------------------------------------------------------------


def test_fma_rounds_once():
    a = np.array([1.0 + 2.0**-30, 0.1, 1e200, 1e-200, 0.0, -1.0, np.inf, np.nan])
    b = np.array([1.0 - 2.0**-30, 10.0, 1e200, 1e-200, -1.0, -1.0, 0.0, 1.0])
    c = np.array([-1.0, -1.0, -np.inf, 5e-324, 0.0, -1.0, 1.0, 1.0])
    exact = [-(2.0**-60), 2.0**-54, np.nan, 5e-324, 0.0, 0.0, np.nan, np.nan]
    exact[2] = -np.inf
    check(simd.fma, np.array(exact), a, b, c)
    a, b, c = (x.astype(np.float32) for x in (1.0 + 2.0**-12 * np.ones(LANES),) * 3)
    exact = np.full(LANES, (1.0 + 2.0**-12) ** 2 + 1.0 + 2.0**-12)  # exact in float64
    check(simd.fma, exact.astype(np.float32), a, b, c)


def test_square_root():
    check(simd.square_root, np.sqrt(np.abs(DOUBLES)), np.abs(DOUBLES))
    values = np.array([0.0, 1.0, 2.0, 44.36142, 0.25, 3e-8, 1e10, np.inf], np.float32)
    check(simd.square_root, np.sqrt(values), values)


def test_zero_where_zero():
    a = np.array([np.inf, -np.inf, np.nan, 1.0, np.inf, 2.0, -3.0, 0.0])
    b = np.array([0.0, -0.0, 0.0, 1.0, np.nan, 5e-324, -1.0, 0.0])
    expected = np.array([0.0, 0.0, 0.0, 1.0, np.inf, 2.0, -3.0, 0.0])
    check(simd.zero_where_zero, expected, a, b)


def test_one_of_two_where_zero():
    a, b, c = DOUBLES, np.roll(DOUBLES, 3), np.roll(DOUBLES, 5)
    check(simd.select_zero, np.where(a == 0.0, b, c), a, b, c)


def test_conversions():
    check(simd.unsigned_to_float, WORDS.astype(np.float32), WORDS)
    check(simd.signed_to_float, WORDS.view(np.int32).astype(np.float32), WORDS)
    check(simd.float_bits, SINGLES.view(np.uint32), SINGLES)
    check(simd.float_from_bits, SINGLES, SINGLES.view(np.uint32))
    check(simd.to_double, SINGLES.astype(np.float64), SINGLES)


def test_unsigned_to_float_rounds_to_even():
    words = np.array(
        [2**24 + 1, 2**24 + 3, 2**32 - 1, 2**32 - 128, 2**32 - 129, 2**31 + 128, 2**31 + 384, 7],
        np.uint32,
    )
    nearest = [2**24, 2**24 + 4, 2**32, 2**32, 2**32 - 256, 2**31, 2**31 + 512, 7]
    check(simd.unsigned_to_float, np.array(nearest, np.float32), words)


def test_arithmetic_shift_keeps_the_sign():
    shifts = np.array([0, 1, 31, 4, 31, 1, 31, 3], np.uint32)
    expected = (WORDS.view(np.int32) >> shifts.astype(np.int32)).view(np.uint32)
    check(simd.arithmetic_shift, expected, WORDS, shifts)


def test_low_word():
    check(simd.low_word, LONGS.astype(np.uint32), LONGS)
    check(simd.low_word, WORDS, WORDS)


@pytest.mark.mostly_long
@pytest.mark.parametrize("factor", [0, 1, 0xD2511F53, 0xFFFFFFFF])
@pytest.mark.parametrize("scratch", [0, 0xFFFFFFFF00000000])
def test_products_of_words(factor, scratch):
    """In both forms of a word; the high half of a uint64 is scratch and must not matter."""

    @numba.njit
    def multiply(word, factor, products, high, low):
        w = simd.load(word, 0, LANES)
        product = simd.word_product(w, factor)
        simd.store(products, 0, product)
        simd.store(high, 0, simd.low_word(simd.high_half(product, w)))
        simd.store(low, 0, simd.low_word(simd.low_half(product, w)))

    @numba.njit
    def alone(word, factor):
        product = simd.word_product(word, factor)
        high, low = simd.high_half(product, word), simd.low_half(product, word)
        return product, simd.low_word(high), simd.low_word(low)

    expected = WORDS.astype(np.uint64) * np.uint64(factor)
    for words in (WORDS, WORDS.astype(np.uint64) | np.uint64(scratch)):
        products, high, low = np.zeros(LANES, np.uint64), *np.zeros((2, LANES), np.uint32)
        multiply(words, np.uint64(factor), products, high, low)
        same_bits(products, expected)
        same_bits(high, (expected >> np.uint64(32)).astype(np.uint32))
        same_bits(low, expected.astype(np.uint32))
        for i in range(LANES):
            assert alone(words[i], np.uint64(factor)) == (products[i], high[i], low[i])


def test_doubles_of_words_and_of_bits():
    @numba.njit
    def convert(words, bits, from_words, from_bits):
        simd.store(from_words, 0, simd.unsigned_to_double(simd.load(words, 0, LANES)))
        simd.store(from_bits, 0, simd.double_from_bits(simd.load(bits, 0, LANES)))

    from_words, from_bits = np.zeros((2, LANES))
    convert(WORDS, DOUBLES.view(np.uint64), from_words, from_bits)
    same_bits(from_words, WORDS.astype(np.float64))
    same_bits(from_bits, DOUBLES)


@pytest.mark.parametrize("lanes", [1, 8])
def test_lanes_not_below(lanes):
    @numba.njit
    def bits(a, b):
        return simd.lanes_not_below(simd.load(a, 0, lanes), simd.load(b, 0, lanes))

    other = np.array([0.0, 1.0, 0.5, np.nan, 0.0, 1.0, -1.0, 2.0])
    for a, b in ((DOUBLES, other), (other, DOUBLES)):
        wanted = ~(a[:lanes] < b[:lanes])
        assert bits(a, b) == int(np.packbits(wanted, bitorder="little")[0])


def test_interleave():
    @numba.njit
    def mix(a, b, out):
        simd.store(out, 0, simd.interleave(simd.load(a, 0, LANES), simd.load(b, 0, LANES)))

    out = np.zeros(2 * LANES, np.uint32)
    a, b = LONGS, LONGS[::-1] * np.uint64(3)
    mix(a, b, out)
    same_bits(out, np.stack([a, b], axis=1).ravel().astype(np.uint32))


@pytest.mark.parametrize("values", [WORDS, LONGS, SINGLES, DOUBLES], ids=lambda v: v.dtype.name)
def test_halves(values):
    @numba.njit
    def cut(a, lower, upper):
        vector = simd.load(a, 0, LANES)
        simd.store(lower, 0, simd.lower_half(vector))
        simd.store(upper, 0, simd.upper_half(vector))

    lower, upper = np.zeros((2, LANES // 2), values.dtype)
    cut(values, lower, upper)
    same_bits(lower, values[: LANES // 2])
    same_bits(upper, values[LANES // 2 :])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_sum_of_lanes_adds_upper_halves_to_lower_ones(dtype):
    @numba.njit
    def total(a):
        return simd.horizontal_sum(simd.load(a, 0, LANES))

    values = np.array([1e8, 1.0, -1e8, 1e-8, 3.0, 0.1, 1e7, -0.3], dtype)
    halved = values
    while halved.size > 1:
        halved = halved[: halved.size // 2] + halved[halved.size // 2 :]
    assert total(values) == halved[0]
    assert total(values[::-1].copy()) != values.astype(np.float64).sum()  # the order matters
    assert np.isnan(total(SINGLES.astype(dtype)))


# --- tuples of vectors --------------------------------------------------------------------------


def test_numbers_are_broadcast_one_by_one():
    @numba.njit
    def spread(a, out):
        x, y = simd.broadcast_each((2.5, -1.0), simd.load(a, 0, LANES))
        simd.store(out, 0, x)
        simd.store(out, LANES, y)

    out = np.zeros(2 * LANES)
    spread(DOUBLES, out)
    same_bits(out, np.repeat([2.5, -1.0], LANES))


def test_every_sum_gets_its_product_rounded_once():
    three = simd.repeat(3)
    swap = simd.choose((2, 0))

    @numba.njit
    def add(a, b, out):
        x, y = simd.load(a, 0, LANES), simd.load(b, 0, LANES)
        sums = simd.fma_each(x, (x, y, x + y), three(y))
        last, first = swap(sums)
        for at, vector in enumerate((sums[0], sums[1], sums[2], last, first)):
            simd.store(out, at * LANES, vector)

    a = np.linspace(0.1, 0.8, LANES)
    b = a[::-1] / 3.0
    out = np.zeros(5 * LANES)
    add(a, b, out)
    expected = [
        [
            float(Fraction(p) * Fraction(q) + Fraction(r))
            for p, q, r in zip(a.tolist(), factor.tolist(), b.tolist(), strict=True)
        ]
        for factor in (a, b, a + b)
    ]
    same_bits(out, np.array([*expected, expected[2], expected[0]]).ravel())


def test_lanes_go_to_columns_of_a_row():
    columns = (4, 0)
    add, write = simd.add_lanes(columns), simd.write_lanes(columns)

    @numba.njit
    def fill(a, added, written):
        x = simd.load(a, 0, LANES)
        add(added, (x, x + x))
        write(written, (x, x + x))

    a = np.arange(8.0)
    added, written = np.full(6, 100.0), np.full(6, 100.0)
    fill(a, added, written)
    same_bits(added, np.array([156.0, 100.0, 100.0, 100.0, 128.0, 100.0]))
    same_bits(written, np.array([56.0, 100.0, 100.0, 100.0, 28.0, 100.0]))


def test_sums_go_down_a_column():
    @numba.njit
    def fill(a, out):
        x = simd.load(a, 0, LANES)
        simd.write_column(out, 1, 2, (x, x + x))

    out = np.full((4, 3), 7.0)
    fill(np.arange(8.0), out)
    expected = np.full((4, 3), 7.0)
    expected[1:3, 2] = 28.0, 56.0
    same_bits(out, expected)


# --- all of them -------------------------------------------------------------------------------


def test_every_intrinsic_is_tried():
    source = Path(__file__).read_text()
    kind = type(simd.load)
    names = [name for name, value in vars(simd).items() if isinstance(value, kind)]
    assert len(names) > 20
    assert [name for name in names if not re.search(rf"simd\.{name}\b", source)] == []
