"""The model (docs/model.md, section 1) in plain NumPy: slow, to be read, oracle of the tests."""

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base import memory
from ..base.registry import ENGINES
from ..kernels import domains
from ..kernels import normals as coefficients
from ..kernels.blocks import BLOCK
from ..kernels.normals import COUNTERS, DOMAIN_BITS
from ..kernels.philox import MULTIPLIER_0, MULTIPLIER_1, ROUNDS, WEYL_0, WEYL_1
from ..model.noise import DataNoise
from ..model.run import Run
from ..model.step_size import AdaptiveStepSize, KnownStepSize
from ..physics.layout import (
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
from ..physics.rows import Rows
from .base import (
    STATE,
    VELOCITY,
    Engine,
    check_step_size,
    fill_constants,
    fill_constants_at_row,
    rule_table,
)
from .plan import check_directions

# --- The noise contract in plain NumPy, written to be read: the oracle of the compiled kernels ---
#
# Same integers, same transform and same mapping to coordinates as ``kernels.normals``. A fused
# multiply-add in float32 is a float64 one rounded once more, which differs from the true one in
# about one of 2^29 cases, by the last bit.


Words = NDArray[np.uint32]
Singles = NDArray[np.float32]


def philox4x32(counter: Words, key: tuple[int, int], rounds: int = ROUNDS) -> Words:
    """Encrypt counters with Philox4x32 (Salmon et al., SC'11).

    Parameters
    ----------
    counter : ndarray of uint32, shape (..., 4)
    key : tuple of two int
        Words of the key.
    rounds : int

    Returns
    -------
    ndarray of uint32, shape (..., 4)
    """
    c0, c1, c2, c3 = np.moveaxis(counter.astype(np.uint64), -1, 0)
    k0, k1 = key
    word = np.uint64(32)
    low = np.uint64(0xFFFFFFFF)
    for _ in range(rounds):
        p0, p1 = c0 * MULTIPLIER_0, c2 * MULTIPLIER_1
        c0, c1, c2, c3 = (
            (p1 >> word) ^ c1 ^ np.uint64(k0),
            p1 & low,
            (p0 >> word) ^ c3 ^ np.uint64(k1),
            p0 & low,
        )
        k0, k1 = (k0 + int(WEYL_0)) & 0xFFFFFFFF, (k1 + int(WEYL_1)) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def _fma(a: Singles, b: Singles, c: Singles | np.float32) -> Singles:
    return (a.astype(np.float64) * b + c).astype(np.float32)


def _horner(x: Singles, ascending: tuple[np.float32, ...]) -> Singles:
    value = np.full_like(x, ascending[-1])
    for coefficient in ascending[-2::-1]:
        value = _fma(value, x, coefficient)
    return value


def box_muller(word_0: Words, word_1: Words) -> tuple[Singles, Singles]:
    """Turn two arrays of uniform words into two arrays of standard normals."""
    u = word_0.astype(np.float32) + np.float32(0.5)  # uniform on (0, 2^32]
    mantissa, exponent = np.frexp(u)  # in [1/2, 1); wanted in [2/3, 4/3)
    low = mantissa < np.float32(2.0 / 3.0)
    t = np.where(low, mantissa * np.float32(2.0), mantissa) - np.float32(1.0)
    power = (exponent - low - 32).astype(np.float32)
    log_part = power * coefficients.MINUS_TWO_LN_2
    radius = np.sqrt(_fma(_horner(t, coefficients.LOG_COEFFICIENTS), t, log_part))

    x = (word_1 << np.uint32(1)).view(np.int32).astype(np.float32) * np.float32(2.0**-32)
    cosine = _horner(x * x, coefficients.COSINE_COEFFICIENTS)
    sine = x * _horner(x * x, coefficients.SINE_COEFFICIENTS)
    sign = np.where(word_1 >> np.uint32(31), np.float32(-1.0), np.float32(1.0))
    return sign * radius * cosine, radius * sine


def standard_normals(
    seed: int, domain: int, step: int, count: int, first_group: int = 0
) -> NDArray[np.float64]:
    """Return the normals of some coordinates at one step.

    Parameters
    ----------
    seed, step : int
        64-bit.
    domain : int
        Counter domain, see ``kernels.normals``.
    count : int
    first_group : int
        Group of 64 that the first coordinate is the first of.

    Returns
    -------
    ndarray of float64, shape (count,)
        Values are float32.
    """
    num_groups = -(-count // (4 * COUNTERS))
    counter = np.empty((num_groups * COUNTERS, 4), dtype=np.uint32)
    index = COUNTERS * np.uint64(first_group) + np.arange(num_groups * COUNTERS, dtype=np.uint64)
    counter[:, 0] = index & np.uint64(0xFFFFFFFF)
    counter[:, 1] = np.uint64(domain) | (index >> np.uint64(32) << np.uint64(DOMAIN_BITS))
    counter[:, 2:] = step & 0xFFFFFFFF, step >> 32
    words = philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32))
    normals = np.stack([*box_muller(*words.T[:2]), *box_muller(*words.T[2:])])
    grouped = normals.reshape(4, num_groups, COUNTERS).swapaxes(0, 1)
    return grouped.reshape(-1)[:count].astype(np.float64)


def plain_chi_square(seed: int, first_domain: int, step: int, freedom: int) -> float:
    """Return a chi-square of a whole number of degrees of freedom, from counter 0 of a step.

    Marsaglia and Tsang's method (ACM TOMS 26, 2000), an attempt a domain; the square of a normal
    for a single degree.
    """
    d = 0.5 * freedom - 1.0 / 3.0
    for domain in itertools.count(first_domain):
        counter = np.array([0, domain, step & 0xFFFFFFFF, step >> 32], dtype=np.uint32)
        words = philox4x32(counter[None], (seed & 0xFFFFFFFF, seed >> 32))
        _, normal = box_muller(words[:, 0], words[:, 1])
        x, uniform = float(normal[0]), (float(words[0, 2]) + 0.5) * 2.0**-32
        if freedom == 1:
            return x * x
        cube = (1.0 + x / math.sqrt(9.0 * d)) ** 3
        if cube > 0.0 and math.log(uniform) < 0.5 * x * x + d * (1.0 - cube + math.log(cube)):
            return 2.0 * d * cube
    raise AssertionError("unreachable")


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
        memory.check(f"engine 'reference' at d = {spectrum.dim:,}", ARRAYS * 8 * spectrum.dim)
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
