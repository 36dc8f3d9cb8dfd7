"""Optimizers: how a gradient moves the parameters.

All are of one form. With the noisy gradient h of a direction, a velocity v that starts at zero and
the size eta of a step (times the weight of the update in the direction's band),

    c' = c - eta (p h + q v),      v' = beta v + h,

where (p, q) is (1, 0) for plain SGD, (1, beta) for the heavy ball and (1 + beta, beta^2) for
Nesterov's momentum: the conventions of PyTorch without dampening, whose buffer is v
(docs/momentum.md).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

from ..base import checks
from ..base.registry import OPTIMIZERS
from ..base.values import Travels


class Factors(NamedTuple):
    """What an optimizer multiplies by what.

    Attributes
    ----------
    pull : float
        p: the gradient, in the step.
    carry : float
        q: the velocity, in the step.
    decay : float
        beta: the velocity, in the next one.
    """

    pull: float
    carry: float
    decay: float


class Optimizer(Travels, ABC):
    """Base of the optimizers."""

    @property
    @abstractmethod
    def factors(self) -> Factors:
        """How gradient and velocity make up a step and the next velocity."""

    @property
    def has_velocity(self) -> bool:
        """Whether a step depends on more than the parameters."""
        return self.factors.carry != 0.0

    @property
    def largest(self) -> float:
        """Product of step size and eigenvalue at the edge of stability, under additive noise."""
        p, q, beta = self.factors
        return 2.0 * (1.0 + beta) / (p * (1.0 + beta) - q)


@OPTIMIZERS.register("sgd")
@dataclass(frozen=True)
class SGD(Optimizer):
    """Plain stochastic gradient descent, ``c' = c - eta h``.

    Examples
    --------
    >>> import suspalign_fast as sa
    >>> sa.SGD().factors
    Factors(pull=1.0, carry=0.0, decay=0.0)
    """

    @property
    def factors(self) -> Factors:
        """How a gradient makes up a step."""
        return Factors(1.0, 0.0, 0.0)


#: The default everywhere.
PLAIN = SGD()


@OPTIMIZERS.register("momentum")
@dataclass(frozen=True)
class Momentum(Optimizer):
    """The heavy ball, or Nesterov's momentum.

    Parameters
    ----------
    beta : float
        Share of the velocity that is kept in a step, from 0 to below 1.
    nesterov : bool

    Raises
    ------
    ValueError
        If an argument is not as described.

    Notes
    -----
    As ``torch.optim.SGD(lr=eta, momentum=beta, nesterov=...)``: ``v' = beta v + h``, then
    ``c' = c - eta v'`` or, with Nesterov, ``c' = c - eta (h + beta v')``. The velocity starts at
    zero. A constant gradient moves the parameters by ``eta / (1 - beta)`` a step in the end.

    Examples
    --------
    >>> import suspalign_fast as sa
    >>> sa.Momentum(0.5).factors
    Factors(pull=1.0, carry=0.5, decay=0.5)
    >>> sa.Momentum(0.5, nesterov=True).factors
    Factors(pull=1.5, carry=0.25, decay=0.5)
    >>> round(sa.Momentum(0.9).largest, 6)
    3.8
    """

    beta: float
    nesterov: bool = False

    def __post_init__(self) -> None:
        beta = checks.real("beta", self.beta)
        if beta >= 1.0:
            raise checks.wrong("beta", self.beta, "from 0 to below 1")
        if not isinstance(self.nesterov, bool):
            raise checks.wrong("nesterov", self.nesterov, "True or False")
        object.__setattr__(self, "beta", beta)

    @property
    def factors(self) -> Factors:
        """How gradient and velocity make up a step and the next velocity."""
        beta = self.beta
        if self.nesterov:
            return Factors(1.0 + beta, beta * beta, beta)
        return Factors(1.0, beta, beta)


def as_optimizer(optimizer: Optimizer) -> Optimizer:
    """Return the optimizer unchanged; ValueError if its class is not of the package."""
    if OPTIMIZERS.name_of(optimizer) is None:
        raise checks.wrong("optimizer", optimizer, "SGD() or Momentum(beta, nesterov=...)")
    return optimizer
