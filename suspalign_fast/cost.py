"""How long a run will take, before it starts: rough, within a factor of two."""

import dataclasses
import time

import numba

from .kernels.batch import BATCH, only_normals
from .kernels.normals import GROUP, seed_key
from .run import Run
from .spec import ENGINES
from .step_size import KnownStepSize

#: Another engine is worth a hint where it saves this factor and the run takes this many seconds.
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
    run : Run
    num_threads : int or None
        None for all.
    normal : float
        From `seconds_per_normal`.
    """
    threads = num_threads or numba.get_num_threads()
    return float(ENGINES[run.engine].seconds(run, threads, normal))


def faster_engine(run: Run, num_threads: int | None, normal: float) -> tuple[str, float] | None:
    """Return an engine of the same law that takes far less time, and its time; None without one."""
    now = estimate_seconds(run, num_threads, normal)
    known = isinstance(run.step_size, KnownStepSize)
    others = [
        (estimate_seconds(dataclasses.replace(run, engine=name), num_threads, normal), name)
        for name in ENGINES.names()
        if name != run.engine
        and ENGINES[name].is_exact_in_law
        and (known or not ENGINES[name].needs_known_steps)
    ]
    if ENGINES[run.engine].is_oracle or not others or now < HINT_SECONDS:
        return None
    best, engine = min(others)
    return (engine, best) if now > HINT_FACTOR * best else None
