"""The first change of sign of a smooth function of a positive number."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .._lazy import optimize

Array = NDArray[np.float64]

#: Ratio of neighbouring points where a function can turn, and where it cannot.
FINE, COARSE = 1.06, 1.25
#: Relative distances of points around a turn.
DISTANCES = 10.0 ** -np.arange(1.0, 6.1, 0.5)
#: Evaluations that look for an extreme between two points.
EXTREME_EVALUATIONS = 60


def with_clusters(low: float, first: float, last: float, high: float, turns: Array) -> Array:
    """Return ascending points from `low` to `high`.

    Parameters
    ----------
    low, high : float
    first, last : float
        Between these points are close together.
    turns : ndarray of float64
        Around these they are closer still.
    """
    parts = [
        _geometric(low, first, COARSE),
        _geometric(max(low, first), last, FINE),
        _geometric(max(low, last), high, COARSE),
        turns,
        *(turns * (1.0 + sign * DISTANCES[:, None]) for sign in (-1.0, 1.0)),
    ]
    points = np.unique(np.concatenate([part.ravel() for part in parts]))
    return points[(points >= low) & (points <= high)]


def _geometric(low: float, high: float, ratio: float) -> Array:
    if not low < high:
        return np.array([low])
    return np.geomspace(low, high, 2 + int(np.log(high / low) / np.log(ratio)))


def first_root(
    function: Callable[[float], float], points: Array, sign: float, resolved: float
) -> float | None:
    """Return the first root at which a function changes its sign, None where there is none.

    Parameters
    ----------
    function : callable
    points : ndarray of float64, shape (points,)
        Ascending; where it is evaluated.
    sign : float
        1 or -1, its sign before the first point.
    resolved : float
        Values up to this are taken for rounding.
    """

    def height(x: float) -> float:
        """Positive before the root."""
        return sign * function(x)

    before, here = 0.0, float(points[0])
    left, middle = np.inf, height(here)
    if middle < -resolved:
        return None if here == 0.0 else _bisect(height, before, here, resolved)
    for x in points[1:].tolist():
        right = height(x)
        if np.isnan(right):
            return None
        if middle < left and middle < right:
            lowest = _lowest(height, before, here, x)
            if height(lowest) < -resolved:
                return _bisect(height, before, lowest, resolved)
        if right < -resolved:
            return _bisect(height, here, x, resolved)
        before, here, left, middle = here, x, middle, right
    return None


def _lowest(height: Callable[[float], float], low: float, at: float, high: float) -> float:
    """Where a function is lowest between two points, with a lower one in between."""
    found = optimize.minimize_scalar(
        height,
        bounds=(low, high),
        method="bounded",
        options={"maxiter": EXTREME_EVALUATIONS, "xatol": 1e-12 * high},
    )
    return float(found.x) if found.fun < height(at) else at


def _bisect(height: Callable[[float], float], low: float, high: float, resolved: float) -> float:
    """Root between a point before and one after it."""
    if not height(low) > 0.0:

        def cut(x: float) -> float:
            value = height(x)
            return value if value < -resolved else resolved

        return float(optimize.brentq(cut, low, high, xtol=1e-300, rtol=1e-13))
    return float(optimize.brentq(height, low, high, xtol=1e-300, rtol=1e-13))
