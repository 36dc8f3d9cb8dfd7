"""Few levels that stand for all of a spectrum: of plain SGD, or as fine as they are asked for."""

from abc import abstractmethod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .. import _checks
from . import compression
from .made import Made
from .parts import Parts


class Compressible(Made):
    """The methods of a spectrum that make few levels of many."""

    eigenvalues: NDArray[np.float64]
    num_dominant: int
    multiplicities: NDArray[np.int64]
    quantization_error: float
    compression_error: float
    _few: dict[Any, Self]

    @property
    @abstractmethod
    def dim(self) -> int:
        """Number of directions."""

    @property
    @abstractmethod
    def num_dominant_levels(self) -> int:
        """Number of levels that make up the dominant band."""

    @property
    def is_compressed(self) -> bool:
        """Whether multiplicities are real numbers (`compress`): there are no single directions."""
        return self.multiplicities.dtype.kind == "f"

    @property
    def stands_for_swings(self) -> bool:
        """Whether its levels will do under momentum: not where `compress` made them."""
        return not self.is_compressed or bool(np.isnan(self.compression_error))

    def compress(self, tolerance: float = 1e-12) -> Self:
        """Return a spectrum of a few hundred levels that keeps all smooth sums over this one.

        Levels get real multiplicities; bands do not mix, zeros stay apart, `dim` stays. With noise
        and initial state that are smooth in lambda (scalar `initial`; noise of a law), exact theory
        and the engine "levels" give the same moments and the same law of every row, to about the
        tolerance, for step sizes up to 1.99 / lambda_1 and in times in which a band decays by up
        to e^-40.

        Parameters
        ----------
        tolerance : float
            Largest relative error, from 1e-14 to 0.01, of the sums described in
            ``spectrum.compression``: `compression_error` is what two resolutions differ by.

        Returns
        -------
        Spectrum
            This one where it has no more levels than the compressed one would have.

        Raises
        ------
        ValueError
            If the tolerance is out of range or cannot be reached.

        Examples
        --------
        >>> import suspalign_fast as sa
        >>> spectrum = sa.Spectrum.power_law(300_000, 10, 1.0)
        >>> few = spectrum.compress()
        >>> few.dim, few.num_levels < 300
        (300000, True)
        """
        tolerance = _checks.real("tolerance", tolerance, positive=True)
        if self.is_compressed and self.compression_error <= tolerance:
            return self
        self._refuse_compressed("compressed further")
        if tolerance not in self._few:
            self._few[tolerance] = self._compressed(tolerance)
        few: Self = self._few[tolerance]
        return few

    def resolved(self, width: float, nodes: int) -> Self:
        """Return a spectrum of few levels that keeps sums over this one under momentum, too.

        With momentum a direction swings, after t steps with a phase that differs from eigenvalue to
        eigenvalue: how fine levels must be depends on the run. Make them finer until moments do not
        change any more (docs/momentum.md).

        Parameters
        ----------
        width : float
            Logarithmic width of a bin, at least 1e-6.
        nodes : int
            Levels of a bin, from 1 to 64. A bin of few eigenvalues keeps them.

        Returns
        -------
        Spectrum
            Of real multiplicities, each 1 or at least 2, and with a `compression_error` of NaN;
            this one where it has no more levels.

        Raises
        ------
        ValueError
            If an argument is not as described, or this spectrum is compressed.

        Examples
        --------
        >>> import suspalign_fast as sa
        >>> spectrum = sa.Spectrum.power_law(300_000, 10, 1.0)
        >>> [spectrum.resolved(width, 12).num_levels for width in (0.5, 0.25)]
        [390, 757]
        """
        self._refuse_compressed("resolved")
        rule = compression.rule(width, nodes)
        if rule not in self._few:
            bands = self._bands_in_bins()
            parts = compression.resolved(bands, *rule, self.dim, self.num_dominant)
            self._few[rule] = self._fewer(parts)
        few: Self = self._few[rule]
        return few

    def _bands_in_bins(self) -> list[compression.Bins]:
        k = self.num_dominant_levels
        return [
            compression.bins_of_levels(self.eigenvalues[part], self.multiplicities[part])
            for part in (slice(0, k), slice(k, None))
        ]

    def _compressed(self, tolerance: float) -> Self:
        bands = self._bands_in_bins()
        parts = compression.compressed(bands, tolerance, self.dim, self.num_dominant)
        return self._fewer(parts)

    def _fewer(self, parts: Parts) -> Self:
        """Return the spectrum of some levels, or this one where it has no more."""
        if parts.eigenvalues.size >= self.eigenvalues.size:
            return self
        return self._of(parts._replace(error=self.quantization_error))

    def _refuse_compressed(self, done: str) -> None:
        if self.is_compressed:
            raise ValueError(f"spectrum must not be compressed to be {done}, got {self!r}")
