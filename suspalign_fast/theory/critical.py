"""The step size at which the expected alignment does not change."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._underflow import may_underflow
from ..problem import Quadratic
from ..run import Update
from .first_root import first_root, with_clusters
from .levels import Array
from .next_step import NextStep, norm

#: Step sizes up to this many times 1 / lambda_1 are searched for an exact critical one.
SEARCH_END = 1e6
#: Relative changes of the alignment below this are rounding.
RESOLVED = 1e-12


@may_underflow
def exact_critical_step_size(
    problem: Quadratic,
    coefficients: ArrayLike,
    *,
    update: Update = "full",
) -> float:
    """Return the step size at which the expected *alignment* of the next step does not change.

    The closed form (`Trace.critical_step_size`) balances the expected odds
    ``E|P_dom g'|^2 / E|P_bulk g'|^2`` instead; this is the first root of the exact change.

    Parameters
    ----------
    problem : Quadratic
        Its initial state is not used.
    coefficients : array_like of float, shape (num_levels,) or (dim,)
        Eigen-coefficients of the state.
    update : {"full", "dominant", "bulk"} or tuple of two float
        Weights of the dominant and the bulk part of the update.

    Returns
    -------
    float
        The smallest positive step size at which the change has a root and another sign after it.
        Without one, +inf where the alignment falls and 0 where it rises for every step size up to
        a million times 1 / lambda_1. NaN where the gradient is zero, or no step changes anything.

    Notes
    -----
    Very small steps follow from the change's expansion to second order in the step size. Above
    them it is evaluated at step sizes 6 % apart (25 % far above all 1 / lambda), closer together
    around 1 / lambda of directions that carry much of a band's gradient, where it can turn
    sharply, and at its extremes in between; the first change of sign is then bisected to 1e-13.
    Two roots closer together than that may be missed, and changes below 1e-12 of the alignment
    (or of 1 less it) are not resolved.
    """
    step = NextStep(problem, coefficients, update)
    if (limit := step.one_sided()) is not None:
        return limit
    first, second = step.expansion()
    if not np.isfinite(first) or (first == 0.0 and second == 0.0):
        return float("nan")
    falls = first < 0.0 or (first == 0.0 and second < 0.0)
    sizes = _search_sizes(step, first, second)
    root = first_root(step.change, sizes, -1.0 if falls else 1.0, RESOLVED)
    if root is not None:
        return root
    return float("inf") if falls else 0.0


def _search_sizes(step: NextStep, first: float, second: float) -> Array:
    """Ascending step sizes at which a change of sign is looked for."""
    heavy = _heavy_levels(step)
    turns = 1.0 / step.rate[heavy]
    top = 1.0 / step.rate.max()
    noise = norm(np.sqrt(step.count) * step.lam * step.push)
    low = min(top, step.gradient_norm() / noise if noise > 0.0 else np.inf)
    if first * second < 0.0:
        low = min(low, abs(first / second))
    end = max(SEARCH_END * top, 10.0 * low)
    last = min(end, 10.0 * turns.max(initial=top))
    return with_clusters(max(0.03 * low, 1e-300), 0.05 * top, last, end, turns)


def _heavy_levels(step: NextStep) -> NDArray[np.int64]:
    """Levels that carry a hundredth of a band's squared gradient, at most eight of each."""
    squares = step.count * (step.lam * step.mean) ** 2
    heavy = []
    for start, stop in ((0, step.split), (step.split, step.lam.size)):
        part = np.where(step.rate[start:stop] > 0.0, squares[start:stop], 0.0)
        order = np.argsort(part)[::-1][:8]
        heavy.append(start + order[part[order] > 0.01 * part.sum()])
    return np.concatenate(heavy)
