"""The engine `step` on mini-batches of data on a GPU."""

import weakref
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from ..kernels import gpu_batches, gpu_block
from ..kernels.data_noise import Batches, squared_norms
from ..kernels.plan import BAND, BLOCK
from ..kernels.rules import Record, Ruling
from ..row import CROSS_AT, CROSS_SUMS, NOISY_AT, NUM_BANDS, NUM_SUMS, ROW_SIZE, WEIGHT_AT
from .batches import BatchSteps, batches_of
from .gpu import GpuStepEngine

Array = NDArray[np.float64]


class GpuBatchEngine(GpuStepEngine):
    """SGD on mini-batches of data: every step is a sum over all coordinates, as under a rule."""

    def _bytes_of_model(self) -> int:
        return 8 * self.run.problem.spectrum.dim

    def _place_model(self, processors: int) -> None:
        spectrum = self.run.problem.spectrum
        has_velocity = self.run.optimizer.has_velocity
        self.way = gpu_batches.VELOCITY_BATCHES if has_velocity else gpu_batches.PLAIN_BATCHES
        self.std = self._spread(self.run.problem.stds)
        blocks = gpu_block.cut_every(spectrum.dim, spectrum.num_dominant, BLOCK)
        num_dominant = int(np.count_nonzero(blocks[:, BAND] == 0))
        parts = gpu_block.cut(len(blocks), num_dominant, processors, 1)
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
        self.stepper: BatchSteps = BatchSteps(
            self, GpuBatchEngine._advance, weakref.proxy(self), batches
        )
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
        stepper.kernel(*stepper.model, self.step, 0, ruling, record, *self.key)
        return ruling.sums

    def _advance(
        self, batches: Batches, first_step: int, num_steps: int, ruling: Ruling, record: Record,
        key_0: Any, key_1: Any,
    ) -> tuple[int, int]:  # fmt: skip
        """As `kernels.data_steps.advance_batches`, in one launch."""
        us = np.empty(num_steps + 1)
        squared_norms(first_step, key_0, key_1, batches.twice_d, batches.slope, us)
        numbers = np.array([batches.size, batches.label_std])
        known = cuda.to_device(numbers), cuda.to_device(batches.traces)
        return self._launch_adaptive(
            gpu_batches.THREADS, ruling, record,
            tuple(self._planes.values()), self._factors, self.std, self.plan_blocks, self.parts,
            known, cuda.to_device(us), cuda.to_device(ruling.weights), first_step, num_steps,
            cuda.to_device(np.append(record.wanted, -1)), key_0, key_1, *self.along, *self.turns,
        )  # fmt: skip
