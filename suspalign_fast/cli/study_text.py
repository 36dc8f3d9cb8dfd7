"""Studies in lines of text."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

from .. import _progress
from .._picture.grid_axis import value_text
from .._words import plain
from ..cases import DONE, ERROR, MISSING
from ..study_netcdf import read_study
from . import text
from .output import say, warn

#: Statuses of runs, in the order in which they are counted.
STATUSES = (*DONE, ERROR, MISSING)
#: Seconds between two looks at a running sweep.
FOLLOW_SECONDS = 0.5
#: Values of an axis that are printed.
MOST_VALUES = 6


def say_study(file: Path, *, follow: bool) -> None:
    """Print what the file of a study holds, once its sweep has ended if it is to be followed."""
    dataset = _followed(file) if follow else read_study(file)
    about = dataset.attrs
    say(f"file       {file} ({text.file_size(file)})")
    say(f"status     {plain(about.get('status', 'unknown'))}")
    if "source" in about:
        say(f"source     {plain(about['source'])}")
    for name in dataset.dims:
        if name in dataset.coords and name != "step":
            say(f"axis       {plain(name)}: {_values(dataset[name].values)}")
    steps = dataset["step"].values
    say(f"steps      {steps.size:,}, from {steps[0]:,} to {steps[-1]:,}")
    shown = [name for name in dataset.data_vars if name not in ("status", "error")]
    say(f"variables  {', '.join(map(plain, shown))}")
    if "status" in dataset:
        say(f"runs       {counted(Counter(dataset.status.values.ravel().tolist()))}")
        first_error(dataset)
    if "left_out" in about:
        say(f"left out   {plain(about['left_out'])}: not numbers or texts along known dimensions")


def counted(found: Counter[str], names: dict[str, str] | None = None) -> str:
    """Say how many runs ended how."""
    known = [name for name in STATUSES if name in found]
    return ", ".join(f"{found[name]:,} {(names or {}).get(name, name)}" for name in known)


def first_error(dataset: Any) -> None:
    """Quote the first of the runs that failed."""
    if (dataset.status == ERROR).any():
        errors = filter(None, dataset.error.values.ravel().tolist())
        warn(f"the first error: {plain(next(errors, 'unknown'))}")


def _values(values: Any) -> str:
    listed = [value_text(value) for value in values[:MOST_VALUES]]
    more = ", ..." if values.size > MOST_VALUES else ""
    return f"{', '.join(map(plain, listed))}{more} ({values.size:,})"


def _followed(file: Path) -> Any:
    """Move a progress bar with the runs of a sweep until it ends."""
    dataset = read_study(file)
    total = dataset.status.size if "status" in dataset else 0
    with _progress.bar(total, "run", visible=True) as bar:
        while True:
            done = int(dataset.status.isin(DONE).sum()) if total else 0
            bar.update(done - bar.n)
            if dataset.attrs.get("status") != "running":
                return dataset
            dataset.close()
            time.sleep(FOLLOW_SECONDS)
            dataset = read_study(file)
