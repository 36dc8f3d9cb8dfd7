"""The machine that runs PTX computes as a GPU does, and refuses what it does not know."""

import math
import random
import re
from fractions import Fraction

import numpy as np
import pytest

from . import machine, numbers


def nearest_single(exact):
    """Float32 nearest to a fraction, of even bits where two are."""
    near = np.float32(float(exact))
    around = [np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))]
    return float(min(around, key=lambda y: (abs(Fraction(float(y)) - exact), y.view(np.int32) & 1)))


def test_multiply_and_add_round_once():
    rng = random.Random(0)
    for trial in range(3000):
        a, b = (math.ldexp(rng.randrange(2**23, 2**24), -23) for _ in "ab")
        # Sums halfway between two float32, but for a little, are where rounding twice goes wrong.
        c = math.ldexp(rng.randrange(2**23, 2**24), rng.randrange(-50, 4)) * rng.choice((-1, 1))
        if trial % 2:
            a, b, c = 1.0 + 2.0**-12, 1.0 + 2.0**-12, math.ldexp(rng.choice((-1, 1)), -50 - trial)
        exact = Fraction(a) * Fraction(b) + Fraction(c)
        assert numbers.fma_single(a, b, c) == nearest_single(exact)
        a, b, c = (math.ldexp(rng.random() - 0.5, rng.randrange(-30, 30)) for _ in "abc")
        c = -a * b if trial % 3 == 0 else c
        exact = float(Fraction(a) * Fraction(b) + Fraction(c))
        assert numbers.fma_double(a, b, c) == exact
        assert numbers._fma(a, b, c) == exact
    assert numbers._fma(1e200, 1e200, -math.inf) == -math.inf
    assert numbers._fma(1e200, 1e200, 1.0) == math.inf
    assert numbers._fma(1e-200, 1e-200, 1e-310) == 1e-310


def test_what_is_not_known_is_refused(text):
    changed = re.sub(r"shr\.s32", "bfe.s32", text("fill_normals"), count=1)
    with pytest.raises(NotImplementedError, match=r"bfe\.s32 %r\d+, %r\d+, 23"):
        machine.Kernel(changed)
