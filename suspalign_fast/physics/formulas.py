"""All physics of a recorded step, as pure functions of its power sums.

Every function is vectorized over leading axes. ``power_sums`` has shape (..., 2, 4): S_1 ... S_4
of the dominant and the bulk band, ``S_p = sum lambda_i^p c_i^2``. ``noise_sums`` has shape
(..., 2, 3): R_4 ... R_6, ``R_p = sum lambda_i^p s_i^2 c_i^2``. ``constants`` has shape (2, 3):
N_1, N_2 and K of each band, ``N_q = sum lambda_i^q s_i^2`` and ``K = sum lambda_i^4 s_i^4``, or
(..., 2, 3) where the noise depends on the state of a row.
``update`` is the pair of weights a of the dominant and the bulk part of the update: a step of size
eta moves a band by ``eta a``, so that ``E[S_2'] = S_2 - 2 eta a S_3 + eta^2 a^2 (S_4 + N_2)``.

The two ``*_terms`` functions are those that step-size rules compile (`physics.terms`).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..base.values import may_underflow, same_values
from .layout import Array
from .rise import NoiseShape, fourth_of_velocity, probability_of_rise, shape_of_constants
from .row import Part, Velocity, derived
from .terms import critical_terms, loss_bound_terms
from .velocity import for_loss, for_odds, for_step

Weights = tuple[float, float]

FULL: Weights = (1.0, 1.0)
#: Where a step size stands. With a critical step size: below it alignment falls, above it rises.
BELOW, ABOVE = "below", "above"
#: Without one: alignment falls, or rises, whatever the step size.
SELF_CORRECTING, RISING = "self-correcting", "rising"
#: With a reversed one: below it alignment rises, above it falls.
RISING_BELOW, FALLING_ABOVE = "rising-below", "falling-above"

#: Eigenvalues below these lose digits, or all of them, in their third and fourth power.
_SMALL_CUBE, _SMALL_FOURTH = 1e-97, 1e-73
#: What the product of two sums may lose where it underflows.
_SMALL_PRODUCT = 1e-318


@may_underflow
def band_losses(power_sums: Array) -> Array:
    """Loss of each band, ``S_1 / 2``, shape (..., 2)."""
    return power_sums[..., 0] / 2.0


@may_underflow
def loss(power_sums: Array) -> Array:
    """Loss ``L(theta)``, shape (...,)."""
    return band_losses(power_sums).sum(-1)


def band_grad_sq(power_sums: Array) -> Array:
    """Squared norm of the gradient in each band, ``S_2``, shape (..., 2)."""
    return power_sums[..., 1]


@may_underflow
def alignment(power_sums: Array) -> Array:
    """Alignment ``S_2^dom / (S_2^dom + S_2^bulk)``; NaN where the gradient is zero."""
    dominant, bulk = power_sums[..., 0, 1], power_sums[..., 1, 1]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return dominant / (dominant + bulk)


@may_underflow
def critical_step_size(
    power_sums: Array, constants: Array, update: Weights = FULL, velocity: Velocity | None = None
) -> Array:
    """Step size at which the expected odds ``S_2^dom / S_2^bulk`` neither rise nor fall.

    ``eta* = 2 (a_D S_3^D S_2^B - a_B S_3^B S_2^D) / (a_D^2 T^D S_2^B - a_B^2 T^B S_2^D)`` with
    ``T = S_4 + N_2`` and the weights a of the update.

    Parameters
    ----------
    power_sums, constants : ndarray of float64
        See the module.
    update : tuple of two float
        Weights of the dominant and the bulk part of the update.
    velocity : Velocity, optional
        That of momentum, which puts other sums in the place of S_3 and T (`physics.velocity`).

    Returns
    -------
    ndarray of float64, shape (...,)
        By the signs of numerator and denominator:

        - both positive: a threshold, alignment falls below and rises above it;
        - numerator not negative, denominator negative or zero: +inf, alignment falls for every
          step size (self-correcting);
        - numerator not positive, denominator not negative: 0, it rises for every step size;
        - both negative: a reversed threshold, it rises below and falls above it (`is_reversed`).

        With full updates and no momentum the numerator is not negative, which leaves the first
        two. NaN where the
        gradient is zero, where a step changes no odds at all, and where sums have underflowed so
        far that they cannot tell.

    Notes
    -----
    Sources: arXiv 2601.11789 (critical step size). The odds change by
    ``eta (eta denominator - numerator)`` over a positive number; both are first divided by S_2.
    """
    power_sums, constants = for_odds(power_sums, constants, velocity)
    numerator, denominator, known = _critical_parts(power_sums, constants, update)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore", under="ignore"):
        critical = np.where(denominator > 0.0, numerator / denominator, np.inf)
        critical = np.where((numerator <= 0.0) & (denominator >= 0.0), 0.0, critical)
        reverses = (numerator < 0.0) & (denominator < 0.0)
        critical = np.where(reverses, numerator / denominator, critical)
    return np.where(known, critical, np.nan)


@may_underflow
def is_reversed(
    power_sums: Array, constants: Array, update: Weights = FULL, velocity: Velocity | None = None
) -> NDArray[np.bool_]:
    """Whether alignment rises below and falls above the critical step size, shape (...,).

    It happens only to updates whose weights differ, and under momentum; see `critical_step_size`.
    """
    power_sums, constants = for_odds(power_sums, constants, velocity)
    numerator, denominator, known = _critical_parts(power_sums, constants, update)
    reverses: NDArray[np.bool_] = known & (numerator < 0.0) & (denominator < 0.0)
    return reverses


def _critical_parts(
    power_sums: Array, constants: Array, update: Weights
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Numerator and denominator of the critical step size, and whether both can be trusted."""
    # Vectors of rows, one for each sum and band: sums over an axis of two are slow.
    with np.errstate(invalid="ignore", divide="ignore", over="ignore", under="ignore"):
        total = power_sums[..., 0, 1] + power_sums[..., 1, 1]
        s2, s3, s4 = ([power_sums[..., band, p] / total for band in (0, 1)] for p in (1, 2, 3))
        s4 = [s4[band] + constants[..., band, 1] / total for band in (0, 1)]
        numerator, denominator = critical_terms(s2[0], s3[0], s4[0], s2[1], s3[1], s4[1], *update)
        underflow = np.where(
            (s2[0] > 0.0) & (s2[1] > 0.0) & (max(update) > 0.0), _SMALL_PRODUCT, 0.0
        )
        known = (total > 0.0) & ((numerator != 0.0) | (denominator != 0.0))
        for power, least, lower, upper, difference in (
            (1, _SMALL_CUBE, s2, s3, numerator),
            (2, _SMALL_FOURTH, s3, s4, denominator),
        ):
            d, b = (a if power == 1 else a * a for a in update)
            size = d * upper[0] * s2[1] + b * upper[1] * s2[0]
            lost = d * least * lower[0] * s2[1] + b * least * lower[1] * s2[0] + underflow
            known &= (lost <= 1e-10 * np.abs(difference)) | (lost <= 1e-30 * size)
    return numerator, denominator, known


def regime(
    step_size: Array, critical: Array, reverses: NDArray[np.bool_] | bool = False
) -> NDArray[np.str_]:
    """Name where each row's step size stands.

    Parameters
    ----------
    step_size, critical : ndarray of float64, shape (...,)
        As in a trace.
    reverses : ndarray of bool, shape (...,)
        Rows whose critical step size is reversed, from `is_reversed`.

    Returns
    -------
    ndarray of str, shape (...,)
        "below" (alignment falls) or "above" (it rises) the critical step size; "self-correcting"
        where it falls and "rising" where it rises for every step size; "rising-below" and
        "falling-above" a reversed one. Empty where step size or critical step size is NaN.
    """
    below = step_size < critical
    names = np.where(below, BELOW, ABOVE)
    names = np.where(np.isposinf(critical), SELF_CORRECTING, names)
    names = np.where(critical == 0.0, RISING, names)
    names = np.where(reverses, np.where(below, RISING_BELOW, FALLING_ABOVE), names)
    return np.where(np.isnan(step_size) | np.isnan(critical), "", names)


@may_underflow
def loss_interval(power_sums: Array, constants: Array, velocity: Velocity | None = None) -> Array:
    """Bounds of the step sizes of the loss interval, shape (..., 2): lower, upper.

    A step projected on the dominant subspace raises the expected loss for ``eta > lower``, one
    projected on the bulk lowers it for ``eta < upper``; the interval is not empty where
    ``lower < upper``. ``2 S_2 / (S_3 + N_1)`` of the dominant and of the bulk band; NaN where a
    band has neither gradient nor noise, +inf where curvature below zero, which only networks have,
    lets every step lower the loss. Under momentum a bound is 0 where the band's loss rises for
    every step size.
    """
    power_sums, constants = for_loss(power_sums, constants, velocity)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        above, below = loss_bound_terms(power_sums[..., 1], power_sums[..., 2], constants[..., 0])
        if velocity is not None:
            return np.maximum(above, 0.0) / below
        return np.where(below < 0.0, np.inf, above / below)


class Prediction(NamedTuple):
    """What a row predicts of the alignment of the next step.

    Attributes
    ----------
    mean : ndarray of float64
        Share of the dominant band in the next expected squared gradient: a ratio of expectations.
        Not the mean of the next alignment, which differs where a band has few directions (by 0.12
        in a case with two); `theory.expected_next_alignment` has that one, exactly, from a state.
    std : ndarray of float64
        Standard deviation of the next alignment (delta method).
    change : ndarray of float64
        `mean` less the alignment of the row, without cancellation: the sign of the change of the
        expected odds.
    z : ndarray of float64
        Normal score of the direction, good where ``|z|`` is large: only there is an observed sign
        evidence. Near the critical step size ``Phi(z)`` is biased; see `probability`. 0 where a
        step changes nothing.
    probability : ndarray of float64
        Chance that the alignment rises, skewness included: what the skewness needs beyond the
        sums of a row is extrapolated from them (`suspalign_fast.physics.rise`). 0 or 1 without
        noise, NaN         only without gradient or step size.
    """

    mean: Array
    std: Array
    change: Array
    z: Array
    probability: Array

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prediction) and same_values(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other


@may_underflow
def predict_alignment(
    power_sums: Array,
    noise_sums: Array,
    constants: Array,
    step_size: Array | float,
    update: Weights = FULL,
    shape: NoiseShape | None = None,
    velocity: Velocity | None = None,
) -> Prediction:
    """Predict the alignment one step after each row, by the expected squared gradients.

    Parameters
    ----------
    power_sums, noise_sums, constants : ndarray of float64
        See the module.
    step_size : ndarray of float64, shape (...,)
    update : tuple of two float
        Weights of the dominant and the bulk part of the update.
    shape : NoiseShape, optional
        `Quadratic.noise_shape`, for `probability`; by default noise as strong in all of a band.
    velocity : Velocity, optional
        That of momentum.

    Notes
    -----
    ``E[S_2'] = S_2 - 2 eta S_3 + eta^2 (S_4 + N_2)`` and
    ``Var[S_2'] = 4 eta^2 (R_4 - 2 eta R_5 + eta^2 R_6) + 2 eta^4 K`` of each band; `std` is the
    delta method for their ratio. `z` compares cube roots, in which sums of
    squares are close to normal however few directions a band has (Wilson and Hilferty, 1931): with
    mean m and variance v of a band, ``S_2'^(1/3)`` has mean ``m^(1/3) (1 - a)`` and variance
    ``m^(2/3) a``, ``a = v / (9 m^2)``. In bands of many directions it is ``change / std``.
    """
    eta = np.asarray(step_size)[..., None] * np.asarray(update)
    shape = shape_of_constants(constants) if shape is None else shape
    fourth = None
    if velocity is not None:
        fourth = fourth_of_velocity(power_sums, noise_sums, eta, shape, velocity)
        pushed = velocity.pull**2
        shape = shape._replace(sixth=pushed * shape.sixth, largest=pushed * shape.largest)
    power_sums, noise_sums, constants = for_step(power_sums, noise_sums, constants, eta, velocity)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        s2, s3, s4 = (power_sums[..., p] for p in (1, 2, 3))
        r4, r5, r6 = (noise_sums[..., p] for p in (0, 1, 2))
        growth = eta * (eta * (s4 + constants[..., 1]) - 2.0 * s3)
        after = s2 + growth
        variance = (
            4.0 * eta**2 * (r4 - 2.0 * eta * r5 + eta**2 * r6) + 2.0 * eta**4 * constants[..., 2]
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
        still = (growth == 0.0).all(-1) & (variance == 0.0).all(-1) & (total > 0.0)
        z = np.where(still, 0.0, z)
    probability = probability_of_rise(power_sums, noise_sums, constants, eta, shape, fourth)
    return Prediction(mean, std, change, z, probability)


# --- The derived columns of every trace --------------


@derived("loss", unit="loss", meaning="loss L(theta)")
def _loss(part: Part) -> Array:
    with np.errstate(over="ignore"):
        return loss(part.power_sums)


@derived("loss_dominant", unit="loss", meaning="loss in the dominant subspace")
def _loss_dominant(part: Part) -> Array:
    return band_losses(part.power_sums)[:, 0]


@derived("loss_bulk", unit="loss", meaning="loss in the bulk subspace")
def _loss_bulk(part: Part) -> Array:
    return band_losses(part.power_sums)[:, 1]


@derived("grad_sq_dominant", unit="(loss/theta)^2", meaning="|P_dom g|^2 of the gradient g")
def _grad_sq_dominant(part: Part) -> Array:
    return band_grad_sq(part.power_sums)[:, 0]


@derived("grad_sq_bulk", unit="(loss/theta)^2", meaning="|P_bulk g|^2 of the gradient g")
def _grad_sq_bulk(part: Part) -> Array:
    return band_grad_sq(part.power_sums)[:, 1]


@derived("alignment", unit="1", meaning="|P_dom g|^2 / |g|^2; NaN where the gradient is zero")
def _alignment(part: Part) -> Array:
    return alignment(part.power_sums)


@derived("critical_step_size", unit="theta^2/loss", meaning="critical step size eta*_t")
def _critical_step_size(part: Part) -> Array:
    return critical_step_size(part.power_sums, part.constants, part.update, part.velocity)
