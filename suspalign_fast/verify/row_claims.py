"""What rows predict of the next one, against many steps: means, deviations, chances of a rise.

Of a step with next squared gradients D and B, the row predicts the share ``a = E[D] / E[D + B]``.
``W = D / E[D] - B / E[B]`` then has mean zero, and its deviation follows from the row's
prediction, too. A sum of W over repeats is one of squares of normals, whose tails are known; so
are its first four cumulants.

The chance of a rise that a row predicts is that of a law with the right first three cumulants, the
third estimated. What that may err by is mostly a matter of the fourth, which the levels tell: it
was at most `chance_error` of it (`bench/studies/rise.py`, docs/theory-answers.md), and so much is
allowed to every step.
"""

import numpy as np
from numpy.typing import NDArray

from ..kernels.tail import tails
from ..power_sums import Prediction
from ..rise import chi_square_tail
from .claims import Claim
from .signs import CERTAIN, EVIDENCE, TAIL_ERROR, chance_of_rises
from .trials import State, Trials

Array = NDArray[np.float64]

#: Errors of rounding in a mean, relative to its terms.
ROUNDING = 1e-11
#: Rounding of a share, and the smallest ones of both bands of which squares have digits.
SHARE_ROUNDING, SMALLEST_SHARE, SMALLEST_REST = 1e-15, 1e-100, 1e-10
#: What a predicted chance of a rise may err by: so much, and more for each unit of the excess
#: kurtosis of what decides; never more than the last.
CHANCE_ERROR, ERROR_OF_KURTOSIS, LARGEST_ERROR = 0.01, 0.02, 0.15
#: Steps of more excess kurtosis tell little of deviations, and fewer steps have no known law.
MOST_KURTOSIS, LEAST = 1.0, 200


class RowClaims:
    """Compares what steps do with what rows predict of them.

    Parameters
    ----------
    trials : Trials
    """

    def __init__(self, trials: Trials) -> None:
        self.trials = trials
        self.mean = Claim("mean change of the odds is the row's")
        self.deviation = Claim("deviation of the odds is the row's")
        self.rise = Claim("alignment rises as often as rows say")
        self._smallest = 1.0
        self._excess = self._spread = 0.0
        self._num_steps = 0
        self._rises: list[Array] = []
        self._chances: list[Array] = []
        self._margins: list[Array] = []

    def count(self, here: State, step_size: float, after: Array) -> None:
        """Count what steps of a size did at a state.

        Parameters
        ----------
        here : State
        step_size : float
        after : ndarray of float64, shape (repeats, 2)
            Squared gradients of both bands.
        """
        law = _Next(self.trials, here, step_size)
        if not law.is_known:
            self.mean.open += 1
            return
        off = after @ np.array(law.factors)
        self._count_mean(law.chance_of(float(off.sum()), off.size))
        self._count_deviation(off, law)
        growth = after / here.sums[:, 1]
        self._rises.append((growth[:, 0] > growth[:, 1]).astype(np.float64))
        self._chances.append(np.full(off.size, float(law.predicted.probability)))
        kurtosis = law.kurtosis_of((1.0 / here.sums[0, 1], -1.0 / here.sums[1, 1]))
        self._margins.append(np.full(off.size, chance_error(kurtosis)))

    def judged(self) -> list[Claim]:
        """Return the claims with their p-values."""
        mean, deviation, rise = self.mean, self.deviation, self.rise
        mean.p_value = min(1.0, (mean.right + mean.wrong) * self._smallest)
        if self._num_steps >= LEAST:
            skewness = np.sqrt(8.0 / self._num_steps)
            score = self._excess / np.sqrt(self._spread)
            above = float(chi_square_tail(np.array(-score), np.array(skewness)))
            chance = min(1.0, 2.0 * TAIL_ERROR * min(above, 1.0 - above))
            _judge(deviation, self._num_steps, chance)
        else:
            deviation.open += self._num_steps
        if self._rises:
            every = (self._rises, self._chances, self._margins)
            rises, chances, margins = found = [np.concatenate(values) for values in every]
            likely = chances >= 0.5  # by themselves: errors of both might cancel
            both = [chance_of_rises(*(x[part] for x in found)) for part in (likely, ~likely)]
            _judge(rise, rises.size, min(1.0, 2.0 * min(both)))
            rise.detail = (
                f"observed {rises.mean():.3f}, predicted {chances.mean():.3f}; what predictions "
                f"may err by: {margins.mean():.3f}"
            )
        return [mean, deviation, rise]

    def _count_mean(self, chance: float) -> None:
        claim = self.mean
        claim.right += int(chance >= 2.0 * EVIDENCE)
        claim.wrong += int(chance < 2.0 * EVIDENCE)
        claim.wrong_certain += int(chance < 2.0 * CERTAIN)
        self._smallest = min(self._smallest, chance)

    def _count_deviation(self, off: Array, law: "_Next") -> None:
        if not law.kurtosis < MOST_KURTOSIS:
            self.deviation.open += off.size
            return
        self._excess += float(((off / law.predicted_std) ** 2 - 1.0).sum())
        self._spread += (2.0 + law.kurtosis) * off.size
        self._num_steps += off.size


def chance_error(kurtosis: float) -> float:
    """What a predicted chance of a rise may err by, for an excess kurtosis of what decides."""
    return min(CHANCE_ERROR + ERROR_OF_KURTOSIS * kurtosis, LARGEST_ERROR)


def _judge(claim: Claim, count: int, chance: float) -> None:
    """Set what so many steps together say."""
    claim.p_value = chance
    claim.right += count * (chance >= 2.0 * EVIDENCE)
    claim.wrong += count * (chance < 2.0 * EVIDENCE)
    claim.wrong_certain += count * (chance < 2.0 * CERTAIN)


class _Next:
    """The law of ``W`` after a step, and what the row says of it."""

    def __init__(self, trials: Trials, here: State, step_size: float) -> None:
        law = trials.law
        self.count, self.split = law.count, law.split
        self.predicted = _prediction(trials, here, step_size)
        share = float(self.predicted.mean)
        self.m_sq, self.v = law.gradient_after(here.products, step_size)
        terms = self.m_sq + self.count * self.v
        total = float(terms.sum())
        self.is_known = total < np.inf and SMALLEST_SHARE < share < 1.0 - SMALLEST_REST
        if not self.is_known:
            return
        self.factors = (1.0 / share / total, -1.0 / (1.0 - share) / total)
        #: Standard deviation of W of which the row's prediction of the alignment is made.
        self.predicted_std = float(self.predicted.std) / (share * (1.0 - share))
        self._per_level = trials.engine.run.problem.spectrum.per_level
        factor = self._per_level(self.factors)
        self.mean = float(factor @ terms)
        gross = float(np.abs(factor) @ law.largest_terms(here.products, step_size))
        self.rounding = ROUNDING * gross + SHARE_ROUNDING / (1.0 - share)
        second, fourth = self._cumulants(factor)
        self.std = float(np.sqrt(second))
        self.kurtosis = fourth / second**2 if self.std > self.rounding else np.inf

    def kurtosis_of(self, factors: tuple[float, float]) -> float:
        """Excess kurtosis of a sum of both squared gradients with factors; 0 without noise."""
        factor = self._per_level(factors)
        size = float(np.abs(factor) @ (self.m_sq + self.count * self.v))
        second, fourth = self._cumulants(factor / size)
        return fourth / second**2 if second**2 > 0.0 else 0.0

    def _cumulants(self, factor: Array) -> tuple[float, float]:
        """Second and fourth cumulant of the sum of squares with a factor for each level."""
        a, b = factor * self.v, factor * self.m_sq
        second = 2.0 * float(self.count @ a**2 + 2.0 * a @ b)
        return second, 48.0 * float(self.count @ a**4 + 4.0 * a**3 @ b)

    def chance_of(self, total: float, repeats: int) -> float:
        """Two-sided chance of a sum of W, were its mean what the row says."""
        if abs(total) <= repeats * self.rounding:
            return 1.0
        above, below, _, _ = tails(
            *self.factors, total + repeats * self.mean, repeats * self.m_sq, self.v,
            repeats * self.count, self.split,
        )  # fmt: skip
        return float(min(1.0, 2.0 * TAIL_ERROR * min(above, below)))


def _prediction(trials: Trials, here: State, step_size: float) -> Prediction:
    problem, part = trials.engine.run.problem, here.part
    return problem.noise.predict_alignment(
        part.power_sums, part.noise_sums, part.constants, step_size, part.update,
        problem.noise_shape, part.velocity,
    )  # fmt: skip
