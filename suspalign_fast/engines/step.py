"""The default engine: every step of the sample path, in compiled kernels (DESIGN section 4)."""

import functools

import numpy as np
from numpy.typing import NDArray

from .. import _memory, _threads
from ..kernels import advance
from ..kernels.batch import fill_normals
from ..kernels.normals import INITIAL_DOMAIN
from ..kernels.plan import ROW, Plan, make_plan
from ..noise import IsotropicNoise
from ..run import Run
from ..spectrum import Spectrum
from ..step_size import KnownStepSize
from .adaptive import AdaptiveSteps
from .known import KnownSteps
from .stepper import SteppingEngine


class StepEngine(SteppingEngine):
    """SGD step by step on an array of float64 coefficients, updated in place."""

    def __init__(self, run: Run, *, serial: bool = False) -> None:
        super().__init__(run, serial=serial)
        spectrum = run.problem.spectrum
        _memory.check(f"engine {run.engine!r} at d = {spectrum.dim:,}", self._bytes(run))
        self.threads = _threads.for_kernels(serial=serial)
        self._plan = make_plan(run.problem)
        self.weights = np.array(run.update)
        self.state = self._initial_state()
        self._prepare()
        self.advance(0)  # compiles, so that a progress bar starts with the steps

    @property
    def plan(self) -> Plan:
        """The problem as the kernels take it."""
        return self._plan._replace(threads=self.threads)

    #: Float64 numbers a direction that `_prepare` adds where every direction has its own.
    moves_per_direction = 0

    def _bytes(self, run: Run) -> int:
        """Memory of the arrays that have an entry for every direction."""
        size = np.dtype(run.dtype).itemsize
        if run.problem.spectrum.is_simple:
            size += 8 * (1 + self.moves_per_direction)
            size += 8 * (not isinstance(run.problem.noise, IsotropicNoise))
        return size * run.problem.spectrum.dim

    def _prepare(self) -> None:
        model = self.state, self.plan, self.weights
        if isinstance(self.run.step_size, KnownStepSize):
            self.stepper = KnownSteps(self, advance.advance_scheduled, *model)
        else:
            self.stepper = AdaptiveSteps(self, advance.advance_adaptive, *model)

    def initial_sums(self) -> NDArray[np.float64]:
        """Sums of the state, shape (2, 8)."""
        return self.sums_of(self.state)

    def sums_of(self, state: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums S_1 ... S_4, R_4 ... R_6 of both bands of a state, shape (2, 8), last column 0."""
        sums = np.empty((2, ROW))
        advance.sum_state(state, self.plan, sums)
        return sums

    def sums_after(
        self,
        state: NDArray[np.float64],
        noise_step: int,
        step_size: float,
        update: tuple[float, float],
    ) -> NDArray[np.float64]:
        """Sums one step after a state, with the noise of step `noise_step`; changes nothing."""
        sums = np.empty((1, 2, ROW))
        np.copyto(self._scratch, state)
        advance.advance_scheduled(
            self._scratch, self.plan, np.array(update), noise_step, np.array([step_size]),
            np.zeros(1, np.int64), *self.key, sums,
        )  # fmt: skip
        return sums[0]

    def scaled_bulk(self, state: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
        """Return a state with its bulk coefficients multiplied by a factor."""
        scaled = state.copy()
        scaled[self.run.problem.spectrum.num_dominant :] *= factor
        return scaled

    def squares(self, state: NDArray[np.float64]) -> NDArray[np.float64]:
        """Squared norm of the coefficients behind each entry of a state."""
        return state**2

    @functools.cached_property
    def _scratch(self) -> NDArray[np.float64]:
        return np.empty_like(self.state)

    def observe(self, out: NDArray[np.float64]) -> None:
        """Write the sums of the next step's noisy gradient."""
        advance.observe(self.state, self.plan, self.step, *self.key, out)

    def _initial_state(self) -> NDArray[np.float64]:
        state = self.given_state()
        if state is None:
            state = np.empty(self.run.problem.spectrum.dim, self.run.dtype)
            fill_normals(state, self.run.problem.initial, INITIAL_DOMAIN, 0, *self.key)
        return state


def level_ends(spectrum: Spectrum) -> NDArray[np.int64]:
    """Return the coordinates at which levels end; empty where every level is one coordinate."""
    return np.empty(0, np.int64) if spectrum.is_simple else np.cumsum(spectrum.multiplicities)
