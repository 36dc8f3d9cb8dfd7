"""Options that several commands share, and the values that their texts stand for."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ..base import threads as _threads
from ..base.registry import takes_one_number
from ..model import devices, texts
from ..model.noise import Noise
from ..model.optimizer import Optimizer
from ..model.problem import Quadratic
from ..model.spectrum.named import FAMILIES, Family, digits_mlp_path
from ..model.spectrum.spectrum import Spectrum
from ..model.stability import Weights
from ..model.step_size import StepSize
from ..pictures.trace import SIDES, SIZES, check_size
from .console import warn

Command = Callable[..., None]

DEVICES = click.Choice((*devices.DEVICES, "auto"))


def add_options(command: Command, *options: Callable[[Command], Command]) -> Command:
    """Return a command with more options, listed by help in this order."""
    for option in reversed(options):
        command = option(command)
    return command


def picture(command: Command) -> Command:
    """Add the options that describe a picture."""
    size = "x".join(map(str, SIZES[3]))
    return add_options(
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
    return add_options(
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
    if given is None or given <= _threads.available():
        return given
    warn(_threads.excess(f"--threads {given}"))
    return _threads.available()


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


def usual_step_size(
    source: "Source", problem: Quadratic, update: Weights, optimizer: Optimizer
) -> float:
    """Return the step size where none is given: two digits of its share of the edge."""
    if source.is_shipped:
        return SHIPPED
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


# --- Options that describe an optimizer ----------------------------------------------------------


def optimizer_options(command: Command) -> Command:
    """Add the options of an optimizer; the command gets it as `optimizer`."""

    @functools.wraps(command)
    def with_optimizer(*, momentum: float | None, nesterov: bool, **given: Any) -> None:
        command(optimizer=texts.optimizer("--momentum", momentum, nesterov=nesterov), **given)

    return add_options(
        with_optimizer,
        click.option(
            "--momentum",
            type=float,
            metavar="BETA",
            help="Share of the velocity that is kept in a step, from 0 to below 1.  "
            "[default: plain SGD]",
        ),
        click.option("--nesterov", is_flag=True, help="Nesterov's momentum, not the heavy ball."),
    )


# --- Options that describe a problem: exactly one source of its spectrum, its noise, its start ---


#: Options of families whose names differ from theirs.
RENAMED = {"file": "--spectrum"}


@dataclass(frozen=True)
class Source:
    """Where a spectrum comes from."""

    family: Family
    text: str
    values: dict[str, Any]
    is_shipped: bool = False

    @property
    def label(self) -> str:
        """Name it in a line of output."""
        return Path(self.text).name if self.family.is_file else f"{self.family.name} {self.text}"

    def spectrum(self) -> Spectrum:
        """Load or make it."""
        try:
            return self.family.spectrum(self.values)
        except ValueError as error:
            raise ValueError(f"{option_of(self.family)} {self.text}: {error}") from None


def option_of(family: Family) -> str:
    """Return the option that names a family."""
    return RENAMED.get(family.name, "--" + family.name.replace("_", "-"))


def problem(command: Command) -> Command:
    """Add the options that describe a problem; the command gets them as `asked`."""

    @functools.wraps(command)
    def with_problem(
        *, num_dominant: int | None, noise: str, noise_std: float, initial: float, **given: Any
    ) -> None:
        named = {name: given.pop(f"family_{name}") for name in FAMILIES}
        asked = Asked(source(named, num_dominant), noise, noise_std, initial)
        command(asked=asked, **given)

    return add_options(
        with_problem,
        *(_option(family) for family in FAMILIES.values()),
        click.option(
            "--num-dominant",
            type=int,
            metavar="K",
            help="Dominant directions, where a file does not say it.",
        ),
        click.option(
            "--noise",
            default="hessian",
            help=f"Noise model: {', '.join(texts.described_noises())}.",
        ),
        click.option("--noise-std", type=float, default=0.3, help="Noise standard deviation."),
        click.option("--initial", type=float, default=10.0, help="Std of initial coefficients."),
    )


def _option(family: Family) -> Callable[[Command], Command]:
    about = family.about[0].upper() + family.about[1:]
    default = "  [default: the shipped spectrum of a network]" if family.name == "file" else ""
    if family.is_file:
        return click.option(
            option_of(family),
            f"family_{family.name}",
            metavar=family.example,
            help=f"{about}.{default}",
        )
    return click.option(
        option_of(family),
        f"family_{family.name}",
        metavar="VALUES",
        help=f"{about}: {', '.join(family.parameters)}, in this order or as NAME=VALUE, "
        f"like {family.example}.",
    )


def source(named: dict[str, str | None], num_dominant: int | None) -> Source:
    """Return the source that options name, by default the shipped spectrum of a network."""
    given = {name: text for name, text in named.items() if text is not None}
    if len(given) > 1:
        found = " and ".join(f"{option_of(FAMILIES[name])} {text}" for name, text in given.items())
        raise ValueError(f"a problem must have one source of its spectrum, got {found}")
    name, text = next(iter(given.items()), ("file", str(digits_mlp_path())))
    family = FAMILIES[name]
    values: dict[str, Any] = {"path": text} if family.is_file else _listed(family, text)
    if num_dominant is not None:
        if not family.is_file or "num_dominant" not in family.parameters:
            raise ValueError(
                f"--num-dominant must go with --eigenvalues FILE.npy, got {num_dominant} with "
                f"{option_of(family)}, which says it"
            )
        values["num_dominant"] = num_dominant
    elif family.is_file and "num_dominant" in family.needed:
        raise ValueError(f"{option_of(family)} {text} must have --num-dominant K beside it")
    return Source(family, text, values, is_shipped=not given)


def _listed(family: Family, text: str) -> dict[str, Any]:
    try:
        return family.values(text)
    except ValueError as error:
        raise ValueError(
            f"{option_of(family)} must be {', '.join(family.parameters)}, in this order or as "
            f"NAME=VALUE, like {family.example}, got {text!r}: {error}"
        ) from None


@dataclass(frozen=True)
class Asked:
    """The problem that options describe, not yet made."""

    source: Source
    noise: str
    noise_std: float
    initial: float

    def load(self) -> Quadratic:
        """Make it."""
        model = noise(self.noise, self.noise_std)
        return Quadratic(self.source.spectrum(), noise=model, initial=self.initial)


def noise(text: str, std: float) -> Noise:
    """Return the noise model of a name, or of one with all its numbers like ``data:32,0.5``."""
    part = texts.noise("--noise", text)
    by_name = not part.values
    if by_name and not takes_one_number(part.cls):
        expected = f"one of {', '.join(texts.described_noises())}"
        raise ValueError(f"--noise must be {expected}, got {text!r}")
    try:
        made: Noise = part.made({next(iter(part.fields)): std} if by_name else None)
    except ValueError as error:
        if by_name:
            raise
        raise ValueError(f"--noise {text}: {error}") from None
    return made
