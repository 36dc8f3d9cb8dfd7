"""The default engine: every step of the sample path, compiled (docs/model.md, section 4)."""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _memory, _threads
from ..kernels import advance
from ..kernels.batch import fill_normals
from ..kernels.normals import INITIAL_DOMAIN
from ..kernels.plan import BLOCK, ROW, Plan, make_plan
from ..noise import HessianNoise, IsotropicNoise
from ..run import Run
from ..spectrum import Spectrum
from ..step_size import AdaptiveStepSize, KnownStepSize
from .adaptive import AdaptiveSteps
from .known import KnownSteps
from .stepper import SteppingEngine


class StepEngine(SteppingEngine):
    """SGD step by step on an array of float64 coefficients, updated in place."""

    def __init__(self, run: Run, *, serial: bool = False) -> None:
        super().__init__(run, serial=serial)
        spectrum = run.problem.spectrum
        _memory.check(f"engine {run.engine!r} at d = {spectrum.dim:,}", self.bytes_of(run))
        self.threads: int = _threads.for_kernels(serial=serial)
        self._plan = make_plan(run.problem)
        self.weights: NDArray[np.float64] = np.array(run.update)
        self.state: NDArray[Any] = self._initial_state()
        self._prepare()
        self.advance(0)  # compiles, so that a progress bar starts with the steps

    @property
    def plan(self) -> Plan:
        """The problem as the kernels take it."""
        return self._plan._replace(threads=self.threads)

    @classmethod
    def bytes_of(cls, run: Run) -> int:
        """Memory that an engine takes beside what its problem holds already."""
        spectrum = run.problem.spectrum
        own_noise = type(run.problem.noise) is not IsotropicNoise
        size = np.dtype(run.dtype).itemsize * spectrum.dim
        size += 8 * spectrum.num_levels * (type(run.problem.noise) is HessianNoise)
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
