"""Means and standard deviations from many runs, where there is no exact theory or to test it."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks
from .ensemble import simulate_ensemble
from .optimizer import PLAIN, Optimizer
from .problem import Quadratic
from .run import MAX_STEPS, EngineName, Update
from .step_size import ConstantStep, Schedule, StepSizeLike, as_step_size
from .theory import MOMENTS, Expected
from .trace import Trace

Array = NDArray[np.float64]
#: Runs, at most.
MOST_RUNS = 2**31


def estimate(
    problem: Quadratic,
    step_size: StepSizeLike,
    steps: ArrayLike,
    *,
    runs: int = 1000,
    seed: int = 0,
    engine: EngineName | Literal["auto"] = "levels",
    update: Update = "full",
    optimizer: Optimizer = PLAIN,
    num_threads: int | None = None,
    progress: bool = False,
) -> Expected[Array]:
    """Return means and standard deviations of loss and alignment over many runs.

    What `theory.expected` returns exactly where it can, sampled: under step-size rules, and of what
    has no closed form under `DataNoise`.

    Parameters
    ----------
    problem : Quadratic
    step_size : float, array_like, StepSize or numba function
        As in `simulate`; a schedule must reach to the last step.
    steps : int or array_like of int, shape (times,)
        Steps t >= 0, in any order.
    runs : int
        Number of runs, at least 2; a mean errs by the standard deviation over its root.
    seed : int
        Of the first run; the others follow.
    engine : {"levels", "step", "jump", "reference", "auto"}
        "levels" has the exact law at a cost that the dimension does not enter, and takes
        compressed spectra.
    update, optimizer, num_threads, progress
        As in `simulate_ensemble`.

    Returns
    -------
    Expected
        With no ``unknown``. Where a run has diverged, the means of losses are infinite, deviations
        and what concerns the alignment NaN.

    Raises
    ------
    ValueError
        If an argument is not as described.

    Examples
    --------
    >>> import suspalign_fast as sa
    >>> spectrum = sa.Spectrum.two_level(10**6, 100, 5.0, 1.0)
    >>> problem = sa.Quadratic(spectrum, sa.DataNoise(batch_size=10**6, label_std=0.5))
    >>> found = sa.estimate(problem, 0.1, [0, 10, 100], runs=50)
    >>> found.alignment_mean.shape
    (3,)
    """
    count = _checks.integer("runs", runs, 2, MOST_RUNS)
    first = _checks.integer("seed", seed, 0, 2**64 - count)
    times = np.atleast_1d(_checks.array("steps", steps, "integers of at least 0"))
    if times.ndim != 1 or times.size == 0 or times.dtype.kind not in "iu" or times.min() < 0:
        raise _checks.wrong("steps", steps, "integers of at least 0, one or a flat array of them")
    at, place = np.unique(times.astype(np.int64), return_inverse=True)
    last = _checks.integer("steps", int(at[-1]), 0, MAX_STEPS)
    rule: Any = as_step_size(step_size)
    if isinstance(rule, Schedule):
        rule = Schedule(rule.sizes[:last])
    traces = simulate_ensemble(
        problem,
        rule,
        last,
        seeds=range(first, first + count),
        record_at=at,
        engine=engine,
        update=update,
        optimizer=optimizer,
        num_threads=num_threads,
        progress=progress,
    )
    moments: dict[str, Any] = {name: _moment(traces, name, at)[place] for name in MOMENTS}
    stable = None
    if type(rule) is ConstantStep:
        run = traces[0].run
        stable = problem.noise.stability(problem.spectrum, rule.value, run.update, run.optimizer)
    return Expected(times.astype(np.int64), **moments, stability=stable)


def _moment(traces: Sequence[Trace], name: str, at: NDArray[np.int64]) -> Array:
    """Mean or standard deviation of a column at steps, in the order of `at`."""
    column, _, kind = name.rpartition("_")
    values = np.full((len(traces), at.size), np.nan if column == "alignment" else np.inf)
    for row, trace in zip(values, traces, strict=True):
        rows = trace[column][np.isin(trace.step, at)]
        row[: rows.size] = rows
    with np.errstate(invalid="ignore", over="ignore"):
        result: Array = values.mean(axis=0) if kind == "mean" else values.std(axis=0, ddof=1)
    return result
