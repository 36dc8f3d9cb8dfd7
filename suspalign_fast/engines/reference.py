"""The model of DESIGN section 1 in plain NumPy: slow, written to be read, oracle of the tests."""

import numpy as np

from ..kernels.normals import INITIAL_DOMAIN, STEP_DOMAIN
from ..run import Run
from ..step_size import KnownStepSize
from .base import Engine, Rows
from .plain_normals import standard_normals


class ReferenceEngine(Engine):
    """One step after another on whole arrays of float64."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        spectrum = run.problem.spectrum
        counts = spectrum.multiplicities
        self.lam = np.repeat(spectrum.eigenvalues, counts)
        self.std = np.repeat(run.problem.stds, counts)
        self.dominant = np.arange(spectrum.dim) < spectrum.num_dominant
        self.weight = np.where(self.dominant, *run.update)
        initial = run.problem.initial
        if not isinstance(initial, np.ndarray):
            self.state = initial * standard_normals(run.seed, INITIAL_DOMAIN, 0, spectrum.dim)
        elif initial.size == spectrum.dim:
            self.state = initial.copy()
        else:
            self.state = np.repeat(initial, counts)

    def initial_row(self) -> Rows:
        """Return row 0, the initial state."""
        return self._row()

    def advance(self, num_steps: int) -> Rows:
        """Do `num_steps` steps and return the rows recorded on the way."""
        recorded = set(self.recorded_steps(num_steps).tolist())
        rows = [self._row()[:0]]
        for _ in range(num_steps):
            eta = self._step_size() * self.weight
            xi = standard_normals(self.run.seed, STEP_DOMAIN, self.step, self.lam.size)
            with np.errstate(over="ignore", invalid="ignore"):
                self.state -= eta * (self.lam * self.state + self.std * xi)
                self.step += 1
                if self.step in recorded:
                    rows.append(self._row())
        return Rows.joined(rows)

    def _step_size(self) -> float:
        rule = self.run.step_size
        assert isinstance(rule, KnownStepSize)
        return float(rule.values(self.step, self.step + 1)[0])

    def _row(self) -> Rows:
        c_sq = self.state**2
        weights = {(p, 0): self.lam**p for p in (1, 2, 3, 4)}
        weights |= {(p, 2): self.lam**p * self.std**2 for p in (4, 5, 6)}
        bands = (self.dominant, ~self.dominant)
        sums = [[np.sum((w * c_sq)[band]) for w in weights.values()] for band in bands]
        return Rows.from_sums(
            np.array([self.step]), np.array([self._step_size()]), np.array([sums])
        )
