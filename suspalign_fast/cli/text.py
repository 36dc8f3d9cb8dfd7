"""Problems, runs and traces in lines of text."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

from ..base import reports, words
from ..base import threads as _threads
from ..base.words import plain
from ..model import texts
from ..model.optimizer import PLAIN, Optimizer
from ..model.run import Run
from ..model.spectrum.spectrum import Spectrum
from ..pictures.grid_axis import value_text
from ..running.cost import estimate_seconds, faster_engine, seconds_per_normal
from ..studies.cases import DONE, ERROR, MISSING
from ..studies.reading import is_own, read_study
from ..traces.trace import Course, Trace, courses
from .console import say, warn


def spectrum(of: Spectrum) -> str:
    """Describe a spectrum."""
    lam, k = of.eigenvalues, of.num_dominant_levels
    return (
        f"d = {of.dim:,}, k = {of.num_dominant:,}, dominant {lam[0]:.4g} .. {lam[k - 1]:.4g}, "
        f"bulk {lam[k]:.4g} .. {lam[-1]:.4g}, gap ratio {of.gap_ratio:.3g}"
    )


def noise(name: str, std: float) -> str:
    """Name a noise model as options do."""
    return f"noise {name}" if ":" in name else f"{name} noise {std:g}"


def optimizer(of: Optimizer) -> str:
    """Name momentum, with a comma; nothing for plain SGD."""
    return "" if of == PLAIN else f"{texts.described_optimizer(of)}, "


def workers(device: str, threads: int | None) -> str:
    """Say who does the work."""
    return "the GPU" if device == "cuda" else f"{threads or _threads.allowed()} threads"


def say_estimate(run: Run, threads: int | None) -> None:
    """Print how long a run will take, and which engine would be far faster."""
    normal = seconds_per_normal()
    seconds = estimate_seconds(run, threads, normal)
    say(f"estimate   about {_duration(seconds)} with engine {run.engine}, once compiled")
    if faster := faster_engine(run, threads, normal):
        engine, less = faster
        say(
            f"hint       --engine {engine} samples the same law at the recorded rows in about "
            f"{_duration(less)}"
        )


def _duration(seconds: float) -> str:
    if seconds < 60.0:
        return f"{max(seconds, 0.1):.1f} s"
    return f"{seconds / 60.0:.0f} min" if seconds < 7200.0 else f"{seconds / 3600.0:.1f} h"


def say_summary(trace: Trace) -> None:
    """Print status, alignment and loss: at the start, at their lowest, at the end."""
    if len(trace) == 0:
        say(f"rows       none: {_why_empty(trace)}")
        return
    say(f"status     {trace.status}")
    for name, course in courses(trace).items():
        say(f"{name:<10} {_marks(course)}")


def _why_empty(trace: Trace) -> str:
    return "the initial state is not finite" if trace.status == "diverged" else trace.status


def _marks(course: Course) -> str:
    names = {"start": course.start, "minimum": course.minimum, "end": course.end}
    return ", ".join(
        f"{mark.value:.4g} at step {mark.step:,} ({name})" for name, mark in names.items() if mark
    )


def say_end(trace: Trace, path: Path) -> None:
    """Print what went wrong, or how to go on."""
    last = (
        f" after step {int(trace.read('step', len(trace) - 1, len(trace))[0]):,}"
        if len(trace)
        else ""
    )
    if trace.status == "diverged":
        reason = "" if trace.problem is None else trace.run.why_unstable()
        say(f"diverged   {'a sum overflowed' + last}{': ' + reason if reason else ''}")
    elif trace.status in ("killed", "interrupted"):
        say(f"{trace.status:<10} go on with: suspalign resume {path}")


def description(trace: Trace) -> dict[str, str]:
    """Describe a trace and its run, line by line."""
    if trace.problem is None:
        return {
            "status": f"{plain_value(trace.status)}, {len(trace):,} rows",
            "source": plain_value(trace.source),
        }
    run, spec = trace.run, trace.spec
    lines = {
        "status": f"{trace.status}, {len(trace):,} of {run.num_rows:,} rows",
        "spectrum": spectrum(run.problem.spectrum),
    }
    for name in ("engine", "device", "noise", "initial", "step_size", "update", "num_steps"):
        lines[name] = plain_value(spec[name])
    lines["optimizer"] = texts.described_optimizer(run.optimizer)
    given = run.record_at is not None
    every = "at given steps" if given else f"every {run.record_every} steps"
    return lines | {"seed": f"{run.seed}, recorded {every}"}


def plain_value(value: Any) -> str:
    """Return a part of a run's description on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {plain_value(v)}" for k, v in value.items())
    return words.plain(value)


def file_size(path: Path) -> str:
    """Return the size of a file."""
    size = path.stat().st_size
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


# --- Studies in lines of text --------------------------------------------------------------------


#: Statuses of runs, in the order in which they are counted.
STATUSES = (*DONE, ERROR, MISSING)
#: Seconds between two looks at a running sweep, or at a running trace.
FOLLOW_SECONDS = 0.5
#: Values of an axis that are printed.
MOST_VALUES = 6


def say_study(file: Path, *, follow: bool) -> None:
    """Print what the file of a study holds, once its sweep has ended if it is to be followed."""
    dataset = _wait_for_end(file) if follow else read_study(file)
    about = dataset.attrs
    say(f"file       {file} ({file_size(file)})")
    say(f"status     {plain(about.get('status', 'unknown'))}")
    if "source" in about:
        say(f"source     {plain(about['source'])}")
    for name in dataset.dims:
        if name in dataset.coords and name != "step":
            say(f"axis       {plain(name)}: {_values(dataset[name].values)}")
    steps = dataset["step"].values
    ends = f", from {steps[0]:,} to {steps[-1]:,}" if steps.size else ""
    say(f"steps      {steps.size:,}{ends}")
    shown = [name for name in dataset.data_vars if name not in ("status", "error")]
    say(f"variables  {', '.join(map(plain, shown))}")
    if "status" in dataset:
        say(f"runs       {count_runs(Counter(dataset.status.values.ravel().tolist()))}")
        first_error(dataset)
    if "left_out" in about:
        say(f"left out   {plain(about['left_out'])}: not numbers or texts along known dimensions")


def count_runs(found: Counter[str], names: dict[str, str] | None = None) -> str:
    """Say how many runs ended how."""
    known = [name for name in STATUSES if name in found]
    return ", ".join(f"{found[name]:,} {(names or {}).get(name, name)}" for name in known)


def first_error(dataset: Any) -> None:
    """Quote the first of the runs that failed."""
    if "error" in dataset and (dataset.status == ERROR).any():
        errors = filter(None, dataset.error.values.ravel().tolist())
        warn(f"the first error: {plain(next(errors, 'unknown'))}")


def _values(values: Any) -> str:
    listed = [value_text(value) for value in values[:MOST_VALUES]]
    more = ", ..." if values.size > MOST_VALUES else ""
    return f"{', '.join(map(plain, listed))}{more} ({values.size:,})"


def _wait_for_end(file: Path) -> Any:
    """Move a progress bar with the runs of a sweep until it ends."""
    dataset = read_study(file)
    total = dataset.status.size if "status" in dataset else 0
    with reports.bar(total, "run", visible=True) as bar:
        while True:
            done = int(dataset.status.isin(DONE).sum()) if total else 0
            bar.update(done - bar.n)
            if dataset.attrs.get("status") != "running" or not is_own(file):
                return dataset
            dataset.close()
            time.sleep(FOLLOW_SECONDS)
            dataset = read_study(file)
