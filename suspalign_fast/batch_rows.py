"""Physics of a row under mini-batches of data, as pure functions of its power sums.

A batch of B samples ``x ~ N(0, H)`` has residuals of variance ``P = S_1 + tau^2``, both bands
together. Given their squared norm ``P u``, u a chi-square of B degrees of freedom, the gradient is
Gaussian: ``N(s g, (s / B) (P H - g g'))`` with ``s = u / B``. Everything here follows from that.

Sums have shape (..., 2, 10): S_1 ... S_10 of the dominant and the bulk band. ``traces`` has shape
(2, 9): ``N_q = sum lambda^q``, q = 1 ... 9, of each band. ``update`` is the pair of weights of the
bands in the update.
"""

from typing import NamedTuple

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from ._lazy import special
from .kernels.row_terms import critical_terms, loss_bound_terms
from .rise import chi_square_tail

Array = NDArray[np.float64]
Weights = tuple[float, float]

NUM_SUMS, NUM_TRACES = 10, 9
#: Nodes of averages over u, and the share of its law that lies outside of them on either side.
NODES, TAIL = 48, 1e-11
FULL: Weights = (1.0, 1.0)


class Cumulants(NamedTuple):
    """Mean, variance and third cumulant of the change that decides whether alignment rises."""

    mean: Array
    variance: Array
    third: Array


def residual_variance(sums: Array, label_std: Array | float) -> Array:
    """Variance P of a sample's residual, ``S_1`` of both bands plus ``tau^2``, shape (...,)."""
    variance: Array = sums[..., 0].sum(-1) + label_std * label_std
    return variance


def second_moment_terms(sums: Array, traces: Array, batch_size: int, label_std: float) -> Array:
    """Return T in ``E[S_2'] = S_2 - 2 eta S_3 + eta^2 T`` of each band, shape (..., 2)."""
    p = residual_variance(sums, label_std)[..., None]
    terms: Array = sums[..., 3] * (1.0 + 1.0 / batch_size) + p * (traces[:, 2] / batch_size)
    return terms


def critical_fraction(
    sums: Array, traces: Array, batch_size: int, label_std: float, update: Weights = FULL
) -> tuple[Array, Array]:
    """Numerator and denominator of the critical step size, as `row_terms.critical_terms`."""
    t = second_moment_terms(sums, traces, batch_size, label_std)
    s2, s3 = sums[..., 1], sums[..., 2]
    return critical_terms(
        s2[..., 0], s3[..., 0], t[..., 0], s2[..., 1], s3[..., 1], t[..., 1], *update
    )


def loss_bounds(sums: Array, traces: Array, batch_size: int, label_std: float) -> Array:
    """Step sizes at which a step within each band leaves the expected loss, shape (..., 2)."""
    p = residual_variance(sums, label_std)[..., None]
    noise = sums[..., 2] / batch_size + p * (traces[:, 1] / batch_size)
    numerator, denominator = loss_bound_terms(sums[..., 1], sums[..., 2], noise)
    with np.errstate(divide="ignore", invalid="ignore"):
        bounds: Array = numerator / denominator
    return bounds


def cumulants_given(
    share: Array | float,
    sums: Array,
    traces: Array,
    batch_size: int,
    label_std: Array | float,
    eta: Array,
) -> Cumulants:
    """Return the cumulants of ``Z = S_2^B S_2'^D - S_2^D S_2'^B``, which is positive if it rises.

    Parameters
    ----------
    share : float or ndarray
        ``s = u / B``, given.
    sums, traces : ndarray of float64
        See the module.
    batch_size : int
    label_std : float
    eta : ndarray of float64, shape (..., 2)
        Step size of each band.
    """
    p = residual_variance(sums, label_std)
    s2, s3, s4, s5, s6, s7, s8, s9, s10 = (sums[..., i] for i in range(1, NUM_SUMS))
    n3, n6, n9 = (traces[:, i] for i in (2, 5, 8))
    b = s2[..., ::-1] * np.array([1.0, -1.0])
    es = eta * _of_bands(share)
    theta = share / batch_size

    def total(values: Array) -> Array:
        both: Array = values.sum(-1)
        return both

    def bent(low: Array, middle: Array, high: Array) -> Array:
        """``sum lambda^p c^2 (1 - eta s lambda)^2``."""
        return low - 2.0 * es * middle + es**2 * high

    p_band = p[..., None]
    hah = total(b * eta**2 * s4)
    ham = total(b * eta * (s3 - es * s4))
    hadah = total(b**2 * eta**4 * s7)
    mean = total(b * (bent(s2, s3, s4) + _of_bands(theta) * eta**2 * (p_band * n3 - s4)))
    spread = p * total(b**2 * eta**2 * bent(s5, s6, s7)) - ham**2
    squares = p**2 * total(b**2 * eta**4 * n6) - 2.0 * p * hadah + hah**2
    variance = 4.0 * theta * spread + 2.0 * theta**2 * squares
    mixed = total(b**2 * eta**3 * (s6 - es * s7))
    twice = p**2 * total(b**3 * eta**4 * bent(s8, s9, s10)) - 2.0 * p * mixed * ham + ham**2 * hah
    cubes = (
        p**3 * total(b**3 * eta**6 * n9)
        - 3.0 * p**2 * total(b**3 * eta**6 * s10)
        + 3.0 * p * hah * hadah
        - hah**3
    )
    return Cumulants(
        mean, np.maximum(variance, 0.0), 24.0 * theta**2 * twice + 8.0 * theta**3 * cubes
    )


def _of_bands(values: Array | float) -> Array:
    """Give values, one a row, an axis of bands."""
    return np.expand_dims(np.asarray(values, np.float64), -1)


def nodes_of(batch_size: int) -> tuple[Array, Array]:
    """Return values of ``u / B`` and weights that average over u, a chi-square of B degrees.

    Gauss-Legendre in the root of u, whose law is nearly normal for large B.
    """
    half = batch_size / 2.0
    low, high = (np.sqrt(2.0 * f(half, TAIL)) for f in (special.gammaincinv, special.gammainccinv))
    x, w = legendre.leggauss(NODES)
    root = 0.5 * (high - low) * x + 0.5 * (high + low)
    log = (batch_size - 1.0) * np.log(root) - 0.5 * root**2
    weights = w * np.exp(log - log.max())
    return root**2 / batch_size, weights / weights.sum()


def probability_of_rise(
    sums: Array, traces: Array, batch_size: int, label_std: float, eta: Array
) -> Array:
    """Return the chance that alignment rises in one step, shape (...,).

    Given u, Z is taken for a chi-square, moved and scaled, with its first three cumulants.

    Parameters
    ----------
    sums, traces : ndarray of float64
        See the module.
    batch_size : int
    label_std : float
    eta : ndarray of float64, shape (..., 2)
        Step size of each band.

    Returns
    -------
    ndarray of float64
        0 or 1 where a step is certain; NaN where the gradient is zero.
    """
    with np.errstate(all="ignore"):
        # In units of P, which no power of can overflow.
        p = residual_variance(sums, label_std)
        unit = np.where(p > 0.0, p, 1.0)
        sums, label = sums / unit[..., None, None], label_std / np.sqrt(unit)
        probability = np.zeros(p.shape)
        for share, weight in zip(*nodes_of(batch_size), strict=True):
            z = cumulants_given(share, sums, traces, batch_size, label, eta)
            std = np.sqrt(z.variance)
            certain = (z.mean > 0.0).astype(np.float64)
            tail = chi_square_tail(z.mean / std, z.third / std / z.variance)
            probability += weight * np.where(std > 0.0, tail, certain)
        unknown = (sums[..., 1].sum(-1) == 0.0) | np.isnan(eta).any(-1)
    return np.where(unknown, np.nan, np.clip(probability, 0.0, 1.0))
