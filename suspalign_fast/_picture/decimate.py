"""Fewer points for a curve, chosen so that its picture stays the same."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.intp]


def columns_of(place: NDArray[np.float64], columns: int) -> Rows:
    """Return the first row in every column of equal width that holds any.

    Parameters
    ----------
    place : ndarray of float64, shape (rows,)
        Where the rows lie on the axis, ascending; at least one.
    columns : int
        At least 1.
    """
    edges = np.linspace(place[0], place[-1], columns + 1)[1:-1]
    first = np.unique(np.concatenate([[0], np.searchsorted(place, edges)]))
    return first[first < place.size]


def drawn_rows(place: NDArray[np.float64], values: NDArray[np.float64], columns: int) -> Rows:
    """Return the rows that draw a curve like all of its rows do.

    Of the rows in a column as narrow as a pixel the first, the last, the lowest and the highest
    paint what all of them paint: no extreme is lost, and none appears that is not there. Every n-th
    row instead would hide most of the spread of a noisy curve.

    Parameters
    ----------
    place : ndarray of float64, shape (rows,)
        Where the rows lie on the axis, ascending; at least one.
    values : ndarray of float64, shape (rows,)
        NaN where there is nothing to draw.
    columns : int
        At least 1.

    Returns
    -------
    ndarray of intp
        Ascending; at most four a column.
    """
    first = columns_of(place, columns)
    last = np.append(first[1:], place.size) - 1
    missing = np.isnan(values)
    lowest = _first_match(np.where(missing, np.inf, values), first, last, np.minimum)
    highest = _first_match(np.where(missing, -np.inf, values), first, last, np.maximum)
    return np.unique(np.concatenate([first, last, lowest, highest]))


def _first_match(values: NDArray[np.float64], first: Rows, last: Rows, extreme: Any) -> Rows:
    """Return the first row of every column that holds the column's extreme value."""
    found = extreme.reduceat(values, first)
    rows = np.flatnonzero(values == np.repeat(found, last - first + 1))
    return rows[np.searchsorted(rows, first)]
