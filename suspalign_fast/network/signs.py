"""What a sign test found: t-statistics, zero crossings, and a table of them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .row import NetworkRow

Array = NDArray[np.float64]
#: t-statistics up to here decide nothing.
UNDECIDED = 3.0
#: A spread that rounding leaves, relative to the values.
ROUNDING = 1e-9


def t_statistic(values: Array) -> float:
    """Return the mean over its standard error; NaN where there is no spread but rounding."""
    spread = float(values.std(ddof=1))
    if not spread > ROUNDING * float(np.abs(values).max()):
        return float("nan")
    return float(values.mean()) * len(values) ** 0.5 / spread


def crossing(multiples: Array, means: Array) -> float:
    """Return the multiple at which means go from falling to rising, NaN where they do not.

    On a quadratic a mean over its multiple is a straight line, which is what is interpolated.
    """
    line = means / multiples
    up = np.flatnonzero((line[:-1] <= 0.0) & (line[1:] > 0.0))
    if not up.size:
        return float("nan")
    i = int(up[0])
    share = -line[i] / (line[i + 1] - line[i])
    return float(multiples[i] + share * (multiples[i + 1] - multiples[i]))


class LossSigns(NamedTuple):
    """t-statistics of the change of the loss in steps along one band alone."""

    step_size: float
    dominant: float
    bulk: float


class Count(NamedTuple):
    """Signs that are right, wrong, and undecided."""

    right: int
    wrong: int
    undecided: int

    def __str__(self) -> str:
        return f"{self.right}/{self.wrong}/{self.undecided}"


def counted(expected: Array, found: Array) -> Count:
    """Count t-statistics against signs that were expected."""
    decided = (np.abs(found) > UNDECIDED) & (expected != 0.0)
    right = decided & (np.sign(found) == np.sign(expected))
    return Count(int(right.sum()), int((decided & ~right).sum()), int((~decided).sum()))


class StateSigns(NamedTuple):
    """What steps at one state say.

    Attributes
    ----------
    row : NetworkRow
    multiples : ndarray of float64
        Of eta*; of ``1 / lambda_1`` where alignment falls for every step size.
    odds, alignment : ndarray of float64
        t-statistics of the change of the expected odds and of the mean alignment, one a multiple.
    odds_crossing, alignment_crossing : float
        Multiples of eta* at which they change sign. From the odds the effect of the batches' mean
        noise is taken away first.
    loss : LossSigns
    """

    row: NetworkRow
    multiples: Array
    odds: Array
    alignment: Array
    odds_crossing: float
    alignment_crossing: float
    loss: LossSigns

    @property
    def expected(self) -> Array:
        """Signs that the closed form gives: -1 where alignment falls, 1 where it rises."""
        if not np.isfinite(self.row.critical_step_size):
            return np.full(len(self.multiples), -1.0)
        return np.sign(self.multiples - 1.0)

    @property
    def expected_loss(self) -> Array:
        """Signs of the change of the loss in a step along the dominant and along the bulk band."""
        return np.sign(self.loss.step_size - self.row.loss_interval)


class Verification(NamedTuple):
    """Sign tests of the states of a network.

    Attributes
    ----------
    states : tuple of StateSigns
    """

    states: tuple[StateSigns, ...]

    def signs_at(self, multiple: float, *, beyond: bool = False) -> Count:
        """Count the signs of the odds at a multiple of eta*.

        Parameters
        ----------
        multiple : float
        beyond : bool
            Count the states at which the quadratic picture does not hold, not the others.
        """
        expected, found = [], []
        for state in self.states:
            if state.row.beyond_quadratic is beyond:
                chosen = state.multiples == multiple
                expected.append(state.expected[chosen])
                found.append(state.odds[chosen])
        if not found:
            return Count(0, 0, 0)
        return counted(np.concatenate(expected), np.concatenate(found))

    def signs_of_losses(self) -> tuple[Count, Count]:
        """Count the signs of losses in steps along the dominant and along the bulk band."""
        found = np.array([state.loss[1:] for state in self.states])
        expected = np.array([state.expected_loss for state in self.states])
        dominant, bulk = (counted(expected[:, band], found[:, band]) for band in (0, 1))
        return dominant, bulk

    @property
    def crossings(self) -> Array:
        """Zero crossings of the expected odds over eta*, where the quadratic picture holds."""
        held = [s.odds_crossing for s in self.states if not s.row.beyond_quadratic]
        return np.array(held, dtype=np.float64)

    def __repr__(self) -> str:
        beyond = sum(state.row.beyond_quadratic for state in self.states)
        return f"Verification({len(self.states)} states, {beyond} beyond the quadratic picture)"

    def table(self) -> str:
        """Return the counts as a table in Markdown."""
        beyond = sum(state.row.beyond_quadratic for state in self.states)
        lines = [
            f"| eta/eta* | eta* lambda_1/2 < .9 ({len(self.states) - beyond}) | >= .9 ({beyond}) |",
            "| --- | --- | --- |",
        ]
        for multiple in self.states[0].multiples.tolist() if self.states else []:
            held, not_held = (self.signs_at(multiple, beyond=side) for side in (False, True))
            lines.append(f"| {multiple:g} | {held} | {not_held} |")
        dominant, bulk = self.signs_of_losses() if self.states else (Count(0, 0, 0),) * 2
        lines += ["", "Signs of the change of the expected odds, states right/wrong/undecided"]
        lines += ["(|t| <= 3) about the closed form: falling below eta*, rising above."]
        lines += [
            f"Signs of the change of the loss in a step along the dominant band alone {dominant}, "
            f"along the bulk alone {bulk}: falling below the bounds of the loss interval."
        ]
        known = self.crossings[np.isfinite(self.crossings)]
        if known.size:
            low, middle, high = np.quantile(known, [0.05, 0.5, 0.95])
            lines += [
                f"The odds stand still at {middle:.2f} eta* [{low:.2f}, {high:.2f}] (median, 5 and "
                f"95 % of {known.size} states)."
            ]
        return "\n".join(lines)
