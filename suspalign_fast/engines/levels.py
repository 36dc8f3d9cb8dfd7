"""Two random numbers a level and row, whatever the dimension (``kernels.levels``)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _memory
from ..kernels import levels
from ..kernels.plan import ROW
from ..run import Run
from ..step_size import KnownStepSize
from .adaptive import AdaptiveSteps
from .base import Engine, Rows
from .moves import Moves

Array = NDArray[np.float64]
#: Arrays with an entry for every level that the engine holds at once.
ARRAYS = 24


class LevelsEngine(Engine):
    """Moves ``Q = sum c^2`` of each level: from row to row, or step by step under a rule.

    Exact in law at the recorded rows. The state has shape (num_levels,).
    """

    can_be_probed = True

    def __init__(self, run: Run, *, serial: bool = False) -> None:
        if run.dtype != "float64":
            raise ValueError(f"dtype must be 'float64' in engine 'levels', got {run.dtype!r}")
        super().__init__(run, serial=serial)
        problem = run.problem
        spectrum = problem.spectrum
        count = spectrum.num_levels
        _memory.check(f"engine 'levels' with {count:,} levels", ARRAYS * 8 * count)
        self.split: int = spectrum.num_dominant_levels
        self.lam: Array = spectrum.eigenvalues
        self.std: Array = np.ascontiguousarray(problem.stds)
        self.level_weights: Array = spectrum.per_level(run.update)
        self.freedom: Array = spectrum.multiplicities.astype(np.float64) - 1.0
        powers = [self.lam**p for p in (1, 2, 3, 4)]
        powers += [self.lam**p * self.std**2 for p in (4, 5, 6)]
        self.sum_weights: Array = np.stack([*powers, np.zeros_like(self.lam)])
        self.state = self._initial_state()
        rule = run.step_size
        self.jumps: bool = isinstance(rule, KnownStepSize)
        if isinstance(rule, KnownStepSize):
            rate, push = (spectrum.weighted(values, run.update) for values in (self.lam, self.std))
            self.moves: Moves = Moves(rule, rate, push)
        else:
            self.stepper: AdaptiveSteps = AdaptiveSteps(
                self, levels.advance_levels, self.state, self.lam, self.std,
                self.level_weights, self.sum_weights, self.split, self.freedom,
            )  # fmt: skip
        self.advance(0)  # compiles, so that a progress bar starts with the steps

    def mutable(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that steps change."""
        if self.jumps:
            return {"state": self.state, "now": self.moves.now}
        return {"state": self.state} | self.stepper.mutable()

    def refill(self) -> None:
        """Write what no step changes again."""
        if not self.jumps:
            self.stepper.refill()

    def initial_row(self) -> Rows:
        """Return row 0, the initial state."""
        sums = self.sums_of(self.state)
        if self.jumps:
            sizes = self.moves.rule.values(self.step, self.step + 1)
        else:
            sizes = self.stepper.start(sums)
        return Rows.from_sums(np.array([self.step]), sizes, sums[None])

    def advance(self, num_steps: int) -> Rows:
        """Do `num_steps` steps and return the rows recorded on the way."""
        rows = self._jump(num_steps) if self.jumps else self.stepper.advance(num_steps)
        self.step += num_steps
        return rows

    def sums_of(self, state: Array) -> Array:
        """Sums S_1 ... S_4, R_4 ... R_6 of both bands of a state, shape (2, 8), last column 0."""
        sums = np.empty((2, ROW))
        levels.sum_levels(state, self.sum_weights, self.split, sums)
        return sums

    def sums_after(
        self, state: Array, noise_step: int, step_size: float, update: tuple[float, float]
    ) -> Array:
        """Sums one step after a state, with the noise of step `noise_step`; changes nothing."""
        eta = step_size * self.run.problem.spectrum.per_level(update)
        sums = np.empty((1, 2, ROW))
        levels.jump_levels(
            state.copy(), self.sum_weights, self.split, self.freedom,
            (1.0 - eta * self.lam)[None], (eta * self.std)[None], np.array([noise_step]),
            *self.key, sums,
        )  # fmt: skip
        return sums[0]

    def scaled_bulk(self, state: Array, factor: float) -> Array:
        """Return a state with its bulk coefficients multiplied by a factor."""
        scaled = state.copy()
        scaled[self.split :] *= factor**2
        return scaled

    def squares(self, state: Array) -> Array:
        """Squared norm of the coefficients behind each entry of a state."""
        return state

    def _jump(self, num_steps: int) -> Rows:
        recorded = self.recorded_steps(num_steps)
        sums = np.empty((recorded.size, 2, ROW))
        for batch, a, b in self.moves.to(recorded):
            levels.jump_levels(
                self.state, self.sum_weights, self.split, self.freedom, a, b, recorded[batch],
                *self.key, sums[batch],
            )  # fmt: skip
        return Rows.from_sums(recorded, self.moves.sizes_at(recorded), sums)

    def observe(self, out: Array) -> None:
        """Write the sums of the next step's noisy gradient."""
        xi, chi = np.empty((2, self.state.size))
        levels.draw(xi, chi, self.freedom, self.step + 1, *self.key)
        levels.observe_levels(self.state, self.lam, self.std, self.split, xi, chi, out)

    def _initial_state(self) -> Array:
        """Squared norms of the levels' initial coefficients."""
        spectrum, initial = self.run.problem.spectrum, self.run.problem.initial
        if not isinstance(initial, np.ndarray):
            xi, chi = np.empty((2, spectrum.num_levels))
            levels.draw(xi, chi, self.freedom, 0, *self.key)  # no move has target step 0
            return initial * initial * (xi**2 + chi)
        if initial.size == spectrum.num_levels:
            return initial**2 * spectrum.multiplicities
        first = np.cumsum(spectrum.multiplicities) - spectrum.multiplicities
        return np.add.reduceat(initial**2, first)
