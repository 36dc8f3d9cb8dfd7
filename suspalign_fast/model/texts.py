"""Noise models, step-size rules and updates by texts and tables, as options and files have them.

A part of a run is written as a name and its numbers, ``data:32,0.5`` or ``critical:0.9``, or as a
table of its fields. Names are those of the registries.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..base import checks
from ..base.registry import NOISES, RULES, Registry, takes_numbers, takes_one_number
from .optimizer import PLAIN, Momentum, Optimizer

#: The rule that a number alone stands for.
CONSTANT = "constant"


class Part(NamedTuple):
    """A noise model or a rule: the name of its class and some of its fields."""

    kind: str
    name: str
    values: dict[str, Any]

    @property
    def cls(self) -> type[Any]:
        """Its class."""
        return REGISTRIES[self.kind][self.name]

    @property
    def fields(self) -> dict[str, Any]:
        """All fields by name."""
        return {field.name: field for field in dataclasses.fields(self.cls)}

    def is_whole(self, name: str) -> bool:
        """Whether a field is an integer."""
        return self.fields[name].type in (int, "int")

    def made(self, values: Mapping[str, Any] | None = None) -> Any:
        """Return the instance, some fields replaced; floats without a fraction may be integers."""
        given = self.values | dict(values or {})
        for name, field in self.fields.items():
            value = given.get(name)
            if self.is_whole(name) and isinstance(value, float) and value.is_integer():
                given[name] = int(value)
            elif name not in given and field.default is dataclasses.MISSING:
                raise ValueError(f"{self.kind} {self.name!r} needs {name}")
        arguments = {name: f.metadata.get("argument", name) for name, f in self.fields.items()}
        return self.cls(**{arguments.get(name, name): value for name, value in given.items()})


#: Where the names of parts are registered, by what they are.
REGISTRIES: dict[str, Registry[Any]] = {registry.kind: registry for registry in (NOISES, RULES)}


def rules() -> list[str]:
    """Return the names of the rules that a single number makes."""
    names = (name for name in RULES.names() if takes_one_number(RULES[name]))
    return [name for name in names if name != CONSTANT]


def noises() -> list[str]:
    """Return the names of the noise models that numbers make."""
    return [name for name in NOISES.names() if takes_numbers(NOISES[name])]


def described_rules() -> list[str]:
    """Return the rules, each with what its number is."""
    first = {name: dataclasses.fields(RULES[name])[0].name for name in rules()}
    return [f"{name}:{field.upper()}" for name, field in first.items()]


def described_noises() -> list[str]:
    """Return the noise models, with their numbers where they need several."""
    shown = []
    for name in noises():
        numbers = [field.name.upper() for field in dataclasses.fields(NOISES[name])]
        shown.append(name if len(numbers) == 1 else f"{name}:{','.join(numbers)}")
    return shown


def noise(said: str, text: str) -> Part:
    """Return the noise model of a name, or of one with its numbers like ``data:32,0.5``."""
    name, colon, numbers = text.partition(":")
    expected = f"{said} must be one of {', '.join(described_noises())}, got {text!r}"
    if name not in noises():
        raise ValueError(expected)
    fields = dataclasses.fields(NOISES[name])
    try:
        values = [_number(part) for part in numbers.split(",")] if colon else []
    except ValueError:
        raise ValueError(expected) from None
    needed = sum(field.default is dataclasses.MISSING for field in fields)
    if values and not needed <= len(values) <= len(fields):
        raise ValueError(expected)
    listed = zip(fields, values, strict=False)
    return Part(NOISES.kind, name, {field.name: value for field, value in listed})


def rule(said: str, text: str) -> Part:
    """Return the rule of a number, or of a name with one like ``critical:0.9``."""
    kind, colon, number = text.rpartition(":")
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    known = kind in RULES and takes_one_number(RULES[kind])
    if (colon and not known) or np.isnan(value):
        raise ValueError(
            f"{said} must be a number or one of {', '.join(rules())} with a number like "
            f"'critical:0.9', got {text!r}"
        )
    name = kind or CONSTANT
    return Part(RULES.kind, name, {dataclasses.fields(RULES[name])[0].name: value})


def update(said: str, text: str) -> str | tuple[float, float]:
    """Return the name of an update or the two weights of a text like ``1,0.5``."""
    if "," not in text:
        return text
    try:
        dominant, bulk = map(float, text.split(","))
    except ValueError:
        raise ValueError(f"{said} must be two weights like '1,0.5', got {text!r}") from None
    return dominant, bulk


def optimizer(said: str, momentum: Any, *, nesterov: bool = False) -> Optimizer:
    """Return momentum that keeps such a share of the velocity, plain SGD where it is None."""
    if momentum is None:
        if nesterov:
            raise ValueError(f"nesterov must go with {said}, and there is none")
        return PLAIN
    try:
        return Momentum(momentum, nesterov=nesterov)
    except ValueError as error:
        raise ValueError(f"{said}{str(error).removeprefix('beta')}") from None


def described_optimizer(optimizer: Optimizer) -> str:
    """Return an optimizer in words."""
    if not isinstance(optimizer, Momentum):
        return "plain SGD"
    return f"{'Nesterov momentum' if optimizer.nesterov else 'momentum'} {optimizer.beta:g}"


def logarithmic(rows: int, steps: int) -> NDArray[np.int64]:
    """About `rows` increasing steps from 0 to `steps`, evenly spaced on a logarithmic axis."""
    count = checks.integer("rows", rows, 2)
    last = checks.integer("num_steps", steps, 1)
    middle = [min(round(step), last) for step in np.geomspace(1, last, count - 1).tolist()]
    return np.unique(np.array([0, *middle, last], dtype=np.int64))


def _number(text: str) -> float:
    """Return an integer where a text is one."""
    try:
        return int(text)
    except ValueError:
        return float(text)
