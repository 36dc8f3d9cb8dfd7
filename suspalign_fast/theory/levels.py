"""The levels of a problem, and the moments of a sum over independent Gaussian coefficients."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import checks
from ..base.values import Travels, may_underflow, same_values
from ..kernels.ratio import ratio_moments
from ..model.moves import momentum_transition, product, transition
from ..model.noise import check_length
from ..model.optimizer import PLAIN, Optimizer
from ..model.problem import Quadratic
from ..model.spectrum.spectrum import Spectrum
from ..model.stability import Stability, rest_covariance
from ..model.step_size import ConstantStep, KnownStepSize

# --- What the exact theory returns ---------------------------------------------------------------


Array = NDArray[np.float64]
#: Arrays at given times, or numbers at no time in particular.
Value = TypeVar("Value", Array, float)


@dataclass(frozen=True, eq=False)
class Expected(Travels, Generic[Value]):
    """Exact mean and standard deviation of the columns of a trace.

    Attributes
    ----------
    step : ndarray of int64, shape (times,)
        From `expected`; absent (None) from `stationary`, whose other attributes are floats.
    alignment_mean, alignment_std : ndarray of float64, shape (times,)
        NaN where the gradient is zero with certainty, or not finite.
    loss_mean, loss_std, loss_dominant_mean, loss_dominant_std, loss_bulk_mean, loss_bulk_std :
    ndarray of float64, shape (times,)
    grad_sq_dominant_mean, grad_sq_bulk_mean : ndarray of float64, shape (times,)
        Infinite past divergence.
    unknown : tuple of str
        Attributes that are NaN: what has no closed form under the problem's noise, which `estimate`
        samples, and what was not asked for.
    stability : Stability or None
        How far a constant step size is from the largest stable one; None of a schedule.
    """

    step: NDArray[np.int64] | None
    alignment_mean: Value
    alignment_std: Value
    loss_mean: Value
    loss_std: Value
    loss_dominant_mean: Value
    loss_dominant_std: Value
    loss_bulk_mean: Value
    loss_bulk_std: Value
    grad_sq_dominant_mean: Value
    grad_sq_bulk_mean: Value
    unknown: tuple[str, ...] = ()
    stability: Stability | None = None

    @property
    @may_underflow
    def alignment_of_means(self) -> Value:
        """Share of the dominant band in the expected squared gradient.

        Not the mean of the alignment, but close to it where both bands have many directions.
        """
        dominant, bulk = self.grad_sq_dominant_mean, self.grad_sq_bulk_mean
        with np.errstate(invalid="ignore", divide="ignore"):
            share: Value = dominant / np.add(dominant, bulk)
        return share

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Expected):
            return NotImplemented
        names = ("step", *MOMENTS, "stability")
        return same_values(*([getattr(x, name) for name in names] for x in (self, other)))


#: Attributes that are means or standard deviations.
MOMENTS = tuple(name for name in Expected.__dataclass_fields__ if name.endswith(("_mean", "_std")))


# --- Step sizes known in advance, cut where a size begins that many steps share ------------------


#: Steps of one size from which on their closed form is taken.
LONG = 32


class Piece(NamedTuple):
    """Some steps in a row.

    Attributes
    ----------
    rule : KnownStepSize
        A `ConstantStep` where all of them have one size.
    start : int
    ends : ndarray of int64
        Ascending steps after `start` at which the state is wanted; the last is where it ends.
    """

    rule: KnownStepSize
    start: int
    ends: NDArray[np.int64]

    @property
    def is_constant(self) -> bool:
        """Whether the state at each end has a closed form in the state at the start."""
        return type(self.rule) is ConstantStep

    @property
    def num_steps(self) -> int:
        """Number of steps."""
        return int(self.ends[-1]) - self.start

    def moves(self) -> Iterator[tuple[int, int]]:
        """Yield beginning and end of the move to each of `ends`.

        All from the start where that has a closed form, so that no error adds up, else each from
        the one before.
        """
        now = self.start
        for end in self.ends.tolist():
            yield (self.start if self.is_constant else now), end
            now = end


def pieces(rule: KnownStepSize, times: NDArray[np.int64]) -> Iterator[Piece]:
    """Yield the pieces of the steps up to the last of some times, which are ascending.

    Examples
    --------
    >>> import numpy as np
    >>> from suspalign_fast import Schedule
    >>> from suspalign_fast.theory.levels import pieces
    >>> sizes = Schedule(np.r_[0.3, np.full(50, 0.2), 0.1])
    >>> [(x.is_constant, x.start, x.ends.tolist()) for x in pieces(sizes, np.array([20, 52]))]
    [(False, 0, [1]), (True, 1, [20, 51]), (False, 51, [52])]
    """
    last = int(times.max(initial=0))
    if last == 0:
        return
    if type(rule) is ConstantStep:
        yield Piece(rule, 0, np.unique(times[times > 0]))
        return
    sizes = rule.values(0, last)
    starts = np.flatnonzero(np.diff(sizes, prepend=np.nan) != 0.0)
    stops = np.append(starts[1:], last)
    shared = (stops - starts >= LONG) & (sizes[starts] > 0.0)
    cuts = np.unique(np.concatenate([[0], starts[shared], stops[shared], [last]])).tolist()
    of_one_size = set(starts[shared].tolist())
    for start, stop in itertools.pairwise(cuts):
        inside = np.unique(times[(times > start) & (times < stop)])
        part = ConstantStep(float(sizes[start])) if start in of_one_size else rule
        yield Piece(part, start, np.append(inside, stop))


State = TypeVar("State")


def at_times(
    times: NDArray[np.int64], first: State, later: Iterator[tuple[int, State]]
) -> Iterator[State]:
    """Yield the state at ascending times, from the first state and those of later steps."""
    reached, state = 0, first
    for t in times.tolist():
        while reached < t:
            reached, state = next(later)
        yield state


#: Levels from which on moments are taken from a compressed spectrum, and its tolerance.
MANY = 2_000
TOLERANCE = 1e-12
#: Largest step size, in units of 1 / lambda_1 and of the largest in a band, that it is made for.
LARGEST_STEP = 1.99


def with_few_levels(problem: Quadratic, largest_step: float) -> Quadratic:
    """Return a problem of few levels with the same moments at every time, or the problem itself.

    Where noise and initial state are smooth in lambda, steps are stable, and the noise keeps sums
    from decaying without end; else nothing is saved.
    """
    spectrum = problem.spectrum
    largest = largest_step * float(spectrum.eigenvalues[0])
    if not is_smooth(problem) or spectrum.num_levels <= MANY or not largest <= LARGEST_STEP:
        return problem
    try:
        few = spectrum.compress(TOLERANCE)
    except ValueError:  # eigenvalues that no few nodes stand for
        return problem
    return problem.with_parts(few, problem.noise, problem.initial)


def is_smooth(problem: Quadratic) -> bool:
    """Whether noise that lasts and initial state are smooth functions of lambda."""
    law = problem.noise_law
    lasting = law is not None and law.sigma > 0.0 and problem.noise.is_lasting
    return lasting and not isinstance(problem.initial, np.ndarray)


class Levels:
    """A problem's levels and the moments that follow from those of their coefficients.

    Parameters
    ----------
    problem : Quadratic
    weights : tuple of two float
        Of the update.
    coefficients : array_like of float, shape (num_levels,) or (dim,), optional
        The state at step 0, in place of the problem's own.
    """

    def __init__(
        self,
        problem: Quadratic,
        weights: tuple[float, float],
        coefficients: ArrayLike | None = None,
    ) -> None:
        if not isinstance(problem, Quadratic):
            raise checks.wrong("problem", problem, "a Quadratic")
        if problem.noise.depends_on_state:
            raise ValueError(
                "noise must not depend on the state for coefficients to be independent, got "
                f"{problem.noise!r}; see theory.expected and simulate(..., engine='levels')"
            )
        spectrum, initial, stds = problem.spectrum, problem.initial, problem.stds
        if coefficients is not None:
            initial = checks.vector("coefficients", coefficients)
            check_length(spectrum, initial, "coefficients")
        if isinstance(initial, np.ndarray) and initial.size != spectrum.num_levels:
            stds = np.repeat(stds, spectrum.multiplicities)
            spectrum = spectrum.expand()
        self.problem: Quadratic = problem
        self.spectrum: Spectrum = spectrum
        self.split: int = spectrum.num_dominant_levels
        self.lam: Array = spectrum.eigenvalues
        self.count: Array = spectrum.multiplicities.astype(np.float64)
        weight = spectrum.per_level(weights)
        self.weight: Array = weight
        self.stds: Array = stds
        #: Decay a step and a unit of step size, and noise entering a unit of step size.
        self.rate: Array = weight * self.lam
        self.push: Array = weight * stds
        self.mean: Array = np.zeros_like(self.lam)
        self.variance: Array = np.zeros_like(self.lam)
        if isinstance(initial, np.ndarray):
            self.mean = initial
        else:
            self.variance += initial * initial

    def trajectory(
        self, rule: KnownStepSize, times: NDArray[np.int64], optimizer: Optimizer = PLAIN
    ) -> Iterator[tuple[Array, Array]]:
        """Yield mean and variance of the coefficients at ascending times."""
        walk = self._with_velocity if optimizer.has_velocity else self._walk
        yield from at_times(times, (self.mean, self.variance), walk(rule, times, optimizer))

    def _walk(
        self, rule: KnownStepSize, times: NDArray[np.int64], optimizer: Optimizer
    ) -> Iterator[tuple[int, tuple[Array, Array]]]:
        """Yield steps, those of the times among them, and mean and variance there."""
        mean, variance = self.mean, self.variance
        for piece in pieces(rule, times):
            first = mean, variance
            for start, stop in piece.moves():
                a, b = transition(piece.rule, start, stop, self.rate, self.push)
                mean, variance = first if piece.is_constant else (mean, variance)
                with np.errstate(over="ignore"):
                    mean, variance = product(a, mean), product(a * a, variance) + b * b
                yield stop, (mean, variance)

    def _with_velocity(
        self, rule: KnownStepSize, times: NDArray[np.int64], optimizer: Optimizer
    ) -> Iterator[tuple[int, tuple[Array, Array]]]:
        """See `_walk`; velocities start at zero."""
        move: Any = None
        for piece in pieces(rule, times):
            first = move
            for start, stop in piece.moves():
                before = first if piece.is_constant else move
                move = momentum_transition(
                    piece.rule, start, stop, self.lam, self.weight, optimizer, before
                )
                with np.errstate(over="ignore"):
                    noise = product(self.stds, move.noise_cc)
                    variance = product(move.cc * move.cc, self.variance) + noise * noise
                    mean = product(move.cc, self.mean)
                yield stop, (mean, variance)

    def at_rest(self, eta: float, optimizer: Optimizer = PLAIN) -> Array:
        """Variance of the coefficients at t = infinity, zero where there is no curvature.

        Raises
        ------
        ValueError
            If the step size is not below the edge of stability.
        """
        x, edge = eta * self.rate, optimizer.largest
        if x.max() >= edge:
            at = int(np.argmax(x))
            raise ValueError(
                f"step_size must be below {edge:g} / lambda = {float(edge / self.rate[at])!r} for "
                f"a stationary state, got {eta!r}"
            )
        with np.errstate(divide="ignore", invalid="ignore"):
            if optimizer.has_velocity:
                variance = (eta * self.push) ** 2 * rest_covariance(x, optimizer)[0]
            else:
                variance = eta * self.push**2 / (self.rate * (2.0 - x))
        return np.where(self.lam > 0.0, variance, 0.0)

    def moments(self, mean: Array, variance: Array, *, has_alignment: bool = True) -> Array:
        """Return the values of `MOMENTS` for independent Gaussian coefficients."""
        bands = (slice(0, self.split), slice(self.split, None))
        with np.errstate(over="ignore", invalid="ignore"):
            # Twice the loss of a direction is (m + sqrt(v) xi)^2 with these m^2 and v.
            mean_sq, spread = self._curved(mean) * mean, self._curved(variance)
            loss = self.count * (mean_sq + spread) / 2.0
            g_mean_sq, g_variance = self.lam * mean_sq, self.lam * spread
            grad_sq = self.count * (g_mean_sq + g_variance)
            loss_d, loss_b = (loss[band].sum() for band in bands)
            unit = loss.max()  # in which squares do not overflow
            unit = unit if 0.0 < unit < np.inf else 1.0
            mean_sq, spread = mean_sq / unit, spread / unit
            squares = self.count * spread * (spread / 2.0 + mean_sq)
            std_d, std_b = (unit * np.sqrt(squares[band].sum()) for band in bands)
            alignment = np.nan, np.nan
            if has_alignment:
                alignment = self._alignment(g_mean_sq, g_variance)
            return np.array(
                [
                    *alignment,
                    loss_d + loss_b,
                    np.hypot(std_d, std_b),
                    loss_d,
                    std_d,
                    loss_b,
                    std_b,
                    *(grad_sq[band].sum() for band in bands),
                ]
            )

    def _curved(self, values: Array) -> Array:
        """Eigenvalue times value, zero where there is no curvature, even for infinite values."""
        products = self.lam * values
        return product(self.lam, values) if np.isnan(products.sum()) else products

    def _alignment(self, mean_sq: Array, variance: Array) -> tuple[float, float]:
        dominant, bulk, spread = ratio_moments(variance, mean_sq, self.count, self.split)
        mean = dominant if dominant < bulk else 1.0 - bulk
        return mean, float(np.sqrt(spread))


# --- Moments under momentum from few levels, as many as it takes ---------------------------------
#
# With momentum a direction swings: after t steps its moments have a phase that grows with t and
# differs from eigenvalue to eigenvalue, until they have decayed by ``beta^t``. How fine levels must
# be depends on beta, on the times and on how large the swings are beside the noise. So levels are
# made finer until moments do not change any more, or until all eigenvalues may as well be taken.


#: Logarithmic widths of bins and nodes in them, ever finer.
RESOLUTIONS = ((0.7, 8), (0.5, 10), (0.25, 12), *((0.15 / 2**i, 16) for i in range(12)))
#: Largest relative difference of the moments of two resolutions that will do.

#: Fewer levels are worth it if they are at most this part of all.
WORTH = 0.25
#: Largest step size, as a part of the largest stable one, that they are made for.
LARGEST_VELOCITY_STEP = 0.995


def through_few_levels(
    problem: Quadratic,
    largest_step: float,
    optimizer: Optimizer,
    moments: Callable[[Quadratic], Array],
) -> tuple[Quadratic, Array]:
    """Return moments of a problem, and the problem of fewer levels that they were taken from.

    Parameters
    ----------
    largest_step : float
        Weights of the update included.

    Returns
    -------
    few : Quadratic
        The problem itself where it has few levels, where noise or initial state are not smooth in
        lambda, where steps are not stable, or where nothing is saved.
    """
    if not optimizer.has_velocity:
        few = with_few_levels(problem, largest_step)
        return few, moments(few)
    before = None
    for few in _ever_finer(problem, largest_step, optimizer):
        found = moments(few)
        if before is not None and np.allclose(
            found, before, rtol=TOLERANCE, atol=0.0, equal_nan=True
        ):
            return few, found
        before = found
    return problem, moments(problem)


def _ever_finer(
    problem: Quadratic, largest_step: float, optimizer: Optimizer
) -> Iterator[Quadratic]:
    """Yield problems of more and more levels, none where they do not stand for all."""
    spectrum = problem.spectrum
    largest = largest_step * float(spectrum.eigenvalues[0])
    stable = largest <= LARGEST_VELOCITY_STEP * optimizer.largest
    listed = not spectrum.is_compressed and spectrum.num_levels > MANY
    if not (listed and stable and is_smooth(problem)):
        return
    for width, nodes in RESOLUTIONS:
        few = spectrum.resolved(width, nodes)
        if few.num_levels > WORTH * spectrum.num_levels:
            return
        yield problem.with_parts(few, problem.noise, problem.initial)
