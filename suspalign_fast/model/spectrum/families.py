"""Families of spectra: their eigenvalues one by one, or few levels that stand for them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...base import checks, memory
from ...base.values import may_underflow
from .bands import Band, Linear, Power
from .compression import bins_of_band, compressed
from .parts import MAX_DIM, MAX_MULTIPLICITY, Parts

# --- Few levels that stand for the many eigenvalues of two bands, made without ever listing
# those.


def few_levels(bands: Sequence[Band], num_levels: int) -> Parts:
    """Return at most `num_levels` levels for both bands, exact at the gap."""
    count = checks.integer("num_levels", num_levels, 1)
    fewest = [_fewest_levels(band) for band in bands]
    if count < sum(fewest):
        expected = f"at least {sum(fewest)} for these bands, 2**53 directions a level at most"
        raise checks.wrong("num_levels", num_levels, expected)
    shares = _shares(bands, fewest, count)
    made = [_levels(bands[0], shares[0], top=True), _levels(bands[1], shares[1], top=False)]
    lam, sizes = (np.concatenate([levels[part] for levels in made]) for part in range(2))
    error = max(levels[2] for levels in made)
    return Parts(lam, bands[0].size, sizes, error)


def _is_constant(band: Band) -> bool:
    return band.size == 1 or bool(band.value(0) == band.value(band.size - 1))


def _pieces(size: Any) -> Any:
    """Levels that so many directions need at least."""
    return -(-size // MAX_MULTIPLICITY)


def _fewest_levels(band: Band) -> int:
    """One for the eigenvalue at the gap, one for a zero at the end, and some for the rest."""
    if _is_constant(band):
        return int(_pieces(band.size))
    alone = min(band.size, 1 + int(band.value(band.size - 1) == 0.0))
    return alone + int(_pieces(band.size - alone))


def _shares(bands: Sequence[Band], fewest: list[int], count: int) -> list[int]:
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
    band: Band, count: int, *, top: bool
) -> tuple[NDArray[np.float64], NDArray[np.int64], float]:
    """Return at most `count` levels of a band: eigenvalues, multiplicities, largest error.

    The eigenvalue at the gap is a level of its own, the last one of the `top` band and the first
    one of the other. So are a zero at the end and, where there are enough levels, the other end.
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


def _inside(band: Band, start: int, stop: int, count: int) -> NDArray[np.int64]:
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
        raise checks.wrong("bulk", bulk, f"below the dominant band, which ends at {end!r}")
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
    levels = [checks.real("dominant", dominant), checks.real("bulk", bulk)]
    if levels[1] > levels[0]:
        raise checks.wrong("bulk", bulk, f"below dominant = {levels[0]}")
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
    decay = checks.real("exponent", exponent, positive=True)
    top = checks.real("largest", largest, positive=True)
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
            f"{checks.describe(num_levels)} and {checks.describe(tolerance)}"
        )
    sizes = [band.size for band in bands]
    return compressed([bins_of_band(band) for band in bands], tolerance, sum(sizes), sizes[0])


def _band_sizes(dim: int, num_dominant: int) -> tuple[int, int]:
    d = checks.integer("dim", dim, 2, MAX_DIM)
    k = checks.integer("num_dominant", num_dominant, 1)
    if k >= d:
        raise checks.wrong("num_dominant", num_dominant, f"below dim = {d}")
    return k, d - k


def _new_levels(dim: int) -> NDArray[np.float64]:
    memory.check(f"a spectrum of {dim:,} different eigenvalues", 8 * dim)
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
    largest, smallest = (checks.real(name, end) for end in checks.pair(name, ends, expected))
    if smallest > largest:
        raise checks.wrong(name, ends, expected)
    return largest, smallest


def _ratio(gap_ratio: float) -> float:
    ratio = checks.real("gap_ratio", gap_ratio, positive=True)
    if ratio <= 1.0:
        raise checks.wrong("gap_ratio", gap_ratio, "above 1")
    return ratio


def _scaled(ends: tuple[float, float], given: Any, largest: float) -> tuple[float, float]:
    """Return the ends of a band as a whole scaled to a largest eigenvalue."""
    if ends[0] == 0.0:
        raise checks.wrong("bulk", given, "above zero at its larger end where gap_ratio is given")
    return largest, ends[1] * (largest / ends[0])
