"""How variables of exact theory are marked in a study, and told from all others."""

import json
from collections.abc import Sequence
from typing import Any

from ..physics.row import columns

#: Kinds of moments, as the ends of names, in words.
KINDS = {"mean": "mean", "std": "standard deviation"}
#: The attribute that says what a variable is, and at each value of what.
MARK = "exact"


def name_of(column: str, kind: str) -> str:
    """Return the name of the variable that holds a moment of a column."""
    return f"exact_{column}_{kind}"


def attributes_of(name: str, dims: Sequence[str]) -> dict[str, str]:
    """Return units, long name and mark of a variable of exact theory."""
    column, kind = _parts(name)
    known = columns()[column]
    return {
        "units": known.unit,
        "long_name": f"exact {KINDS[kind]}: {known.meaning}",
        MARK: _mark(column, kind, dims),
    }


def found(dataset: Any, name: str) -> tuple[str, str]:
    """Return column and kind of a variable of exact theory, empty texts for any other.

    Such a variable has the name and the mark that a sweep gave it: it was not renamed, and
    arithmetic has not dropped its attributes or its source. It still has all its axes, so it was
    not averaged over one. In files of older versions the attributes of the study name the axes.
    """
    column, kind = _parts(name)
    if kind not in KINDS or column not in columns():
        return "", ""
    variable = dataset[name]
    mark = variable.attrs.get(MARK)
    axes = _axes_of_older(dataset.attrs) if mark is None else _axes_of(mark)
    if mark is None:
        has_name = str(variable.attrs.get("long_name", "")).startswith(f"exact {KINDS[kind]}: ")
    else:
        has_name = mark == _mark(column, kind, axes)
    is_whole = bool(axes) and all(axis in variable.coords for axis in axes)
    is_made = "source" in variable.encoding  # which arithmetic drops, and not the mark
    return (column, kind) if has_name and is_whole and is_made else ("", "")


def _parts(name: str) -> tuple[str, str]:
    """Return column and kind of a name, empty texts where it is not one of exact theory."""
    if not name.startswith("exact_"):
        return "", ""
    column, _, kind = name.removeprefix("exact_").rpartition("_")
    return column, kind


def _mark(column: str, kind: str, dims: Sequence[str]) -> str:
    return f"{KINDS[kind]} of {column} at each {', '.join(sorted(dims))}"


def _axes_of(mark: Any) -> list[str]:
    return mark.partition(" at each ")[2].split(", ") if isinstance(mark, str) else []


def _axes_of_older(attributes: Any) -> list[str]:
    """Return the dimensions of theory in a file whose variables have no mark yet."""
    try:
        return [*json.loads(attributes["study"])["axes"], "step"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return []
