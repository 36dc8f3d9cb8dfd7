"""Problems, runs and traces in lines of text."""

from pathlib import Path
from typing import Any

from .. import _threads, _words, texts
from ..cost import estimate_seconds, faster_engine, seconds_per_normal
from ..optimizer import PLAIN, Optimizer
from ..run import Run
from ..spectrum import Spectrum
from ..summary import Course, courses
from ..trace import Trace
from .output import say


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
    """Say last what went wrong, or how to go on."""
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
            "status": f"{plain(trace.status)}, {len(trace):,} rows",
            "source": plain(trace.source),
        }
    run, spec = trace.run, trace.spec
    lines = {
        "status": f"{trace.status}, {len(trace):,} of {run.num_rows:,} rows",
        "spectrum": spectrum(run.problem.spectrum),
    }
    for name in ("engine", "device", "noise", "initial", "step_size", "update", "num_steps"):
        lines[name] = plain(spec[name])
    lines["optimizer"] = texts.described_optimizer(run.optimizer)
    given = run.record_at is not None
    every = "at given steps" if given else f"every {run.record_every} steps"
    return lines | {"seed": f"{run.seed}, recorded {every}"}


def plain(value: Any) -> str:
    """Return a part of a run's description on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {plain(v)}" for k, v in value.items())
    return _words.plain(value)


def file_size(path: Path) -> str:
    """Return the size of a file."""
    size = path.stat().st_size
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
