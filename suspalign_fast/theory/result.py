"""What the exact theory returns."""

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from .._equality import same_values
from .._travel import Travels
from .._underflow import may_underflow
from ..stability import Stability

Array = NDArray[np.float64]
#: Arrays at given times, or numbers at no time in particular.
Value = TypeVar("Value", Array, float)


@dataclass(frozen=True, eq=False)
class Expected(Travels, Generic[Value]):
    """Exact mean and standard deviation of the columns of a trace.

    Attributes
    ----------
    step : ndarray of int64, shape (times,)
        From `expected`; absent (None) from `stationary`, whose other attributes are floats.
    alignment_mean, alignment_std : ndarray of float64, shape (times,)
        NaN where the gradient is zero with certainty, or not finite.
    loss_mean, loss_std, loss_dominant_mean, loss_dominant_std, loss_bulk_mean, loss_bulk_std :
    ndarray of float64, shape (times,)
    grad_sq_dominant_mean, grad_sq_bulk_mean : ndarray of float64, shape (times,)
        Infinite past divergence.
    unknown : tuple of str
        Attributes that are NaN: what has no closed form under the problem's noise, which `estimate`
        samples, and what was not asked for.
    stability : Stability or None
        How far a constant step size is from the largest stable one; None of a schedule.
    """

    step: NDArray[np.int64] | None
    alignment_mean: Value
    alignment_std: Value
    loss_mean: Value
    loss_std: Value
    loss_dominant_mean: Value
    loss_dominant_std: Value
    loss_bulk_mean: Value
    loss_bulk_std: Value
    grad_sq_dominant_mean: Value
    grad_sq_bulk_mean: Value
    unknown: tuple[str, ...] = ()
    stability: Stability | None = None

    @property
    @may_underflow
    def alignment_of_means(self) -> Value:
        """Share of the dominant band in the expected squared gradient.

        Not the mean of the alignment, but close to it where both bands have many directions.
        """
        dominant, bulk = self.grad_sq_dominant_mean, self.grad_sq_bulk_mean
        with np.errstate(invalid="ignore", divide="ignore"):
            share: Value = dominant / np.add(dominant, bulk)
        return share

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Expected):
            return NotImplemented
        names = ("step", *MOMENTS, "stability")
        return same_values(*([getattr(x, name) for name in names] for x in (self, other)))


#: Attributes that are means or standard deviations.
MOMENTS = tuple(name for name in Expected.__dataclass_fields__ if name.endswith(("_mean", "_std")))
