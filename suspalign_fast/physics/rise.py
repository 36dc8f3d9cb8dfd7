"""The chance that alignment rises in one step, from the sums of a row.

Alignment rises exactly where ``Z = S_2'^D / S_2^D - S_2'^B / S_2^B`` is positive, ``S_2'`` being
the sums after the step. With ``g_i' ~ N(m_i, w_i)``, ``m_i = (1 - eta lambda_i) g_i`` and
``w_i = (eta lambda_i s_i)^2``, the first three cumulants of a band's ``S_2'`` are

    sum m_i^2 + w_i,    sum 4 m_i^2 w_i + 2 w_i^2,    sum 24 m_i^2 w_i^2 + 8 w_i^3,

those of Z follow, and Z is taken for a chi-square, moved and scaled, with the same three (Pearson,
1959, Biometrika 46). A row holds the first two cumulants and part of the third: what is missing is
``sum lambda^6 s^6``, a constant of the problem, and ``Q_p = sum lambda^p s^4 c^2``, p = 6, 7, 8,
which is estimated from the sums there are.
"""

from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from .row import Velocity
from .velocity import after

Array = NDArray[np.float64]

#: A law of less skewness is normal.
NORMAL_SKEWNESS = 1e-3
#: Largest power of a law whose sums a row has.
MAX_POWER = 1
#: Relative variance of eigenvalues below which their skewness drowns in rounding.
NARROW = 1e-8
#: Powers of s by which a band's directions are weighted, and bins of its logarithm.
TILTS = np.linspace(-12.0, 12.0, 97)
BINS = 128


class NoiseShape(NamedTuple):
    """What the third cumulant takes from a problem, beside the constants of a row.

    Attributes
    ----------
    sixth : ndarray of float64, shape (2,)
        ``(sum lambda^6 s^6)^(1/3)`` of the dominant and the bulk band.
    variance : float
        ``sigma^2`` where ``s^2 = sigma^2 lambda^power``, NaN where there is no such law.
    power : int
    tilted : tuple of ndarray or None
        Of each band without such a law, from `tilted_variances`.
    largest : ndarray of float64, shape (2,)
        Largest ``lambda^2 s^2`` of each band, or a bound of it.
    """

    sixth: Array
    variance: float = float("nan")
    power: int = 0
    tilted: tuple[Array, Array] | None = None
    largest: Array | float = float("inf")


def shape_of_constants(constants: Array) -> NoiseShape:
    """Return the shape of noise that is equally strong in a band, all that constants tell.

    Parameters
    ----------
    constants : ndarray of float64, shape (..., 2, 3)
        N_1, N_2 and K of both bands.
    """
    n2, k = constants[..., 1], constants[..., 2]
    with np.errstate(all="ignore"):
        sixth = np.where(n2 > 0.0, np.cbrt(k / n2) * np.cbrt(k), 0.0)
        return NoiseShape(sixth, largest=np.sqrt(k))


def tilted_variances(lam: Array, std: Array, count: Array) -> Array:
    """Return how the mean of ``s^2`` grows when directions are weighted by one more ``s^2``.

    Parameters
    ----------
    lam, std, count : ndarray of float64, shape (levels,)
        Eigenvalues, noise and number of directions of a band's levels.

    Returns
    -------
    ndarray of float64, shape (2, tilts)
        Logarithms of the mean of ``s^2`` under the weights ``lambda^4 s^(2 tau)`` and under
        ``lambda^4 s^(2 tau + 2)``, for tau = `TILTS`.
    """
    noisy = (std > 0.0) & (lam > 0.0)
    if not noisy.any():
        return np.zeros((2, TILTS.size))
    log = 2.0 * np.log(std[noisy])
    weights, edges = np.histogram(log, BINS, weights=count[noisy] * (lam[noisy] / lam.max()) ** 4)
    center = (edges[1:] + edges[:-1]) / 2.0
    with np.errstate(divide="ignore"):
        terms = np.log(weights) + (TILTS[:, None] + np.arange(3)[:, None, None]) * center
    return np.diff(scipy.special.logsumexp(terms, axis=-1), axis=0)


def probability_of_rise(
    power_sums: Array,
    noise_sums: Array,
    constants: Array,
    eta: Array,
    shape: NoiseShape,
    fourth: Array | None = None,
) -> Array:
    """Return the chance that alignment rises in one step, shape (...,).

    Parameters
    ----------
    power_sums, noise_sums, constants : ndarray of float64
        As in `formulas`.
    eta : ndarray of float64, shape (..., 2)
        Step size of each band, NaN where there is none.
    shape : NoiseShape
    fourth : ndarray of float64, shape (..., 2), optional
        ``sum m^2 w^2 / eta^4``, by default estimated from the sums.

    Returns
    -------
    ndarray of float64
        0 or 1 where no noise acts on the step. NaN where the gradient or the step size is.
    """
    with np.errstate(all="ignore"):
        s2, s3, s4 = (power_sums[..., p] for p in (1, 2, 3))
        n2, k = constants[..., 1], constants[..., 2]
        # All relative to S_2, which no power of it can overflow.
        growth = eta * (eta * ((s4 + n2) / s2) - 2.0 * (s3 / s2))
        r4, r5, r6 = (noise_sums[..., p] / s2 for p in (0, 1, 2))
        signal = np.maximum(r4 - 2.0 * eta * r5 + eta**2 * r6, 0.0)
        variance = (4.0 * eta**2 * signal + 2.0 * eta**4 * (k / s2)) / s2
        if fourth is None:
            fourth = _fourth(power_sums, noise_sums, eta, shape)
        else:
            fourth = fourth / s2 / s2 / s2
        still = 1.0 + eta * (eta * (s4 / s2) - 2.0 * (s3 / s2))
        fourth = _between(still, signal / s2, shape.largest / s2, fourth)
        third = _third(power_sums, eta, shape, fourth)
        std = np.sqrt(variance)
        skewness = np.where(std > 0.0, third / std / variance, 0.0)
        probability = _above_zero(growth, std, skewness)
        dominant, bulk = s2[..., 0], s2[..., 1]
        # Without a dominant gradient any noise there makes alignment rise; without a bulk, none.
        kicked = (eta[..., 0] > 0.0) & (n2[..., 0] > 0.0)
        probability = np.where(dominant == 0.0, kicked.astype(np.float64), probability)
        probability = np.where(bulk == 0.0, 0.0, probability)
    unknown = (dominant + bulk == 0.0) | np.isnan(eta).any(-1)
    return np.where(unknown, np.nan, probability)


def _above_zero(mean: Array, std: Array, skewness: Array) -> Array:
    """Chance that the first of two independent variables exceeds the second.

    Parameters have the two along their last axis.
    """
    difference = mean[..., 0] - mean[..., 1]
    total = np.hypot(std[..., 0], std[..., 1])
    certain = (difference > 0.0).astype(np.float64)
    share = std / total[..., None]
    gamma = skewness[..., 0] * share[..., 0] ** 3 - skewness[..., 1] * share[..., 1] ** 3
    return np.where(total > 0.0, chi_square_tail(difference / total, gamma), certain)


def chi_square_tail(z: Array, skewness: Array) -> Array:
    """Chance that a variable is positive whose mean is z, with variance 1 and a given skewness.

    ``(X - n) / sqrt(2 n)`` for a chi-square X with ``n = 8 / skewness^2`` degrees of freedom.
    """
    skewed = np.abs(skewness) > NORMAL_SKEWNESS
    freedom = 8.0 / np.where(skewed, skewness, 1.0) ** 2
    edge = np.maximum(freedom - np.sign(skewness) * z * np.sqrt(2.0 * freedom), 0.0)
    upper = scipy.special.gammaincc(freedom / 2.0, edge / 2.0)
    lower = scipy.special.gammainc(freedom / 2.0, edge / 2.0)
    return np.where(skewed, np.where(skewness > 0.0, upper, lower), scipy.special.ndtr(z))


def fourth_of_velocity(
    power_sums: Array, noise_sums: Array, eta: Array, shape: NoiseShape, velocity: Velocity
) -> Array:
    """Estimate ``sum m^2 w^2 / eta^4`` of each band under momentum, shape (..., 2).

    With ``u = c~ - eta p lambda c`` it is ``p^4 sum lambda^6 s^4 u^2``. Rows have the sums of
    ``lambda u^2``, ``lambda^2 u^2`` and ``lambda^4 s^2 u^2``: under a law of the noise the
    logarithm of such sums is taken for a parabola in the power of lambda, otherwise s^2 for as
    strong in u as it is in c.
    """
    p = velocity.pull
    with np.errstate(all="ignore"):
        m1, m2, r4 = after(power_sums, noise_sums, eta, velocity)
        if np.isnan(shape.variance):
            q6, _, _ = _fourth_order_sums(power_sums, noise_sums, shape)
            s2 = power_sums[..., 1]
            ratio = np.where(noise_sums[..., 0] > 0.0, q6 / (noise_sums[..., 0] / s2 / s2), 0.0)
            return np.maximum(p**4 * r4 * ratio * s2, 0.0)
        high = 4 + shape.power
        logs = np.log([np.maximum(m, 0.0) for m in (m1, m2, r4 / shape.variance)])
        ends = logs[1] + (high - 2) * (logs[1] - logs[0])
        bend = (logs[2] - ends) / ((high - 1) * (high - 2))
        power = 6 + 2 * shape.power
        log = logs[1] + (power - 2) * (logs[1] - logs[0]) + bend * (power - 1) * (power - 2)
        return np.where(r4 > 0.0, p**4 * shape.variance**2 * np.exp(log), 0.0)


def _fourth(power_sums: Array, noise_sums: Array, eta: Array, shape: NoiseShape) -> Array:
    """``sum m^2 w^2 / eta^4`` of each band, over ``S_2^3``."""
    q6, q7, q8 = _fourth_order_sums(power_sums, noise_sums, shape)
    return np.maximum(q6 - 2.0 * eta * q7 + eta**2 * q8, 0.0)


def _between(still: Array, signal: Array, largest: Array, fourth: Array) -> Array:
    """Return an estimate of ``sum m^2 w^2``, not above or below what it can be.

    With ``w <= largest`` it is at most ``largest sum m^2 w``, and at least the square of
    ``sum m^2 w`` over ``sum m^2`` (Cauchy and Schwarz); `still` is ``sum m^2``, `signal` is
    ``sum m^2 w``, all over eta and S_2.
    """
    least = np.where(still > 0.0, signal * (signal / still), 0.0)
    most = signal * largest  # NaN without a bound and without a signal
    bounded: Array = np.fmin(np.maximum(fourth, least), most)
    return bounded


def _third(power_sums: Array, eta: Array, shape: NoiseShape, signal: Array) -> Array:
    """Third cumulant of each band's ``S_2' / S_2``."""
    return 8.0 * (eta**2 * (shape.sixth / power_sums[..., 1])) ** 3 + 24.0 * eta**4 * signal


def _fourth_order_sums(
    power_sums: Array, noise_sums: Array, shape: NoiseShape
) -> tuple[Array, Array, Array]:
    """Estimate ``Q_p = sum lambda^p s^4 c^2``, p = 6, 7, 8, of each band, over ``S_2^3``.

    Under a law ``s^2 = sigma^2 lambda^power`` they are ``sigma^2 R_(p + power)``, and R_7 ... R_9
    are those of the two eigenvalues that have R_3 ... R_6 (a Gauss rule). Otherwise c^2 is taken
    for a power of s, the one that has the mean of s^2 that the row has, ``R_4 / S_4``.
    """
    s2 = power_sums[..., 1]
    r4, r5, r6 = (noise_sums[..., p] / s2 / s2 for p in (0, 1, 2))
    if not np.isnan(shape.variance):
        variance = shape.variance / s2
        r3 = variance * (power_sums[..., 2 + shape.power] / s2)
        sums = [r6, *extrapolated(r3, r4, r5, r6)]
        q6, q7, q8 = (variance * sums[p + shape.power] for p in range(3))
        return q6, q7, q8
    mean = noise_sums[..., 0] / power_sums[..., 3]
    if shape.tilted is not None:
        bands = [np.interp(np.log(mean[..., i]), *shape.tilted[i]) for i in range(2)]
        mean = np.exp(np.stack(bands, axis=-1))
    mean = np.where(r4 > 0.0, mean / s2, 0.0)
    ratio = np.where(r5 > 0.0, r6 / r5, 0.0)
    return mean * r6, mean * r6 * ratio, mean * r6 * ratio * ratio


def extrapolated(m0: Array, m1: Array, m2: Array, m3: Array) -> tuple[Array, Array, Array]:
    """Moments 4, 5 and 6 of the two-point measure with these moments 0 ... 3, all positive."""
    ratio, u3, tilt, spread = _two_points(m0, m1, m2, m3)
    cubic = tilt * spread
    fourth = tilt * cubic + spread * spread
    fifth = tilt * fourth + spread * cubic
    sixth = tilt * fifth + spread * fourth
    scale = np.where(u3 > 0.0, m3 / u3, 0.0)
    return (
        scale * ratio * (1.0 + 6.0 * spread + 4.0 * cubic + fourth),
        scale * ratio**2 * (1.0 + 10.0 * spread + 10.0 * cubic + 5.0 * fourth + fifth),
        scale * ratio**3
        * (1.0 + 15.0 * spread + 20.0 * cubic + 15.0 * fourth + 6.0 * fifth + sixth),
    )  # fmt: skip


def node_cubes(m0: Array, m1: Array, m2: Array, m3: Array) -> tuple[Array, Array]:
    """Sum and product of the cubes of the two points whose measure has moments 0 ... 3."""
    mean, _, tilt, spread = _two_points(m0, m1, m2, m3)
    total, product = mean * (2.0 + tilt), mean**2 * (1.0 + tilt - spread)
    return total * (total**2 - 3.0 * product), product**3


def _two_points(m0: Array, m1: Array, m2: Array, m3: Array) -> tuple[Array, Array, Array, Array]:
    """Mean of the two-point measure, its relative third moment, and its tilt and spread.

    The points are at relative distances y from the mean with ``y^2 = tilt y + spread``.
    """
    ratio = np.where(m0 > 0.0, m1 / m0, 0.0)
    u2 = np.where(m1 > 0.0, m2 / m1 / ratio, 1.0)
    u3 = np.where(m2 > 0.0, m3 / m2 / ratio * u2, 1.0)
    spread = np.maximum(u2 - 1.0, 0.0)
    cubic = u3 - 3.0 * u2 + 2.0
    return ratio, u3, np.where(spread > NARROW, cubic / spread, 0.0), spread
