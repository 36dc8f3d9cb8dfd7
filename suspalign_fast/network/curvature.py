"""The Hessian or Gauss-Newton matrix of a network's loss, and its top eigenvectors."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..base import checks
from .data import Batch
from .lanczos import EXACT, TINY, Lanczos
from .loss import Loss, NotFiniteError, names_of_graph, undifferentiable

# --- Products of the Hessian or Gauss-Newton matrix of one batch with vectors, by reverse mode
# alone.
#
# Reverse mode twice works for every layer that torch can differentiate twice, takes the model's own
# parameters and never replaces them, and its graph serves all vectors of a row.


#: ``product(parts)`` is the product with a vector, both in parts, one a parameter.
Product = Callable[[Sequence[Tensor]], Sequence[Tensor]]


def _pulled(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    by: Sequence[Tensor],
    *,
    graph: bool = False,
) -> Sequence[Tensor]:
    """``by' d outputs / d inputs``, zero where there is no dependence."""
    live = [i for i, output in enumerate(outputs) if output.requires_grad]
    if not live:
        return [torch.zeros_like(x) for x in inputs]
    return torch.autograd.grad(
        [outputs[i] for i in live], inputs, [by[i] for i in live], retain_graph=True,
        create_graph=graph, materialize_grads=True,
    )  # fmt: skip


def _check_graph(gradient: Sequence[Tensor]) -> None:
    """Raise RuntimeError if a derivative is cut from what follows: torch takes that for zero."""
    if any(word in name for name in names_of_graph(gradient) for word in _CUT):
        raise RuntimeError("a function is marked as differentiable only once")


#: Nodes of a graph that raise an error once they are reached.
_CUT = ("Error", "NotImplemented")


def hessian(loss: Loss, batch: Batch) -> Product:
    """Return the product with the Hessian of the loss of a batch."""
    with torch.enable_grad():
        value = loss.of_batch(batch)
        gradient = torch.autograd.grad(
            value, loss.parameters, create_graph=True, materialize_grads=True
        )
    _check_graph(gradient)
    return lambda parts: _pulled(gradient, loss.parameters, parts)


def gauss_newton(loss: Loss, batch: Batch) -> Product:
    """Return the product with ``J' C J``, C the Hessian of the loss in the outputs, one tensor."""
    with torch.enable_grad():
        outputs, targets = loss.outputs(batch)
        if not isinstance(outputs, Tensor):
            raise ValueError(
                "curvature must be 'hessian' where the model returns other than one tensor, got "
                f"'ggn' and {type(outputs).__name__}"
            )
        cut = outputs.detach().requires_grad_()
        value = loss.of_outputs(cut, targets)
        direct = torch.autograd.grad(value, loss.parameters, allow_unused=True, retain_graph=True)
        if any(part is not None for part in direct):
            raise ValueError(
                "curvature must be 'hessian' where loss_fn takes parameters beside the model's "
                "outputs, got 'ggn'"
            )
        inner = torch.autograd.grad(value, cut, create_graph=True, materialize_grads=True)
        # J' u is linear in u, whose derivative along v is J v.
        u = torch.zeros_like(outputs, requires_grad=True)
        transposed = _pulled([outputs], loss.parameters, [u], graph=True)
    _check_graph(transposed)

    def product(parts: Sequence[Tensor]) -> Sequence[Tensor]:
        along = _pulled(transposed, [u], parts)
        return _pulled([outputs], loss.parameters, _pulled(inner, [cut], along))

    return product


PRODUCTS: dict[str, Any] = {"hessian": hessian, "ggn": gauss_newton}


Array = NDArray[np.float64]
#: Products that top eigenvectors may take beside two for each.
SPARE = 32
#: Asymmetry of second derivatives from which on they are wrong, and not rounded.
UNSYMMETRIC = 1e-6
#: What rounding is taken to explain of it at most, however short a type is.
MOST = 0.03
#: Products over which the top eigenvalues must stand still before they are believed: a small
#: residual does not say that none was passed over.
PATIENCE = 8


class Curvature:
    """The matrix of a loss at the model's parameters; it counts the products with it.

    `data` are by default all of the loss; ``tick(n)`` is called after n products.
    """

    def __init__(
        self,
        loss: Loss,
        kind: str,
        tick: Callable[[int], object] | None = None,
        data: Iterable[Batch] | None = None,
    ) -> None:
        self._loss, self._tick = loss, tick
        self._product_of = PRODUCTS[checks.choice("curvature", kind, tuple(PRODUCTS))]
        self._data = loss.data if data is None else data
        self._kept: Product | None = None
        self.products = 0

    def times(self, vectors: Tensor) -> Tensor:
        """Return the products with a vector, or with the columns of a matrix, in float64."""
        columns = vectors[:, None] if vectors.ndim == 1 else vectors
        found = self._loss.weighted(self._data, lambda batch: self._times_of_batch(batch, columns))
        self.products += columns.shape[1]
        if self._tick is not None:
            self._tick(columns.shape[1])
        if not torch.isfinite(found).all():
            raise NotFiniteError(
                "loss must have a finite curvature, got one that is not: a second derivative "
                "overflows or does not exist"
            )
        return found.reshape(vectors.shape)

    def _times_of_batch(self, batch: Batch, columns: Tensor) -> Tensor:
        """Products of one batch; its graph is kept if there is no other."""
        try:
            product = self._kept or self._product_of(self._loss, batch)
            if isinstance(self._data, list) and len(self._data) == 1:
                self._kept = product
            of_type = columns.to(self._loss.dtype)
            found = [
                self._loss.joined(product(self._loss.split(of_type[:, j].contiguous())))
                for j in range(columns.shape[1])
            ]
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise undifferentiable(error) from error
        return torch.stack(found, dim=1)


class Top(NamedTuple):
    """The k + 1 largest eigenvalues, k eigenvectors, and the largest residual over lambda_k."""

    values: Array
    vectors: Tensor
    residual: float


def top(curvature: Curvature, loss: Loss, num_dominant: int, tolerance: float) -> Top:
    """Return the top eigenvectors, and one eigenvalue more.

    Lanczos without restarts and with full orthogonalization, which takes the fewest products:
    until residuals are small enough and eigenvalues stand still, and no more than
    ``2 k + SPARE`` of them unless the tolerance is 0, for as much as rounding allows.
    """
    k, dim = num_dominant, loss.dim
    if dim <= 2 * k + SPARE:
        return _of_small(curvature, loss, k)
    limit = 2 * k + SPARE if tolerance > 0.0 else dim
    wanted = max(tolerance, EXACT)
    before, still = np.full(k + 1, np.nan), 0
    generator = torch.Generator("cpu").manual_seed(0)
    start = torch.randn(dim, generator=generator, dtype=torch.float64, device="cpu")
    space = Lanczos(curvature.times, start.to(loss.device), limit)
    while True:
        space.grow()
        if space.steps <= k:
            continue
        values, parts = space.eigenpairs()
        least = max(abs(values[-k]), EXACT * abs(values[-1]), TINY)
        residuals = np.abs(space.beside * parts[-1]) / least
        is_still = np.abs(values[-k - 1 :] - before).max() <= wanted * least
        before, still = values[-k - 1 :], still + 1 if is_still else 0
        good = still >= PATIENCE and residuals[-k - 1 :].max() <= wanted
        if space.is_full or good:
            break
    _check_symmetry(space.asymmetry, loss)
    weights = torch.from_numpy(parts[:, -k:][:, ::-1].copy()).to(loss.device)
    residual = float(residuals[-k:].max())
    return Top(values[::-1][: k + 1].copy(), space.basis.T @ weights, residual)


def _check_symmetry(found: float, loss: Loss) -> None:
    """Raise ValueError if second derivatives are not symmetric, as torch's of some layers."""
    if found > max(UNSYMMETRIC, min(10.0 * loss.rounding, MOST)):
        raise ValueError(
            "model must be one that torch differentiates twice rightly, and second derivatives "
            f"were found to be unsymmetric by {found:.2g} of their size, as with "
            "torch.nn.utils.parametrizations.weight_norm"
        )


def _of_small(curvature: Curvature, loss: Loss, k: int) -> Top:
    """The same from the whole matrix."""
    eye = torch.eye(loss.dim, dtype=torch.float64, device=loss.device)
    matrix = curvature.times(eye)
    apart = (matrix - matrix.T).abs().max() / matrix.abs().max().clamp_min(TINY)
    _check_symmetry(float(apart), loss)
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2.0)
    found, vectors = values.flip(0)[: k + 1], vectors.flip(1)[:, :k]
    return Top(found.cpu().numpy(), vectors.contiguous(), 0.0)


def refresh(curvature: Curvature, vectors: Tensor) -> Array:
    """Return the eigenvalues of the matrix within a space of earlier eigenvectors, descending."""
    within = vectors.T @ curvature.times(vectors)
    values = torch.linalg.eigvalsh((within + within.T) / 2.0)
    return values.flip(0).cpu().numpy()
