"""What runs with what: the axes of the matrix of features, what is refused, and the page about it.

    python -m tests.helpers.what_runs docs/what-runs-with-what.md

writes the page. `tests/engines/test_matrix.py` runs every cell, and compares the page with this.
"""

import itertools
import sys
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np

import suspalign_fast as sa

STEPS = 8
SPECTRUM = sa.Spectrum([5.0, 4.0, 1.0, 0.5, 0.1], 5, [1, 4, 6, 4, 5])
INITIAL = np.random.default_rng(1).normal(2.0, 1.0, SPECTRUM.dim)


@numba.njit
def own(row):
    """A rule of a user's: smaller steps while the gradient is in the bulk."""
    return 0.02 * row.power_sums[0, 1] / (row.power_sums[0, 1] + row.power_sums[1, 1])


ENGINES = ("step", "jump", "levels", "reference")
DEVICES = ("cpu", "cuda")
NOISES = {
    "isotropic": lambda size: sa.IsotropicNoise(size),
    "hessian": lambda size: sa.HessianNoise(size),
    "diagonal": lambda size: sa.DiagonalNoise(size * np.linspace(0.5, 1.5, SPECTRUM.num_levels)),
    "mini-batches": lambda size: sa.DataNoise(4, size),
}
OPTIMIZERS = {
    "SGD": sa.SGD(),
    "heavy ball": sa.Momentum(0.9),
    "Nesterov": sa.Momentum(0.8, nesterov=True),
}
RULES = {
    "constant": 0.02,
    "schedule": np.linspace(0.02, 0.005, STEPS),
    "critical": sa.CriticalStep(0.9),
    "a user's own": own,
}
UPDATES = ("full", "dominant", "bulk")


class Cell(NamedTuple):
    """One combination of features."""

    engine: str
    device: str
    noise: str
    rule: str
    optimizer: str
    update: str

    def problem(self, size=0.5):
        return sa.Quadratic(SPECTRUM, NOISES[self.noise](size), INITIAL)

    def arguments(self, steps=STEPS):
        """Return the arguments of `simulate` beside the problem."""
        rule = RULES[self.rule]
        return {
            "step_size": rule[:steps] if isinstance(rule, np.ndarray) else rule,
            "num_steps": steps,
            "optimizer": OPTIMIZERS[self.optimizer],
            "update": self.update,
        }

    def run(self, size=0.5, steps=STEPS):
        how = {"engine": self.engine, "device": self.device, "seed": 3}
        return sa.simulate(self.problem(size), **how, **self.arguments(steps))


def cells(**wanted):
    """Return the cells whose features are among those wanted."""
    axes = (ENGINES, DEVICES, NOISES, RULES, OPTIMIZERS, UPDATES)
    chosen = [wanted.get(name, axis) for name, axis in zip(Cell._fields, axes, strict=True)]
    return [Cell(*values) for values in itertools.product(*chosen)]


class Refusal(NamedTuple):
    """Cells that have one of the values on every axis named, and what is said of them."""

    where: tuple[tuple[str, tuple[str, ...]], ...]
    error: type[Exception]
    says: str
    why: str

    def meets(self, cell):
        return all(getattr(cell, axis) in values for axis, values in self.where)


#: All that is refused; whatever is not in it has to work.
REFUSALS = (
    Refusal(
        (("engine", ("levels", "reference")), ("device", ("cuda",))),
        ValueError,
        r"device must be 'cpu' for engine '\w+', got 'cuda'; engines 'step' and",
        "This engine runs on the CPU alone",
    ),
    Refusal(
        (("engine", ("jump",)), ("noise", ("mini-batches",))),
        ValueError,
        r"engine 'jump' skips the steps between rows, and DataNoise",
        "The noise of skipped steps depends on their states",
    ),
    Refusal(
        (("engine", ("jump",)), ("rule", ("critical", "a user's own"))),
        ValueError,
        r"engine 'jump' skips the steps between rows, so their sizes must be known in advance",
        "The rule would have to see the rows of skipped steps",
    ),
)


def refusal_of(cell):
    """Return what is said of a cell, None where it works."""
    return next((refusal for refusal in REFUSALS if refusal.meets(cell)), None)


#: In which sense an engine is right.
SENSES = {"step": "path", "reference": "path", "jump": "law", "levels": "law"}


def word_of(engine, device, noise, rule):
    """Return the word of the page for all optimizers and updates."""
    some = cells(engine=(engine,), device=(device,), noise=(noise,), rule=(rule,))
    found = {refusal_of(cell) for cell in some}
    if len(found) > 1:
        raise ValueError(f"optimizers or updates differ with {engine}, {device}, {noise}, {rule}")
    (refusal,) = found
    return SENSES[engine] if refusal is None else f"no ({REFUSALS.index(refusal) + 1})"


PAGE = """# What runs with what

Optimizers ({optimizers}) and updates ({updates})
make no difference here, so that the table leaves them out. `tests/engines/test_matrix.py` runs all
{count} combinations.

- **path**: the rows are those of the engine `reference` for the same seed, up to rounding.
- **law**: the rows have the law of the path. Without noise they are those of `reference`, up to
  rounding.
- **no**: refused with a sentence before anything runs; the number says why.

{table}

{reasons}

*`python -m tests.helpers.what_runs docs/what-runs-with-what.md` writes this page.*
"""


def page():
    """Return the text of the page."""
    lines = [
        "| engine | device | noise | " + " | ".join(RULES) + " |",
        "| --- " * (3 + len(RULES)) + "|",
    ]
    for engine, device in itertools.product(ENGINES, DEVICES):
        groups = {}
        for noise in NOISES:
            words = tuple(word_of(engine, device, noise, rule) for rule in RULES)
            groups.setdefault(words, []).append(noise)
        for words, noises in groups.items():
            named = "all" if len(noises) == len(NOISES) else ", ".join(noises)
            lines.append(f"| `{engine}` | `{device}` | {named} | " + " | ".join(words) + " |")
    reasons = [f"{at}. {refusal.why}." for at, refusal in enumerate(REFUSALS, 1)]
    return PAGE.format(
        optimizers=", ".join(OPTIMIZERS),
        updates=", ".join(f"`{name}`" for name in UPDATES),
        count=f"{len(cells()):,}",
        table="\n".join(lines),
        reasons="\n".join(reasons),
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page())
