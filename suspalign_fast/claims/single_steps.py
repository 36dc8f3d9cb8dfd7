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

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..kernels.tail import tails
from ..physics.formulas import Prediction
from ..physics.rise import chi_square_tail
from ..physics.velocity import C2
from .evidence import CERTAIN, EVIDENCE, TAIL_ERROR, TINY, Claim, Signs, chance_of_rises
from .laws import Planes
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
    """Compares what steps do with what rows predict of them."""

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
        """Count what steps did at a state; `after` are squared gradients, shape (repeats, 2)."""
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

    def judge(self) -> list[Claim]:
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


# --- The claims on the loss interval: dominant steps raise the loss, bulk steps lower it ---------


#: Positions inside the loss interval, on a logarithmic scale, and distances from its ends.
POSITIONS = (0.25, 0.5, 0.75)
MARGINS = (1.1, 1.3)


class LossInterval:
    """Tries steps projected on one band inside the loss interval of a state."""

    def __init__(self, trials: Trials) -> None:
        self.trials = trials
        self.dominant = Signs("loss interval: dominant step raises loss")
        self.bulk = Signs("loss interval: bulk step lowers loss")

    def probe(self, here: State) -> None:
        """Try steps at a state; with an end at zero any dominant step raises the loss."""
        lower, upper = here.loss_interval
        raising, lowering = [], []
        if lower == 0.0:
            raising = self.trials.any_sizes
        elif 0.0 < lower < upper < float("inf"):
            between = [lower ** (1.0 - position) * upper**position for position in POSITIONS]
            margins = [margin for margin in MARGINS if lower * margin < upper]
            raising = [*between, *(lower * margin for margin in margins)]
            lowering = [*between, *(upper / margin for margin in margins)]
        for step_size in raising:
            self.trials.loss(self.dominant, 1, here, step_size, 0)
        for step_size in lowering:
            self.trials.loss(self.bulk, -1, here, step_size, 1)

    def judge(self) -> list[Claim]:
        """Return both claims with their p-values."""
        return [self.dominant.judge(), self.bulk.judge()]


# --- What the paper claims of single steps at the states of a run of plain SGD -------------------


#: Multiples of the critical step size.
MULTIPLES = (0.25, 0.5, 0.8, 0.9, 1.1, 1.25, 2.0, 4.0)
#: Squared bulk gradient, as a part of the largest one without a critical step size.
DEPTHS = (0.5, 0.02)


class Prober:
    """Tries single steps at a state and counts the signs."""

    def __init__(self, trials: Trials) -> None:
        self.trials = trials
        self.critical = Signs("critical step size separates fall from rise")
        self.correcting = Signs("self-correction: falls for every step size")
        self.losses = LossInterval(trials)

    def judge(self) -> list[Claim]:
        """Return the claims with their p-values."""
        return [self.critical.judge(), self.correcting.judge(), *self.losses.judge()]

    def probe(self, planes: Planes) -> None:
        """Try all kinds of steps at a state."""
        here = self.trials.at(planes)
        critical = here.critical
        if 0.0 < critical < np.inf:
            for multiple in MULTIPLES:
                sign = 1 if multiple > 1.0 else -1
                self.trials.alignment(self.critical, sign, here, multiple * critical)
        for depth in DEPTHS:
            shrunk = self._self_correcting(here, depth)
            for step_size in self.trials.any_sizes:
                self.trials.alignment(self.correcting, -1, shrunk, step_size)
        self.losses.probe(here)

    def _self_correcting(self, here: State, depth: float) -> State:
        """Return the state with its bulk scaled down to `depth` of what has a critical step."""
        if self.trials.of_state:
            return self._shrunk_until_correcting(here, depth)
        s2, s4, n2 = here.sums[:, 1], here.sums[:, 3], here.part.constants[:, 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            curvature = (s4[0] + n2[0]) / s2[0]
            excess = curvature * s2[1] - s4[1]
            scale = np.sqrt(min(1.0, depth * n2[1] / excess)) if excess > 0.0 else 1.0
        return self.trials.scaled(here, (1.0, float(scale)))

    def _shrunk_until_correcting(self, here: State, depth: float) -> State:
        """Return the state with its bulk halved until there is no critical step, then scaled."""
        shrunk = here
        while np.isfinite(shrunk.critical) and shrunk.sums[1, 1] > TINY:
            shrunk = self.trials.scaled(shrunk, (1.0, 0.5))
        return self.trials.scaled(shrunk, (1.0, float(np.sqrt(depth))))


# --- What rows claim of single steps with momentum, in each of the four cases of a row -----------
#
# A state has a velocity, and its row a critical step size below which alignment falls, one below
# which it rises, or none, where it falls or rises for every step size (docs/momentum.md). All four
# cases come up where the velocity of one band is turned and made longer: along the gradient in the
# dominant band, against it there, and so in the bulk.


#: How long a velocity is made first, over that which the gradient balances, and how often, at
#: most, it is doubled. One direction alone would be balanced in all sums at once.
FIRST_LENGTH, MOST_DOUBLINGS = 0.75, 40
#: Squared gradient that the noise of a large step leaves, over that of a quiet band.
QUIET = 10.0


class _Case(NamedTuple):
    """A case that a longer velocity of one band leads to, along its gradient or against it."""

    rises_below: bool
    is_threshold: bool
    band: int
    along: float


_THRESHOLD = _Case(False, True, 0, 1.0)
_RISING = _Case(True, False, 0, -1.0)
_REVERSED = _Case(True, True, 1, 1.0)
_FALLING = _Case(False, False, 1, -1.0)
_NAMES = {
    _THRESHOLD: "threshold: falls below, rises above it",
    _REVERSED: "reversed: rises below, falls above it",
    _FALLING: "self-correction: falls for every step size",
    _RISING: "rises for every step size",
}


class VelocityProber:
    """Tries single steps at a state with a velocity and at four that are made of it."""

    def __init__(self, trials: Trials) -> None:
        self.trials = trials
        self.cases = {case: Signs(name) for case, name in _NAMES.items()}
        self.losses = LossInterval(trials)
        #: Mini-batches have no predictions from rows with a velocity.
        self.rows = None if trials.of_state else RowClaims(trials)

    def judge(self) -> list[Claim]:
        """Return the claims with their p-values."""
        claims = [signs.judge() for signs in self.cases.values()] + self.losses.judge()
        return claims + (self.rows.judge() if self.rows else [])

    def probe(self, planes: Planes) -> None:
        """Try all kinds of steps at a state and at those made of it."""
        here = self.trials.at(planes)
        made = (self._made(here, case) for case in self.cases)
        for state in (here, *filter(None, made)):
            self._probe(state, self._sizes(state))
            self.losses.probe(state)
        for band in (0, 1):
            self._probe(self._quiet(here, band), self.trials.any_sizes)

    def _probe(self, here: State, sizes: Sequence[float]) -> None:
        case = _case_of(here)
        if case is None:
            return
        for size in sizes:
            rises = case.rises_below != (case.is_threshold and size > here.critical)
            after = self.trials.alignment(self.cases[case], 1 if rises else -1, here, size)
            if self.rows and after is not None:
                self.rows.count(here, size, after)

    def _sizes(self, here: State) -> Sequence[float]:
        """Return multiples of the critical step size, or any step sizes where none exists."""
        critical = here.critical
        if 0.0 < critical < np.inf:
            return [multiple * critical for multiple in MULTIPLES]
        return self.trials.any_sizes

    def _quiet(self, here: State, band: int) -> State:
        """Return the state with one band scaled down, so that it is all noise after a step."""
        pull = self.trials.engine.run.optimizer.factors.pull
        noise = (pull * self.trials.any_sizes[-1]) ** 2 * float(here.part.constants[band, 1])
        square = float(here.sums[band, 1])
        factors = [1.0, 1.0]
        if noise < QUIET * square:
            factors[band] = float(np.sqrt(noise / square / QUIET))
        pair = (factors[0], factors[1])
        return self.trials.scaled(here, pair, pair) if min(pair) > 0.0 else here

    def _made(self, here: State, case: _Case) -> State | None:
        """Return the state with a velocity of one band that leads to a case, None where none."""
        part, factors = here.part, self.trials.engine.run.optimizer.factors
        pull = factors.pull * float(part.power_sums[case.band, 2])
        carry = factors.carry * float(part.cross_sums[case.band, C2])
        if not 0.0 < abs(carry) < np.inf or not TINY < pull < np.inf:
            return None
        length = FIRST_LENGTH * case.along * pull / carry
        for doubling in range(MOST_DOUBLINGS):
            velocity = [1.0, 1.0]
            velocity[case.band] = length * 2.0**doubling
            made = self.trials.scaled(here, (1.0, 1.0), (velocity[0], velocity[1]))
            if _case_of(made) == case:
                return made
        return None


def _case_of(here: State) -> _Case | None:
    """Return the case of a row, None where it has no gradient."""
    critical = here.critical
    if np.isnan(critical):
        return None
    if critical == 0.0:
        return _RISING
    if critical == np.inf:
        return _FALLING
    return _REVERSED if here.reverses else _THRESHOLD
