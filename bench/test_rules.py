"""State-dependent step sizes against a constant one."""

import numba
import pytest
import subject
from comparison import Comparison
from in_turn import Members, measure

import suspalign_fast as sa


@numba.njit
def two_sizes(row):
    """Pick one of two sizes by the state of the dominant band."""
    return 1e-3 if row.power_sums[0, 1] > 1.0 else 3e-3


RULES = {
    "constant": subject.STEP_SIZE,
    "CriticalStep": sa.CriticalStep(0.9),
    "LossIntervalStep": sa.LossIntervalStep(0.5),
    "OnlineCriticalStep": sa.OnlineCriticalStep(0.9),
    "function of the row": sa.RowStep(two_sizes),
}
ADAPTIVE = [name for name in RULES if name != "constant"]


@pytest.mark.benchmark(group="rules")
@pytest.mark.parametrize(
    ("dim", "steps", "asked"),
    [(2**20, 128, dict.fromkeys(ADAPTIVE, ("at least", 0.6))), (500, 20_000, {})],
)
def test_rules(benchmark, dim, steps, asked):
    """A rule needs the sums of a step before the next: one pass over all coordinates a step."""
    problem, members = subject.two_bands(dim), Members()
    for name, rule in RULES.items():
        members.add(name, subject.advancing(problem, steps, rule), steps)
    comparison = Comparison(
        f"rules {dim}", f"step-size rules, d = {dim:,}, every step recorded", "step",
        reference="constant", speed=True, asked_ratio=asked,
    )  # fmt: skip
    measure(benchmark, members, comparison, rounds=9)
