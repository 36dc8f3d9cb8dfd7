"""Products of the Hessian or Gauss-Newton matrix of one batch with vectors, by reverse mode alone.

Reverse mode twice works for every layer that torch can differentiate twice, takes the model's own
parameters and never replaces them, and its graph serves all vectors of a row.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .data import Batch
from .loss import Loss, names_of_graph

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
    """Return the product with ``J' C J``, C the Hessian of the loss in the outputs.

    Raises
    ------
    ValueError
        If the outputs are not one tensor, or the loss takes parameters beside them.
    """
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
