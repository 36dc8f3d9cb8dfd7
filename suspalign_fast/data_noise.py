"""Mini-batches of data: the noise of SGD on least squares with a fresh batch at every step."""

from dataclasses import dataclass
from typing import ClassVar

from . import _checks, batch_rows
from . import stability as stable
from .noise import Array, Noise, Scaling
from .optimizer import PLAIN, Optimizer
from .power_sums import Prediction, Weights
from .rise import NoiseShape
from .row import Velocity
from .spec import NOISES
from .spectrum import Spectrum

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
        size = _checks.integer("batch_size", self.batch_size, 1, MAX_BATCH)
        object.__setattr__(self, "batch_size", size)
        object.__setattr__(self, "label_std", _checks.real("label_std", self.label_std))

    @property
    def is_lasting(self) -> bool:  # type: ignore[override]
        """Whether it goes on for ever: only labels keep residuals from vanishing."""
        return self.label_std > 0.0

    def scaling(self, spectrum: Spectrum) -> Scaling:
        """Return ``s^2 = lambda``, the noise of one residual of variance one."""
        return Scaling(1.0, 1)

    def constants_at(self, constants: Array, power_sums: Array, noise_sums: Array) -> Array:
        """Return N_1, N_2 and K of the noise at rows, shape (..., 2, 3)."""
        return batch_rows.constants_at(
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
        """Predict the alignment one step after each row; see `batch_rows.predict_alignment`."""
        return batch_rows.predict_alignment(
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
