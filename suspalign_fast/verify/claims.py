"""Claims and the evidence on them."""

from dataclasses import asdict, dataclass
from typing import Any

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
