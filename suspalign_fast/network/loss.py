"""The loss of a network at its parameters: values and gradients, over all data or some batches."""

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from .. import _checks
from .data import Batch, halves, of_data, pair
from .evaluation import evaluating

#: Relative difference of two evaluations that rounding leaves, in units of the last place.
ROUNDING = 1e3
#: That of the loss of a batch and the mean of the losses of its halves.
OF_HALVES = 1e-3


class Loss:
    """The mean loss of a model over data, in evaluation mode.

    Nothing is ever written to the model; `apart` makes a copy whose parameters may be set.

    Parameters
    ----------
    model : torch.nn.Module
    loss_fn : callable
        ``loss_fn(model(inputs), targets)``, the mean over a batch.
    data : tuple of two tensors, or iterable of such pairs
        All of the training data, whole or in parts.

    Attributes
    ----------
    parameters : list of Tensor
        Those that take a gradient.
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
        self.data = of_data(data)
        self.parameters = _parameters(model)
        self.dtype, self.device = self.parameters[0].dtype, self.parameters[0].device
        self._sizes = [p.numel() for p in self.parameters]
        self.dim = sum(self._sizes)

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Put the model in evaluation mode, and everything back at the end."""
        found = _parameters(self.model)
        if [(p.shape, p.dtype) for p in found] != [(p.shape, p.dtype) for p in self.parameters]:
            raise ValueError(
                "model must have the parameters that it had at first, or be given anew: it had "
                f"{self.dim:,} numbers of {self.dtype}, and has {sum(p.numel() for p in found):,} "
                f"of {found[0].dtype} that take a gradient"
            )
        self.parameters = found
        with evaluating(self.model, self.device):
            yield

    def apart(self) -> "Loss":
        """Return the loss of a copy of the model.

        Raises
        ------
        ValueError
            If the model cannot be copied, or the loss function takes parameters of the model
            itself, which those of a copy are not.
        """
        if self.reads_parameters():
            raise ValueError(
                "loss_fn must depend on the parameters through the model's outputs alone where "
                "steps are tried on a copy of it; a penalty can be part of what the model returns"
            )
        try:
            model = copy.deepcopy(self.model)
        except Exception as error:
            raise ValueError(f"model must be one that can be copied: {error}") from error
        return Loss(model, self.loss_fn, self.data)

    def point(self) -> Tensor:
        """Return a copy of the parameters as one vector."""
        return torch.cat([p.detach().reshape(-1) for p in self.parameters]).clone()

    def set_point(self, point: Tensor) -> None:
        """Set the parameters; for a loss that is `apart`."""
        with torch.no_grad():
            for parameter, part in zip(self.parameters, self.split(point), strict=True):
                parameter.copy_(part)

    def split(self, vector: Tensor) -> list[Tensor]:
        """Return the parts of a vector that belong to the parameters."""
        parts = zip(vector.split(self._sizes), self.parameters, strict=True)
        return [part.reshape(parameter.shape) for part, parameter in parts]

    def joined(self, parts: Iterable[Tensor]) -> Tensor:
        """Return parts, one a parameter, as one vector of float64."""
        return torch.cat([part.detach().reshape(-1).double() for part in parts])

    def outputs(self, batch: Batch) -> tuple[Any, Tensor]:
        """Return what the model makes of the inputs of a batch, and its targets."""
        inputs, targets = pair(batch, self.device)
        return self.model(inputs), targets

    def of_outputs(self, outputs: Any, targets: Tensor) -> Tensor:
        """Return the loss of outputs."""
        loss = self.loss_fn(outputs, targets)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise ValueError(
                "loss_fn must return one number, the mean over a batch, got "
                f"{_checks.describe(getattr(loss, 'shape', loss))}"
            )
        return loss.reshape(())

    def of_batch(self, batch: Batch) -> Tensor:
        """Return the loss of a batch, with its graph."""
        with torch.enable_grad():
            loss = self.of_outputs(*self.outputs(batch))
        if not loss.requires_grad:
            raise ValueError("model must have a gradient: its loss depends on no parameter")
        return loss

    def value(self, batches: Iterable[Batch] | None = None) -> float:
        """Return the loss of batches, by default of all data."""
        with torch.no_grad():
            return self.weighted(
                batches, lambda batch: self.of_outputs(*self.outputs(batch))
            ).item()

    def gradient(self, batches: Iterable[Batch] | None = None) -> Tensor:
        """Return the gradient of the loss of batches, by default of all data, in float64."""
        return self.weighted(batches, self._gradient_of_batch)

    def _gradient_of_batch(self, batch: Batch) -> Tensor:
        loss = self.of_batch(batch)
        return self.joined(torch.autograd.grad(loss, self.parameters, materialize_grads=True))

    def weighted(self, batches: Iterable[Batch] | None, of: Callable[[Batch], Tensor]) -> Tensor:
        """Return the mean of a function of batches, by default of all data, weighted by samples."""
        total, count = None, 0
        for batch in self.data if batches is None else batches:
            part = of(batch).double()
            size = len(batch[1])
            total = part * size if total is None else total + part * size
            count += size
        if total is None or count == 0:
            raise ValueError("data must have at least one sample, got none")
        mean: Tensor = total / count
        return mean

    def reads_parameters(self) -> bool:
        """Whether the loss function takes parameters itself, not only the model's outputs."""
        with self.evaluating(), torch.enable_grad():
            outputs, targets = self.outputs(next(iter(self.data)))
            loss = self.of_outputs(_detached(outputs), targets)
            if not loss.requires_grad:
                return False
            parts = torch.autograd.grad(loss, self.parameters, allow_unused=True)
            return any(part is not None for part in parts)

    def checked(self) -> float:
        """Return the loss at the model's parameters.

        Raises
        ------
        ValueError
            If it is not finite, not the mean over samples, or another one the next time.
        """
        first, second = self.value(), self.value()
        for value in (first, second):
            if not abs(value) < float("inf"):
                raise ValueError(f"loss must be finite, got {value} in evaluation mode")
        slack = ROUNDING * torch.finfo(self.dtype).eps
        if abs(first - second) > slack * max(abs(first), abs(second)):
            raise ValueError(
                f"loss must be the same whenever it is evaluated, got {first} and then {second}: "
                "does the model draw random numbers in evaluation mode, or the data change?"
            )
        self._check_mean(max(slack, OF_HALVES))
        return first

    def _check_mean(self, slack: float) -> None:
        """Raise ValueError if the loss of a batch is not the mean of those of its halves."""
        cut = halves(next(iter(self.data)))
        if cut is None:
            return
        one, other, both = (self.value([batch]) for batch in cut)
        mean = (one + other) / 2.0
        if abs(both - mean) > slack * max(abs(one), abs(other)):
            raise ValueError(
                "loss_fn must be the mean over a batch, each sample counted alike: halves have "
                f"{one:.6g} and {other:.6g}, and both together {both:.6g}"
            )


def _parameters(model: torch.nn.Module) -> list[Tensor]:
    found: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
    if not found:
        raise ValueError("model must have parameters that take a gradient, it has none")
    kinds = {(p.dtype, p.device) for p in found}
    if len(kinds) > 1 or not found[0].dtype.is_floating_point:
        raise ValueError(
            "model must have real parameters of one type on one device, got "
            + ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
        )
    return found


def _detached(outputs: Any) -> Any:
    """Outputs cut from the graph of the model; a structure of another kind stays as it is."""
    if isinstance(outputs, Tensor):
        return outputs.detach()
    if isinstance(outputs, dict):
        return type(outputs)({key: _detached(value) for key, value in outputs.items()})
    if type(outputs) in (tuple, list):
        return type(outputs)(_detached(value) for value in outputs)
    return outputs
