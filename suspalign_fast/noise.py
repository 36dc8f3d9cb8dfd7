"""Models of the gradient noise: a standard deviation s_i for every eigendirection."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks
from .spectrum import Spectrum


class Noise(ABC):
    """Independent Gaussian noise on each eigen-coefficient of the gradient.

    A model of your own derives from this class or from one of the models below and says what
    `stds` are. Nothing else is assumed of it: it is simulated as any standard deviations, one a
    level, and stored in files as `DiagonalNoise`.
    """

    @abstractmethod
    def stds(self, spectrum: Spectrum) -> NDArray[np.float64]:
        """Return the standard deviations s of the levels of `spectrum`, shape (num_levels,).

        In the order of ``spectrum.eigenvalues``, which are sorted; `Spectrum.order` says how they
        were given. Called once, when the problem is made.
        """

    def check(self, spectrum: Spectrum) -> None:  # noqa: B027
        """Raise ValueError if this noise does not fit `spectrum`."""


@dataclass(frozen=True)
class IsotropicNoise(Noise):
    """The same standard deviation in every direction, ``s_i = std``.

    Parameters
    ----------
    std : float
        At least zero, in units of the gradient.
    """

    std: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "std", _checks.real("std", self.std))

    def stds(self, spectrum: Spectrum) -> NDArray[np.float64]:
        """Return `std` for every level, read-only."""
        return np.broadcast_to(np.float64(self.std), (spectrum.num_levels,))


@dataclass(frozen=True)
class HessianNoise(Noise):
    """Noise covariance proportional to the Hessian, ``s_i = std * sqrt(lambda_i)``.

    Parameters
    ----------
    std : float
        At least zero.
    """

    std: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "std", _checks.real("std", self.std))

    def stds(self, spectrum: Spectrum) -> NDArray[np.float64]:
        """Return ``std * sqrt(lambda)`` for every level."""
        with np.errstate(over="ignore"):
            stds = np.sqrt(spectrum.eigenvalues)
            stds *= self.std
        return stds


@dataclass(frozen=True, eq=False)
class DiagonalNoise(Noise):
    """A standard deviation of its own for every direction.

    Parameters
    ----------
    stds : array_like of float, shape (num_levels,) or (dim,)
        Standard deviations, in the order in which the eigenvalues were given to `Spectrum`.

    Attributes
    ----------
    values : ndarray of float
        The same, read-only.
    """

    values: NDArray[np.float64]

    def __init__(self, stds: ArrayLike) -> None:
        values = _checks.non_negative_vector("stds", stds)
        object.__setattr__(self, "values", _checks.read_only(values))

    def check(self, spectrum: Spectrum) -> None:
        """Raise ValueError unless there is one value a level or a direction."""
        per_direction(spectrum, self.values, "stds")

    def stds(self, spectrum: Spectrum) -> NDArray[np.float64]:
        """Return the values in the order of ``spectrum.eigenvalues``."""
        return in_level_order(spectrum, self.values)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return np.array_equal(self.values, other.values)

    def __repr__(self) -> str:
        return f"DiagonalNoise({_checks.describe(self.values)})"


def is_known(noise: Noise) -> bool:
    """Whether a model is one of this package's, not a class derived from one."""
    return type(noise) in (IsotropicNoise, HessianNoise, DiagonalNoise)


def checked_stds(noise: Noise, spectrum: Spectrum) -> NDArray[np.float64]:
    """Return what a model of a user's own gives for a spectrum, read-only.

    Raises
    ------
    ValueError
        Unless it is one finite number of at least zero a level.
    """
    name = f"{type(noise).__name__}.stds(spectrum)"
    values = _checks.non_negative_vector(name, noise.stds(spectrum))
    if values.shape != (spectrum.num_levels,):
        expected = f"an array of shape ({spectrum.num_levels},), one value a level"
        raise _checks.wrong(name, values, expected)
    return _checks.read_only(values)


def per_direction(spectrum: Spectrum, values: NDArray[Any], name: str) -> bool:
    """Whether `values` has one entry a direction rather than one a level.

    Raises
    ------
    ValueError
        If it has neither.
    """
    if values.shape == (spectrum.num_levels,):
        return False
    if values.shape == (spectrum.dim,) and spectrum.order is None:
        return True
    expected = f"an array of shape ({spectrum.num_levels},), one value a level"
    if not spectrum.is_simple and spectrum.order is None:
        expected += f", or ({spectrum.dim},), one a direction"
    raise _checks.wrong(name, values, expected)


def in_level_order(spectrum: Spectrum, values: NDArray[Any]) -> NDArray[Any]:
    """Return per-level `values`, given along the unsorted levels, in sorted order."""
    return values if spectrum.order is None else values[spectrum.order]
