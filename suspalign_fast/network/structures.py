"""Tensors in a structure, like a dictionary of them or a dataclass: samples of them."""

import copy
import dataclasses
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor


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


def mapped(of: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Return a copy of a structure with a function of each of `tensors_of` in their places."""
    if isinstance(value, Tensor):
        return of(value) if value.ndim else value
    if isinstance(value, tuple | list):
        parts = [mapped(of, part) for part in value]
        return value._make(parts) if hasattr(value, "_make") else type(value)(parts)
    if isinstance(value, Mapping):
        made: Any = copy.copy(value) if isinstance(value, MutableMapping) else dict(value)
        for key, part in value.items():
            made[key] = mapped(of, part)
        return made
    if names := _fields(value):
        made = copy.copy(value)
        for name in names:
            object.__setattr__(made, name, mapped(of, getattr(value, name)))
        return made
    return value


def num_samples(inputs: Any, expected: int) -> int | None:
    """Return how many samples inputs are, None where that cannot be told.

    A list may be a structure of tensors or have one entry a sample: so many samples as are
    `expected` are found in either.
    """
    lengths = {len(tensor) for tensor in tensors_of(inputs)}
    has_length = hasattr(inputs, "__len__") and not isinstance(inputs, Mapping)
    if lengths == {expected} or (has_length and len(inputs) == expected):
        return expected
    if not lengths and has_length:
        return len(inputs)
    return lengths.pop() if len(lengths) == 1 else None


def taken(inputs: Any, chosen: Tensor, count: int) -> Any:
    """Return chosen samples of inputs, which are `count`; None where it is not known how."""
    lengths = {len(tensor) for tensor in tensors_of(inputs)}
    if lengths == {count}:
        return mapped(lambda tensor: tensor[chosen.to(tensor.device)], inputs)
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
    return mapped(lambda _: next(whole), parts[0])
