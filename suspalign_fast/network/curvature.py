"""Products of a network's Hessian or Gauss-Newton matrix with vectors, and its top eigenvectors."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from curvlinops import GGNLinearOperator, HessianLinearOperator
from numpy.typing import NDArray
from torch import Tensor

from .. import _checks
from .lanczos import EXACT, Lanczos
from .loss import Batch, Loss
from .quiet import quiet

Array = NDArray[np.float64]
OPERATORS = {"hessian": HessianLinearOperator, "ggn": GGNLinearOperator}
#: Up to so many parameters the whole matrix is made.
SMALL = 64
#: Products that top eigenvectors may take beside two for each.
SPARE = 32
#: Residual up to which the first eigenvalue of the bulk is known well enough.
ROUGH = 0.1
#: Stands for zero in a denominator.
TINY = 1e-300


class _Mean(torch.nn.Module):
    """A loss as curvlinops takes one."""

    reduction = "mean"

    def __init__(self, loss_fn: Any) -> None:
        super().__init__()
        self.loss_fn = loss_fn

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        loss: Tensor = self.loss_fn(outputs, targets)
        return loss.reshape(())


class Curvature:
    """The matrix of a loss at the model's parameters, which counts the products with it.

    Parameters
    ----------
    loss : Loss
    kind : {"hessian", "ggn"}
    tick : callable, optional
        ``tick(n)`` is called after n products.
    data : iterable of batches, optional
        By default all of the loss.

    Attributes
    ----------
    products : int
        Vectors that were multiplied so far.
    """

    def __init__(
        self,
        loss: Loss,
        kind: str,
        tick: Callable[[int], object] | None = None,
        data: Iterable[Batch] | None = None,
    ) -> None:
        self._loss, self._tick = loss, tick
        self._operator = OPERATORS[_checks.choice("curvature", kind, tuple(OPERATORS))](
            loss.model, _Mean(loss.loss_fn), list(loss.parameters.values()),
            loss.data if data is None else data,
            check_deterministic=False,
        )  # fmt: skip
        self.products = 0

    def times(self, vectors: Tensor) -> Tensor:
        """Return the products with a vector, or with the columns of a matrix, in float64."""
        with quiet():
            product: Tensor = self._operator @ vectors.to(self._loss.dtype).contiguous()
        product = product.double()
        count = 1 if vectors.ndim == 1 else vectors.shape[1]
        self.products += count
        if self._tick is not None:
            self._tick(count)
        if not torch.isfinite(product).all():
            raise ValueError("the curvature of the loss must be finite, and is not")
        return product


class Top(NamedTuple):
    """Eigenvectors of the largest eigenvalues.

    Attributes
    ----------
    values : ndarray of float64, shape (k + 1,)
        Descending, with the first one of the bulk.
    vectors : Tensor of float64, shape (d, k)
    residual : float
        Largest ``|H v - lambda v|`` of them, over lambda_k.
    """

    values: Array
    vectors: Tensor
    residual: float


def top(curvature: Curvature, loss: Loss, num_dominant: int, tolerance: float) -> Top:
    """Return the top eigenvectors, and one eigenvalue more.

    Lanczos without restarts and with full orthogonalization, which takes the fewest products:
    until the residual is small enough, and no more than ``2 k + SPARE`` of them unless the
    tolerance is 0, for as much as rounding allows.
    """
    k, dim = num_dominant, loss.dim
    if dim <= max(SMALL, k + 2):
        return _of_small(curvature, loss, k)
    limit = min(dim, 2 * k + SPARE if tolerance > 0.0 else dim)
    wanted = max(tolerance, EXACT)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(dim, generator=generator, dtype=torch.float64).to(loss.device)
    space = Lanczos(curvature.times, start, limit)
    while True:
        space.grow()
        if space.steps <= k and not space.is_whole:
            continue
        values, parts = space.eigenpairs()
        least = max(abs(values[-k]), EXACT * abs(values[-1]), TINY)
        residuals = np.abs(space.beside * parts[-1]) / least
        residual = float(residuals[-k:].max())
        if space.is_whole or (residual <= wanted and residuals[-k - 1] <= max(wanted, ROUGH)):
            break
    weights = torch.from_numpy(np.ascontiguousarray(parts[:, : -k - 1 : -1])).to(loss.device)
    return Top(values[::-1][: k + 1].copy(), space.basis.T @ weights, residual)


def _of_small(curvature: Curvature, loss: Loss, k: int) -> Top:
    """The same from the whole matrix."""
    eye = torch.eye(loss.dim, dtype=torch.float64, device=loss.device)
    matrix = curvature.times(eye)
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2.0)
    found, vectors = values.flip(0)[: k + 1], vectors.flip(1)[:, :k]
    return Top(found.cpu().numpy(), vectors.contiguous(), 0.0)


def refreshed(curvature: Curvature, vectors: Tensor) -> Array:
    """Return the eigenvalues of the matrix within a space of earlier eigenvectors, descending."""
    within = vectors.T @ curvature.times(vectors)
    values = torch.linalg.eigvalsh((within + within.T) / 2.0)
    return values.flip(0).cpu().numpy()
