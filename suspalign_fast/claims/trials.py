"""Single steps tried at a state: what rows say of it, what the law allows, what comes out."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..physics import formulas as physics
from ..physics.layout import CROSS_SUMS, SLICES, cross_sums_of
from ..physics.row import Part
from ..traces.trace import Conditions
from .evidence import TINY, Signs
from .laws import BatchLaw, Planes, Probed, StepLaw

Array = NDArray[np.float64]

#: Step sizes that are tried where there is no critical one, in halves of the largest stable one.
UNITS = (0.1, 0.5, 1.0, 1.9)


class State(NamedTuple):
    """A state, its sums (2, row_size), its row, and products of its levels (1 or 3, levels)."""

    planes: Planes
    sums: Array
    part: Part
    products: Array

    @property
    def critical(self) -> float:
        """Critical step size of the row."""
        part = self.part
        return float(
            physics.critical_step_size(
                part.power_sums, part.constants, part.update, part.velocity
            )
        )  # fmt: skip

    @property
    def reverses(self) -> bool:
        """Whether alignment rises below and falls above the critical step size."""
        part = self.part
        return bool(
            physics.is_reversed(part.power_sums, part.constants, part.update, part.velocity)
        )

    @property
    def loss_interval(self) -> tuple[float, float]:
        """Both ends of the loss interval of the row."""
        part = self.part
        lower, upper = physics.loss_interval(part.power_sums, part.constants, part.velocity)
        return float(lower), float(upper)


class Trials:
    """Tries single steps of an engine, with noise never used before."""

    def __init__(self, engine: Probed, repeats: int) -> None:
        self.engine = engine
        self.repeats = repeats
        run = engine.run
        noise, spectrum = run.problem.noise, run.problem.spectrum
        self.of_state = noise.depends_on_state
        self.law = BatchLaw(engine) if self.of_state else StepLaw(engine)
        stable = noise.stability(spectrum, 0.0, optimizer=run.optimizer)
        #: Steps tried where there is no critical one.
        self.any_sizes = [unit * stable.largest / 2.0 for unit in UNITS]
        self._conditions = Conditions.of(run)
        self._draw = 2**62

    def at(self, planes: Planes) -> State:
        """Return a state with all that is known of it."""
        sums = self.engine.sums_of(planes)
        columns = {name: sums[:, part] for name, part in SLICES.items()}
        columns[CROSS_SUMS.name] = cross_sums_of(sums)
        part = self._conditions.part(columns.__getitem__)
        return State(planes, sums, part, self.law.products(planes))

    def scaled(
        self,
        here: State,
        coefficients: tuple[float, float],
        velocity: tuple[float, float] = (1.0, 1.0),
    ) -> State:
        """Return a state with coefficients and velocities of each band multiplied by factors."""
        return self.at(self.engine.scaled(here.planes, coefficients, velocity))

    def after(
        self, here: State, step_size: float, update: tuple[float, float], repeats: int
    ) -> Array:
        """Sums after one step, shape (repeats, bands, row_size)."""
        first = self._draw
        self._draw += repeats
        steps = range(first, first + repeats)
        return np.stack(
            [self.engine.sums_after(here.planes, step, step_size, update) for step in steps]
        )

    def alignment(self, signs: Signs, sign: int, here: State, step_size: float) -> Array | None:
        """Count the signs of changes of alignment.

        Returns the next squared gradients, shape (repeats, bands), None where they are too small.
        """
        before = here.sums[:, 1]
        if not (before > TINY).all():
            signs.claim.open += self.repeats
            return None
        above, below, repeats = self.law.of_alignment(
            here.products, before, step_size, self.repeats
        )
        after = self.after(here, step_size, (1.0, 1.0), repeats)[:, :, 1]
        signs.count(sign, above, below, self.law.changes(after, before))
        return after

    def loss(self, signs: Signs, sign: int, here: State, step_size: float, band: int) -> None:
        """Count the signs of changes of a band's loss in steps projected on it."""
        update = (1.0, 0.0) if band == 0 else (0.0, 1.0)
        before = float(here.sums[band, 0])
        if not before > TINY:
            signs.claim.open += self.repeats
            return
        above, below, repeats = self.law.of_loss(
            here.products, before, step_size, band, self.repeats
        )
        after = self.after(here, step_size, update, repeats)[:, band, 0]
        signs.count(sign, above, below, self.law.changes(after, np.array(before)))
