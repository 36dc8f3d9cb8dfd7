"""Step-size rules of the package: at the critical step size, estimated, in the loss interval."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..base import checks
from ..base.registry import RULES
from ..kernels import rules
from ..kernels.rules import entry_address
from .noise import DataNoise
from .optimizer import Optimizer
from .problem import Quadratic
from .stability import FULL
from .step_size import AdaptiveStepSize


class _CappedStep(AdaptiveStepSize):
    """A rule of this package: it takes no step above a cap, by default ``1 / lambda_1``.

    That is half of the largest stable step size, which it is of mini-batches of data, of momentum
    and of updates with a weight above 1, too.
    """

    max_step: float | None
    _rule: ClassVar[Any]
    _entry: ClassVar[Any]

    def __post_init__(self) -> None:
        if self.max_step is not None:
            cap = checks.real("max_step", self.max_step, positive=True)
            object.__setattr__(self, "max_step", cap)

    @property
    def compiled(self) -> Any:
        """The compiled rule."""
        return self._rule

    @property
    def address(self) -> int:
        """Address of its C function."""
        return entry_address(self._entry)

    def memory_for(
        self, problem: Quadratic, optimizer: Optimizer, weights: tuple[float, float] = FULL
    ) -> NDArray[np.float64]:
        """Return parameters and memory, the cap half of the run's own largest stable step.

        Weights below 1 leave the cap where it is: a frozen band would let it grow without end.
        """
        memory = self.memory(problem)
        if self.max_step is None and (optimizer.has_velocity or max(weights) > 1.0):
            at_least_full = max(weights[0], 1.0), max(weights[1], 1.0)
            found = problem.noise.stability(problem.spectrum, 0.0, at_least_full, optimizer)
            memory[1] = found.largest / 2.0
        return memory

    def _cap(self, problem: Quadratic) -> float:
        if self.max_step is not None:
            return self.max_step
        if problem.noise.depends_on_state:
            return problem.noise.stability(problem.spectrum, 0.0).largest / 2.0
        return 1.0 / float(problem.spectrum.eigenvalues[0])


@RULES.register("critical")
@dataclass(frozen=True)
class CriticalStep(_CappedStep):
    """A fraction of the critical step size of the run's update at every step.

    Parameters
    ----------
    fraction : float
        Multiple of eta*_t; below 1 the expected odds of alignment fall, above 1 they rise.
    max_step : float, optional
        Cap, which is also the step where no step size separates falling from rising alignment:
        where it falls for every step size (self-correcting, eta* infinite) or, under updates
        whose weights differ, rises for every one or falls above eta*; by default half of the
        largest stable step size of the run, ``1 / lambda_1`` of plain SGD.
    """

    fraction: float
    max_step: float | None = None
    _rule = staticmethod(rules.critical)
    _entry = staticmethod(rules.critical_entry)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fraction", checks.real("fraction", self.fraction, positive=True))
        super().__post_init__()

    def memory(self, problem: Quadratic) -> NDArray[np.float64]:
        """Return fraction and cap."""
        return np.array([self.fraction, self._cap(problem)])


@RULES.register("loss_interval", aliases=("interval",))
@dataclass(frozen=True)
class LossIntervalStep(_CappedStep):
    """A step inside the loss interval, where bulk steps lower and dominant steps raise the loss.

    The interval is that of steps projected on one band, whatever the weights of the run's update.

    Parameters
    ----------
    position : float
        ``lower**(1 - position) * upper**position``: 0 is the lower bound, 1 the upper one. Where
        the interval is empty the same formula gives a step between the two bounds.
    max_step : float, optional
        Cap, by default half of the largest stable step size of the run, ``1 / lambda_1`` of plain
        SGD.
    """

    position: float
    max_step: float | None = None
    _rule = staticmethod(rules.loss_interval)
    _entry = staticmethod(rules.loss_interval_entry)

    def __post_init__(self) -> None:
        position = checks.real("position", self.position)
        if position > 1.0:
            raise checks.wrong("position", self.position, "between 0 and 1")
        object.__setattr__(self, "position", position)
        super().__post_init__()

    def memory(self, problem: Quadratic) -> NDArray[np.float64]:
        """Return position and cap."""
        return np.array([self.position, self._cap(problem)])


@RULES.register("online_critical", aliases=("online",))
@dataclass(frozen=True)
class OnlineCriticalStep(_CappedStep):
    """A fraction of the critical step size as a practitioner can estimate it.

    Of each step only the noisy gradient ``h = g + noise`` and its products with the Hessian are
    used: ``sum h^2``, ``sum lambda h^2`` and ``sum lambda^2 h^2`` of each band estimate
    ``S_2 + N_0``, ``S_3 + N_1`` and ``S_4 + N_2``. They are averaged exponentially, and the noise
    floors N_0 and N_1, which repeated gradients at one point measure, are subtracted. The weights
    of the run's update are known. On a network this takes batches of many times the gradient noise
    scale: docs/networks.md.

    Parameters
    ----------
    fraction : float
        Multiple of the estimated critical step size.
    decay : float
        Weight of the past in the averages, in [0, 1).
    max_step : float, optional
        Cap, also used while the estimate has no critical step size; by default half of the
        largest stable step size of the run, ``1 / lambda_1`` of plain SGD.
    """

    fraction: float
    decay: float = 0.9
    max_step: float | None = None
    _rule = staticmethod(rules.online)
    _entry = staticmethod(rules.online_entry)
    observes = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "fraction", checks.real("fraction", self.fraction, positive=True))
        decay = checks.real("decay", self.decay)
        if decay >= 1.0:
            raise checks.wrong("decay", self.decay, "at least 0 and below 1")
        object.__setattr__(self, "decay", decay)
        super().__post_init__()

    def memory(self, problem: Quadratic) -> NDArray[np.float64]:
        """Return fraction, cap, decay, the total weight, the noise floors and six averages.

        Under mini-batches the floors are those of residuals of variance one, which the average of
        the last of three numbers more multiplies: 1 / B, tau^2 and the variance of a residual.
        """
        spectrum, values = problem.spectrum, problem.stds**2
        n0 = spectrum.band_sums(values)
        values *= spectrum.eigenvalues
        n1 = spectrum.band_sums(values)
        head = [self.fraction, self._cap(problem), self.decay, 0.0]
        memory = np.concatenate([head, n0, n1, np.zeros(6)])
        if isinstance(problem.noise, DataNoise):
            batch, label = problem.noise.batch_size, problem.noise.label_std
            memory = np.concatenate([memory, [1.0 / batch, label * label, 0.0]])
        return memory
