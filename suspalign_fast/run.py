"""Everything that determines the numbers of a run, checked and turned into JSON and back."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _checks
from .noise import DiagonalNoise, HessianNoise, IsotropicNoise, Noise
from .problem import Quadratic
from .spectrum import Spectrum
from .step_size import (
    ConstantStep,
    CriticalStep,
    ForeignStep,
    LossIntervalStep,
    OnlineCriticalStep,
    RowStep,
    Schedule,
    StepSize,
    as_step_size,
)

ENGINES = ("step", "reference")
DEVICES = ("cpu",)
UPDATES = {"full": (1.0, 1.0), "dominant": (1.0, 0.0), "bulk": (0.0, 1.0)}

_RULES: dict[str, Any] = {
    "critical": CriticalStep,
    "loss_interval": LossIntervalStep,
    "online_critical": OnlineCriticalStep,
}

Arrays = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Run:
    """A problem and how to simulate it.

    Parameters are those of `simulate`; see there.
    """

    problem: Quadratic
    step_size: StepSize
    num_steps: int
    seed: int = 0
    record_every: int = 1
    engine: str = "step"
    device: str = "cpu"
    update: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if not isinstance(self.problem, Quadratic):
            raise _checks.wrong("problem", self.problem, "a Quadratic")
        checked = {
            "step_size": as_step_size(self.step_size),
            "num_steps": _checks.integer("num_steps", self.num_steps, 0, 2**62),
            "seed": _checks.integer("seed", self.seed, 0, 2**64 - 1),
            "record_every": _checks.integer("record_every", self.record_every, 1, 2**62),
            "engine": _choice("engine", self.engine, ENGINES),
            "device": _choice("device", self.device, DEVICES),
            "update": update_weights(self.update),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        self.step_size.check(self.num_steps)

    @property
    def num_rows(self) -> int:
        """Number of rows of the complete trace: steps 0, record_every, 2 record_every, ..."""
        return self.num_steps // self.record_every + 1

    def to_json(self) -> tuple[str, Arrays]:
        """Return the run as JSON text and the arrays it refers to by name."""
        arrays: Arrays = {}
        spec = {
            "dim": self.problem.spectrum.dim,
            "num_dominant": self.problem.spectrum.num_dominant,
            "noise": _noise_spec(self.problem.noise, arrays),
            "initial": _initial_spec(self.problem.initial, arrays),
            "step_size": _step_size_spec(self.step_size, arrays),
            "num_steps": self.num_steps,
            "seed": self.seed,
            "record_every": self.record_every,
            "engine": self.engine,
            "device": self.device,
            "update": list(self.update),
        }
        return json.dumps(spec), arrays

    @classmethod
    def from_json(cls, text: str, arrays: Arrays, spectrum: Spectrum) -> "Run":
        """Rebuild a run from what `to_json` returned and its spectrum.

        Raises
        ------
        ValueError
            If the text does not describe a run.
        """
        try:
            spec = json.loads(text)
            initial = spec["initial"]
            return cls(
                problem=Quadratic(
                    spectrum,
                    noise=_noise_from_spec(spec["noise"], arrays),
                    initial=arrays[initial["array"]] if "array" in initial else initial["std"],
                ),
                step_size=_step_size_from_spec(spec["step_size"], arrays),
                update=tuple(spec["update"]),
                **{
                    name: spec[name]
                    for name in ("num_steps", "seed", "record_every", "engine", "device")
                },
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the run's description is damaged: {error!r}") from error


def update_weights(update: Any) -> tuple[float, float]:
    """Return the weights of the dominant and the bulk part of the update.

    Raises
    ------
    ValueError
        Unless `update` is "full", "dominant", "bulk" or a pair of finite weights >= 0.
    """
    expected = "'full', 'dominant', 'bulk' or a pair of weights (dominant, bulk)"
    if isinstance(update, str):
        if update not in UPDATES:
            raise _checks.wrong("update", update, expected)
        return UPDATES[update]
    try:
        dominant, bulk = update
    except (TypeError, ValueError):
        raise _checks.wrong("update", update, expected) from None
    return _checks.real("update", dominant), _checks.real("update", bulk)


def _choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise _checks.wrong(name, value, "one of " + ", ".join(map(repr, choices)))
    return str(value)


def _noise_spec(noise: Noise, arrays: Arrays) -> dict[str, Any]:
    match noise:
        case IsotropicNoise(std):
            return {"model": "isotropic", "std": std}
        case HessianNoise(std):
            return {"model": "hessian", "std": std}
        case DiagonalNoise():
            arrays["noise_stds"] = noise.values
            return {"model": "diagonal", "array": "noise_stds"}
    raise _checks.wrong("noise", noise, "isotropic, Hessian-proportional or diagonal")


def _noise_from_spec(spec: dict[str, Any], arrays: Arrays) -> Noise:
    match spec["model"]:
        case "isotropic":
            return IsotropicNoise(spec["std"])
        case "hessian":
            return HessianNoise(spec["std"])
        case "diagonal":
            return DiagonalNoise(arrays[spec["array"]])
    raise ValueError(f"the run's noise model {spec['model']!r} is not known")


def _initial_spec(initial: float | NDArray[np.float64], arrays: Arrays) -> dict[str, Any]:
    if isinstance(initial, np.ndarray):
        arrays["initial"] = initial
        return {"array": "initial"}
    return {"std": initial}


def _step_size_spec(rule: StepSize, arrays: Arrays) -> dict[str, Any]:
    match rule:
        case ConstantStep(value):
            return {"rule": "constant", "value": value}
        case Schedule():
            arrays["step_size"] = rule.sizes
            return {"rule": "schedule", "array": "step_size"}
        case RowStep():
            return {"rule": "function", "name": rule.function.py_func.__qualname__}
        case ForeignStep(name):
            return {"rule": "function", "name": name}
    for kind, rule_type in _RULES.items():
        if isinstance(rule, rule_type):
            return {"rule": kind} | asdict(rule)
    raise _checks.wrong("step_size", rule, "a number, an array or a rule of this package")


def _step_size_from_spec(spec: dict[str, Any], arrays: Arrays) -> StepSize:
    match spec["rule"]:
        case "constant":
            return ConstantStep(spec["value"])
        case "schedule":
            return Schedule(arrays[spec["array"]])
        case "function":
            return ForeignStep(str(spec["name"]))
        case kind if kind in _RULES:
            return _RULES[kind](**{name: spec[name] for name in spec if name != "rule"})
    raise ValueError(f"the run's step-size rule {spec['rule']!r} is not known")
