"""Mean squares of coefficients under mini-batches of data and momentum.

As in `batches`, the noise that a level gets depends on the loss of all. With ``y = eta v`` and
sums A of c^2, C of c y and V of y^2 over a level's directions, a step takes their matrix S to

    S' = M S M' + (eta^2 / B) (lambda^2 A + m lambda P) n n',    P = sum lambda_j A_j + tau^2,

M and n as in ``kernels.powers``: three numbers a level, each a linear function of all, and
any number of steps by doubling. The matrix of n steps is kept with what its diagonal lacks to 1,
which for a slow direction and few steps is small and would lose its digits.

The stationary state has a closed form. With ``r = x^2 h / B`` of `stability`, a level has the loss
``lambda A = m P r / (1 - r)``, where ``P = tau^2 / (1 - K)``.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..model.noise import DataNoise
from ..model.optimizer import Optimizer
from ..model.problem import Quadratic
from ..model.spectrum.spectrum import Spectrum
from ..model.stability import of_batches, returned_loss
from ..model.step_size import KnownStepSize
from .levels import Array, at_times, pieces

#: Sums of c^2, c v and v^2 of every level.
Sums = tuple[Array, Array, Array]

#: Levels from which on matrices are too large: they have nine numbers for each pair of them.
MOST_LEVELS = 1_500
#: Nominal seconds of a multiplication in a product of matrices, and of a step and a level in it.
PRODUCT, STEP, LEVEL = 6e-11, 5e-5, 2e-8


def stationary_squares(
    spectrum: Spectrum,
    step_size: float,
    noise: DataNoise,
    weights: tuple[float, float],
    optimizer: Optimizer,
) -> Array:
    """Return the expected squared norms of the levels in the stationary state.

    Raises ValueError if the step size is not stable.

    Returns
    -------
    ndarray of float64, shape (levels,)
        NaN in levels that do not move: those of a weight or an eigenvalue of zero.
    """
    found = of_batches(spectrum, step_size, noise.batch_size, weights, optimizer)
    if not found.is_stable:
        raise ValueError(
            f"step_size must be below {found.largest:.6g}, where expected losses grow without "
            f"end, got {step_size!r}"
        )
    lam = spectrum.eigenvalues
    x = step_size * spectrum.per_level(weights) * lam
    share = returned_loss(x, noise.batch_size, optimizer)
    variance = noise.label_std * noise.label_std / (1.0 - found.feedback)
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = spectrum.multiplicities * (variance * share / (1.0 - share) / lam)
    return np.where(x > 0.0, squares, np.nan)


class MeanSquares:
    """Expected squared norms of the levels at any time.

    Parameters
    ----------
    spectrum : Spectrum
        Of `MOST_LEVELS` levels at most, lest matrices are too large.
    initial : ndarray of float64, shape (levels,)
        Squared norms at step 0, or their expectations.
    step_size : float
    noise : DataNoise
    weights : tuple of two float
    optimizer : Optimizer
    velocity : tuple of two ndarray of float64, shape (levels,), optional
        Sums of c v and v^2 at step 0, v the velocity; by default it is zero.

    Examples
    --------
    >>> import numpy as np
    >>> import suspalign_fast as sa
    >>> from suspalign_fast.theory.momentum_batches import MeanSquares
    >>> two, noise, ball = sa.Spectrum([2.0, 1.0], 1), sa.DataNoise(batch_size=4), sa.Momentum(0.5)
    >>> squares = MeanSquares(two, np.ones(2), 0.1, noise, (1.0, 1.0), ball)
    >>> squares.at(np.array([0, 1, 2])).round(6).tolist()
    [[1.0, 1.0], [0.665, 0.82], [0.35125, 0.604625]]
    """

    def __init__(
        self,
        spectrum: Spectrum,
        initial: Array,
        step_size: float,
        noise: DataNoise,
        weights: tuple[float, float],
        optimizer: Optimizer,
        velocity: tuple[Array, Array] | None = None,
    ) -> None:
        lam, count = spectrum.eigenvalues, spectrum.multiplicities.astype(np.float64)
        eta = step_size * spectrum.per_level(weights)
        still = np.zeros_like(initial)
        self._initial: Sums = (initial, *((still, still) if velocity is None else velocity))
        #: Levels that move; the loss of the others is noise like that of labels.
        self._moves: NDArray[np.bool_] = (eta > 0.0) & (lam > 0.0)
        frozen = ~self._moves
        source = noise.label_std * noise.label_std + float((lam * initial)[frozen].sum())
        lam, count, eta = lam[self._moves], count[self._moves], eta[self._moves]
        x = eta * lam
        #: Units in which all three sums are of one size: x A, sqrt(x) C and V, of ``y = eta v``.
        self._units: Sums = x, np.sqrt(x) * eta, eta * eta
        step, diagonal, push = _one_step(x, eta, count, noise.batch_size, optimizer)
        self._step: tuple[Array, Array, Array] = step, diagonal, source * push

    def at(self, times: NDArray[np.int64]) -> Array:
        """Return the expected squared norms of the levels, shape (times, levels).

        Infinite in all that move once one of them is not finite: their losses feed each other.
        """
        return self.sums_at(times)[0]

    def sums_at(self, times: NDArray[np.int64]) -> Sums:
        """Return the expected sums of c^2, c v and v^2 of the levels, each (times, levels).

        Those of c^2 are infinite in all that move once one of them is not finite: their losses feed
        each other. Velocities of levels that do not move are not followed: they move nothing.
        """
        matrix, lack, push = (part.copy() for part in self._step)
        with np.errstate(over="ignore", invalid="ignore"):
            start = [
                unit * part[self._moves]
                for unit, part in zip(self._units, self._initial, strict=True)
            ]
            state = np.tile(np.concatenate(start)[:, None], times.size)
            last = int(times.max(initial=0))
            for bit in range(last.bit_length()):
                chosen = (times >> bit) & 1 == 1
                state[:, chosen] = matrix @ state[:, chosen] + push[:, None]
                if last >> (bit + 1):
                    push = push + matrix @ push
                    matrix, lack = _squared(matrix, lack)
        moved = [
            (part / unit[:, None]).T
            for part, unit in zip(np.split(state, 3), self._units, strict=True)
        ]
        moved[0][~np.isfinite(moved[0]).all(axis=1)] = np.inf
        sums = tuple(np.tile(part, (times.size, 1)) for part in self._initial)
        for all_levels, some, first in zip(sums, moved, self._initial, strict=True):
            some[times == 0] = first[self._moves]
            all_levels[:, self._moves] = some
        return sums[0], sums[1], sums[2]


def _one_step(
    x: Array, eta: Array, count: Array, batch: int, optimizer: Optimizer
) -> tuple[Array, Array, Array]:
    """The matrix of a step, 1 less its diagonal, and what a unit of residual variance adds."""
    p, q, beta = optimizer.factors
    n, root = x.size, np.sqrt(x)
    stays = 1.0 - p * x
    matrix = np.zeros((3, n, 3, n))
    level = np.arange(n)
    for row, entries in enumerate(
        (
            (stays * stays, -2.0 * q * stays * root, q * q * x),
            (root * stays, beta * stays - q * x, -q * beta * root),
            (x, 2.0 * beta * root, np.full(n, beta * beta)),
        )
    ):
        for column, entry in enumerate(entries):
            matrix[row, level, column, level] = entry
    # The noise: of a level's own loss, and of the residuals of all.
    unit = np.array([p * p * x, -p * root, np.ones(n)])
    push = unit * (eta * count * x / batch)
    for row in range(3):
        matrix[row, level, 0, level] += unit[row] * x / batch
        matrix[row, :, 0, :] += np.outer(push[row], 1.0 / eta)
    lack = np.empty((3, n))
    lack[0] = p * x * (2.0 - p * x) - p * p * x * (x / batch + x * count / batch)
    lack[1] = 1.0 - beta + x * (p * beta + q)
    lack[2] = (1.0 - beta) * (1.0 + beta)
    return matrix.reshape(3 * n, 3 * n), lack.ravel(), push.ravel()


def _squared(matrix: Array, lack: Array) -> tuple[Array, Array]:
    """The square of a matrix, and 1 less its diagonal."""
    square = matrix @ matrix
    np.fill_diagonal(matrix, 0.0)  # not subtracted: the others are small beside its squares
    beside = np.einsum("ij,ji->i", matrix, matrix)
    own = np.diagonal(square)
    lacking = lack * (2.0 - lack) - beside
    lacking = np.where(np.abs(1.0 - lacking) > 0.5, lacking, 1.0 - own)
    np.fill_diagonal(square, np.where(np.abs(1.0 - lacking) > 0.5, 1.0 - lacking, own))
    return square, lacking


def by_matrices(num_levels: int, last: int) -> bool:
    """Whether powers of a matrix are possible, and take less time than one step after another."""
    products = last.bit_length() * PRODUCT * (3.0 * num_levels) ** 3
    return num_levels <= MOST_LEVELS and products < last * (STEP + LEVEL * num_levels)


def squares_at(
    problem: Quadratic,
    rule: KnownStepSize,
    times: NDArray[np.int64],
    weights: tuple[float, float],
    optimizer: Optimizer,
) -> Iterator[Array]:
    """Yield the expected squared norms of the levels at ascending times."""
    initial = problem.initial_squares
    first = initial, np.zeros_like(initial), np.zeros_like(initial)
    later = _walk(problem, rule, times, weights, optimizer, first)
    for sums in at_times(times, first, later):
        yield np.where(np.isnan(sums[0]), np.inf, sums[0])


def _walk(
    problem: Quadratic,
    rule: KnownStepSize,
    times: NDArray[np.int64],
    weights: tuple[float, float],
    optimizer: Optimizer,
    sums: Sums,
) -> Iterator[tuple[int, Sums]]:
    """Yield steps, those of the times among them, and expected sums there."""
    spectrum, noise = problem.spectrum, problem.noise
    assert isinstance(noise, DataNoise)
    weight = spectrum.per_level(weights)
    for piece in pieces(rule, times):
        if piece.is_constant and by_matrices(spectrum.num_levels, piece.num_steps):
            size = float(piece.rule.values(0, 1)[0])
            squares = MeanSquares(
                spectrum, sums[0], size, noise, weights, optimizer, velocity=sums[1:]
            )
            found = squares.sums_at(piece.ends - piece.start)
            for stop, *three in zip(piece.ends.tolist(), *found, strict=True):
                sums = three[0], three[1], three[2]
                yield stop, sums
            continue
        now = piece.start
        for stop in piece.ends.tolist():
            for eta in piece.rule.values(now, stop):
                sums = _next(problem, noise, sums, eta * weight, optimizer)
            now = stop
            yield stop, sums


def _next(
    problem: Quadratic,
    noise: DataNoise,
    sums: Sums,
    etas: Array,
    optimizer: Optimizer,
) -> Sums:
    """Sums of c^2, c v and v^2, v the velocity itself, after a step of a size for each level."""
    p, q, beta = optimizer.factors
    c_sq, c_v, v_sq = sums
    lam, count = problem.spectrum.eigenvalues, problem.spectrum.multiplicities
    stays, carry, pull = 1.0 - p * etas * lam, q * etas, p * etas
    with np.errstate(over="ignore", invalid="ignore"):
        variance = float((lam * c_sq).sum()) + noise.label_std * noise.label_std
        added = lam / noise.batch_size * (lam * c_sq + count * variance)
        return (
            stays * (stays * c_sq - 2.0 * carry * c_v) + carry * carry * v_sq + pull * pull * added,
            stays * (lam * c_sq + beta * c_v) - carry * (lam * c_v + beta * v_sq) - pull * added,
            lam * (lam * c_sq + 2.0 * beta * c_v) + beta * beta * v_sq + added,
        )
