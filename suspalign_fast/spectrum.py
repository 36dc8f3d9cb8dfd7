"""Hessian spectra: eigenvalues with multiplicities, split into a dominant and a bulk band."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks, _files, _hdf5, _memory

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
        different ones (`quantize`, families with `num_levels`), else 0.
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
        return Spectrum._owning(lam, self.num_dominant)

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
            Its `quantization_error` is the largest relative error it made.

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
        return Spectrum(means, self.num_dominant, sizes)._with_error(float(error))

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
        weighted = per_level * self.multiplicities
        return np.stack([weighted[..., :k].sum(-1), weighted[..., k:].sum(-1)], axis=-1)

    def per_level(self, values: tuple[float, float]) -> NDArray[np.float64]:
        """Return the first value for every dominant level, the second for every bulk level."""
        k = self.num_dominant_levels
        return np.repeat(np.array(values, dtype=np.float64), [k, self.num_levels - k])

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

        The spectrum of the published experiments (arXiv 2601.11789, section 5). With
        `num_levels` each band is made of about that many levels directly, for dimensions that
        no array could hold; `quantization_error` says how far an eigenvalue is moved.
        """
        k, rest = _band_sizes(dim, num_dominant)
        pairs = [_pair("dominant", dominant), _pair("bulk", bulk)]
        if num_levels is None:
            lam = _new_levels(dim)
            _fill_linear(lam[:k], *pairs[0])
            _fill_linear(lam[k:], *pairs[1])
            return cls._owning(lam, k)
        count = _checks.integer("num_levels", num_levels, 1)
        made = [
            _linear_levels(*pair, size, count) for pair, size in zip(pairs, (k, rest), strict=True)
        ]
        return _of_levels(made, k)

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

        With `gap_ratio` the bulk is scaled as a whole so that ``lambda_k / lambda_{k+1}`` is
        `gap_ratio`. With `num_levels` each band is made of about that many levels at most
        directly, for dimensions that no array could hold.
        """
        k, _ = _band_sizes(dim, num_dominant)
        decay = _checks.real("exponent", exponent, positive=True)
        top = _checks.real("largest", largest, positive=True)
        scale = 1.0
        if gap_ratio is not None:
            ratio = _checks.real("gap_ratio", gap_ratio, positive=True)
            if ratio <= 1.0:
                raise _checks.wrong("gap_ratio", gap_ratio, "above 1")
            scale = (1.0 + 1.0 / k) ** decay / ratio
        if num_levels is None:
            lam = _new_levels(dim)
            for start in range(0, dim, PIECE):
                stop = min(dim, start + PIECE)
                lam[start:stop] = top * np.arange(start + 1.0, stop + 1) ** -decay
            lam[k:] *= scale
            return cls._owning(lam, k)
        count = _checks.integer("num_levels", num_levels, 1)
        made = [
            _power_levels(top, decay, 0, k, count),
            _power_levels(top * scale, decay, k, dim, count),
        ]
        return _of_levels(made, k)

    # --- files -----------------------------------------------------------------------------

    def save(
        self,
        path: _files.AnyPath,
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
        target = _files.real(path)
        _files.check_new(target, overwrite=overwrite)
        replacement = _files.Replacement(target)
        try:
            output = _hdf5.Output(replacement.path, "w")
            with output.abandoned_on_failure():
                file = output.file
                file.attrs["format"] = _hdf5.text(FORMAT)
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
        for name in ("eigenvalues", "multiplicities"):
            _hdf5.write(group, name, getattr(self, name), compression=compression)

    @classmethod
    def load(cls, path: _files.AnyPath) -> "Spectrum":
        """Read a spectrum from a file written by `save`, or from a trace file.

        Raises
        ------
        OSError
            If the file cannot be read or is not a spectrum or trace file.
        """
        with _hdf5.Reader(path) as file:
            try:
                return cls.read(file)
            except OSError as error:
                raise OSError(f"{file.path} {error}") from error

    @classmethod
    def read(cls, file: _hdf5.Reader) -> "Spectrum":
        """Read ``/spectrum`` of an open HDF5 file."""
        with _reading():
            eigenvalues = file.read("spectrum/eigenvalues")
            multiplicities = file.read("spectrum/multiplicities")
            num_dominant = file.attribute("spectrum", "num_dominant")
            return cls._owning(eigenvalues, num_dominant, multiplicities)

    @staticmethod
    def check(file: _hdf5.Reader) -> None:
        """Raise OSError unless ``/spectrum`` of an open file looks like one, its values unread."""
        with _reading():
            shapes = [
                file.dataset(f"spectrum/{name}").shape for name in ("eigenvalues", "multiplicities")
            ]
            file.attribute("spectrum", "num_dominant")
            if len(shapes[0]) != 1 or shapes[0] != shapes[1]:
                raise ValueError(f"arrays of shapes {shapes}")


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

#: Eigenvalues and multiplicities of a band's levels, and the largest relative error.
_Levels = tuple[NDArray[np.float64], NDArray[np.int64], float]


def _of_levels(bands: list[_Levels], num_dominant: int) -> Spectrum:
    lam = np.concatenate([band[0] for band in bands])
    counts = np.concatenate([band[1] for band in bands])
    return Spectrum(lam, num_dominant, counts)._with_error(max(band[2] for band in bands))


def _linear_levels(largest: float, smallest: float, size: int, count: int) -> _Levels:
    """Levels of ``linspace(largest, smallest, size)``, each the exact mean of its stretch."""
    if largest == smallest or size == 1:
        return np.array([largest]), np.array([size]), 0.0
    spacing = (largest - smallest) / (size - 1)
    # Cut where the logarithm falls by equal amounts, or evenly where it would not reach zero.
    floor = max(smallest, largest * 1e-3)
    cuts = (largest - np.geomspace(largest, floor, min(count, size) + 1)) / spacing
    if floor > smallest:
        cuts = np.linspace(0, size, min(count, size) + 1)
    first = _with_single_ends(np.clip(np.ceil(cuts[:-1]), 0, size - 1).astype(np.int64), 0, size)
    last = np.append(first[1:], size)
    means = largest - spacing * ((first + last - 1) / 2.0)
    ends = largest - spacing * np.maximum(last - 1, first)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(ends > 0.0, means / np.maximum(ends, 0.0) - 1.0, np.inf)
    error = np.where(last - first == 1, 0.0, error)
    return np.maximum(means, 0.0), last - first, float(error.max())


def _with_single_ends(first: NDArray[np.int64], start: int, stop: int) -> NDArray[np.int64]:
    """Starts of levels, with the largest and the smallest eigenvalue alone: the gap stays exact."""
    return np.unique(np.concatenate([first, [start, min(start + 1, stop - 1), stop - 1]]))


def _power_levels(scale: float, decay: float, start: int, stop: int, count: int) -> _Levels:
    """Levels of ``scale * i**-decay``, i = start + 1 ... stop."""
    cuts = np.geomspace(start + 1, stop + 1, min(count, stop - start) + 1)
    first = np.clip(np.floor(cuts[:-1]), start + 1, stop).astype(np.int64)
    first = _with_single_ends(first, start + 1, stop + 1)
    last = np.append(first[1:], stop + 1)
    # The midpoint rule of the sum over i: exact to (decay / i)^2 / 24, and exact for single ones.
    low, high = first - 0.5, last - 0.5
    if decay == 1.0:
        total = np.log(high / low)
    else:
        total = (high ** (1.0 - decay) - low ** (1.0 - decay)) / (1.0 - decay)
    sizes = last - first
    small = first < 4096
    for at in np.flatnonzero(small & (sizes < 2**20)):
        total[at] = np.sum(np.arange(first[at], last[at], dtype=np.float64) ** -decay)
    means = total / sizes
    error = np.maximum(means * (last - 1.0) ** decay - 1.0, 1.0 - means * first**decay)
    return scale * means, sizes, float(error.max())


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
