"""Hessian spectra: eigenvalues with multiplicities, split into a dominant and a bulk band."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks, _hdf5

FORMAT = "suspalign-spectrum"
FORMAT_VERSION = 1
MAX_MULTIPLICITY = 2**53


@dataclass(frozen=True, eq=False, repr=False)
class Spectrum:
    """Eigenvalues of a Hessian, largest first, and the number of dominant directions.

    Parameters
    ----------
    eigenvalues : array_like of float, shape (num_levels,)
        Distinct levels or simply all eigenvalues; finite, not negative. An unsorted array is
        sorted; `order` remembers how.
    num_dominant : int
        Number k of dominant directions, ``1 <= k < dim``, counted with multiplicity: the k
        largest eigenvalues. There must be a gap, ``lambda_k > lambda_{k+1}``.
    multiplicities : array_like of int, shape (num_levels,), optional
        How many directions share each eigenvalue, at least 1 and at most 2**53; 1 by default.

    Attributes
    ----------
    eigenvalues : ndarray of float64, shape (num_levels,)
        Levels in descending order, read-only.
    multiplicities : ndarray of int64, shape (num_levels,)
        Read-only.
    order : ndarray of int64 or None
        ``eigenvalues == given[order]`` where the given levels were not sorted, else None. Other
        arrays a user passes along with the levels are taken in the order of the given ones.

    Raises
    ------
    ValueError
        If an argument is not as described, with its name, its value and what was expected.
    """

    eigenvalues: NDArray[np.float64]
    num_dominant: int
    multiplicities: NDArray[np.int64] = None  # type: ignore[assignment]
    order: NDArray[np.int64] | None = field(default=None, init=False)

    def __init__(
        self,
        eigenvalues: ArrayLike,
        num_dominant: int,
        multiplicities: ArrayLike | None = None,
    ) -> None:
        lam = _checks.non_negative_vector("eigenvalues", eigenvalues)
        counts = _multiplicities(multiplicities, lam.size)
        order = None
        if (np.diff(lam) > 0.0).any():
            order = _checks.read_only(np.argsort(-lam, kind="stable"))
            lam, counts = lam[order], counts[order]
        dim = int(counts.sum()) if lam.size < 2**10 else sum(counts.tolist())
        if dim > 2**62:
            raise ValueError(f"multiplicities must add up to at most 2**62, got {dim}")
        k = _checks.integer("num_dominant", num_dominant, 1)
        if k >= dim:
            raise ValueError(f"num_dominant must be below the dimension {dim}, got {k}")
        ends = np.cumsum(counts)
        level = int(np.searchsorted(ends, k))
        below = lam[level + 1] if ends[level] == k else lam[level]
        if lam[level] == below:
            raise ValueError(
                f"num_dominant must leave a gap lambda_k > lambda_(k+1), got num_dominant = {k} "
                f"where both are {float(below)!r}"
            )
        object.__setattr__(self, "eigenvalues", _checks.read_only(lam))
        object.__setattr__(self, "multiplicities", _checks.read_only(counts))
        object.__setattr__(self, "num_dominant", k)
        object.__setattr__(self, "order", order)
        object.__setattr__(self, "_dim", dim)
        object.__setattr__(self, "_num_dominant_levels", level + 1)

    @property
    def dim(self) -> int:
        """Number of directions d, multiplicities counted."""
        return self._dim  # type: ignore[attr-defined]

    @property
    def num_levels(self) -> int:
        """Number of entries of `eigenvalues`."""
        return self.eigenvalues.size

    @property
    def num_dominant_levels(self) -> int:
        """Number of levels that make up the dominant band."""
        return self._num_dominant_levels  # type: ignore[attr-defined]

    @property
    def is_simple(self) -> bool:
        """Whether every multiplicity is 1."""
        return self.num_levels == self.dim

    @property
    def gap_ratio(self) -> float:
        """Ratio lambda_k / lambda_{k+1} at the gap, infinite where the bulk is all zero."""
        k = self.num_dominant_levels
        above, below = self.eigenvalues[k - 1], self.eigenvalues[k]
        return float(above / below) if below > 0.0 else float("inf")

    def expand(self) -> "Spectrum":
        """Return the same spectrum with one level for every direction."""
        if self.is_simple:
            return self
        return Spectrum(np.repeat(self.eigenvalues, self.multiplicities), self.num_dominant)

    def band_sums(self, per_level: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum a per-level quantity over the directions of each band.

        Parameters
        ----------
        per_level : ndarray, shape (..., num_levels)

        Returns
        -------
        ndarray of float64, shape (..., 2)
            Sums over the dominant and the bulk band, multiplicities counted.
        """
        k = self.num_dominant_levels
        weighted = per_level * self.multiplicities
        return np.stack([weighted[..., :k].sum(-1), weighted[..., k:].sum(-1)], axis=-1)

    def __repr__(self) -> str:
        k = self.num_dominant_levels
        lam = self.eigenvalues
        levels = "" if self.is_simple else f", num_levels={self.num_levels}"
        return (
            f"Spectrum(dim={self.dim}, num_dominant={self.num_dominant}{levels}, "
            f"dominant={lam[0]:.6g}..{lam[k - 1]:.6g}, bulk={lam[k]:.6g}..{lam[-1]:.6g})"
        )

    # --- families --------------------------------------------------------------------------

    @classmethod
    def linear_bands(
        cls,
        dim: int,
        num_dominant: int,
        dominant: tuple[float, float] = (100.0, 80.0),
        bulk: tuple[float, float] = (0.8, 0.1),
    ) -> "Spectrum":
        """Two bands of evenly spaced eigenvalues, ``(largest, smallest)`` each.

        The spectrum of the published experiments (arXiv 2601.11789, section 5).
        """
        k, rest = _band_sizes(dim, num_dominant)
        bands = [_band("dominant", dominant, k), _band("bulk", bulk, rest)]
        return cls(np.concatenate(bands), k)

    @classmethod
    def two_level(cls, dim: int, num_dominant: int, dominant: float, bulk: float) -> "Spectrum":
        """All dominant eigenvalues equal, all bulk eigenvalues equal."""
        k, rest = _band_sizes(dim, num_dominant)
        levels = [_checks.real("dominant", dominant), _checks.real("bulk", bulk)]
        if levels[1] > levels[0]:
            raise _checks.wrong("bulk", bulk, f"below dominant = {dominant}")
        return cls(levels, k, [k, rest])

    @classmethod
    def power_law(
        cls,
        dim: int,
        num_dominant: int,
        exponent: float,
        largest: float = 1.0,
        gap_ratio: float | None = None,
    ) -> "Spectrum":
        """Eigenvalues ``lambda_i = largest * i**-exponent``, i = 1 ... dim.

        With `gap_ratio` the bulk is scaled as a whole so that ``lambda_k / lambda_{k+1}`` is
        `gap_ratio`.
        """
        k, _ = _band_sizes(dim, num_dominant)
        decay = _checks.real("exponent", exponent, positive=True)
        lam = _checks.real("largest", largest, positive=True) * np.arange(1.0, dim + 1) ** -decay
        if gap_ratio is not None:
            ratio = _checks.real("gap_ratio", gap_ratio, positive=True)
            if ratio <= 1.0:
                raise _checks.wrong("gap_ratio", gap_ratio, "above 1")
            lam[k:] *= lam[k - 1] / (ratio * lam[k])
        return cls(lam, k)

    # --- files -----------------------------------------------------------------------------

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        description: str = "",
        attributes: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Write the spectrum to an HDF5 file that `load` reads.

        Parameters
        ----------
        path : path-like
        description : str
            Free text kept in the file.
        attributes : mapping, optional
            Further root attributes.
        overwrite : bool
            Whether an existing file may be replaced.

        Raises
        ------
        FileExistsError
            If the file exists and `overwrite` is false.
        """
        with _hdf5.create(path, overwrite=overwrite) as file:
            file.attrs["format"] = FORMAT
            file.attrs["format_version"] = FORMAT_VERSION
            file.attrs["description"] = description
            file.attrs.update(attributes or {})
            self.write(file)

    def write(self, file: h5py.File) -> None:
        """Write ``/spectrum`` into an open HDF5 file."""
        group = file.create_group("spectrum")
        group.attrs["num_dominant"] = self.num_dominant
        for name in ("eigenvalues", "multiplicities"):
            values = getattr(self, name)
            group.create_dataset(name, data=values, compression="gzip", shuffle=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Spectrum":
        """Read a spectrum from a file written by `save`, or from a trace file.

        Raises
        ------
        OSError
            If the file cannot be read or is not a spectrum or trace file.
        """
        with _hdf5.open_for_reading(path) as file:
            return cls.read(file, Path(path))

    @classmethod
    def read(cls, file: h5py.File, path: Path) -> "Spectrum":
        """Read ``/spectrum`` of an open HDF5 file."""
        try:
            group = file["spectrum"]
            return cls(
                group["eigenvalues"][()],
                int(group.attrs["num_dominant"]),
                group["multiplicities"][()],
            )
        except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            raise OSError(f"{path} does not hold a suspalign spectrum: {error}") from error


def _multiplicities(given: ArrayLike | None, num_levels: int) -> NDArray[np.int64]:
    if given is None:
        return np.ones(num_levels, dtype=np.int64)
    counts = np.asarray(given)
    expected = f"an array of {num_levels} positive integers, one a level"
    if counts.dtype.kind not in "iuf" or counts.shape != (num_levels,):
        raise _checks.wrong("multiplicities", given, expected)
    bad = ~((counts >= 1) & (counts <= MAX_MULTIPLICITY))
    if counts.dtype.kind == "f":
        bad |= counts != np.rint(counts)
    if bad.any():
        at = int(np.argmax(bad))
        raise ValueError(
            f"multiplicities must be integers from 1 to 2**53, got {counts[at]} at index {at}"
        )
    return counts.astype(np.int64)


def _band_sizes(dim: int, num_dominant: int) -> tuple[int, int]:
    d = _checks.integer("dim", dim, 2)
    k = _checks.integer("num_dominant", num_dominant, 1)
    if k >= d:
        raise _checks.wrong("num_dominant", num_dominant, f"below dim = {d}")
    return k, d - k


def _band(name: str, ends: tuple[float, float], size: int) -> NDArray[np.float64]:
    try:
        largest, smallest = (_checks.real(name, end) for end in ends)
    except TypeError:
        raise _checks.wrong(name, ends, "a pair (largest, smallest)") from None
    if smallest > largest:
        raise _checks.wrong(name, ends, "a pair (largest, smallest)")
    return np.linspace(largest, smallest, size)
