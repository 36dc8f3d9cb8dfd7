"""Test the paper's claims on a problem, step by step, against what they predict.

Every claim is a test with a stated false-alarm rate, `FALSE_ALARM`: where a claim is true and the
simulation right, it is said to fail in at most so many cases. What chance allows is known, because
a step is Gaussian: given a state, or at a time, every sum of squares is one of independent normals
of known means and variances, whose tails `kernels.tail` computes.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from . import _checks, _progress, phases, theory
from . import power_sums as physics
from .engines import LevelsEngine, Rows, StepEngine, make_engine
from .kernels.tail import tails
from .problem import Quadratic
from .run import Run
from .step_size import ConstantStep
from .trace import RECORDED, Trace

Array = NDArray[np.float64]

ENGINES = ("step", "jump", "levels")
#: Rows, logarithmically spaced, that are compared with the exact law.
PHASE_ROWS = 400
#: Multiples of the critical step size, and of 1 / lambda_1 where there is none.
MULTIPLES = (0.25, 0.5, 0.8, 0.9, 1.1, 1.25, 2.0, 4.0)
SELF_CORRECTING_STEPS = (0.1, 0.5, 1.0, 1.9)
#: Squared bulk gradient, as a part of the largest one without a critical step size.
DEPTHS = (0.5, 0.02)
#: Positions inside the loss interval, on a logarithmic scale, and distances from its ends.
POSITIONS = (0.25, 0.5, 0.75)
MARGINS = (1.1, 1.3)
#: A claim fails where chance alone would make it look as bad in fewer cases than this.
FALSE_ALARM = 1e-4
#: A sign is evidence where the rarer one has less than the first chance (3 standard deviations of
#: a normal); the second (5 of them) makes a wrong one certain.
EVIDENCE, CERTAIN = 1.35e-3, 2.87e-7
#: Computed tails are taken to be this much larger: they were within 0.93 to 1.18 of exact ones.
TAIL_ERROR = 1.3
#: Relative changes up to this may be rounding of one step, or of all steps of a run.
STEP_ROUNDING, RUN_ROUNDING = 1e-11, 1e-8
#: Squares up to this have lost digits.
TINY = 1e-280
#: Allowed distance of the exact mean from that of the law, in standard deviations: what the
#: approximate tails may err by.
MEAN_ERROR = 0.25
#: Smallest share of a band whose mean is compared.
SMALLEST_SHARE = 1e-200


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


class _Signs:
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


def verify(
    problem: Quadratic,
    step_size: float,
    num_steps: int,
    *,
    states: int = 40,
    repeats: int = 4,
    seed: int = 0,
    engine: Literal["step", "jump", "levels"] = "step",
    progress: bool = False,
) -> Report:
    """Run SGD and test the paper's claims at many states on the way.

    A claim fails where its evidence would be as bad by chance in fewer than 1 of 10^4 cases
    (`Claim.p_value`). Signs of single steps are evidence where the exact law of the step makes one
    of them rarer than 1.35e-3; changes below rounding are none.

    Parameters
    ----------
    problem : Quadratic
    step_size : float
        Step size of the run, below 2 / lambda_1.
    num_steps : int
        Length of the run, at least 1.
    states : int
        Number of states, logarithmically spaced in time, at which steps are tried.
    repeats : int
        Independent noise draws for each step size tried at a state.
    seed : int
    engine : {"step", "jump", "levels"}
        "levels" verifies spectra of few levels in no time, whatever their dimension.
    progress : bool
        Show a progress bar on standard error.

    Returns
    -------
    Report
        One claim each for: the critical step size (the sign of the change of alignment for steps
        at multiples of eta*, from below to above), self-correction (the same states with the bulk
        scaled down until there is no eta*; alignment falls for every step size), the loss interval
        (dominant steps raise and bulk steps lower the loss), and the two phases (the run's
        alignment against its exact law at every recorded time, and the exact mean against that).

    Notes
    -----
    With trials i whose rarer sign has chance q_i, the number of wrong signs is Poisson-binomial;
    the p-value is its upper tail. Rows of a run depend on each other, so the p-value of the last
    claim is the smallest two-sided tail of a row times their number (Bonferroni).

    Raises
    ------
    ValueError
        If an argument is not as described.
    """
    theory.stationary(problem, step_size)  # refuses step sizes without a stationary state
    total = _checks.integer("num_steps", num_steps, 1)
    count = _checks.integer("states", states, 1)
    draws = _checks.integer("repeats", repeats, 1)
    if engine not in ENGINES:
        raise _checks.wrong("engine", engine, f"one of {', '.join(ENGINES)}")
    times = np.unique(np.geomspace(1, total, count).astype(np.int64))
    rows_at = np.unique(np.geomspace(1, total, PHASE_ROWS).astype(np.int64))
    recorded = np.union1d(times, rows_at)
    run = Run(problem, ConstantStep(step_size), total, seed=seed, engine=engine, record_at=recorded)
    simulator = make_engine(run)
    assert isinstance(simulator, StepEngine | LevelsEngine)
    prober = _Prober(simulator, draws)
    rows = [simulator.initial_row()]
    for time in _progress.over(times, "state", visible=progress):
        rows.append(simulator.advance(int(time) - simulator.step))
        prober.probe(simulator.state)
    joined = Rows.joined(rows)
    columns = {name: getattr(joined, name) for name in RECORDED}
    trace = Trace.from_columns(run, "complete", columns)
    return Report([*prober.judged(), _two_phases(trace, problem, step_size)])


class _Prober:
    """Tries single steps at a state and counts the signs."""

    def __init__(self, engine: StepEngine | LevelsEngine, repeats: int) -> None:
        self.engine = engine
        self.repeats = repeats
        self.constants = engine.run.problem.noise_constants
        self.largest = float(engine.run.problem.spectrum.eigenvalues[0])
        self.critical = _Signs("critical step size separates fall from rise")
        self.correcting = _Signs("self-correction: falls for every step size")
        self.dominant_loss = _Signs("loss interval: dominant step raises loss")
        self.bulk_loss = _Signs("loss interval: bulk step lowers loss")
        self.law = _StepLaw(engine)
        self._draw = 2**62

    def judged(self) -> list[Claim]:
        """Return the claims with their p-values."""
        signs = (self.critical, self.correcting, self.dominant_loss, self.bulk_loss)
        return [evidence.judged() for evidence in signs]

    def probe(self, state: Array) -> None:
        """Try all kinds of steps at a state."""
        here = _State(state, self.engine.sums_of(state), self.law.squares(state))
        critical = float(physics.critical_step_size(here.row[:, :4], self.constants))
        if 0.0 < critical < np.inf:
            for multiple in MULTIPLES:
                sign = 1 if multiple > 1.0 else -1
                self._try_alignment(self.critical, sign, here, multiple * critical)
        for depth in DEPTHS:
            shrunk = self._self_correcting(here, depth)
            for multiple in SELF_CORRECTING_STEPS:
                self._try_alignment(self.correcting, -1, shrunk, multiple / self.largest)
        lower, upper = physics.loss_interval(here.row[:, :4], self.constants).tolist()
        if 0.0 < lower < upper < np.inf:
            between = [lower ** (1.0 - position) * upper**position for position in POSITIONS]
            above = [lower * margin for margin in MARGINS if lower * margin < upper]
            below = [upper / margin for margin in MARGINS if lower * margin < upper]
            for step_size in (*between, *above):
                self._try_loss(self.dominant_loss, here, step_size, 0)
            for step_size in (*between, *below):
                self._try_loss(self.bulk_loss, here, step_size, 1)

    def _after(self, state: Array, step_size: float, update: tuple[float, float]) -> Array:
        """Sums after one step with noise never used before, shape (repeats, 2, 8)."""
        first = self._draw
        self._draw += self.repeats
        return np.stack(
            [
                self.engine.sums_after(state, first + i, step_size, update)
                for i in range(self.repeats)
            ]
        )

    def _try_alignment(self, signs: _Signs, sign: int, here: "_State", step_size: float) -> None:
        before = here.row[:, 1]
        if not (before > TINY).all():
            signs.claim.open += self.repeats
            return
        above, below = self.law.of_alignment(here.squares, before, step_size)
        after = self._after(here.state, step_size, (1.0, 1.0))[:, :, 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            growth = np.log(after / before)
            signs.count(sign, above, below, growth[:, 0] - growth[:, 1])

    def _self_correcting(self, here: "_State", depth: float) -> "_State":
        """Return the state with its bulk scaled down to `depth` of what has a critical step."""
        s2, s4, n2 = here.row[:, 1], here.row[:, 3], self.constants[:, 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            curvature = (s4[0] + n2[0]) / s2[0]
            excess = curvature * s2[1] - s4[1]
            scale = np.sqrt(min(1.0, depth * n2[1] / excess)) if excess > 0.0 else 1.0
        shrunk = self.engine.scaled_bulk(here.state, float(scale))
        return _State(shrunk, self.engine.sums_of(shrunk), self.law.squares(shrunk))

    def _try_loss(self, signs: _Signs, here: "_State", step_size: float, band: int) -> None:
        update = (1.0, 0.0) if band == 0 else (0.0, 1.0)
        before = float(here.row[band, 0])
        if not before > TINY:
            signs.claim.open += self.repeats
            return
        above, below = self.law.of_loss(here.squares, before, step_size, band)
        after = self._after(here.state, step_size, update)[:, band, 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            signs.count(1 if band == 0 else -1, above, below, np.log(after / before))


class _State(NamedTuple):
    """A state, its sums, and the squared norms of its levels."""

    state: Array
    row: Array
    squares: Array


class _StepLaw:
    """Exact chances of the outcomes of one step from a state, level by level."""

    def __init__(self, engine: StepEngine | LevelsEngine) -> None:
        problem = engine.run.problem
        spectrum = problem.spectrum
        self.engine = engine
        self.lam, self.std = spectrum.eigenvalues, problem.stds
        self.count = spectrum.multiplicities.astype(np.float64)
        self.split = spectrum.num_dominant_levels
        self._starts = np.cumsum(spectrum.multiplicities) - spectrum.multiplicities

    def squares(self, state: Array) -> Array:
        """Squared norm of the coefficients of each level of a state."""
        squares = self.engine.squares(state)
        if squares.size == self.lam.size:
            return squares
        sums: Array = np.add.reduceat(squares, self._starts)
        return sums

    def of_alignment(self, squares: Array, before: Array, step_size: float) -> tuple[float, float]:
        """Chances that the alignment rises and falls; `before` are the squared gradients."""
        m_sq, v = self._next(squares, step_size)
        above, below, _, _ = tails(
            1.0 / before[0], -1.0 / before[1], 0.0, self.lam**2 * m_sq, self.lam**2 * v,
            self.count, self.split,
        )  # fmt: skip
        return above, below

    def of_loss(
        self, squares: Array, before: float, step_size: float, band: int
    ) -> tuple[float, float]:
        """Chances that a band's loss rises and falls; `before` is twice the loss."""
        m_sq, v = self._next(squares, step_size)
        factors = (1.0 / before, 0.0) if band == 0 else (0.0, 1.0 / before)
        above, below, _, _ = tails(
            *factors, 1.0, self.lam * m_sq, self.lam * v, self.count, self.split
        )
        return above, below

    def _next(self, squares: Array, step_size: float) -> tuple[Array, Array]:
        """Total squared mean and variance of the coefficients of each level after a step."""
        return (1.0 - step_size * self.lam) ** 2 * squares, (step_size * self.std) ** 2


def _two_phases(trace: Trace, problem: Quadratic, step_size: float) -> Claim:
    """Compare a run's alignment with its exact law, and its phases with the expected ones."""
    exact = theory.expected(problem, step_size, trace.step)
    claim = Claim("two phases: rows follow the exact law")
    law = _RunLaw(problem, step_size, trace.step)
    smallest = 1.0
    lowest = int(np.argmin(np.where(np.isnan(exact.alignment_mean), 2.0, exact.alignment_mean)))
    means = {lowest, len(trace) - 1}
    strayed = False
    for row in range(len(trace)):
        law.move_to(row)
        chance = law.two_sided(trace.power_sums[row, :, 1])
        if np.isnan(chance):
            claim.open += 1
            continue
        smallest = min(smallest, chance)
        inside = chance >= 2.0 * EVIDENCE
        claim.right += int(inside)
        claim.wrong += int(not inside)
        claim.wrong_certain += int(chance < 2.0 * CERTAIN)
        if row in means:
            strayed |= law.mean_strays(float(exact.alignment_mean[row]))
    rows = claim.right + claim.wrong
    claim.p_value = 0.0 if strayed else min(1.0, rows * smallest)
    if rows and (np.isfinite(exact.alignment_mean)).any():
        expected_phases, seen = phases.find(exact), phases.find(trace)
        claim.detail = (
            f"minimum {seen.minimum:.3g} at step {seen.minimum_step:,.0f} (exact mean "
            f"{expected_phases.minimum:.3g} at {expected_phases.minimum_step:,.0f}), plateau "
            f"{seen.plateau:.3g} ({expected_phases.plateau:.3g}), "
            + ("two phases" if seen.two_phase else "no two phases in this run")
            + ("; the exact mean is not that of the law" if strayed else "")
        )
    return claim


class _RunLaw:
    """Exact law of the alignment at the rows of a run."""

    def __init__(self, problem: Quadratic, step_size: float, steps: NDArray[np.int64]) -> None:
        self.model = theory.Levels(problem, (1.0, 1.0))
        self._moments = self.model.trajectory(ConstantStep(step_size), steps)
        self.row = -1

    def move_to(self, row: int) -> None:
        """Take the moments of the next row."""
        model = self.model
        while self.row < row:
            mean, variance = next(self._moments)
            self.row += 1
        self.m_sq, self.v = model.count * (model.lam * mean) ** 2, model.lam**2 * variance

    def _tails(self, distance: float) -> tuple[float, float]:
        """Chances that the odds exceed and fall short of ``exp(distance)`` times the expected."""
        dominant, bulk = self._expected()
        factors = np.exp([-max(distance, 0.0), min(distance, 0.0)]) / (dominant, bulk)
        above, below, _, _ = tails(
            factors[0], -factors[1], 0.0, self.m_sq, self.v, self.model.count, self.model.split
        )
        return above, below

    def _expected(self) -> Array:
        """Expected squared gradient of both bands."""
        terms = self.m_sq + self.model.count * self.v
        split = self.model.split
        return np.array([terms[:split].sum(), terms[split:].sum()])

    def two_sided(self, observed: Array) -> float:
        """Chance of an alignment as far out as observed, NaN where there is none to speak of."""
        expected = self._expected()
        if not ((observed > TINY) & (expected > TINY)).all():
            return float("nan")
        growth = np.log(observed / expected)
        distance = float(growth[0] - growth[1])
        if abs(distance) <= RUN_ROUNDING:
            return 1.0
        return min(1.0, 2.0 * TAIL_ERROR * min(self._tails(distance)))

    def mean_strays(self, mean: float) -> bool:
        """Whether a mean of the alignment is not that of the law."""
        dominant, bulk = self._expected()
        if not min(dominant, bulk) > SMALLEST_SHARE * max(dominant, bulk):
            return False  # or NaN
        is_low = bool(dominant <= bulk)
        exact, std = self._mean_share(is_low)
        share = mean if is_low else 1.0 - mean
        return not abs(share - exact) <= MEAN_ERROR * std + RUN_ROUNDING * exact + 1e-15

    def _mean_share(self, of_dominant: bool) -> tuple[float, float]:
        """Mean and standard deviation of a band's share of the squared gradient, from its tails."""
        split = self.model.split
        expected = self._expected()
        width = 0.0
        for band, size in zip((slice(0, split), slice(split, None)), expected, strict=True):
            m_sq, v = self.m_sq[band] / size, self.v[band] / size
            width += float(np.sum(4.0 * m_sq * v + 2.0 * self.model.count[band] * v**2))
        width = float(np.sqrt(width))
        sign = 1.0 if of_dominant else -1.0
        center = sign * float(np.log(expected[0] / expected[1]))
        share = float(expit(center))
        if width == 0.0:
            return share, 0.0
        # E[f(X)] = f(low) + the integral of P(X > x) f'(x) over the logarithmic odds x > low.
        step = min(0.25, width / 4.0)
        mean = square = 0.0
        for direction in (1, -1):
            x = center + 0.5 * direction * step
            while abs(x) < 690.0:
                chances = self._tails(sign * (x - center))
                above, below = chances if of_dominant else chances[::-1]
                a = float(expit(x))
                slope = above * a * float(expit(-x))
                if slope < 1e-10 * mean or (direction < 0 and below < 1e-10):
                    break
                mean += slope * step
                square += 2.0 * a * slope * step
                x += direction * step
        low = float(expit(x + 0.5 * step))
        mean, square = mean + low, square + low * low
        if width < 0.1:  # where the difference of squares has lost its digits
            return mean, share * (1.0 - share) * width
        return mean, float(np.sqrt(max(square - mean * mean, 0.0)))
