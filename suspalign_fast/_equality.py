"""Equality by value of things that hold arrays."""

from collections.abc import Iterable
from typing import Any

import numpy as np


def same_values(one: Iterable[Any], other: Iterable[Any]) -> bool:
    """Whether two sequences hold equal values, arrays compared as a whole, NaN equal to NaN."""
    return all(_same(a, b) for a, b in zip(one, other, strict=True))


def _same(a: Any, b: Any) -> bool:
    if not (isinstance(a, np.ndarray) or isinstance(b, np.ndarray)):
        return bool(a == b)
    is_float = np.result_type(a).kind in "fc" and np.result_type(b).kind in "fc"
    return type(a) is type(b) and np.array_equal(a, b, equal_nan=is_float)
