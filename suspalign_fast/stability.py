"""How far a step size is from where expected losses grow without end.

In mean square, that is: with noise that does not depend on the state the edge is ``2 / lambda_1``.
Under mini-batches of B samples of data each direction loses ``x (2 - x (1 + 1/B))`` of its loss in
a step, ``x = eta lambda``, and gains from the loss of all, which the stationary state returns as

    K = (1/B) sum x / (2 - x (1 + 1/B))

of a unit of loss: stable where no term is infinite and K is below 1 (docs/model.md, section 6).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _checks
from .spectrum import Spectrum

Array = NDArray[np.float64]
Weights = tuple[float, float]
FULL: Weights = (1.0, 1.0)


class Stability(NamedTuple):
    """How far a step size is from the largest stable one.

    Attributes
    ----------
    feedback : float
        Loss that the noise of a unit of loss leaves in the long run, K; stable below 1. Zero where
        noise does not depend on the state, infinite where a single direction is unstable by
        itself. Near 1 an expectation is not what a typical run does: its tails are heavy.
    largest : float
        Step size at the edge, eta_max; infinite where none is too large.
    """

    feedback: float
    largest: float

    @property
    def is_stable(self) -> bool:
        """Whether expected losses stay finite."""
        return self.feedback < 1.0


def additive(spectrum: Spectrum, step_size: float, weights: Weights = FULL) -> Stability:
    """Return the stability under noise that does not depend on the state.

    Examples
    --------
    >>> from suspalign_fast import Spectrum
    >>> from suspalign_fast.stability import additive
    >>> additive(Spectrum([4.0, 1.0], 1), 0.1)
    Stability(feedback=0.0, largest=0.5)
    """
    eta = _checks.real("step_size", step_size)
    top = float((spectrum.per_level(weights) * spectrum.eigenvalues).max())
    largest = 2.0 / top if top > 0.0 else float(np.inf)
    return Stability(0.0 if eta < largest else float(np.inf), largest)


def of_batches(
    spectrum: Spectrum, step_size: float, batch_size: int, weights: Weights = FULL
) -> Stability:
    """Return the stability under mini-batches of data.

    Examples
    --------
    >>> from suspalign_fast import Spectrum
    >>> from suspalign_fast.stability import of_batches
    >>> two = of_batches(Spectrum.two_level(100, 1, 10.0, 1.0), 0.01, batch_size=1)
    >>> two.is_stable, round(two.largest, 6)
    (True, 0.017709)

    Raises
    ------
    ValueError
        If an argument is not as described.
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
