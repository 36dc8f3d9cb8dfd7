"""The default engine: every step of the sample path, in compiled kernels (DESIGN section 4)."""

import numpy as np
from numpy.typing import NDArray

from ..kernels import advance
from ..kernels.normals import INITIAL_DOMAIN, MAX_COORDINATES, fill_normals, seed_key
from ..kernels.plan import ROW, make_plan
from ..run import Run
from ..step_size import KnownStepSize
from .base import Engine, Rows

class StepEngine(Engine):
    """SGD step by step on an array of float64 coefficients, updated in place."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        spectrum = run.problem.spectrum
        if spectrum.dim > MAX_COORDINATES:
            raise ValueError(
                f"engine 'step' takes at most {MAX_COORDINATES} dimensions, got {spectrum.dim}"
            )
        self.key = seed_key(run.seed)
        self.plan = make_plan(run.problem)
        self.weights = np.array(run.update)
        self.state = self._initial_state()
        self.advance(0)  # compiles, so that a progress bar starts with the steps

    def initial_row(self) -> Rows:
        """Return row 0, the initial state."""
        sums = np.empty((1, 2, ROW))
        advance.sum_state(self.state, self.plan, sums[0])
        steps = np.array([self.step])
        return Rows.from_sums(steps, self._step_sizes(self.step, self.step + 1), sums)

    def advance(self, num_steps: int) -> Rows:
        """Do `num_steps` steps and return the rows recorded on the way."""
        recorded = self.recorded_steps(num_steps)
        slots = np.full(num_steps, -1, dtype=np.int64)
        slots[recorded - self.step - 1] = np.arange(recorded.size)
        sums = np.empty((recorded.size, 2, ROW))
        sizes = self._step_sizes(self.step, self.step + num_steps + 1)
        advance.advance_scheduled(
            self.state, self.plan, self.step, sizes[:-1], self.weights, slots, *self.key, sums,
        )  # fmt: skip
        row_sizes = sizes[recorded - self.step]
        self.step += num_steps
        return Rows.from_sums(recorded, row_sizes, sums)

    def _step_sizes(self, start: int, stop: int) -> NDArray[np.float64]:
        rule = self.run.step_size
        assert isinstance(rule, KnownStepSize)
        return rule.values(start, stop)

    def _initial_state(self) -> NDArray[np.float64]:
        spectrum, initial = self.run.problem.spectrum, self.run.problem.initial
        if isinstance(initial, np.ndarray):
            per_level = initial.size != spectrum.dim
            return np.repeat(initial, spectrum.multiplicities) if per_level else initial.copy()
        state = np.empty(spectrum.dim)
        fill_normals(state, initial, INITIAL_DOMAIN, 0, *self.key)
        return state
