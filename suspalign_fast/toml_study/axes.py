"""Values of an axis: a list, or a range like ``{from = 1, to = 100, num = 5, scale = "log"}``."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _checks
from ..grid import axis_of
from . import tables

RANGE = ("from", "to", "num", "scale")
SCALES: dict[str, Callable[..., Any]] = {"linear": np.linspace, "log": np.geomspace}
EXPECTED = (
    "a list of numbers or of texts, or a range like {from = 1, to = 100, num = 5, scale = 'log'}"
)


def values(name: str, given: Any, *, whole: bool) -> list[Any]:
    """Return the values that a list or a range stands for.

    Parameters
    ----------
    name : str
        What errors call the axis.
    given : object
        As the file has it.
    whole : bool
        Whether values are integers: those of a range are rounded, each once.

    Raises
    ------
    ValueError
        If it is neither.

    Examples
    --------
    >>> from suspalign_fast.toml_study.axes import values
    >>> values("dim", {"from": 10, "to": 1000, "num": 3, "scale": "log"}, whole=True)
    [10, 100, 1000]
    """
    if isinstance(given, dict):
        return _spaced(name, tables.known(name, given, RANGE), whole)
    if not isinstance(given, list):
        raise _checks.wrong(name, given, EXPECTED)
    kinds = {_kind(value) for value in given}
    if len(kinds) > 1 or None in kinds:
        raise _checks.wrong(name, given, EXPECTED)
    listed = axis_of(name, given)
    return [_whole(value) for value in listed] if whole else listed


def _kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "text"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return "number" if is_number and _is_finite(value) else None


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no double holds
        return False


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _spaced(name: str, given: dict[str, Any], whole: bool) -> list[Any]:
    if missing := [key for key in RANGE[:3] if key not in given]:
        raise ValueError(
            f"{name} must have {', '.join(missing)} in its range, got {_checks.describe(given)}"
        )
    for key in ("from", "to"):
        if _kind(given[key]) != "number":
            raise _checks.wrong(f"{name}.{key}", given[key], "a finite number")
    count = tables.whole(f"{name}.num", given["num"], 1, tables.MOST)
    scale = _checks.choice(f"{name}.scale", given.get("scale", "linear"), tuple(SCALES))
    if scale == "log" and min(given["from"], given["to"]) <= 0.0:
        ends = [given["from"], given["to"]]
        raise _checks.wrong(f"{name} on a logarithmic scale", ends, "between positive ends")
    if count > 1 and given["from"] == given["to"]:
        raise _checks.wrong(f"{name}.to", given["to"], "another number than from")
    spaced = SCALES[scale](float(given["from"]), float(given["to"]), count).tolist()
    return list(dict.fromkeys(round(value) for value in spaced)) if whole else spaced
