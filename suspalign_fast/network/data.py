"""Data as pairs of inputs and targets, whole or in batches."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from .. import _checks

Batch = tuple[Any, Tensor]
EXPECTED = "a pair of tensors (inputs, targets) or an iterable of such pairs"
#: Samples that the test for a mean takes, at most.
SOME = 512


def of_data(data: Any) -> Iterable[Batch]:
    """Return batches that can be gone through again and again.

    Raises
    ------
    ValueError
        If data are not pairs, or can be gone through only once.
    """
    if isinstance(data, TensorDataset):
        data = data.tensors
    if isinstance(data, Dataset):
        raise _checks.wrong("data", data, EXPECTED + ", like a DataLoader of the data set")
    if isinstance(data, tuple | list) and len(data) == 2 and isinstance(data[1], Tensor):
        if len(data[0]) != len(data[1]):
            raise ValueError(
                f"data must have as many inputs as targets, got {len(data[0])} and {len(data[1])}"
            )
        if len(data[1]) == 0:
            raise ValueError("data must have at least one sample, got none")
        return [(data[0], data[1])]
    return batches_of("data", data)


def batches_of(name: str, given: Any) -> Iterable[Batch]:
    """Return batches that were given, pairs where that can be told without going through them.

    Raises
    ------
    ValueError
        If they are none, or can be gone through only once.
    """
    if isinstance(given, Iterator):
        raise _checks.wrong(name, given, EXPECTED + " that can be gone through more than once")
    if isinstance(given, str | bytes | dict | Tensor) or not hasattr(given, "__iter__"):
        shown = type(given).__name__ if isinstance(given, dict | Tensor) else given
        raise _checks.wrong(name, shown, EXPECTED)
    if isinstance(given, list | tuple):
        for batch in given:
            _check_pair(name, batch)
    batches: Iterable[Batch] = given
    return batches


def _check_pair(name: str, batch: Any) -> None:
    is_pair = isinstance(batch, tuple | list) and len(batch) == 2
    if not is_pair or not isinstance(batch[1], Tensor) or batch[1].ndim == 0:
        found = f"{len(batch)} parts" if isinstance(batch, tuple | list) else type(batch).__name__
        if is_pair:
            found = f"targets that are {_kind(batch[1])}"
        raise ValueError(f"{name} must be pairs of inputs and a tensor of targets, got {found}")
    if len(batch[1]) == 0:
        raise ValueError(f"{name} must have at least one sample in every batch, got none")


def _kind(value: Any) -> str:
    return "one number" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def pair(batch: Any, device: torch.device) -> Batch:
    """Return inputs and targets of a batch, on a device."""
    _check_pair("data", batch)
    inputs, targets = batch
    inputs = inputs.to(device) if isinstance(inputs, Tensor) else inputs
    return inputs, targets.to(device)


def halves(batch: Batch) -> tuple[Batch, Batch, Batch] | None:
    """Return two halves of the first samples of a batch and both together, None without two."""
    inputs, targets = batch
    size = min(len(targets), SOME) // 2
    if size == 0 or not isinstance(inputs, Tensor) or len(inputs) != len(targets):
        return None
    parts = (slice(0, size), slice(size, 2 * size), slice(0, 2 * size))
    one, other, both = ((inputs[part], targets[part]) for part in parts)
    return one, other, both


def is_one_pair(batches: Iterable[Batch]) -> bool:
    """Whether all data are one pair of tensors, from which mini-batches can be drawn."""
    return isinstance(batches, list) and len(batches) == 1 and isinstance(batches[0][0], Tensor)


def loader_hint(batches: Iterable[Batch]) -> str:
    """Words on what a user with a DataLoader may do."""
    return ", like the DataLoader of the training" if isinstance(batches, DataLoader) else ""
