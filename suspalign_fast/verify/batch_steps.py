"""The steps of a run on mini-batches of data, against what their rows predict."""

import numpy as np
from numpy.typing import NDArray

from .. import phases
from ..batch_rows import change_cumulants
from ..data_noise import DataNoise
from ..rise import chi_square_tail
from ..trace import Trace
from .batch_law import TAIL_ERROR
from .claims import Claim
from .signs import CERTAIN, EVIDENCE, TINY, chance_of_rises

Array = NDArray[np.float64]

#: Groups, at most, of at least so many steps, that are judged together.
GROUPS, LEAST = 8, 40
#: What the chances of a rise may err by on average under mini-batches (docs/mini-batches.md).
CHANCE_ERROR = 0.02
#: A sum of more skewness has tails that three cumulants do not tell.
MOST_SKEWNESS = 0.3


def steps_follow(trace: Trace) -> Claim:
    """Compare single steps of a run with what their rows predict, groups of them at once.

    Changes of alignment, less their mean given the row and over their deviation, are those of a
    martingale, and so are rises less their chance. The sum of a group is taken for a chi-square,
    moved and scaled, with the same first three cumulants, and for a normal.

    Parameters
    ----------
    trace : Trace
        With pairs of rows one step apart.
    """
    claim = Claim("two phases: steps follow the exact law")
    run = trace.run
    noise = run.problem.noise
    assert isinstance(noise, DataNoise)
    s2 = trace.power_sums[:, :, 1]
    felt = (s2[:-1] > TINY).all(-1) & (np.diff(trace.step) == 1)
    first = np.flatnonzero(felt)
    first = first if first.size >= LEAST else first[:0]
    claim.open = int(len(trace) - 1 - first.size)
    cumulants = change_cumulants(
        trace.power_sums[first], trace.noise_sums[first], trace.constants, trace.step_size[first],
        run.problem.noise_shape, noise.batch_size, noise.label_std,
    )  # fmt: skip
    ratios = s2[first + 1] / s2[first]
    std = np.sqrt(cumulants.variance)
    off = (ratios[:, 0] - ratios[:, 1] - cumulants.mean) / std
    skewness = cumulants.third / std**3
    chances = trace.predicted.probability[first]
    rises = (off * std + cumulants.mean > 0.0).astype(np.float64)
    groups = min(GROUPS, first.size // LEAST)
    smallest = 1.0
    for group in np.array_split(np.arange(first.size), groups) if groups else []:
        chance = min(
            _chance_of_mean(off[group], skewness[group]),
            chance_of_rises(rises[group], chances[group], CHANCE_ERROR),
        )
        smallest = min(smallest, chance)
        claim.right += int(chance >= 2.0 * EVIDENCE) * group.size
        claim.wrong += int(chance < 2.0 * EVIDENCE) * group.size
        claim.wrong_certain += int(chance < 2.0 * CERTAIN) * group.size
    claim.p_value = min(1.0, 2.0 * groups * smallest) if groups else 1.0
    if np.isfinite(trace.alignment).any():
        seen = phases.find(trace)
        claim.detail = (
            f"minimum {seen.minimum:.3g} at step {seen.minimum_step:,.0f}, plateau "
            f"{seen.plateau:.3g}, "
            + ("two phases" if seen.two_phase else "no two phases in this run")
        )
    return claim


def _chance_of_mean(off: Array, skewness: Array) -> float:
    """Two-sided chance of the sum of standardized changes; 1 where it cannot be told."""
    root = np.sqrt(off.size)
    score, skew = off.sum() / root, skewness.mean() / root
    if not abs(skew) < MOST_SKEWNESS:
        return 1.0
    above = float(chi_square_tail(np.array(-score), np.array(skew)))
    return min(1.0, 2.0 * TAIL_ERROR * min(above, 1.0 - above))
