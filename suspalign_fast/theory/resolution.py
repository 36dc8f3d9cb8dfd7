"""Moments under momentum from few levels, as many as it takes.

With momentum a direction swings: after t steps its moments have a phase that grows with t and
differs from eigenvalue to eigenvalue, until they have decayed by ``beta^t``. How fine levels must
be depends on beta, on the times and on how large the swings are beside the noise. So levels are
made finer until moments do not change any more, or until all eigenvalues may as well be taken.
"""

from collections.abc import Callable, Iterator

import numpy as np

from ..optimizer import Optimizer
from ..problem import Quadratic
from . import levels
from .result import Array

#: Logarithmic widths of bins and nodes in them, ever finer.
RESOLUTIONS = ((0.7, 8), (0.5, 10), (0.25, 12), *((0.15 / 2**i, 16) for i in range(12)))
#: Largest relative difference of the moments of two resolutions that will do.
TOLERANCE = 1e-12
#: Few levels are at most this part of all.
WORTH = 0.25
#: Largest step size, as a part of the largest stable one, that they are made for.
LARGEST_STEP = 0.995


def through_few_levels(
    problem: Quadratic,
    largest_step: float,
    optimizer: Optimizer,
    moments: Callable[[Quadratic], Array],
) -> tuple[Quadratic, Array]:
    """Return moments of a problem, and the problem of fewer levels that they were taken from.

    Parameters
    ----------
    problem : Quadratic
    largest_step : float
        Weights of the update included.
    optimizer : Optimizer
    moments : function of a Quadratic

    Returns
    -------
    few : Quadratic
        The problem itself where it has few levels, where noise or initial state are not smooth in
        lambda, where steps are not stable, or where nothing is saved.
    found : ndarray
    """
    before = None
    for few in _ever_finer(problem, largest_step, optimizer):
        found = moments(few)
        if before is not None and np.allclose(
            found, before, rtol=TOLERANCE, atol=0.0, equal_nan=True
        ):
            return few, found
        before = found
    return problem, moments(problem)


def _ever_finer(
    problem: Quadratic, largest_step: float, optimizer: Optimizer
) -> Iterator[Quadratic]:
    """Yield problems of more and more levels, none where they do not stand for all."""
    spectrum = problem.spectrum
    largest = largest_step * float(spectrum.eigenvalues[0])
    stable = largest <= LARGEST_STEP * optimizer.largest
    listed = not spectrum.is_compressed and spectrum.num_levels > levels.MANY
    if not (listed and stable and levels.is_smooth(problem)):
        return
    for width, nodes in RESOLUTIONS:
        few = spectrum.resolved(width, nodes)
        if few.num_levels > WORTH * spectrum.num_levels:
            return
        yield Quadratic(few, problem.noise, problem.initial)
