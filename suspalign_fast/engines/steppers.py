"""The three ways from row to row: steps of known sizes, steps that a rule chooses, and jumps.

An engine has planes, which are its state, and a stepper that takes it on by calling a kernel:
``kernel(*model, ...)``, where the model is the planes and what the problem is to the kernel.
"""

import inspect
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base import threads
from ..base import threads as _threads
from ..kernels import jump, step
from ..kernels.batches import Batches, make_batches
from ..kernels.blocks import Plan
from ..kernels.rules import Record, Ruling
from ..kernels.sums import moves_of
from ..model.moves import log_factors
from ..model.noise import DataNoise
from ..model.problem import Quadratic
from ..model.run import Run
from ..model.step_size import AdaptiveStepSize, ConstantStep, KnownRule, KnownStepSize
from ..physics.layout import CROSS_AT, NOISY_AT, NUM_BANDS, ROW_SIZE, WEIGHT_AT, cross_sums_of
from ..physics.rows import Rows
from .base import Engine, check_step_size, fill_constants, fill_constants_at_row, rule_table
from .moves import Moves, PlainMoves, VelocityMoves

# --- Kernels that work on some parts of a problem, called for all of them in threads -------------
#
# Between two recorded rows no part needs another: threads meet once a call, and are Python's own,
# which wait without using a processor.


#: Blocks times steps from which on a second thread brings more than it costs.
MIN_WORK = 256


def keep_parts(plan: Plan, table: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Set rows, with a line for each part, to the sums of the parts."""
    out[:] = table.swapaxes(0, 1)


class Shared:
    """A kernel for all parts: ``kernel(first, last, state, velocity, plan, *arguments, table)``.

    Parameters
    ----------
    kernel : callable
    steps : str
        Name of its argument that has an entry for every step.
    finish : callable
        ``finish(plan, table, out)`` makes rows of what the parts left in the table.
    """

    def __init__(self, kernel: Any, steps: str, finish: Any = step.add_parts) -> None:
        self.kernel: Any = kernel
        self.steps: str = steps
        self.finish: Any = finish
        names = list(inspect.signature(getattr(kernel, "py_func", kernel)).parameters)
        self.names: list[str] = names[names.index("plan") + 1 :]

    def apart(self) -> "Shared":
        """Return the same with rows that keep the parts apart."""
        return Shared(self.kernel, self.steps, keep_parts)

    def __call__(
        self, state: NDArray[Any], velocity: NDArray[Any], plan: Plan, *arguments: Any
    ) -> None:
        """Call the kernel and write the sums of all parts to the last argument, which has rows."""
        *most, out = arguments
        steps = most[self.names.index(self.steps)].size
        parts = plan.parts.shape[0]
        table = np.empty((parts, *out.shape[::2]))

        def work(first: int, last: int) -> None:
            self.kernel(first, last, state, velocity, plan, *most, table)

        is_worth_it = plan.blocks.shape[0] * steps >= MIN_WORK
        threads.share(parts, plan.threads if is_worth_it else 1, work)
        self.finish(plan, table, out)


#: Steps of known moves, without and with a velocity.
advance_known = Shared(step.advance_parts, "slots")
advance_velocity_known = Shared(step.advance_velocity_parts, "slots")
#: Moves to recorded rows, without and with a velocity, and moves of one step size.
jump_rows = Shared(jump.jump_parts, "steps")
jump_velocity_rows = Shared(jump.jump_velocity_parts, "steps")
jump_rows_by_size = Shared(jump.jump_parts_by_size, "steps")


Array = NDArray[np.float64]


class Stepper(ABC):
    """Takes an engine from row to row; ``kernel(*engine.model(), ...)`` does the arithmetic."""

    def __init__(self, engine: "SteppingEngine", kernel: Any) -> None:
        # The engine owns this object: a reference back would keep its state in memory.
        self.engine: SteppingEngine = weakref.proxy(engine)
        self.kernel: Any = kernel

    def mutable(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that steps change, beside the planes of the state."""
        return {}

    def refill(self) -> None:  # noqa: B027
        """Write what no step changes to those arrays again."""

    @abstractmethod
    def start(self, sums: Array) -> Array:
        """Return the size of the first step from a state with these sums."""

    @abstractmethod
    def advance(self, num_steps: int) -> Rows:
        """Do `num_steps` steps and return the rows recorded on the way."""


class KnownSteps(Stepper):
    """Steps of sizes known in advance: many pass over a piece of the state before it is left.

    ``kernel(*model, first_step, moves, slots, *key, sums)``.
    """

    def __init__(self, engine: "SteppingEngine", kernel: Any) -> None:
        super().__init__(engine, kernel)
        assert isinstance(engine.run.step_size, KnownStepSize)
        self.rule: KnownStepSize = engine.run.step_size

    def start(self, sums: Array) -> Array:
        """Return the size of the first step."""
        return self.rule.values(self.engine.step, self.engine.step + 1)

    def advance(self, num_steps: int) -> Rows:
        """Do `num_steps` steps and return the rows recorded on the way."""
        first, recorded = self.engine.step, self.engine.recorded_steps(num_steps)
        slots = np.full(num_steps, -1, dtype=np.int64)
        slots[recorded - first - 1] = np.arange(recorded.size)
        sums = np.empty((recorded.size, self.engine.lines, self.engine.row_size))
        sizes = self.rule.values(first, first + num_steps + 1)
        moves = moves_of(sizes[:-1], self.engine.run.update)
        self.kernel(*self.engine.model(), first, moves, slots, *self.engine.key, sums)
        return Rows.from_sums(recorded, sizes[recorded - first], sums)


class AdaptiveSteps(Stepper):
    """Steps whose sizes a rule chooses from row to row.

    ``kernel(*model, first_step, num_steps, ruling, record, *key)`` returns the steps done and the
    rows recorded.
    """

    def __init__(self, engine: "SteppingEngine", kernel: Any) -> None:
        super().__init__(engine, kernel)
        run = engine.run
        self.rule: AdaptiveStepSize = self.rule_of(run)
        self.ruling: Ruling = Ruling(
            self.rule.address,
            self.rule.observes,
            self.rule.memory_for(run.problem, run.optimizer, run.update),
            rule_table(run),
            np.zeros(1),
            np.array(run.update),
        )

    @staticmethod
    def rule_of(run: Run) -> AdaptiveStepSize:
        """Return the rule that chooses the steps of a run."""
        assert isinstance(run.step_size, AdaptiveStepSize)
        return run.step_size

    def mutable(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that steps change."""
        ruling = self.ruling
        return {"memory": ruling.memory, "sums": ruling.sums, "step_size": ruling.step_size}

    def refill(self) -> None:
        """Write what no step changes to the table again."""
        fill_constants(self.ruling.sums, self.engine.run)

    def start(self, sums: Array) -> Array:
        """Return the size of the first step."""
        ruling = self.ruling
        ruling.sums[:, :ROW_SIZE] = sums[:, :ROW_SIZE]
        cross = cross_sums_of(sums)
        ruling.sums[:, CROSS_AT : CROSS_AT + cross.shape[1]] = cross
        if np.isfinite(sums).all():
            if self.rule.observes:
                self.engine.observe(ruling.sums[:, NOISY_AT:WEIGHT_AT])
            ruling.step_size[0] = self.rule.evaluate(self.engine.step, ruling.sums, ruling.memory)
            self._check(self.engine.step, None)
        return ruling.step_size.copy()

    def advance(self, num_steps: int) -> Rows:
        """Do `num_steps` steps and return the rows recorded on the way."""
        first, wanted = self.engine.step, self.engine.recorded_steps(num_steps)
        capacity = wanted.size + 1  # a row that is not finite is recorded in any case
        record = Record(
            wanted,
            np.empty((capacity, NUM_BANDS, self.engine.row_size)),
            np.empty(capacity, np.int64),
            np.empty(capacity),
        )
        done, count = self.kernel(
            *self.engine.model(), first, num_steps, self.ruling, record, *self.engine.key
        )
        rows = Rows.from_sums(record.steps[:count], record.sizes[:count], record.sums[:count])
        if np.isfinite(self.ruling.sums[:, :ROW_SIZE]).all():
            self._check(first + done, rows)
        return rows

    def _check(self, step: int, rows: Rows | None) -> None:
        """Raise StepSizeError unless the rule's last answer is a step size."""
        ruling, raised = self.ruling, None
        size = float(ruling.step_size[0])
        if np.isnan(size):
            raised = self.rule.raised(step, ruling.sums, ruling.memory)
        check_step_size(step, size, rows, raised)


def moves_of_run(run: Run, threads: int) -> Moves:
    """Return the moves of a run's levels from row to row."""
    if run.optimizer.has_velocity:
        return VelocityMoves(run, threads)
    assert isinstance(run.step_size, KnownStepSize)
    spectrum = run.problem.spectrum
    rate, push = (
        spectrum.weighted(values, run.update) for values in (spectrum.eigenvalues, run.problem.stds)
    )
    return PlainMoves(run.step_size, rate, push, threads)


class Jumps(Stepper):
    """Moves from recorded row to recorded row.

    ``kernel(*model, coefficients, steps, *key, sums)``, of which there are two, a and b, or seven
    with a velocity.
    """

    def __init__(self, engine: "SteppingEngine", kernel: Any) -> None:
        super().__init__(engine, kernel)
        self.moves: Moves = moves_of_run(engine.run, engine.threads)

    def mutable(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that moves change."""
        return {"now": self.moves.now}

    def start(self, sums: Array) -> Array:
        """Return the size of the first step."""
        return self.moves.rule.values(self.engine.step, self.engine.step + 1)

    def advance(self, num_steps: int) -> Rows:
        """Move to the rows within the next `num_steps` steps and return them."""
        recorded = self.engine.recorded_steps(num_steps)
        sums = np.empty((recorded.size, self.engine.lines, self.engine.row_size))
        for batch, coefficients in self.moves.to(recorded):
            self.kernel(
                *self.engine.model(), coefficients, recorded[batch], *self.engine.key, sums[batch]
            )
        return Rows.from_sums(recorded, self.moves.sizes_at(recorded), sums)


class JumpsOfOneSize(Stepper):
    """Moves from recorded row to recorded row; the kernel makes their coefficients where it is.

    ``kernel(*model, lengths, eta, weights, log, steps, *key, sums)``.
    """

    def __init__(self, engine: "SteppingEngine", kernel: Any) -> None:
        super().__init__(engine, kernel)
        run = engine.run
        assert isinstance(run.step_size, ConstantStep)
        self.size: float = run.step_size.value
        self.weights: Array = np.array(run.update)
        spectrum = run.problem.spectrum
        rate = spectrum.weighted(spectrum.eigenvalues, run.update)
        self.log: Array = log_factors(self.size, rate)
        #: Step of the last row moved to.
        self.now: NDArray[np.int64] = np.zeros(1, np.int64)

    def mutable(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that moves change."""
        return {"now": self.now}

    def start(self, sums: Array) -> Array:
        """Return the size of the first step."""
        return np.array([self.size])

    def advance(self, num_steps: int) -> Rows:
        """Move to the rows within the next `num_steps` steps and return them."""
        steps = self.engine.recorded_steps(num_steps)
        sums = np.empty((steps.size, self.engine.lines, self.engine.row_size))
        if steps.size:
            lengths = np.diff(steps, prepend=self.now[0]).astype(np.float64)
            moves = lengths, self.size, self.weights, self.log, steps
            self.kernel(*self.engine.model(), *moves, *self.engine.key, sums)
            self.now[0] = steps[-1]
        return Rows.from_sums(steps, np.full(steps.size, self.size), sums)


class SteppingEngine(Engine):
    """Hands its work to a stepper.

    Attributes
    ----------
    stepper : Stepper
    """

    stepper: Stepper
    #: Threads of Numba's pool that its kernel uses.
    kernel_threads: int = 1

    @abstractmethod
    def model(self, planes: Mapping[str, NDArray[Any]] | None = None) -> tuple[Any, ...]:
        """Return what a kernel takes first: planes, the engine's by default, and the problem."""

    @abstractmethod
    def initial_sums(self) -> Array:
        """Sums of the state, shape (lines, ROW_SIZE)."""

    def mutable(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that steps change."""
        return self.planes | self.stepper.mutable()

    def refill(self) -> None:
        """Write what no step changes again."""
        self.stepper.refill()

    def warm_up(self) -> None:
        """Compile what `advance` needs, by no step at all."""
        self.advance(0)

    def initial_row(self) -> Rows:
        """Return row 0, the initial state."""
        sums = self.initial_sums()
        return Rows.from_sums(np.array([self.step]), self.stepper.start(sums), sums[None])

    def advance(self, num_steps: int) -> Rows:
        """Do `num_steps` steps and return the rows recorded on the way."""
        with _threads.turn(self.kernel_threads):
            rows = self.stepper.advance(num_steps)
        self.step += num_steps
        return rows


def check_known(run: Run) -> None:
    """Raise ValueError unless the law of many steps of a run is known in advance."""
    if run.problem.noise.depends_on_state:
        raise ValueError(
            f"engine {run.engine!r} skips the steps between rows, and {run.problem.noise!r} "
            "depends on the state at each; take engine 'step' or 'levels'"
        )
    if not isinstance(run.step_size, KnownStepSize):
        raise ValueError(
            f"engine {run.engine!r} skips the steps between rows, so their sizes must be known in "
            f"advance, got step_size = {run.step_size!r}; take engine 'step' or 'levels'"
        )


# --- Steps on mini-batches of data: what engines share (``kernels.batches``) ------------------


def batches_of(problem: Quadratic) -> Batches | None:
    """Return a problem's batches as kernels take them, None where its noise is additive."""
    noise = problem.noise
    if not isinstance(noise, DataNoise):
        return None
    return make_batches(noise.batch_size, noise.label_std, problem.noise_constants)


class BatchSteps(AdaptiveSteps):
    """Steps on mini-batches of data, of sizes known in advance or chosen by a rule.

    The table of the rule holds the noise at the row; kernels take the sums from the state itself.
    """

    @staticmethod
    def rule_of(run: Run) -> AdaptiveStepSize:
        """Return the rule of a run, or one that knows its step sizes."""
        if isinstance(run.step_size, KnownStepSize):
            return KnownRule(run.step_size, run.num_steps)
        return AdaptiveSteps.rule_of(run)

    def mutable(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that steps change."""
        arrays = super().mutable()
        if isinstance(self.rule, KnownRule):
            del arrays["memory"]
        return arrays

    def refill(self) -> None:
        """Write what follows from the rest of the table again."""
        super().refill()
        fill_constants_at_row(self.ruling.sums, self.engine.run)

    def start(self, sums: Array) -> Array:
        """Return the size of the first step."""
        self.ruling.sums[:, :ROW_SIZE] = sums[:, :ROW_SIZE]
        fill_constants_at_row(self.ruling.sums, self.engine.run)
        return super().start(sums)

    def _check(self, step: int, rows: Rows | None) -> None:
        if not isinstance(self.rule, KnownRule):
            super()._check(step, rows)


def sums_after_step(
    engine: SteppingEngine,
    planes: Mapping[str, Array],
    step: int,
    size: float,
    update: tuple[float, float],
) -> Array:
    """Let an engine's kernel of a rule do a step from planes, which change; return their sums."""
    rule = KnownRule(ConstantStep(size), 1)
    memory = rule.memory(engine.run.problem)
    table = rule_table(engine.run)
    ruling = Ruling(rule.address, False, memory, table, np.array([size]), np.array(update))
    record = Record(
        np.array([step + 1]),
        np.empty((2, NUM_BANDS, engine.row_size)),
        np.empty(2, np.int64),
        np.empty(2),
    )
    engine.stepper.kernel(*engine.model(planes), step, 1, ruling, record, *engine.key)
    return record.sums[0]
