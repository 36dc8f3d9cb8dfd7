"""What a study runs at a point of its grid: a problem of a family, and options."""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import texts
from .._checks import describe
from ..problem import Quadratic
from ..spectrum import Spectrum
from ..spectrum.named import FAMILIES
from ..texts import Part

#: Spectra that a worker keeps: points that follow each other often share one.
KEPT = 4
#: Axes beside the values of the family and the fields of noise and rule.
OF_PROBLEM = ("noise", "initial")
OF_RUN = ("step_size", "engine", "device", "dtype", "update")
OF_OPTIMIZER = ("momentum",)


@dataclass(frozen=True)
class StudyCase:
    """The case of a sweep: named values of a family, a noise model and a rule, and a point's own.

    Attributes
    ----------
    family : str
    values : dict
        Of the family.
    noise, step_size : Part or None
        None where each point says it.
    initial : float
    options : dict
        Of each run.
    momentum : float or None
        None for plain SGD.
    nesterov : bool
    folder : str
        Where relative paths start; says nothing of what is run.
    """

    family: str
    values: dict[str, Any]
    noise: Part | None
    step_size: Part | None
    initial: float
    options: dict[str, Any]
    momentum: float | None = None
    nesterov: bool = False
    folder: str = field(default="", repr=False, compare=False)

    def axes(self) -> tuple[str, ...]:
        """Return what a point may say."""
        parts = (part.fields for part in (self.noise, self.step_size) if part is not None)
        fields = (name for of_part in parts for name in of_part)
        return (*FAMILIES[self.family].parameters, *OF_PROBLEM, *OF_RUN, *OF_OPTIMIZER, *fields)

    def is_whole(self, name: str) -> bool:
        """Whether what a point says under a name is an integer."""
        family = FAMILIES[self.family]
        if name in family.parameters:
            return family.is_whole(name)
        parts = (self.noise, self.step_size)
        return any(part is not None and name in part.fields and part.is_whole(name)
                   for part in parts)  # fmt: skip

    def __call__(self, **point: Any) -> tuple[Quadratic, dict[str, Any]]:
        """Return problem and options of a point."""
        parameters = FAMILIES[self.family].parameters
        values = self.values | {name: v for name, v in point.items() if name in parameters}
        spectrum = _spectrum(self.family, tuple(values.items()), self.folder)
        noise = noise_of("noise", point["noise"]) if "noise" in point else self.noise
        problem = Quadratic(spectrum, _made(noise, point), point.get("initial", self.initial))
        options = self.options | {name: point[name] for name in OF_RUN if name in point}
        if isinstance(options.get("update"), str):
            options["update"] = texts.update("update", options["update"])
        rule = rule_of("step_size", point["step_size"]) if "step_size" in point else self.step_size
        momentum = point.get("momentum", self.momentum)
        optimizer = texts.optimizer("momentum", momentum, nesterov=self.nesterov)
        return problem, options | {"step_size": _made(rule, point), "optimizer": optimizer}


def noise_of(said: str, value: Any) -> Part:
    """Return the noise model of a text or a table."""
    return _part(said, value, "model", texts.noise)


def rule_of(said: str, value: Any) -> Part:
    """Return the step size or rule of a number, a text or a table."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = repr(value)
    return _part(said, value, "rule", texts.rule)


def _part(said: str, value: Any, key: str, of_text: Any) -> Part:
    if isinstance(value, dict) and isinstance(value.get(key), str):
        registry = texts.REGISTRIES[said]
        known = registry.names()
        if value[key] not in registry:
            expected = ", ".join(map(repr, known))
            raise ValueError(f"{said}.{key} must be one of {expected}, got {describe(value[key])}")
        part = Part(said, value[key], {name: v for name, v in value.items() if name != key})
        for name in part.values:
            if name not in part.fields:
                fields = ", ".join((key, *part.fields))
                raise ValueError(f"{said} must have no keys but {fields}, got {describe(name)}")
        return part
    if not isinstance(value, str):
        expected = "a text" if said == "noise" else "a number, a text"
        raise ValueError(
            f"{said} must be {expected} or a table with {key} = NAME, got {describe(value)}"
        )
    made: Part = of_text(said, value)
    return made


def _made(part: Part | None, point: dict[str, Any]) -> Any:
    if part is None:
        return None
    return part.made({name: point[name] for name in part.fields if name in point})


@functools.lru_cache(maxsize=KEPT)
def _spectrum(family: str, values: tuple[tuple[str, Any], ...], folder: str) -> Spectrum:
    found = dict(values)
    if FAMILIES[family].is_file and "path" in found:
        found["path"] = str(Path(folder, found["path"]))
    return FAMILIES[family].spectrum(found)
