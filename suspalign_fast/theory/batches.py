"""Mean squares of coefficients under mini-batches of data: at any time, at rest, and when stable.

Streaming least squares: a step takes a fresh batch of B samples ``x ~ N(0, H)`` with labels
``y = x' theta* + eps``, ``eps ~ N(0, tau^2)``. With step sizes ``eta_l`` of the levels, which may
differ by the weights of an update, ``x_l = eta_l lambda_l`` and
``e_l = x_l (2 - x_l (1 + 1/B))``, the expected squared norms of the levels follow

    q_l' = (1 - e_l) q_l + (eta_l^2 / B) m_l lambda_l (sum_j lambda_j q_j + tau^2):

the noise that a level gets depends on the loss of all, which makes the levels decay together, by
the eigenvalues of ``diag(e) - z z'``, ``z_l = eta_l sqrt(m_l) lambda_l / sqrt(B)``. They are taken
from that matrix and not from the identity less it: the small ones would lose their digits.

Losses and squared gradients are sums of these squares, so their expectations are exact; standard
deviations, and all that concerns the alignment, a ratio, have no closed form. An expectation near
the edge of stability is not what a typical run does: its tails are heavy, and
`Stability.feedback` near 1 says so.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..base import checks
from ..model.noise import DataNoise
from ..model.optimizer import PLAIN, Optimizer
from ..model.problem import Quadratic
from ..model.spectrum.spectrum import Spectrum
from ..model.stability import of_batches
from ..model.step_size import KnownStepSize
from ..physics.layout import BANDS
from . import momentum_batches
from .levels import MOMENTS, Array, at_times, pieces

#: Levels from which on the matrix is too large; compressed spectra have fewer.
MOST_LEVELS = 4_000
#: Nominal seconds that a matrix takes to be diagonalised, over the cube of its size.
DIAGONAL = 1e-9


def stationary_squares(
    spectrum: Spectrum,
    step_size: float,
    batch_size: int,
    label_std: float,
    weights: tuple[float, float] = (1.0, 1.0),
) -> Array:
    """Return the expected squared norms of the levels in the stationary state.

    Raises ValueError if an argument is not as described, or the step size is not stable.

    Parameters
    ----------
    label_std : float
        Standard deviation tau of the labels' noise.

    Returns
    -------
    ndarray of float64, shape (levels,)
        NaN in levels that do not move: those of a weight or an eigenvalue of zero.
    """
    found = of_batches(spectrum, step_size, batch_size, weights)
    if not found.is_stable:
        raise ValueError(
            f"step_size must be below {found.largest:.6g}, where expected losses grow without "
            f"end, got {step_size!r}"
        )
    eta = step_size * spectrum.per_level(weights)
    x = eta * spectrum.eigenvalues
    tau = checks.real("label_std", label_std)
    noise = eta / batch_size * (tau * tau)
    one = noise / ((1.0 - found.feedback) * (2.0 - x * (1.0 + 1.0 / batch_size)))
    return np.where(x > 0.0, spectrum.multiplicities * one, np.nan)


class MeanSquares:
    """Expected squared norms of the levels at any time.

    Parameters
    ----------
    spectrum : Spectrum
    initial : ndarray of float64, shape (levels,)
        Squared norms at step 0, or their expectations.
    step_size : float
    batch_size : int
    label_std : float
    weights : tuple of two float

    Raises
    ------
    ValueError
        If there are more than MOST_LEVELS levels; `Spectrum.compress` makes fewer.

    Examples
    --------
    >>> import numpy as np
    >>> from suspalign_fast import Spectrum
    >>> from suspalign_fast.theory.batches import MeanSquares
    >>> squares = MeanSquares(Spectrum([2.0, 1.0], 1), np.ones(2), 0.1, batch_size=4, label_std=0.0)
    >>> squares.at(1).round(6).tolist()
    [0.665, 0.82]
    """

    def __init__(
        self,
        spectrum: Spectrum,
        initial: Array,
        step_size: float,
        batch_size: int,
        label_std: float,
        weights: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        if spectrum.num_levels > MOST_LEVELS:
            raise ValueError(
                f"spectrum must have at most {MOST_LEVELS:,} levels, got "
                f"{spectrum.num_levels:,}; see Spectrum.compress"
            )
        lam, count = spectrum.eigenvalues, spectrum.multiplicities.astype(np.float64)
        eta = step_size * spectrum.per_level(weights)
        self._initial: Array = np.array(initial, dtype=np.float64)
        #: Levels that move; the loss of the others is noise like that of labels.
        self._moves: NDArray[np.bool_] = (eta > 0.0) & (lam > 0.0)
        frozen = ~self._moves
        source = label_std * label_std + float((lam * self._initial)[frozen].sum())
        lam, count, eta = lam[self._moves], count[self._moves], eta[self._moves]
        x = eta * lam
        z = np.sqrt(count / batch_size) * x
        with np.errstate(over="ignore", invalid="ignore"):
            matrix = np.diag(x * (2.0 - x * (1.0 + 1.0 / batch_size))) - np.outer(z, z)
            if np.isfinite(matrix).all():
                decay, vectors = np.linalg.eigh(matrix)
            else:
                decay, vectors = np.full(x.size, np.nan), np.full_like(matrix, np.nan)
            self._decay: Array = decay
            self._vectors: Array = vectors
            self._unit: Array = eta * np.sqrt(count)
            self._start: Array = self._vectors.T @ (self._initial[self._moves] / self._unit)
            self._push: Array = source / np.sqrt(batch_size) * (self._vectors.T @ z)

    def at(self, step: int) -> Array:
        """Return the expected squared norms of the levels after so many steps, shape (levels,).

        Infinite in all that move once one of them is not finite: their losses feed each other.
        """
        squares = self._initial.copy()
        if step == 0:
            return squares
        left = self._decay
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            log = step * np.log(np.abs(1.0 - left))
            small = np.abs(left) < 0.5
            log = np.where(small, step * np.log1p(-left), log)
            sign = np.where((left > 1.0) & (step % 2 == 1), -1.0, 1.0)
            kept = sign * np.exp(log)
            gone = np.where(sign > 0.0, -np.expm1(log), 1.0 - kept)
            pushed = np.where(left == 0.0, float(step), gone / left)
            moved = self._unit * (self._vectors @ (kept * self._start + pushed * self._push))
        squares[self._moves] = moved if np.isfinite(moved).all() else np.inf
        return squares


#: Moments of a trace that have no closed form under mini-batches.
UNKNOWN = ("alignment_mean", "alignment_std", "loss_std", "loss_dominant_std", "loss_bulk_std")


def squares_at(
    problem: Quadratic,
    rule: KnownStepSize,
    times: NDArray[np.int64],
    weights: tuple[float, float],
    optimizer: Optimizer = PLAIN,
) -> Iterator[Array]:
    """Yield the expected squared norms of the levels at ascending times."""
    if optimizer.has_velocity:
        yield from momentum_batches.squares_at(problem, rule, times, weights, optimizer)
        return
    yield from at_times(times, problem.initial_squares, _walk(problem, rule, times, weights))


def _walk(
    problem: Quadratic, rule: KnownStepSize, times: NDArray[np.int64], weights: tuple[float, float]
) -> Iterator[tuple[int, Array]]:
    """Yield steps, those of the times among them, and expected squared norms there."""
    spectrum, noise = problem.spectrum, problem.noise
    assert isinstance(noise, DataNoise)
    weight, q = spectrum.per_level(weights), problem.initial_squares
    for piece in pieces(rule, times):
        if piece.is_constant and by_matrix(spectrum.num_levels, piece.num_steps):
            size = float(piece.rule.values(0, 1)[0])
            squares = MeanSquares(spectrum, q, size, noise.batch_size, noise.label_std, weights)
            for start, stop in piece.moves():
                q = squares.at(stop - start)
                yield stop, q
            continue
        now = piece.start
        for stop in piece.ends.tolist():
            for eta in piece.rule.values(now, stop):
                q = _next(problem, noise, q, eta * weight)
            now = stop
            yield stop, q


def by_matrix(num_levels: int, num_steps: int) -> bool:
    """Whether a matrix is possible, and takes less time than one step after another."""
    steps = num_steps * (momentum_batches.STEP + momentum_batches.LEVEL * num_levels)
    return num_levels <= MOST_LEVELS and DIAGONAL * float(num_levels) ** 3 < steps


def _next(problem: Quadratic, noise: DataNoise, q: Array, etas: Array) -> Array:
    """Expected squared norms after a step of a size for each level."""
    lam, count = problem.spectrum.eigenvalues, problem.spectrum.multiplicities
    x, batch = etas * lam, noise.batch_size
    with np.errstate(over="ignore", invalid="ignore"):
        variance = float((lam * q).sum()) + noise.label_std * noise.label_std
        squares: Array = (1.0 - x * (2.0 - x * (1.0 + 1.0 / batch))) * q
        return squares + etas * x * count * (variance / batch)


def moments_of(problem: Quadratic, squares: Array) -> Array:
    """Return the values of `MOMENTS` for levels of these expected squared norms, some unknown."""
    lam, split = problem.spectrum.eigenvalues, problem.spectrum.num_dominant_levels
    bands = slice(0, split), slice(split, None)
    with np.errstate(over="ignore", invalid="ignore"):
        loss = np.where(lam > 0.0, lam * squares, 0.0) / 2.0
        known = {
            "loss_mean": loss.sum(),
            **{f"loss_{x}_mean": loss[band].sum() for x, band in zip(BANDS, bands, strict=True)},
            **{
                f"grad_sq_{x}_mean": (2.0 * lam * loss)[band].sum()
                for x, band in zip(BANDS, bands, strict=True)
            },
        }
    return np.array([known.get(name, np.nan) for name in MOMENTS])


def moments_at_rest(
    problem: Quadratic, eta: float, weights: tuple[float, float], optimizer: Optimizer = PLAIN
) -> Array:
    """Return the values of `MOMENTS` in the stationary state."""
    spectrum, noise = problem.spectrum, problem.noise
    assert isinstance(noise, DataNoise)
    if optimizer.has_velocity:
        squares = momentum_batches.stationary_squares(spectrum, eta, noise, weights, optimizer)
    else:
        squares = stationary_squares(spectrum, eta, noise.batch_size, noise.label_std, weights)
    return moments_of(problem, np.nan_to_num(squares, nan=0.0))
