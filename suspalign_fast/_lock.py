"""One run a file: an advisory lock beside it, which a killed process cannot leave behind."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # no advisory locks on this system
    fcntl = None  # type: ignore[assignment]


@contextmanager
def exclusive(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the lock of a file; a second holder is refused at once.

    Raises
    ------
    BlockingIOError
        If another process, or another run in this one, writes the file.
    OSError
        If the lock file cannot be made.
    """
    if fcntl is None:
        yield
        return
    if "\0" in os.fspath(path):
        raise ValueError(f"path must name a file, got {os.fspath(path)!r}")
    lock = Path(f"{os.fspath(path)}.lock")
    if not lock.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: {lock.parent} is not a directory")
    descriptor = _acquire(lock, path)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(lock: Path, path: str | os.PathLike[str]) -> int:
    while True:
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise OSError(f"{path} cannot be written: {error}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise BlockingIOError(f"{path} is being written by another run") from None
        try:
            same = os.stat(lock).st_ino == os.fstat(descriptor).st_ino
        except FileNotFoundError:
            same = False
        if same:
            return descriptor
        os.close(descriptor)  # the holder before us removed it meanwhile
