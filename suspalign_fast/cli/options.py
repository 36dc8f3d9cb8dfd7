"""Options that several commands share, and what their texts stand for."""

import math
from collections.abc import Callable
from pathlib import Path

import click

from .. import _threads, devices, texts
from ..optimizer import Optimizer
from ..plot import SIDES, SIZES, check_size
from ..problem import Quadratic
from ..stability import Weights
from ..step_size import StepSize
from .output import warn

Command = Callable[..., None]

DEVICES = click.Choice((*devices.DEVICES, "auto"))


def added(command: Command, *options: Callable[[Command], Command]) -> Command:
    """Return a command with more options, in the order in which help lists them."""
    for option in reversed(options):
        command = option(command)
    return command


def picture(command: Command) -> Command:
    """Add the options that describe a picture."""
    size = "x".join(map(str, SIZES[3]))
    return added(
        command,
        click.option("--log-alignment", is_flag=True, help="Draw alignment on a logarithmic axis."),
        click.option(
            "--size",
            metavar="WIDTHxHEIGHT",
            help=f"Size of the picture in inches.  [default: {size} for a trace]",
        ),
    )


def effort(command: Command) -> Command:
    """Add the options that say how many threads work and who watches."""
    return added(
        command,
        click.option("--threads", type=int, help="Number of threads.  [default: all]"),
        click.option("--quiet", is_flag=True, help="No progress bar."),
    )


#: The option of commands that run.
allow_divergence = click.option(
    "--allow-divergence", is_flag=True, help="Exit with status 0 where the run diverges, too."
)


def threads(given: int | None) -> int | None:
    """Return the number of threads, with a warning where the machine has fewer."""
    most = _threads.available()
    if given is None or given <= most:
        return given
    warn(f"--threads {given}: this machine has {most}, which it takes")
    return most


def step_size(text: str) -> float | StepSize:
    """Return a number or a rule like ``critical:0.9``."""
    part = texts.rule("--step-size", text)
    if part.name == texts.CONSTANT:
        (value,) = part.values.values()
        return float(value)
    try:
        rule: StepSize = part.made()
    except ValueError as error:
        raise ValueError(f"--step-size {text}: {error}") from None
    return rule


def step_size_of(problem: Quadratic, update: Weights, optimizer: Optimizer) -> float:
    """Return the step size of a problem for which none is given: two digits of its share."""
    edge = problem.noise.stability(problem.spectrum, 0.0, update, optimizer).largest
    return float(f"{SHARE * edge:.1e}") if math.isfinite(edge) else SHIPPED


#: Step size on the shipped spectrum where none is given, and on others as a share of the edge of
#: stability: about that of the shipped one.
SHIPPED, SHARE = 0.1, 0.25
STEP_SIZE_DEFAULT = (
    f"  [default: {SHIPPED:g} on the shipped spectrum, "
    "a quarter of the largest stable one on others]"
)


def size(text: str | None) -> tuple[float, float] | None:
    """Return width and height in inches."""
    if text is None:
        return None
    try:
        return check_size([float(side) for side in text.lower().split("x")])
    except ValueError:
        expected = f"WIDTHxHEIGHT in inches, {SIDES}, like 7.5x6"
        raise ValueError(f"--size must be {expected}, got {text!r}") from None


def update(text: str) -> str | tuple[float, float]:
    """Return the name of an update or its two weights."""
    return texts.update("--update", text)


def check_free(picture: Path, overwrite: bool) -> None:
    """Raise FileExistsError where a picture is in the way."""
    if picture.exists() and not overwrite:
        raise FileExistsError(f"{picture} already exists; use --overwrite or another --output")
