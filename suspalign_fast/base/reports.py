"""Errors of several layers, progress bars, and where a result comes from."""

import contextlib
import functools
import re
import sys
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm


class ForkError(RuntimeError):
    """A forked process would use what only its parent has: threads, or an open file."""


class NotCompiledError(RuntimeError):
    """Numba is told to compile nothing, which kernels and rules need."""


# --- What is wrong with a user's function, out of a page of Numba's ------------------------------


#: Lines that only say that something is wrong.
_EMPTY = re.compile(r"^(Failed in \w+ mode pipeline|- Resolution failure|Invalid use of|>>>|\s*$)")
_PLACE = re.compile(r'^File "(?P<file>.+)", line (?P<line>\d+):$')
_MARK = re.compile(r"^\s*\^\s*$")
_ROW_TYPE = re.compile(r"Row\(int64(, (array\(float64, \dd, \w\)|float64))*\)")
_NO_FLOAT = re.compile(r"No conversion from (?P<type>.+) to float64 for")


def explain(error: Exception, source: str) -> str:
    """Return reason and line of a compile error of Numba's; only the file `source` is blamed."""
    lines = str(error).splitlines()
    reason = next((line.strip() for line in lines if not _EMPTY.match(line)), "")
    reason = _ROW_TYPE.sub("Row", reason or type(error).__name__).rstrip(". :")
    if wrong := _NO_FLOAT.match(reason):
        return f"it returns {wrong['type']}, not a float"
    if place := _place(lines, Path(source).name):
        return f"{reason}, {place}"
    return reason


def _place(lines: list[str], name: str) -> str:
    """Return the first place in a file that the error names, with its source line."""
    for at, line in enumerate(lines):
        place = _PLACE.match(line)
        if place is None or Path(place["file"]).name != name:
            continue
        marks = [i for i in range(at + 1, len(lines)) if _MARK.match(lines[i])]
        code = f": {lines[marks[0] - 1].strip()}" if marks else ""
        return f"line {place['line']} of {name}{code}"
    return ""


# --- Where a result comes from: the version of the package, and the date -------------------------


def provenance() -> dict[str, str]:
    """Return the attributes ``source`` and ``date`` of a result that is made now."""
    return {"source": _source(), "date": datetime.now(UTC).isoformat(timespec="seconds")}


@functools.cache
def _source() -> str:
    try:
        number = version("suspalign-fast")
    except PackageNotFoundError:
        number = "unknown"
    return f"suspalign-fast {number}"


# --- Progress bars that never end the work whose progress they show ------------------------------


T = TypeVar("T")
#: Seconds between two lines where nobody watches: a file, a pipe.
LOG_INTERVAL = 10.0


class Tolerant:
    """A stream to which writing may fail: closed, a broken pipe, a full disk."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write a text if possible."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._stream.write(text)

    def flush(self) -> None:
        """Flush if possible."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def say(text: str) -> None:
    """Write a line to standard error if possible."""
    Tolerant(sys.stderr).write(text + "\n")


def bar(total: int | None, unit: str, *, visible: bool, initial: int = 0, **options: Any) -> Any:
    """Return a progress bar on standard error: fast for those who watch, rare in a log file."""
    return tqdm(
        total=total,
        initial=initial,
        unit=unit,
        unit_scale=options.pop("unit_scale", False),
        disable=not visible or sys.stderr is None,
        file=Tolerant(sys.stderr),
        smoothing=0.1,
        dynamic_ncols=_is_watched(),
        mininterval=0.1 if _is_watched() else LOG_INTERVAL,
        **options,
    )


def over(items: Collection[T], unit: str, *, visible: bool) -> Iterator[T]:
    """Yield items, moving a bar."""
    with bar(len(items), unit, visible=visible) as shown:
        for item in items:
            yield item
            shown.update()


def _is_watched() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, OSError, ValueError):
        return False
