"""Eigenvalues with multiplicities, split into a dominant and a bulk band."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...base import checks
from ...base.values import Travels, may_underflow, same_values
from ...storage import paths
from ...storage.reader import Reader
from . import compression, families, stored
from .compression import Bins
from .parts import MAX_DIM, Compression, Parts, checked, is_ones, ones, real


@dataclass(frozen=True, eq=False, repr=False)
class Spectrum(Travels):
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
    quantization_error : float
        Bound on the relative error of each direction's eigenvalue where levels stand for many
        different ones (`quantize`, families with `num_levels`), else 0. It adds up over further
        quantizations and is kept in files.
    compression_error : float
        Error of a spectrum made by `compress`, else 0.
    eigenvalues : ndarray of float64, shape (num_levels,)
        Levels in descending order, read-only.
    multiplicities : ndarray of int64, shape (num_levels,)
        Read-only; of float64 and at least 1 where the spectrum is compressed.
    order : ndarray of int64 or None
        ``eigenvalues == given[order]`` where the given levels were not sorted, else None. Other
        arrays a user passes along with the levels are taken in the order of the given ones.

    Raises
    ------
    ValueError
        If an argument is not as described, with its name, its value and what was expected.

    Notes
    -----
    Spectra are equal where eigenvalues, multiplicities, the number of dominant directions, the
    order and the error are.
    """

    _made_anew: ClassVar[dict[str, Any]] = {"_few": dict}
    _few: ClassVar[dict[Any, "Spectrum"]]
    eigenvalues: NDArray[np.float64]
    num_dominant: int
    multiplicities: NDArray[np.int64] = None  # type: ignore[assignment]
    order: NDArray[np.int64] | None = field(default=None, init=False)
    quantization_error: float = field(default=0.0, init=False)
    compression_error: float = field(default=0.0, init=False)

    @may_underflow
    def __init__(
        self,
        eigenvalues: ArrayLike,
        num_dominant: int,
        multiplicities: ArrayLike | None = None,
    ) -> None:
        lam = checks.non_negative_vector("eigenvalues", eigenvalues)
        self._set(lam, checked(multiplicities, lam.size), num_dominant)

    @classmethod
    def _of(cls, parts: Parts) -> "Spectrum":
        """Make a spectrum of its parts without copying the eigenvalues."""
        spectrum = cls.__new__(cls)
        lam = checks.non_negative_vector("eigenvalues", parts.eigenvalues, copy=False)
        if parts.compression is None:
            spectrum._set(lam, checked(parts.multiplicities, lam.size), parts.num_dominant)
        else:
            counts = real(parts.multiplicities, lam.size)
            spectrum._set_compressed(lam, counts, parts.num_dominant, parts.compression)
        return spectrum._with_error(parts.error)

    def _parts(self) -> Parts:
        compressed = None
        if self.is_compressed:
            compressed = Compression(self.dim, self.num_dominant_levels, self.compression_error)
        error, counts = self.quantization_error, self.multiplicities
        return Parts(self.eigenvalues, self.num_dominant, counts, error, compressed)

    def _set(self, lam: NDArray[np.float64], counts: NDArray[np.int64], num_dominant: int) -> None:
        lam += 0.0  # no negative zero
        order = None
        if (lam[1:] > lam[:-1]).any():
            order = checks.read_only(np.argsort(-lam, kind="stable"))
            lam = lam[order]
            counts = counts if is_ones(counts) else counts[order]
        dim = lam.size if is_ones(counts) else sum(counts.tolist())
        if dim > MAX_DIM:
            raise ValueError(f"multiplicities must add up to at most 2**62, got {dim}")
        k = checks.integer("num_dominant", num_dominant, 1)
        if k >= dim:
            raise ValueError(
                f"num_dominant must be below the dimension {dim}, got {checks.describe(k)}"
            )
        level, inside = k - 1, False
        if not is_ones(counts):
            ends = np.cumsum(counts)
            level = int(np.searchsorted(ends, k))
            inside = ends[level] != k
        if inside or lam[level] == lam[level + 1]:
            raise ValueError(
                f"num_dominant must leave a gap lambda_k > lambda_(k+1), got num_dominant = {k} "
                f"where both are {float(lam[level])!r}"
            )
        self._keep(lam, counts, k, order, dim, level + 1, 0.0)

    def _set_compressed(
        self,
        lam: NDArray[np.float64],
        counts: NDArray[np.float64],
        num_dominant: int,
        known: Compression,
    ) -> None:
        """Take levels of real multiplicity, which must be sorted."""
        dim = checks.integer("dim", known.dim, 2, 2**62)
        k = checks.integer("num_dominant", num_dominant, 1, dim - 1)
        split = checks.integer("num_dominant_levels", known.num_dominant_levels, 1, lam.size - 1)
        if (lam[1:] > lam[:-1]).any() or lam[split - 1] == lam[split]:
            raise ValueError("eigenvalues must be sorted, with a gap after the dominant ones")
        bands = np.array([counts[:split].sum(), counts[split:].sum()])
        if not np.allclose(bands, [k, dim - k], rtol=1e-9):
            raise ValueError(f"multiplicities must add up to {k} and {dim - k}, got {bands}")
        self._keep(lam, counts, k, None, dim, split, known.error)

    def _keep(
        self,
        lam: NDArray[np.float64],
        counts: NDArray[Any],
        num_dominant: int,
        order: NDArray[np.int64] | None,
        dim: int,
        num_dominant_levels: int,
        error: float,
    ) -> None:
        values = {
            "eigenvalues": checks.read_only(lam), "multiplicities": checks.read_only(counts),
            "num_dominant": num_dominant, "order": order, "quantization_error": 0.0,
            "compression_error": error, "_few": {}, "_dim": dim,
            "_num_dominant_levels": num_dominant_levels,
        }  # fmt: skip
        for name, value in values.items():
            object.__setattr__(self, name, value)

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
        return self.num_levels == self.dim and not self.is_compressed

    @property
    def gap_ratio(self) -> float:
        """Ratio lambda_k / lambda_{k+1} at the gap, infinite where the bulk is all zero."""
        k = self.num_dominant_levels
        above, below = self.eigenvalues[k - 1], self.eigenvalues[k]
        with np.errstate(over="ignore"):
            return float(above / below) if below > 0.0 else float("inf")

    def expand(self) -> "Spectrum":
        """Return the same spectrum with one level for every direction.

        Raises
        ------
        ValueError
            If it is compressed.
        """
        if self.is_simple:
            return self
        self._refuse_compressed("expanded to single directions")
        lam = np.repeat(self.eigenvalues, self.multiplicities)
        return Spectrum._of(Parts(lam, self.num_dominant, error=self.quantization_error))

    def without_order(self) -> "Spectrum":
        """Return the same spectrum as if its levels had been given sorted."""
        if self.order is None:
            return self
        bare = Spectrum(self.eigenvalues, self.num_dominant, self.multiplicities)
        return bare._with_error(self.quantization_error)

    @may_underflow
    def quantize(
        self, num_levels: int | None = None, *, max_relative_error: float | None = None
    ) -> "Spectrum":
        """Return a spectrum of few levels that stand for many close eigenvalues.

        Bins of one relative width inside each band, never across the gap; a level is the mean of
        its bin's eigenvalues, which keeps the trace of each band. Zeros stay zeros.

        Parameters
        ----------
        num_levels : int, optional
            Number of levels at most; at least 2 and fewer than there are.
        max_relative_error : float, optional
            Bound on the relative error of every eigenvalue instead, between 0 and 1.

        Returns
        -------
        Spectrum
            Its `quantization_error` is the largest relative error it made, together with the one
            that was there: ``(1 + e_1) (1 + e_2) - 1``.

        Raises
        ------
        ValueError
            If not exactly one argument is given, or it asks for what cannot be.
        """
        self._refuse_compressed("quantized")
        if (num_levels is None) == (max_relative_error is None):
            raise ValueError("quantize takes exactly one of num_levels and max_relative_error")
        if num_levels is not None:
            wanted = checks.integer("num_levels", num_levels, 2)
            if wanted >= self.num_levels:
                raise checks.wrong(
                    "num_levels", num_levels, f"below the {self.num_levels} levels there are"
                )
            width = compression.narrowest(self.eigenvalues, self.num_dominant_levels, wanted)
            return self._binned(width)
        error = checks.real("max_relative_error", max_relative_error, positive=True)
        if error >= 1.0:
            raise checks.wrong("max_relative_error", max_relative_error, "below 1")
        return self._binned(float(np.log1p(error)))

    def _binned(self, width: float) -> "Spectrum":
        """Join levels whose logarithms fall into one bin, counted from the top of the band."""
        means, sizes, error = compression.joined(
            self.eigenvalues, self.multiplicities, self.num_dominant_levels, width
        )
        both = (1.0 + self.quantization_error) * (1.0 + error) - 1.0
        return Spectrum(means, self.num_dominant, sizes)._with_error(both)

    def _with_error(self, error: float) -> "Spectrum":
        object.__setattr__(self, "quantization_error", error)
        return self

    def band_sums(self, per_level: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum values, shape (..., num_levels), over the directions of each band, shape (..., 2)."""
        k = self.num_dominant_levels
        weighted = per_level if self.is_simple else per_level * self.multiplicities
        return np.stack([weighted[..., :k].sum(-1), weighted[..., k:].sum(-1)], axis=-1)

    def per_level(self, values: tuple[float, float]) -> NDArray[np.float64]:
        """Return the first value for every dominant level, the second for every bulk level."""
        k = self.num_dominant_levels
        return np.repeat(np.array(values, dtype=np.float64), [k, self.num_levels - k])

    def weighted(
        self, per_level: NDArray[np.float64], weights: tuple[float, float]
    ) -> NDArray[np.float64]:
        """Return a per-level quantity times the weight of its band: itself where both are 1."""
        if weights == (1.0, 1.0):
            return per_level
        k = self.num_dominant_levels
        out = np.empty(self.num_levels)
        for band, weight in zip((slice(0, k), slice(k, None)), weights, strict=True):
            np.multiply(per_level[band], weight, out=out[band])
        return out

    @property
    def is_compressed(self) -> bool:
        """Whether multiplicities are real numbers (`compress`): there are no single directions."""
        return self.multiplicities.dtype.kind == "f"

    @property
    def stands_for_swings(self) -> bool:
        """Whether its levels will do under momentum: not where `compress` made them."""
        return not self.is_compressed or bool(np.isnan(self.compression_error))

    def compress(self, tolerance: float = 1e-12) -> "Spectrum":
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
        tolerance = checks.real("tolerance", tolerance, positive=True)
        if self.is_compressed and self.compression_error <= tolerance:
            return self
        self._refuse_compressed("compressed further")
        return self._kept(
            tolerance,
            lambda bands: compression.compressed(bands, tolerance, self.dim, self.num_dominant),
        )

    def resolved(self, width: float, nodes: int) -> "Spectrum":
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
        rule = compression.gauss_rule(width, nodes)
        return self._kept(
            rule, lambda bands: compression.resolved(bands, *rule, self.dim, self.num_dominant)
        )

    def _kept(self, key: Any, reduce: Callable[[list[Bins]], Parts]) -> "Spectrum":
        """Return the spectrum of fewer levels that is kept, or this one where it has no more."""
        if key not in self._few:
            k = self.num_dominant_levels
            bands = [
                compression.bins_of_levels(self.eigenvalues[part], self.multiplicities[part])
                for part in (slice(0, k), slice(k, None))
            ]
            parts = reduce(bands)
            fits = parts.eigenvalues.size < self.num_levels
            self._few[key] = (
                self._of(parts._replace(error=self.quantization_error)) if fits else self
            )
        return self._few[key]

    def _refuse_compressed(self, done: str) -> None:
        if self.is_compressed:
            raise ValueError(f"spectrum must not be compressed to be {done}, got {self!r}")

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
    ) -> "Spectrum":
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
        listing = num_levels, tolerance, gap_ratio
        return cls._of(families.linear_bands(dim, num_dominant, dominant, bulk, *listing))

    @classmethod
    def two_level(cls, dim: int, num_dominant: int, dominant: float, bulk: float) -> "Spectrum":
        """All dominant eigenvalues equal, all bulk eigenvalues equal."""
        return cls._of(families.two_level(dim, num_dominant, dominant, bulk))

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
    ) -> "Spectrum":
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
        listing = gap_ratio, num_levels, tolerance
        return cls._of(families.power_law(dim, num_dominant, exponent, largest, *listing))

    def save(
        self,
        path: paths.AnyPath,
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
        parts = self._parts()
        stored.save(
            path, parts, description=description, attributes=attributes, overwrite=overwrite
        )

    def write(self, file: h5py.File, *, compression: str = "gzip") -> None:
        """Write ``/spectrum`` into an open HDF5 file."""
        stored.write_group(file, self._parts(), compression=compression)

    @classmethod
    def load(cls, path: paths.AnyPath) -> "Spectrum":
        """Read a spectrum from a file written by `save`, or from a trace file.

        Raises
        ------
        OSError
            If the file cannot be read or is not a spectrum or trace file.
        """
        with Reader(path) as file:
            try:
                return cls.read(file)
            except OSError as error:
                raise OSError(f"{file.path} {error}") from error

    @classmethod
    def read(cls, file: Reader) -> "Spectrum":
        """Read ``/spectrum`` of an open HDF5 file."""
        with stored.reading():
            return cls._of(stored.read_group(file))

    @staticmethod
    def check(file: Reader) -> None:
        """Raise OSError unless ``/spectrum`` of an open file looks like one, its values unread."""
        stored.check_group(file)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Spectrum):
            return NotImplemented
        return same_values(self._values(), other._values())

    def _values(self) -> tuple[Any, ...]:
        """Everything that makes a spectrum."""
        order, error = self.order, self.quantization_error
        return self.num_dominant, self.eigenvalues, self.multiplicities, order, error

    def __repr__(self) -> str:
        k = self.num_dominant_levels
        lam = self.eigenvalues
        levels = "" if self.is_simple else f", num_levels={self.num_levels}"
        return (
            f"Spectrum(dim={self.dim}, num_dominant={self.num_dominant}{levels}, "
            f"dominant={lam[0]:.6g}..{lam[k - 1]:.6g}, bulk={lam[k]:.6g}..{lam[-1]:.6g})"
        )


def shard_of(spectrum: Spectrum, first: int, stop: int) -> tuple[Spectrum, slice]:
    """Return the spectrum of directions ``first ... stop - 1``, and which levels these have.

    Either band may be empty in it. It shares the memory of the eigenvalues.
    """
    levels, counts = slice(first, stop), ones(stop - first)
    if not is_ones(spectrum.multiplicities):
        levels, counts = _levels(spectrum.multiplicities, first, stop)
    split = spectrum.num_dominant_levels - levels.start
    shard = Spectrum.__new__(Spectrum)
    shard._keep(
        spectrum.eigenvalues[levels], counts,
        min(max(spectrum.num_dominant - first, 0), stop - first), None, stop - first,
        min(max(split, 0), counts.size), 0.0,
    )  # fmt: skip
    return shard, levels


def _levels(
    multiplicities: NDArray[np.int64], first: int, stop: int
) -> tuple[slice, NDArray[np.int64]]:
    """Return the levels of some directions, and how many of these each has."""
    ends = np.cumsum(multiplicities)
    a = int(np.searchsorted(ends, first, side="right"))
    b = int(np.searchsorted(ends, stop, side="left")) + 1
    edges = np.clip(ends[a:b], first, stop)
    counts = np.diff(edges, prepend=first)
    return slice(a, b), ones(b - a) if (counts == 1).all() else counts
