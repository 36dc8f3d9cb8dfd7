"""A question, the members measured for it, their ratios and what was asked of them."""

from dataclasses import asdict, dataclass, field

SCALES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


@dataclass
class Comparison:
    """Medians of one question.

    Attributes
    ----------
    key : str
        Short name, by which pictures find it.
    question : str
        What is compared.
    per : str
        What a value is per: "step", "row", "run", ...
    values : dict
        Median of each member.
    reference : str or None
        Member whose ratio is 1.
    speed : bool
        Whether ratios are reference / member, and not member / reference.
    unit : str
        Of the values; seconds are printed with a prefix.
    asked_ratio, asked_value : dict
        Bound and side ("at least", "at most") of a member's ratio or value.
    notes : dict
        How a member's value came about where that is not plain, and why members were skipped.
    """

    key: str
    question: str
    per: str
    values: dict[str, float] = field(default_factory=dict)
    reference: str | None = None
    speed: bool = False
    unit: str = "s"
    asked_ratio: dict[str, tuple[str, float]] = field(default_factory=dict)
    asked_value: dict[str, tuple[str, float]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def title(self):
        """Question and what its ratios are."""
        if self.reference not in self.values:
            return self.question
        kind = "speed" if self.speed else "time" if self.unit == "s" else "value"
        return f"{self.question}; ratio: {kind} over that of {self.reference}"

    def ratio(self, member):
        """Ratio of a member to the reference, or None."""
        if self.reference not in self.values:
            return None
        quotient = self.values[member] / self.values[self.reference]
        return 1.0 / quotient if self.speed else quotient

    def rows(self):
        """Member, value, ratio and what was asked, as text; skipped members last."""
        lines = []
        for member, value in self.values.items():
            ratio = self.ratio(member)
            note = f" ({self.notes[member]})" if member in self.notes else ""
            text = f"{_readable(value, self.unit)} a {self.per}"
            lines.append(
                (member + note, text, "" if ratio is None else f"{ratio:.3g}", self._asked(member))
            )
        skipped = [name for name in self.notes if name not in self.values]
        return lines + [(name, f"skipped: {self.notes[name]}", "", "") for name in skipped]

    def _asked(self, member):
        wanted = []
        if member in self.asked_ratio and (ratio := self.ratio(member)) is not None:
            side, bound = self.asked_ratio[member]
            wanted.append(f"ratio {side} {bound:g}: {_verdict(ratio, side, bound)}")
        if member in self.asked_value:
            side, bound = self.asked_value[member]
            verdict = _verdict(self.values[member], side, bound)
            wanted.append(f"{side} {bound:g} {self.unit}: {verdict}")
        return "; ".join(wanted)

    def as_dict(self):
        """Return what JSON can hold."""
        return asdict(self)


def _verdict(value, side, bound):
    return "yes" if (value >= bound if side == "at least" else value <= bound) else "no"


def _readable(value, unit):
    if unit != "s":
        return f"{value:.4g} {unit}"
    scale, name = next((s for s in SCALES if value >= s[0]), SCALES[-1])
    return f"{value / scale:.4g} {name}"


def comparisons_of(report):
    """Return the comparisons of a pytest-benchmark JSON report or of `pytest bench --report`."""
    found = (entry["extra_info"].get("comparison") for entry in report["benchmarks"])
    return [Comparison(**comparison) for comparison in found if comparison]


def table(comparisons):
    """Return the text of all comparisons as one Markdown table."""
    lines = ["| question, member | median | ratio | asked |", "| --- | ---: | ---: | --- |"]
    for comparison in comparisons:
        lines.append(f"| **{comparison.title()}** | | | |")
        lines += [f"| {' | '.join(row)} |" for row in comparison.rows()]
    return "\n".join(lines) + "\n"
