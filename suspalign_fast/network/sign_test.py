"""The sign test on a network: single mini-batch steps at multiples of the critical step size."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..base import checks, reports
from .curvature import Curvature
from .loss import Batches, Loss
from .row import NetworkRow, Settings, measured_row, of_bands

# --- What a sign test found: t-statistics, zero crossings, and a table of them -------------------


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


def count_signs(expected: Array, found: Array) -> Count:
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
        """Count the signs of the odds at a multiple of eta*, in or beyond the quadratic picture."""
        expected, found = [], []
        for state in self.states:
            if state.row.beyond_quadratic is beyond:
                chosen = state.multiples == multiple
                expected.append(state.expected[chosen])
                found.append(state.odds[chosen])
        if not found:
            return Count(0, 0, 0)
        return count_signs(np.concatenate(expected), np.concatenate(found))

    def signs_of_losses(self) -> tuple[Count, Count]:
        """Count the signs of losses in steps along the dominant and along the bulk band."""
        found = np.array([state.loss[1:] for state in self.states])
        expected = np.array([state.expected_loss for state in self.states])
        dominant, bulk = (count_signs(expected[:, band], found[:, band]) for band in (0, 1))
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


#: Multiples of eta* at which steps are tried.
MULTIPLES = (0.25, 0.5, 0.9, 1.1, 2.0, 4.0)


def verify(
    model: Any,
    loss_fn: Any,
    data: Any,
    num_dominant: int,
    *,
    batch_size: int | None = None,
    states: Iterable[Any] | None = None,
    multiples: Sequence[float] = MULTIPLES,
    repeats: int = 200,
    step_size: float | None = None,
    noise_batches: Any = None,
    curvature: str = "hessian",
    tolerance: float = 0.02,
    seed: int = 0,
    progress: bool = False,
) -> Verification:
    """Test on a network whether alignment falls below and rises above the critical step size.

    At every state many single steps are tried, each with a mini-batch of its own, and the gradient
    of all data is split into its bands anew. Steps are done on a copy of the model, which is never
    written to: it is as before also after an error or Ctrl-C.

    Parameters
    ----------
    model, loss_fn, data, num_dominant, batch_size, curvature, tolerance, seed
        As of `measure_row`.
    states : iterable of state dicts, optional
        States of the model, copies like ``copy.deepcopy(model.state_dict())``; by default that of
        the model.
    multiples : sequence of float
        Of eta*, at which steps are tried; increasing. At 1 no sign is expected, and none counted.
    repeats : int
        Mini-batches of a state.
    noise_batches : int or iterable, optional
        Mini-batches that the noise is measured with, drawn for this alone; or batches of your own,
        for noise and steps. By default those of the steps: the test is then one of the closed form,
        not of how well few batches tell the noise.
    step_size : float, optional
        That of the test of the loss interval; by default eta* of each state.
    progress : bool
        Show a bar of states on standard error.

    Returns
    -------
    Verification
        ``print(result.table())`` shows it.

    Raises
    ------
    ValueError
        If an argument is not as described.

    Notes
    -----
    What it finds on digits: docs/networks.md. A state takes ``repeats`` times as many gradients of
    all data as there are multiples.

    Examples
    --------
    >>> import suspalign_fast as sa
    >>> found = sa.network.verify(
    ...     model, torch.nn.CrossEntropyLoss(), (x, y), num_dominant=9, batch_size=32
    ... )  # doctest: +SKIP
    >>> print(found.table())  # doctest: +SKIP
    """
    sizes = checks.vector("multiples", multiples)
    if not (sizes > 0.0).all() or not (np.diff(sizes) > 0.0).all():
        raise checks.wrong("multiples", multiples, "increasing numbers above zero")
    count = checks.integer("repeats", repeats, 2)
    size = None if step_size is None else checks.real("step_size", step_size, positive=True)
    loss = Loss(model, loss_fn, data).apart()
    settings = Settings(loss, num_dominant, curvature, tolerance)
    batches = Batches(loss, batch_size, count if noise_batches is None else noise_batches, seed)
    given = [None] if states is None else _states(states)
    found = []
    for number, state in enumerate(reports.over(given, "state", visible=progress)):
        if state is not None:
            loss.model.load_state_dict(state)
        own = 2 * number + (noise_batches is not None)
        row = measured_row(settings, batches, own, warn=number == 0)
        along = row.critical_step_size if size is None else size
        with loss.evaluating():
            trial = _Trial(settings, row, sizes, along)
            for batch in batches(2 * number, count):
                trial.step(batch)
            found.append(trial.signs())
    return Verification(tuple(found))


def _states(states: Any) -> list[Any]:
    """Return a list of state dicts; ValueError for anything else, or if two share memory."""
    if isinstance(states, Mapping) or not isinstance(states, Iterable):
        raise checks.wrong("states", type(states).__name__, "a list of state dicts")
    given = list(states)
    for state in given:
        if not isinstance(state, Mapping):
            raise checks.wrong("states", type(state).__name__, "a list of state dicts")
    if not given:
        raise ValueError("states must be at least one state dict, got none")
    places = [
        {v.data_ptr() for v in s.values() if isinstance(v, Tensor) and v.numel()} for s in given
    ]
    if any(one & other for one, other in itertools.pairwise(places)):
        raise ValueError(
            "states must be copies, like copy.deepcopy(model.state_dict()): two of them share "
            "their numbers, which are those of the last step in both"
        )
    return given


class _Trial:
    """Steps that are tried at one state."""

    def __init__(
        self, settings: Settings, row: NetworkRow, multiples: Array, step_size: float
    ) -> None:
        loss = settings.loss
        self._loss, self._row, self._multiples = loss, row, multiples
        self._curvature = settings.curvature
        self._point = loss.point()
        self._before, self._gradient = loss.value(), loss.gradient()
        self._size = step_size
        # Without a critical step size alignment falls whatever the step size.
        unit = row.critical_step_size
        self._unit = unit if np.isfinite(unit) else 1.0 / float(row.top_eigenvalues[0])
        self._bands: list[Array] = []
        self._kicks = torch.zeros_like(self._point, dtype=torch.float64)
        self._losses: list[tuple[float, float]] = []

    def step(self, batch: Any) -> None:
        """Try steps with the gradient of a batch."""
        self._loss.set_point(self._point)
        kick = self._loss.gradient([batch])
        self._kicks = self._kicks + kick
        self._bands.append(np.array([self._after(m * self._unit, kick) for m in self._multiples]))
        inside = self._row.vectors @ (self._row.vectors.T @ kick)
        if np.isfinite(self._size):
            dominant, bulk = (
                self._loss_after(self._size, part) for part in (inside, kick - inside)
            )
            self._losses.append((dominant, bulk))

    def _move(self, size: float, by: Tensor) -> Tensor:
        return (self._point.double() - size * by).to(self._point.dtype)

    def _after(self, size: float, kick: Tensor) -> Array:
        """Squared gradients of both bands after a step."""
        self._loss.set_point(self._move(size, kick))
        gradient = self._loss.gradient()
        inside = self._row.vectors.T @ gradient
        rest = gradient - self._row.vectors @ inside
        squares = torch.stack([torch.linalg.vector_norm(part) ** 2 for part in (inside, rest)])
        return squares.cpu().numpy()

    def _loss_after(self, size: float, kick: Tensor) -> float:
        self._loss.set_point(self._move(size, kick))
        return self._loss.value() - self._before

    def _by_chance(self) -> Array:
        """What the mean noise of the batches, which should be zero, did to both bands.

        It is linear in that mean, and one product tells it: without it a crossing needs far fewer
        batches.
        """
        self._loss.set_point(self._point)
        matrix, gradient = Curvature(self._loss, self._curvature), self._gradient
        pulled = matrix.times(gradient)[:, None]
        kick = matrix.times(self._kicks / len(self._bands) - gradient)[:, None]
        by_gradient, by_pulled = (
            of_bands(x, kick, self._row.vectors).cpu().numpy() for x in (gradient[:, None], pulled)
        )
        eta = self._multiples * self._unit
        change: Array = 2.0 * eta * (eta * by_pulled - by_gradient)
        return change

    def signs(self) -> StateSigns:
        """Return what the steps say."""
        dominant, bulk = np.moveaxis(np.array(self._bands), (2, 1), (0, 1))
        s2 = self._row.power_sums[:, 1]
        rises = dominant - s2[0] / s2[1] * bulk
        alignment = dominant / (dominant + bulk) - self._row.alignment
        changes = np.array(self._losses).T if self._losses else np.full((2, 2), np.nan)
        has_one = bool(np.isfinite(self._row.critical_step_size))
        by_chance = self._by_chance()
        chance = by_chance[0] - s2[0] / s2[1] * by_chance[1]
        return StateSigns(
            self._row,
            self._multiples,
            np.array([t_statistic(values) for values in rises]),
            np.array([t_statistic(values) for values in alignment]),
            crossing(self._multiples, rises.mean(-1) - chance) if has_one else float("nan"),
            crossing(self._multiples, alignment.mean(-1)) if has_one else float("nan"),
            LossSigns(self._size, t_statistic(changes[0]), t_statistic(changes[1])),
        )
