"""A model as it is measured: in evaluation mode, and afterwards as it was."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

#: Modules whose loss in training is another one than in evaluation.
_OF_TRAINING = (torch.nn.modules.batchnorm._BatchNorm, torch.nn.modules.dropout._DropoutNd)


@contextlib.contextmanager
def evaluating(model: torch.nn.Module, device: torch.device) -> Iterator[None]:
    """Put a model in evaluation mode; modes, buffers and torch's random numbers are put back.

    Flags are set, and neither ``eval`` nor ``train`` called, which some layers take as a word to
    merge their weights. What torch cannot differentiate twice, fused attention and LSTM, is done in
    the plain way.
    """
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.autocast(device.type, enabled=False))
            stack.enter_context(torch.random.fork_rng(devices=_devices(device)))
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            if any(isinstance(module, torch.nn.LSTM) for module, _ in modes):
                stack.enter_context(_without_mkldnn())
            for module, _ in modes:
                module.training = False
            yield
    finally:
        try:
            _put_back(modes, buffers)
        finally:  # also where Ctrl-C comes in between
            _put_back(modes, buffers)


@contextlib.contextmanager
def _without_mkldnn() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "TF32 acceleration"
        )  # of Intel's GPUs, which nobody asked
        with torch.backends.mkldnn.flags(enabled=False):
            yield


def _put_back(
    modes: list[tuple[torch.nn.Module, bool]], buffers: list[tuple[Tensor, Tensor]]
) -> None:
    for module, mode in modes:
        module.training = mode
    with torch.no_grad():
        for buffer, before in buffers:
            if not torch.equal(buffer, before):
                buffer.copy_(before)


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
