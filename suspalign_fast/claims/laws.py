"""Exact chances of what steps do, and what an engine must offer for steps to be tried."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..base.registry import ENGINES
from ..engines import make_engine
from ..engines.base import Engine
from ..kernels.tail import tails
from ..model.noise import DataNoise
from ..model.run import Run
from ..physics.batches import average_over_nodes, nodes_of
from ..physics.rise import chi_square_tail
from ..physics.rows import Rows

Array = NDArray[np.float64]
#: A state: what steps act on, by the names of an engine.
Planes = Mapping[str, Array]


@runtime_checkable
class Probed(Protocol):
    """An engine that can try a step without doing it; it says so by ``can_be_probed = True``."""

    run: Run
    step: int
    planes: dict[str, Array]

    def initial_row(self) -> Rows:
        """Return row 0, the initial state."""

    def advance(self, num_steps: int) -> Rows:
        """Do `num_steps` steps and return the rows recorded on the way."""

    def sums_of(self, planes: Planes) -> Array:
        """Sums of both bands of a state, as ``layout`` lays them out, shape (bands, row_size)."""

    def sums_after(
        self, planes: Planes, noise_step: int, step_size: float, update: tuple[float, float]
    ) -> Array:
        """Sums one step after a state, with the noise of step `noise_step`; changes nothing."""

    def scaled(
        self,
        planes: Planes,
        coefficients: tuple[float, float],
        velocity: tuple[float, float] = (1.0, 1.0),
    ) -> dict[str, Array]:
        """Return a state with coefficients and velocities of each band multiplied by factors."""

    def products(self, planes: Planes) -> Array:
        """Return each level's ``|c|^2``, with a velocity v also ``c.v`` and ``|v|^2``."""


def probed_engines() -> tuple[str, ...]:
    """Names of the engines that can be probed."""
    return tuple(name for name in ENGINES.names() if ENGINES[name].can_be_probed)


def make_probed(run: Run) -> Probed:
    """Return the engine of a run; TypeError if it cannot be probed."""
    engine: Engine = make_engine(run)
    if not (engine.can_be_probed and isinstance(engine, Probed)):
        raise TypeError(f"engine {run.engine!r} cannot try single steps: {type(engine).__name__}")
    return engine


# --- Exact chances of what one step does ---------------------------------------------------------


class StepLaw:
    """Exact chances of the outcomes of one step from a state, level by level."""

    def __init__(self, engine: Probed) -> None:
        problem = engine.run.problem
        spectrum = problem.spectrum
        self.engine = engine
        self.factors = engine.run.optimizer.factors
        self.lam, self.std = spectrum.eigenvalues, problem.stds
        self.count = spectrum.multiplicities.astype(np.float64)
        self.split = spectrum.num_dominant_levels
        self._starts = np.cumsum(spectrum.multiplicities) - spectrum.multiplicities

    def products(self, planes: Planes) -> Array:
        """Return each level's ``|c|^2``, with a velocity v also ``c.v`` and ``|v|^2``."""
        products = self.engine.products(planes)
        if products.shape[-1] == self.lam.size:
            return products
        sums: Array = np.add.reduceat(products, self._starts, axis=-1)
        return sums

    def of_alignment(
        self, products: Array, before: Array, step_size: float, repeats: int
    ) -> tuple[float, float, int]:
        """Chances that the alignment rises and falls; `before` are the squared gradients.

        Last comes how often the step is to be tried.
        """
        m_sq, v = self.gradient_after(products, step_size)
        above, below, _, _ = tails(
            1.0 / before[0], -1.0 / before[1], 0.0, m_sq, v, self.count, self.split
        )
        return above, below, repeats

    def of_loss(
        self, products: Array, before: float, step_size: float, band: int, repeats: int
    ) -> tuple[float, float, int]:
        """Chances that a band's loss rises and falls, and repeats; `before` is twice the loss."""
        m_sq, v = self._after(products, step_size)
        factors = (1.0 / before, 0.0) if band == 0 else (0.0, 1.0 / before)
        above, below, _, _ = tails(
            *factors, 1.0, self.lam * m_sq, self.lam * v, self.count, self.split
        )
        return above, below, repeats

    def gradient_after(self, products: Array, step_size: float) -> tuple[Array, Array]:
        """Total squared mean of each level's gradient after a step, and its variance."""
        m_sq, v = self._after(products, step_size)
        return self.lam**2 * m_sq, self.lam**2 * v

    @staticmethod
    def changes(after: Array, before: Array) -> Array:
        """Relative changes to be counted, one a repeat, of squares of one kind or two."""
        with np.errstate(divide="ignore", invalid="ignore"):
            growth = np.log(after / before)
        return growth if growth.ndim == 1 else growth[:, 0] - growth[:, 1]

    def largest_terms(self, products: Array, step_size: float) -> Array:
        """Return what the squared gradient of each level after a step is at most made of."""
        pull, carry = step_size * self.factors.pull, step_size * self.factors.carry
        squares = (1.0 + pull * self.lam) ** 2 * products[0] + carry**2 * products[-1]
        return self.lam**2 * (2.0 * squares + self.count * (pull * self.std) ** 2)

    def _after(self, products: Array, step_size: float) -> tuple[Array, Array]:
        """Total squared mean and variance of the coefficients of each level after a step."""
        pull, carry = step_size * self.factors.pull, step_size * self.factors.carry
        return moved_squares(products, 1.0 - pull * self.lam, carry), (pull * self.std) ** 2


def moved_squares(products: Array, kept: Array, carry: Array | float) -> Array:
    """Return the squared norms of ``kept c - carry v``, from `StepLaw.products`."""
    squares: Array = kept**2 * products[0]
    if len(products) > 1:
        squares = squares - 2.0 * kept * carry * products[1] + carry**2 * products[2]
    return np.maximum(squares, 0.0)


# --- Chances of what steps on mini-batches of data do, of many repeats together ------------------
#
# Given u the coefficients after a step are Gaussian, ``N(m, D - v v')`` with
#
#     m = (1 - eta s lambda) c,   D = eta^2 (s / B) P lambda,   v = eta sqrt(s / B) lambda c,
#
# ``s = u / B``; with momentum ``eta p`` is in the place of eta, and m has ``- eta q`` times the
# velocity beside. A quadratic form of them has cumulants that are sums over levels; averaged over u
# they are those of a step, and times their number those of independent repeats, whose sum is taken
# for a chi-square, moved and scaled, with the same three. The sign of a single step is no evidence
# at small B; that of the sum of many is.


#: Repeats are added up to here until the expected sum is so many deviations from zero.
MOST_REPEATS, WANTED = 128, 3.4
#: Computed tails are taken to be this much larger.
BATCH_TAIL_ERROR = 3.0


class Cumulants(NamedTuple):
    """First three cumulants."""

    mean: float
    variance: float
    third: float

    def times(self, count: int) -> "Cumulants":
        """Return those of a sum of independent repeats."""
        return Cumulants(*(count * cumulant for cumulant in self))

    @property
    def chance_above(self) -> float:
        """Chance of a sum above zero."""
        if not self.variance > 0.0:
            return float(self.mean > 0.0)
        std = np.sqrt(self.variance)
        skewness = self.third / std / self.variance
        with np.errstate(all="ignore"):
            return float(chi_square_tail(np.array(self.mean / std), np.array(skewness)))


class BatchLaw(StepLaw):
    """Chances of the outcomes of steps from a state, repeats of them judged together."""

    def __init__(self, engine: Probed) -> None:
        super().__init__(engine)
        noise = engine.run.problem.noise
        assert isinstance(noise, DataNoise)
        self.noise = noise
        self.nodes = list(zip(*nodes_of(noise.batch_size), strict=True))

    def of_alignment(
        self, products: Array, before: Array, step_size: float, repeats: int
    ) -> tuple[float, float, int]:
        """Chances that the summed change of alignment is above and below zero; the repeats."""
        form = self._of_bands(1.0 / before[0], -1.0 / before[1]) * self.lam**2
        return self._judge(self.cumulants(products, step_size, form, 0.0), repeats)

    def of_loss(
        self, products: Array, before: float, step_size: float, band: int, repeats: int
    ) -> tuple[float, float, int]:
        """Chances that the summed change of a band's loss is above and below zero; the repeats."""
        form = self._of_bands(*((1.0, 0.0) if band == 0 else (0.0, 1.0))) * self.lam / before
        etas = step_size * self._of_bands(*((1.0, 0.0) if band == 0 else (0.0, 1.0)))
        return self._judge(self.cumulants(products, etas, form, 1.0), repeats)

    @staticmethod
    def changes(after: Array, before: Array) -> Array:
        """Relative change to be counted, the mean of all repeats."""
        ratios = after / before
        each = ratios - 1.0 if ratios.ndim == 1 else ratios[:, 0] - ratios[:, 1]
        mean: Array = each.mean(keepdims=True)
        return mean

    def cumulants(
        self, products: Array, etas: Array | float, form: Array, offset: float
    ) -> Cumulants:
        """Cumulants of ``sum form c'^2 - offset`` after a step."""
        p = float((self.lam * products[0]).sum()) + self.noise.label_std * self.noise.label_std
        given = [self._given(s, p, products, etas, form) for s, _ in self.nodes]
        mean, variance, third = np.array(given).T
        weight = np.array([w for _, w in self.nodes])
        return Cumulants(*map(float, average_over_nodes(weight, mean - offset, variance, third)))

    def _given(
        self, share: float, p: float, products: Array, etas: Array | float, form: Array
    ) -> Cumulants:
        """Cumulants given u, from the products of m and v in each level."""
        lam, a, n = self.lam, form, self.count
        spread = share / self.noise.batch_size
        pull, carry = etas * self.factors.pull, etas * self.factors.carry
        kept, factor_v = 1.0 - pull * share * lam, pull * np.sqrt(spread) * lam
        mm, vv = moved_squares(products, kept, carry), factor_v**2 * products[0]
        mv = factor_v * (kept * products[0] - (carry * products[1] if len(products) > 1 else 0.0))
        ad = a * pull**2 * spread * p * lam
        m0, mv1, v1 = (a * mm).sum(), (a * mv).sum(), (a * vv).sum()
        m2, mv2, v2 = (a * ad * mm).sum(), (a * ad * mv).sum(), (a * ad * vv).sum()
        m3, v3 = (a * ad**2 * mm).sum(), (a * ad**2 * vv).sum()
        trace_1, trace_2, trace_3 = ((n * ad**power).sum() for power in (1, 2, 3))
        return Cumulants(
            m0 + trace_1 - v1,
            4.0 * (m2 - mv1**2) + 2.0 * (trace_2 - 2.0 * v2 + v1**2),
            24.0 * (m3 - 2.0 * mv2 * mv1 + mv1**2 * v1)
            + 8.0 * (trace_3 - 3.0 * v3 + 3.0 * v1 * v2 - v1**3),
        )

    def _of_bands(self, dominant: float, bulk: float) -> Array:
        values = np.full(self.lam.size, bulk)
        values[: self.split] = dominant
        return values

    @staticmethod
    def _judge(one: Cumulants, repeats: int) -> tuple[float, float, int]:
        z = abs(one.mean) / np.sqrt(one.variance) if one.variance > 0.0 else np.inf
        needed = (WANTED / z) ** 2 if z > 0.0 else np.inf
        if needed > MOST_REPEATS:
            return 0.5, 0.5, repeats  # no evidence, whatever comes out
        count = max(repeats, int(np.ceil(needed)))
        above = one.times(count).chance_above
        return BATCH_TAIL_ERROR * above, BATCH_TAIL_ERROR * (1.0 - above), count
