"""All physics of a recorded step, as pure functions of its power sums (DESIGN section 2).

Every function is vectorized over leading axes. ``power_sums`` has shape (..., 2, 4): S_1 ... S_4
of the dominant and the bulk band, ``S_p = sum lambda_i^p c_i^2``. ``noise_sums`` has shape
(..., 2, 3): R_4 ... R_6, ``R_p = sum lambda_i^p s_i^2 c_i^2``. ``constants`` has shape (2, 3):
N_1, N_2 and K of each band, ``N_q = sum lambda_i^q s_i^2`` and ``K = sum lambda_i^4 s_i^4``.

The two ``*_terms`` functions are plain arithmetic, so that step-size rules compile the very same
formulas for one row.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BELOW, ABOVE, SELF_CORRECTING = "below", "above", "self-correcting"


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
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return dominant / (dominant + bulk)


def critical_terms(s2_d: Any, s3_d: Any, s4_d: Any, s2_b: Any, s3_b: Any, s4_b: Any) -> Any:
    """Numerator and denominator of the critical step size.

    ``s4_d`` and ``s4_b`` are ``S_4 + N_2``. The expected odds change by a positive multiple of
    ``eta (eta denominator - numerator)``.
    """
    return 2.0 * (s3_d * s2_b - s3_b * s2_d), s4_d * s2_b - s4_b * s2_d


def critical_step_size(power_sums: Array, constants: Array) -> Array:
    """Step size at which the expected odds ``S_2^dom / S_2^bulk`` neither rise nor fall.

    ``eta* = 2 (S_3^D S_2^B - S_3^B S_2^D) / ((S_4^D + N_2^D) S_2^B - (S_4^B + N_2^B) S_2^D)``,
    infinite where the denominator is not positive (self-correcting: alignment falls for every
    step size), NaN where the gradient is zero.

    Sources: arXiv 2601.11789 (critical step size); DESIGN section 2.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore", under="ignore"):
        total = power_sums[..., 1].sum(-1)
        sums = power_sums / total[..., None, None]
        s4 = sums[..., 3] + constants[:, 1] / total[..., None]
        numerator, denominator = critical_terms(
            sums[..., 0, 1], sums[..., 0, 2], s4[..., 0],
            sums[..., 1, 1], sums[..., 1, 2], s4[..., 1],
        )  # fmt: skip
        critical = np.where(denominator > 0.0, numerator / denominator, np.inf)
    return np.where(total > 0.0, critical, np.nan)


def regime(step_size: Array, critical: Array) -> NDArray[np.str_]:
    """Name where each row stands: "below" or "above" its critical step size, or "self-correcting".

    Parameters
    ----------
    step_size, critical : ndarray of float64, shape (...,)
        As in a trace.

    Returns
    -------
    ndarray of str, shape (...,)
        Empty strings where either is NaN.
    """
    names = np.where(step_size < critical, BELOW, ABOVE)
    names = np.where(np.isposinf(critical), SELF_CORRECTING, names)
    return np.where(np.isnan(step_size) | np.isnan(critical), "", names)


def loss_bound_terms(s2: Any, s3: Any, n1: Any) -> Any:
    """Numerator and denominator of the step size at which a band's expected loss stands still."""
    return 2.0 * s2, s3 + n1


def loss_interval(power_sums: Array, constants: Array) -> Array:
    """Bounds of the step sizes of claim 3 (DESIGN section 2), shape (..., 2): lower, upper.

    A step projected on the dominant subspace raises the expected loss for ``eta > lower``, one
    projected on the bulk lowers it for ``eta < upper``; the interval is not empty where
    ``lower < upper``. ``2 S_2 / (S_3 + N_1)`` of the dominant and of the bulk band; NaN where a
    band has neither gradient nor noise.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        above, below = loss_bound_terms(power_sums[..., 1], power_sums[..., 2], constants[:, 0])
        return above / below


class Prediction(NamedTuple):
    """The alignment of the next step, predicted from a row.

    Attributes
    ----------
    mean : ndarray of float64
        Ratio of the expected squared gradients.
    std : ndarray of float64
        Standard deviation of the next alignment (delta method).
    change : ndarray of float64
        `mean` less the alignment of the row, without cancellation.
    z : ndarray of float64
        Normal score of the direction: the alignment rises with probability about Phi(z). An
        observed sign is evidence only where ``|z|`` is large.
    """

    mean: Array
    std: Array
    change: Array
    z: Array


def predict_alignment(
    power_sums: Array,
    noise_sums: Array,
    constants: Array,
    step_size: Array | float,
    update: tuple[float, float] = (1.0, 1.0),
) -> Prediction:
    """Predict the alignment one step after each row.

    Parameters
    ----------
    power_sums, noise_sums, constants : ndarray of float64
        See the module.
    step_size : ndarray of float64, shape (...,)
    update : tuple of two float
        Weights of the dominant and the bulk part of the update.

    Notes
    -----
    ``E[S_2'] = S_2 - 2 eta S_3 + eta^2 (S_4 + N_2)`` and
    ``Var[S_2'] = 4 eta^2 (R_4 - 2 eta R_5 + eta^2 R_6) + 2 eta^4 K`` of each band (DESIGN section
    2); `std` is the delta method for their ratio. `z` compares cube roots, in which sums of
    squares are close to normal however few directions a band has (Wilson and Hilferty, 1931): with
    mean m and variance v of a band, ``S_2'^(1/3)`` has mean ``m^(1/3) (1 - a)`` and variance
    ``m^(2/3) a``, ``a = v / (9 m^2)``. In bands of many directions it is ``change / std``.
    """
    eta = np.asarray(step_size)[..., None] * np.asarray(update)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        s2, s3, s4 = (power_sums[..., p] for p in (1, 2, 3))
        r4, r5, r6 = (noise_sums[..., p] for p in (0, 1, 2))
        growth = eta * (eta * (s4 + constants[:, 1]) - 2.0 * s3)
        after = s2 + growth
        variance = (
            4.0 * eta**2 * (r4 - 2.0 * eta * r5 + eta**2 * r6) + 2.0 * eta**4 * constants[:, 2]
        )
        total, total_after = s2.sum(-1), after.sum(-1)
        mean = after[..., 0] / total_after
        spread = after[..., 1] ** 2 * variance[..., 0] + after[..., 0] ** 2 * variance[..., 1]
        std = np.sqrt(np.maximum(spread, 0.0)) / total_after**2
        change = (growth[..., 0] * s2[..., 1] - growth[..., 1] * s2[..., 0]) / (total * total_after)
        root = np.expm1(np.log1p(growth / s2) / 3.0)
        a = np.maximum(variance, 0.0) / (9.0 * after**2)
        score = root - (1.0 + root) * a
        z = (score[..., 0] - score[..., 1]) / np.sqrt(((1.0 + root) ** 2 * a).sum(-1))
        return Prediction(mean, std, change, z)
