"""The derived columns of every trace: names for what `power_sums` makes of a row."""

import numpy as np

from . import power_sums as physics
from .row import Array, Part, derived


@derived("loss", unit="loss", meaning="loss L(theta)")
def _loss(part: Part) -> Array:
    with np.errstate(over="ignore"):
        return physics.loss(part.power_sums)


@derived("loss_dominant", unit="loss", meaning="loss in the dominant subspace")
def _loss_dominant(part: Part) -> Array:
    return physics.band_losses(part.power_sums)[:, 0]


@derived("loss_bulk", unit="loss", meaning="loss in the bulk subspace")
def _loss_bulk(part: Part) -> Array:
    return physics.band_losses(part.power_sums)[:, 1]


@derived("grad_sq_dominant", unit="(loss/theta)^2", meaning="|P_dom g|^2 of the gradient g")
def _grad_sq_dominant(part: Part) -> Array:
    return physics.band_grad_sq(part.power_sums)[:, 0]


@derived("grad_sq_bulk", unit="(loss/theta)^2", meaning="|P_bulk g|^2 of the gradient g")
def _grad_sq_bulk(part: Part) -> Array:
    return physics.band_grad_sq(part.power_sums)[:, 1]


@derived("alignment", unit="1", meaning="|P_dom g|^2 / |g|^2; NaN where the gradient is zero")
def _alignment(part: Part) -> Array:
    return physics.alignment(part.power_sums)


@derived("critical_step_size", unit="theta^2/loss", meaning="critical step size eta*_t")
def _critical_step_size(part: Part) -> Array:
    return physics.critical_step_size(part.power_sums, part.constants, part.update, part.velocity)
