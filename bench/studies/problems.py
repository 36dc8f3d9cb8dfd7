"""The two problems that several studies follow: the shipped real spectrum and a synthetic one."""

import numpy as np

import suspalign_fast as sa
from suspalign_fast.model.spectrum.named import digits_mlp


def real():
    """Return the problem of ``suspalign run`` without its null space, and its step size.

    Directions of zero curvature add nothing to any sum of a row, and the noise of a coordinate
    does not depend on how many follow it: rows are those of the full problem, for 1 % of the work.
    """
    spectrum = digits_mlp()
    curved = spectrum.eigenvalues > 0.0
    kept = (spectrum.eigenvalues[curved], spectrum.num_dominant, spectrum.multiplicities[curved])
    return sa.Quadratic(sa.Spectrum(*kept), sa.HessianNoise(0.3), initial=10.0), 0.1


def synthetic(dim=20_000, num_dominant=2_000):
    """Return two bands (100..80 and 0.8..0.1) with isotropic noise 0.5, and a step size."""
    spectrum = sa.Spectrum.linear_bands(dim, num_dominant)
    return sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=10.0), 0.003


def expected_sums(problem, step_size, step):
    """Return the expected power sums S_1 ... S_4 of both bands, shape (2, 4); inf is stationary."""
    spectrum = problem.spectrum
    lam, variance = spectrum.eigenvalues, problem.stds**2
    floor = step_size * variance / (lam * (2.0 - step_size * lam))
    decay = 0.0 if np.isinf(step) else (1.0 - step_size * lam) ** (2 * step)
    squares = floor + decay * (problem.initial**2 - floor)
    return np.stack([spectrum.band_sums(lam**p * squares) for p in range(1, 5)], axis=-1)
