"""Hessian spectra: eigenvalues with multiplicities, split into a dominant and a bulk band."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks, _memory
from ._equality import same_values
from .storage import Output, Reader, files, text, write

FORMAT = "suspalign-spectrum"
FORMAT_VERSION = 1
#: Levels worked on at once where none of their temporaries may be of their full number.
PIECE = 2**20
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
    quantization_error : float
        Bound on the relative error of each direction's eigenvalue where levels stand for many
        different ones (`quantize`, families with `num_levels`), else 0. It adds up over further
        quantizations and is kept in files.
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

    Notes
    -----
    Spectra are equal where eigenvalues, multiplicities, the number of dominant directions, the
    order and the error are.
    """

    eigenvalues: NDArray[np.float64]
    num_dominant: int
    multiplicities: NDArray[np.int64] = None  # type: ignore[assignment]
    order: NDArray[np.int64] | None = field(default=None, init=False)
    quantization_error: float = field(default=0.0, init=False)

    def __init__(
        self,
        eigenvalues: ArrayLike,
        num_dominant: int,
        multiplicities: ArrayLike | None = None,
    ) -> None:
        lam = _checks.non_negative_vector("eigenvalues", eigenvalues)
        self._set(lam, _multiplicities(multiplicities, lam.size), num_dominant)

    @classmethod
    def _owning(
        cls, lam: NDArray[np.float64], num_dominant: int, multiplicities: ArrayLike | None = None
    ) -> "Spectrum":
        """Make a spectrum of an array that nobody else uses, without copying it."""
        spectrum = cls.__new__(cls)
        values = _checks.non_negative_vector("eigenvalues", lam, copy=False)
        spectrum._set(values, _multiplicities(multiplicities, lam.size), num_dominant)
        return spectrum

    def _set(self, lam: NDArray[np.float64], counts: NDArray[np.int64], num_dominant: int) -> None:
        lam += 0.0  # no negative zero
        order = None
        if (lam[1:] > lam[:-1]).any():
            order = _checks.read_only(np.argsort(-lam, kind="stable"))
            lam = lam[order]
            counts = counts if _is_ones(counts) else counts[order]
        dim = lam.size if _is_ones(counts) else sum(counts.tolist())
        if dim > 2**62:
            raise ValueError(f"multiplicities must add up to at most 2**62, got {dim}")
        k = _checks.integer("num_dominant", num_dominant, 1)
        if k >= dim:
            raise ValueError(f"num_dominant must be below the dimension {dim}, got {k}")
        level, inside = k - 1, False
        if not _is_ones(counts):
            ends = np.cumsum(counts)
            level = int(np.searchsorted(ends, k))
            inside = ends[level] != k
        if inside or lam[level] == lam[level + 1]:
            raise ValueError(
                f"num_dominant must leave a gap lambda_k > lambda_(k+1), got num_dominant = {k} "
                f"where both are {float(lam[level])!r}"
            )
        object.__setattr__(self, "eigenvalues", _checks.read_only(lam))
        object.__setattr__(self, "multiplicities", _checks.read_only(counts))
        object.__setattr__(self, "num_dominant", k)
        object.__setattr__(self, "order", order)
        object.__setattr__(self, "quantization_error", 0.0)
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
        with np.errstate(over="ignore"):
            return float(above / below) if below > 0.0 else float("inf")

    def expand(self) -> "Spectrum":
        """Return the same spectrum with one level for every direction."""
        if self.is_simple:
            return self
        lam = np.repeat(self.eigenvalues, self.multiplicities)
        return Spectrum._owning(lam, self.num_dominant)._with_error(self.quantization_error)

    def without_order(self) -> "Spectrum":
        """Return the same spectrum as if its levels had been given sorted."""
        if self.order is None:
            return self
        bare = Spectrum(self.eigenvalues, self.num_dominant, self.multiplicities)
        return bare._with_error(self.quantization_error)

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
        if (num_levels is None) == (max_relative_error is None):
            raise ValueError("quantize takes exactly one of num_levels and max_relative_error")
        if num_levels is not None:
            wanted = _checks.integer("num_levels", num_levels, 2)
            if wanted >= self.num_levels:
                raise _checks.wrong(
                    "num_levels", num_levels, f"below the {self.num_levels} levels there are"
                )
            return self._binned(_narrowest_bins(self, wanted))
        error = _checks.real("max_relative_error", max_relative_error, positive=True)
        if error >= 1.0:
            raise _checks.wrong("max_relative_error", max_relative_error, "below 1")
        return self._binned(float(np.log1p(error)))

    def _binned(self, width: float) -> "Spectrum":
        """Join levels whose logarithms fall into one bin, counted from the top of the band."""
        first = np.flatnonzero(_bin_starts(self, width))
        lam, counts = self.eigenvalues, self.multiplicities
        sizes = np.add.reduceat(counts, first)
        top = np.repeat(lam[first], np.diff(np.append(first, lam.size)))
        parts = np.divide(lam, top, out=np.zeros_like(lam), where=top > 0.0)
        means = lam[first] * (np.add.reduceat(parts * counts, first) / sizes)
        spread = np.repeat(means, np.diff(np.append(first, lam.size)))
        with np.errstate(all="ignore"):
            error = np.where(lam > 0.0, np.abs(spread / lam - 1.0), 0.0).max()
        both = (1.0 + self.quantization_error) * (1.0 + float(error)) - 1.0
        return Spectrum(means, self.num_dominant, sizes)._with_error(both)

    def _with_error(self, error: float) -> "Spectrum":
        object.__setattr__(self, "quantization_error", error)
        return self

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

    # --- families --------------------------------------------------------------------------

    @classmethod
    def linear_bands(
        cls,
        dim: int,
        num_dominant: int,
        dominant: tuple[float, float] = (100.0, 80.0),
        bulk: tuple[float, float] = (0.8, 0.1),
        num_levels: int | None = None,
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

        Raises
        ------
        ValueError
            If an argument is not as described, or `num_levels` is too few for both bands.
        """
        sizes = _band_sizes(dim, num_dominant)
        pairs = _pair("dominant", dominant), _pair("bulk", bulk)
        bands = [_Linear(*pair, size) for pair, size in zip(pairs, sizes, strict=True)]
        if bands[1].value(0) >= bands[0].value(sizes[0] - 1):
            end = float(bands[0].value(sizes[0] - 1))
            raise _checks.wrong("bulk", bulk, f"below the dominant band, which ends at {end!r}")
        if num_levels is not None:
            return _of_levels(bands, num_levels)
        k = sizes[0]
        lam = _new_levels(dim)
        _fill_linear(lam[:k], *pairs[0])
        _fill_linear(lam[k:], *pairs[1])
        return cls._owning(lam, k)

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
        num_levels: int | None = None,
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

        Raises
        ------
        ValueError
            If an argument is not as described, or `num_levels` is too few for both bands.
        """
        k, rest = _band_sizes(dim, num_dominant)
        decay = _checks.real("exponent", exponent, positive=True)
        top = _checks.real("largest", largest, positive=True)
        scale = 1.0
        if gap_ratio is not None:
            ratio = _checks.real("gap_ratio", gap_ratio, positive=True)
            if ratio <= 1.0:
                raise _checks.wrong("gap_ratio", gap_ratio, "above 1")
            scale = (1.0 + 1.0 / k) ** decay / ratio
        if num_levels is not None:
            bands = [_Power(top, decay, 0, k), _Power(top * scale, decay, k, rest)]
            return _of_levels(bands, num_levels)
        lam = _new_levels(dim)
        for start in range(0, dim, PIECE):
            stop = min(dim, start + PIECE)
            lam[start:stop] = top * np.arange(start + 1.0, stop + 1) ** -decay
        lam[k:] *= scale
        return cls._owning(lam, k)

    # --- files -----------------------------------------------------------------------------

    def save(
        self,
        path: files.AnyPath,
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
        target = files.real(path)
        files.check_new(target, overwrite=overwrite)
        replacement = files.Replacement(target)
        try:
            output = Output(replacement.path, "w")
            with output.abandoned_on_failure():
                file = output.file
                file.attrs["format"] = text(FORMAT)
                file.attrs["format_version"] = FORMAT_VERSION
                file.attrs["description"] = description
                file.attrs.update(attributes or {})
                self.write(file)
            output.close()
            replacement.put(overwrite=overwrite)
        except RuntimeError as error:  # what libhdf5 raises where a write fails
            raise OSError(f"{target} cannot be written: {error}") from error
        finally:
            replacement.discard()

    def write(self, file: h5py.File, *, compression: str = "gzip") -> None:
        """Write ``/spectrum`` into an open HDF5 file."""
        group = file.create_group("spectrum")
        group.attrs["num_dominant"] = self.num_dominant
        group.attrs["quantization_error"] = np.float64(self.quantization_error)
        for name in ("eigenvalues", "multiplicities"):
            write(group, name, getattr(self, name), compression=compression)

    @classmethod
    def load(cls, path: files.AnyPath) -> "Spectrum":
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
        with _reading():
            eigenvalues = file.read("spectrum/eigenvalues")
            multiplicities = file.read("spectrum/multiplicities")
            num_dominant = file.attribute("spectrum", "num_dominant")
            spectrum = cls._owning(eigenvalues, num_dominant, multiplicities)
            return spectrum._with_error(_stored_error(file))

    @staticmethod
    def check(file: Reader) -> None:
        """Raise OSError unless ``/spectrum`` of an open file looks like one, its values unread."""
        with _reading():
            shapes = [
                file.dataset(f"spectrum/{name}").shape for name in ("eigenvalues", "multiplicities")
            ]
            file.attribute("spectrum", "num_dominant")
            if len(shapes[0]) != 1 or shapes[0] != shapes[1]:
                raise ValueError(f"arrays of shapes {shapes}")


def _stored_error(file: Reader) -> float:
    try:
        error = float(file.attribute("spectrum", "quantization_error"))
    except KeyError:  # as in files of earlier versions
        return 0.0
    if not error >= 0.0:
        raise _checks.wrong("quantization_error", error, "a number of at least zero")
    return error


@contextmanager
def _reading() -> Iterator[None]:
    """Turn whatever a file that is not ours makes the library raise into one error."""
    try:
        yield
    except Exception as error:
        raise OSError(f"does not hold a suspalign spectrum: {error}") from error


def _ones(num_levels: int) -> NDArray[np.int64]:
    """Multiplicities of a simple spectrum, in no memory."""
    return np.broadcast_to(np.int64(1), (num_levels,))


def _is_ones(counts: NDArray[np.int64]) -> bool:
    return counts.strides == (0,)


def _multiplicities(given: ArrayLike | None, num_levels: int) -> NDArray[np.int64]:
    if given is None:
        return _ones(num_levels)
    expected = f"an array of {num_levels} positive integers, one a level"
    counts = _checks.array("multiplicities", given, expected)
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
    return _ones(num_levels) if (counts == 1).all() else counts.astype(np.int64)


def _band_sizes(dim: int, num_dominant: int) -> tuple[int, int]:
    d = _checks.integer("dim", dim, 2)
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
    try:
        largest, smallest = (_checks.real(name, end) for end in ends)
    except TypeError:
        raise _checks.wrong(name, ends, "a pair (largest, smallest)") from None
    if smallest > largest:
        raise _checks.wrong(name, ends, "a pair (largest, smallest)")
    return largest, smallest


# --- levels that stand for many eigenvalues --------------------------------------------------


class _Band(Protocol):
    """Eigenvalues i = 0 ... size - 1 of a band, largest first, by formula."""

    size: int

    def value(self, i: Any) -> Any:
        """Eigenvalues of given indices."""

    def mean(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.float64]:
        """Means of the eigenvalues ``first ... last - 1``."""

    def cuts(self, first: int, last: int, count: int) -> NDArray[np.float64]:
        """Indices that cut ``first ... last - 1`` into `count` parts of one relative width."""


@dataclass
class _Linear:
    """A band of evenly spaced eigenvalues."""

    largest: float
    smallest: float
    size: int

    def value(self, i: Any) -> Any:
        # Neither term is negative: an eigenvalue near zero keeps its digits.
        rest = np.asarray(max(self.size - 1, 1), dtype=np.float64)
        return self.largest * ((self.size - 1 - i) / rest if self.size > 1 else 1.0) + (
            self.smallest * (i / rest)
        )

    def mean(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.float64]:
        means: NDArray[np.float64] = (self.value(first) + self.value(last - 1)) / 2.0
        return means

    def cuts(self, first: int, last: int, count: int) -> NDArray[np.float64]:
        high, low = float(self.value(first)), float(self.value(last - 1))
        if low == high or low == 0.0:
            return np.linspace(first, last, count + 1)
        step = (high - low) / (last - 1 - first)
        if low > 1e-3 * high or count < 4:
            return first + (high - np.geomspace(high, low, count + 1)) / step
        # Few directions lie near zero: half of the parts are for those further up, evenly.
        half = count // 2
        bend = low + (high - low) / (half + 1)
        ends = np.geomspace(bend, low, count - half + 1)[1:]
        return first + (high - np.concatenate([np.linspace(high, bend, half + 1), ends])) / step


@dataclass
class _Power:
    """Eigenvalues ``scale * j**-decay``, j = start + 1 ... start + size."""

    scale: float
    decay: float
    start: int
    size: int

    def value(self, i: Any) -> Any:
        return self.scale * np.asarray(self.start + 1 + i, dtype=np.float64) ** -self.decay

    def mean(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.float64]:
        totals = power_sum(self.decay, self.start + 1 + first, self.start + 1 + last)
        return self.scale * totals / (last - first)

    def cuts(self, first: int, last: int, count: int) -> NDArray[np.float64]:
        ends = float(self.start + 1 + first), float(self.start + 1 + last)
        return np.geomspace(*ends, count + 1) - (self.start + 1)


def power_sum(
    decay: float, first: NDArray[np.int64], last: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return ``sum j**-decay`` over ``first <= j < last`` to nearly all digits, whatever j is.

    Terms up to j = 64 (decay + 8) one by one, the rest by the Euler-Maclaurin formula for
    midpoints, whose integral is written so that nothing cancels.
    """
    cut = np.clip(math.ceil(64.0 * (decay + 8.0)), first, last)
    totals = _tail_sum(decay, cut, last)
    for at in np.flatnonzero(cut > first):
        # Terms e^-46 of the first one no longer count.
        most = float(first[at]) * math.exp(min(46.0 / decay, 700.0))
        end = min(int(cut[at]), math.ceil(min(most, 2.0**62)) + 1)
        head = np.arange(first[at], end, dtype=np.float64) ** -decay
        totals[at] += math.fsum(head.tolist())
    return totals


def _tail_sum(
    decay: float, first: NDArray[np.int64], last: NDArray[np.int64]
) -> NDArray[np.float64]:
    low, size = first - 0.5, (last - first).astype(np.float64)
    high = low + size
    log = np.log1p(size / low)
    # The integral of x^-decay from low to high, then what the first and third derivative add.
    integral = log if decay == 1.0 else np.expm1((1.0 - decay) * log) / (1.0 - decay)
    integral = integral * low ** (1.0 - decay)
    slope = decay * (low ** (-decay - 1.0) - high ** (-decay - 1.0))
    rising = decay * (decay + 1.0) * (decay + 2.0)
    cubic = rising * (low ** (-decay - 3.0) - high ** (-decay - 3.0))
    return np.where(size > 0.0, integral - slope / 24.0 + 7.0 * cubic / 5760.0, 0.0)


def _of_levels(bands: Sequence[_Band], num_levels: int) -> Spectrum:
    """Return a spectrum of at most `num_levels` levels for both bands, exact at the gap."""
    count = _checks.integer("num_levels", num_levels, 1)
    fewest = [_fewest_levels(band) for band in bands]
    if count < sum(fewest):
        expected = f"at least {sum(fewest)} for these bands, 2**53 directions a level at most"
        raise _checks.wrong("num_levels", num_levels, expected)
    shares = _shares(bands, fewest, count)
    made = [_levels(bands[0], shares[0], top=True), _levels(bands[1], shares[1], top=False)]
    lam, sizes = (np.concatenate([levels[part] for levels in made]) for part in range(2))
    error = max(levels[2] for levels in made)
    return Spectrum(lam, bands[0].size, sizes)._with_error(error)


def _is_constant(band: _Band) -> bool:
    return band.size == 1 or bool(band.value(0) == band.value(band.size - 1))


def _pieces(size: Any) -> Any:
    """Levels that so many directions need at least."""
    return -(-size // MAX_MULTIPLICITY)


def _fewest_levels(band: _Band) -> int:
    """One for the eigenvalue at the gap, one for a zero at the end, and some for the rest."""
    if _is_constant(band):
        return int(_pieces(band.size))
    alone = min(band.size, 1 + int(band.value(band.size - 1) == 0.0))
    return alone + int(_pieces(band.size - alone))


def _shares(bands: Sequence[_Band], fewest: list[int], count: int) -> list[int]:
    """Share levels out by the relative widths of the bands, a fifth at least for each."""
    widths = []
    for band in bands:
        low = band.value(band.size - 1) or band.value(max(band.size - 2, 0))
        with np.errstate(divide="ignore", over="ignore"):
            widths.append(min(float(np.log(band.value(0) / low)), 1500.0) if low > 0.0 else 1500.0)
    most = [few if _is_constant(b) else b.size for b, few in zip(bands, fewest, strict=True)]
    total = sum(widths)
    share = min(max(widths[0] / total, 0.2), 0.8) if total > 0.0 else 0.5
    part = int((count - sum(fewest)) * share)
    bulk = min(most[1], count - min(most[0], fewest[0] + part))
    return [min(most[0], count - bulk), bulk]


def _levels(
    band: _Band, count: int, *, top: bool
) -> tuple[NDArray[np.float64], NDArray[np.int64], float]:
    """At most `count` levels of a band: eigenvalues, multiplicities and the largest error.

    The eigenvalue at the gap is a level of its own (the last one of the `top` band, the first one
    of the other), and so are a zero at the end and, where there are enough levels, the other end.
    """
    size = band.size
    fewest = _fewest_levels(band)
    if _is_constant(band):
        first = _starts(np.linspace(0, size, fewest + 1), 0, size)
    elif count >= size:
        first = np.arange(size)
    else:
        ends = [not top, top or bool(band.value(size - 1) == 0.0)]
        for end in (0, 1):
            ends[end] = ends[end] or count > max(fewest, 1 + sum(ends))
        start, stop = int(ends[0]), size - int(ends[1])
        inside = _inside(band, start, stop, count - sum(ends))
        first = np.unique(
            np.concatenate([[0] * ends[0], inside, [stop] * ends[1]]).astype(np.int64)
        )
    last = np.append(first[1:], size)
    high, low = band.value(first), band.value(last - 1)
    means = np.where(last - first == 1, high, np.clip(band.mean(first, last), low, high))
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.maximum(means / low - 1.0, 1.0 - means / high)
    error = np.where(high == low, 0.0, error)
    return np.minimum.accumulate(means), last - first, float(error.max())


def _inside(band: _Band, start: int, stop: int, count: int) -> NDArray[np.int64]:
    """Starts of at most `count` levels of directions ``start ... stop - 1``, none too large."""
    wide = count
    while True:
        first = _starts(band.cuts(start, stop, wide), start, stop)
        sizes = np.diff(np.append(first, stop))
        pieces = _pieces(sizes)
        if pieces.sum() <= count or wide == 1:
            break
        wide = max(1, wide - max(1, int(pieces.sum() - count) // 2))
    if pieces.max() == 1:
        return first
    parts = [
        np.linspace(at, at + size, number, endpoint=False)
        for at, size, number in zip(first.tolist(), sizes.tolist(), pieces.tolist(), strict=True)
    ]
    return _starts(np.concatenate([*parts, [stop]]), start, stop)


def _starts(cuts: NDArray[np.float64], start: int, stop: int) -> NDArray[np.int64]:
    """Different whole starts of the parts that `cuts` makes, the first one at `start`."""
    inside = np.clip(np.floor(cuts[:-1]), start, stop).astype(np.int64)
    inside = np.minimum(inside, stop - 1)  # which the float above may have been rounded from
    inside[0] = start
    return np.unique(inside)


def _bin_starts(spectrum: Spectrum, width: float) -> NDArray[np.bool_]:
    """Whether each level starts a bin: bins of a logarithmic width from the top of each band."""
    lam, k = spectrum.eigenvalues, spectrum.num_dominant_levels
    band = np.arange(lam.size) >= k
    top = np.where(band, lam[k], lam[0])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        number = np.floor((np.log(top) - np.log(lam)) / width)
    number = np.where(lam > 0.0, number, np.inf)
    starts = np.append(True, (number[1:] != number[:-1]) | (band[1:] != band[:-1]))
    starts[k] = True
    return starts


def _narrowest_bins(spectrum: Spectrum, num_levels: int) -> float:
    """Return the smallest bin width, to a thousandth, that gives at most `num_levels` levels."""
    low, high = 1e-16, 1500.0  # one bin a band at the upper end, whatever the eigenvalues
    if _bin_starts(spectrum, high).sum() > num_levels:
        raise _checks.wrong("num_levels", num_levels, "enough for both bands and the zeros")
    while high > 1.001 * low:
        middle = float(np.sqrt(low * high))
        fits = _bin_starts(spectrum, middle).sum() <= num_levels
        low, high = (low, middle) if fits else (middle, high)
    return high
