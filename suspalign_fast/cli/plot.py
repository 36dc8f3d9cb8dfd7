"""The command that draws: a trace, or a study."""

from pathlib import Path
from typing import Any

import click

from ..pictures.study import plot_study
from ..pictures.trace import check_ending, plot_trace
from ..studies.reading import is_study, read_study
from ..traces.trace_file import load_trace
from . import options, text
from .commands import main
from .console import say


@main.command("plot")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Picture; its ending chooses the format.  [default: FILE with .png]",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing picture.")
@click.option("--variable", help="What is drawn of a study.  [default: alignment]")
@click.option("--at", type=int, metavar="STEP", help="Step of a study.  [default: the last]")
@click.option(
    "--select",
    multiple=True,
    metavar="NAME=VALUE",
    help="Value at which an axis of a study is held; may be repeated.",
)
@click.option(
    "--log/--linear",
    default=None,
    show_default=False,
    help="Scale of the values of a study.  [default: by their range]",
)
@options.picture
def plot_command(
    file: Path,
    output: Path | None,
    overwrite: bool,
    variable: str | None,
    at: int | None,
    select: tuple[str, ...],
    log: bool | None,
    log_alignment: bool,
    size: str | None,
) -> None:
    """Draw a trace FILE, or a study: the netCDF file of a sweep.

    Of a trace: alignment, losses and step size. Of a study: a heat map over two axes, with standard
    errors over one, along the steps without an axis.
    """
    picture = file.with_suffix(".png") if output is None else output
    check_ending(picture, "--output")
    if picture == file:
        raise ValueError(f"--output must not be the file that is drawn, got '{picture}'")
    inches = options.size(size)
    of_study: dict[str, Any] = {
        "variable": variable,
        "at": at,
        "select": _selected(select) or None,
        "log": log,
    }
    given = {name: value for name, value in of_study.items() if value is not None}
    if is_study(file):
        if log_alignment and given.get("variable", "alignment") == "alignment":
            given.setdefault("log", True)
        dataset = read_study(file)
        options.check_free(picture, overwrite)
        plot_study(dataset, picture, size=inches, **given)
    else:
        trace = load_trace(file)
        if given:
            name, value = next(iter(given.items()))
            raise ValueError(f"--{name} must go with a study, got {_shown(value)} for a trace")
        options.check_free(picture, overwrite)
        plot_trace(trace, picture, log_alignment=log_alignment, size=inches)
    say(f"wrote {picture} ({text.file_size(picture)})")


def _selected(pairs: tuple[str, ...]) -> dict[str, str]:
    """Return the values of axes by name."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals and value):
            raise ValueError(f"--select must be NAME=VALUE, got {pair!r}")
        if name in found:
            raise ValueError(f"--select must name each axis once, got {name} twice")
        found[name.replace("-", "_")] = value
    return found


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={text}" for name, text in value.items())
    return repr(value)
