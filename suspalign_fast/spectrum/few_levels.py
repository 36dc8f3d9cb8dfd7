"""Few levels that stand for the many eigenvalues of two bands, made without ever listing those."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _checks
from .bands import Band
from .multiplicities import MAX_MULTIPLICITY
from .parts import Parts


def few_levels(bands: Sequence[Band], num_levels: int) -> Parts:
    """Return at most `num_levels` levels for both bands, exact at the gap."""
    count = _checks.integer("num_levels", num_levels, 1)
    fewest = [_fewest_levels(band) for band in bands]
    if count < sum(fewest):
        expected = f"at least {sum(fewest)} for these bands, 2**53 directions a level at most"
        raise _checks.wrong("num_levels", num_levels, expected)
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
