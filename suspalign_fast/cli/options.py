"""Options that several commands share, and what their texts stand for."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from .. import _checks, _threads, devices
from ..noise import Noise
from ..plot import LARGEST, SIZES, SMALLEST, check_size
from ..problem import Quadratic
from ..spec import NOISES, RULES, takes_numbers, takes_one_number
from ..spectrum import Spectrum
from ..step_size import StepSize
from .output import warn

Command = Callable[..., None]

#: What options may name: classes that a single number makes.
RULES_OF_A_NUMBER = [
    name for name in RULES.names() if takes_one_number(RULES[name]) and name != "constant"
]
NOISES_OF_NUMBERS = [name for name in NOISES.names() if takes_numbers(NOISES[name])]


def rules() -> list[str]:
    """Return the rules that options may name, each with what its number is."""
    first = {name: dataclasses.fields(RULES[name])[0].name for name in RULES_OF_A_NUMBER}
    return [f"{name}:{field.upper()}" for name, field in first.items()]


def noises() -> list[str]:
    """Return the noise models that options may name, with their numbers where they need several."""
    shown = []
    for name in NOISES_OF_NUMBERS:
        numbers = [field.name.upper() for field in dataclasses.fields(NOISES[name])]
        shown.append(name if len(numbers) == 1 else f"{name}:{','.join(numbers)}")
    return shown


DEVICES = click.Choice((*devices.DEVICES, "auto"))


def _added(command: Command, *options: Callable[[Command], Command]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def problem(command: Command) -> Command:
    """Add the options that describe a problem."""
    return _added(
        command,
        click.option(
            "--spectrum",
            "spectrum_file",
            type=click.Path(path_type=Path),
            help="Spectrum file (Spectrum.save).  [default: the shipped spectrum of a network]",
        ),
        click.option("--noise", default="hessian", help=f"Noise model: {', '.join(noises())}."),
        click.option("--noise-std", type=float, default=0.3, help="Noise standard deviation."),
        click.option("--initial", type=float, default=10.0, help="Std of initial coefficients."),
    )


def picture(command: Command) -> Command:
    """Add the options that describe a picture."""
    size = "x".join(map(str, SIZES[3]))
    return _added(
        command,
        click.option("--log-alignment", is_flag=True, help="Draw alignment on a logarithmic axis."),
        click.option(
            "--size",
            metavar="WIDTHxHEIGHT",
            help=f"Size of the picture in inches.  [default: {size}]",
        ),
    )


def effort(command: Command) -> Command:
    """Add the options that say how many threads work and who watches."""
    return _added(
        command,
        click.option("--threads", type=int, help="Number of threads.  [default: all]"),
        click.option("--quiet", is_flag=True, help="No progress bar."),
    )


def load_problem(source: Path, model: str, noise_std: float, initial: float) -> Quadratic:
    """Return the problem that the options describe."""
    made = noise(model, noise_std)
    return Quadratic(Spectrum.load(source), noise=made, initial=initial)


def noise(text: str, std: float) -> Noise:
    """Return the noise model of a name, or of one with all its numbers like ``data:32,0.5``."""
    name, _, numbers = text.partition(":")
    expected = f"--noise must be one of {', '.join(noises())}, got {text!r}"
    if name not in NOISES_OF_NUMBERS:
        raise ValueError(expected)
    cls = NOISES[name]
    if not numbers and takes_one_number(cls):
        made: Noise = cls(std)
        return made
    try:
        values = [_number(part) for part in numbers.split(",")]
    except ValueError:
        raise ValueError(expected) from None
    fields = dataclasses.fields(cls)
    needed = sum(field.default is dataclasses.MISSING for field in fields)
    if not needed <= len(values) <= len(fields):
        raise ValueError(expected)
    try:
        made = cls(*values)
    except ValueError as error:
        raise ValueError(f"--noise {text}: {error}") from None
    return made


def _number(text: str) -> float:
    """Return an integer where a text is one."""
    try:
        return int(text)
    except ValueError:
        return float(text)


def threads(given: int | None) -> int | None:
    """Return the number of threads, with a warning where the machine has fewer."""
    most = _threads.available()
    if given is None or given <= most:
        return given
    warn(f"--threads {given}: this machine has {most}, which it takes")
    return most


def step_size(text: str) -> float | StepSize:
    """Return a number or a rule like ``critical:0.9``."""
    kind, _, number = text.rpartition(":")
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    known = kind in RULES and takes_one_number(RULES[kind])
    if (":" in text and not known) or np.isnan(value):
        raise ValueError(
            f"--step-size must be a number or one of {', '.join(RULES_OF_A_NUMBER)} with a number "
            f"like 'critical:0.9', got {text!r}"
        )
    if not kind:
        return value
    try:
        rule: StepSize = RULES[kind](value)
    except ValueError as error:
        raise ValueError(f"--step-size {text}: {error}") from None
    return rule


def size(text: str | None) -> tuple[float, float] | None:
    """Return width and height in inches."""
    if text is None:
        return None
    try:
        return check_size([float(side) for side in text.lower().split("x")])
    except ValueError:
        expected = f"WIDTHxHEIGHT in inches, each from {SMALLEST:g} to {LARGEST:g}, like 7.5x6"
        raise ValueError(f"--size must be {expected}, got {text!r}") from None


def update(text: str) -> str | tuple[float, float]:
    """Return the name of an update or its two weights."""
    if "," not in text:
        return text
    try:
        dominant, bulk = map(float, text.split(","))
    except ValueError:
        raise ValueError(f"--update must be two weights like '1,0.5', got {text!r}") from None
    return dominant, bulk


def logarithmic(rows: int, steps: int) -> Any:
    """About `rows` increasing steps from 0 to `steps`, evenly spaced on a logarithmic axis."""
    count = _checks.integer("rows", rows, 2)
    last = _checks.integer("num_steps", steps, 1)
    middle = [min(round(step), last) for step in np.geomspace(1, last, count - 1).tolist()]
    return np.unique(np.array([0, *middle, last], dtype=np.int64))
