"""The quadratic problem: a spectrum, a noise model and an initial state."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import checks
from ..base.registry import NOISES
from ..base.values import Travels, may_underflow, same_values
from ..physics.layout import CONSTANTS_SHAPE
from ..physics.rise import MAX_POWER, NoiseShape, tilted_variances
from .noise import (
    DataNoise,
    DiagonalNoise,
    IsotropicNoise,
    Noise,
    Scaling,
    check_length,
    checked_stds,
    has_one_per_direction,
    in_level_order,
    law_of,
)
from .optimizer import Optimizer
from .spectrum.families import PIECE
from .spectrum.spectrum import Spectrum

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Quadratic(Travels):
    """Loss ``1/2 (theta - theta*)' H (theta - theta*)`` with gradient noise, in the eigenbasis.

    Parameters
    ----------
    spectrum : Spectrum
        Eigenvalues of H.
    noise : Noise
        Standard deviation of the gradient noise along every eigendirection, e.g.
        ``IsotropicNoise(0.5)``, or a class of your own derived from `Noise`.
    initial : float or array_like
        Standard deviation of Gaussian initial coefficients ``c_i(0) = v_i'(theta - theta*)``, or
        the coefficients themselves, shape (num_levels,) or (dim,), in the order in which the
        eigenvalues were given. One value a level stands for each of its directions.

    Raises
    ------
    ValueError
        If an argument does not fit the others.

    Notes
    -----
    Arrays are kept in the order of the sorted spectrum. Noise given per direction on a spectrum
    with multiplicities splits the levels into single directions. Problems are equal where their
    spectrum, noise and initial state are.
    """

    spectrum: Spectrum
    noise: Noise
    initial: float | NDArray[np.float64]
    #: The law of the noise, ``s^2 = sigma^2 lambda^power``, None where every level has its own s.
    noise_law: Scaling | None = field(init=False)

    @may_underflow
    def __init__(
        self,
        spectrum: Spectrum,
        noise: Noise | None = None,
        initial: float | ArrayLike = 1.0,
    ) -> None:
        if not isinstance(spectrum, Spectrum):
            raise checks.wrong("spectrum", spectrum, "a Spectrum")
        noise = IsotropicNoise(1.0) if noise is None else noise
        if not isinstance(noise, Noise):
            raise checks.wrong("noise", noise, "a noise model such as IsotropicNoise(0.5)")
        if noise.depends_on_state and type(noise) is not DataNoise:
            raise checks.wrong("noise", noise, "DataNoise itself where it depends on the state")
        noise.check(spectrum)
        start: float | NDArray[np.float64]
        if checks.is_number(initial):
            start = checks.real("initial", initial)
        else:
            start = checks.vector("initial", initial)
            check_length(spectrum, start, "initial")
            if not has_one_per_direction(spectrum, start):
                start = in_level_order(spectrum, start)
            start = checks.read_only(start)
        stds, law = None, law_of(noise, spectrum)
        if type(noise) is DiagonalNoise:
            if has_one_per_direction(spectrum, noise.values):
                if isinstance(start, np.ndarray) and start.size == spectrum.num_levels:
                    start = checks.read_only(np.repeat(start, spectrum.multiplicities))
                spectrum = spectrum.expand()
            else:
                noise = DiagonalNoise(noise.stds(spectrum))
        elif law is None:
            stds = checked_stds(noise, spectrum)
        object.__setattr__(self, "_stds", stds)
        object.__setattr__(self, "_was_sorted", spectrum.order is None)
        object.__setattr__(self, "noise_law", law)
        object.__setattr__(self, "spectrum", spectrum.without_order())
        object.__setattr__(self, "noise", noise)
        object.__setattr__(self, "initial", start)

    def with_parts(
        self, spectrum: Spectrum, noise: Noise, initial: float | NDArray[np.float64]
    ) -> "Quadratic":
        """Return a problem of the same law of the noise that is made of these, unchecked."""
        made = object.__new__(type(self))
        parts = {
            "spectrum": spectrum,
            "noise": noise,
            "initial": initial,
            "noise_law": self.noise_law,
            "_stds": None,
            "_was_sorted": True,
        }
        for name, value in parts.items():
            object.__setattr__(made, name, value)
        return made

    @cached_property
    @may_underflow
    def stds(self) -> NDArray[np.float64]:
        """Noise standard deviations s of the levels, shape (num_levels,), read-only."""
        given: NDArray[np.float64] | None = self._stds  # type: ignore[attr-defined]
        if given is None:
            given = self.noise.stds(self.spectrum)
        return checks.read_only(given)

    @cached_property
    @may_underflow
    def initial_squares(self) -> Array:
        """Expected squared norms of the levels' initial coefficients, shape (num_levels,)."""
        spectrum, initial = self.spectrum, self.initial
        if not isinstance(initial, np.ndarray):
            return initial * initial * spectrum.multiplicities.astype(np.float64)
        squares: Array = initial**2
        if initial.size == spectrum.num_levels:
            return squares * spectrum.multiplicities
        first = np.cumsum(spectrum.multiplicities) - spectrum.multiplicities
        summed: Array = np.add.reduceat(squares, first)
        return summed

    @property
    def stored_noise(self) -> Noise:
        """Return the noise model that files describe.

        Its numbers stand for it where its class is not registered, or where it may depend on an
        order of the levels that files do not keep.
        """
        by_name = NOISES.name_of(self.noise) is not None
        if by_name and (self._stds is None or self._was_sorted):  # type: ignore[attr-defined]
            return self.noise
        return DiagonalNoise(self.stds)

    @cached_property
    @may_underflow
    def noise_constants(self) -> NDArray[np.float64]:
        """Constants N_1, N_2 and K of both bands, shape (2, 3).

        ``N_q = sum lambda^q s^2`` and ``K = sum lambda^4 s^4``.
        """
        sums = np.zeros(CONSTANTS_SHAPE)
        for band, lam, stds, count in self._pieces():
            with np.errstate(over="ignore", invalid="ignore"):
                variance = stds**2
                sums[band] += [
                    (lam * variance * count).sum(),
                    (lam**2 * variance * count).sum(),
                    ((lam**2 * variance) ** 2 * count).sum(),
                ]
        return sums

    @cached_property
    @may_underflow
    def noise_shape(self) -> NoiseShape:
        """What the skewness of a step takes from the noise, for `Prediction.probability`."""
        with np.errstate(over="ignore", invalid="ignore"):
            largest, sixth = np.zeros(2), np.zeros(2)
            for band, lam, stds, _ in self._pieces():
                largest[band] = max(largest[band], float((lam * stds).max()))
            unit = float(largest.max()) or 1.0
            for band, lam, stds, count in self._pieces():
                sixth[band] += ((lam * stds / unit) ** 6 * count).sum()
            sixth, largest = (unit * np.cbrt(np.sqrt(sixth))) ** 2, largest**2
            law = self.noise_law
            if law is not None and law.power <= MAX_POWER:
                return NoiseShape(sixth, law.sigma * law.sigma, law.power, largest=largest)
        k, spectrum, stds = self.spectrum.num_dominant_levels, self.spectrum, self.stds
        dominant, bulk = (
            tilted_variances(
                spectrum.eigenvalues[band],
                stds[band],
                spectrum.multiplicities[band].astype(np.float64),
            )
            for band in (slice(0, k), slice(k, None))
        )
        return NoiseShape(sixth, tilted=(dominant, bulk), largest=largest)

    def _pieces(self) -> Iterator[tuple[int, Array, Array, NDArray[np.int64]]]:
        """Band, eigenvalues, noise and multiplicities of some levels at a time."""
        spectrum, stds = self.spectrum, self.stds
        k, end = spectrum.num_dominant_levels, spectrum.num_levels
        for band, (first, last) in enumerate(((0, k), (k, end))):
            for start in range(first, last, PIECE):
                part = slice(start, min(last, start + PIECE))
                yield band, spectrum.eigenvalues[part], stds[part], spectrum.multiplicities[part]

    def check_swings(self, optimizer: Optimizer) -> None:
        """Raise ValueError where the levels of the spectrum do not stand for all under momentum."""
        if optimizer.has_velocity and not self.spectrum.stands_for_swings:
            raise ValueError(
                "spectrum must have all its levels, or those of Spectrum.resolved, under "
                f"{optimizer!r}: those of Spectrum.compress are for plain SGD, got "
                f"{self.spectrum!r}"
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Quadratic):
            return NotImplemented
        return same_values(
            (self.spectrum, self.noise, self.initial), (other.spectrum, other.noise, other.initial)
        )

    def __repr__(self) -> str:
        initial = checks.describe(self.initial)
        return f"Quadratic({self.spectrum!r}, noise={self.noise!r}, initial={initial})"
