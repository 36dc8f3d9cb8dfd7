"""What rows claim of single steps with momentum, in each of the four cases of a row.

A state has a velocity, and its row a critical step size below which alignment falls, one below
which it rises, or none, where it falls or rises for every step size (docs/momentum.md). All four
cases come up where the velocity of one band is turned and made longer: along the gradient in the
dominant band, against it there, and so in the bulk.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..velocity_rows import C2
from .claims import Claim
from .loss_interval import LossInterval
from .probe import MULTIPLES
from .probed import Planes
from .row_claims import RowClaims
from .signs import TINY, Signs
from .trials import State, Trials

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
    """Tries single steps at a state with a velocity and at four that are made of it.

    Parameters
    ----------
    trials : Trials
    """

    def __init__(self, trials: Trials) -> None:
        self.trials = trials
        self.cases = {case: Signs(name) for case, name in _NAMES.items()}
        self.losses = LossInterval(trials)
        #: Mini-batches have no predictions from rows with a velocity.
        self.rows = None if trials.of_state else RowClaims(trials)

    def judged(self) -> list[Claim]:
        """Return the claims with their p-values."""
        claims = [signs.judged() for signs in self.cases.values()] + self.losses.judged()
        return claims + (self.rows.judged() if self.rows else [])

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
        """Multiples of the critical step size; any step sizes where there is none."""
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
