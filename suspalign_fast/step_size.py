"""Step-size rules: how large the SGD step is at every recorded or unrecorded row."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks


class StepSize(ABC):
    """A rule that assigns a step size to every step."""

    def check(self, num_steps: int) -> None:  # noqa: B027
        """Raise ValueError if this rule cannot serve a run of `num_steps` steps."""


class KnownStepSize(StepSize):
    """A rule whose step sizes are known before the run starts."""

    @abstractmethod
    def values(self, start: int, stop: int) -> NDArray[np.float64]:
        """Return the step sizes of steps ``start ... stop - 1``; NaN past the end of a schedule."""


@dataclass(frozen=True)
class ConstantStep(KnownStepSize):
    """The same step size at every step."""

    value: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", _checks.real("step_size", self.value, positive=True))

    def values(self, start: int, stop: int) -> NDArray[np.float64]:
        """Return `value` for every step."""
        return np.full(stop - start, self.value)


@dataclass(frozen=True, eq=False)
class Schedule(KnownStepSize):
    """One step size for each step, given in advance."""

    sizes: NDArray[np.float64]

    def __init__(self, sizes: ArrayLike) -> None:
        array = _checks.vector("step_size", sizes)
        if (array <= 0.0).any():
            at = int(np.argmax(array <= 0.0))
            raise ValueError(f"step_size must be positive, got {array[at]} at step {at}")
        object.__setattr__(self, "sizes", _checks.read_only(array))

    def check(self, num_steps: int) -> None:
        """Raise ValueError unless there is one step size a step."""
        if self.sizes.size != num_steps:
            raise ValueError(
                f"step_size must have one value a step, num_steps = {num_steps}, "
                f"got {self.sizes.size} values"
            )

    def values(self, start: int, stop: int) -> NDArray[np.float64]:
        """Return the scheduled step sizes, NaN from the end of the schedule on."""
        known = self.sizes[start:stop]
        return np.concatenate([known, np.full(stop - start - known.size, np.nan)])

    def __repr__(self) -> str:
        return f"Schedule({_checks.describe(self.sizes)})"


def as_step_size(step_size: Any) -> StepSize:
    """Return the rule a user's ``step_size=`` argument stands for.

    Raises
    ------
    ValueError
        If it is neither a positive number, an array of positive numbers nor a rule.
    """
    if isinstance(step_size, StepSize):
        return step_size
    if np.ndim(step_size) == 0:
        return ConstantStep(step_size)
    return Schedule(step_size)
