"""The claims on the loss interval: dominant steps raise the loss, bulk steps lower it."""

from .claims import Claim
from .signs import Signs
from .trials import State, Trials

#: Positions inside the loss interval, on a logarithmic scale, and distances from its ends.
POSITIONS = (0.25, 0.5, 0.75)
MARGINS = (1.1, 1.3)


class LossInterval:
    """Tries steps projected on one band inside the loss interval of a state.

    Parameters
    ----------
    trials : Trials
    """

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

    def judged(self) -> list[Claim]:
        """Return both claims with their p-values."""
        return [self.dominant.judged(), self.bulk.judged()]
