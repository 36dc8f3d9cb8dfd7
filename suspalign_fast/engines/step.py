"""The engines `step`, every step of the sample path, and `jump`, one move a recorded row.

Both have a coefficient for every direction (docs/model.md, sections 3 and 4).
"""

import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..base import memory
from ..base import threads as _threads
from ..base.registry import ENGINES
from ..kernels import domains, rule_steps
from ..kernels import step as advance
from ..kernels.blocks import BLOCK, Plan
from ..kernels.normals import fill_normals, seed_key
from ..kernels.powers import NUM_PARTS
from ..kernels.rule_steps import advance_small, is_small
from ..kernels.sums import moves_of
from ..model.run import Run
from ..model.step_size import AdaptiveStepSize, ConstantStep, KnownStepSize
from ..physics.layout import NUM_BANDS
from .base import STATE, VELOCITY
from .plan import Shard, check_directions, given_coefficients, level_ends, make_plan
from .steppers import (
    AdaptiveSteps,
    BatchSteps,
    Jumps,
    JumpsOfOneSize,
    KnownSteps,
    Shared,
    SteppingEngine,
    advance_known,
    advance_velocity_known,
    batches_of,
    check_known,
    jump_rows,
    jump_rows_by_size,
    jump_velocity_rows,
    sums_after_step,
)

#: Kernels of a rule: (has a velocity, noise is of mini-batches, in threads).
RULE_KERNELS = {
    (False, False, False): rule_steps.advance_adaptive,
    (False, False, True): rule_steps.advance_adaptive_in_threads,
    (True, False, False): rule_steps.advance_velocity,
    (True, False, True): rule_steps.advance_velocity_in_threads,
    (False, True, False): rule_steps.advance_batches,
    (False, True, True): rule_steps.advance_batches_in_threads,
    (True, True, False): rule_steps.advance_velocity_batches,
    (True, True, True): rule_steps.advance_velocity_batches_in_threads,
}
#: Blocks from which on threads that meet at every step bring more than they cost.
MIN_BLOCKS = 24
#: Work of a coordinate and step, in normals, and with a velocity.
NORMALS, VELOCITY_NORMALS = 1.8, 2.8


@ENGINES.register("step")
class StepEngine(SteppingEngine):
    """SGD step by step on an array of float64 coefficients, updated in place.

    Parameters
    ----------
    run : Run
    serial : bool
    shard : Shard, optional
        Where the directions of the run lie among those of a whole one. Rows then have a line for
        each part instead of each band.
    """

    elsewhere: ClassVar[Mapping[str, tuple[str, str]]] = {
        "cuda": ("suspalign_fast.engines.gpu", "GpuStepEngine")
    }
    #: The same where noise depends on the state.
    elsewhere_of_state: ClassVar[Mapping[str, tuple[str, str]]] = {
        "cuda": ("suspalign_fast.engines.gpu", "GpuBatchEngine")
    }
    can_be_probed = True
    takes_velocity = True
    can_be_sharded = True

    def __init__(self, run: Run, *, serial: bool = False, shard: Shard | None = None) -> None:
        super().__init__(run, serial=serial)
        self.shard: Shard | None = shard
        check_directions(run)
        spectrum = run.problem.spectrum
        memory.check(f"engine {run.engine!r} at d = {spectrum.dim:,}", self.bytes_of(run))
        self.threads: int = 1 if serial else _threads.allowed()
        self._plan = make_plan(run.problem, shard)
        if shard is not None:
            self.lines: int = len(self._plan.parts)
        self._batches = batches_of(run.problem)
        self._factors: tuple[float, ...] = tuple(run.optimizer.factors)
        self.planes = {STATE: initial_state(run, shard)}
        if run.optimizer.has_velocity:
            self.planes[VELOCITY] = np.zeros_like(self.state)
        self._prepare()

    @property
    def plan(self) -> Plan:
        """The problem as the kernels take it."""
        return self._plan._replace(threads=self.threads)

    @classmethod
    def places(cls, run: Run) -> Mapping[str, tuple[str, str]]:
        """Return the devices that a run may be on, and what runs it there."""
        of_state = run.problem.noise.depends_on_state
        return cls.elsewhere_of_state if of_state else cls.elsewhere

    @classmethod
    def takes(cls, run: Run) -> bool:
        """Whether it can do a run: it needs every direction."""
        return super().takes(run) and not run.problem.spectrum.is_compressed

    @classmethod
    def seconds(cls, run: Run, threads: int, normal: float) -> float:
        """Return the expected time of a run."""
        dim = run.problem.spectrum.dim
        normals = VELOCITY_NORMALS if run.optimizer.has_velocity else NORMALS
        return run.num_steps * dim * normals * normal / max(1, min(threads, dim // BLOCK))

    @classmethod
    def bytes_of(cls, run: Run) -> int:
        """Memory that an engine takes beside what its problem holds already."""
        spectrum = run.problem.spectrum
        law = run.problem.noise_law
        own_noise = law is None or law.power > 0
        size = np.dtype(run.dtype).itemsize * spectrum.dim * (1 + run.optimizer.has_velocity)
        size += 8 * spectrum.num_levels * (law is not None and law.power > 0)
        if not spectrum.is_simple:  # blocks with several levels hold their values
            blocks = min(spectrum.dim // BLOCK + 2, spectrum.num_levels + 1)
            size += 8 * BLOCK * blocks * (1 + own_noise)
        return size + cls.bytes_of_moves(run)

    @classmethod
    def bytes_of_moves(cls, run: Run) -> int:
        """Memory that the choice of the steps takes."""
        observes = isinstance(run.step_size, AdaptiveStepSize) and run.step_size.observes
        return 8 * run.problem.spectrum.num_levels * observes

    def _prepare(self) -> None:
        if self._batches is None and isinstance(self.run.step_size, KnownStepSize):
            known = (
                advance_velocity_known
                if self.run.optimizer.has_velocity
                else self._finished(advance_known)
            )
            self.stepper = KnownSteps(self, known)
        elif self._batches is None and not self.run.optimizer.has_velocity and is_small(self.plan):
            self.stepper = AdaptiveSteps(self, advance_small)
        else:
            in_threads = self._meets_at_every_step()
            kernel = RULE_KERNELS[
                self.run.optimizer.has_velocity, self._batches is not None, in_threads
            ]
            make = AdaptiveSteps if self._batches is None else BatchSteps
            self.stepper = make(self, kernel)

    def model(self, planes: Mapping[str, NDArray[Any]] | None = None) -> tuple[Any, ...]:
        """Return what a kernel takes first: planes, the cut, the optimizer's factors, batches."""
        return self._model_of_steps(self.planes if planes is None else planes)

    def _model_of_steps(self, planes: Mapping[str, NDArray[Any]]) -> tuple[Any, ...]:
        """Return what kernels of single steps take first; `jump` tries such steps, too."""
        state = planes[STATE]
        return state, planes.get(VELOCITY, state), self.plan, self._factors, self._batches

    def _meets_at_every_step(self) -> bool:
        """Whether threads share a step, whose sums decide on the next one."""
        if self.threads > 1 and self.plan.blocks.shape[0] >= MIN_BLOCKS:
            _threads.start()
            self.kernel_threads: int = self.threads
        return self.kernel_threads > 1

    def _finished(self, kernel: Shared) -> Shared:
        """Return a kernel that makes the rows of this engine."""
        return kernel if self.shard is None else kernel.apart()

    def initial_sums(self) -> NDArray[np.float64]:
        """Sums of the state, shape (lines, row_size)."""
        return self.sums_of(self.planes)

    def sums_of(self, planes: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Sums of a state, as ``layout`` lays them out, shape (lines, row_size)."""
        state = planes[STATE]
        table = np.zeros((len(self._plan.parts), 1, self.row_size))
        out = np.empty((1, self.lines, self.row_size))
        kernel = advance.sum_velocity_parts if VELOCITY in planes else advance.sum_parts
        kernel(state, planes.get(VELOCITY, state), self.plan, table)
        self._finished(advance_known).finish(self.plan, table, out)
        return out[0]

    def sums_after(
        self,
        planes: Mapping[str, NDArray[np.float64]],
        noise_step: int,
        step_size: float,
        update: tuple[float, float],
    ) -> NDArray[np.float64]:
        """Sums one step after a state, with the noise of step `noise_step`; changes nothing."""
        for name, values in planes.items():
            np.copyto(self._scratch[name], values)
        if self._batches is not None:
            return sums_after_step(self, self._scratch, noise_step, step_size, update)
        known = advance_velocity_known if VELOCITY in planes else advance_known
        sums = np.empty((1, NUM_BANDS, self.row_size))
        moves, slots = moves_of(np.array([step_size]), update), np.zeros(1, np.int64)
        known(*self._model_of_steps(self._scratch), noise_step, moves, slots, *self.key, sums)
        return sums[0]

    def scaled(
        self,
        planes: Mapping[str, NDArray[np.float64]],
        coefficients: tuple[float, float],
        velocity: tuple[float, float] = (1.0, 1.0),
    ) -> dict[str, NDArray[np.float64]]:
        """Return a state with coefficients and velocities of each band multiplied by factors."""
        split = self.run.problem.spectrum.num_dominant
        made = {name: values.copy() for name, values in planes.items()}
        for name, factors in ((STATE, coefficients), (VELOCITY, velocity)):
            if name in made:
                made[name][:split] *= factors[0]
                made[name][split:] *= factors[1]
        return made

    def products(self, planes: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Squares of the coefficients; with a velocity its products with them and its squares."""
        c = planes[STATE]
        v = planes.get(VELOCITY)
        return np.array([c * c] if v is None else [c * c, c * v, v * v])

    @functools.cached_property
    def _scratch(self) -> dict[str, NDArray[np.float64]]:
        return {name: np.empty_like(values) for name, values in self.planes.items()}

    def observe(self, out: NDArray[np.float64]) -> None:
        """Write the sums of the next step's noisy gradient."""
        observe = rule_steps.observe if self._batches is None else rule_steps.observe_batch
        model = self._model_of_steps({STATE: self.state})  # a gradient has nothing of a velocity
        observe(*model, self.step, *self.key, out)


def initial_state(run: Run, shard: Shard | None = None) -> NDArray[Any]:
    """Return the initial coefficients of a run, whose directions may be a shard of others."""
    state = given_coefficients(run)
    if state is None:
        state = np.empty(run.problem.spectrum.dim, run.dtype)
        block = shard.first // BLOCK if shard else 0
        fill_normals(state, run.problem.initial, domains.INITIAL, 0, *seed_key(run.seed), block)
    return state


# --- A normal a coordinate and recorded row, whatever the stride (docs/model.md, section 3) ------
#
# With a velocity two normals, and a move is a matrix (docs/momentum.md).


#: Work of a coordinate and row, in normals, and with a velocity.
JUMP_NORMALS, VELOCITY_JUMP_NORMALS = 2.2, 4.0
#: Work of the move of a level with a velocity, for each doubling of its steps, or for each step of
#: a schedule.
JOINING = 40.0


@ENGINES.register("jump")
class JumpEngine(StepEngine):
    """Moves from recorded row to recorded row: exact in law there, for known step sizes."""

    jumps = True
    elsewhere: ClassVar[Mapping[str, tuple[str, str]]] = {
        "cuda": ("suspalign_fast.engines.gpu", "GpuJumpEngine")
    }
    elsewhere_of_state = elsewhere  # where such noise is refused, as here
    needs_known_steps = True
    is_exact_in_law = True

    @classmethod
    def seconds(cls, run: Run, threads: int, normal: float) -> float:
        """Return the expected time of a run."""
        dim = run.problem.spectrum.dim
        work = run.num_rows * dim * JUMP_NORMALS
        if run.optimizer.has_velocity:
            work = run.num_rows * dim * VELOCITY_JUMP_NORMALS + _work_of_moves(run)
        return work * normal / max(1, min(threads, dim // BLOCK))

    def __init__(self, run: Run, *, serial: bool = False, shard: Shard | None = None) -> None:
        check_known(run)
        super().__init__(run, serial=serial, shard=shard)

    @classmethod
    def bytes_of_moves(cls, run: Run) -> int:
        """Memory of the coefficients of a move, and of rates where the update has weights."""
        if run.optimizer.has_velocity:
            return 8 * NUM_PARTS * run.problem.spectrum.num_levels
        weighted = run.update != (1.0, 1.0)
        if _is_of_one_size(run):
            return 8 * run.problem.spectrum.num_levels * (1 + weighted)
        irregular = run.record_at is not None and isinstance(run.step_size, ConstantStep)
        return 16 * run.problem.spectrum.num_levels * (1 + weighted + irregular)

    def _prepare(self) -> None:
        if self.run.optimizer.has_velocity:
            self.stepper = Jumps(self, jump_velocity_rows)
        elif _is_of_one_size(self.run):
            self.stepper = JumpsOfOneSize(self, self._finished(jump_rows_by_size))
        else:
            self.stepper = Jumps(self, self._finished(jump_rows))

    def model(self, planes: Mapping[str, NDArray[Any]] | None = None) -> tuple[Any, ...]:
        """Return what a kernel takes first: planes, the cut, and where levels end."""
        planes = self.planes if planes is None else planes
        state = planes[STATE]
        return state, planes.get(VELOCITY, state), self.plan, self._level_ends

    @functools.cached_property
    def _level_ends(self) -> NDArray[np.int64]:
        return level_ends(self.run.problem.spectrum)


def _is_of_one_size(run: Run) -> bool:
    """Whether the kernel makes the coefficients of moves: where each direction has its own."""
    return type(run.step_size) is ConstantStep and run.problem.spectrum.is_simple


def _work_of_moves(run: Run) -> float:
    """Return the work of the coefficients of all moves with a velocity, in normals."""
    levels = run.problem.spectrum.num_levels
    if type(run.step_size) is not ConstantStep:
        return levels * run.num_steps * JOINING
    moves = 1 if run.record_at is None else run.num_rows
    stride = max(1.0, run.num_steps / run.num_rows)
    return levels * moves * (1.0 + math.log2(stride)) * JOINING
