"""Data as pairs of inputs and targets, whole or in batches."""

import copy
import dataclasses
import itertools
import numbers
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from ..base import checks

# --- Tensors in a structure, like a dictionary of them or a dataclass: samples of them -----------


def tensors_of(value: Any) -> list[Tensor]:
    """Return the tensors of a structure that have a dimension."""
    if isinstance(value, Tensor):
        return [value] if value.ndim else []
    return [tensor for part in _parts(value) for tensor in tensors_of(part)]


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, tuple | list):
        return value
    if isinstance(value, Mapping):
        return value.values()
    return [getattr(value, name) for name in _fields(value)]


def _fields(value: Any) -> list[str]:
    """Names of the fields of a dataclass."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return []
    return [field.name for field in dataclasses.fields(value)]


def map_tensors(of: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Return a copy of a structure with a function of each of `tensors_of` in their places."""
    if isinstance(value, Tensor):
        return of(value) if value.ndim else value
    if isinstance(value, tuple | list):
        parts = [map_tensors(of, part) for part in value]
        return value._make(parts) if hasattr(value, "_make") else type(value)(parts)
    if isinstance(value, Mapping):
        made: Any = copy.copy(value) if isinstance(value, MutableMapping) else dict(value)
        for key, part in value.items():
            made[key] = map_tensors(of, part)
        return made
    if names := _fields(value):
        made = copy.copy(value)
        for name in names:
            object.__setattr__(made, name, map_tensors(of, getattr(value, name)))
        return made
    return value


def num_samples(inputs: Any, expected: int) -> int | None:
    """Return how many samples inputs are, None where that cannot be told.

    A list may be a structure of tensors or have one entry a sample: the `expected` number is looked
    for in both.
    """
    lengths = {len(tensor) for tensor in tensors_of(inputs)}
    has_length = hasattr(inputs, "__len__") and not isinstance(inputs, Mapping)
    if lengths == {expected} or (has_length and len(inputs) == expected):
        return expected
    if not lengths and has_length:
        return len(inputs)
    return lengths.pop() if len(lengths) == 1 else None


def take_samples(inputs: Any, chosen: Tensor, count: int) -> Any:
    """Return chosen samples of inputs, which are `count`; None where it is not known how."""
    lengths = {len(tensor) for tensor in tensors_of(inputs)}
    if lengths == {count}:
        return map_tensors(lambda tensor: tensor[chosen.to(tensor.device)], inputs)
    if isinstance(inputs, tuple | list) and len(inputs) == count:
        return [inputs[i] for i in chosen.tolist()]
    return None


def joined(parts: Sequence[Any]) -> Any:
    """Return structures of one sample each as one of all of them; None if they do not fit."""
    tensors = [tensors_of(part) for part in parts]
    shapes = {tuple(tensor.shape for tensor in of) for of in tensors}
    if len(shapes) > 1 or {len(tensor) for tensor in tensors[0]} != {1}:
        return None
    whole = iter([torch.cat(same) for same in zip(*tensors, strict=True)])
    return map_tensors(lambda _: next(whole), parts[0])


Batch = tuple[Any, Tensor]
EXPECTED = "a pair of tensors (inputs, targets) or an iterable of such pairs"
#: Samples that the test for a mean takes, at most, and groups that it cuts them into.
SOME = 512
GROUPS = 8


def of_data(data: Any) -> Iterable[Batch]:
    """Return batches that can be gone through again and again; ValueError for any other data."""
    if isinstance(data, TensorDataset):
        data = data.tensors
    if isinstance(data, Dataset):
        raise checks.wrong("data", data, EXPECTED + ", like a DataLoader of the data set")
    if isinstance(data, tuple | list) and len(data) == 2 and isinstance(data[1], Tensor):
        if data[1].ndim > 0 and len(data[1]) == 0:
            raise ValueError("data must have at least one sample, got none")
        _check_pair("data", data)
        found = num_samples(data[0], len(data[1]))
        if found not in (None, len(data[1])):
            raise ValueError(
                f"data must have as many inputs as targets, got {found} and {len(data[1])}"
            )
        return [(data[0], data[1])]
    return batches_of("data", data)


def batches_of(name: str, given: Any) -> Iterable[Batch]:
    """Return batches that were given, pairs where that can be told without going through them."""
    if isinstance(given, Iterator):
        raise checks.wrong(name, given, EXPECTED + " that can be gone through more than once")
    if isinstance(given, str | bytes | dict | Tensor) or not hasattr(given, "__iter__"):
        shown = type(given).__name__ if isinstance(given, dict | Tensor) else given
        raise checks.wrong(name, shown, EXPECTED)
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


def groups(batches: Iterable[Batch]) -> list[Batch]:
    """Return samples of the first batch that has two, then the groups that they fall into.

    Samples of like targets come into one group: where weights go with targets, groups differ.
    Batches of one sample are joined. There are none where there is only one sample, or where it is
    not known how to take samples of the inputs, with a warning.
    """
    batch = _of_several(batches)
    if batch is None:
        return []
    inputs, targets = batch
    size = len(targets)
    number = min(size, SOME)
    spread = torch.from_numpy(np.linspace(0, size - 1, number).astype(np.int64))
    if take_samples(inputs, spread, size) is None:
        warnings.warn(
            "whether loss_fn is the mean over a batch was not tested: samples of inputs that are "
            f"of type {type(inputs).__name__} could not be told apart",
            RuntimeWarning,
            stacklevel=2,
        )
        return []
    keys = targets.detach().cpu()[spread].reshape(number, -1)
    keys = (keys.real if keys.is_complex() else keys).double().sum(1)
    ordered = spread[keys.argsort(stable=True)]
    parts = ordered.tensor_split(max(2, min(GROUPS, number // 2)))
    return [
        (take_samples(inputs, chosen, size), targets[chosen.to(targets.device)])
        for chosen in (ordered, *parts)
    ]


def _of_several(batches: Iterable[Batch]) -> Batch | None:
    """The first batch of two samples or more, or some batches of one joined."""
    ones: list[Batch] = []
    for batch in itertools.islice(batches, GROUPS):
        if len(batch[1]) > 1:
            return batch
        ones.append(batch)
    if len(ones) < 2 or len({batch[1].shape for batch in ones}) > 1:
        return None
    inputs = joined([batch[0] for batch in ones])
    return None if inputs is None else (inputs, torch.cat([batch[1] for batch in ones]))


def weight_of(loss_fn: Any, targets: Tensor) -> int:
    """Return what a mean over a batch counts as: its samples, or its targets that are not ignored.

    That is what the mean of a loss with `ignore_index`, like torch's cross-entropy, is over.
    """
    ignored = getattr(loss_fn, "ignore_index", None)
    if not isinstance(ignored, numbers.Integral) or targets.is_floating_point():
        return len(targets)
    return int((targets != ignored).sum())


def is_one_pair(batches: Iterable[Batch]) -> bool:
    """Whether all data are one pair of tensors, from which mini-batches can be drawn."""
    return isinstance(batches, list) and len(batches) == 1 and isinstance(batches[0][0], Tensor)


def loader_hint(batches: Iterable[Batch]) -> str:
    """Words on what a user with a DataLoader may do."""
    return ", like the DataLoader of the training" if isinstance(batches, DataLoader) else ""
