"""Step-size rules: known in advance, or a function of the row at every step."""

import ctypes
import functools
import importlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias, cast
from weakref import WeakKeyDictionary

import numpy as np
from numba.core.registry import CPUDispatcher
from numpy.typing import ArrayLike, NDArray

from ..base import checks
from ..base.code import compiled_parts, described
from ..base.registry import RULES
from ..base.reports import explain
from ..base.values import Travels, main_travels, same_values
from ..kernels import rules
from ..kernels.jit import check_enabled
from ..kernels.rules import MAX_RULES, compile_rule, entry_address, is_parallel, row_of, with_memory
from .optimizer import Optimizer
from .problem import Quadratic
from .stability import FULL

# --- Compiled rules that compute the same are compiled once: what is compiled is never given
# back.


_lock = threading.Lock()
_first: dict[str, Any] = {}
_as_compiled: "WeakKeyDictionary[Any, str]" = WeakKeyDictionary()


def representative(function: Any) -> Any:
    """Return the compiled function that stands for all that compute the same.

    Numba keeps the values of globals that were there when it compiled a function. Where one of the
    parts was compiled with others than there are now, a function stands for itself alone.
    """
    with _lock:
        try:
            texts = {part: described(part) for part in compiled_parts(function)}
        except ValueError:  # it refers to what cannot be told apart
            return function
        if any(part.overloads and _as_compiled.get(part) != text for part, text in texts.items()):
            return function
        _as_compiled.update(texts)
        found = _first.get(texts[function])
        if found is None or not found.overloads:  # that one has not compiled
            found = _first[texts[function]] = function
        while len(_first) > MAX_RULES:
            del _first[next(iter(_first))]
        return found


class StepSize(Travels, ABC):
    """A rule that assigns a step size to every step."""

    def check(self, num_steps: int) -> None:
        """Raise ValueError if this rule cannot serve a run of `num_steps` steps."""

    def stored(self) -> "StepSize":
        """Return the rule that files describe in place of this one."""
        return self

    def code(self) -> str:
        """Return what tells the rule from others where its description in files does not."""
        return ""


class KnownStepSize(StepSize):
    """A rule whose step sizes are known before the run starts."""

    @abstractmethod
    def values(self, start: int, stop: int) -> NDArray[np.float64]:
        """Return the step sizes of steps ``start ... stop - 1``; NaN past the end of a schedule."""


@RULES.register("constant")
@dataclass(frozen=True)
class ConstantStep(KnownStepSize):
    """The same step size at every step."""

    value: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", checks.real("step_size", self.value, positive=True))

    @property
    def least(self) -> float:
        """The least step size."""
        return self.value

    def values(self, start: int, stop: int) -> NDArray[np.float64]:
        """Return `value` for every step."""
        return np.full(stop - start, self.value)


@RULES.register("schedule")
@dataclass(frozen=True, eq=False)
class Schedule(KnownStepSize):
    """One step size of at least zero for each step, given in advance.

    Parameters
    ----------
    sizes : array_like of float, shape (num_steps,)
        0 is a step that moves nothing, as at the start of a warm-up.
    """

    sizes: NDArray[np.float64] = field(metadata={"array": "step_size"})

    def __init__(self, sizes: ArrayLike) -> None:
        array = checks.vector("step_size", sizes)
        if (array < 0.0).any():
            at = int(np.argmax(array < 0.0))
            raise ValueError(f"step_size must not be negative, got {array[at]} at step {at}")
        object.__setattr__(self, "sizes", checks.read_only(array))

    def check(self, num_steps: int) -> None:
        """Raise ValueError unless there is one step size a step."""
        if self.sizes.size != num_steps:
            raise ValueError(
                f"step_size must have one value a step, num_steps = {num_steps}, "
                f"got {self.sizes.size} values"
            )

    @property
    def least(self) -> float:
        """The least step size."""
        return float(self.sizes.min())

    def values(self, start: int, stop: int) -> NDArray[np.float64]:
        """Return the scheduled step sizes, NaN from the end of the schedule on."""
        known = self.sizes[start:stop]
        return np.concatenate([known, np.full(stop - start - known.size, np.nan)])

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return np.array_equal(self.sizes, other.sizes)

    def __repr__(self) -> str:
        return f"Schedule({checks.describe(self.sizes)})"


class AdaptiveStepSize(StepSize):
    """A rule that depends on the state: compiled, evaluated after every step, inside the kernel.

    Attributes
    ----------
    observes : bool
        Whether the rule reads ``row.noisy_sums``, which costs a second pass over the noise.
    """

    observes: bool = False

    @property
    @abstractmethod
    def compiled(self) -> Any:
        """The rule as a compiled function of a row and a memory (``kernels.rules``)."""

    @property
    @abstractmethod
    def address(self) -> int:
        """Address of the rule's C function."""

    @abstractmethod
    def memory(self, problem: Quadratic) -> NDArray[np.float64]:
        """Return the parameters and the initial memory of the rule for a problem."""

    def memory_for(
        self, problem: Quadratic, optimizer: Optimizer, weights: tuple[float, float] = FULL
    ) -> NDArray[np.float64]:
        """Return the same for steps of an optimizer and weights of the update; by default as is."""
        return self.memory(problem)

    def raised(
        self, step: int, sums: NDArray[np.float64], memory: NDArray[np.float64]
    ) -> Exception | None:
        """Return what the rule raises at a row, None if it only returns what is no step size."""
        return None

    def evaluate(self, step: int, sums: NDArray[np.float64], memory: NDArray[np.float64]) -> float:
        """Return the size of a step; `memory` is updated in place."""
        pointer = ctypes.POINTER(ctypes.c_double)
        kind = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_int64, pointer, pointer, ctypes.c_int64)
        data = (array.ctypes.data_as(pointer) for array in (sums, memory))
        return float(kind(self.address)(step, *data, memory.size))


class KnownRule(AdaptiveStepSize):
    """Step sizes known in advance as a rule, for kernels that take nothing else."""

    def __init__(self, sizes: KnownStepSize, num_steps: int) -> None:
        self._sizes = sizes
        self._count = 1 if type(sizes) is ConstantStep else num_steps + 1

    @property
    def compiled(self) -> Any:
        """The compiled rule."""
        return rules.known

    @property
    def address(self) -> int:
        """Address of its C function."""
        return entry_address(rules.known_entry)

    def memory(self, problem: Quadratic) -> NDArray[np.float64]:
        """Return the sizes of all steps, NaN past the end of a schedule."""
        return self._sizes.values(0, self._count)


class _Place(NamedTuple):
    """Where a function can be imported from."""

    module: str
    name: str

    def found(self) -> Any:
        """Import the function."""
        found: Any = importlib.import_module(self.module)
        for part in self.name.split("."):
            found = getattr(found, part)
        return found


def _place_of(function: Any) -> _Place | None:
    """Return where others find a compiled function, None where they would not."""
    plain = function.py_func
    place = _Place(plain.__module__ or "", plain.__qualname__)
    if place.module == "__main__" and not main_travels():
        return None
    try:
        return place if place.found() is function else None
    except (ImportError, AttributeError, ValueError):
        return None


def _same_function(one: Any, other: Any) -> bool:
    """Whether two compiled functions are the same, or copies of one."""
    if one is other:
        return True
    a, b = one.py_func, other.py_func
    same_name = (a.__module__, a.__qualname__) == (b.__module__, b.__qualname__)
    return bool(same_name and a.__code__ == b.__code__ and a.__closure__ == b.__closure__)


@dataclass(frozen=True, eq=False)
class RowStep(AdaptiveStepSize):
    """A rule of your own, a compiled function of the row.

    Parameters
    ----------
    function : numba function
        ``@numba.njit``; ``function(row)``, or ``function(row, state)`` if `state` is given, with a
        `Row` returns the step size. What it raises ends the run, which then has failed. It runs in
        one thread: loops of ``parallel=True`` are refused. On a GPU it must not raise, can make no
        arrays and calls what Numba's CUDA target knows.
    state : array_like of float, optional
        Initial values of a float64 array that the function may change from step to step.
    observes : bool
        Whether ``row.noisy_sums`` is wanted.
    """

    function: Any
    state: Any = None
    observes: bool = False

    def __post_init__(self) -> None:
        check_enabled()
        if not isinstance(self.function, CPUDispatcher):
            raise checks.wrong("step_size", self.function, "a function compiled by numba.njit")
        if self.state is not None:
            array = checks.read_only(checks.vector("state", self.state))
            object.__setattr__(self, "state", array)
        try:
            _ = self.address
        except Exception as error:  # Numba's are of many kinds
            reason = explain(error, self.function.py_func.__code__.co_filename)
            raise ValueError(
                "step_size must be a numba function of a row that returns a float, but "
                f"{self.name!r} does not compile: {reason}"
            ) from None
        if is_parallel(self.compiled):
            raise ValueError(
                f"step_size must be a function that runs in one thread, but {self.name!r} has "
                "loops that Numba runs in parallel, and many threads call it at once: compile it, "
                "and what it calls, without parallel=True"
            )

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        place = _place_of(self.function)
        return state if place is None else state | {"function": place}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if isinstance(self.function, _Place):
            object.__setattr__(self, "function", self.function.found())

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        mine, its = ((r.state, r.observes) for r in (self, other))
        return _same_function(self.function, other.function) and same_values(mine, its)

    __hash__ = None  # type: ignore[assignment]

    @property
    def name(self) -> str:
        """Name of the function, by which a trace file knows it."""
        return str(self.function.py_func.__qualname__)

    def stored(self) -> "StepSize":
        """Return what stands for the function in files: its name."""
        return ForeignStep(self.name) if type(self) is RowStep else self

    def code(self) -> str:
        """Return what the function computes, and from which state on."""
        state = None if self.state is None else self.state.tolist()
        return f"{state} {self.observes} {described(self.function)}"

    def raised(
        self, step: int, sums: NDArray[np.float64], memory: NDArray[np.float64]
    ) -> Exception | None:
        """Return what the function raises at a row."""
        try:
            self.compiled(row_of.py_func(step, sums), memory.copy())
        except Exception as error:  # whatever a function of a user's raises
            return error
        return None

    @functools.cached_property
    def compiled(self) -> Any:
        """The function, or the first that computed the same, taking a memory in any case."""
        function = representative(self.function)
        return with_memory(function, takes_memory=self.state is not None)

    @property
    def address(self) -> int:
        """Address of its C function."""
        return int(compile_rule(self.compiled).address)

    def memory(self, problem: Quadratic) -> NDArray[np.float64]:
        """Return a copy of the initial state."""
        return np.zeros(1) if self.state is None else self.state.copy()


@RULES.register("function")
@dataclass(frozen=True)
class ForeignStep(StepSize):
    """Stands in a loaded trace for a rule whose code the file does not hold.

    Parameters
    ----------
    name : str
        Name of the function.
    """

    name: str


#: What ``step_size=`` takes: a number, one a step, a rule, or a compiled function of the row.
StepSizeLike: TypeAlias = float | ArrayLike | StepSize | Callable[..., Any]


def refuse_foreign(step_size: StepSize) -> None:
    """Raise ValueError if a rule is a function whose code is not there."""
    if isinstance(step_size, ForeignStep):
        raise ValueError(
            f"step_size is the function {step_size.name!r} of a stored trace, whose code the "
            "file does not hold; pass the function itself"
        )


def as_step_size(step_size: StepSizeLike) -> StepSize:
    """Return the rule that an argument ``step_size=`` stands for, else ValueError."""
    if isinstance(step_size, StepSize):
        return step_size
    if callable(step_size):
        return RowStep(step_size)
    if checks.is_number(step_size):
        return ConstantStep(cast(float, step_size))
    return Schedule(step_size)
