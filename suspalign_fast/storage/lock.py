"""One run a file: a lock on the file itself, whatever name leads to it.

On Linux the lock is one of an open file description, on a byte that no file has. It belongs to the
inode, so that links lead to the same lock; it dies with its process; and it never meets the locks
of libhdf5. Where a system has no such locks, or a network file system makes one kind of all of
them, a lock file ``.NAME.lock`` beside the file stands in. On a file system without any locks
(Lustre and some NFS, as they are mounted) a run goes on without, with one warning.
"""

import contextlib
import errno
import io
import os
import struct
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from . import paths

try:
    import fcntl
except ImportError:  # no advisory locks on this system
    fcntl = None  # type: ignore[assignment]

#: A byte beyond the end of any file.
_BYTE = 2**62
_REQUEST = "hhqqi"
#: What file systems without locks say.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)
#: Files that hold the locks of this process, and what is known of file systems, by device. They are
#: objects that close themselves, so that an exception between any two instructions leaks no lock.
_holders: weakref.WeakSet[io.FileIO] = weakref.WeakSet()
_locks_inodes: dict[int, bool] = {}
_without_locks: set[int] = set()


class Lock:
    """The locks of one run: on its file, and on the one that will take its place."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._held: list[io.FileIO] = []

    def add(self, path: Path) -> None:
        """Lock a file, too.

        Raises BlockingIOError if another run holds its lock.
        """
        if fcntl is None:
            return
        if can_lock_inodes(path.parent):
            self._acquire(path, os.O_RDWR)
        elif not self._held:
            self._acquire_lock_file(lock_file(self._target))

    def _acquire_lock_file(self, path: Path) -> None:
        """Lock the file beside the target, unless its holder has removed it meanwhile."""
        while self._acquire(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW):
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path), os.fstat(self._held[-1].fileno())):
                    return
            self.release()

    def _acquire(self, path: Path, flags: int) -> bool:
        """Lock a file; return False, with a warning, on a file system without locks."""
        try:
            holder = io.FileIO(path, "r+", opener=_opener(flags))
        except OSError as error:
            raise OSError(f"{self._target} cannot be written: {error}") from error
        _holders.add(holder)
        try:
            if path == lock_file(self._target):
                fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            else:
                fcntl.fcntl(holder, fcntl.F_OFD_SETLK, _request(fcntl.F_WRLCK))
        except OSError as error:
            if error.errno in _NO_LOCKS:
                _remove_lock_file(lock_file(self._target), holder.fileno())
                holder.close()
                _warn_once(self._target.parent)
                return False
            holder.close()
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise OSError(f"{self._target} cannot be locked: {error}") from error
            raise BlockingIOError(f"{self._target} is being written by another run") from None
        self._held.append(holder)
        return True

    def release(self) -> None:
        """Release all locks."""
        for holder in self._held:
            if not holder.closed:
                _remove_lock_file(lock_file(self._target), holder.fileno())
            holder.close()
        self._held.clear()


@contextmanager
def exclusive(target: Path) -> Iterator[Lock]:
    """Hold the lock of a file, if it exists; a second holder is refused at once.

    Raises BlockingIOError if another process, or another run in this one, writes the file.
    """
    lock = Lock(target)
    try:
        if target.is_file():
            lock.add(target)
        yield lock
    finally:
        lock.release()


def is_held(path: Path) -> bool | None:
    """Whether a run holds the lock of a file; None where the system cannot tell."""
    if fcntl is None:
        return None
    return _inode_is_locked(path) or _lock_file_is_held(lock_file(path)) or _unknown(path)


def lock_file(path: Path) -> Path:
    """Path of the lock file of a file whose inode cannot be locked."""
    return path.with_name(f".{path.name}.lock")


def can_lock_inodes(folder: Path) -> bool:
    """Whether files of a folder can be locked without getting into the way of libhdf5's locks."""
    if not hasattr(fcntl, "F_OFD_SETLK"):
        return False
    device = os.stat(folder).st_dev
    if device not in _locks_inodes:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".suspalign-") as probe:
            _locks_inodes[device] = _is_independent(probe.fileno(), probe.name)
    return _locks_inodes[device]


def _is_independent(descriptor: int, path: str) -> bool:
    """Whether the kind of lock that libhdf5 takes is possible beside one of ours."""
    other = os.open(path, os.O_RDONLY)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _request(fcntl.F_WRLCK))
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(other)
    return True


def _request(kind: int) -> bytes:
    return struct.pack(_REQUEST, kind, os.SEEK_SET, _BYTE, 1, 0)


def _inode_is_locked(path: Path) -> bool:
    if not hasattr(fcntl, "F_OFD_GETLK"):
        return False
    with _opened(path) as descriptor:
        if descriptor is None:
            return False
        try:
            answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _request(fcntl.F_WRLCK))
        except OSError:
            return False
        return bool(struct.unpack(_REQUEST, answer)[0] != fcntl.F_UNLCK)


def _lock_file_is_held(path: Path) -> bool:
    return _refused(path) not in (None, *_NO_LOCKS)


def _unknown(path: Path) -> bool | None:
    """Return None where the file system of a file has no locks, else False."""
    return None if _refused(path) in _NO_LOCKS else False


def _refused(path: Path) -> int | None:
    """Return the number of the error that a shared lock meets, None where it meets none."""
    with _opened(path) as descriptor:
        try:
            if descriptor is not None:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno
    return None


def _warn_once(folder: Path) -> None:
    """Warn that nothing keeps two runs from one file, once a file system."""
    device = os.stat(folder).st_dev
    if device not in _without_locks:
        _without_locks.add(device)
        warnings.warn(
            f"{folder} is on a file system without locks: nothing keeps two runs from writing one "
            "file, and a killed run is called running (HDF5_USE_FILE_LOCKING=FALSE, if HDF5 fails)",
            RuntimeWarning,
            stacklevel=2,
        )


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    """Open a regular file for reading; None where there is none."""
    try:
        descriptor = paths.open_regular(path, follow=True)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _remove_lock_file(path: Path, descriptor: int) -> None:
    """Remove a lock file that this process holds; a file of anyone else's is not empty."""
    with contextlib.suppress(OSError):
        status = os.fstat(descriptor)
        if status.st_size == 0 and os.path.samestat(os.lstat(path), status):
            path.unlink()


def _opener(flags: int) -> Callable[[str, int], int]:
    def opener(path: str, _: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)

    return opener


def _forget() -> None:
    """Leave the locks to the parent: a forked child shares them until it closes them."""
    for holder in list(_holders):
        with contextlib.suppress(OSError):
            holder.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
