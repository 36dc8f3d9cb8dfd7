"""Exact theory: means and standard deviations without a simulation.

With step sizes known in advance every coefficient c_i(t) is Gaussian and independent of the
others, so the loss is a sum with known mean and variance, and mean and standard deviation of the
alignment, a ratio, are one-dimensional integrals (``kernels.ratio``). The cost is that of the
levels of the spectrum, whatever their multiplicities. Under mini-batches of data, whose noise
depends on the state, losses and squared gradients alone are known. Past the largest float64 number
losses and squared gradients are infinite and alignments NaN, without a warning.

==================  ===============================================================
`result`            what is returned
`levels`            the levels of a problem, and moments of sums over them
`in_time`           `expected`, `stationary` and `stability`
`resolution`        moments under momentum from few levels, as many as it takes
`pieces`            step sizes known in advance, cut where many steps share one
`batches`           the moments that are known under mini-batches of data
`batches_momentum`  the same with momentum
`next_step`         `expected_next_alignment`
`first_root`        the first change of sign of a function
`critical`          `exact_critical_step_size`
==================  ===============================================================
"""

from .critical import exact_critical_step_size
from .in_time import expected, stability, stationary
from .levels import Levels
from .next_step import expected_next_alignment
from .result import MOMENTS, Expected

__all__ = [
    "MOMENTS",
    "Expected",
    "Levels",
    "exact_critical_step_size",
    "expected",
    "expected_next_alignment",
    "stability",
    "stationary",
]
