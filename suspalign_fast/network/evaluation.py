"""A model as it is measured: in evaluation mode, and afterwards as it was."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

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
