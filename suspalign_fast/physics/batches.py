"""Rows under mini-batches of data, without and with momentum: pure functions of their sums.

Momentum makes of a row the row of plain SGD with the same next step. With ``c~ = c - eta q v``, a
step is ``c' = c~ - eta p h``, and h given the size of a batch's residuals is Gaussian with a mean
and a covariance made of c alone (below). So every formula of plain SGD holds with eta p in the
place of eta and, of ten sums, with

    sum lambda^p c~^2 in the place of S_2, S_5 and S_8,
    sum lambda^p c c~ in that of S_3, S_6 and S_9,

while S_1, S_4, S_7 and S_10 stay (docs/momentum.md). Rows have all that mean and variance take:
noise with ``s^2 = lambda`` makes X_4, X_5 and W_4 the sums of ``lambda^p c v``, p = 5, 6, and of
``lambda^5 v^2``.
"""

from typing import NamedTuple

import numpy as np
import scipy
from numpy.polynomial import legendre
from numpy.typing import NDArray

from ..base.values import may_underflow
from .formulas import Prediction, Weights
from .rise import NoiseShape, chi_square_tail, extrapolated, node_cubes
from .row import Velocity
from .velocity import C2, C3, V2, W4, X4, X5

Array = NDArray[np.float64]


def moved_sums(sums: Array, eta: Array, velocity: Velocity) -> tuple[Array, Array]:
    """Return the ten sums of the next step's law, and how far the first squares are moved.

    `eta` is step size times weight of each band, shape (..., 2). The move ``sum lambda^2 (c~^2 -
    c^2)`` is without cancellation. Rows lack the sums of the powers 8 and 9, which only skewness
    takes. What the velocity adds to them follows from what it adds to those of powers lower by
    three and by six, as if all of it were at the two eigenvalues that have S_4 ... S_7.
    """
    extra, _, q = velocity
    shift = eta * q
    squares_2 = shift * (shift * extra[..., V2] - 2.0 * extra[..., C2])
    squares_5 = shift * (shift * extra[..., W4] - 2.0 * extra[..., X4])
    mixed_3, mixed_6 = -shift * extra[..., C3], -shift * extra[..., X5]
    with np.errstate(all="ignore"):
        total, product = node_cubes(*(sums[..., i] for i in range(3, 7)))
    moved = sums.copy()
    moved[..., 1] += squares_2
    moved[..., 2] += mixed_3
    moved[..., 4] += squares_5
    moved[..., 5] += mixed_6
    moved[..., 7] += total * squares_5 - product * squares_2
    moved[..., 8] += total * mixed_6 - product * mixed_3
    return moved, squares_2


# --- Physics of a row under mini-batches of data, as pure functions of its power sums ------------
#
# A batch of B samples ``x ~ N(0, H)`` has residuals of variance ``P = S_1 + tau^2``, both bands
# together. Given their squared norm ``P u``, u a chi-square of B degrees of freedom, the gradient
# is Gaussian: ``N(s g, (s / B) (P H - g g'))`` with ``s = u / B``. Everything here follows from
# that.
#
# A row holds what it takes, as the sums and constants of noise with ``s_i^2 = lambda_i``: R_4, R_5
# and R_6 are S_5, S_6 and S_7, and N_1, N_2 and K are ``sum lambda^q``, q = 2, 3, 6. The third
# cumulant wants S_8, S_9 and S_10 as well, which are those of the two eigenvalues that have S_4 ...
# S_7 (a Gauss rule), and ``sum lambda^9``, a constant of the problem.
#
# ``sums`` have shape (..., 2, 10): S_1 ... S_10 of the dominant and the bulk band. ``traces`` has
# shape (2, 9): ``sum lambda^q``, q = 1 ... 9, of each band.


NUM_SUMS, NUM_TRACES = 10, 9
#: Nodes of averages over u, and the share of its law that lies outside of them on either side.
NODES, TAIL = 48, 1e-11


class Cumulants(NamedTuple):
    """Mean, variance and third cumulant of the change that decides whether alignment rises."""

    mean: Array
    variance: Array
    third: Array


def residual_variance(sums: Array, label_std: Array | float) -> Array:
    """Variance P of a sample's residual, ``S_1`` of both bands plus ``tau^2``, shape (...,)."""
    variance: Array = sums[..., 0].sum(-1) + label_std * label_std
    return variance


@may_underflow
def constants_at(
    constants: Array, power_sums: Array, noise_sums: Array, batch_size: int, label_std: float
) -> Array:
    """Return N_1, N_2 and K of the noise of batches at rows, shape (..., 2, 3).

    The gradient has the variance ``(lambda^2 c^2 + P lambda) / B`` in each direction, so that ``N_1
    = (S_3 + P sum lambda^2) / B`` and ``N_2 = (S_4 + P sum lambda^3) / B``: with these, critical
    step size and loss interval are what they are under additive noise. `constants` are those of
    ``s_i^2 = lambda_i``.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        p = residual_variance(power_sums, label_std)[..., None]
        s3, s4, s7 = power_sums[..., 2], power_sums[..., 3], noise_sums[..., 2]
        n1, n2, k = (constants[:, i] for i in range(3))
        squares = p * (p * k - 2.0 * s7) + s4 * s4
        at = [(s3 + p * n1) / batch_size, (s4 + p * n2) / batch_size, squares / batch_size**2]
        return np.stack(at, axis=-1)


@may_underflow
def predict_alignment(
    power_sums: Array,
    noise_sums: Array,
    constants: Array,
    step_size: Array | float,
    update: Weights,
    shape: NoiseShape | None,
    batch_size: int,
    label_std: float,
    velocity: Velocity | None = None,
) -> Prediction:
    """Predict the alignment one step after each row; without a `shape` the law is normal given u.

    Of ``Z = S_2^B S_2'^D - S_2^D S_2'^B``, which is positive exactly where alignment rises, `z` is
    the mean over the standard deviation; `probability` averages over u a chi-square, moved and
    scaled, with the first three cumulants of Z.
    """
    eta = np.asarray(step_size, np.float64)[..., None] * np.asarray(update)
    with np.errstate(all="ignore"):
        # In units of P, which no power of can overflow.
        p = residual_variance(power_sums, label_std)
        unit = np.where(p > 0.0, p, 1.0)
        sums = _ten_sums(power_sums / unit[..., None, None], noise_sums / unit[..., None, None])
        label = label_std / np.sqrt(unit)
        traces = _traces(constants, shape)
        s2 = sums[..., 1]
        drift: Array | float = 0.0
        if velocity is not None:
            extra, pull, carry = velocity
            scaled = Velocity(extra / unit[..., None, None], pull, carry)
            sums, drift = moved_sums(sums, eta, scaled)
            eta = pull * eta
        s3, s4 = sums[..., 2], sums[..., 3]
        kicks = s4 / batch_size + (p / unit)[..., None] * (constants[:, 1] / batch_size)
        growth = drift + eta * (eta * (s4 + kicks) - 2.0 * s3)
        after = s2 + growth
        variance, covariance = _second_moments(sums, traces, batch_size, p / unit, eta)
        total, total_after = s2.sum(-1), after.sum(-1)
        spread = (after[..., ::-1] ** 2 * variance).sum(-1) - 2.0 * after.prod(-1) * covariance
        change = growth[..., 0] * s2[..., 1] - growth[..., 1] * s2[..., 0]
        decides = (s2[..., ::-1] ** 2 * variance).sum(-1) - 2.0 * s2.prod(-1) * covariance
        still = (growth == 0.0).all(-1) & (variance == 0.0).all(-1) & (total > 0.0)
        prediction = Prediction(
            after[..., 0] / total_after,
            np.sqrt(np.maximum(spread, 0.0)) / total_after**2,
            change / (total * total_after),
            np.where(still, 0.0, change / np.sqrt(np.maximum(decides, 0.0))),
            probability_of_rise(sums, traces, batch_size, label, eta, s2),
        )
    return prediction


def _ten_sums(power_sums: Array, noise_sums: Array) -> Array:
    """S_1 ... S_7 of rows, and S_8 ... S_10 of the two eigenvalues that have S_4 ... S_7."""
    more = extrapolated(power_sums[..., 3], *(noise_sums[..., i] for i in range(3)))
    return np.concatenate([power_sums, noise_sums, np.stack(more, axis=-1)], axis=-1)


def _second_moments(
    sums: Array, traces: Array, batch_size: int, p: Array, eta: Array
) -> tuple[Array, Array]:
    """Variance of each band's S_2' and their covariance, u averaged over."""
    variance, covariance = np.zeros(eta.shape), np.zeros(p.shape)
    s3, s4 = sums[..., 2], sums[..., 3]
    p_n3 = p[..., None] * traces[:, 2]
    for share, weight in zip(*nodes_of(batch_size), strict=True):
        theta, more = share / batch_size, share - 1.0
        # What is left of the mean given u when the mean is taken away.
        curved = (share**2 - 1.0 - 2.0 / batch_size) * s4 + more / batch_size * (p_n3 - s4)
        off = eta * (eta * curved - 2.0 * more * s3)
        given, joint = _given(share, theta, sums, traces, p, eta)
        variance += weight * (given + off**2)
        covariance += weight * (joint + off.prod(-1))
    return variance, covariance


def _given(
    share: float, theta: float, sums: Array, traces: Array, p: Array, eta: Array
) -> tuple[Array, Array]:
    """Variance of each band's S_2' and their covariance, given u."""
    s3, s4, s5, s6, s7 = (sums[..., i] for i in range(2, 7))
    es, p_band = eta * share, p[..., None]
    signal = p_band * (s5 - 2.0 * es * s6 + es**2 * s7) - (s3 - es * s4) ** 2
    squares = p_band * (p_band * traces[:, 5] - 2.0 * s7) + s4**2
    variance = 4.0 * theta * eta**2 * signal + 2.0 * theta**2 * eta**4 * squares
    mixed = (eta * (s3 - es * s4)).prod(-1)
    joint = 2.0 * theta**2 * (eta**2 * s4).prod(-1) - 4.0 * theta * mixed
    return np.maximum(variance, 0.0), joint


def cumulants_given(
    share: Array | float,
    sums: Array,
    traces: Array,
    batch_size: int,
    label_std: Array | float,
    eta: Array,
    now: Array | None = None,
) -> Cumulants:
    """Return the cumulants of ``Z = S_2^B S_2'^D - S_2^D S_2'^B`` given ``share = u / B``.

    Alignment rises where Z is positive. `now` is S_2 of the row where `sums` are those of
    `moved_sums`.
    """
    p = residual_variance(sums, label_std)
    s2, s3, s4, s5, s6, s7, s8, s9, s10 = (sums[..., i] for i in range(1, NUM_SUMS))
    n3, n6, n9 = (traces[:, i] for i in (2, 5, 8))
    b = (s2 if now is None else now)[..., ::-1] * np.array([1.0, -1.0])
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


def average_over_nodes(weights: Array, mean: Array, variance: Array, third: Array) -> Cumulants:
    """Return the cumulants of a law that has these, given u, one entry a node of `nodes_of`."""
    average = np.tensordot(weights, mean, 1)
    off = mean - average
    return Cumulants(
        average,
        np.tensordot(weights, variance + off**2, 1),
        np.tensordot(weights, third + 3.0 * off * variance + off**3, 1),
    )


def change_cumulants(
    power_sums: Array,
    noise_sums: Array,
    constants: Array,
    step_size: Array,
    shape: NoiseShape,
    batch_size: int,
    label_std: float,
) -> Cumulants:
    """Return the cumulants of ``S_2'^D / S_2^D - S_2'^B / S_2^B`` one step after each row."""
    with np.errstate(all="ignore"):
        p = residual_variance(power_sums, label_std)
        sums = _ten_sums(power_sums / p[..., None, None], noise_sums / p[..., None, None])
        traces = _traces(constants, shape)
        label, eta = label_std / np.sqrt(p), np.stack([step_size, step_size], axis=-1)
        shares, weights = nodes_of(batch_size)
        given = [cumulants_given(s, sums, traces, batch_size, label, eta) for s in shares]
        unit = sums[..., 0, 1] * sums[..., 1, 1]
        mean, variance, third = (
            np.stack([getattr(z, name) for z in given]) / unit**power
            for power, name in enumerate(Cumulants._fields, 1)
        )
        return average_over_nodes(weights, mean, variance, third)


def _traces(constants: Array, shape: NoiseShape | None) -> Array:
    """Traces of a run, from its constants; those that nothing takes are zero."""
    traces = np.zeros((2, NUM_TRACES))
    traces[:, [1, 2, 5]] = constants
    traces[:, 8] = 0.0 if shape is None else shape.sixth**3
    return traces


def nodes_of(batch_size: int) -> tuple[Array, Array]:
    """Return values of ``u / B`` and weights that average over u, a chi-square of B degrees.

    Gauss-Legendre in the root of u, whose law is nearly normal for large B.
    """
    half = batch_size / 2.0
    inverses = scipy.special.gammaincinv, scipy.special.gammainccinv
    low, high = (np.sqrt(2.0 * inverse(half, TAIL)) for inverse in inverses)
    x, w = legendre.leggauss(NODES)
    root = 0.5 * (high - low) * x + 0.5 * (high + low)
    log = (batch_size - 1.0) * np.log(root) - 0.5 * root**2
    weights = w * np.exp(log - log.max())
    return root**2 / batch_size, weights / weights.sum()


def probability_of_rise(
    sums: Array,
    traces: Array,
    batch_size: int,
    label_std: Array | float,
    eta: Array,
    now: Array | None = None,
) -> Array:
    """Return the chance that alignment rises in one step, shape (...,).

    Given u, Z is taken for a chi-square, moved and scaled, with its first three cumulants.

    Parameters
    ----------
    sums, traces : ndarray of float64
        See the module; of a size that third powers neither overflow nor underflow.
    batch_size : int
    label_std : float
    eta : ndarray of float64, shape (..., 2)
        Step size of each band.
    now : ndarray of float64, shape (..., 2), optional
        As in `cumulants_given`.

    Returns
    -------
    ndarray of float64
        0 or 1 where a step is certain; NaN where the gradient is zero.
    """
    with np.errstate(all="ignore"):
        probability = np.zeros(sums.shape[:-2])
        for share, weight in zip(*nodes_of(batch_size), strict=True):
            z = cumulants_given(share, sums, traces, batch_size, label_std, eta, now)
            std = np.sqrt(z.variance)
            certain = (z.mean > 0.0).astype(np.float64)
            tail = chi_square_tail(z.mean / std, z.third / std / z.variance)
            probability += weight * np.where(std > 0.0, tail, certain)
        squares = sums[..., 1] if now is None else now
        unknown = (squares.sum(-1) == 0.0) | np.isnan(eta).any(-1)
    return np.where(unknown, np.nan, np.clip(probability, 0.0, 1.0))
