"""Explicit SIMD vectors inside Numba functions.

Loop vectorizers choose the vector width, and with it the order of every sum, by target and
context. Here the width is written down instead, so a kernel gives the same bits wherever it is
inlined and whatever processor runs it; LLVM maps a vector to as many registers as it needs.
Every operation below also takes plain scalars, so a function written with them serves both.
"""

from .vector_operations import (
    arithmetic_shift,
    double_from_bits,
    float_bits,
    float_from_bits,
    fma,
    high_half,
    lanes_not_below,
    load,
    load_doubles,
    low_half,
    low_word,
    prefetch,
    rounded_like,
    select_zero,
    signed_to_float,
    square_root,
    store,
    store_doubles,
    to_double,
    unsigned_to_double,
    unsigned_to_float,
    word_product,
    zero_where_zero,
)
from .vectors import (
    Vector,
    broadcast,
    horizontal_sum,
    interleave,
    iota,
    lower_half,
    upper_half,
    zeros,
)

__all__ = [
    "Vector",
    "arithmetic_shift",
    "broadcast",
    "double_from_bits",
    "float_bits",
    "float_from_bits",
    "fma",
    "high_half",
    "horizontal_sum",
    "interleave",
    "iota",
    "lanes_not_below",
    "load",
    "load_doubles",
    "low_half",
    "low_word",
    "lower_half",
    "prefetch",
    "rounded_like",
    "select_zero",
    "signed_to_float",
    "square_root",
    "store",
    "store_doubles",
    "to_double",
    "unsigned_to_double",
    "unsigned_to_float",
    "upper_half",
    "word_product",
    "zero_where_zero",
    "zeros",
]
