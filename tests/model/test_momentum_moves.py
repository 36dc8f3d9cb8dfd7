"""Moves of many steps with momentum, rest and stability, against arithmetic of 80 digits."""

import mpmath as mp
import numpy as np
import pytest

from suspalign_fast.engines.moves import PlainMoves, VelocityMoves
from suspalign_fast.kernels.powers import CHUNK
from suspalign_fast.model.moves import (
    MomentumMove,
    joined,
    momentum_powers,
    momentum_transition,
    transition,
    triangular,
)
from suspalign_fast.model.noise import DiagonalNoise
from suspalign_fast.model.optimizer import SGD, Momentum
from suspalign_fast.model.problem import Quadratic
from suspalign_fast.model.run import Run
from suspalign_fast.model.spectrum.spectrum import Spectrum
from suspalign_fast.model.stability import additive, of_batches, rest_covariance
from suspalign_fast.model.step_size import ConstantStep, Schedule

OPTIMIZERS = [
    Momentum(beta, nesterov) for beta in (0.3, 0.9, 0.99, 0.9999) for nesterov in (False, True)
]
STEPS = [1, 2, 3, 10, 1000, 123_457, 10**6, 10**9]


def exact_moves(n, x, optimizer):
    """M^n, and C_n of a unit noise of c and y, as matrices of mpmath."""
    p, q, beta = (mp.mpf(factor) for factor in optimizer.factors)
    one = mp.matrix([[1 - p * x, -q], [x, beta]])
    push = mp.matrix([-p, 1])
    power, spread = one, push * push.T
    for bit in bin(n)[3:]:
        spread, power = spread + power * spread * power.T, power * power
        if bit == "1":
            spread, power = push * push.T + one * spread * one.T, power * one
    return power, spread


def products_for(optimizer):
    """From 1e-14 to above the edge, critical damping among them."""
    edge, beta = optimizer.largest, optimizer.factors.decay
    critical = (1.0 - np.sqrt(beta)) ** 2
    if optimizer.nesterov:
        critical = (1.0 - np.sqrt(1.0 - (1.0 - beta) ** 2 / (1.0 + beta) ** 2)) / 2.0
    shares = np.array([1e-3, 0.2, 0.5, 0.9, 0.9999, 1.02])
    return np.concatenate([[1e-14, 1e-9, 1e-4, 0.97, critical], edge * shares])


@pytest.mark.mostly_long
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_powers_have_all_their_digits(optimizer):
    x = products_for(optimizer)
    found = momentum_powers(optimizer, np.array(STEPS), x)
    with mp.workdps(80):
        for i, n in enumerate(STEPS):
            for j, value in enumerate(x.tolist()):
                power, spread = exact_moves(n, mp.mpf(value), optimizer)
                m11, m12, m21, m22, k11, k21, k22 = found[:, i, j].tolist()
                size = max(abs(entry) for entry in power)
                for number, entry in zip((m11, m12, m21, m22), power, strict=True):
                    if size < 1e290:
                        allowed = 2e-15 * abs(entry) + 1e-31 * n * size + mp.mpf("1e-290")
                        assert abs(number - entry) < allowed
                    else:
                        assert abs(number) > 1e280
                c, y = mp.sqrt(spread[0, 0]), mp.sqrt(spread[1, 1])
                if c > 1e140:
                    continue
                assert abs(k11 / c - 1) < 1e-15
                assert abs(k21 - spread[1, 0] / c) < 1e-15 * y
                rest = spread[1, 1] - spread[1, 0] ** 2 / spread[0, 0]
                if rest > 1e-24 * y**2:
                    assert abs(k22 / mp.sqrt(rest) - 1) < 1e-14
                elif n == 1:
                    assert k22 == 0.0


def test_plain_sgd_is_among_them():
    x = np.array([1e-12, 0.3, 1.0, 1.7, 2.0])
    found = momentum_powers(SGD(), np.array([1, 7, 1000]), x)
    for i, n in enumerate((1, 7, 1000)):
        a, b = transition(ConstantStep(1.0), 0, n, x, np.ones_like(x))
        np.testing.assert_allclose(found[0, i], a, rtol=1e-13, atol=1e-300)
        np.testing.assert_allclose(found[4, i], b, rtol=1e-13)


def test_pieces_make_no_difference():
    x, optimizer = np.linspace(0.0, 3.0, 2 * CHUNK + 5), Momentum(0.9)
    steps = np.array([3, 77])
    whole = momentum_powers(optimizer, steps, x)
    for part in (slice(0, 1), slice(CHUNK - 3, CHUNK + 3), slice(x.size - 2, None)):
        assert np.array_equal(momentum_powers(optimizer, steps, x[part]), whole[:, :, part])
    assert np.array_equal(momentum_powers(optimizer, steps[1:], x), whole[:, 1:])


def test_what_overflows_is_infinite():
    found = momentum_powers(Momentum(0.9), np.array([10**9]), np.array([9.0, 0.0]))[:, 0]
    assert np.isinf(found[:5, 0]).all()
    assert not np.isnan(found).any()
    # Without curvature the velocity decays and what it has moved stays.
    np.testing.assert_allclose(found[:4, 1], [1.0, -9.0, 0.0, 0.0], rtol=1e-15, atol=0)
    assert found[4, 1] == pytest.approx(10.0 * np.sqrt(1e9), rel=1e-6)


def steps_one_by_one(etas, lam, optimizer):
    """Matrix and covariance of c and v, by the equations of a step."""
    p, q, beta = optimizer.factors
    power, spread = np.eye(2), np.zeros((2, 2))
    for eta in etas:
        one = np.array([[1.0 - p * eta * lam, -q * eta], [lam, beta]])
        push = np.array([-p * eta, 1.0])
        power, spread = one @ power, one @ spread @ one.T + np.outer(push, push)
    return power, spread


def assert_is(move, level, power, spread, rtol=1e-11):
    cc, cv, vc, vv, k_cc, k_vc, k_vv = (part[level] for part in move)
    scale = np.abs(power).max()
    np.testing.assert_allclose([[cc, cv], [vc, vv]], power, rtol=rtol, atol=rtol * scale)
    factor = np.array([[k_cc, 0.0], [k_vc, k_vv]])
    size = np.sqrt(np.diag(spread))
    atol = rtol * np.outer(size, size).max()
    np.testing.assert_allclose(factor @ factor.T, spread, rtol=rtol, atol=atol)


SIZES = np.array([0.3, 0.05, 0.0, 0.2, 0.4, 0.01, 0.3, 0.3])
LAM, WEIGHT = np.array([3.0, 1.0, 1e-9, 0.0, 2.0]), np.array([1.0, 0.5, 1.7, 1.0, 0.0])


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_schedules_are_step_after_step(optimizer, count):
    move = momentum_transition(Schedule(SIZES), 0, count, LAM, WEIGHT, optimizer)
    for level in range(LAM.size):
        known = steps_one_by_one(SIZES[:count] * WEIGHT[level], LAM[level], optimizer)
        assert_is(move, level, *known)
    # Of one step the noise is one number: nothing else, not even rounding.
    assert (move.noise_vv[WEIGHT > 0.0] == 0.0).all() == (count == 1)
    assert (move.noise_vc[WEIGHT == 0.0] == 0.0).all()


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("rule", [ConstantStep(0.2), Schedule(SIZES)], ids=["constant", "schedule"])
@pytest.mark.parametrize("update", [(1.0, 1.0), (0.0, 1.7)])
def test_engines_move_by_them(rule, update, optimizer):
    """Several moves at once, of directions without curvature, noise or step among others."""
    std = np.array([0.0, 1.0, 2.0, 3.0, 0.5])
    problem = Quadratic(Spectrum(LAM, 2), DiagonalNoise(std))
    run = Run(problem, rule, 8, engine="jump", update=update, optimizer=optimizer)
    steps, gaps = np.array([1, 4, 8]), np.array([1, 3, 4])
    lam, weight = problem.spectrum.eigenvalues, problem.spectrum.per_level(update)
    for _, out in VelocityMoves(run).to(steps):
        for i, (stop, gap) in enumerate(zip(steps.tolist(), gaps.tolist(), strict=True)):
            move = momentum_transition(rule, stop - gap, stop, lam, weight, optimizer)
            noisy = [problem.stds * part for part in move[4:]]
            np.testing.assert_allclose(out[:, i], [*move[:4], *noisy], rtol=1e-15, atol=1e-300)


@pytest.mark.parametrize("optimizer", [SGD(), Momentum(0.9)], ids=str)
def test_coefficients_that_were_written_over_are_not_taken(optimizer):
    """Strides that come back after others, in later calls."""
    problem, rule = Quadratic(Spectrum([3.0, 1.0, 0.5], 1)), ConstantStep(0.2)
    run = Run(problem, rule, 60, engine="jump", optimizer=optimizer)
    has_velocity = optimizer.has_velocity

    def moves():
        lam, std = problem.spectrum.eigenvalues, problem.stds
        return VelocityMoves(run) if has_velocity else PlainMoves(rule, lam, std)

    kept = moves()
    for steps in ([4, 8, 12], [16], [17, 19], [23, 27], [31, 35, 38], [42, 46]):
        fresh, at = moves(), np.array(steps)
        fresh.now[:] = kept.now
        (batch, first), *others = [(b, out.copy()) for b, out in kept.to(at)]
        (same, again), *more = [(b, out.copy()) for b, out in fresh.to(at)]
        assert batch == same
        np.testing.assert_allclose(first, again, rtol=1e-14)
        for (_, out), (_, other) in zip(others, more, strict=True):
            np.testing.assert_allclose(out, other, rtol=1e-14)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_a_constant_step_size_and_the_schedule_of_it_agree(optimizer):
    rule = ConstantStep(0.2)
    for count in (1, 2, 9):
        move = momentum_transition(rule, 3, 3 + count, LAM, WEIGHT, optimizer)
        for level in range(LAM.size):
            known = steps_one_by_one(np.full(count, 0.2) * WEIGHT[level], LAM[level], optimizer)
            assert_is(move, level, *known)


@pytest.mark.parametrize("rule", [ConstantStep(0.2), Schedule(SIZES)], ids=["constant", "schedule"])
def test_a_move_goes_on_from_another(rule):
    optimizer = Momentum(0.9)
    first = momentum_transition(rule, 0, 3, LAM, WEIGHT, optimizer)
    whole = momentum_transition(rule, 0, 8, LAM, WEIGHT, optimizer)
    after = momentum_transition(rule, 3, 8, LAM, WEIGHT, optimizer, before=first)
    second = momentum_transition(rule, 3, 8, LAM, WEIGHT, optimizer)
    for found in (after, joined(first, second)):
        for part, expected in zip(found, whole, strict=True):
            np.testing.assert_allclose(part, expected, rtol=1e-12, atol=1e-14)
    still = momentum_transition(rule, 3, 3, LAM, WEIGHT, optimizer, before=first)
    assert isinstance(still, MomentumMove)
    assert still is first


def test_a_triangular_factor_keeps_what_a_difference_of_squares_loses():
    c, v = np.array([1.0]), np.array([1.0])
    length, along, alone = triangular((c, np.zeros(1)), (v, np.array([1e-12])))
    assert (length.item(), along.item(), alone.item()) == (1.0, 1.0, 1e-12)
    length, along, alone = triangular((0.0 * c, 0.0 * c), (3.0 * v, 4.0 * v))
    assert (length.item(), along.item(), alone.item()) == (0.0, 0.0, 5.0)


# --- rest and stability ----------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [SGD(), *OPTIMIZERS], ids=str)
def test_rest_is_where_a_step_changes_nothing(optimizer):
    p, q, beta = optimizer.factors
    with mp.workdps(60):
        for x in (1e-14, 1e-4, 0.5, 0.5 * optimizer.largest, 0.999 * optimizer.largest):
            c_sq, c_y, y_sq = (mp.mpf(v.item()) for v in rest_covariance(np.array([x]), optimizer))
            one = mp.matrix([[1 - mp.mpf(p) * x, -q], [x, beta]])
            push, rest = mp.matrix([-p, 1]), mp.matrix([[c_sq, c_y], [c_y, y_sq]])
            after = one * rest * one.T + push * push.T
            lost = mp.sqrt(c_sq * y_sq)
            assert abs(after[0, 0] - c_sq) < 1e-14 * c_sq
            assert abs(after[0, 1] - c_y) < 1e-14 * lost
            assert abs(after[1, 1] - y_sq) < 1e-14 * max(y_sq, x**2 * c_sq)


def test_rest_is_where_long_times_lead():
    for optimizer in OPTIMIZERS:
        x = np.array([1e-3, 0.2, 0.5, 0.9, 0.9999]) * optimizer.largest
        k_cc, k_yc, k_yy = momentum_powers(optimizer, np.array([10**9]), x)[4:, 0]
        c_sq, c_y, y_sq = rest_covariance(x, optimizer)
        np.testing.assert_allclose(k_cc**2, c_sq, rtol=3e-12)
        np.testing.assert_allclose(k_cc * k_yc, c_y, rtol=3e-12)
        np.testing.assert_allclose(k_yc**2 + k_yy**2, y_sq, rtol=3e-12)


def random_optimizer(rng):
    beta = float(rng.choice([rng.uniform(), 1.0 - 10.0 ** rng.uniform(-4, -1)]))
    return Momentum(beta, bool(rng.integers(2)))


def test_the_edge_is_where_the_spectral_radius_is_one():
    rng = np.random.default_rng(0)
    for _ in range(3_000):
        optimizer = random_optimizer(rng)
        p, q, beta = optimizer.factors
        spectrum = Spectrum([10.0 ** rng.uniform(-3, 3), 1e-4], 1)
        edge = additive(spectrum, 0.0, optimizer=optimizer).largest
        eta = edge * float(rng.choice([rng.uniform(0.0, 2.0), 0.9999, 1.0001]))
        x = eta * float(spectrum.eigenvalues[0])
        radius = np.abs(np.linalg.eigvals([[1.0 - p * x, -q], [x, beta]])).max()
        assert additive(spectrum, eta, optimizer=optimizer).is_stable == (radius < 1.0)


def data_step(spectrum, etas, batch, optimizer):
    """Matrix of a step of the second moments (c^2, c y, y^2) of all levels, for y = eta v."""
    p, q, beta = optimizer.factors
    lam, count = spectrum.eigenvalues, spectrum.multiplicities
    step = np.zeros((3 * lam.size, 3 * lam.size))
    for i, x in enumerate(etas * lam):
        (a, b), (c, d) = (1.0 - p * x, -q), (x, beta)
        rows = slice(3 * i, 3 * i + 3)
        step[rows, rows] = [[a * a, 2 * a * b, b * b], [a * c, a * d + b * c, b * d],
                            [c * c, 2 * c * d, d * d]]  # fmt: skip
        gain = etas[i] ** 2 / batch * np.array([p * p, -p, 1.0])
        step[rows, 3 * i] += gain * lam[i] ** 2
        step[rows, ::3] += np.outer(gain * count[i] * lam[i], lam)
    return step


@pytest.mark.long
def test_the_edge_under_mini_batches_is_where_the_spectral_radius_is_one():
    rng = np.random.default_rng(1)
    by_feedback = 0
    for _ in range(1_000):
        optimizer, n = random_optimizer(rng), int(rng.integers(2, 7))
        lam, counts = np.sort(10.0 ** rng.uniform(-3, 1, n))[::-1], rng.integers(1, 20, n)
        spectrum = Spectrum(lam, int(counts[0]), counts)
        batch = int(rng.choice([1, 2, 7, 30, 1000]))
        weights = [(1.0, 1.0), (0.5, 1.7)][rng.integers(2)]
        edge = of_batches(spectrum, 0.0, batch, weights, optimizer).largest
        for share in (0.5, 0.999, 1.001, 1.5):
            etas = share * edge * spectrum.per_level(weights)
            radius = np.abs(np.linalg.eigvals(data_step(spectrum, etas, batch, optimizer))).max()
            found = of_batches(spectrum, share * edge, batch, weights, optimizer)
            assert (radius < 1.0) == (share < 1.0) == found.is_stable
        feedback = of_batches(spectrum, 0.999 * edge, batch, weights, optimizer).feedback
        by_feedback += feedback > 0.99
    assert by_feedback > 300


def test_beta_zero_is_plain_sgd_there():
    spectrum = Spectrum.two_level(100, 1, 10.0, 1.0)
    for optimizer in (Momentum(0.0), Momentum(0.0, nesterov=True)):
        assert additive(spectrum, 0.1, optimizer=optimizer) == additive(spectrum, 0.1)
        mine = of_batches(spectrum, 0.01, 3, optimizer=optimizer)
        assert mine == of_batches(spectrum, 0.01, 3)
    # And so it is of the formula that momentum takes, close to it.
    mine = of_batches(spectrum, 0.01, 3, optimizer=Momentum(1e-14))
    np.testing.assert_allclose(mine, of_batches(spectrum, 0.01, 3), rtol=1e-12)


def test_nothing_is_too_large_where_nothing_moves():
    spectrum = Spectrum([1.0, 0.0], 1, [1, 3])
    assert additive(spectrum, 1.0, (0.0, 1.0), Momentum(0.9)).largest == np.inf
    assert of_batches(spectrum, 1.0, 1, (0.0, 1.0), Momentum(0.9)).largest == np.inf
