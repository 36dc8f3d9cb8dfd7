"""Progress bars that never end the work whose progress they show."""

import contextlib
import sys
from collections.abc import Collection, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

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
