"""Models of the gradient noise: a standard deviation s_i for every eigendirection."""

from abc import ABC
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import checks
from ..base.registry import NOISES
from ..base.values import Travels
from ..physics import batches
from ..physics import formulas as physics
from ..physics.formulas import Prediction, Weights
from ..physics.rise import NoiseShape
from ..physics.row import Velocity
from . import stability as stable
from .optimizer import PLAIN, Optimizer
from .spectrum.spectrum import Spectrum

Array = NDArray[np.float64]

#: Powers of lambda in `Scaling` that kernels know how to use.
POWERS = (0, 1, 2)


class Scaling(NamedTuple):
    """A law of the noise, ``s^2 = sigma^2 lambda^power``.

    Attributes
    ----------
    sigma : float
        At least zero.
    power : int
        0, 1 or 2.

    Examples
    --------
    >>> import numpy as np
    >>> from suspalign_fast.model.noise import Scaling
    >>> Scaling(0.5, 1).stds(np.array([4.0, 1.0]))
    array([1. , 0.5])
    """

    sigma: float
    power: int

    def stds(self, eigenvalues: Array) -> Array:
        """Return s of every level; without memory of its own where all are the same."""
        if self.power == 0:
            return np.broadcast_to(np.float64(self.sigma), eigenvalues.shape)
        with np.errstate(over="ignore"):
            stds = np.sqrt(eigenvalues) if self.power == 1 else eigenvalues.copy()
            stds *= self.sigma
        return stds


class Noise(Travels, ABC):
    """Independent Gaussian noise on each eigen-coefficient of the gradient.

    A model of your own derives from this class and says either what the `stds` of the levels are,
    or, where these follow a law, its `scaling`: kernels are then faster. Nothing else is assumed of
    it. A trace file holds its standard deviations, or, where the class is registered
    (``docs/extending.md``), its name and the fields of its dataclass.
    """

    def scaling(self, spectrum: Spectrum) -> Scaling | None:
        """Return the law ``s^2 = sigma^2 lambda^power`` of the levels, None if they have none."""
        return None

    def stds(self, spectrum: Spectrum) -> Array:
        """Return the standard deviations s of the levels of `spectrum`, shape (num_levels,).

        In the order of ``spectrum.eigenvalues``, which are sorted; `Spectrum.order` says how they
        were given. Called once, when the problem is made. By default those of `scaling`.
        """
        law = self.scaling(spectrum)
        if law is None:
            raise checks.wrong("noise", self, "a model that says its stds or its scaling")
        return law.stds(spectrum.eigenvalues)

    def check(self, spectrum: Spectrum) -> None:
        """Raise ValueError if this noise does not fit `spectrum`."""

    # --- noise that depends on the state says what rows make of it; all other is additive -------

    #: Whether it depends on the state: engines then have kernels of their own for it, or none.
    depends_on_state: ClassVar[bool] = False
    #: Whether it goes on for ever, whatever becomes of the loss.
    is_lasting: bool = True

    def constants_at(self, constants: Array, power_sums: Array, noise_sums: Array) -> Array:
        """Return N_1, N_2 and K at rows: those of the run, shape (2, 3), or of each row."""
        return constants

    def predict_alignment(
        self,
        power_sums: Array,
        noise_sums: Array,
        constants: Array,
        step_size: Array | float,
        update: tuple[float, float],
        shape: NoiseShape | None,
        velocity: Velocity | None = None,
    ) -> physics.Prediction:
        """Predict the alignment one step after each row; see `physics.formulas`."""
        return physics.predict_alignment(
            power_sums, noise_sums, constants, step_size, update, shape, velocity
        )

    def stability(
        self,
        spectrum: Spectrum,
        step_size: float,
        weights: tuple[float, float] = (1.0, 1.0),
        optimizer: Optimizer = PLAIN,
    ) -> stable.Stability:
        """Return how far a step size is from the largest stable one, in mean square."""
        return stable.additive(spectrum, step_size, weights, optimizer)


@NOISES.register("isotropic")
@dataclass(frozen=True)
class IsotropicNoise(Noise):
    """The same standard deviation in every direction, ``s_i = std``.

    Parameters
    ----------
    std : float
        At least zero, in units of the gradient.
    """

    std: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "std", checks.real("std", self.std))

    def scaling(self, spectrum: Spectrum) -> Scaling:
        """Return ``s^2 = std^2``."""
        return Scaling(self.std, 0)


@NOISES.register("hessian")
@dataclass(frozen=True)
class HessianNoise(Noise):
    """Noise covariance proportional to the Hessian, ``s_i = std * sqrt(lambda_i)``.

    Parameters
    ----------
    std : float
        At least zero.
    """

    std: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "std", checks.real("std", self.std))

    def scaling(self, spectrum: Spectrum) -> Scaling:
        """Return ``s^2 = std^2 lambda``."""
        return Scaling(self.std, 1)


#: Stands for all noise that does not depend on the state, where only that matters.
ADDITIVE = IsotropicNoise(0.0)


@NOISES.register("diagonal")
@dataclass(frozen=True, eq=False)
class DiagonalNoise(Noise):
    """A standard deviation of its own for every direction.

    Parameters
    ----------
    stds : array_like of float, shape (num_levels,) or (dim,)
        Standard deviations, in the order in which the eigenvalues were given to `Spectrum`.

    Attributes
    ----------
    values : ndarray of float
        The same, read-only.
    """

    values: Array = field(metadata={"array": "noise_stds", "argument": "stds"})

    def __init__(self, stds: ArrayLike) -> None:
        values = checks.non_negative_vector("stds", stds)
        object.__setattr__(self, "values", checks.read_only(values))

    def check(self, spectrum: Spectrum) -> None:
        """Raise ValueError unless there is one value a level or a direction."""
        check_length(spectrum, self.values, "stds")

    def stds(self, spectrum: Spectrum) -> Array:
        """Return the values in the order of ``spectrum.eigenvalues``."""
        return in_level_order(spectrum, self.values)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return np.array_equal(self.values, other.values)

    def __repr__(self) -> str:
        return f"DiagonalNoise({checks.describe(self.values)})"


def law_of(noise: Noise, spectrum: Spectrum) -> Scaling | None:
    """Return the law of a model where kernels can rely on it, None where its `stds` decide.

    A class that says its own `stds` overrules a law that it inherits; where it says both they must
    agree, else ValueError.
    """
    order = type(noise).__mro__
    says = {name: _definer(order, name) for name in ("scaling", "stds")}
    if says["stds"] < says["scaling"]:
        return None
    law = _called(noise, "scaling", spectrum)
    if law is None:
        return None
    if not isinstance(law, Scaling):
        name = f"{type(noise).__name__}.scaling(spectrum)"
        raise checks.wrong(name, law, "a Scaling, or None where there is none")
    sigma = checks.real(f"{type(noise).__name__}.scaling(spectrum).sigma", law.sigma)
    if not checks.is_number(law.power) or law.power not in POWERS:
        name = f"{type(noise).__name__}.scaling(spectrum).power"
        raise checks.wrong(name, law.power, f"one of {', '.join(map(str, POWERS))}")
    law = Scaling(sigma, int(law.power))
    if says["stds"] == says["scaling"]:
        given, expected = checked_stds(noise, spectrum), law.stds(spectrum.eigenvalues)
        if not np.allclose(given, expected, rtol=1e-12, atol=0.0):
            raise ValueError(f"{type(noise).__name__} must have stds that follow its scaling {law}")
    return law


def _called(noise: Noise, name: str, spectrum: Spectrum) -> Any:
    """Return what a method of a model says of a spectrum."""
    method = getattr(noise, name)
    if not callable(method):
        raise checks.wrong(f"{type(noise).__name__}.{name}", method, "a method")
    return method(spectrum)


def _definer(order: tuple[type, ...], name: str) -> int:
    """Place in the method resolution order of the class that defines a method."""
    return next(i for i, cls in enumerate(order) if name in cls.__dict__)


def checked_stds(noise: Noise, spectrum: Spectrum) -> Array:
    """Return what a model gives for a spectrum, read-only; ValueError if it is unusable."""
    name = f"{type(noise).__name__}.stds(spectrum)"
    values = checks.non_negative_vector(name, _called(noise, "stds", spectrum))
    if values.shape != (spectrum.num_levels,):
        expected = f"an array of shape ({spectrum.num_levels},), one value a level"
        raise checks.wrong(name, values, expected)
    return checks.read_only(values)


def check_length(spectrum: Spectrum, values: NDArray[Any], name: str) -> None:
    """Raise ValueError unless `values` has one entry a level or a direction."""
    if has_one_per_direction(spectrum, values) or values.shape == (spectrum.num_levels,):
        return
    expected = f"an array of shape ({spectrum.num_levels},), one value a level"
    if not (spectrum.is_simple or spectrum.is_compressed) and spectrum.order is None:
        expected += f", or ({spectrum.dim},), one a direction"
    raise checks.wrong(name, values, expected)


def has_one_per_direction(spectrum: Spectrum, values: NDArray[Any]) -> bool:
    """Whether `values` has one entry a direction rather than one a level."""
    if values.shape == (spectrum.num_levels,):
        return False
    listed = spectrum.order is None and not spectrum.is_compressed
    return values.shape == (spectrum.dim,) and listed


def in_level_order(spectrum: Spectrum, values: NDArray[Any]) -> NDArray[Any]:
    """Return per-level `values`, given along the unsorted levels, in sorted order."""
    return values if spectrum.order is None else values[spectrum.order]


def state_noise(described: dict[str, Any]) -> Noise:
    """Return the model of a description where that depends on the state, else `ADDITIVE`."""
    name = described["model"]
    if name in NOISES and NOISES[name].depends_on_state:
        return cast(Noise, NOISES.make(described, {}))
    return ADDITIVE


# --- Mini-batches of data: the noise of SGD on least squares with a fresh batch at every step ----


#: Batches up to here: all integers that a float64 tells apart.
MAX_BATCH = 2**53


@NOISES.register("data")
@dataclass(frozen=True)
class DataNoise(Noise):
    """Mini-batches of Gaussian data with noisy labels: streaming least squares.

    Every step takes a fresh batch of B samples ``x ~ N(0, H)`` with labels
    ``y = x' theta* + eps``, ``eps ~ N(0, label_std^2)``, and the gradient of half the mean squared
    residual. Its noise vanishes with the residuals, is correlated across directions and decides
    which step sizes are stable. The law is exact for every batch size, at the same cost.

    Parameters
    ----------
    batch_size : int
        Samples B of a step, at least 1.
    label_std : float
        Standard deviation tau of the labels' noise, at least zero; by default none.

    Raises
    ------
    ValueError
        If an argument is not as described.

    Notes
    -----
    Given ``u``, a chi-square of B degrees of freedom, and with ``P = S_1 + tau^2`` the variance of
    a residual, the gradient is Gaussian: ``N((u / B) g, (u / B^2) (P H - g g'))`` (docs/model.md,
    section 6). `stds` are ``sqrt(lambda)``, the noise of one residual of variance one.

    Examples
    --------
    >>> import suspalign_fast as sa
    >>> spectrum = sa.Spectrum.two_level(1000, 10, 5.0, 1.0)
    >>> noise = sa.DataNoise(batch_size=32, label_std=0.5)
    >>> problem = sa.Quadratic(spectrum, noise)
    >>> trace = sa.simulate(problem, 0.01, 100, engine="levels")
    >>> bool(trace.loss[-1] < trace.loss[0])
    True
    """

    batch_size: int
    label_std: float = 0.0
    depends_on_state: ClassVar[bool] = True

    def __post_init__(self) -> None:
        size = checks.integer("batch_size", self.batch_size, 1, MAX_BATCH)
        object.__setattr__(self, "batch_size", size)
        object.__setattr__(self, "label_std", checks.real("label_std", self.label_std))

    @property
    def is_lasting(self) -> bool:  # type: ignore[override]
        """Whether it goes on for ever: only labels keep residuals from vanishing."""
        return self.label_std > 0.0

    def scaling(self, spectrum: Spectrum) -> Scaling:
        """Return ``s^2 = lambda``, the noise of one residual of variance one."""
        return Scaling(1.0, 1)

    def constants_at(self, constants: Array, power_sums: Array, noise_sums: Array) -> Array:
        """Return N_1, N_2 and K of the noise at rows, shape (..., 2, 3)."""
        return batches.constants_at(
            constants, power_sums, noise_sums, self.batch_size, self.label_std
        )

    def predict_alignment(
        self,
        power_sums: Array,
        noise_sums: Array,
        constants: Array,
        step_size: Array | float,
        update: Weights,
        shape: NoiseShape | None,
        velocity: Velocity | None = None,
    ) -> Prediction:
        """Predict the alignment one step after each row; see `physics.batches`."""
        return batches.predict_alignment(
            power_sums, noise_sums, constants, step_size, update, shape, self.batch_size,
            self.label_std, velocity,
        )  # fmt: skip

    def stability(
        self,
        spectrum: Spectrum,
        step_size: float,
        weights: Weights = (1.0, 1.0),
        optimizer: Optimizer = PLAIN,
    ) -> stable.Stability:
        """Return how far a step size is from the largest stable one, in mean square."""
        return stable.of_batches(spectrum, step_size, self.batch_size, weights, optimizer)
