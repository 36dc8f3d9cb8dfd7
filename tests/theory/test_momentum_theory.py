"""Exact theory under momentum: against 60 digits, literal steps, literal batches, and itself."""

import mpmath as mp
import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast import theory
from suspalign_fast.model.stability import of_batches, returned_loss
from suspalign_fast.theory import levels, momentum_batches
from suspalign_fast.theory import levels as resolution
from suspalign_fast.theory.momentum_batches import (
    MOST_LEVELS,
    MeanSquares,
    by_matrices,
    stationary_squares,
)

from ..helpers.pairs import all_pairs
from ..model.test_momentum_moves import data_step, exact_moves, products_for

OPTIMIZERS = [
    sa.Momentum(beta, nesterov) for beta in (0.3, 0.9, 0.99, 0.9999) for nesterov in (False, True)
]
BALL, NESTEROV = sa.Momentum(0.9), sa.Momentum(0.9, nesterov=True)
WEIGHTS = [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.5, 1.7)]


def differences(found, expected):
    """Largest relative difference of the moments that are known."""
    names = [name for name in theory.MOMENTS if name not in expected.unknown]
    largest = 0.0
    for name in names:
        x, y = (np.atleast_1d(getattr(moments, name)) for moments in (found, expected))
        assert np.array_equal(x == 0.0, y == 0.0)
        x, y = x[y != 0.0], y[y != 0.0]
        largest = max(largest, float(np.max(np.abs(x / y - 1.0), initial=0.0)))
    return largest


# --- additive noise --------------------------------------------------------------------------


@pytest.mark.mostly_long
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("initial", [2.0, "given"])
def test_any_time_to_eleven_digits(optimizer, initial):
    steps = [1, 2, 7, 1000, 123_457, 10**6, 10**9]
    top = 0.999_999 * optimizer.largest
    for x in products_for(optimizer)[:-2]:
        start = [0.0, 3.0] if initial == "given" else initial
        spectrum = sa.Spectrum([top, x], 1, [1, 4])
        problem = sa.Quadratic(spectrum, sa.DiagonalNoise([0.0, 0.7]), start)
        exact = theory.expected(problem, 1.0, steps, optimizer=optimizer)
        with mp.workdps(60):
            for i, n in enumerate(steps):
                power, spread = exact_moves(n, mp.mpf(x), optimizer)
                square = power[0, 0] ** 2 * (9 if initial == "given" else 4)
                square += mp.mpf(0.7) ** 2 * spread[0, 0]
                loss = 4 * mp.mpf(x) * square / 2
                assert abs(exact.loss_bulk_mean[i] / loss - 1) < 1e-13
                assert abs(exact.grad_sq_bulk_mean[i] / (2 * mp.mpf(x) * loss) - 1) < 1e-13


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_long_times_reach_the_stationary_state(optimizer):
    spectrum = sa.Spectrum([3.0, 1.0, 0.2, 0.0], 40, [40, 500, 1000, 7])
    problem = sa.Quadratic(spectrum, sa.HessianNoise(0.4))
    for share in (0.01, 0.5, 0.99):
        eta = share * optimizer.largest / 3.0
        late = theory.expected(problem, eta, [10**9], optimizer=optimizer)
        final = theory.stationary(problem, eta, optimizer=optimizer)
        assert differences(late, final) < 1e-12
        assert late.stability == final.stability
        assert final.stability.largest == optimizer.largest / 3.0


def test_published_stationary_values_of_two_levels():
    """Heavy ball: the variance of c is ``eta s^2 (1 + b) / (lambda (1 - b) (2 (1 + b) - x))``."""
    problem = sa.Quadratic(sa.Spectrum([2.0, 1.0], 1), sa.IsotropicNoise(0.3))
    eta, b = 0.4, 0.9
    for optimizer, part in ((sa.Momentum(b), 0.0), (sa.Momentum(b, nesterov=True), b)):
        found = theory.stationary(problem, eta, optimizer=optimizer)
        x = eta * np.array([2.0, 1.0])
        shape = (1 - b + part * x) * (2 * (1 + b) - (1 + 2 * part) * x)
        variance = (eta * 0.3) ** 2 * (1 + b + part * (1 + 2 * part) * x) / (x * shape)
        losses = np.array([2.0, 1.0]) * variance / 2
        assert [found.loss_dominant_mean, found.loss_bulk_mean] == pytest.approx(losses, rel=1e-13)


def literal(problem, sizes, optimizer, times, runs, seed, weights=(1.0, 1.0)):
    """Columns of many runs of the equations of PyTorch, one row of each at every given time."""
    rng = np.random.default_rng(seed)
    lam, std, k = problem.spectrum.eigenvalues, problem.stds, problem.spectrum.num_dominant
    if isinstance(problem.initial, np.ndarray):
        theta = np.tile(problem.initial, (runs, 1))
    else:
        theta = problem.initial * rng.standard_normal((runs, lam.size))
    buffer, found = np.zeros_like(theta), []
    weight = problem.spectrum.per_level(weights)
    for t, eta in enumerate([*sizes, 0.0]):
        if t in times:
            loss, grad = lam * theta**2 / 2, (lam * theta) ** 2
            parts = [loss[:, :k].sum(1), loss[:, k:].sum(1)]
            found.append([grad[:, :k].sum(1) / grad.sum(1), sum(parts), *parts])
        gradient = lam * theta + std * rng.standard_normal(theta.shape)
        buffer = optimizer.beta * buffer + gradient
        move = gradient + optimizer.beta * buffer if optimizer.nesterov else buffer
        theta = theta - eta * weight * move
    return np.array(found)


def scores(samples, exact):
    """Scores of sample means and variances, in standard errors; 0 where tails are too heavy."""
    names = ("alignment", "loss", "loss_dominant", "loss_bulk")
    runs, z = samples.shape[-1], []
    for column, name in enumerate(names):
        x = samples[:, column]
        mean, std = getattr(exact, f"{name}_mean"), getattr(exact, f"{name}_std")
        centered = (x - x.mean(1, keepdims=True)) ** 2
        variance = centered.mean(1)
        tails = centered.std(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            z.append((x.mean(1) - mean) / np.sqrt(variance / runs))
            light = tails < 5.0 * variance
            z.append(np.where(light, variance - std**2, 0.0) / tails * np.sqrt(runs))
    return np.array(z)


LITERAL = sa.Spectrum([20.0, 14.0, 10.0, 3.0, 1.0, 0.5, 0.0], 3)
WARM_UP = np.r_[0.0, np.linspace(0.005, 0.06, 14), np.full(10, 0.03)]


@pytest.mark.mostly_long
@pytest.mark.parametrize("optimizer", [BALL, NESTEROV, sa.Momentum(0.5)], ids=str)
@pytest.mark.parametrize("initial", [1.5, np.array([1.0, -2.0, 0.5, 3.0, 0.0, 2.0, 1.0])], ids=type)
@pytest.mark.parametrize(("sizes", "weights"), [
    (0.03, (1.0, 1.0)), (0.03, (0.5, 1.7)), (0.03, (0.0, 1.0)), (WARM_UP, (1.0, 1.0)),
    (WARM_UP, (1.0, 0.0)),
])  # fmt: skip
def test_means_and_deviations_are_those_of_literal_runs(optimizer, initial, sizes, weights):
    times = [1, 2, 4, 9, 16, 25]
    problem = sa.Quadratic(LITERAL, sa.DiagonalNoise(np.linspace(1.0, 2.0, 7)), initial)
    exact = theory.expected(problem, sizes, times, update=weights, optimizer=optimizer)
    each = np.full(25, sizes) if np.isscalar(sizes) else sizes
    samples = literal(problem, each, optimizer, times, 40_000, 7, weights)
    moves = samples.std(-1) > 1e-12  # not what is frozen or given
    moves = np.repeat(moves, 2, axis=1).T
    found = np.where(moves, scores(samples, exact), 0.0)
    assert np.abs(found).max() < 4.7  # 48 scores a case, 30 cases: 0.4 % by chance
    assert np.sqrt(np.mean(found[moves] ** 2)) < 1.9


@pytest.mark.long
@pytest.mark.parametrize("planted", ["noise", "beta", "eigenvalues", "velocity"])
def test_one_percent_is_seen(planted):
    times = [1, 2, 4, 9, 16, 25]
    std, beta, spectrum = 1.0, 0.9, LITERAL
    if planted == "noise":
        std = 1.01
    elif planted == "beta":
        beta = 0.91
    elif planted == "eigenvalues":
        spectrum = sa.Spectrum(1.01 * LITERAL.eigenvalues, 3)
    kind = planted == "velocity"
    problem, other = (sa.Quadratic(s, sa.IsotropicNoise(r), 1.5)
                      for s, r in ((LITERAL, 1.0), (spectrum, std)))  # fmt: skip
    exact = theory.expected(other, 0.03, times, optimizer=sa.Momentum(beta, nesterov=kind))
    samples = literal(problem, np.full(25, 0.03), BALL, times, 160_000, 8)
    assert np.abs(scores(samples, exact)).max() > 6.0


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_a_constant_schedule_equals_the_constant(optimizer, weights):
    steps = [0, 1, 2, 7, 30, 300]
    initial = np.array([1.0, -2.0, 0.5, 3.0, 0.0, 2.0, 1.0])
    for start in (initial, 2.0):
        problem = sa.Quadratic(LITERAL, sa.HessianNoise(0.7), start)
        eta = 0.5 * optimizer.largest / 34.0
        options = {"update": weights, "optimizer": optimizer}
        constant = theory.expected(problem, eta, steps, **options)
        schedule = theory.expected(problem, np.full(300, eta), steps, **options)
        for name in theory.MOMENTS:
            actual, expected = getattr(schedule, name), getattr(constant, name)
            np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-13, err_msg=name)
        assert schedule.stability is None


def test_a_schedule_is_the_iteration_of_its_steps():
    """The velocity keeps its size where the step size changes."""
    problem = sa.Quadratic(sa.Spectrum([3.0, 1.0], 1), sa.IsotropicNoise(0.5), 2.0)
    sizes = np.random.default_rng(0).uniform(0.0, 0.4, 60)
    for optimizer in OPTIMIZERS:
        p, q, beta = optimizer.factors
        exact = theory.expected(problem, sizes, np.arange(61), optimizer=optimizer)
        for lam, losses in ((3.0, exact.loss_dominant_mean), (1.0, exact.loss_bulk_mean)):
            spread = np.diag([4.0, 0.0])
            for t in range(61):
                assert losses[t] == pytest.approx(lam * spread[0, 0] / 2, rel=1e-12)
                if t < 60:
                    one = np.array([[1.0 - p * sizes[t] * lam, -q * sizes[t]], [lam, beta]])
                    push = np.array([-p * sizes[t], 1.0])
                    spread = one @ spread @ one.T + 0.25 * np.outer(push, push)


@pytest.mark.parametrize("noise", [sa.IsotropicNoise(0.5), sa.DataNoise(8, 0.3)], ids=str)
def test_beta_zero_is_plain_sgd(noise):
    problem = sa.Quadratic(sa.Spectrum.linear_bands(60, 5, (10.0, 8.0), (1.0, 0.01)), noise, 2.0)
    for optimizer in (sa.Momentum(0.0), sa.Momentum(0.0, nesterov=True), sa.SGD()):
        for sizes in (0.03, np.full(30, 0.03)):
            plain = theory.expected(problem, sizes, [0, 1, 5, 30])
            assert theory.expected(problem, sizes, [0, 1, 5, 30], optimizer=optimizer) == plain
        rest = theory.stationary(problem, 0.03, optimizer=optimizer)
        assert differences(rest, theory.stationary(problem, 0.03)) == 0.0
    # And so is the limit of what momentum takes instead.
    for optimizer in (sa.Momentum(1e-15), sa.Momentum(1e-15, nesterov=True)):
        for sizes in (0.03, np.full(30, 0.03)):
            plain = theory.expected(problem, sizes, [1, 5, 30])
            near = theory.expected(problem, sizes, [1, 5, 30], optimizer=optimizer)
            assert differences(near, plain) < 1e-13
        near = theory.stationary(problem, 0.03, optimizer=optimizer)
        assert differences(near, theory.stationary(problem, 0.03)) < 1e-13


def test_theory_is_silent_past_divergence():
    spectrum = sa.Spectrum([3.0, 1.0, 0.0], 1)
    for noise in (sa.IsotropicNoise(0.5), sa.DataNoise(4, 0.5)):
        problem = sa.Quadratic(spectrum, noise, initial=[1, 0, 1])
        for step_size in (5.0, np.full(2_000, 5.0)):
            exact = theory.expected(problem, step_size, [1, 10, 700, 2_000], optimizer=BALL)
            assert np.isfinite(exact.loss_mean[:2]).all()
            assert np.isinf(exact.loss_mean[-1])
            assert np.isinf(exact.grad_sq_dominant_mean[-1])
            assert np.isnan(exact.alignment_mean[-1])
    still = sa.Quadratic(sa.Spectrum([3.0, 1.0], 1), sa.IsotropicNoise(0.0), initial=[0.0, 1.0])
    exact = theory.expected(still, 2.0, [0, 5, 5_000], optimizer=BALL)
    assert exact.loss_dominant_mean.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: theory.stationary(p, 2.0, optimizer=BALL), r"below 3.8 / lambda = 1.9.* 2.0"),
        (lambda p: theory.stationary(p, 0.1, update="bulk", optimizer=BALL), "positive in both"),
        (lambda p: theory.stationary(p, 0.1, optimizer=0.9), "optimizer must be SGD"),
        (lambda p: theory.expected(p, 0.1, 1, optimizer="sgd"), "optimizer must be SGD"),
        (lambda p: theory.stability(p, 0.1, optimizer=None), "optimizer must be SGD"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(sa.Quadratic(sa.Spectrum([2.0, 1.0], 1)))


# --- few levels ------------------------------------------------------------------------------

TIMES = [0, 1, 2, 7, 30, 100, 300, 3000, 10**6]
MANY = {
    "linear": sa.Spectrum.linear_bands(8_000, 300, (100.0, 80.0), (10.0, 0.0)),
    "power": sa.Spectrum.power_law(20_000, 10, 1.0),
}


@pytest.mark.mostly_long
@pytest.mark.parametrize("name", MANY)
@pytest.mark.parametrize("part", [0.05, 0.9])
@pytest.mark.parametrize("beta", [0.5, 0.9, 0.99, 0.999])
def test_few_levels_are_fine_enough(name, part, beta, monkeypatch):
    problem = sa.Quadratic(MANY[name], sa.IsotropicNoise(0.5), initial=10.0)
    for optimizer in (sa.Momentum(beta), sa.Momentum(beta, nesterov=True)):
        eta = part * optimizer.largest / float(problem.spectrum.eigenvalues[0])
        schedule = np.linspace(0.2, 1.0, 40) * eta
        found = []
        for most in (levels.MANY, 10**9):
            monkeypatch.setattr(levels, "MANY", most)
            found.append(
                (
                    *(theory.expected(problem, eta, t, optimizer=optimizer) for t in TIMES),
                    theory.expected(problem, schedule, [3, 40], optimizer=optimizer),
                    theory.stationary(problem, eta, optimizer=optimizer),
                )
            )
            monkeypatch.undo()
        for through, direct in zip(*found, strict=True):
            assert differences(through, direct) < 1e-11


def test_levels_are_made_finer_where_they_must_be():
    """Those for plain SGD are wrong in the second digit where directions swing."""
    spectrum = sa.Spectrum.linear_bands(40_000, 300)
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=10.0)
    optimizer = sa.Momentum(0.99)
    eta = 0.9 * optimizer.largest / float(problem.spectrum.eigenvalues[0])
    used = {}

    def moments(few):
        used[few.spectrum.num_levels] = True
        model = levels.Levels(few, (1.0, 1.0))
        ((mean, variance),) = model.trajectory(
            sa.ConstantStep(eta), np.array([used["time"]]), optimizer
        )
        return model.moments(mean, variance)

    counts = []
    for used["time"] in (1, 100):
        few, found = resolution.through_few_levels(problem, eta, optimizer, moments)
        counts.append(few.spectrum.num_levels)
        assert found == pytest.approx(moments(problem), rel=1e-11)
    assert counts[0] < counts[1] < problem.spectrum.num_levels
    coarse = sa.Quadratic(problem.spectrum.compress(), problem.noise, problem.initial)
    assert np.abs(moments(coarse) / moments(problem) - 1.0).max() > 1e-2


def test_all_levels_are_taken_where_few_do_not_stand_for_them():
    spectrum = MANY["power"]

    def taken(problem, largest_step, optimizer=BALL):
        few, _ = resolution.through_few_levels(
            problem, largest_step, optimizer, lambda few: np.ones(3)
        )
        return few

    assert taken(sa.Quadratic(spectrum), 1.0).spectrum.num_levels < 2_000
    for problem, size in (
        (sa.Quadratic(spectrum), 4.0),
        (sa.Quadratic(spectrum), np.nan),
        (sa.Quadratic(spectrum, sa.IsotropicNoise(0.0)), 1.0),
        (sa.Quadratic(spectrum, sa.DiagonalNoise(np.ones(20_000))), 1.0),
        (sa.Quadratic(spectrum, initial=np.ones(20_000)), 1.0),
        (sa.Quadratic(spectrum.compress()), 1.0),
        (sa.Quadratic(sa.Spectrum.linear_bands(500, 10)), 1e-3),
    ):
        assert taken(problem, size) is problem


# --- mini-batches ----------------------------------------------------------------------------

SPECTRA = {
    "two levels": lambda: sa.Spectrum.two_level(200, 3, 10.0, 1.0),
    "zeros": lambda: sa.Spectrum([5.0, 4.0, 1.0, 0.0], 3, [1, 2, 7, 3]),
    "few levels": lambda: sa.Spectrum.power_law(50_000, 10, 1.0).resolved(1.4, 5),
    "distinct": lambda: sa.Spectrum.linear_bands(60, 5, (10.0, 8.0), (1.0, 0.01)),
}


@pytest.fixture(params=SPECTRA)
def spectrum(request):
    return SPECTRA[request.param]()


def recursion(spectrum, initial, etas, noise, optimizer):
    """Expected squared norms of levels after steps of sizes for each level, by matrices."""
    lam, n = spectrum.eigenvalues, spectrum.num_levels
    state = np.zeros(3 * n)
    state[::3] = initial
    before = None
    for eta in etas:
        if before is not None:  # y = eta v
            ratio = np.where(before > 0.0, eta / np.where(before > 0.0, before, 1.0), 0.0)
            state[1::3] *= ratio
            state[2::3] *= ratio**2
        p = optimizer.factors.pull
        gain = eta**2 / noise.batch_size * spectrum.multiplicities * lam * noise.label_std**2
        state = data_step(spectrum, eta, noise.batch_size, optimizer) @ state
        state += np.outer(gain, [p * p, -p, 1.0]).ravel()
        before = eta
    return state[::3]


@pytest.mark.mostly_long
@all_pairs(
    name=SPECTRA,
    weights=WEIGHTS,
    batch=[1, 8, 1000],
    optimizer=[BALL, NESTEROV, sa.Momentum(0.3)],
)
def test_any_time_of_mini_batches_is_the_recursion(name, weights, batch, optimizer):
    spectrum = SPECTRA[name]()
    noise = sa.DataNoise(batch, 0.3)
    initial = np.linspace(1.0, 2.0, spectrum.num_levels) * spectrum.multiplicities
    for share in (0.1, 0.9, 1.02):
        eta = share * of_batches(spectrum, 0.0, batch, weights, optimizer).largest
        squares = MeanSquares(spectrum, initial, eta, noise, weights, optimizer)
        steps = [0, 1, 2, 7, 50]
        for t, found in zip(steps, squares.at(np.array(steps)), strict=True):
            etas = [eta * spectrum.per_level(weights)] * t
            expected = recursion(spectrum, initial, etas, noise, optimizer)
            # Where they grow, sums in a matrix's powers cancel.
            np.testing.assert_allclose(found, expected, rtol=1e-9 if share > 1.0 else 1e-11)


@pytest.mark.mostly_long
def test_schedules_of_mini_batches_are_the_recursion(spectrum):
    noise, weights = sa.DataNoise(4, 0.3), (0.5, 1.7)
    problem = sa.Quadratic(spectrum, noise, 2.0)
    for optimizer in (BALL, NESTEROV):
        edge = of_batches(spectrum, 0.0, 4, weights, optimizer).largest
        sizes = np.random.default_rng(2).uniform(0.1, 0.9, 20) * edge
        exact = theory.expected(problem, sizes, [1, 5, 20], update=weights, optimizer=optimizer)
        k = spectrum.num_dominant_levels
        for i, t in enumerate((1, 5, 20)):
            etas = [eta * spectrum.per_level(weights) for eta in sizes[:t]]
            squares = recursion(spectrum, problem.initial_squares, etas, noise, optimizer)
            losses = spectrum.eigenvalues * squares / 2
            assert exact.loss_dominant_mean[i] == pytest.approx(losses[:k].sum(), rel=1e-11)
            assert exact.loss_bulk_mean[i] == pytest.approx(losses[k:].sum(), rel=1e-11)
        assert exact.unknown
        assert np.isnan(exact.alignment_mean).all()


def exact_batches(spectrum, initial, eta, noise, optimizer, steps):
    """Squares after n steps in 60 digits."""
    lam, count = spectrum.eigenvalues.tolist(), spectrum.multiplicities.tolist()
    p, q, beta = (mp.mpf(factor) for factor in optimizer.factors)
    n = len(lam)
    matrix = mp.zeros(3 * n + 1)
    for i in range(n):
        x = mp.mpf(eta * lam[i])
        (a, b), (c, d) = (1 - p * x, -q), (x, beta)
        block = [
            [a * a, 2 * a * b, b * b],
            [a * c, a * d + b * c, b * d],
            [c * c, 2 * c * d, d * d],
        ]
        for row, push in enumerate((p * p, -p, mp.mpf(1))):
            for column in range(3):
                matrix[3 * i + row, 3 * i + column] = block[row][column]
            matrix[3 * i + row, 3 * i] += push * x * x / noise.batch_size
            gain = push * mp.mpf(eta) * x * count[i] / noise.batch_size
            for j in range(n):
                matrix[3 * i + row, 3 * j] += gain * mp.mpf(lam[j])
            matrix[3 * i + row, 3 * n] += gain * mp.mpf(noise.label_std) ** 2
    matrix[3 * n, 3 * n] = 1
    state = mp.zeros(3 * n + 1, 1)
    state[3 * n] = 1
    for i, value in enumerate(initial):
        state[3 * i] = value
    state = matrix**steps * state
    return [state[3 * i] for i in range(n)]


@pytest.mark.long
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("std", [0.0, 0.3])
def test_long_times_of_mini_batches_to_eleven_digits(optimizer, std):
    spectrum, noise = sa.Spectrum([3.0, 1.0, 1e-3, 1e-7], 1, [1, 5, 20, 2]), sa.DataNoise(8, std)
    initial, steps = np.array([1.0, 5.0, 20.0, 2.0]), [10, 1000, 10**6, 10**9]
    for share, allowed in ((0.1, 1e-11), (0.9, 1e-11), (0.999, 3e-9)):
        eta = share * of_batches(spectrum, 0.0, 8, optimizer=optimizer).largest
        squares = MeanSquares(spectrum, initial, eta, noise, (1.0, 1.0), optimizer)
        for t, found in zip(steps, squares.at(np.array(steps)), strict=True):
            with mp.workdps(60):
                exact = exact_batches(spectrum, initial, eta, noise, optimizer, t)
                for value, expected in zip(found.tolist(), exact, strict=True):
                    if expected > 1e-280:
                        assert abs(mp.mpf(value) / expected - 1) < allowed


@pytest.mark.mostly_long
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("optimizer", [BALL, NESTEROV], ids=str)
def test_the_stationary_state_is_where_nothing_changes(spectrum, weights, optimizer):
    noise = sa.DataNoise(4, 0.5)
    eta = 0.7 * of_batches(spectrum, 0.0, 4, weights, optimizer).largest
    rest = stationary_squares(spectrum, eta, noise, weights, optimizer)
    moves = np.isfinite(rest)
    assert np.array_equal(moves, spectrum.per_level(weights) * spectrum.eigenvalues > 0.0)
    late = MeanSquares(spectrum, np.where(moves, 1.0, 0.0), eta, noise, weights, optimizer)
    np.testing.assert_allclose(late.at(np.array([10**9]))[0][moves], rest[moves], rtol=1e-10)
    feedback = of_batches(spectrum, eta, 4, weights, optimizer).feedback
    loss = (spectrum.eigenvalues * np.where(moves, rest, 0.0)).sum()
    assert loss == pytest.approx(feedback * 0.25 / (1.0 - feedback), rel=1e-12)
    if weights == (1.0, 1.0):
        problem = sa.Quadratic(spectrum, noise, 2.0)
        found = theory.stationary(problem, eta, optimizer=optimizer)
        assert found.loss_mean == pytest.approx(loss / 2, rel=1e-12)
        assert (
            found.stability.feedback
            == feedback
            == theory.stability(problem, eta, optimizer=optimizer).feedback
        )


def test_feedback_of_the_heavy_ball_in_closed_form():
    spectrum, eta, batch, b = sa.Spectrum([2.0, 1.0, 0.1], 1, [1, 3, 50]), 0.05, 3, 0.8
    x = eta * spectrum.eigenvalues
    terms = spectrum.multiplicities * x / (2 * (1 - b) - x * ((1 - b) / (1 + b) + 1 / batch))
    found = of_batches(spectrum, eta, batch, optimizer=sa.Momentum(b)).feedback
    assert found == pytest.approx(terms.sum() / batch, rel=1e-13)
    assert returned_loss(np.array([0.0, 10.0]), 3, BALL).tolist() == [0.0, np.inf]


def batches_drawn(spectrum, optimizer, eta, noise, runs, steps, seed):
    """Squared norms of levels in many runs, where samples are drawn and labels made."""
    rng = np.random.default_rng(seed)
    lam = np.repeat(spectrum.eigenvalues, spectrum.multiplicities)
    first = np.cumsum(spectrum.multiplicities) - spectrum.multiplicities
    theta = np.ones((runs, lam.size))
    buffer, found = np.zeros_like(theta), []
    for _ in range(steps):
        samples = rng.standard_normal((runs, noise.batch_size, lam.size)) * np.sqrt(lam)
        labels = noise.label_std * rng.standard_normal((runs, noise.batch_size))
        rest = (samples * theta[:, None]).sum(-1) - labels
        gradient = (samples * rest[..., None]).mean(1)
        buffer = optimizer.beta * buffer + gradient
        move = gradient + optimizer.beta * buffer if optimizer.nesterov else buffer
        theta = theta - eta * move
        found.append(np.add.reduceat(theta**2, first, axis=1))
    return np.array(found)


@pytest.mark.mostly_long
@pytest.mark.parametrize("optimizer", [sa.Momentum(0.8), sa.Momentum(0.8, nesterov=True)], ids=str)
def test_literal_batches_have_these_means(optimizer):
    spectrum, noise, eta = sa.Spectrum([2.0, 1.0, 0.3], 1, [1, 2, 2]), sa.DataNoise(3, 0.4), 0.06
    initial, steps = np.array([1.0, 2.0, 2.0]), np.arange(1, 9)
    found = batches_drawn(spectrum, optimizer, eta, noise, 60_000, 8, 1)
    error = found.std(axis=1) / np.sqrt(60_000)

    def score(noise=noise, optimizer=optimizer):
        squares = MeanSquares(spectrum, initial, eta, noise, (1.0, 1.0), optimizer)
        return np.abs((found.mean(axis=1) - squares.at(steps)) / error).max()

    assert score() < 4.5
    # What is off is seen: one sample more, another noise of the labels, another kind of momentum.
    assert score(noise=sa.DataNoise(4, 0.4)) > 6.0
    assert score(noise=sa.DataNoise(3, 0.6)) > 6.0
    assert score(optimizer=sa.Momentum(0.8, not optimizer.nesterov)) > 6.0
    assert score(optimizer=sa.Momentum(0.81, optimizer.nesterov)) > 6.0


@pytest.mark.mostly_long
def test_steps_one_by_one_and_powers_of_a_matrix_agree(spectrum, monkeypatch):
    problem, times = sa.Quadratic(spectrum, sa.DataNoise(16, 0.5), 2.0), [0, 1, 30, 2_000]
    for optimizer in (BALL, NESTEROV):
        eta = 0.5 * theory.stability(problem, 0.0, optimizer=optimizer).largest
        found = []
        for choice in (True, False):
            monkeypatch.setattr(momentum_batches, "by_matrices", lambda *_, choice=choice: choice)
            found.append(theory.expected(problem, eta, times, optimizer=optimizer))
        assert differences(*found) < 1e-11
        monkeypatch.undo()
        late = theory.expected(problem, eta, [10**9], optimizer=optimizer)
        assert differences(late, theory.stationary(problem, eta, optimizer=optimizer)) < 1e-9


def test_the_cheaper_way_is_taken():
    assert not by_matrices(400, 100)
    assert by_matrices(400, 10**5)
    assert by_matrices(MOST_LEVELS, 10**9)
    assert not by_matrices(MOST_LEVELS + 1, 10**9)


def test_what_is_not_stable_is_refused():
    problem = sa.Quadratic(sa.Spectrum.two_level(100, 1, 10.0, 1.0), sa.DataNoise(1, 0.5))
    with pytest.raises(ValueError, match=r"step_size must be below 0\.00180187"):
        theory.stationary(problem, 0.002, optimizer=BALL)
