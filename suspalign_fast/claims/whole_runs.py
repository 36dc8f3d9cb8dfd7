"""A run against its exact law, row by row, and against what its rows predict."""

import numpy as np
import scipy
from numpy.typing import NDArray

from .. import theory
from ..kernels.tail import tails
from ..model.noise import DataNoise
from ..model.optimizer import Optimizer
from ..model.problem import Quadratic
from ..model.step_size import KnownStepSize
from ..physics.batches import change_cumulants
from ..physics.rise import chi_square_tail
from ..theory import phases
from ..traces.trace import Trace
from .evidence import CERTAIN, EVIDENCE, TAIL_ERROR, TINY, Claim, chance_of_rises
from .laws import BATCH_TAIL_ERROR

Array = NDArray[np.float64]

#: Relative changes up to this may be rounding of all steps of a run.
RUN_ROUNDING = 1e-8
#: Allowed distance of the exact mean from that of the law, in standard deviations: what the
#: approximate tails may err by.
MEAN_ERROR = 0.25
#: Smallest share of a band whose mean is compared.
SMALLEST_SHARE = 1e-200
#: Logarithmic odds that spread less than this are normal: to 1e-12, their mean is the expected one.
NARROW = 1e-6


def two_phases(trace: Trace) -> Claim:
    """Compare a run's alignment with its exact law, and its phases with the expected ones."""
    run = trace.run
    assert isinstance(run.step_size, KnownStepSize)
    exact = theory.expected(run.problem, run.step_size, trace.step, optimizer=run.optimizer)
    claim = Claim("two phases: rows follow the exact law")
    law = _RunLaw(run.problem, run.step_size, trace.step, run.optimizer)
    smallest = 1.0
    lowest = int(np.argmin(np.where(np.isnan(exact.alignment_mean), 2.0, exact.alignment_mean)))
    means = {lowest, len(trace) - 1}
    strayed = False
    for row in range(len(trace)):
        law.move_to(row)
        chance = law.two_sided(trace.power_sums[row, :, 1])
        if np.isnan(chance):
            claim.open += 1
            continue
        smallest = min(smallest, chance)
        inside = chance >= 2.0 * EVIDENCE
        claim.right += int(inside)
        claim.wrong += int(not inside)
        claim.wrong_certain += int(chance < 2.0 * CERTAIN)
        if row in means:
            strayed |= law.mean_strays(float(exact.alignment_mean[row]))
    rows = claim.right + claim.wrong
    claim.p_value = 0.0 if strayed else min(1.0, rows * smallest)
    if rows and (np.isfinite(exact.alignment_mean)).any():
        expected_phases, seen = phases.find(exact), phases.find(trace)
        claim.detail = (
            f"minimum {seen.minimum:.3g} at step {seen.minimum_step:,.0f} (exact mean "
            f"{expected_phases.minimum:.3g} at {expected_phases.minimum_step:,.0f}), plateau "
            f"{seen.plateau:.3g} ({expected_phases.plateau:.3g}), "
            + ("two phases" if seen.two_phase else "no two phases in this run")
            + ("; the exact mean is not that of the law" if strayed else "")
        )
    return claim


class _RunLaw:
    """Exact law of the alignment at the rows of a run."""

    def __init__(
        self,
        problem: Quadratic,
        rule: KnownStepSize,
        steps: NDArray[np.int64],
        optimizer: Optimizer,
    ) -> None:
        self.model = theory.Levels(problem, (1.0, 1.0))
        self._moments = self.model.trajectory(rule, steps, optimizer)
        self.row = -1

    def move_to(self, row: int) -> None:
        """Take the moments of the next row."""
        model = self.model
        while self.row < row:
            mean, variance = next(self._moments)
            self.row += 1
        self.m_sq, self.v = model.count * (model.lam * mean) ** 2, model.lam**2 * variance

    def _tails(self, distance: float) -> tuple[float, float]:
        """Chances that the odds exceed and fall short of ``exp(distance)`` times the expected."""
        dominant, bulk = self._expected()
        factors = np.exp([-max(distance, 0.0), min(distance, 0.0)]) / (dominant, bulk)
        above, below, _, _ = tails(
            factors[0], -factors[1], 0.0, self.m_sq, self.v, self.model.count, self.model.split
        )
        return above, below

    def _expected(self) -> Array:
        """Expected squared gradient of both bands."""
        terms = self.m_sq + self.model.count * self.v
        split = self.model.split
        return np.array([terms[:split].sum(), terms[split:].sum()])

    def two_sided(self, observed: Array) -> float:
        """Chance of an alignment as far out as observed, NaN where sums have underflowed."""
        expected = self._expected()
        if not ((observed > TINY) & (expected > TINY)).all():
            return float("nan")
        growth = np.log(observed / expected)
        distance = float(growth[0] - growth[1])
        if abs(distance) <= RUN_ROUNDING:
            return 1.0
        return min(1.0, 2.0 * TAIL_ERROR * min(self._tails(distance)))

    def mean_strays(self, mean: float) -> bool:
        """Whether a mean of the alignment differs from that of the law."""
        dominant, bulk = self._expected()
        if not min(dominant, bulk) > SMALLEST_SHARE * max(dominant, bulk):
            return False  # or NaN
        is_low = bool(dominant <= bulk)
        exact, std = self._mean_share(is_low)
        share = mean if is_low else 1.0 - mean
        return not abs(share - exact) <= MEAN_ERROR * std + RUN_ROUNDING * exact + 1e-15

    def _mean_share(self, of_dominant: bool) -> tuple[float, float]:
        """Mean and standard deviation of a band's share of the squared gradient, from its tails."""
        split = self.model.split
        expected = self._expected()
        width = 0.0
        for band, size in zip((slice(0, split), slice(split, None)), expected, strict=True):
            m_sq, v = self.m_sq[band] / size, self.v[band] / size
            width += float(np.sum(4.0 * m_sq * v + 2.0 * self.model.count[band] * v**2))
        width = float(np.sqrt(width))
        sign = 1.0 if of_dominant else -1.0
        center = sign * float(np.log(expected[0] / expected[1]))
        share = float(scipy.special.expit(center))
        if width < NARROW:  # steps as fine as that would drown in the rounding of the odds
            return share, share * (1.0 - share) * width
        # E[f(X)] = f(low) + the integral of P(X > x) f'(x) over the logarithmic odds x > low.
        step = min(0.25, width / 4.0)
        mean = square = 0.0
        for direction in (1, -1):
            x = center + 0.5 * direction * step
            while abs(x) < 690.0:
                chances = self._tails(sign * (x - center))
                above, below = chances if of_dominant else chances[::-1]
                a = float(scipy.special.expit(x))
                slope = above * a * float(scipy.special.expit(-x))
                if slope < 1e-10 * mean or (direction < 0 and below < 1e-10):
                    break
                mean += slope * step
                square += 2.0 * a * slope * step
                x += direction * step
        low = float(scipy.special.expit(x + 0.5 * step))
        mean, square = mean + low, square + low * low
        if width < 0.1:  # where the difference of squares has lost its digits
            return mean, share * (1.0 - share) * width
        return mean, float(np.sqrt(max(square - mean * mean, 0.0)))


# --- The steps of a run on mini-batches of data, against what their rows predict -----------------


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
    return min(1.0, 2.0 * BATCH_TAIL_ERROR * min(above, 1.0 - above))
