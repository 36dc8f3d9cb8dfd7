"""The model (docs/model.md, section 1) in plain NumPy: slow, to be read, oracle of the tests."""

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _memory
from ..data_noise import DataNoise
from ..kernels import domains
from ..kernels.plan import BLOCK
from ..row import (
    CROSS_AT,
    CROSS_COLUMNS,
    CROSS_ROW_SIZE,
    NOISY_AT,
    NOISY_POWERS,
    NUM_BANDS,
    NUM_SUMS,
    WEIGHT_AT,
    cross_sums_of,
    cross_terms,
    sum_weights,
)
from ..run import Run
from ..spec import ENGINES
from ..step_size import AdaptiveStepSize, KnownStepSize
from .base import (
    STATE,
    VELOCITY,
    Engine,
    Rows,
    check_step_size,
    fill_constants,
    fill_constants_at_row,
    rule_table,
)
from .coordinates import check_directions
from .plain_normals import plain_chi_square, standard_normals

Array = NDArray[np.float64]
#: Arrays with an entry for every direction that the engine holds at once.
ARRAYS = 24


#: Work of a coordinate and step, in normals.
NORMALS = 120.0


@ENGINES.register("reference")
class ReferenceEngine(Engine):
    """One step after another on whole arrays of float64."""

    is_oracle = True
    takes_velocity = True

    @classmethod
    def seconds(cls, run: Run, threads: int, normal: float) -> float:
        """Return the expected time of a run."""
        return run.num_steps * run.problem.spectrum.dim * NORMALS * normal

    def __init__(self, run: Run, *, serial: bool = False) -> None:
        super().__init__(run, serial=serial)
        check_directions(run)
        spectrum = run.problem.spectrum
        _memory.check(f"engine 'reference' at d = {spectrum.dim:,}", ARRAYS * 8 * spectrum.dim)
        counts = spectrum.multiplicities
        self.lam: Array = np.repeat(spectrum.eigenvalues, counts)
        self.std: Array = np.repeat(run.problem.stds, counts)
        self.dominant: NDArray[np.bool_] = np.arange(spectrum.dim) < spectrum.num_dominant
        self.weight: Array = np.repeat(spectrum.per_level(run.update), counts)
        initial = run.problem.initial
        if not isinstance(initial, np.ndarray):
            state = initial * standard_normals(run.seed, domains.INITIAL, 0, spectrum.dim)
        elif initial.size == spectrum.dim:
            state = initial.copy()
        else:
            state = np.repeat(initial, counts)
        self.planes = {STATE: state}
        if run.optimizer.has_velocity:
            self.planes[VELOCITY] = np.zeros_like(state)
        self._round()
        self.table: Array = rule_table(run)
        rule = run.step_size
        self.memory: Array = np.empty(0)
        if isinstance(rule, AdaptiveStepSize):
            self.memory = rule.memory_for(run.problem, run.optimizer, run.update)
        self._size = np.zeros(1)

    @property
    def step_size(self) -> float:
        """Size of the next step."""
        return float(self._size[0])

    @step_size.setter
    def step_size(self, value: float) -> None:
        self._size[0] = value

    def mutable(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that steps change."""
        return self.planes | {
            "memory": self.memory,
            "table": self.table,
            "step_size": self._size,
        }

    def refill(self) -> None:
        """Write what follows from the rest of the table again."""
        fill_constants(self.table, self.run)
        fill_constants_at_row(self.table, self.run)

    def initial_row(self) -> Rows:
        """Return row 0, the initial state."""
        return self._row()

    def advance(self, num_steps: int) -> Rows:
        """Do `num_steps` steps and return the rows recorded on the way."""
        recorded = set(self.recorded_steps(num_steps).tolist())
        rows: list[Rows] = []
        for _ in range(num_steps):
            eta = self.step_size * self.weight
            with np.errstate(over="ignore", invalid="ignore"):
                self._move(eta)
                self._round()
                self.step += 1
                row = self._row(rows)
            finite = len(row.finite_prefix()) == 1
            if self.step in recorded or not finite:
                rows.append(row)
            if not finite:
                break
        if rows:
            return Rows.joined(rows)
        return self._row_of_sums(np.zeros((NUM_BANDS, self.row_size)))[:0]

    def _move(self, eta: Array) -> None:
        """Do one step of sizes eta in the directions."""
        h = self._gradient()
        if VELOCITY not in self.planes:
            self.state[:] -= eta * h
            return
        pull, carry, decay = self.run.optimizer.factors
        v = self.planes[VELOCITY]
        self.state[:] -= eta * (pull * h + carry * v)
        v[:] = decay * v + h

    def _round(self) -> None:
        """Leave of the planes what their type can hold."""
        for plane in self.planes.values():
            plane[:] = plane.astype(self.run.dtype)

    def _gradient(self) -> Array:
        """Return the noisy gradient of the next step."""
        normals = standard_normals(self.run.seed, domains.STEP, self.step, self.lam.size)
        noise = self.run.problem.noise
        if not isinstance(noise, DataNoise):
            return self.lam * self.state + self.std * normals
        batch, tau = noise.batch_size, noise.label_std
        u = plain_chi_square(self.run.seed, domains.BATCH_STEP, self.step, batch)
        p = np.sum(self.lam * self.state**2) + tau * tau
        if p == 0.0:
            return np.zeros_like(self.state)
        zeta, v = self._directed(normals), np.sqrt(self.lam) * self.state
        w = np.sum(v * zeta)
        rho = np.sqrt(u * p) / batch
        kd = u / batch - np.sqrt(u) / batch * (w / (np.sqrt(p) + tau))  # rho kappa w
        return self.lam * self.state * kd + rho * np.sqrt(self.lam) * zeta

    def _directed(self, normals: Array) -> Array:
        """Return normals whose part along the state has, in every block, a number of its own."""
        dim, dominant = self.lam.size, int(self.dominant.sum())
        cuts = np.unique([*range(0, dim, BLOCK), dominant, dim])
        along = standard_normals(self.run.seed, domains.BATCH_BLOCK, self.step, cuts.size - 1)
        v, zeta = np.sqrt(self.lam) * self.state, normals.copy()
        for block, (start, stop) in enumerate(itertools.pairwise(cuts.tolist())):
            part = slice(start, stop)
            norm = np.sqrt(np.sum(v[part] ** 2))
            if norm > 0.0:
                zeta[part] += (along[block] - v[part] @ normals[part] / norm) * (v[part] / norm)
        return zeta

    def _row(self, rows: list[Rows] | None = None) -> Rows:
        """Return the row of the current state and choose the next step size."""
        c_sq = self.state**2
        sums = self._band_sums([w * c_sq for w in sum_weights(self.lam, self.std)])
        if VELOCITY in self.planes:
            v = self.planes[VELOCITY]
            cross = self._band_sums(cross_terms(self.lam, self.std, self.state, v))
            sums = np.pad(sums, ((0, 0), (0, CROSS_ROW_SIZE - NUM_SUMS)))
            sums[:, CROSS_COLUMNS] = cross
        self._choose_step_size(sums, rows or [])
        return self._row_of_sums(sums)

    def _row_of_sums(self, sums: NDArray[np.float64]) -> Rows:
        return Rows.from_sums(np.array([self.step]), np.array([self.step_size]), sums[None])

    def _band_sums(self, terms: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        bands = (self.dominant, ~self.dominant)
        return np.array([[np.sum(term[band]) for term in terms] for band in bands])

    def _choose_step_size(self, sums: NDArray[np.float64], rows: list[Rows]) -> None:
        rule = self.run.step_size
        if isinstance(rule, KnownStepSize):
            self.step_size = float(rule.values(self.step, self.step + 1)[0])
            return
        assert isinstance(rule, AdaptiveStepSize)
        if not np.isfinite(sums).all():
            self.step_size = np.nan
            return
        self.table[:, :NUM_SUMS] = sums[:, :NUM_SUMS]
        cross = cross_sums_of(sums)
        self.table[:, CROSS_AT : CROSS_AT + cross.shape[1]] = cross
        fill_constants_at_row(self.table, self.run)
        if rule.observes:
            h = self._gradient()
            noisy = [self.lam**p * h**2 for p in NOISY_POWERS]
            self.table[:, NOISY_AT:WEIGHT_AT] = self._band_sums(noisy)
        self.step_size = rule.evaluate(self.step, self.table, self.memory)
        recorded = self.step in self.run.recorded_steps(self.step - 1, self.step)
        last = [self._row_of_sums(sums)] if recorded else []
        before = Rows.joined([*rows, *last]) if rows or last else None
        size = self.step_size
        raised = rule.raised(self.step, self.table, self.memory) if np.isnan(size) else None
        check_step_size(self.step, size, before, raised)
