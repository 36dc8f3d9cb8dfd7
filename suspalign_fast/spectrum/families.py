"""Families of spectra: their eigenvalues one by one, or few levels that stand for them."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .. import _checks, _memory
from .._underflow import may_underflow
from .bands import Linear, Power
from .compression import bins_of_band, compressed
from .few_levels import few_levels
from .made import Made
from .multiplicities import MAX_DIM
from .parts import Parts

#: Levels worked on at once where none of their temporaries may be of their full number.
PIECE = 2**20


@may_underflow
def linear_bands(
    dim: int,
    num_dominant: int,
    dominant: tuple[float, float],
    bulk: tuple[float, float],
    num_levels: int | None,
    tolerance: float | None = None,
    gap_ratio: float | None = None,
) -> Parts:
    """See `Spectrum.linear_bands`."""
    sizes = _band_sizes(dim, num_dominant)
    pairs = [_pair("dominant", dominant), _pair("bulk", bulk)]
    if gap_ratio is not None:
        above = pairs[0][0 if sizes[0] == 1 else 1]
        pairs[1] = _scaled(pairs[1], bulk, above / _ratio(gap_ratio))
    bands = [Linear(*pair, size) for pair, size in zip(pairs, sizes, strict=True)]
    if bands[1].value(0) >= bands[0].value(sizes[0] - 1):
        end = float(bands[0].value(sizes[0] - 1))
        raise _checks.wrong("bulk", bulk, f"below the dominant band, which ends at {end!r}")
    if num_levels is not None or tolerance is not None:
        return _without_listing(bands, num_levels, tolerance)
    k = sizes[0]
    lam = _new_levels(dim)
    _fill_linear(lam[:k], *pairs[0])
    _fill_linear(lam[k:], *pairs[1])
    return Parts(lam, k)


@may_underflow
def two_level(dim: int, num_dominant: int, dominant: float, bulk: float) -> Parts:
    """See `Spectrum.two_level`."""
    k, rest = _band_sizes(dim, num_dominant)
    levels = [_checks.real("dominant", dominant), _checks.real("bulk", bulk)]
    if levels[1] > levels[0]:
        raise _checks.wrong("bulk", bulk, f"below dominant = {levels[0]}")
    return Parts(np.array(levels), k, [k, rest])


@may_underflow
def power_law(
    dim: int,
    num_dominant: int,
    exponent: float,
    largest: float,
    gap_ratio: float | None,
    num_levels: int | None,
    tolerance: float | None = None,
) -> Parts:
    """See `Spectrum.power_law`."""
    k, rest = _band_sizes(dim, num_dominant)
    decay = _checks.real("exponent", exponent, positive=True)
    top = _checks.real("largest", largest, positive=True)
    scale = 1.0
    if gap_ratio is not None:
        scale = (1.0 + 1.0 / k) ** decay / _ratio(gap_ratio)
    if num_levels is not None or tolerance is not None:
        powers = [Power(top, decay, 0, k), Power(top * scale, decay, k, rest)]
        return _without_listing(powers, num_levels, tolerance)
    lam = _new_levels(dim)
    for start in range(0, dim, PIECE):
        stop = min(dim, start + PIECE)
        lam[start:stop] = top * np.arange(start + 1.0, stop + 1) ** -decay
    lam[k:] *= scale
    return Parts(lam, k)


def _without_listing(
    bands: Sequence[Linear] | Sequence[Power], num_levels: int | None, tolerance: float | None
) -> Parts:
    """Levels that stand for the eigenvalues of bands: means, or of real multiplicity."""
    if tolerance is None:
        assert num_levels is not None
        return few_levels(bands, num_levels)
    if num_levels is not None:
        raise ValueError(
            "num_levels and tolerance exclude each other, got "
            f"{_checks.describe(num_levels)} and {_checks.describe(tolerance)}"
        )
    sizes = [band.size for band in bands]
    return compressed([bins_of_band(band) for band in bands], tolerance, sum(sizes), sizes[0])


def _band_sizes(dim: int, num_dominant: int) -> tuple[int, int]:
    d = _checks.integer("dim", dim, 2, MAX_DIM)
    k = _checks.integer("num_dominant", num_dominant, 1)
    if k >= d:
        raise _checks.wrong("num_dominant", num_dominant, f"below dim = {d}")
    return k, d - k


def _new_levels(dim: int) -> NDArray[np.float64]:
    _memory.check(f"a spectrum of {dim:,} different eigenvalues", 8 * dim)
    return np.empty(dim)


def _fill_linear(out: NDArray[np.float64], largest: float, smallest: float) -> None:
    """Set ``out`` to ``np.linspace(largest, smallest, out.size)``, piece by piece."""
    spacing = (smallest - largest) / max(1, out.size - 1)
    for start in range(0, out.size, PIECE):
        stop = min(out.size, start + PIECE)
        out[start:stop] = np.arange(start, stop) * spacing + largest
    if out.size > 1:
        out[-1] = smallest


def _pair(name: str, ends: tuple[float, float]) -> tuple[float, float]:
    expected = "a pair (largest, smallest)"
    largest, smallest = (_checks.real(name, end) for end in _checks.pair(name, ends, expected))
    if smallest > largest:
        raise _checks.wrong(name, ends, expected)
    return largest, smallest


def _ratio(gap_ratio: float) -> float:
    ratio = _checks.real("gap_ratio", gap_ratio, positive=True)
    if ratio <= 1.0:
        raise _checks.wrong("gap_ratio", gap_ratio, "above 1")
    return ratio


def _scaled(ends: tuple[float, float], given: Any, largest: float) -> tuple[float, float]:
    """Return the ends of a band as a whole scaled to a largest eigenvalue."""
    if ends[0] == 0.0:
        raise _checks.wrong("bulk", given, "above zero at its larger end where gap_ratio is given")
    return largest, ends[1] * (largest / ends[0])


class Families(Made):
    """The methods of a spectrum that make one by formula."""

    @classmethod
    def linear_bands(
        cls,
        dim: int,
        num_dominant: int,
        dominant: tuple[float, float] = (100.0, 80.0),
        bulk: tuple[float, float] = (0.8, 0.1),
        num_levels: int | None = None,
        tolerance: float | None = None,
        gap_ratio: float | None = None,
    ) -> Self:
        """Two bands of evenly spaced eigenvalues, ``(largest, smallest)`` each.

        The spectrum of the published experiments (arXiv 2601.11789, section 5).

        Parameters
        ----------
        dim, num_dominant : int
        dominant, bulk : tuple of two float
            Largest and smallest eigenvalue of each band; the bulk lies below the dominant band.
            A band of one direction has the largest.
        num_levels : int, optional
            Make at most so many levels directly, both bands together, for dimensions that no
            array could hold. The eigenvalues at the gap are exact and the others means of those
            they stand for; `quantization_error` says how far an eigenvalue is moved.
        tolerance : float, optional
            Make the spectrum that `compress` would, without ever listing its eigenvalues.
        gap_ratio : float, optional
            Scale the bulk as a whole so that ``lambda_k / lambda_{k+1}`` is this.

        Raises
        ------
        ValueError
            If an argument is not as described, `num_levels` is too few for both bands, or both
            `num_levels` and `tolerance` are given.
        """
        return cls._of(
            linear_bands(dim, num_dominant, dominant, bulk, num_levels, tolerance, gap_ratio)
        )

    @classmethod
    def two_level(cls, dim: int, num_dominant: int, dominant: float, bulk: float) -> Self:
        """All dominant eigenvalues equal, all bulk eigenvalues equal."""
        return cls._of(two_level(dim, num_dominant, dominant, bulk))

    @classmethod
    def power_law(
        cls,
        dim: int,
        num_dominant: int,
        exponent: float,
        largest: float = 1.0,
        gap_ratio: float | None = None,
        num_levels: int | None = None,
        tolerance: float | None = None,
    ) -> Self:
        """Eigenvalues ``lambda_i = largest * i**-exponent``, i = 1 ... dim.

        Parameters
        ----------
        dim, num_dominant : int
        exponent, largest : float
        gap_ratio : float, optional
            Scale the bulk as a whole so that ``lambda_k / lambda_{k+1}`` is this.
        num_levels : int, optional
            Make at most so many levels directly, both bands together, for dimensions that no
            array could hold. The eigenvalues at the gap are exact and the others means of those
            they stand for; `quantization_error` says how far an eigenvalue is moved.
        tolerance : float, optional
            Make the spectrum that `compress` would, without ever listing its eigenvalues.

        Raises
        ------
        ValueError
            If an argument is not as described, `num_levels` is too few for both bands, or both
            `num_levels` and `tolerance` are given.
        """
        return cls._of(
            power_law(dim, num_dominant, exponent, largest, gap_ratio, num_levels, tolerance)
        )
