"""A run on which all claims are tested."""

from typing import Literal

import numpy as np

from .. import theory
from ..base import checks, reports
from ..model.optimizer import PLAIN, Optimizer, as_optimizer
from ..model.problem import Quadratic
from ..model.run import MAX_STEPS, Run
from ..model.step_size import ConstantStep
from ..physics.row import recorded
from ..physics.rows import Rows
from ..traces.trace import Trace
from .evidence import Claim, Report
from .laws import make_probed, probed_engines
from .single_steps import Prober, VelocityProber
from .trials import Trials
from .whole_runs import steps_follow, two_phases

#: Rows, logarithmically spaced, that are compared with the exact law.
PHASE_ROWS = 400
#: States, and draws at each, at most.
MOST = 10**6


def verify(
    problem: Quadratic,
    step_size: float,
    num_steps: int,
    *,
    states: int = 40,
    repeats: int = 4,
    seed: int = 0,
    engine: Literal["step", "jump", "levels"] = "step",
    optimizer: Optimizer = PLAIN,
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
        Step size of the run, below the edge of stability: 2 / lambda_1 of plain SGD.
    num_steps : int
        Length of the run, at least 1.
    states : int
        Number of states, logarithmically spaced in time, at which steps are tried; at most
        a million.
    repeats : int
        Independent noise draws for each step size tried at a state; at most a million.
    seed : int
    engine : {"step", "jump", "levels"}
        "levels" verifies spectra of few levels in no time, whatever their dimension.
    optimizer : Optimizer
        `SGD()` or `Momentum(beta)`.
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
        Under `DataNoise`, where single signs are no evidence at small batches, a step is repeated
        until the sign of the mean change is, and the last claim is on the changes of alignment in
        single steps of the run, against their exact means.

        With momentum steps are also tried where the velocity of one band is turned and made longer,
        so that all four cases of a row come up, each a claim of its own: alignment falls below and
        rises above the critical step size or the reverse, or falls or rises for every step size.
        Three claims more are on the next odds of both bands: their mean, their deviation and the
        chance of a rise are those that the row predicts; the chance up to 0.01 and 0.02 times the
        excess kurtosis of what decides, at most 0.15, which its law of three cumulants may err by.
        Under `DataNoise` rows with a velocity predict neither these nor the run, and signs alone
        are tested.

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
    optimizer = as_optimizer(optimizer)
    # Refuses step sizes without a stationary state.
    theory.stationary(problem, step_size, optimizer=optimizer)
    total = checks.integer("num_steps", num_steps, 1, MAX_STEPS)
    count = checks.integer("states", states, 1, MOST)
    draws = checks.integer("repeats", repeats, 1, MOST)
    checks.choice("engine", engine, probed_engines())
    times = np.unique(np.geomspace(1, total, count).astype(np.int64))
    rows_at = np.unique(np.geomspace(1, total, PHASE_ROWS).astype(np.int64))
    of_state = problem.noise.depends_on_state
    pairs = np.minimum(rows_at + 1, total) if of_state else rows_at
    at = np.union1d(np.union1d(times, rows_at), pairs)
    run = Run(
        problem, ConstantStep(step_size), total, seed=seed, engine=engine, record_at=at,
        optimizer=optimizer,
    )  # fmt: skip
    simulator = make_probed(run)
    prober = (VelocityProber if optimizer.has_velocity else Prober)(Trials(simulator, draws))
    rows = [simulator.initial_row()]
    for time in reports.over(times, "state", visible=progress):
        rows.append(simulator.advance(int(time) - simulator.step))
        prober.probe(simulator.planes)
    return Report(prober.judge() + _of_all_rows(run, Rows.joined(rows)))


def _of_all_rows(run: Run, rows: Rows) -> list[Claim]:
    """Return the claim on a run's rows, nothing for mini-batches with a velocity."""
    has_velocity, of_state = run.optimizer.has_velocity, run.problem.noise.depends_on_state
    if has_velocity and of_state:
        return []
    columns = {name: getattr(rows, name) for name in recorded(has_velocity=has_velocity)}
    trace = Trace.from_columns(run, "complete", columns)
    return [steps_follow(trace) if of_state else two_phases(trace)]
