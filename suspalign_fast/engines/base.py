"""What every engine does: hand out the initial row, then advance and hand out recorded rows."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..kernels.normals import seed_key
from ..model.run import Run
from ..physics.layout import (
    CONSTANTS_AT,
    CROSS_ROW_SIZE,
    FACTORS_AT,
    NOISY_AT,
    NUM_BANDS,
    NUM_FACTORS,
    ROW_SIZE,
    RULE_COLUMNS,
    SLICES,
    WEIGHT_AT,
)
from ..physics.rows import Rows


class StepSizeError(ValueError):
    """A rule returned a step size that cannot be taken.

    Attributes
    ----------
    rows : Rows or None
        Rows recorded since the engine was last asked, up to the step the rule failed at.
    """

    def __init__(self, message: str, rows: Rows | None) -> None:
        super().__init__(message)
        self.rows = rows

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.rows)


def check_step_size(
    step: int, step_size: float, rows: Rows | None = None, raised: Exception | None = None
) -> None:
    """Raise StepSizeError with the rows so far unless a rule's answer is good.

    Parameters
    ----------
    step : int
    step_size : float
    rows : Rows, optional
    raised : Exception, optional
        What the rule raised instead of an answer.
    """
    if np.isfinite(step_size) and step_size >= 0.0:
        return
    answer = str(step_size)
    if raised is not None:
        answer = f"{type(raised).__name__}{f': {raised}' if str(raised) else ''}"
    error = StepSizeError(
        "step_size must be a rule that returns finite numbers of at least zero, got "
        f"{answer} at step {step}",
        rows,
    )
    raise error from raised


def rule_table(run: Run) -> NDArray[np.float64]:
    """Return the table a step-size rule reads, with what does not change filled in."""
    table = np.zeros((2, RULE_COLUMNS))
    fill_constants(table, run)
    return table


def fill_constants(table: NDArray[np.float64], run: Run) -> None:
    """Write what no step changes to a rule's table: constants and weights."""
    table[:, CONSTANTS_AT:NOISY_AT] = run.problem.noise_constants
    table[:, WEIGHT_AT] = run.update
    table[:, FACTORS_AT : FACTORS_AT + NUM_FACTORS] = run.optimizer.factors[:NUM_FACTORS]


def fill_constants_at_row(table: NDArray[np.float64], run: Run) -> None:
    """Write the constants of noise that depends on the state to a table that has a row's sums."""
    sums = [table[:, part] for part in SLICES.values()]
    problem = run.problem
    at = problem.noise.constants_at(problem.noise_constants, *sums)
    table[:, CONSTANTS_AT:NOISY_AT] = at


#: The plane that every engine has, and that of the velocity under momentum.
STATE, VELOCITY = "state", "velocity"


class Stretches(NamedTuple):
    """How much calls of `Engine.advance` should do.

    Attributes
    ----------
    first, least, most : int
        Steps of the first call, and of any call but the last.
    rows : int
        Rows of a call, at most.
    seconds : float
        Time of a call.
    """

    first: int
    least: int
    most: int
    rows: int
    seconds: float


class Engine(ABC):
    """Simulates one run, a stretch of steps at a time.

    Attributes
    ----------
    step : int
        Steps done so far.
    planes : dict of ndarray
        What the steps act on, by the names that checkpoints use; plain SGD has one plane, STATE.
        With `step` and the memory of a rule they determine everything that follows.
    """

    def __init__(self, run: Run, *, serial: bool = False) -> None:
        self.run: Run = run
        self.serial: bool = serial
        self.step: int = 0
        self.key: tuple[np.uint32, np.uint32] = seed_key(run.seed)

    planes: dict[str, NDArray[Any]]
    #: Threads of the CPU that it uses.
    threads: int = 1
    #: Lines of sums that a row has: those of the bands.
    lines: int = NUM_BANDS
    #: How much a call of `advance` should do where that is not as the driver has it.
    stretches: "Stretches | None" = None

    @property
    def state(self) -> NDArray[Any]:
        """The first plane: coefficients, or squares of levels."""
        return self.planes[STATE]

    @property
    def row_size(self) -> int:
        """Numbers of a band in the rows that kernels write."""
        return CROSS_ROW_SIZE if self.run.optimizer.has_velocity else ROW_SIZE

    @property
    def width(self) -> int:
        """Numbers that a step works on."""
        return self.run.problem.spectrum.dim

    #: Whether steps between recorded rows cost nothing.
    jumps: bool = False
    #: Whether the CPU is free while it works: rows are then written meanwhile.
    leaves_the_cpu: bool = False
    #: Whether single steps can be tried at its states, as `verify` does.
    can_be_probed: bool = False

    # --- what an engine says of itself: nobody else knows engines by their classes --------------

    #: Devices beside the CPU it runs on: module and class, loaded when it is asked for.
    elsewhere: ClassVar[Mapping[str, tuple[str, str]]] = {}
    #: Whether it takes only step sizes that are known in advance.
    needs_known_steps: ClassVar[bool] = False
    #: Whether rows have the law of SGD's, though they are not those of the path of the seed.
    is_exact_in_law: ClassVar[bool] = False
    #: Whether it is here to be compared with, slowly.
    is_oracle: ClassVar[bool] = False
    #: Whether it has a plane for a velocity.
    takes_velocity: ClassVar[bool] = False
    #: Whether it takes a `Shard` of a run's directions, with rows of parts.
    can_be_sharded: ClassVar[bool] = False

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """Return the devices it runs on."""
        return ("cpu", *cls.elsewhere)

    @classmethod
    def rows_of(cls, runs: Sequence[Run]) -> "list[Rows] | None":
        """Return all rows of runs whose seeds alone differ, done together, if it can do that.

        Parameters
        ----------
        runs : sequence of Run
        """
        return None

    @classmethod
    def takes(cls, run: Run) -> bool:
        """Whether it can do a run, whichever engine that names."""
        foreseen = run.is_foreseeable or not cls.needs_known_steps
        moves = cls.takes_velocity or not run.optimizer.has_velocity
        return foreseen and moves and run.device in cls.devices()

    @classmethod
    def places(cls, run: Run) -> Mapping[str, tuple[str, str]]:
        """Return what of `elsewhere` a run needs."""
        return cls.elsewhere

    @classmethod
    def on_device_of(cls, run: Run) -> "type[Engine]":
        """Return the class that does a run on its device."""
        if run.device == "cpu":
            return cls
        module, name = cls.places(run)[run.device]
        found: type[Engine] = getattr(importlib.import_module(module), name)
        return found

    @classmethod
    def seconds(cls, run: Run, threads: int, normal: float) -> float:
        """Return the expected time of a run, NaN where nobody knows.

        Parameters
        ----------
        run : Run
        threads : int
        normal : float
            Seconds of a normal on one core.
        """
        return float("nan")

    def warm_up(self) -> None:  # noqa: B027
        """Compile what `advance` needs, so that a progress bar starts with the steps."""

    @abstractmethod
    def initial_row(self) -> Rows:
        """Return row 0, the initial state; no row where it comes with those of the first steps."""

    @abstractmethod
    def advance(self, num_steps: int) -> Rows:
        """Do `num_steps` steps and return the rows recorded on the way."""

    def observe(self, out: NDArray[np.float64]) -> None:
        """Write the sums of the next step's noisy gradient, for rules that observe it."""
        raise NotImplementedError

    def mutable(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that steps change, beside `step`; a checkpoint is made of them."""
        return dict(self.planes)

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return everything that the rows to come depend on, as the arrays themselves."""
        return {"step": np.array(self.step, dtype=np.int64)} | self.mutable()

    def restore(self, snapshot: dict[str, NDArray[Any]]) -> None:
        """Go on where a snapshot of the same run was taken.

        Raises
        ------
        ValueError
            If it does not fit.
        """
        mine = self.mutable()
        shapes = {name: (a.shape, a.dtype) for name, a in mine.items()}
        given = {name: (a.shape, a.dtype) for name, a in snapshot.items()}
        if given != shapes | {"step": ((), np.dtype(np.int64))}:
            raise ValueError("the checkpoint does not fit the run")
        for name, values in mine.items():
            values[...] = snapshot[name]
        self.refill()
        self.step = int(snapshot["step"])

    def refill(self) -> None:  # noqa: B027
        """Write what no step changes again: a snapshot of an earlier version may lack it."""

    def recorded_steps(self, num_steps: int) -> NDArray[np.int64]:
        """Return the steps to record among ``step + 1 ... step + num_steps``."""
        return self.run.recorded_steps(self.step, self.step + num_steps)

    def recorded_steps_count(self, num_steps: int) -> int:
        """Number of steps to record among the next `num_steps`."""
        stop = self.step + num_steps
        return self.run.recorded_before(stop) - self.run.recorded_before(self.step)
