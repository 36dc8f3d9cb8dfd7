"""The default engine: every step of the sample path, in compiled kernels (DESIGN section 4)."""

import numpy as np
from numpy.typing import NDArray

from .. import _checks
from ..kernels import advance, block
from ..kernels.normals import INITIAL_DOMAIN, MAX_COORDINATES, fill_normals, seed_key
from ..noise import HessianNoise, IsotropicNoise
from ..problem import Quadratic
from ..run import Run
from ..step_size import KnownStepSize
from .base import Engine, Rows

# Read-only like the arrays it stands in for: Numba compiles once.
_NO_LEVELS = _checks.read_only(np.empty(0))


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
        self.parts = advance.cut_into_parts(spectrum.dim, spectrum.num_dominant)
        self.weights = np.array(run.update)
        ends = np.empty(0, np.int64) if spectrum.is_simple else np.cumsum(spectrum.multiplicities)
        self.model = (spectrum.eigenvalues, ends, _kernel_noise(run.problem))
        self.state = self._initial_state()
        self.advance(0)  # compiles, so that a progress bar starts with the steps

    def initial_row(self) -> Rows:
        """Return row 0, the initial state."""
        sums = np.empty((1, 2, block.ROW))
        advance.sum_state(self.state, *self.model, self.parts, sums[0])
        steps = np.array([self.step])
        return Rows.from_sums(steps, self._step_sizes(self.step, self.step + 1), sums)

    def advance(self, num_steps: int) -> Rows:
        """Do `num_steps` steps and return the rows recorded on the way."""
        recorded = self.recorded_steps(num_steps)
        slots = np.full(num_steps, -1, dtype=np.int64)
        slots[recorded - self.step - 1] = np.arange(recorded.size)
        sums = np.empty((recorded.size, 2, block.ROW))
        sizes = self._step_sizes(self.step, self.step + num_steps + 1)
        advance.advance_scheduled(
            self.state, *self.model, self.parts,
            self.step, sizes[:-1], self.weights, slots, *self.key, sums,
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


def _kernel_noise(problem: Quadratic) -> tuple[int, float, NDArray[np.float64]]:
    """Return the noise as the kernels take it: kind, scale, standard deviations of levels."""
    match problem.noise:
        case IsotropicNoise(std):
            return block.ISOTROPIC, std, _NO_LEVELS
        case HessianNoise(std):
            return block.HESSIAN, std, _NO_LEVELS
    return block.DIAGONAL, 0.0, _checks.read_only(problem.stds)
