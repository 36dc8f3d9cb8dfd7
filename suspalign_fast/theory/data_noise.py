"""Mean squares of coefficients under mini-batches of data: at any time, at rest, and when stable.

Streaming least squares: a step takes a fresh batch of B samples ``x ~ N(0, H)`` with labels
``y = x' theta* + eps``, ``eps ~ N(0, tau^2)``. With step sizes ``eta_l`` of the levels, which may
differ by the weights of an update, ``x_l = eta_l lambda_l`` and
``e_l = x_l (2 - x_l (1 + 1/B))``, the expected squared norms of the levels follow

    q_l' = (1 - e_l) q_l + (eta_l^2 / B) m_l lambda_l (sum_j lambda_j q_j + tau^2):

the noise that a level gets depends on the loss of all, which makes the levels decay together, by
the eigenvalues of ``diag(e) - z z'``, ``z_l = eta_l sqrt(m_l) lambda_l / sqrt(B)``. They are taken
from that matrix and not from the identity less it: the small ones would lose their digits.

An expectation near the edge of stability is not what a typical run does: its tails are heavy, and
`Stability.feedback` near 1 says so.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _checks
from ..spectrum import Spectrum

Array = NDArray[np.float64]
#: Levels from which on the matrix is too large; compressed spectra have fewer.
MOST_LEVELS = 4_000


class Stability(NamedTuple):
    """How far a step size is from where expected losses grow without end.

    Attributes
    ----------
    feedback : float
        Loss that the noise of a unit of loss leaves in the long run, K; stable below 1. Infinite
        where a single direction is unstable by itself.
    largest : float
        Step size at which K is 1; infinite where none is too large.
    """

    feedback: float
    largest: float

    @property
    def is_stable(self) -> bool:
        """Whether expected losses stay finite."""
        return self.feedback < 1.0


def stability(
    spectrum: Spectrum, step_size: float, batch_size: int, weights: tuple[float, float] = (1.0, 1.0)
) -> Stability:
    """Return how far a step size is from the largest stable one, in mean square.

    Parameters
    ----------
    spectrum : Spectrum
    step_size : float
    batch_size : int
    weights : tuple of two float
        Of the dominant and the bulk band in an update.

    Raises
    ------
    ValueError
        If an argument is not as described.

    Examples
    --------
    >>> from suspalign_fast import Spectrum
    >>> from suspalign_fast.theory.data_noise import stability
    >>> two = stability(Spectrum.two_level(100, 1, 10.0, 1.0), 0.01, batch_size=1)
    >>> two.is_stable, round(two.largest, 6)
    (True, 0.017709)
    """
    eta = _checks.real("step_size", step_size)
    batch = _checks.integer("batch_size", batch_size, 1)
    unit = spectrum.per_level(weights) * spectrum.eigenvalues
    return Stability(_feedback(unit, spectrum, eta, batch), _largest(unit, spectrum, batch))


def _feedback(unit: Array, spectrum: Spectrum, eta: float, batch: int) -> float:
    x = eta * unit
    left = 2.0 - x * (1.0 + 1.0 / batch)
    if (left <= 0.0).any():
        return float(np.inf)
    return float((spectrum.multiplicities * x / left).sum() / batch)


def _largest(unit: Array, spectrum: Spectrum, batch: int) -> float:
    """Where K, which grows with the step size, is 1: between bounds that halve."""
    top = float(unit.max())
    if top == 0.0:
        return float(np.inf)
    low, high = 0.0, 2.0 / (top * (1.0 + 1.0 / batch))
    while True:
        middle = 0.5 * (low + high)
        if middle in (low, high):
            return low
        if _feedback(unit, spectrum, middle, batch) < 1.0:
            low = middle
        else:
            high = middle


def stationary_squares(
    spectrum: Spectrum,
    step_size: float,
    batch_size: int,
    label_std: float,
    weights: tuple[float, float] = (1.0, 1.0),
) -> Array:
    """Return the expected squared norms of the levels in the stationary state.

    Parameters
    ----------
    spectrum : Spectrum
    step_size : float
    batch_size : int
    label_std : float
        Standard deviation tau of the labels' noise.
    weights : tuple of two float

    Returns
    -------
    ndarray of float64, shape (levels,)
        NaN in levels that do not move: those of a weight or an eigenvalue of zero.

    Raises
    ------
    ValueError
        If an argument is not as described, or the step size is not stable.
    """
    found = stability(spectrum, step_size, batch_size, weights)
    if not found.is_stable:
        raise ValueError(
            f"step_size must be below {found.largest:.6g}, where expected losses grow without "
            f"end, got {step_size!r}"
        )
    eta = step_size * spectrum.per_level(weights)
    x = eta * spectrum.eigenvalues
    noise = eta / batch_size * _checks.real("label_std", label_std) ** 2
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
    >>> from suspalign_fast.theory.data_noise import MeanSquares
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
        source = label_std**2 + float((lam * self._initial)[frozen].sum())
        lam, count, eta = lam[self._moves], count[self._moves], eta[self._moves]
        x = eta * lam
        z = np.sqrt(count / batch_size) * x
        matrix = np.diag(x * (2.0 - x * (1.0 + 1.0 / batch_size))) - np.outer(z, z)
        self._decay, self._vectors = np.linalg.eigh(matrix)
        self._unit: Array = eta * np.sqrt(count)
        self._start: Array = self._vectors.T @ (self._initial[self._moves] / self._unit)
        self._push: Array = source / np.sqrt(batch_size) * (self._vectors.T @ z)

    def at(self, step: int) -> Array:
        """Return the expected squared norms of the levels after so many steps, shape (levels,)."""
        left, kept = self._decay, np.ones_like(self._decay)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            log = step * np.log(np.abs(1.0 - left))
            small = np.abs(left) < 0.5
            log = np.where(small, step * np.log1p(-left), log) if step else np.zeros_like(left)
            sign = np.where((left > 1.0) & (step % 2 == 1), -1.0, 1.0)
            kept = sign * np.exp(log)
            gone = np.where(sign > 0.0, -np.expm1(log), 1.0 - kept)
            pushed = np.where(left == 0.0, float(step), gone / left)
        squares = self._initial.copy()
        squares[self._moves] = self._unit * (
            self._vectors @ (kept * self._start + pushed * self._push)
        )
        return squares
