"""What momentum makes of a row: the row of plain SGD with the same next step.

With a velocity v beside the coefficients, ``c' = c - eta (p h + q v)`` (`optimizer`), what a step
is expected to do to the sums of a band takes their products with v:

    C_p = sum lambda^p c v,    V_p = sum lambda^p v^2,
    X_p = sum lambda^p s^2 c v,    W_4 = sum lambda^4 s^2 v^2,

``E[S_2'] = S_2 - 2 eta L + eta^2 T`` with ``L = p S_3 + q C_2`` and
``T = p^2 (S_4 + N_2) + 2 p q C_3 + q^2 V_2``, and ``E[loss']`` the same with indices one lower.
Put L in the place of S_3 and T in that of ``S_4 + N_2``, and every formula of `formulas` holds:
that is all there is here (docs/momentum.md). Functions are vectorized over leading axes and return
their arguments unchanged where there is no velocity.
"""

import numpy as np
from numpy.typing import NDArray

from .layout import CROSS_SUMS
from .row import Velocity
from .terms import pull_term, push_term

Array = NDArray[np.float64]
#: Where the sums of a band lie among those of `layout.CROSS_SUMS`.
C1, C2, C3, V1, V2, X4, X5, W4 = map(
    CROSS_SUMS.labels.index, ("C1", "C2", "C3", "V1", "V2", "X4", "X5", "W4")
)


def for_odds(power_sums: Array, constants: Array, velocity: Velocity | None) -> tuple[Array, Array]:
    """Return sums and constants of which S_2, S_3 and ``S_4 + N_2`` are those of the next odds."""
    return _put_velocity(power_sums, constants, velocity, 2, C2, V2)


def for_loss(power_sums: Array, constants: Array, velocity: Velocity | None) -> tuple[Array, Array]:
    """Return sums and constants of which S_2 and ``S_3 + N_1`` are those of the next losses."""
    return _put_velocity(power_sums, constants, velocity, 1, C1, V1)


def _put_velocity(
    power_sums: Array, constants: Array, velocity: Velocity | None, at: int, cross: int, square: int
) -> tuple[Array, Array]:
    """Put L in the place of the sum `at`, and T in that of the next one and its noise."""
    if velocity is None:
        return power_sums, constants
    extra, p, q = velocity
    sums, noise = power_sums.copy(), constants.copy()
    mixed, squares = (extra[..., i] for i in (cross + 1, square))
    with np.errstate(over="ignore", invalid="ignore"):
        sums[..., at] = pull_term(p, q, power_sums[..., at], extra[..., cross])
        sums[..., at + 1] = push_term(p, q, power_sums[..., at + 1], mixed, squares)
        noise[..., at - 1] = p * p * constants[..., at - 1]
    return sums, noise


def for_step(
    power_sums: Array, noise_sums: Array, constants: Array, eta: Array, velocity: Velocity | None
) -> tuple[Array, Array, Array]:
    """Return sums, noise sums and constants of which the law of the next S_2 is made.

    `eta` is step size times weight of each band, shape (..., 2). The gradient after a step is
    ``lambda (c~ - eta p lambda c) - eta p lambda s xi`` with ``c~ = c - eta q v``: its noise is p
    times that of plain SGD, and what it multiplies has c~ in the place of c.
    """
    if velocity is None:
        return power_sums, noise_sums, constants
    extra, p, q = velocity
    sums, noise = for_odds(power_sums, constants, velocity)
    moved = noise_sums.copy()
    with np.errstate(over="ignore", invalid="ignore"):
        r4, r5, r6 = (noise_sums[..., i] for i in range(3))
        shift = eta * q
        moved[..., 0] = p**2 * (r4 - 2.0 * shift * extra[..., X4] + shift**2 * extra[..., W4])
        moved[..., 1] = p**3 * (r5 - shift * extra[..., X5])
        moved[..., 2] = p**4 * r6
        noise[..., 2] = p**4 * noise[..., 2]
    return sums, moved, noise


def after(
    power_sums: Array, noise_sums: Array, eta: Array, velocity: Velocity
) -> tuple[Array, Array, Array]:
    """Return ``sum lambda u^2``, ``sum lambda^2 u^2`` and ``sum lambda^4 s^2 u^2`` after a step.

    ``u = c - eta (p lambda c + q v)`` is where it leads without noise; shapes (..., 2).
    """
    extra, p, q = velocity
    pull, shift = eta * p, eta * q
    s, r = power_sums, noise_sums

    def norm(low: int, cross: int, square: int) -> Array:
        still = s[..., low] - 2.0 * pull * s[..., low + 1] + pull**2 * s[..., low + 2]
        mixed = extra[..., cross] - pull * extra[..., cross + 1]
        moved: Array = still - 2.0 * shift * mixed + shift**2 * extra[..., square]
        return moved

    noisy = r[..., 0] - 2.0 * pull * r[..., 1] + pull**2 * r[..., 2]
    noisy = noisy - 2.0 * shift * (extra[..., X4] - pull * extra[..., X5])
    return norm(0, C1, V1), norm(1, C2, V2), noisy + shift**2 * extra[..., W4]
