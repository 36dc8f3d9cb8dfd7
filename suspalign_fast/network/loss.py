"""The loss of a network at its parameters: values and gradients, over all data or some batches."""

import contextlib
import copy
import numbers
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..base import checks
from .data import Batch, batches_of, groups, is_one_pair, loader_hint, of_data, pair, weight_of

# --- A model as it is measured: in evaluation mode, and afterwards as it was ---------------------


#: Modules that make gradients of a kind of their own, which torch differentiates but once.
_SPARSE = (torch.nn.Embedding, torch.nn.EmbeddingBag)
#: Modules whose loss in training is another one than in evaluation.
_OF_TRAINING = (torch.nn.modules.batchnorm._BatchNorm, torch.nn.modules.dropout._DropoutNd)


@contextlib.contextmanager
def evaluating(model: torch.nn.Module, device: torch.device) -> Iterator[None]:
    """Put a model in evaluation mode; modes, buffers and torch's random numbers are put back.

    Flags are set, and neither ``eval`` nor ``train`` called, which some layers take as a word to
    merge their weights. What torch cannot differentiate twice, fused attention and LSTM and sparse
    gradients, is done in the plain way, and so is what it does in another way without a gradient:
    loss, gradient and curvature are of one function.
    """
    modes = [(module, "training", module.training) for module in model.modules()]
    modes += [(module, "sparse", module.sparse) for module, *_ in modes if _is_sparse(module)]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.autocast(device.type, enabled=False))
            stack.enter_context(torch.random.fork_rng(devices=_devices(device)))
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            stack.enter_context(_without_fast_path())
            if any(isinstance(module, torch.nn.LSTM) for module, *_ in modes):
                stack.enter_context(_without_mkldnn())
            for module, name, _ in modes:
                setattr(module, name, False)
            yield
    finally:
        try:
            _put_back(modes, buffers)
        finally:  # also where Ctrl-C comes in between
            _put_back(modes, buffers)


def _is_sparse(module: torch.nn.Module) -> bool:
    return isinstance(module, _SPARSE) and bool(module.sparse)


@contextlib.contextmanager
def _without_fast_path() -> Iterator[None]:
    """Without the fused attention that torch takes where no gradient is wanted."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextlib.contextmanager
def _without_mkldnn() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "TF32 acceleration"
        )  # of Intel's GPUs, which nobody asked
        with torch.backends.mkldnn.flags(enabled=False):
            yield


def _put_back(
    modes: list[tuple[torch.nn.Module, str, bool]], buffers: list[tuple[Tensor, Tensor]]
) -> None:
    for module, name, before in modes:
        setattr(module, name, before)
    with torch.no_grad():
        for buffer, kept in buffers:
            if not torch.equal(buffer, kept):
                buffer.copy_(kept)


def _devices(device: torch.device) -> list[Any]:
    return [device] if device.type == "cuda" else []


def of_training(model: torch.nn.Module) -> list[str]:
    """Return the kinds of modules in training mode whose loss in evaluation is another one."""
    kinds = {
        type(module).__name__
        for module in model.modules()
        if module.training and isinstance(module, _OF_TRAINING) and getattr(module, "p", 1.0) > 0.0
    }
    return sorted(kinds)


#: Relative difference of two evaluations that rounding leaves, in units of the last place.
ROUNDING = 1e3
#: The same at most, however short the type is: a wider check would accept everything.
MOST = 0.1
#: A loss that differs by more from the mean of its parts is not a mean.
OF_MEAN = 1e-3
#: Node of a graph behind which parameters get gradients by ``backward`` alone, and by
#: ``torch.autograd.grad`` an error or none.
_REENTRANT = "CheckpointFunction"
_NO_CHECKPOINTS = (
    "model must have no checkpoints with use_reentrant=True, behind which torch.autograd.grad "
    "finds no parameters: use_reentrant=False will do"
)


class NotFiniteError(ValueError):
    """The loss or its curvature is not finite at the model's parameters."""


class Loss:
    """The mean loss of a model over data, in evaluation mode.

    Nothing is ever written to the model; `apart` makes a copy whose parameters may be set.
    `parameters` are those that take a gradient, `dim` is how many numbers they are, `rounding` the
    relative difference of two evaluations that rounding leaves.
    """

    def __init__(self, model: Any, loss_fn: Any, data: Any) -> None:
        if not isinstance(model, torch.nn.Module):
            raise checks.wrong("model", model, "a torch.nn.Module")
        if not callable(loss_fn):
            raise checks.wrong("loss_fn", loss_fn, "a function of outputs and targets")
        reduction = getattr(loss_fn, "reduction", "mean")
        if reduction != "mean":
            raise ValueError(f"loss_fn must have reduction 'mean', got {reduction!r}")
        self.model, self.loss_fn = model, loss_fn
        self.data = of_data(data)
        self.parameters = _parameters(model)
        self.dtype, self.device = self.parameters[0].dtype, self.parameters[0].device
        self._sizes = [p.numel() for p in self.parameters]
        self.dim = sum(self._sizes)
        self.rounding = min(ROUNDING * float(torch.finfo(self.dtype).eps), MOST)
        self._is_tested = False

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
        """Return the loss of a copy of the model; ValueError if it has no whole copy."""
        try:
            model = copy.deepcopy(self.model)
        except Exception as error:
            raise ValueError(f"model must be one that can be copied: {error}") from error
        there = Loss(model, self.loss_fn, self.data)
        if self._is_read_by(there):
            raise ValueError(
                "loss_fn must depend on the parameters through the model's outputs alone where "
                "steps are tried on a copy of it; a penalty can be part of what the model returns"
            )
        return there

    def _is_read_by(self, other: "Loss") -> bool:
        """Whether the loss of a copy of the model depends on the parameters of this one."""
        with other.evaluating():
            loss = other.of_batch(next(iter(self.data)))
            parts = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        return any(part is not None for part in parts)

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
        dense = (part.detach().to_dense() if part.is_sparse else part.detach() for part in parts)
        return torch.cat([part.reshape(-1).double() for part in dense])

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
                f"{checks.describe(getattr(loss, 'shape', loss))}"
            )
        return loss.reshape(())

    def of_batch(self, batch: Batch) -> Tensor:
        """Return the loss of a batch, with its graph."""
        with torch.enable_grad():
            loss = self.of_outputs(*self.outputs(batch))
        if not loss.requires_grad:
            raise ValueError("model must have a gradient: its loss depends on no parameter")
        if any(_REENTRANT in name for name in names_of_graph([loss])):
            raise ValueError(_NO_CHECKPOINTS)
        return loss

    def value(self, batches: Iterable[Batch] | None = None) -> float:
        """Return the loss of batches, by default of all data.

        With a graph, as the gradient has it: some models are another function without one.
        """
        return self.weighted(batches, lambda batch: self.of_batch(batch).detach()).item()

    def gradient(self, batches: Iterable[Batch] | None = None) -> Tensor:
        """Return the gradient of the loss of batches, by default of all data, in float64."""
        return self.weighted(batches, self._gradient_of_batch)

    def _gradient_of_batch(self, batch: Batch) -> Tensor:
        return self._pulled(self.of_batch(batch))

    def _pulled(self, loss: Tensor) -> Tensor:
        """The gradient of a loss with a graph."""
        try:
            parts = torch.autograd.grad(loss, self.parameters, materialize_grads=True)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise undifferentiable(error) from error
        return self.joined(parts)

    def weighted(self, batches: Iterable[Batch] | None, of: Callable[[Batch], Tensor]) -> Tensor:
        """Return the mean of a function of batches, by default of all data.

        A batch counts as its samples, or as its targets that the loss does not ignore.
        """
        total, count = None, 0
        for batch in self.data if batches is None else batches:
            batch = pair(batch, self.device)
            size = weight_of(self.loss_fn, batch[1])
            if size == 0:
                continue
            part = of(batch).double()
            total = part * size if total is None else total + part * size
            count += size
        if total is None or count == 0:
            raise ValueError("data must have at least one sample that counts, got none")
        mean: Tensor = total / count
        return mean

    def checked(self, others: Iterable[Batch] = ()) -> float:
        """Return the loss; ValueError if it is not finite, no mean over samples, or random."""
        first, second = self.value(), self.value()
        for value in (first, second):
            if not abs(value) < float("inf"):
                raise NotFiniteError(f"loss must be finite, got {value} in evaluation mode")
        if abs(first - second) > self.rounding * max(abs(first), abs(second)):
            raise ValueError(
                f"loss must be the same whenever it is evaluated, got {first} and then {second}: "
                "does the model draw random numbers in evaluation mode, or the data change?"
            )
        if not self._is_tested:
            for batches in (self.data, others):
                self._check_mean(batches)
            self._is_tested = True
        return first

    def _check_mean(self, batches: Iterable[Batch]) -> None:
        """Raise ValueError if the loss of some samples is not the mean of those of groups of them.

        Gradients tell it, too: losses are about the same where nothing has been learned yet.
        """
        found = groups(pair(batch, self.device) for batch in batches)
        if not found:
            return
        weights = [float(weight_of(self.loss_fn, part[1])) for part in found]
        if weights[0] == 0.0:
            return
        kept = [i for i, weight in enumerate(weights) if weight > 0.0]
        of_batches = [self._with_gradient(found[i]) for i in kept]
        for vectors in zip(*of_batches, strict=True):
            whole, *others = vectors
            parts = zip(kept[1:], others, strict=True)
            mean = torch.stack([weights[i] * part for i, part in parts]).sum(0) / weights[0]
            norms = [float(torch.linalg.vector_norm(v)) for v in (whole - mean, *vectors)]
            if norms[0] > max(self.rounding, OF_MEAN) * max(norms[1:]):
                raise ValueError(
                    "loss_fn must be the mean over a batch, each sample counted alike: its value "
                    f"or gradient of {len(found[0][1])} samples is {norms[0] / max(norms[1:]):.2g} "
                    "of its size away from the mean of those of their parts (sums, class weights "
                    "and targets that are ignored do that; of a loss with the attribute "
                    "ignore_index, like CrossEntropyLoss, ignored ones are left out of the count)"
                )

    def _with_gradient(self, batch: Batch) -> tuple[Tensor, Tensor]:
        loss = self.of_batch(batch)
        return loss.detach().double(), self._pulled(loss)


def names_of_graph(ends: Iterable[Tensor]) -> Iterator[str]:
    """Yield the names of the nodes of a graph, from its ends on."""
    waiting, seen = [end.grad_fn for end in ends], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node.name()
        waiting.extend(following for following, _ in node.next_functions)


def undifferentiable(error: RuntimeError) -> ValueError:
    """Return the error for a model that torch does not differentiate."""
    text = str(error).strip()
    first = text.splitlines()[0] if text else repr(error)
    return ValueError(f"model must be one that torch can differentiate twice, and it says: {first}")


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


# --- Mini-batches, as a user's training takes them: drawn from the data, or given ----------------


#: How many are drawn by default.
USUAL = 16


class Batches:
    """Where mini-batches come from: drawn from the data, or given (`batch_size` is then None)."""

    def __init__(self, loss: Loss, batch_size: Any, noise_batches: Any, seed: int) -> None:
        self._loss, self._seed = loss, checks.integer("seed", seed, 0)
        self._given: Iterable[Batch] | None = None
        self.batch_size: int | None = None
        if not (noise_batches is None or isinstance(noise_batches, numbers.Number)):
            self._given = batches_of("noise_batches", noise_batches)
            if isinstance(noise_batches, list | tuple) and len(noise_batches) < 2:
                raise ValueError(
                    f"noise_batches must be at least 2 mini-batches, got {len(noise_batches)}"
                )
            return
        if not is_one_pair(loss.data):
            raise ValueError(
                "noise_batches must be given where the data are not one pair of tensors from which "
                "mini-batches can be drawn: an iterable of (inputs, targets) of the size of the "
                f"training's{loader_hint(loss.data)}"
            )
        count = USUAL if noise_batches is None else noise_batches
        self.count = checks.integer("noise_batches", count, 2)
        self._inputs, self._targets = next(iter(loss.data))
        if batch_size is None:
            raise ValueError("batch_size must be given where mini-batches are drawn from the data")
        self.batch_size = checks.integer("batch_size", batch_size, 1, len(self._targets))

    @property
    def given(self) -> Iterable[Batch]:
        """Batches that were given, none where they are drawn."""
        return () if self._given is None else self._given

    def __call__(self, row: int, count: int | None = None) -> Iterator[Batch]:
        """Yield the batches of a row; `count` of them where they are drawn."""
        if self._given is not None:
            yield from self._given
            return
        rng = np.random.default_rng([self._seed, row])
        for _ in range(self.count if count is None else count):
            drawn = rng.choice(len(self._targets), self.batch_size, replace=False)
            chosen = torch.from_numpy(drawn).to(self._targets.device)
            yield self._inputs[chosen.to(self._inputs.device)], self._targets[chosen]
