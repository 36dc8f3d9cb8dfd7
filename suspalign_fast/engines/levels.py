"""Two random numbers a level and row, whatever the dimension (``kernels.levels``)."""

import numpy as np
from numpy.typing import NDArray

from .. import _memory
from ..kernels import levels
from ..kernels.levels import Levels, drawn_for
from ..row import NUM_BANDS, NUM_SUMS, ROW_SIZE, sum_weights
from ..run import Run
from ..spec import ENGINES
from ..step_size import KnownStepSize
from .base import STATE
from .steppers import AdaptiveSteps, Jumps, SteppingEngine

Array = NDArray[np.float64]
#: Arrays with an entry for every level that the engine holds at once.
ARRAYS = 24


#: Seconds of a row, and of a level in it.
ROW_SECONDS, LEVEL_SECONDS = 4e-7, 2e-8


@ENGINES.register("levels")
class LevelsEngine(SteppingEngine):
    """Moves ``Q = sum c^2`` of each level: from row to row, or step by step under a rule.

    Exact in law at the recorded rows. The state has shape (num_levels,).
    """

    can_be_probed = True
    is_exact_in_law = True

    @classmethod
    def takes(cls, run: Run) -> bool:
        """Whether it can do a run: its state is float64."""
        return super().takes(run) and run.dtype == "float64"

    @classmethod
    def seconds(cls, run: Run, threads: int, normal: float) -> float:
        """Return the expected time of a run."""
        known = isinstance(run.step_size, KnownStepSize)
        rows = run.num_rows if known else run.num_steps + 1
        return rows * (ROW_SECONDS + LEVEL_SECONDS * run.problem.spectrum.num_levels)

    def __init__(self, run: Run, *, serial: bool = False) -> None:
        if run.dtype != "float64":
            raise ValueError(f"dtype must be 'float64' in engine 'levels', got {run.dtype!r}")
        super().__init__(run, serial=serial)
        problem = run.problem
        spectrum = problem.spectrum
        count = spectrum.num_levels
        _memory.check(f"engine 'levels' with {count:,} levels", ARRAYS * 8 * count)
        freedom = spectrum.multiplicities.astype(np.float64) - 1.0
        drawn = drawn_for(freedom)
        weights = np.zeros((ROW_SIZE, count))
        weights[:NUM_SUMS] = sum_weights(spectrum.eigenvalues, problem.stds)
        self.levels: Levels = Levels(
            spectrum.eigenvalues,
            np.ascontiguousarray(problem.stds),
            freedom,
            drawn,
            bool((drawn != freedom).any()),
            weights,
            spectrum.num_dominant_levels,
        )
        self.planes = {STATE: self._initial_state()}
        self.jumps: bool = isinstance(run.step_size, KnownStepSize)
        model = self.state, self.levels
        if self.jumps:
            self.stepper = Jumps(self, levels.jump_levels, *model)
        else:
            self.stepper = AdaptiveSteps(self, levels.advance_levels, *model)
        self.advance(0)  # compiles, so that a progress bar starts with the steps

    def initial_sums(self) -> Array:
        """Sums of the state, shape (bands, ROW_SIZE)."""
        return self.sums_of(self.state)

    def sums_of(self, state: Array) -> Array:
        """Sums of both bands of a state, laid out as ``row`` says, shape (bands, ROW_SIZE)."""
        sums = np.empty((NUM_BANDS, ROW_SIZE))
        levels.sum_levels(state, self.levels, sums)
        return sums

    def sums_after(
        self, state: Array, noise_step: int, step_size: float, update: tuple[float, float]
    ) -> Array:
        """Sums one step after a state, with the noise of step `noise_step`; changes nothing."""
        eta = step_size * self.run.problem.spectrum.per_level(update)
        a, b = 1.0 - eta * self.levels.lam, eta * self.levels.std
        sums = np.empty((1, NUM_BANDS, ROW_SIZE))
        levels.jump_levels(
            state.copy(), self.levels, a[None], b[None], np.array([noise_step]), *self.key, sums
        )
        return sums[0]

    def scaled_bulk(self, state: Array, factor: float) -> Array:
        """Return a state with its bulk coefficients multiplied by a factor."""
        scaled = state.copy()
        scaled[self.levels.split :] *= factor**2
        return scaled

    def squares(self, state: Array) -> Array:
        """Squared norm of the coefficients behind each entry of a state."""
        return state

    def observe(self, out: Array) -> None:
        """Write the sums of the next step's noisy gradient."""
        levels.observe_levels(self.state, self.levels, self.step + 1, *self.key, out)

    def _initial_state(self) -> Array:
        """Squared norms of the levels' initial coefficients."""
        spectrum, initial = self.run.problem.spectrum, self.run.problem.initial
        if not isinstance(initial, np.ndarray):
            xi, chi = np.empty((2, spectrum.num_levels))
            levels.draw(xi, chi, self.levels.drawn, 0, *self.key)  # no move has target step 0
            levels.reduce_freedom(chi, self.levels.freedom, self.levels.drawn, 0, *self.key)
            return initial * initial * (xi**2 + chi)
        if initial.size == spectrum.num_levels:
            return initial**2 * spectrum.multiplicities
        first = np.cumsum(spectrum.multiplicities) - spectrum.multiplicities
        return np.add.reduceat(initial**2, first)
