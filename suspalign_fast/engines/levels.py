"""Two random numbers a level and row, whatever the dimension (``kernels.levels``)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base import memory
from ..base import threads as _threads
from ..base.registry import ENGINES
from ..kernels import level_steps, levels
from ..kernels.levels import Levels, make_levels
from ..kernels.normals import seed_key
from ..model.problem import Quadratic
from ..model.run import Run
from ..model.step_size import AdaptiveStepSize
from ..physics.layout import NUM_BANDS, ROW_SIZE, sum_weights
from ..physics.rows import Rows
from .base import STATE, VELOCITY
from .steppers import (
    AdaptiveSteps,
    BatchSteps,
    Jumps,
    SteppingEngine,
    batches_of,
    moves_of_run,
    sums_after_step,
)

Array = NDArray[np.float64]
#: Arrays with an entry for every level that the engine holds at once.
ARRAYS = 48
#: What the velocity of a level has across its coefficients; VELOCITY is what it has along them.
ACROSS = "across"
#: Lanes of a part: what threads share.
PART = 2048
#: Steps under a rule, and what it observes: (has a velocity, noise is of mini-batches).
KERNELS = {
    (False, False): (level_steps.advance_levels, level_steps.observe_levels),
    (False, True): (level_steps.advance_level_batches, level_steps.observe_level_batch),
    (True, False): (level_steps.advance_velocity_levels, level_steps.observe_velocity_levels),
    (True, True): (
        level_steps.advance_velocity_level_batches,
        level_steps.observe_velocity_level_batch,
    ),
}


#: Seconds of a row, and of a level in it.
ROW_SECONDS, LEVEL_SECONDS = 1e-7, 5e-9


def levels_of(
    problem: Quadratic,
    part: slice = slice(None),
    begin: int = 0,
    has_velocity: bool = False,
) -> Levels:
    """Return a slice of a problem's levels as kernels take them, the first lane being `begin`.

    Chi-squares have as many degrees of freedom as a level has directions, less one; with a velocity
    less two where it has more than two.
    """
    spectrum = problem.spectrum
    lam, std = spectrum.eigenvalues[part], problem.stds[part]
    first, last, _ = part.indices(spectrum.num_levels)
    counts = spectrum.multiplicities[part].astype(np.float64)
    return make_levels(
        lam,
        std,
        np.where(has_velocity & (counts > 2.0), counts - 2.0, counts - 1.0),
        np.array(sum_weights(lam, std)),
        min(max(spectrum.num_dominant_levels - first, 0), last - first),
        begin,
        counts <= 2.0 if has_velocity else None,
    )


class Jump:
    """The kernel of jumps; many levels go by parts, which threads share.

    Parameters
    ----------
    problem : Quadratic
    levels : Levels
        All of them; parts, where there are any, draw the same numbers.
    threads : int
    """

    def __init__(self, problem: Quadratic, levels: Levels, threads: int) -> None:
        self.threads: int = threads
        self.whole: Levels = levels
        self.parts: list[tuple[slice, Levels]] = []
        if levels.lam.size <= PART:
            return
        for begin in range(0, levels.lam.size, PART):
            first, last = np.searchsorted(levels.lane, [begin, begin + PART]).tolist()
            part = slice(first, last)
            self.parts.append((part, levels_of(problem, part, begin)))

    def __call__(
        self,
        q: Array,
        coefficients: Array,
        steps: NDArray[np.int64],
        key_0: np.uint32,
        key_1: np.uint32,
        out: Array,
    ) -> None:
        """Move levels to each of some steps; as ``kernels.levels.jump_levels``."""
        if not self.parts:
            levels.jump_levels(q, self.whole, coefficients, steps, key_0, key_1, out)
            return
        table = np.empty((len(self.parts), *out.shape))

        def move(first: int, last: int) -> None:
            for at in range(first, last):
                part, some = self.parts[at]
                rows = np.ascontiguousarray(coefficients[:, :, part])
                levels.jump_levels(q[part], some, rows, steps, key_0, key_1, table[at])

        _threads.share(len(self.parts), self.threads, move)
        out[:] = table.sum(axis=0)


def _three(planes: Mapping[str, Array]) -> Iterator[Array]:
    """Yield the planes that kernels take; without a velocity each of them is the state."""
    return (planes.get(name, planes[STATE]) for name in (STATE, VELOCITY, ACROSS))


@ENGINES.register("levels")
class LevelsEngine(SteppingEngine):
    """Moves ``Q = sum c^2`` of each level: from row to row, or step by step under a rule.

    Exact in law at the recorded rows. The state has shape (num_levels,).
    """

    can_be_probed = True
    is_exact_in_law = True
    takes_velocity = True

    @classmethod
    def takes(cls, run: Run) -> bool:
        """Whether it can do a run: its state is float64."""
        return super().takes(run) and run.dtype == "float64"

    @classmethod
    def seconds(cls, run: Run, threads: int, normal: float) -> float:
        """Return the expected time of a run."""
        jumps = run.is_foreseeable and not run.optimizer.has_velocity
        rows = run.num_rows if jumps else run.num_steps + 1
        return rows * (ROW_SECONDS + LEVEL_SECONDS * run.problem.spectrum.num_levels)

    def __init__(self, run: Run, *, serial: bool = False) -> None:
        if run.dtype != "float64":
            raise ValueError(f"dtype must be 'float64' in engine 'levels', got {run.dtype!r}")
        super().__init__(run, serial=serial)
        problem = run.problem
        spectrum = problem.spectrum
        count = spectrum.num_levels
        memory.check(f"engine 'levels' with {count:,} levels", ARRAYS * 8 * count)
        has_velocity = run.optimizer.has_velocity
        if has_velocity:
            self._check_counts()
        self.levels: Levels = levels_of(problem)
        self.planes = {STATE: self._initial_state(self.key)}
        if has_velocity:
            self.levels = levels_of(problem, has_velocity=True)
            np.sqrt(self.state, out=self.state)
            self.planes |= {name: np.zeros_like(self.state) for name in (VELOCITY, ACROSS)}
        self._batches = batches_of(problem)
        self._factors: tuple[float, ...] = tuple(run.optimizer.factors)
        self.jumps: bool = run.is_foreseeable and not has_velocity
        if self.jumps:
            self.threads = 1 if serial else _threads.allowed()
            self.stepper = Jumps(self, Jump(problem, self.levels, self.threads))
        else:  # all levels take each step together, in one thread
            kernel, self._observe = KERNELS[has_velocity, self._batches is not None]
            chosen_by_a_rule = isinstance(run.step_size, AdaptiveStepSize)
            make = AdaptiveSteps if chosen_by_a_rule and self._batches is None else BatchSteps
            self.stepper = make(self, kernel)

    def _check_counts(self) -> None:
        """Raise ValueError where a level has too few directions for a velocity across."""
        counts = self.run.problem.spectrum.multiplicities.astype(np.float64)
        if ((counts > 1.0) & (counts < 2.0)).any():
            raise ValueError(
                f"spectrum must have levels of one or of at least two directions under "
                f"{self.run.optimizer!r}, as those of Spectrum.resolved, got "
                f"{self.run.problem.spectrum!r}"
            )

    def model(self, planes: Mapping[str, NDArray[Any]] | None = None) -> tuple[Any, ...]:
        """Return what a kernel takes first: planes, levels, the optimizer's factors, batches."""
        planes = self.planes if planes is None else planes
        if self.jumps:
            return (planes[STATE],)
        return *_three(planes), self.levels, self._factors, self._batches

    @property
    def width(self) -> int:
        """Numbers that a step works on."""
        return self.run.problem.spectrum.num_levels

    def initial_sums(self) -> Array:
        """Sums of the state, shape (bands, row_size)."""
        return self.sums_of(self.planes)

    def sums_of(self, planes: Mapping[str, Array]) -> Array:
        """Sums of both bands of a state, as ``layout`` lays them out, shape (bands, row_size)."""
        sums = np.empty((NUM_BANDS, self.row_size))
        kernel = level_steps.sum_velocity_levels if VELOCITY in planes else level_steps.sum_levels
        kernel(*_three(planes), self.levels, sums)
        return sums

    def sums_after(
        self,
        planes: Mapping[str, Array],
        noise_step: int,
        step_size: float,
        update: tuple[float, float],
    ) -> Array:
        """Sums one step after a state, with the noise of step `noise_step`; changes nothing."""
        scratch = {name: values.copy() for name, values in planes.items()}
        if self._batches is not None or VELOCITY in planes:
            return sums_after_step(self, scratch, noise_step, step_size, update)
        eta = step_size * self.run.problem.spectrum.per_level(update)
        problem = self.run.problem
        a, b = 1.0 - eta * problem.spectrum.eigenvalues, eta * problem.stds
        sums = np.empty((1, NUM_BANDS, ROW_SIZE))
        move = np.array([a, b])[:, None]
        at = np.array([noise_step])
        levels.jump_levels(scratch[STATE], self.levels, move, at, *self.key, sums)
        return sums[0]

    def scaled(
        self,
        planes: Mapping[str, Array],
        coefficients: tuple[float, float],
        velocity: tuple[float, float] = (1.0, 1.0),
    ) -> dict[str, Array]:
        """Return a state with coefficients and velocities of each band multiplied by factors.

        Those of coefficients are positive.
        """
        c, v = (self.run.problem.spectrum.per_level(pair) for pair in (coefficients, velocity))
        if VELOCITY not in planes:
            return {STATE: planes[STATE] * c**2}
        factors = {STATE: c, VELOCITY: v, ACROSS: np.abs(v)}
        return {name: values * factors[name] for name, values in planes.items()}

    def products(self, planes: Mapping[str, Array]) -> Array:
        """Squared norms of levels; with a velocity its products with them and its squares."""
        if VELOCITY not in planes:
            return planes[STATE][None].copy()
        c, along, across = (planes[name] for name in (STATE, VELOCITY, ACROSS))
        return np.array([c * c, c * along, along * along + across * across])

    def observe(self, out: Array) -> None:
        """Write the sums of the next step's noisy gradient."""
        self._observe(*self.model(), self.step, *self.key, out)

    @classmethod
    def rows_of(cls, runs: Sequence[Run]) -> list[Rows] | None:
        """Return all rows of runs whose seeds alone differ: kernels do all of them in one call."""
        problem = runs[0].problem
        steps_alone = not runs[0].is_foreseeable or runs[0].optimizer.has_velocity
        if problem.spectrum.num_levels > PART or steps_alone:
            return None
        engine = cls(runs[0], serial=True)
        moves, steps = moves_of_run(runs[0], 1), engine.recorded_steps(runs[0].num_steps)
        keys = np.array([seed_key(run.seed) for run in runs])
        states = np.empty((len(runs), engine.width))
        sums = np.empty((len(runs), 1 + steps.size, NUM_BANDS, ROW_SIZE))
        for state, key, row in zip(states, keys, sums[:, 0], strict=True):
            state[:] = engine._initial_state(key)
            row[:] = engine.sums_of({STATE: state})
        for batch, coefficients in moves.to(steps):
            out = np.empty((len(runs), steps[batch].size, NUM_BANDS, ROW_SIZE))
            levels.jump_ensemble(states, engine.levels, coefficients, steps[batch], keys, out)
            sums[:, 1:][:, batch] = out
        steps = np.concatenate([[0], steps])
        sizes = moves.sizes_at(steps)
        return [Rows.from_sums(steps, sizes, one) for one in sums]

    def _initial_state(self, key: Sequence[np.uint32]) -> Array:
        """Squared norms of the levels' initial coefficients."""
        spectrum, initial = self.run.problem.spectrum, self.run.problem.initial
        if not isinstance(initial, np.ndarray):
            xi, chi = np.empty((2, spectrum.num_levels))
            levels.draw_levels(self.levels, 0, *key, xi, chi)  # no move has target step 0
            return initial * initial * (xi**2 + chi)
        return self.run.problem.initial_squares.copy()
