"""Exact theory: means and standard deviations without a simulation.

With step sizes known in advance every coefficient c_i(t) is Gaussian and independent of the
others, so the loss is a sum with known mean and variance, and mean and standard deviation of the
alignment, a ratio, are one-dimensional integrals (``kernels.ratio``). The cost is that of the
levels of the spectrum, whatever their multiplicities. Under mini-batches of data, whose noise
depends on the state, losses and squared gradients alone are known. Past the largest float64 number
losses and squared gradients are infinite and alignments NaN, without a warning.

==================  ===============================================================
`levels`            the levels of a problem, moments of sums over them, what is returned
`momentum_batches`  the moments that are known under mini-batches of data and momentum
`batches`           the same of plain SGD
`expected`          `expected`, `stationary` and `stability`
`next_step`         `expected_next_alignment` and `exact_critical_step_size`
`phases`            the two phases of alignment: how low, when, and the plateau
==================  ===============================================================
"""

from .expected import expected, stability, stationary
from .levels import MOMENTS, Expected, Levels
from .next_step import exact_critical_step_size, expected_next_alignment

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
