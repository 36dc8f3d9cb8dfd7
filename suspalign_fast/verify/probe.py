"""Single steps tried at the states of a run, and what the paper claims of them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import power_sums as physics
from ..row import SLICES
from .batch_law import BatchLaw
from .claims import Claim
from .probed import Probed
from .signs import TINY, Signs
from .step_law import StepLaw

Array = NDArray[np.float64]

#: Multiples of the critical step size, and of 1 / lambda_1 where there is none.
MULTIPLES = (0.25, 0.5, 0.8, 0.9, 1.1, 1.25, 2.0, 4.0)
SELF_CORRECTING_STEPS = (0.1, 0.5, 1.0, 1.9)
#: Squared bulk gradient, as a part of the largest one without a critical step size.
DEPTHS = (0.5, 0.02)
#: Positions inside the loss interval, on a logarithmic scale, and distances from its ends.
POSITIONS = (0.25, 0.5, 0.75)
MARGINS = (1.1, 1.3)


class _State(NamedTuple):
    """A state, its sums, and the squared norms of its levels."""

    state: Array
    row: Array
    squares: Array

    @property
    def power_sums(self) -> Array:
        """S_1 ... S_4 of both bands."""
        return self.row[:, SLICES["power_sums"]]


class Prober:
    """Tries single steps at a state and counts the signs."""

    def __init__(self, engine: Probed, repeats: int) -> None:
        self.engine = engine
        self.repeats = repeats
        problem = engine.run.problem
        stable = problem.noise.stability(problem.spectrum, 0.0)
        #: Half of the largest stable step size is the unit of steps without a critical one.
        self.largest = 2.0 / stable.largest
        self.critical = Signs("critical step size separates fall from rise")
        self.correcting = Signs("self-correction: falls for every step size")
        self.dominant_loss = Signs("loss interval: dominant step raises loss")
        self.bulk_loss = Signs("loss interval: bulk step lowers loss")
        self.of_state = engine.run.problem.noise.depends_on_state
        self.law = BatchLaw(engine) if self.of_state else StepLaw(engine)
        self._draw = 2**62

    def judged(self) -> list[Claim]:
        """Return the claims with their p-values."""
        signs = (self.critical, self.correcting, self.dominant_loss, self.bulk_loss)
        return [evidence.judged() for evidence in signs]

    def probe(self, state: Array) -> None:
        """Try all kinds of steps at a state."""
        here = _State(state, self.engine.sums_of(state), self.law.squares(state))
        critical = self._critical(here)
        if 0.0 < critical < np.inf:
            for multiple in MULTIPLES:
                sign = 1 if multiple > 1.0 else -1
                self._try_alignment(self.critical, sign, here, multiple * critical)
        for depth in DEPTHS:
            shrunk = self._self_correcting(here, depth)
            for multiple in SELF_CORRECTING_STEPS:
                self._try_alignment(self.correcting, -1, shrunk, multiple / self.largest)
        lower, upper = physics.loss_interval(here.power_sums, self._constants(here)).tolist()
        if 0.0 < lower < upper < np.inf:
            between = [lower ** (1.0 - position) * upper**position for position in POSITIONS]
            above = [lower * margin for margin in MARGINS if lower * margin < upper]
            below = [upper / margin for margin in MARGINS if lower * margin < upper]
            for step_size in (*between, *above):
                self._try_loss(self.dominant_loss, here, step_size, 0)
            for step_size in (*between, *below):
                self._try_loss(self.bulk_loss, here, step_size, 1)

    def _constants(self, here: _State) -> Array:
        """N_1, N_2 and K at a state."""
        problem = self.engine.run.problem
        sums = (here.row[:, part] for part in SLICES.values())
        return problem.noise.constants_at(problem.noise_constants, *sums)

    def _critical(self, here: _State) -> float:
        return float(physics.critical_step_size(here.power_sums, self._constants(here)))

    def _after(
        self, state: Array, step_size: float, update: tuple[float, float], repeats: int
    ) -> Array:
        """Sums after one step with noise never used before, shape (repeats, bands, ROW_SIZE)."""
        first = self._draw
        self._draw += repeats
        return np.stack(
            [self.engine.sums_after(state, first + i, step_size, update) for i in range(repeats)]
        )

    def _try_alignment(self, signs: Signs, sign: int, here: _State, step_size: float) -> None:
        before = here.row[:, 1]
        if not (before > TINY).all():
            signs.claim.open += self.repeats
            return
        above, below, repeats = self.law.of_alignment(here.squares, before, step_size, self.repeats)
        after = self._after(here.state, step_size, (1.0, 1.0), repeats)[:, :, 1]
        signs.count(sign, above, below, self.law.changes(after, before))

    def _self_correcting(self, here: _State, depth: float) -> _State:
        """Return the state with its bulk scaled down to `depth` of what has a critical step."""
        if self.of_state:
            return self._shrunk_until_correcting(here, depth)
        s2, s4, n2 = here.row[:, 1], here.row[:, 3], self._constants(here)[:, 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            curvature = (s4[0] + n2[0]) / s2[0]
            excess = curvature * s2[1] - s4[1]
            scale = np.sqrt(min(1.0, depth * n2[1] / excess)) if excess > 0.0 else 1.0
        return self._scaled(here, float(scale))

    def _shrunk_until_correcting(self, here: _State, depth: float) -> _State:
        """Return the state with its bulk halved until there is no critical step, then scaled."""
        shrunk = here
        while np.isfinite(self._critical(shrunk)) and shrunk.row[1, 1] > TINY:
            shrunk = self._scaled(shrunk, 0.5)
        return self._scaled(shrunk, float(np.sqrt(depth)))

    def _scaled(self, here: _State, factor: float) -> _State:
        state = self.engine.scaled_bulk(here.state, factor)
        return _State(state, self.engine.sums_of(state), self.law.squares(state))

    def _try_loss(self, signs: Signs, here: _State, step_size: float, band: int) -> None:
        update = (1.0, 0.0) if band == 0 else (0.0, 1.0)
        before = float(here.row[band, 0])
        if not before > TINY:
            signs.claim.open += self.repeats
            return
        above, below, repeats = self.law.of_loss(
            here.squares, before, step_size, band, self.repeats
        )
        after = self._after(here.state, step_size, update, repeats)[:, band, 0]
        changes = self.law.changes(after, np.array(before))
        signs.count(1 if band == 0 else -1, above, below, changes)
