"""All physics of a recorded step, as pure functions of its power sums (DESIGN section 2).

Every function is vectorized over leading axes. ``power_sums`` has shape (..., 2, 4): S_1 ... S_4
of the dominant and the bulk band, ``S_p = sum lambda_i^p c_i^2``. ``noise_sums`` has shape
(..., 2, 3): R_4 ... R_6, ``R_p = sum lambda_i^p s_i^2 c_i^2``. ``constants`` has shape (2, 3):
N_1, N_2 and K of each band, ``N_q = sum lambda_i^q s_i^2`` and ``K = sum lambda_i^4 s_i^4``.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def band_losses(power_sums: Array) -> Array:
    """Loss of each band, ``S_1 / 2``, shape (..., 2)."""
    return power_sums[..., 0] / 2.0


def loss(power_sums: Array) -> Array:
    """Loss ``L(theta)``, shape (...,)."""
    return band_losses(power_sums).sum(-1)


def band_grad_sq(power_sums: Array) -> Array:
    """Squared norm of the gradient in each band, ``S_2``, shape (..., 2)."""
    return power_sums[..., 1]


def alignment(power_sums: Array) -> Array:
    """Alignment ``S_2^dom / (S_2^dom + S_2^bulk)``; NaN where the gradient is zero."""
    dominant, bulk = power_sums[..., 0, 1], power_sums[..., 1, 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return dominant / (dominant + bulk)


def critical_step_size(power_sums: Array, constants: Array) -> Array:
    """Step size at which the expected odds ``S_2^dom / S_2^bulk`` neither rise nor fall.

    ``eta* = 2 (S_3^D S_2^B - S_3^B S_2^D) / ((S_4^D + N_2^D) S_2^B - (S_4^B + N_2^B) S_2^D)``,
    infinite where the denominator is not positive (self-correcting: alignment falls for every
    step size), NaN where the gradient is zero.

    Sources: arXiv 2601.11789 (critical step size); DESIGN section 2.
    """
    total = power_sums[..., 1].sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        sums = power_sums / total[..., None, None]
        noise = constants[:, 1] / total[..., None]
        s2, s3, s4 = sums[..., 1], sums[..., 2], sums[..., 3] + noise
        numerator = 2.0 * (s3[..., 0] * s2[..., 1] - s3[..., 1] * s2[..., 0])
        denominator = s4[..., 0] * s2[..., 1] - s4[..., 1] * s2[..., 0]
        critical = np.where(denominator > 0.0, numerator / denominator, np.inf)
    return np.where(total > 0.0, critical, np.nan)
