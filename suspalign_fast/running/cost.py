"""How long a run will take, before it starts: rough, within a factor of two."""

import dataclasses
import time
from typing import Literal

from ..base import threads as _threads
from ..base.registry import ENGINES
from ..kernels.normals import BATCH, GROUP, only_normals, seed_key
from ..model.problem import Quadratic
from ..model.run import EngineName, Run
from ..model.step_size import KnownStepSize
from ..theory.expected import largest_step
from ..theory.levels import with_few_levels

#: Seconds that one normal is assumed to take when an engine is chosen.
NOMINAL = 5e-10
#: A hint names a faster engine if it is this many times faster and the run takes this many seconds.
HINT_FACTOR, HINT_SECONDS = 5.0, 2.0


def seconds_per_normal() -> float:
    """Measure the time of one normal on one core."""
    steps = 400
    only_normals(1, 1, *seed_key(0))
    times = []
    for _ in range(3):
        started = time.perf_counter()
        only_normals(1, steps, *seed_key(0))
        times.append(time.perf_counter() - started)
    return min(times) / (BATCH * GROUP * steps)


def estimate_seconds(run: Run, num_threads: int | None, normal: float) -> float:
    """Return the expected time of a run.

    Parameters
    ----------
    num_threads : int or None
        None for all.
    normal : float
        From `seconds_per_normal`.
    """
    threads = num_threads or _threads.allowed()
    return float(ENGINES[run.engine].seconds(run, threads, normal))


def cheapest(run: Run) -> Run:
    """Return the run of the same law that takes the least time: that of ``engine="auto"``.

    Its engine is "step", or one that is exact in law; its spectrum may be a compressed one, where
    noise and initial state are smooth in lambda. Times are nominal ones, the same on every machine.

    Parameters
    ----------
    run : Run
        Of whatever engine.
    """
    few = _few(run)
    bases = [run] if few is run.problem else [run, dataclasses.replace(run, problem=few)]
    candidates = [
        dataclasses.replace(base, engine=name)
        for base in bases
        for name in ENGINES.names()
        if (name == "step" or ENGINES[name].is_exact_in_law) and ENGINES[name].takes(base)
    ]
    return min(candidates, key=lambda r: ENGINES[r.engine].seconds(r, 1, NOMINAL), default=run)


def _few(run: Run) -> Quadratic:
    """Return a problem of few levels with the same law, or the problem itself.

    Rules of this package take steps of at most 1 / lambda_1 unless a user asks for more.
    """
    if run.optimizer.has_velocity:  # the error of a compression is that of plain SGD
        return run.problem
    top = float(run.problem.spectrum.eigenvalues[0])
    largest = 1.0 / top if top > 0.0 else float("nan")
    if isinstance(run.step_size, KnownStepSize):
        largest = largest_step(run.step_size, run.num_steps)
    return with_few_levels(run.problem, largest * max(run.update))


def first_engine(engine: EngineName | Literal["auto"]) -> EngineName:
    """Return the engine of a run until `settled` chooses another one for "auto"."""
    return "step" if isinstance(engine, str) and engine == "auto" else engine


def settled(run: Run, engine: EngineName | Literal["auto"]) -> tuple[Run, str]:
    """Return a run with its engine; under "auto" also a text that names the chosen one."""
    if engine != "auto":
        return run, ""
    chosen = cheapest(run)
    return chosen, _in_words(chosen, run)


def _in_words(chosen: Run, given: Run) -> str:
    """Say which engine was chosen for a run, and for which levels."""
    levels = chosen.problem.spectrum.num_levels
    if chosen.problem is given.problem:
        return chosen.engine
    return (
        f"{chosen.engine} on {levels:,} levels that stand for "
        f"{given.problem.spectrum.num_levels:,}, the same law to "
        f"{chosen.problem.spectrum.compression_error:.0e}"
    )


def faster_engine(run: Run, num_threads: int | None, normal: float) -> tuple[str, float] | None:
    """Return an engine of the same law that takes far less time, and its time; None without one.

    The engine is "auto" where that takes a compressed spectrum.
    """
    now = estimate_seconds(run, num_threads, normal)
    if ENGINES[run.engine].is_oracle or now < HINT_SECONDS:
        return None
    best = cheapest(run)
    then = estimate_seconds(best, num_threads, normal)
    if now <= HINT_FACTOR * then:
        return None
    return (best.engine if best.problem is run.problem else "auto"), then
