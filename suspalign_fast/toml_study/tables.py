"""Tables of a TOML file: which keys they may have, and of which type."""

from collections.abc import Collection, Mapping
from typing import Any

from .. import _checks, _words

#: What is not given.
MISSING = object()
#: Values of an axis, seeds and rows, at most.
MOST = 10**6


def known(where: str, table: Any, keys: Collection[str]) -> dict[str, Any]:
    """Return a table, checked to be one of known keys.

    Raises
    ------
    ValueError
        If it is none, or has another key.
    """
    if not isinstance(table, Mapping):
        raise _checks.wrong(where, table, "a table")
    for key, value in table.items():
        if key not in keys:
            raise ValueError(
                f"{where} must have no keys but {', '.join(keys)}, got {_words.clipped(key)} = "
                f"{_checks.describe(value)}"
            )
    return dict(table)


def whole(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Return an integer from low to high, also one written like ``3e4``."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return _checks.integer(name, value, low, high)


def texts(name: str, value: Any) -> tuple[str, ...]:
    """Return one text or a list of them."""
    listed = (value,) if isinstance(value, str) else value
    if not isinstance(listed, list | tuple) or not all(isinstance(part, str) for part in listed):
        raise _checks.wrong(name, value, "a text or a list of texts")
    return tuple(listed)


def truth(name: str, value: Any) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise _checks.wrong(name, value, "true or false")
    return value
