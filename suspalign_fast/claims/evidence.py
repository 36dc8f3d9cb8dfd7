"""Claims and the evidence on them."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: A claim fails where chance alone would make it look as bad in fewer cases than this.
FALSE_ALARM = 1e-4


@dataclass
class Claim:
    """Evidence on one claim.

    Attributes
    ----------
    name : str
    right, wrong : int
        Steps with the claimed and the opposite sign, among those that are evidence: the rarer sign
        has a chance below 1.35e-3 there. Of the last claim: rows inside and outside of what the
        exact law has in all but 2.7e-3 of cases.
    wrong_certain : int
        Wrong ones of a chance below 2.9e-7.
    open : int
        Steps that are no evidence.
    detail : str
    p_value : float
        Chance, at most, of evidence as bad as this where the claim is true.
    """

    name: str
    right: int = 0
    wrong: int = 0
    wrong_certain: int = 0
    open: int = 0
    detail: str = ""
    p_value: float = 1.0

    @property
    def verdict(self) -> str:
        """Say "holds", "fails" (`p_value` below 1e-4) or, without evidence, "open"."""
        if self.right + self.wrong == 0:
            return "open"
        return "fails" if self.p_value < FALSE_ALARM else "holds"


@dataclass
class Report:
    """Verdicts on all claims.

    Attributes
    ----------
    claims : list of Claim
    """

    claims: list[Claim]

    @property
    def failed(self) -> bool:
        """Whether a claim fails."""
        return any(claim.verdict == "fails" for claim in self.claims)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        claims = [asdict(claim) | {"verdict": claim.verdict} for claim in self.claims]
        return {"failed": self.failed, "false_alarm": FALSE_ALARM, "claims": claims}

    def __str__(self) -> str:
        head = f"{'claim':<42} {'right':>7} {'wrong':>6} {'open':>7} {'p-value':>8}  verdict"
        lines = [head, "-" * len(head)]
        for claim in self.claims:
            lines.append(
                f"{claim.name:<42} {claim.right:>7,} {claim.wrong:>6,} {claim.open:>7,} "
                f"{claim.p_value:>8.2g}  {claim.verdict}"
            )
            if claim.detail:
                lines.append(f"    {claim.detail}")
        return "\n".join(lines)


# --- Signs of the changes that single steps make, counted against what chance allows -------------


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

    def judge(self) -> Claim:
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
