"""Everything that determines the numbers of a run, checked and turned into JSON and back."""

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import checks
from ..base.registry import ENGINES, NOISES, OPTIMIZERS, RULES, Arrays
from ..base.values import Travels, same_values
from . import devices
from .optimizer import PLAIN, Optimizer, as_optimizer
from .problem import Quadratic
from .spectrum.spectrum import Spectrum
from .step_size import ConstantStep, KnownStepSize, Schedule, StepSize, as_step_size

EngineName: TypeAlias = Literal["step", "jump", "levels", "reference"]
Update: TypeAlias = Literal["full", "dominant", "bulk"] | tuple[float, float]
DTYPES = ("float64", "float32")
MAX_STEPS = 2**62
UPDATES = {"full": (1.0, 1.0), "dominant": (1.0, 0.0), "bulk": (0.0, 1.0)}


@dataclass(frozen=True, eq=False)
class Recording:
    """Which steps of a run become rows: every n-th one, or given ones."""

    num_steps: int
    record_every: int
    record_at: NDArray[np.int64] | None

    @classmethod
    def from_spec(cls, spec: dict[str, Any], read: Callable[[str], NDArray[Any]]) -> "Recording":
        """Return what the description of a run says; `read` returns its arrays by their path."""
        num_steps = checks.integer("num_steps", spec["num_steps"], 0, MAX_STEPS)
        every = checks.integer("record_every", spec["record_every"], 1, MAX_STEPS)
        steps = read("run/record_at") if "record_at" in spec else None
        return cls(num_steps, every, _record_at(steps, num_steps, every))

    @property
    def num_rows(self) -> int:
        """Number of rows of the complete trace."""
        return self.recorded_before(self.num_steps)

    def recorded_before(self, step: int) -> int:
        """Number of rows at steps 0 ... `step`."""
        if self.record_at is None:
            return step // self.record_every + 1
        return int(np.searchsorted(self.record_at, step, side="right"))

    def recorded_steps(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the steps to record among ``start + 1 ... stop``."""
        first, end = self.recorded_before(start), self.recorded_before(stop)
        if self.record_at is None:  # no np.arange of steps: it counts in float64
            return (first + np.arange(end - first)) * self.record_every
        return self.record_at[first:end]

    def step_of_row(self, row: int) -> int:
        """Step of a row."""
        return row * self.record_every if self.record_at is None else int(self.record_at[row])


@dataclass(frozen=True, eq=False)
class Run(Travels):
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
    dtype: str = "float64"
    update: tuple[float, float] = (1.0, 1.0)
    record_at: NDArray[np.int64] | None = None
    optimizer: Optimizer = PLAIN

    def __post_init__(self) -> None:
        if not isinstance(self.problem, Quadratic):
            raise checks.wrong("problem", self.problem, "a Quadratic")
        checked = {
            "step_size": as_step_size(self.step_size),
            "num_steps": checks.integer("num_steps", self.num_steps, 0, MAX_STEPS),
            "seed": checks.integer("seed", self.seed, 0, 2**64 - 1),
            "record_every": checks.integer("record_every", self.record_every, 1, MAX_STEPS),
            "engine": checks.choice("engine", self.engine, ENGINES.names()),
            "device": checks.choice("device", self.device, devices.DEVICES),
            "dtype": _dtype(self.dtype),
            "update": update_weights(self.update),
            "record_at": _record_at(self.record_at, self.num_steps, self.record_every),
            "optimizer": as_optimizer(self.optimizer),
        }
        devices.check(self.device, self.engine)
        _check_velocity(self.optimizer, self.engine)
        self.problem.check_swings(self.optimizer)
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        self.step_size.check(self.num_steps)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Run):
            return NotImplemented
        names = [field.name for field in fields(Run)]
        return same_values(*([getattr(run, name) for name in names] for run in (self, other)))

    @property
    def is_foreseeable(self) -> bool:
        """Whether the law of many steps at once is known in advance."""
        known = isinstance(self.step_size, KnownStepSize)
        return known and not self.problem.noise.depends_on_state

    def why_unstable(self) -> str:
        """Say that step sizes known in advance are all too large; empty where they are not."""
        if type(self.step_size) not in (ConstantStep, Schedule):
            return ""
        eta = self.step_size.least  # type: ignore[attr-defined]
        noise = self.problem.noise
        found = noise.stability(self.problem.spectrum, eta, self.update, self.optimizer)
        if found.is_stable or eta <= found.largest:
            return ""
        weighted = "" if set(self.update) <= {0.0, 1.0} else " (weights of the update counted)"
        if noise.depends_on_state:
            edge = f"eta_max = {found.largest:.4g}, the edge of stability: K = {found.feedback:.4g}"
        else:
            edge = f"2 / lambda = {found.largest:.4g}"
            if self.optimizer.has_velocity:
                edge = f"the edge of stability {found.largest:.4g} of {self.optimizer!r}"
        which = "step size" if type(self.step_size) is ConstantStep else "even the least step size"
        return f"{which} {eta:g} is above {edge}{weighted}"

    @property
    def recording(self) -> Recording:
        """Which of its steps become rows."""
        return Recording(self.num_steps, self.record_every, self.record_at)

    @property
    def num_rows(self) -> int:
        """Number of rows of the complete trace."""
        return self.recording.num_rows

    def recorded_before(self, step: int) -> int:
        """Number of rows at steps 0 ... `step`."""
        return self.recording.recorded_before(step)

    def recorded_steps(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the steps to record among ``start + 1 ... stop``."""
        return self.recording.recorded_steps(start, stop)

    def to_json(self) -> tuple[str, Arrays]:
        """Return the run as JSON and its arrays; ValueError if a part is not registered."""
        arrays: Arrays = {}
        spec = {
            "dim": self.problem.spectrum.dim,
            "num_dominant": self.problem.spectrum.num_dominant,
            "noise": self._noise_spec(arrays),
            "initial": _initial_spec(self.problem.initial, arrays),
            "step_size": RULES.describe(self.step_size.stored(), arrays),
            "num_steps": self.num_steps,
            "seed": self.seed,
            "record_every": self.record_every,
            "engine": self.engine,
            "device": self.device,
            "dtype": self.dtype,
            "update": list(self.update),
        }
        if self.record_at is not None:
            spec["record_at"] = {"array": "record_at"}
            arrays["record_at"] = self.record_at
        if self.optimizer != PLAIN:  # as in files of earlier versions
            spec["optimizer"] = OPTIMIZERS.describe(self.optimizer, arrays)
        return json.dumps(spec), arrays

    def _noise_spec(self, arrays: Arrays) -> dict[str, Any]:
        stored = self.problem.stored_noise
        described = NOISES.describe(stored, arrays)
        if stored is not self.problem.noise:
            described["class"] = type(self.problem.noise).__qualname__
        return described

    @classmethod
    def from_json(cls, text: str, arrays: Arrays, spectrum: Spectrum) -> "Run":
        """Make the run of `to_json`; ValueError if the text does not describe one."""
        try:
            spec = json.loads(text)
            initial = spec["initial"]
            described = spec["dim"], spec["num_dominant"]
            if described != (spectrum.dim, spectrum.num_dominant):
                raise ValueError(
                    f"the run's description is of another spectrum: d, k = {described}"
                )
            return cls(
                problem=Quadratic(
                    spectrum,
                    noise=NOISES.make(spec["noise"], arrays),
                    initial=arrays[initial["array"]] if "array" in initial else initial["std"],
                ),
                step_size=RULES.make(spec["step_size"], arrays),
                update=tuple(spec["update"]),
                record_at=arrays["record_at"] if "record_at" in spec else None,
                dtype=spec.get("dtype", "float64"),
                optimizer=stored_optimizer(spec),
                **{
                    name: spec[name]
                    for name in ("num_steps", "seed", "record_every", "engine", "device")
                },
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the run's description is damaged: {error!r}") from error


def _check_velocity(optimizer: Optimizer, engine: str) -> None:
    """Raise ValueError unless an engine has a plane for the velocity of an optimizer."""
    if not (isinstance(optimizer, Optimizer) and optimizer.has_velocity):
        return
    if not ENGINES[engine].takes_velocity:
        known = [name for name in ENGINES.names() if ENGINES[name].takes_velocity]
        raise ValueError(
            f"engine must be one of {', '.join(map(repr, known))} under momentum, got {engine!r} "
            f"for {optimizer!r}"
        )


def stored_optimizer(spec: dict[str, Any]) -> Optimizer:
    """Return the optimizer of a stored run; plain SGD where it does not say."""
    if "optimizer" not in spec:
        return PLAIN
    made: Optimizer = OPTIMIZERS.make(spec["optimizer"], {})
    return made


def _dtype(value: Any) -> str:
    """Return the name of what NumPy takes for float64 or float32."""
    try:
        name = "" if value is None else np.dtype(value).name
    except Exception:  # whatever an object of a user's raises
        name = ""
    return name if name in DTYPES else checks.choice("dtype", value, DTYPES)


def update_weights(update: Any) -> tuple[float, float]:
    """Return the weights of both bands: of "full", "dominant" or "bulk", or two numbers >= 0."""
    expected = "'full', 'dominant', 'bulk' or a pair of weights (dominant, bulk)"
    if isinstance(update, str):
        if update not in UPDATES:
            raise checks.wrong("update", update, expected)
        return UPDATES[update]
    dominant, bulk = checks.pair("update", update, expected)
    return checks.real("update", dominant), checks.real("update", bulk)


def _record_at(
    steps: ArrayLike | None, num_steps: int, record_every: int
) -> NDArray[np.int64] | None:
    """Return the steps to record with 0 in front, checked; None where no steps are given."""
    if steps is None:
        return None
    expected = f"increasing integers from 0 to num_steps = {num_steps}"
    array = checks.array("record_at", steps, expected)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu":
        raise checks.wrong("record_at", steps, expected)
    if record_every != 1:
        raise ValueError(f"record_at and record_every = {record_every} exclude each other")
    if array.dtype.kind == "u" and array.max() > num_steps:
        raise ValueError(f"record_at must be {expected}, got {array.max()}")
    array = array.astype(np.int64)
    falls = np.flatnonzero(np.diff(array) <= 0)
    if falls.size:
        at = int(falls[0]) + 1
        raise ValueError(
            f"record_at must be {expected}, got {array[at]} after {array[at - 1]} at index {at}"
        )
    if array[0] < 0 or array[-1] > num_steps:
        bad = array[0] if array[0] < 0 else array[-1]
        raise ValueError(f"record_at must be {expected}, got {bad}")
    return array if array[0] == 0 else np.concatenate([[0], array])


def _initial_spec(initial: float | NDArray[np.float64], arrays: Arrays) -> dict[str, Any]:
    if isinstance(initial, np.ndarray):
        arrays["initial"] = initial
        return {"array": "initial"}
    return {"std": initial}
