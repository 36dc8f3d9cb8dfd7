"""Test the paper's claims on a problem, step by step, against their predictions."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from . import _checks, phases, theory
from . import power_sums as physics
from .engines import LevelsEngine, Rows, StepEngine, make_engine
from .problem import Quadratic
from .run import Run
from .step_size import as_step_size
from .trace import RECORDED, Trace

Array = NDArray[np.float64]

ENGINES = ("step", "jump", "levels")
#: Rows, logarithmically spaced, that are compared with the exact mean.
PHASE_ROWS = 400
#: Multiples of the critical step size, and of 1 / lambda_1 where there is none.
MULTIPLES = (0.25, 0.5, 0.8, 0.9, 1.1, 1.25, 2.0, 4.0)
SELF_CORRECTING_STEPS = (0.1, 0.5, 1.0, 1.9)
#: Squared bulk gradient, as a part of the largest one without a critical step size.
DEPTHS = (0.5, 0.02)
#: Positions inside the loss interval, on a logarithmic scale.
POSITIONS = (0.25, 0.5, 0.75)
#: Signs are evidence beyond this many standard deviations, and beyond the second all must be right.
EVIDENCE, CERTAIN = 3.0, 5.0
RIGHT_FRACTION = 0.998
#: Least fraction of rows within 3 standard deviations of the exact mean.
WITHIN_FRACTION = 0.95


@dataclass
class Claim:
    """Evidence on one claim.

    Attributes
    ----------
    name : str
    right, wrong : int
        Steps with the predicted and the opposite sign among those with ``|z| > 3``.
    wrong_certain : int
        Wrong ones with ``|z| > 5``.
    open : int
        Steps with ``|z| <= 3``: no evidence.
    detail : str
    """

    name: str
    right: int = 0
    wrong: int = 0
    wrong_certain: int = 0
    open: int = 0
    detail: str = ""

    @property
    def verdict(self) -> str:
        """Say "holds", "fails" or, without evidence, "open"."""
        if self.right + self.wrong == 0:
            return "open"
        good = self.wrong_certain == 0 and self.right >= RIGHT_FRACTION * (self.right + self.wrong)
        return "holds" if good else "fails"

    def count(self, sign: int, z: float, change: Array) -> None:
        """Count observed changes against the sign claimed, z being how sure a sign is at all."""
        agrees = np.sign(change) == sign
        if abs(z) <= EVIDENCE:
            self.open += agrees.size
            return
        self.right += int(agrees.sum())
        self.wrong += int((~agrees).sum())
        if abs(z) > CERTAIN:
            self.wrong_certain += int((~agrees).sum())


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
        return {"failed": self.failed, "claims": claims}

    def __str__(self) -> str:
        head = f"{'claim':<42} {'right':>7} {'wrong':>6} {'|z|<=3':>7}  verdict"
        lines = [head, "-" * len(head)]
        for claim in self.claims:
            lines.append(
                f"{claim.name:<42} {claim.right:>7,} {claim.wrong:>6,} {claim.open:>7,}  "
                f"{claim.verdict}"
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
    engine: str = "step",
    progress: bool = False,
) -> Report:
    """Run SGD and test the paper's claims at many states on the way.

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
        alignment against the exact mean and standard deviation at every recorded time).

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
    rule = as_step_size(step_size)
    recorded = np.union1d(times, rows_at)
    run = Run(problem, rule, total, seed=seed, engine=engine, record_at=recorded)
    simulator = make_engine(run)
    assert isinstance(simulator, StepEngine | LevelsEngine)
    prober = _Prober(simulator, draws)
    rows = [simulator.initial_row()]
    for time in tqdm(times, unit="state", disable=not progress, dynamic_ncols=True):
        rows.append(simulator.advance(int(time) - simulator.step))
        prober.probe(simulator.state)
    joined = Rows.joined(rows)
    columns = {name: getattr(joined, name) for name in RECORDED}
    trace = Trace.from_columns(run, "complete", columns)
    claims = [prober.critical, prober.correcting, prober.dominant_loss, prober.bulk_loss]
    return Report([*claims, _two_phases(trace, problem, step_size)])


class _Prober:
    """Tries single steps at a state and counts the signs."""

    def __init__(self, engine: StepEngine | LevelsEngine, repeats: int) -> None:
        self.engine = engine
        self.repeats = repeats
        self.constants = engine.run.problem.noise_constants
        self.largest = float(engine.run.problem.spectrum.eigenvalues[0])
        self.critical = Claim("critical step size separates fall from rise")
        self.correcting = Claim("self-correction: falls for every step size")
        self.dominant_loss = Claim("loss interval: dominant step raises loss")
        self.bulk_loss = Claim("loss interval: bulk step lowers loss")
        self.losses = _LossChange(engine)
        self._draw = 2**62

    def probe(self, state: Array) -> None:
        """Try all kinds of steps at a state."""
        row = self.engine.sums_of(state)
        critical = float(physics.critical_step_size(row[:, :4], self.constants))
        if 0.0 < critical < np.inf:
            for multiple in MULTIPLES:
                self._try_alignment(
                    self.critical, 1 if multiple > 1.0 else -1, state, row, multiple * critical
                )
        for depth in DEPTHS:
            shrunk, row_shrunk = self._self_correcting(state, row, depth)
            for multiple in SELF_CORRECTING_STEPS:
                self._try_alignment(
                    self.correcting, -1, shrunk, row_shrunk, multiple / self.largest
                )
        lower, upper = physics.loss_interval(row[:, :4], self.constants)
        if 0.0 < lower < upper:
            for position in POSITIONS:
                step_size = float(lower ** (1.0 - position) * upper**position)
                self._try_loss(self.dominant_loss, state, row, step_size, 0)
                self._try_loss(self.bulk_loss, state, row, step_size, 1)

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

    def _try_alignment(
        self, claim: Claim, sign: int, state: Array, row: Array, step_size: float
    ) -> None:
        z = physics.predict_alignment(row[:, :4], row[:, 4:7], self.constants, step_size).z
        after = self._after(state, step_size, (1.0, 1.0))
        change = physics.alignment(after[..., :4]) - physics.alignment(row[:, :4])
        claim.count(sign, float(z), change)

    def _self_correcting(self, state: Array, row: Array, depth: float) -> tuple[Array, Array]:
        """Return the state with its bulk scaled down to `depth` of what has a critical step."""
        s2, s4, n2 = row[:, 1], row[:, 3], self.constants[:, 1]
        curvature = (s4[0] + n2[0]) / s2[0]
        excess = curvature * s2[1] - s4[1]
        scale = np.sqrt(min(1.0, depth * n2[1] / excess)) if excess > 0.0 else 1.0
        shrunk = self.engine.scaled_bulk(state, float(scale))
        return shrunk, self.engine.sums_of(shrunk)

    def _try_loss(
        self, claim: Claim, state: Array, row: Array, step_size: float, band: int
    ) -> None:
        update = (1.0, 0.0) if band == 0 else (0.0, 1.0)
        mean, std = self.losses.change(state, step_size, band)
        after = self._after(state, step_size, update)
        change = (after[:, band, 0] - row[band, 0]) / 2.0
        claim.count(1 if band == 0 else -1, mean / std if std > 0.0 else 0.0, change)


class _LossChange:
    """Exact mean and standard deviation of a band's loss change in one step from a state."""

    def __init__(self, engine: StepEngine | LevelsEngine) -> None:
        self.engine = engine
        self.lam, self.std, self.count, split = engine.directions()
        self.bands = (slice(0, split), slice(split, None))

    def change(self, state: Array, step_size: float, band: int) -> tuple[float, float]:
        """Mean and standard deviation of ``1/2 sum lambda (c'^2 - c^2)``."""
        part = self.bands[band]
        lam, count, c_sq = self.lam[part], self.count[part], self.engine.squares(state)[part]
        noise = (step_size * self.std[part]) ** 2
        decay_sq = (1.0 - step_size * lam) ** 2
        growth = step_size * lam * (step_size * lam - 2.0)
        mean = 0.5 * np.sum(lam * (growth * c_sq + count * noise))
        variance = np.sum(lam**2 * noise * (decay_sq * c_sq + 0.5 * count * noise))
        return float(mean), float(np.sqrt(variance))


def _two_phases(trace: Trace, problem: Quadratic, step_size: float) -> Claim:
    """Compare a run's alignment with the exact expectation, and its phases with the exact ones."""
    exact = theory.expected(problem, step_size, trace.step)
    distance = np.abs(trace.alignment - exact.alignment_mean)
    within = distance <= 3.0 * exact.alignment_std + 1e-12
    expected_phases = phases.find(exact)
    seen = phases.find(trace)
    claim = Claim("two phases: rows within 3 std of exact mean")
    claim.right, claim.wrong = int(within.sum()), int((~within).sum())
    claim.detail = (
        f"minimum {seen.minimum:.3g} at step {seen.minimum_step:,.0f} (exact mean "
        f"{expected_phases.minimum:.3g} at {expected_phases.minimum_step:,.0f}), plateau "
        f"{seen.plateau:.3g} ({expected_phases.plateau:.3g}), "
        + ("two phases" if seen.two_phase else "no two phases in this run")
    )
    return PhaseClaim(**asdict(claim))


class PhaseClaim(Claim):
    """The claim on whole trajectories: most rows lie within 3 standard deviations."""

    @property
    def verdict(self) -> str:
        """Say "holds" or "fails"."""
        within = self.right >= WITHIN_FRACTION * (self.right + self.wrong)
        return "holds" if within else "fails"
