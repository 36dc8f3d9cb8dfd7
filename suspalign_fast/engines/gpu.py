"""The engines `step` and `jump` on a GPU: same noise, same rows, same checkpoints."""

from typing import Any

import numpy as np
from numba import cuda
from numba.core.errors import NumbaError
from numpy.typing import NDArray

from ..base import memory
from ..base.reports import explain
from ..kernels import domains
from ..kernels.batches import Batches, squared_norms
from ..kernels.blocks import BAND, BLOCK
from ..kernels.gpu import batches as gpu_batches
from ..kernels.gpu import plain, together
from ..kernels.gpu.rules import make_adaptive
from ..kernels.gpu.velocity import VELOCITY_WAY
from ..kernels.jit import SIMULATED
from ..kernels.normals import COORDINATES_OF_A_WORD, COUNTERS, GROUP
from ..kernels.powers import NUM_PARTS
from ..kernels.rules import Record, Ruling
from ..kernels.sums import moves_of
from ..model import devices
from ..model.run import Run
from ..model.step_size import AdaptiveStepSize, RowStep
from ..physics.layout import (
    CROSS_AT,
    CROSS_COLUMNS,
    CROSS_SUMS,
    NOISY_AT,
    NUM_BANDS,
    NUM_NOISY,
    NUM_SUMS,
    ROW_SIZE,
    WEIGHT_AT,
)
from .base import STATE, VELOCITY
from .plan import check_directions, given_coefficients, level_ends
from .steppers import (
    AdaptiveSteps,
    BatchSteps,
    Jumps,
    KnownSteps,
    SteppingEngine,
    batches_of,
    check_known,
)

Array = NDArray[np.float64]

#: Bytes, at most, of the table in which parts leave the sums of the steps of a launch, and its
#: steps, at most.
TABLE_BYTES = 2**13 if SIMULATED else 2**27
TABLE_STEPS = 2**13
#: Multiprocessors of the simulated device.
SIMULATED_PROCESSORS = 2
WORD = 2**32


class GpuStepEngine(SteppingEngine):
    """SGD step by step on coefficients that stay on the device; only rows come back."""

    takes_velocity = True
    leaves_the_cpu = True

    def __init__(self, run: Run, *, serial: bool = False) -> None:
        super().__init__(run, serial=serial)
        check_directions(run, COORDINATES_OF_A_WORD)
        spectrum = run.problem.spectrum
        has_velocity = run.optimizer.has_velocity
        planes = np.dtype(run.dtype).itemsize * (1 + has_velocity)
        needed = spectrum.dim * planes + self._bytes_of_model()
        there = None if SIMULATED else _free_memory()
        memory.compare(f"engine {run.engine!r} at d = {spectrum.dim:,}", needed, there, "the GPU")
        processors = _processors()
        self._place_model(processors)
        self._planes: dict[str, Any] = {STATE: self._initial_state()}
        if has_velocity:
            zeros = cuda.device_array(spectrum.dim, run.dtype)
            self._planes[VELOCITY] = self._fill(np.zeros(1), np.array([spectrum.dim]), zeros)
        #: Columns of a row that hold the sums of the device's, one after the other there.
        self._columns = [*range(NUM_SUMS), *CROSS_COLUMNS] if has_velocity else [*range(NUM_SUMS)]
        self._prepare(processors)

    @property
    def _is_isotropic(self) -> bool:
        law = self.run.problem.noise_law
        return law is not None and law.power == 0

    def _bytes_of_model(self) -> int:
        """Memory of the device for everything but the planes."""
        arrays = self._arrays_of_moves() + 2 - self._is_isotropic
        return 8 * self.run.problem.spectrum.dim * arrays + TABLE_BYTES

    def _place_model(self, processors: int) -> None:
        """Make what kernels take beside the planes."""
        problem = self.run.problem
        self.way: Any = VELOCITY_WAY if self.run.optimizer.has_velocity else plain.PLAIN_WAY
        self.parts: Any = self._cut(processors * together.BLOCKS)
        self.lam: Any = self._spread(problem.spectrum.eigenvalues)
        one = cuda.to_device(problem.stds[:1].copy()) if self._is_isotropic else None
        self.std: Any = self._spread(problem.stds) if one is None else one
        self.table: Any = self._table(self.parts, TABLE_BYTES)

    def _arrays_of_moves(self) -> int:
        """Arrays of float64 beside problem and planes that have an entry for every direction."""
        return 0

    @property
    def _plane_arrays(self) -> tuple[Any, ...]:
        """Arrays of the planes, as kernels take them: the state first."""
        names = (STATE, VELOCITY) if self.run.optimizer.has_velocity else (STATE,)
        return tuple(self._planes[name] for name in names)

    @property
    def _factors(self) -> tuple[float, ...]:
        return tuple(map(float, self.run.optimizer.factors))

    def _cut(self, count: int) -> Any:
        spectrum = self.run.problem.spectrum
        return cuda.to_device(together.cut(spectrum.dim, spectrum.num_dominant, count))

    def _table(self, parts: Any, size: int) -> Any:
        """Table of as many steps as fit, at least one tile of them."""
        width, tile = self.way.width, self.way.tile
        steps = min(TABLE_STEPS, size // (8 * width * len(parts)))
        steps = max(1, steps // tile) * tile
        return cuda.to_device(np.zeros((len(parts), steps, width)))

    def _spread(self, values: Array, out: Any = None) -> Any:
        """Return values of levels, on the device, with an entry for every direction."""
        spectrum = self.run.problem.spectrum
        if out is None:
            out = cuda.device_array(spectrum.dim, np.float64)
        if spectrum.is_simple:
            out.copy_to_device(np.ascontiguousarray(values))
            return out
        return self._fill(values, level_ends(spectrum), out)

    @staticmethod
    def _fill(values: Array, ends: NDArray[np.int64], out: Any) -> Any:
        """Set an array on the device to values, each from the end of the one before to its own."""
        together.launch(plain.spread, _blocks(out.size), together.THREADS)(
            cuda.to_device(values), cuda.to_device(ends), out
        )
        return out

    def _initial_state(self) -> Any:
        if (given := given_coefficients(self.run)) is not None:
            return cuda.to_device(given)
        problem = self.run.problem
        state = cuda.device_array(problem.spectrum.dim, self.run.dtype)
        counters = COUNTERS * -(-problem.spectrum.dim // GROUP)
        together.launch(plain.fill_normals, _blocks(counters), together.THREADS)(
            state, problem.initial, domains.INITIAL, 0, 0, *self.key
        )
        return state

    def _prepare(self, processors: int) -> None:
        rule = self.run.step_size
        if isinstance(rule, AdaptiveStepSize):
            self._make_adaptive(rule, processors)
            self.stepper = AdaptiveSteps(self, GpuStepEngine._advance_adaptive)
        else:
            self.stepper = KnownSteps(self, GpuStepEngine._advance_known)

    def warm_up(self) -> None:
        """Compile the kernel of a rule: one that does not compile is refused before work starts."""
        try:
            self.advance(0)
        except (NumbaError, RecursionError, RuntimeError) as error:
            if isinstance(error, devices.DeviceError):
                raise
            rule = self.run.step_size
            source = rule.function.py_func.__code__.co_filename if isinstance(rule, RowStep) else ""
            raise ValueError(
                "step_size must be a rule that compiles for device 'cuda', without arrays of its "
                "own and functions that Numba's CUDA target lacks, got "
                f"{rule!r}: {explain(error, source)}"
            ) from None

    # --- what every engine does ------------------------------------------------------------

    def model(self, planes: Any = None) -> tuple[Any, ...]:
        """Return the engine: kernels here are its methods."""
        return (self,)

    @property
    def planes(self) -> dict[str, NDArray[Any]]:  # type: ignore[override]
        """Copies of the planes."""
        return {name: plane.copy_to_host() for name, plane in self._planes.items()}

    def restore(self, snapshot: dict[str, NDArray[Any]]) -> None:
        """Go on where a snapshot of the same run was taken, on whatever device."""
        super().restore(snapshot)
        for name, plane in self._planes.items():
            plane.copy_to_device(np.ascontiguousarray(snapshot[name]))

    def initial_sums(self) -> Array:
        """Sums of the state, shape (bands, ROW_SIZE)."""
        together.launch(self.way.sum_state, len(self.parts), together.THREADS)(
            self._plane_arrays, self.lam, self.std, self.parts, self.table
        )
        return self._rows(self.table, self.parts, np.zeros(1, np.int64))[0]

    def observe(self, out: Array) -> None:
        """Write the sums of the next step's noisy gradient."""
        table = cuda.to_device(np.zeros((len(self.adaptive_parts), 1, ROW_SIZE)))
        together.launch(plain.observe, len(self.adaptive_parts), plain.RULE_THREADS)(
            self._planes[STATE], self.lam, self.std, self.adaptive_parts, *_words(self.step),
            *self.key, table,
        )  # fmt: skip
        first = np.zeros(1, np.int64)
        out[...] = self._added(plain.PLAIN_WAY, table, self.adaptive_parts, first)[0][:, :NUM_NOISY]

    # --- launches --------------------------------------------------------------------------

    @staticmethod
    def _added(way: together.Way, table: Any, parts: Any, at: NDArray[np.int64]) -> Array:
        """Sums over parts at some steps of a table."""
        out = np.zeros((at.size, 2, way.width))
        if at.size:
            device_out = cuda.device_array(out.shape, np.float64)
            together.launch(way.add_parts, at.size, together.LANES * way.width)(
                table, parts, cuda.to_device(at), device_out
            )
            device_out.copy_to_host(out)
        return out

    def _rows(self, table: Any, parts: Any, at: NDArray[np.int64]) -> Array:
        """Rows of a table at some steps, laid out as those of the CPU."""
        return self._as_rows(self._added(self.way, table, parts, at))

    def _as_rows(self, sums: Array) -> Array:
        rows = np.zeros((len(sums), 2, self.row_size))
        rows[..., self._columns] = sums[..., : len(self._columns)]
        return rows

    def _advance_known(
        self, first_step: int, moves: Array, slots: NDArray[np.int64], key_0: Any, key_1: Any,
        out: Array,
    ) -> None:  # fmt: skip
        """As `steppers.advance_known`, in launches of as many steps as the table has."""
        if len(moves) == 0:
            return
        there = cuda.to_device(moves)
        begin = 0
        while begin < len(moves):
            low, high = _words(first_step + begin)
            end = min(len(moves), begin + self.table.shape[1], begin + WORD - low)
            together.launch(self.way.advance, len(self.parts), together.THREADS)(
                self._plane_arrays, self._factors, self.lam, self.std, self.parts,
                there[begin:end], low, high, key_0, key_1, self.table,
            )  # fmt: skip
            at = np.flatnonzero(slots[begin:end] >= 0)
            out[slots[begin:end][at]] = self._rows(self.table, self.parts, at)
            begin = end
        cuda.synchronize()  # where no row came back, so that the time of a call is that of its work

    def _make_adaptive(self, rule: AdaptiveStepSize, processors: int) -> None:
        most = processors * self.way.blocks
        self.adaptive_parts: Any = self._cut(most)
        #: Blocks that a cooperative launch may have; the simulator has one at a time.
        self.blocks: int = 1 if SIMULATED else min(most, len(self.adaptive_parts))
        self.turns: tuple[Any, Any] = (
            cuda.to_device(np.zeros((2, len(self.adaptive_parts), self.way.width))),
            cuda.to_device(np.zeros((2, len(self.adaptive_parts), ROW_SIZE))),
        )
        self.kernel: Any = make_adaptive(rule.compiled, rule.observes, self.way)

    def _advance_adaptive(
        self, first_step: int, num_steps: int, ruling: Ruling, record: Record, key_0: Any,
        key_1: Any,
    ) -> tuple[int, int]:  # fmt: skip
        """As `kernels.rule_steps.advance_adaptive`, in one launch."""
        moves = moves_of(ruling.step_size, ruling.weights)
        return self._launch_adaptive(
            self.way.threads, ruling, record,
            self._plane_arrays, self._factors, self.lam, self.std, self.adaptive_parts,
            cuda.to_device(ruling.weights), first_step, num_steps,
            cuda.to_device(np.append(record.wanted, -1)), key_0, key_1, *self.turns,
            cuda.to_device(np.repeat(moves, self.blocks, axis=0)),
        )  # fmt: skip

    def _launch_adaptive(
        self, threads: int, ruling: Ruling, record: Record, *arguments: Any
    ) -> tuple[int, int]:
        """Launch the cooperative kernel of a rule; return the steps done and the rows recorded."""
        changing = ruling.sums, ruling.memory, ruling.step_size
        # One memory will do for all blocks if no step changes it.
        copies = self.blocks if "memory" in self.stepper.mutable() else 1
        changed = [
            cuda.to_device(np.repeat(array[None], count, axis=0))
            for array, count in (
                (ruling.sums, self.blocks),
                (ruling.memory, copies),
                (ruling.step_size[0], self.blocks),
            )
        ]
        compact = np.zeros((*record.sums.shape[:2], self.way.width))
        results = [cuda.to_device(array) for array in (compact, record.steps, record.sizes)]
        progress = cuda.to_device(np.full(2, -1, np.int64))
        together.launch(self.kernel, self.blocks, threads)(*arguments, *changed, *results, progress)
        record.sums[...] = self._as_rows(results[0].copy_to_host())
        results[1].copy_to_host(record.steps)
        results[2].copy_to_host(record.sizes)
        for array, result in zip(changing, changed, strict=True):
            array[...] = result.copy_to_host()[0]
        done, rows = progress.copy_to_host().tolist()
        if done < 0:
            raise devices.DeviceError(
                "the kernel ended before its steps: step_size must be a rule that raises no "
                f"exception on a GPU, got {self.run.step_size!r}"
            )
        return done, rows


class GpuJumpEngine(GpuStepEngine):
    """Moves from recorded row to recorded row, by the coefficients of the CPU's `jump`."""

    jumps = True

    def __init__(self, run: Run, *, serial: bool = False) -> None:
        check_known(run)
        super().__init__(run, serial=serial)

    def _arrays_of_moves(self) -> int:
        return NUM_PARTS if self.run.optimizer.has_velocity else 2

    def _prepare(self, processors: int) -> None:
        dim = self.run.problem.spectrum.dim
        self._move = tuple(
            cuda.device_array(dim, np.float64) for _ in range(self._arrays_of_moves())
        )
        self.stepper = Jumps(self, GpuJumpEngine._jump)

    def _jump(self, *arguments: Any) -> None:
        """As `steppers.jump_rows` and `steppers.jump_velocity_rows`."""
        coefficients, steps, key_0, key_1, out = arguments
        moves = len(coefficients[0])
        most = self.table.shape[1] if moves == 1 else 1
        for begin in range(0, steps.size, most):
            end = min(steps.size, begin + most)
            if begin == 0 or moves > 1:
                for values, array in zip(coefficients, self._move, strict=True):
                    self._spread(values[begin], array)
            together.launch(self.way.jump_rows, len(self.parts), together.THREADS)(
                self._plane_arrays, self._move, self.lam, self.std, self.parts,
                *map(cuda.to_device, _words(steps[begin:end])), key_0, key_1, self.table,
            )  # fmt: skip
            out[begin:end] = self._rows(self.table, self.parts, np.arange(end - begin))


def _free_memory() -> int:
    """Bytes of the device that nobody holds, Numba's waiting deallocations done."""
    context = cuda.current_context()
    context.deallocations.clear()
    return int(context.get_memory_info().free)


def _words(step: Any) -> tuple[Any, Any]:
    """Low and high word of a step."""
    return step & (WORD - 1), step >> 32


def _blocks(threads: int) -> int:
    """Blocks for so many threads."""
    return -(-threads // together.THREADS)


def _processors() -> int:
    """Multiprocessors of the device."""
    if SIMULATED:
        return SIMULATED_PROCESSORS
    return int(cuda.get_current_device().MULTIPROCESSOR_COUNT)


# --- The engine `step` on mini-batches of data on a GPU ------------------------------------------


class GpuBatchEngine(GpuStepEngine):
    """SGD on mini-batches of data: every step is a sum over all coordinates, as under a rule."""

    def _bytes_of_model(self) -> int:
        return 8 * self.run.problem.spectrum.dim

    def _place_model(self, processors: int) -> None:
        spectrum = self.run.problem.spectrum
        has_velocity = self.run.optimizer.has_velocity
        self.way = gpu_batches.VELOCITY_BATCHES if has_velocity else gpu_batches.PLAIN_BATCHES
        self.std = self._spread(self.run.problem.stds)
        blocks = together.cut_every(spectrum.dim, spectrum.num_dominant, BLOCK)
        num_dominant = int(np.count_nonzero(blocks[:, BAND] == 0))
        parts = together.cut(len(blocks), num_dominant, processors, 1)
        self.plan_blocks: Any = cuda.to_device(blocks)
        self.parts = cuda.to_device(parts)
        #: Norms of the blocks' parts of the state, and the normals along them.
        self.along: tuple[Any, Any] = (
            cuda.to_device(np.zeros(len(blocks))),
            cuda.to_device(np.zeros(len(blocks))),
        )
        self.turns: tuple[Any, Any] = (
            cuda.to_device(np.zeros((2, len(parts), self.way.width))),
            cuda.to_device(np.zeros((2, len(parts), ROW_SIZE))),
        )

    def _prepare(self, processors: int) -> None:
        batches = batches_of(self.run.problem)
        assert batches is not None
        self.stepper: BatchSteps = BatchSteps(self, GpuBatchEngine._advance)
        self._batches: Batches = batches
        rule = self.stepper.rule
        #: Blocks that a cooperative launch may have; the simulator has one at a time.
        self.blocks: int = 1 if gpu_batches.SIMULATED else min(processors, len(self.parts))
        self.kernel: Any = gpu_batches.make_batches(rule.compiled, rule.observes, self.way)

    def initial_sums(self) -> Array:
        """Sums of the state, shape (bands, ROW_SIZE)."""
        sums = self._sums_now()
        columns = [*range(NUM_SUMS), *range(CROSS_AT, CROSS_AT + len(CROSS_SUMS.terms))]
        return self._as_rows(sums[None][..., columns])[0]

    def observe(self, out: Array) -> None:
        """Write the sums of the next step's noisy gradient."""
        out[...] = self._sums_now()[:, NOISY_AT:WEIGHT_AT]

    def _sums_now(self) -> Array:
        """Return the table of a rule at the state, by no step at all."""
        stepper = self.stepper
        ruling = stepper.ruling._replace(sums=stepper.ruling.sums.copy())
        none = np.empty(0, np.int64)
        record = Record(none, np.empty((0, NUM_BANDS, self.row_size)), none, np.empty(0))
        stepper.kernel(self, self.step, 0, ruling, record, *self.key)
        return ruling.sums

    def _advance(
        self, first_step: int, num_steps: int, ruling: Ruling, record: Record, key_0: Any,
        key_1: Any,
    ) -> tuple[int, int]:  # fmt: skip
        """As `kernels.rule_steps.advance_batches`, in one launch."""
        batches = self._batches
        us = np.empty(num_steps + 1)
        squared_norms(first_step, key_0, key_1, batches.twice_d, batches.slope, us)
        numbers = np.array([batches.size, batches.label_std])
        known = cuda.to_device(numbers), cuda.to_device(batches.traces)
        return self._launch_adaptive(
            gpu_batches.THREADS, ruling, record,
            self._plane_arrays, self._factors, self.std, self.plan_blocks, self.parts,
            known, cuda.to_device(us), cuda.to_device(ruling.weights), first_step, num_steps,
            cuda.to_device(np.append(record.wanted, -1)), key_0, key_1, *self.along, *self.turns,
        )  # fmt: skip
