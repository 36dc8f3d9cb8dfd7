"""The command of studies: a TOML file in, a netCDF file out."""

import math
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ..base.executors import Interrupted
from ..studies.cases import DONE, MISSING
from ..studies.reading import is_own
from ..studies.toml import Study, load
from . import console, text
from .commands import main
from .console import say, warn, warned


@main.command()
@click.argument("study", type=click.Path(path_type=Path), metavar="STUDY.toml")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="netCDF file of the results.  [default: STUDY with .nc]",
)
@click.option("--executor", default="threads", metavar="WHERE", help=f"{console.EXPECTED}.")
@click.option("--overwrite", is_flag=True, help="Start anew instead of going on with OUTPUT.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def sweep(study: Path, output: Path | None, executor: str, overwrite: bool, quiet: bool) -> None:
    """Simulate the grid of runs that STUDY.toml describes (docs/studies.md).

    The same command again goes on where it was stopped, or computes what failed to run.
    """
    planned = load(study)
    target = study.with_suffix(".nc") if output is None else output
    if target.suffix == ".toml" or not target.name:
        raise ValueError(f"--output must name the file of the results, got '{target}'")
    _check_target(target)
    say(f"study      {study.name}: {_describe(planned)}")
    again = f"suspalign sweep {study}" + ("" if output is None else f" -o {output}")
    if executor != "threads":
        again += f" --executor {executor}"
    with warned(), _stoppable(f"go on with: {again}"), console.executor(executor) as pool:
        dataset = planned.sweep(path=target, overwrite=overwrite, executor=pool, progress=not quiet)
    _say_runs(dataset, planned, again)
    say(f"file       {target} ({text.file_size(target)})")
    say(f"draw       suspalign plot {target}")


def _check_target(target: Path) -> None:
    """Raise FileExistsError if a file that is no study is in the place of the results."""
    if target.exists() and not (target.is_file() and _is_study(target)):
        raise FileExistsError(f"{target} already exists and is no study; choose another --output")


def _is_study(file: Path) -> bool:
    try:
        return is_own(file)
    except OSError:
        return False


def _describe(study: Study) -> str:
    """Return family, size of the grid and length of the runs."""
    sides = [f"{len(values):,} {name}" for name, values in study.over.items()]
    seeds = len(study.how["seeds"])
    sides += [f"{seeds:,} seeds"] if seeds > 1 else []
    points = math.prod(len(values) for values in study.over.values()) * max(1, seeds)
    what = "runs" if seeds else "points of exact theory"
    grid = f"{' x '.join(sides)} = " if len(sides) > 1 else ""
    return f"{study.case.family}, {grid}{points:,} {what}, {study.num_steps:,} steps"


def _say_runs(dataset: Any, study: Study, again: str) -> None:
    """Print how many runs ended how, and what the first of those that failed said."""
    if "status" not in dataset:
        say(f"points     {math.prod(len(values) for values in study.over.values()):,}")
        return
    found = Counter(dataset.status.values.ravel().tolist())
    has_enough = "until" in study.how
    names = {MISSING: "not needed"} if has_enough else {}
    say(f"runs       {text.count_runs(found, names)}")
    if found.keys() & set(DONE):  # where all failed, the sweep has warned
        text.first_error(dataset)
    if MISSING in found and not has_enough:
        warn(f"{found[MISSING]:,} runs are missing; go on with: {again}")


@contextmanager
def _stoppable(advice: str) -> Iterator[None]:
    """Say how to go on where a signal ends a sweep."""
    try:
        yield
    except KeyboardInterrupt as stop:
        number = getattr(stop, "signal_number", signal.SIGINT)
        raise Interrupted(f"stopped; {advice}", number) from None
