"""What the paper claims of single steps at the states of a run of plain SGD."""

import numpy as np

from .claims import Claim
from .loss_interval import LossInterval
from .probed import Planes
from .signs import TINY, Signs
from .trials import State, Trials

#: Multiples of the critical step size.
MULTIPLES = (0.25, 0.5, 0.8, 0.9, 1.1, 1.25, 2.0, 4.0)
#: Squared bulk gradient, as a part of the largest one without a critical step size.
DEPTHS = (0.5, 0.02)


class Prober:
    """Tries single steps at a state and counts the signs.

    Parameters
    ----------
    trials : Trials
    """

    def __init__(self, trials: Trials) -> None:
        self.trials = trials
        self.critical = Signs("critical step size separates fall from rise")
        self.correcting = Signs("self-correction: falls for every step size")
        self.losses = LossInterval(trials)

    def judged(self) -> list[Claim]:
        """Return the claims with their p-values."""
        return [self.critical.judged(), self.correcting.judged(), *self.losses.judged()]

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
