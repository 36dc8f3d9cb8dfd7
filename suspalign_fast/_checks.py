"""Checks of user input: one sentence that names the argument, its value and what was expected."""

import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def describe(value: Any) -> str:
    """Return a short text for ``value``: arrays by shape and dtype, the rest by a clipped repr."""
    if isinstance(value, np.ndarray) and value.size > 4:
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def wrong(name: str, value: Any, expected: str) -> ValueError:
    """Return the error for an argument that is not what was expected."""
    return ValueError(f"{name} must be {expected}, got {describe(value)}")


def integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Return ``value`` as an int in ``[low, high]``."""
    upper = "" if high is None else f" and at most {high}"
    expected = f"an integer of at least {low}{upper}"
    if isinstance(value, bool | np.bool_):
        raise wrong(name, value, expected)
    try:
        number = operator.index(value)
    except TypeError:
        raise wrong(name, value, expected) from None
    if number < low or (high is not None and number > high):
        raise wrong(name, value, expected)
    return number


def real(name: str, value: Any, *, positive: bool = False) -> float:
    """Return ``value`` as a finite float, at least zero or positive."""
    expected = f"a finite number {'above zero' if positive else 'of at least zero'}"
    if isinstance(value, bool | np.bool_ | str | bytes) or np.iscomplexobj(value):
        raise wrong(name, value, expected)
    if isinstance(value, np.ndarray) and value.ndim > 0:
        raise wrong(name, value, expected)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise wrong(name, value, expected) from None
    if not np.isfinite(number) or number < 0.0 or (positive and number == 0.0):
        raise wrong(name, value, expected)
    return number


def choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return ``value`` if it is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise wrong(name, value, "one of " + ", ".join(map(repr, choices)))
    return str(value)


def vector(name: str, value: ArrayLike, *, copy: bool = True) -> NDArray[np.float64]:
    """Return ``value`` as a one-dimensional, non-empty float64 array of finite numbers."""
    expected = "a one-dimensional, non-empty array of finite numbers"
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "iuf" or np.ma.is_masked(value):
            raise wrong(name, value, expected)
        array = array.astype(np.float64, copy=copy)
    except (TypeError, ValueError, OverflowError):
        raise wrong(name, value, expected) from None
    if array.ndim != 1 or array.size == 0:
        raise wrong(name, value, expected)
    finite = np.isfinite(array)
    if not finite.all():
        at = int(np.argmin(finite))
        raise ValueError(f"{name} must be {expected}, got {array[at]} at index {at}")
    return array


def non_negative_vector(name: str, value: ArrayLike, *, copy: bool = True) -> NDArray[np.float64]:
    """Return ``value`` as a float64 vector without negative entries."""
    array = vector(name, value, copy=copy)
    if (array < 0.0).any():
        at = int(np.argmax(array < 0.0))
        raise ValueError(f"{name} must not be negative, got {array[at]} at index {at}")
    return array


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return ``array`` with writing switched off."""
    array.flags.writeable = False
    return array
