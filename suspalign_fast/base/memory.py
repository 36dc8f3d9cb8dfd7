"""Checks that the memory of a computation fits into what the machine has left."""

import contextlib
import os
from pathlib import Path

#: Limit and use of a Linux control group (containers), in both versions of the interface.
_GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
    ),
)
#: This many bytes are taken to be there: looking would take longer than many runs.
UNCHECKED = 2**20
_SYSTEM = Path("/proc/meminfo")


def available() -> int | None:
    """Return the bytes this process may still take, or None where the system does not tell."""
    limits = [_left_in_system(), *(_left_in_group(*map(Path, paths)) for paths in _GROUPS)]
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None


def _left_in_system() -> int | None:
    """Memory that no process holds or that can be taken from caches; all there is, elsewhere."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in _SYSTEM.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    with contextlib.suppress(AttributeError, ValueError, OSError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _left_in_group(limit: Path, current: Path, statistics: Path) -> int | None:
    """What a control group has left, its file caches counted as free."""
    with contextlib.suppress(OSError, ValueError):  # no group, or no limit: "max"
        used = int(current.read_text())
        with contextlib.suppress(OSError, ValueError):
            for line in statistics.read_text().splitlines():
                name, _, value = line.partition(" ")
                if name in ("inactive_file", "total_inactive_file"):
                    used -= int(value)
        return max(0, int(limit.read_text()) - used)
    return None


def check(what: str, needed: int) -> None:
    """Raise MemoryError if more bytes are needed than are left."""
    if needed > UNCHECKED:
        compare(what, needed, available(), "this machine")


def compare(what: str, needed: int, there: int | None, where: str) -> None:
    """Raise MemoryError if `needed` bytes are more than there are, if that is known."""
    if there is not None and needed > there:
        raise MemoryError(f"{what} needs {_size(needed)}, and {where} has {_size(there)} left")


def _size(count: int) -> str:
    return f"{count / 1e9:,.3g} GB"
