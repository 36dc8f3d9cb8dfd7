"""One row of a network: its sums, the noise, and where the quadratic picture ends."""

import itertools
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..base import checks, reports
from ..physics import formulas as physics
from ..physics import rows
from .curvature import PRODUCTS, SPARE, Curvature, refresh, top
from .loss import Batches, Loss, of_training

# --- The sums of a row: what a step's expected odds and losses are made of, by bands -------------
#
# With P the projection on a band, g the gradient, H the curvature and n the noise of a mini-batch:
# ``S_2 = |P g|^2``, ``S_3 = (P g)' H g``, ``S_4 = |P H g|^2``, ``N_1 = E (P n)' H n``, ``N_2 = E |P
# H n|^2``. Where P is of eigenvectors these are the sums of docs/model.md; for any other P the
# expected odds of a step on the quadratic are what they say all the same.


Array = NDArray[np.float64]
#: Noise vectors that are held, and multiplied, at once.
BLOCK = 8


def of_bands(a: Tensor, b: Tensor, vectors: Tensor) -> Tensor:
    """Return the inner products of columns of `a` and `b` in both bands, shape (2, columns).

    The bulk parts are projected, not differences of inner products: nothing cancels.
    """
    inside = [vectors.T @ x for x in (a, b)]
    rest = [x - vectors @ y for x, y in zip((a, b), inside, strict=True)]
    return torch.stack([(inside[0] * inside[1]).sum(0), (rest[0] * rest[1]).sum(0)])


def power_sums(gradient: Tensor, pulled: Tensor, vectors: Tensor) -> Array:
    """Return S_1 ... S_4 of both bands, shape (2, 4), S_1 unknown, from g, H g and eigenvectors."""
    pairs = ((gradient, gradient), (gradient, pulled), (pulled, pulled))
    sums = [of_bands(a[:, None], b[:, None], vectors)[:, 0] for a, b in pairs]
    known = torch.stack(sums, dim=1).cpu().numpy()
    return np.concatenate([np.full((2, 1), np.nan), known], axis=1)


class NoiseSums(NamedTuple):
    """What mini-batches say of the noise, one batch an entry of the last axis.

    Attributes
    ----------
    first, second : ndarray of float64, shape (2, batches)
        ``(P n)' H n`` and ``|P H n|^2``, whose means are N_1 and N_2.
    sums : ndarray of float64, shape (2, 3, batches)
        Their means are R_4, R_5 and R_6.
    fourth : ndarray of float64, shape (2,)
        K, from pairs of batches.
    """

    first: Array
    second: Array
    sums: Array
    fourth: Array

    @property
    def constants(self) -> Array:
        """N_1, N_2 and K of both bands, shape (2, 3)."""
        return np.stack([self.first.mean(-1), self.second.mean(-1), self.fourth], axis=1)


def noise_sums(
    curvature: Curvature,
    gradients: Iterable[Tensor],
    gradient: Tensor,
    pulled: Tensor,
    vectors: Tensor,
) -> NoiseSums:
    """Return the sums of the noise of mini-batches, one product each.

    Parameters
    ----------
    curvature : Curvature
    gradients : iterable of Tensor, shape (d,)
        Those of mini-batches, independent of one another.
    gradient, pulled : Tensor, shape (d,)
        g and H g.
    vectors : Tensor, shape (d, k)
    """
    first, second, sums, squares, num_pairs = [], [], [], torch.zeros(2, device="cpu"), 0
    for block in _blocks(gradients):
        noise = torch.stack(block, dim=1) - gradient[:, None]
        kicks = curvature.times(noise)
        first.append(of_bands(noise, kicks, vectors))
        second.append(of_bands(kicks, kicks, vectors))
        by_g, by_pulled = (of_bands(x[:, None], kicks, vectors) for x in (gradient, pulled))
        sums.append(torch.stack([by_g**2, by_g * by_pulled, by_pulled**2], dim=1))
        square, count = _of_pairs(kicks, vectors)
        squares, num_pairs = squares + square.cpu(), num_pairs + count
    if not first or sum(part.shape[1] for part in first) < 2:
        raise ValueError("noise_batches must be at least 2 mini-batches")
    joined = [torch.cat(parts, dim=-1).cpu().numpy() for parts in (first, second, sums)]
    return NoiseSums(joined[0], joined[1], joined[2], (squares / max(num_pairs, 1)).numpy())


def _blocks(gradients: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    """At most `BLOCK` at once."""
    rest = iter(gradients)
    while block := list(itertools.islice(rest, BLOCK)):
        yield block


def _of_pairs(kicks: Tensor, vectors: Tensor) -> tuple[Tensor, int]:
    """Sum of the squared inner products of pairs of columns in both bands, and their number."""
    inside = vectors.T @ kicks
    rest = kicks - vectors @ inside
    grams = torch.stack([part.T @ part for part in (inside, rest)]) ** 2
    upper = torch.triu(grams, diagonal=1).sum((1, 2))
    count = kicks.shape[1]
    return upper, count * (count - 1) // 2


#: Smaller ratios of the eigenvalues around the gap count as no gap.
VISIBLE_GAP = 1.05
#: A row takes about so many products, for its bar.
USUAL_PRODUCTS = 64


@dataclass(frozen=True, eq=False)
class NetworkRow:
    """What was measured of a network at one state.

    Attributes
    ----------
    loss : float
        Of all data.
    power_sums : ndarray of float64, shape (2, 4)
        S_1 ... S_4 of the dominant and the bulk band. S_1, the loss of a band, is NaN: a network
        has no minimum to measure it from.
    noise_sums : ndarray of float64, shape (2, 3)
        R_4 ... R_6 of both bands.
    constants : ndarray of float64, shape (2, 3)
        N_1, N_2 and K of both bands.
    top_eigenvalues : ndarray of float64, shape (k + 1,)
        Descending; the last one is NaN where the eigenvectors are those of an earlier row.
    critical_error : float
        Standard error of the critical step size that the mini-batches leave (jackknife).
    vectors : torch.Tensor, shape (d, k)
        The eigenvectors.
    residual : float
        Largest ``|H v - lambda v|`` of an eigenvector, over lambda_k; NaN of those of an earlier
        row.
    products : int
        Products with the curvature that the row took.
    """

    loss: float
    power_sums: Array
    noise_sums: Array
    constants: Array
    top_eigenvalues: Array
    critical_error: float
    vectors: Tensor
    residual: float
    products: int

    @property
    def alignment(self) -> float:
        """``|P_dom g|^2 / |g|^2``."""
        return float(physics.alignment(self.power_sums))

    @property
    def critical_step_size(self) -> float:
        """The step size eta* at which the expected odds stand still."""
        return float(physics.critical_step_size(self.power_sums, self.constants))

    @property
    def loss_interval(self) -> Array:
        """Bounds of the loss interval, lower and upper."""
        return physics.loss_interval(self.power_sums, self.constants)

    @property
    def critical_edge(self) -> float:
        """``eta* lambda_1 / 2``: above 1 a step of eta* climbs along the first direction."""
        return self.critical_step_size * float(self.top_eigenvalues[0]) / 2.0

    @property
    def beyond_quadratic(self) -> bool:
        """Whether eta* is so large that the quadratic picture does not hold at it."""
        return not self.critical_edge < rows.EDGE

    def regime(self, step_size: float) -> str:
        """Return the regime of a step size at this row, as `Trace.regime` has it."""
        return str(physics.regime(np.asarray(step_size), np.asarray(self.critical_step_size)))

    def __repr__(self) -> str:
        return (
            f"NetworkRow(loss={self.loss:.6g}, alignment={self.alignment:.4f}, "
            f"critical_step_size={self.critical_step_size:.4g} +- {self.critical_error:.2g}, "
            f"critical_edge={self.critical_edge:.3g}, lambda_1={self.top_eigenvalues[0]:.6g}, "
            f"lambda_k={self.top_eigenvalues[-2]:.6g}, lambda_k+1={self.top_eigenvalues[-1]:.6g}, "
            f"products={self.products})"
        )

    def columns(self) -> dict[str, Any]:
        """Return what a trace records of the row."""
        own = ("loss", "power_sums", "noise_sums", "top_eigenvalues", "critical_error")
        mark = {"critical_edge": self.critical_edge, "beyond_quadratic": int(self.beyond_quadratic)}
        return {name: getattr(self, name) for name in own} | mark | {
            rows.CONSTANTS.name: self.constants
        }  # fmt: skip


def measure_row(
    model: Any,
    loss_fn: Any,
    data: Any,
    num_dominant: int,
    *,
    batch_size: int | None = None,
    noise_batches: Any = None,
    curvature: str = "hessian",
    tolerance: float = 0.02,
    seed: int = 0,
    progress: bool = False,
) -> NetworkRow:
    """Measure a row of a network as it is now.

    Parameters
    ----------
    model : torch.nn.Module
        Measured in evaluation mode: dropout is off, batch normalisation uses its running
        statistics. Nothing of it changes, torch's random numbers neither.
    loss_fn : callable
        ``loss_fn(model(inputs), targets)``, the mean over a batch, each sample counted alike. A
        penalty on the model's parameters may be part of it; the weight decay of an optimizer is
        not seen.
    data : pair of tensors, or iterable of such pairs
        All training data, which gradient and curvature are of: also a `TensorDataset` of two, or a
        `DataLoader` that goes through the same samples every time.
    num_dominant : int
        Directions k of the dominant band.
    batch_size : int, optional
        Samples of the mini-batches that the noise is of, where they are drawn from the data.
    noise_batches : int or iterable, optional
        How many mini-batches are drawn, 16 by default, or mini-batches of your own, all of which
        are used. They must be given where the data are not one pair of tensors.
    curvature : {"hessian", "ggn"}
        The matrix: the Hessian, or the generalized Gauss-Newton matrix.
    tolerance : float
        Residual of the eigenvectors, relative to lambda_k. At most ``2 k + 32`` products go into
        them, unless it is 0: then as many as rounding leaves a use for.
    seed : int
        Of the draws.
    progress : bool
        Show a bar of products on standard error.

    Returns
    -------
    NetworkRow

    Raises
    ------
    ValueError
        If an argument is not as described, or the loss is not finite, not a mean, or random.

    Warns
    -----
    RuntimeWarning
        Where there is no visible gap after the k-th eigenvalue, the eigenvectors do not reach the
        tolerance, the model has dropout or batch normalisation in training mode, or the inputs are
        of a kind of which it is not known how to take samples, to test the loss with.

    Notes
    -----
    Definitions and cost: docs/networks.md.

    Examples
    --------
    >>> import suspalign_fast as sa
    >>> row = sa.network.measure_row(
    ...     model, torch.nn.CrossEntropyLoss(), (x, y), num_dominant=9, batch_size=32
    ... )  # doctest: +SKIP
    >>> row.alignment, row.critical_step_size, row.critical_edge  # doctest: +SKIP
    """
    loss = Loss(model, loss_fn, data)
    batches = Batches(loss, batch_size, noise_batches, seed)
    settings = Settings(loss, num_dominant, curvature, tolerance)
    with reports.bar(USUAL_PRODUCTS, "product", visible=progress, leave=False) as bar:
        return measured_row(settings, batches, tick=bar.update)


@dataclass(frozen=True, eq=False)
class Settings:
    """What rows of one loss are measured with, checked."""

    loss: Loss
    num_dominant: int
    curvature: str
    tolerance: float
    said: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        k = checks.integer("num_dominant", self.num_dominant, 1)
        if k >= self.loss.dim:
            raise ValueError(
                f"num_dominant must be below the number of parameters {self.loss.dim:,}, got {k}"
            )
        checks.choice("curvature", self.curvature, tuple(PRODUCTS))
        object.__setattr__(self, "tolerance", checks.real("tolerance", self.tolerance))
        object.__setattr__(self, "num_dominant", k)

    def check_residual(self, residual: float) -> None:
        """Warn once if eigenvectors have not reached the tolerance."""
        if not residual > self.tolerance > 0.0 or "residual" in self.said:
            return
        self.said.add("residual")
        k = self.num_dominant
        warnings.warn(
            f"tolerance = {self.tolerance:g} was not reached: after the {2 * k + SPARE} products "
            f"that eigenvectors may take, their residual is {residual:.2g} of lambda_{k}, and the "
            "bands are those of other directions; tolerance=0 goes on for as long as rounding "
            "allows",
            RuntimeWarning,
            stacklevel=5,
        )


def measured_row(
    settings: Settings,
    batches: Batches,
    number: int = 0,
    vectors: Tensor | None = None,
    tick: Any = None,
    *,
    warn: bool = True,
) -> NetworkRow:
    """Measure a row; `vectors` are those of an earlier one, if they are to be used again."""
    loss = settings.loss
    if warn:
        _check_modes(loss)
    with loss.evaluating():
        value, gradient = loss.checked(batches.given), loss.gradient()
        matrix = Curvature(loss, settings.curvature, tick)
        if vectors is None:
            values, vectors, residual = top(matrix, loss, settings.num_dominant, settings.tolerance)
        else:
            residual = float("nan")
            values = np.append(refresh(matrix, vectors), np.nan)
        settings.check_residual(residual)
        if warn:
            _check_gap(values)
        pulled = matrix.times(gradient)
        gradients = (loss.gradient([batch]) for batch in batches(number))
        noise = noise_sums(matrix, gradients, gradient, pulled, vectors)
    sums = power_sums(gradient, pulled, vectors)
    error = _error(sums, noise)
    return NetworkRow(
        value, sums, noise.sums.mean(-1), noise.constants, values, error, vectors, residual,
        matrix.products,
    )  # fmt: skip


def _check_modes(loss: Loss) -> None:
    if kinds := of_training(loss.model):
        warnings.warn(
            f"model is measured in evaluation mode, whose loss is not the one that it trains with: "
            f"it has {', '.join(kinds)} in training mode",
            RuntimeWarning,
            stacklevel=4,
        )


def _check_gap(values: Array) -> None:
    k = len(values) - 1
    above, below = float(values[-2]), float(values[-1])
    if below > 0.0 and above < VISIBLE_GAP * below:
        warnings.warn(
            f"there is no visible gap at num_dominant = {k}: lambda_{k} = {above:.6g} and "
            f"lambda_{k + 1} = {below:.6g}",
            RuntimeWarning,
            stacklevel=4,
        )


def _error(sums: Array, noise: NoiseSums) -> float:
    """Standard error of the critical step size, leaving out one batch after the other."""
    count = noise.second.shape[1]
    without = (noise.second.sum(-1, keepdims=True) - noise.second) / (count - 1)
    constants = np.zeros((count, 2, 3))
    constants[:, :, 1] = without.T
    values = physics.critical_step_size(np.broadcast_to(sums, (count, 2, 4)), constants)
    if not np.isfinite(values).all():
        return float("nan")
    return float(np.sqrt((count - 1) * values.var()))
