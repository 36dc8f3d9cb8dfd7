"""Signs of the changes that single steps make, counted against what chance allows."""

import numpy as np
from numpy.typing import NDArray

from .claims import Claim

Array = NDArray[np.float64]

#: A sign is evidence where the rarer one has less than the first chance (3 standard deviations of
#: a normal); the second (5 of them) makes a wrong one certain.
EVIDENCE, CERTAIN = 1.35e-3, 2.87e-7
#: Computed tails are taken to be this much larger: they were within 0.93 to 1.18 of exact ones.
TAIL_ERROR = 1.3
#: Relative changes up to this may be rounding of one step.
STEP_ROUNDING = 1e-11
#: Squares up to this have lost digits.
TINY = 1e-280


class Signs:
    """Observed signs of one claim, and the chance of each to be the rarer one."""

    def __init__(self, name: str) -> None:
        self.claim = Claim(name)
        self.chances: list[float] = []

    def count(self, sign: int, above: float, below: float, changes: Array) -> None:
        """Count observed relative changes against the sign claimed.

        `above` and `below` are the exact chances of a positive and a negative change. Where one of
        them is small, the claim must name the other.
        """
        claim, rarer = self.claim, min(above, below)
        felt = np.abs(changes) > STEP_ROUNDING  # never true of NaN
        if not rarer < EVIDENCE:
            claim.open += changes.size
            return
        claim.open += int((~felt).sum())
        wrong = int((np.sign(changes[felt]) != sign).sum())
        claim.right += int(felt.sum()) - wrong
        claim.wrong += wrong
        claim.wrong_certain += wrong if rarer < CERTAIN else 0
        self.chances += [rarer * TAIL_ERROR] * int(felt.sum())

    def judged(self) -> Claim:
        """Return the claim with its p-value."""
        self.claim.p_value = at_least(self.claim.wrong, np.array(self.chances))
        return self.claim


def at_least(count: int, chances: Array) -> float:
    """Chance that at least `count` of independent events of given chances happen."""
    if count == 0:
        return 1.0
    # Distribution of the number up to `count`, where the last entry gathers all from there on.
    law = np.zeros(count + 1)
    law[0] = 1.0
    for chance in chances:
        gathered = law[-1] + chance * law[-2]
        law[1:] += chance * (law[:-1] - law[1:])
        law[0] -= chance * law[0]
        law[-1] = gathered
    return float(min(law[-1], 1.0))


def chance_of_rises(rises: Array, chances: Array, margins: Array | float) -> float:
    """Two-sided chance, at most, of so many rises in steps of chances within margins of these.

    By Bernstein's inequality (Freedman's, where a step depends on those before), which holds for
    few steps and rare rises, too.
    """
    worst = 1.0
    for happened, chance in ((rises, chances), (1.0 - rises, 1.0 - chances)):
        most = np.minimum(chance + margins, 1.0)
        excess = float((happened - most).sum())
        if excess > 0.0:
            spread = float((most * (1.0 - most)).sum())
            worst = min(worst, 2.0 * float(np.exp(-0.5 * excess**2 / (spread + excess / 3.0))))
    return worst
