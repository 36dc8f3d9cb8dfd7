"""Moves of many steps against arithmetic of 60 digits."""

import mpmath as mp
import numpy as np
import pytest

from suspalign_fast.engines.moves import PlainMoves
from suspalign_fast.kernels.powers import CHUNK, write_moves
from suspalign_fast.model.moves import log_factor, transition
from suspalign_fast.model.step_size import ConstantStep, Schedule

RNG = np.random.default_rng(0)
X = np.concatenate(
    [
        10.0 ** RNG.uniform(-16.0, 0.3, 60),
        1.0 - 10.0 ** RNG.uniform(-12.0, -1.0, 10),
        1.0 + 10.0 ** RNG.uniform(-12.0, -1.0, 10),
        2.0 - 10.0 ** RNG.uniform(-12.0, -1.0, 10),
        [0.0, 1.0, 2.0, 2.0001, 2.5],
    ]
)


def moves_of(x, steps, eta=1.0, push=1.0):
    a, b = np.empty((2, len(steps), x.size))
    pushes = np.full(x.size, push)
    write_moves(
        0, x.size, np.asarray(steps, float), eta, x / eta, pushes, log_factor(eta * (x / eta)), a, b
    )
    return a, b


@pytest.mark.parametrize("n", [1, 2, 3, 7, 100, 12_345, 10**6, 10**9])
def test_factor_and_noise_keep_their_digits(n):
    (a,), (b,) = moves_of(X, [n])
    with mp.workdps(60):
        for x, factor, noise in zip(X.tolist(), a.tolist(), b.tolist(), strict=True):
            power = (1 - mp.mpf(x)) ** n
            total = n if x in (0.0, 2.0) else (1 - power**2) / (mp.mpf(x) * (2 - mp.mpf(x)))
            # The logarithm has a rounding error, n times which is in the exponent.
            allowed = 4e-16 * (2.0 + abs(float(mp.log(abs(power)))) if power else 2.0)
            if 1e-300 < abs(power) < 1e300:
                assert abs(mp.mpf(factor) / power - 1) < max(allowed, 1e-15)
            elif abs(power) <= 1e-300:
                assert abs(factor) < 1e-299
            if total < 1e300:
                assert abs(mp.mpf(noise) ** 2 / total - 1) < max(allowed, 2e-15)


def test_beyond_what_numbers_hold():
    (a,), (b,) = moves_of(np.array([0.5, 1.0, 3.0, 1.9]), [100_001])
    assert a.tolist() == [0.0, 0.0, -np.inf, 0.0]
    assert np.isinf(b[2])
    (a,), (b,) = moves_of(np.array([3.0]), [10**5], push=0.0)
    assert b.tolist() == [0.0]


@pytest.mark.long
def test_pieces_and_layouts_make_no_difference():
    x = np.linspace(0.0, 1.9, 3 * CHUNK + 7)
    steps = np.array([1.0, 5.0, 77.0])
    whole = moves_of(x, steps)
    a, b = np.empty((2, 3, x.size))
    push = np.broadcast_to(1.0, x.shape)
    for first in range(0, x.size, 100):
        last = min(first + 100, x.size)
        write_moves(first, last, steps, 1.0, x, push, log_factor(x), a, b)
    assert (a == whole[0]).all()
    assert (b == whole[1]).all()


@pytest.mark.parametrize("rule", [ConstantStep(0.3), Schedule(np.linspace(0.1, 0.5, 40))])
def test_a_move_has_the_same_coefficients_in_any_company(rule):
    rate, push = np.linspace(0.1, 2.0, 30), np.ones(30)
    steps = np.array([1, 2, 3, 9, 10, 14, 30, 31])
    found = {}
    for cut in ([8], [3, 8], [1, 2, 3, 8], [5, 6, 8]):
        moves, first = PlainMoves(rule, rate, push), 0
        for stop in cut:
            for batch, (a, b) in moves.to(steps[first:stop]):
                for i, step in enumerate(steps[first:stop][batch].tolist()):
                    one = np.array([a[min(i, len(a) - 1)], b[min(i, len(b) - 1)]])
                    assert (found.setdefault(step, one) == one).all()
            first = stop
    for stop, start in zip(steps.tolist(), [0, *steps.tolist()], strict=False):
        assert (np.array(transition(rule, start, stop, rate, push)) == found[stop]).all()


def test_no_step_is_no_move():
    a, b = transition(ConstantStep(1.0), 5, 5, np.array([0.5, 1.0]), np.ones(2))
    assert a.tolist() == [1.0, 1.0]
    assert b.tolist() == [0.0, 0.0]
