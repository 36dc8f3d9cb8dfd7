"""What memory a computation will take, against what the machine has."""

import contextlib
import os
from pathlib import Path

#: Limit of a Linux control group (containers).
_GROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def available() -> int | None:
    """Return the bytes this process may hold, or None where the system does not tell."""
    limits = []
    try:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return None
    with contextlib.suppress(OSError, ValueError):  # no control group, or "max"
        limits.append(int(_GROUP_LIMIT.read_text()))
    return min(limits)


def check(what: str, needed: int) -> None:
    """Refuse to start what cannot fit.

    Raises
    ------
    MemoryError
        If `needed` bytes are more than there are; both numbers are in the message.
    """
    compare(what, needed, available(), "this machine")


def compare(what: str, needed: int, there: int | None, where: str) -> None:
    """Raise MemoryError if `needed` bytes are more than there are, if that is known."""
    if there is not None and needed > there:
        raise MemoryError(f"{what} needs {_size(needed)}, and {where} has {_size(there)}")


def _size(count: int) -> str:
    return f"{count / 1e9:,.3g} GB"
