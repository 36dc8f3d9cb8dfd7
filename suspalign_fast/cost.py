"""How long a run will take, before it starts: rough, within a factor of two."""

import dataclasses
import time

import numba

from .kernels.batch import BATCH, only_normals
from .kernels.normals import GROUP, seed_key
from .kernels.plan import BLOCK
from .run import Run
from .step_size import KnownStepSize

#: Work of a coordinate in units of one normal, and of a level and row in seconds.
STEP_NORMALS, JUMP_NORMALS, REFERENCE_NORMALS = 1.8, 2.2, 120.0
LEVEL_SECONDS, ROW_SECONDS = 6e-8, 4e-7
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
    spectrum = run.problem.spectrum
    known = isinstance(run.step_size, KnownStepSize)
    rows = run.num_rows if known else run.num_steps + 1
    if run.engine == "levels":
        return rows * (ROW_SECONDS + LEVEL_SECONDS * spectrum.num_levels)
    threads = num_threads or numba.get_num_threads()
    threads = max(1, min(threads, spectrum.dim // BLOCK))
    if run.engine == "jump":
        return rows * spectrum.dim * JUMP_NORMALS * normal / threads
    if run.engine == "reference":
        return run.num_steps * spectrum.dim * REFERENCE_NORMALS * normal
    return run.num_steps * spectrum.dim * STEP_NORMALS * normal / threads


def faster_engine(run: Run, num_threads: int | None, normal: float) -> tuple[str, float] | None:
    """Return an engine of the same law that takes far less time, and its time; None without one."""
    now = estimate_seconds(run, num_threads, normal)
    known = isinstance(run.step_size, KnownStepSize)
    others = [
        (estimate_seconds(dataclasses.replace(run, engine=engine), num_threads, normal), engine)
        for engine in ("levels", "jump")
        if engine != run.engine and (known or engine == "levels")
    ]
    if run.engine == "reference" or not others or now < HINT_SECONDS:
        return None
    best, engine = min(others)
    return (engine, best) if now > HINT_FACTOR * best else None
