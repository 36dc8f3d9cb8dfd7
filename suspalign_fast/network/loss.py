"""The loss of a network as a function of one vector of parameters, which are never written to."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from .. import _checks

Batch = tuple[Any, Tensor]


class Loss:
    """The mean loss of a model over data, in evaluation mode.

    Gradients are taken of a copy of the parameters: neither these nor their ``grad`` change, and an
    error or Ctrl-C leaves nothing to be put back but the mode of the modules, which is.

    Parameters
    ----------
    model : torch.nn.Module
    loss_fn : callable
        ``loss_fn(model(inputs), targets)``, the mean over a batch.
    data : tuple of two tensors, or iterable of such pairs
        All of the training data, whole or in parts.

    Attributes
    ----------
    parameters : dict of str to Tensor
        Those that take a gradient, by name.
    dim : int
        How many numbers they are.

    Raises
    ------
    ValueError
        If an argument is not as described.
    """

    def __init__(self, model: Any, loss_fn: Any, data: Any) -> None:
        if not isinstance(model, torch.nn.Module):
            raise _checks.wrong("model", model, "a torch.nn.Module")
        if not callable(loss_fn):
            raise _checks.wrong("loss_fn", loss_fn, "a function of outputs and targets")
        reduction = getattr(loss_fn, "reduction", "mean")
        if reduction != "mean":
            raise ValueError(f"loss_fn must have reduction 'mean', got {reduction!r}")
        self.model, self.loss_fn = model, loss_fn
        self.data = _data(data)
        self.parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._check_parameters()
        self._shapes = [p.shape for p in self.parameters.values()]
        self._sizes = [p.numel() for p in self.parameters.values()]
        self.dim = sum(self._sizes)

    def _check_parameters(self) -> None:
        if not self.parameters:
            raise ValueError("model must have parameters that take a gradient, it has none")
        kinds = {(p.dtype, p.device) for p in self.parameters.values()}
        if len(kinds) > 1:
            raise ValueError(
                "model must have parameters of one type on one device, got "
                + ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
            )
        self.dtype, self.device = kinds.pop()

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Put the model in evaluation mode, and every module back into its own at the end."""
        modes = [(module, module.training) for module in self.model.modules()]
        try:
            self.model.eval()
            yield
        finally:
            for module, mode in modes:
                module.training = mode

    def point(self) -> Tensor:
        """Return a copy of the parameters as one vector."""
        parts = [p.detach().reshape(-1) for p in self.parameters.values()]
        return torch.cat(parts).clone()

    def of_batch(self, point: Tensor, batch: Batch) -> Tensor:
        """Return the loss of a batch at a point."""
        parts = zip(self.parameters, point.split(self._sizes), self._shapes, strict=True)
        values = {name: part.reshape(shape) for name, part, shape in parts}
        inputs, targets = self._here(batch)
        loss = self.loss_fn(functional_call(self.model, values, (inputs,)), targets)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise ValueError(
                "loss_fn must return one number, the mean over a batch, got "
                f"{_checks.describe(getattr(loss, 'shape', loss))}"
            )
        return loss.reshape(())

    def _here(self, batch: Batch) -> Batch:
        inputs, targets = batch
        inputs = inputs.to(self.device) if isinstance(inputs, Tensor) else inputs
        return inputs, targets.to(self.device)

    def value(self, point: Tensor, batches: Iterable[Batch] | None = None) -> float:
        """Return the loss of batches, by default of all data, at a point."""
        with torch.no_grad():
            return self._weighted(batches, lambda batch: self.of_batch(point, batch)).item()

    def gradient(self, point: Tensor, batches: Iterable[Batch] | None = None) -> Tensor:
        """Return the gradient of the loss of batches, by default of all data, at a point."""
        return self._weighted(batches, lambda batch: self._gradient_of_batch(point, batch))

    def _gradient_of_batch(self, point: Tensor, batch: Batch) -> Tensor:
        leaf = point.detach().clone().requires_grad_()
        with torch.enable_grad():
            loss = self.of_batch(leaf, batch)
            if not loss.requires_grad:
                raise ValueError("model must have a gradient: its loss depends on no parameter")
            return torch.autograd.grad(loss, leaf)[0].double()

    def _weighted(self, batches: Iterable[Batch] | None, of: Any) -> Tensor:
        """The mean over batches, each counted by its samples."""
        total, count = None, 0
        for batch in self.data if batches is None else batches:
            size = len(batch[1])
            part = of(batch).double() * size
            total = part if total is None else total + part
            count += size
        if total is None:
            raise ValueError("data must have at least one batch, got none")
        mean: Tensor = total / count
        return mean

    def checked(self) -> float:
        """Return the loss at the model's parameters.

        Raises
        ------
        ValueError
            If it is not finite, not the mean over samples, or another one the next time.
        """
        point = self.point()
        first, second = self.value(point), self.value(point)
        for value in (first, second):
            if not abs(value) < float("inf"):
                raise ValueError(f"loss must be finite, got {value} in evaluation mode")
        slack = 10.0 * torch.finfo(self.dtype).eps ** 0.5
        if abs(first - second) > slack * max(abs(first), abs(second)):
            raise ValueError(
                f"loss must be the same whenever it is evaluated, got {first} and then {second}: "
                "does the model draw random numbers in evaluation mode, or the data change?"
            )
        self._check_mean(point, slack)
        return first

    def _check_mean(self, point: Tensor, slack: float) -> None:
        """Raise ValueError if a batch that is there twice has another loss."""
        inputs, targets = next(iter(self.data))
        if not isinstance(inputs, Tensor):
            return
        half = inputs[:8], targets[:8]
        twice = torch.cat([half[0]] * 2), torch.cat([half[1]] * 2)
        one, two = self.value(point, [half]), self.value(point, [twice])
        if abs(two - one) > max(slack, 1e-3) * abs(one):
            raise ValueError(
                "loss_fn must be the mean over a batch: that of a batch is "
                f"{one:.6g}, and {two:.6g} where every sample is there twice"
            )


def _data(data: Any) -> Iterable[Batch]:
    """Return batches that can be gone through again and again."""
    expected = "a pair of tensors (inputs, targets) or an iterable of such pairs"
    if isinstance(data, tuple | list) and len(data) == 2 and isinstance(data[1], Tensor):
        if len(data[0]) != len(data[1]) or len(data[1]) == 0:
            raise ValueError(
                f"data must have as many inputs as targets, got {len(data[0])} and {len(data[1])}"
            )
        return [(data[0], data[1])]
    try:
        once = iter(data)
    except TypeError:
        raise _checks.wrong("data", data, expected) from None
    if once is data:
        raise _checks.wrong("data", data, expected + " that can be gone through more than once")
    batches: Iterable[Batch] = data
    return batches
