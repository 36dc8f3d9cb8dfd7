"""Gauss rules of discrete measures: few nodes that keep many moments of many points.

The rule of n nodes of a measure integrates polynomials of degree 2n - 1 exactly. Its nodes and
weights are eigenvalues and first components of eigenvectors of the Jacobi matrix, which has the
coefficients of the recurrence of the measure's orthogonal polynomials (Golub and Welsch, 1969).
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def rule_of_points(x: Array, weights: Array, count: int) -> tuple[Array, Array]:
    """Return the Gauss rule of points with positive weights; the points where they are no more.

    Parameters
    ----------
    x, weights : ndarray of float64
        Different points.
    count : int
        Number n of nodes.

    Notes
    -----
    The recurrence is Stieltjes's procedure in the points, moved and scaled to [-1, 1].
    """
    if x.size <= count:
        return x, weights
    center, half = (x.max() + x.min()) / 2.0, (x.max() - x.min()) / 2.0
    y = (x - center) / half
    total = weights.sum()
    shares = weights / total
    diagonal, squares = np.empty(count), np.empty(count)
    before, now = np.zeros_like(y), np.ones_like(y)
    norm = 1.0
    for k in range(count):
        size = float((shares * now * now).sum())
        squares[k], norm = size / norm, size
        diagonal[k] = float((shares * y * now * now).sum()) / size
        following = (y - diagonal[k]) * now - (squares[k] if k else 0.0) * before
        before, now = now, following
    nodes, parts = _rule(diagonal, np.sqrt(squares[1:]))
    return center + half * nodes, total * parts


def rule_of_range(size: int, count: int) -> tuple[Array, Array]:
    """Return the Gauss rule of the integers 0 ... size - 1, each of weight 1, for any size.

    Their orthogonal polynomials are Gram's, whose recurrence is known in closed form.
    """
    if size <= count:
        return np.arange(size, dtype=np.float64), np.ones(size)
    k = np.arange(1.0, count)
    middle = (size - 1) / 2.0
    squares = k * k * (1.0 - (k / size) ** 2) / (4.0 * k * k - 1.0)
    nodes, parts = _rule(np.zeros(count), np.sqrt(squares))
    # In units of size / 2, in which the last square is of order 1 for every size.
    return middle + (size / 2.0) * nodes, size * parts


def _rule(diagonal: Array, beside: Array) -> tuple[Array, Array]:
    """Nodes and shares of the rule with a Jacobi matrix."""
    nodes, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, -1))  # lower half alone
    shares = vectors[0] ** 2
    return nodes, shares / shares.sum()
