"""Options that describe a problem: exactly one source of its spectrum, its noise, its start."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from .. import texts
from ..datasets import digits_mlp_path
from ..noise import Noise
from ..problem import Quadratic
from ..spec import takes_one_number
from ..spectrum import Spectrum
from ..spectrum.named import FAMILIES, Family
from .options import Command, added

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
    """Add the options that describe a problem; the command gets them as `source` and others."""

    @functools.wraps(command)
    def with_source(*, num_dominant: int | None, **given: Any) -> None:
        named = {name: given.pop(f"family_{name}") for name in FAMILIES}
        command(source=source(named, num_dominant), **given)

    return added(
        with_source,
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


def load(source: Source, model: str, noise_std: float, initial: float) -> Quadratic:
    """Return the problem that the options describe."""
    made = noise(model, noise_std)
    return Quadratic(source.spectrum(), noise=made, initial=initial)


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
