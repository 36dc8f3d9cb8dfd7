"""Checks of user input: one sentence that names the argument, its value and what was expected."""

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import words


def describe(value: Any) -> str:
    """Return a short line for ``value``: arrays by shape and dtype, the rest by a clipped repr."""
    if isinstance(value, np.ndarray) and value.size > 4:
        return words.clipped(f"an array of shape {value.shape} and dtype {value.dtype}")
    return words.describe(value)


def pairs(values: Mapping[str, Any]) -> str:
    """Return named values in a row, like ``a = 1, b = 2``."""
    return ", ".join(f"{name} = {describe(value)}" for name, value in values.items())


def wrong(name: str, value: Any, expected: str) -> ValueError:
    """Return the error for an argument that is not what was expected."""
    return ValueError(f"{name} must be {expected}, got {describe(value)}")


def is_masked(value: Any) -> bool:
    """Whether NumPy would drop a mask from a value: one that hides something."""
    if isinstance(value, list | tuple):
        return any(isinstance(part, np.ma.MaskedArray) and is_masked(part) for part in value)
    return bool(np.ma.is_masked(value))


def is_number(value: Any) -> bool:
    """Whether a value that may be a number or an array of them is no array."""
    try:
        return not isinstance(value, list | tuple) and np.ndim(value) == 0
    except Exception:  # whatever a user's object raises: reading it says what is wrong
        return True


def array(name: str, value: Any, expected: str) -> NDArray[Any]:
    """Return a user's array: all of them come in here; ValueError if some entries are masked."""
    if is_masked(value):
        raise ValueError(f"{name} must be {expected}, got a masked array with masked entries")
    try:
        return np.asarray(value)
    except Exception:  # whatever an object of a user's raises
        raise wrong(name, value, expected) from None


def pair(name: str, value: Any, expected: str) -> tuple[Any, Any]:
    """Return the two parts of a value."""
    try:
        if isinstance(value, str | bytes | set | frozenset | dict):
            raise TypeError
        first, second = value
    except Exception:  # whatever an object of a user's raises
        raise wrong(name, value, expected) from None
    return first, second


def listed(name: str, value: Any, expected: str) -> list[Any]:
    """Return the parts of an iterable."""
    try:
        return list(value)
    except Exception:  # whatever an object of a user's raises
        raise wrong(name, value, expected) from None


def truth(name: str, value: Any) -> bool:
    """Return ``value`` if it is true or false."""
    if not isinstance(value, bool | np.bool_):
        raise wrong(name, value, "True or False")
    return bool(value)


def text(name: str, value: Any) -> str:
    """Return ``value`` if it is a text that files hold: Unicode without zeros."""
    if not isinstance(value, str) or "\0" in value or not words.is_unicode(value):
        raise wrong(name, value, "a text without zeros and lone surrogates")
    return str(value)


#: Integers without a limit of their own are not larger.
LARGEST = 2**63 - 1
#: Types that NumPy or Python turn into a number, which they are not.
NO_NUMBERS = (bool, np.bool_, str, bytes, np.datetime64, np.timedelta64)


def integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Return ``value`` as an int in ``[low, high]``; 64 bits hold it where there is no `high`."""
    upper = "" if high is None else f" and at most {high}"
    expected = f"an integer of at least {low}{upper}"
    is_whole = not isinstance(value, np.ndarray) or value.dtype.kind in "iu"
    try:
        if isinstance(value, NO_NUMBERS) or is_masked(value) or not is_whole:
            raise TypeError
        number = operator.index(value)
    except Exception:  # whatever an object of a user's raises
        raise wrong(name, value, expected) from None
    if number < low or (high is not None and number > high):
        raise wrong(name, value, expected)
    if high is None and number > LARGEST:
        raise wrong(name, value, f"{expected} and below 2**63")
    return number


def real(name: str, value: Any, *, positive: bool = False) -> float:
    """Return ``value`` as a finite float, at least zero or positive."""
    expected = f"a finite number {'above zero' if positive else 'of at least zero'}"
    is_one = not isinstance(value, np.ndarray) or (value.ndim == 0 and value.dtype.kind in "iufO")
    try:
        if (
            isinstance(value, NO_NUMBERS)
            or np.iscomplexobj(value)
            or is_masked(value)
            or not is_one
        ):
            raise TypeError
        number = float(value)
    except Exception:  # whatever an object of a user's raises
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
    given = array(name, value, expected)
    if given.dtype.kind not in "iuf" or given.ndim != 1 or given.size == 0:
        raise wrong(name, value, expected)
    numbers = given.astype(np.float64, copy=copy)
    finite = np.isfinite(numbers)
    if not finite.all():
        at = int(np.argmin(finite))
        raise ValueError(f"{name} must be {expected}, got {numbers[at]} at index {at}")
    return numbers


def non_negative_vector(name: str, value: ArrayLike, *, copy: bool = True) -> NDArray[np.float64]:
    """Return ``value`` as a float64 vector without negative entries."""
    numbers = vector(name, value, copy=copy)
    if (numbers < 0.0).any():
        at = int(np.argmax(numbers < 0.0))
        raise ValueError(f"{name} must not be negative, got {numbers[at]} at index {at}")
    return numbers


def read_only(values: NDArray[Any]) -> NDArray[Any]:
    """Return an array with writing switched off."""
    values.flags.writeable = False
    return values
