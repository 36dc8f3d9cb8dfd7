"""Paths, and files that are written beside their place and put there whole."""

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..base import words

#: What stands between the name of a file and the end of that of its replacement.
_REPLACEMENT = "{name}.{token}.new"
_TOKEN_BYTES = 4
#: First bytes of files of this package: HDF5 and checkpoints.
_OWN = (b"\x89HDF\r\n\x1a\n", b"suspalign-checkpoint ", b"")

AnyPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def absolute(path: AnyPath) -> Path:
    """Return the path that an argument ``path=`` stands for, whatever the folder is later on.

    Raises ValueError if it names no file.
    """
    try:
        text = os.fsdecode(path)
        os.fsencode(text)
    except Exception:  # whatever an object of a user's raises; a lone surrogate
        raise ValueError(f"path must name a file, got {words.describe(path)}") from None
    target = Path(text)
    if "\0" in text or not target.name or target.name == "..":
        raise ValueError(f"path must name a file, got {words.describe(text)}")
    return target.absolute()


def real(path: AnyPath) -> Path:
    """Return the absolute path with its links followed: where a file is written."""
    return Path(os.path.realpath(absolute(path)))


def shown(path: Path) -> str:
    """Return a path as someone in the present folder would type it."""
    try:
        return str(path.relative_to(Path.cwd().resolve()))
    except (ValueError, OSError):
        return str(path)


def check_new(target: Path, *, overwrite: bool) -> None:
    """Raise OSError or ValueError unless a file can be made at `target`, and others beside it."""
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target} cannot be written: {target.parent} is not a directory")
    limit = _longest_name(target.parent)
    longest = _REPLACEMENT.format(name=target.name, token="0" * 2 * _TOKEN_BYTES)
    spare = len(os.fsencode(longest)) - len(os.fsencode(target.name))
    if len(os.fsencode(target.name)) > limit - spare:
        raise ValueError(
            f"path must have a name of at most {limit - spare} bytes, so that files of its own "
            f"fit beside it, got {len(os.fsencode(target.name))} bytes"
        )
    if target.exists() and not target.is_file():
        raise OSError(f"{target} cannot be written: it is not a regular file")
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} already exists; choose another path or allow overwriting")


def _longest_name(folder: Path) -> int:
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, ValueError, OSError):
        return 255


class Replacement:
    """A new file beside its place, with the permissions of the one it will replace.

    Attributes
    ----------
    path : Path
        Where it is for now: an empty file that nobody had before.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        token = secrets.token_hex(_TOKEN_BYTES)
        self.path = target.with_name(_REPLACEMENT.format(name=target.name, token=token))
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError as error:
            raise OSError(f"{target} cannot be written: {error}") from error
        try:
            _keep_owner_and_mode(descriptor, target)
        finally:
            os.close(descriptor)

    def put(self, *, overwrite: bool) -> None:
        """Give the file its name; raise FileExistsError if there is one and it must stay."""
        if overwrite:
            os.replace(self.path, self.target)
        else:
            self._put_where_none_is()
        sync_folder(self.target.parent)

    def _put_where_none_is(self) -> None:
        try:
            os.link(self.path, self.target)
        except FileExistsError:
            raise FileExistsError(f"{self.target} already exists; another run made it") from None
        except OSError:  # a file system without hard links
            os.close(os.open(self.target, os.O_CREAT | os.O_EXCL))
            os.replace(self.path, self.target)
            return
        self.path.unlink()

    def discard(self) -> None:
        """Remove the file unless it has its name."""
        self.path.unlink(missing_ok=True)


def check_room(path: Path, size: int) -> None:
    """Raise OSError unless a file, empty as yet, can become so large: disk, quota and limits."""
    if not hasattr(os, "posix_fallocate"):
        return
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
    finally:
        os.ftruncate(descriptor, 0)
        os.close(descriptor)


def _keep_owner_and_mode(descriptor: int, target: Path) -> None:
    """Give an open file mode and owner of the file that it will replace, as far as allowed."""
    try:
        old = target.stat()
    except OSError:
        return
    if hasattr(os, "fchown"):
        with contextlib.suppress(OSError):
            os.fchown(descriptor, old.st_uid, old.st_gid)
    if hasattr(os, "fchmod"):
        os.fchmod(descriptor, stat.S_IMODE(old.st_mode))


def remove_leftovers(target: Path, in_use: Any) -> None:
    """Remove replacements of a file that killed processes left, told by name and first bytes.

    Parameters
    ----------
    in_use : function of a path
        Whether a process still writes a file; None, where nobody knows, lets it be.
    """
    for path in _leftovers(target):
        if in_use(path) is False:
            path.unlink(missing_ok=True)


def _leftovers(target: Path) -> Iterator[Path]:
    pattern = re.compile(rf"{re.escape(target.name)}\.[0-9a-f]{{{2 * _TOKEN_BYTES}}}\.new")
    with os.scandir(target.parent) as entries:
        names = [entry.name for entry in entries if pattern.fullmatch(entry.name)]
    for name in names:
        path = target.with_name(name)
        head = first_bytes(path, 32)
        if head is not None and any(head.startswith(own) if own else not head for own in _OWN):
            yield path


def open_regular(path: Path, *, follow: bool = False) -> int:
    """Return a descriptor of a regular file for reading; pipes and devices are not even waited for.

    Raises FileNotFoundError if there is none of that name. Raises OSError if it is something else,
    a link among them unless told to `follow` it.
    """
    flags = os.O_RDONLY | _NO_WAITING | (0 if follow else getattr(os, "O_NOFOLLOW", 0))
    descriptor = os.open(path, flags)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(f"{path} is not a regular file")


_NO_WAITING = (
    getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
)


def first_bytes(path: Path, count: int) -> bytes | None:
    """Return the first bytes of a regular file, None of anything else, links included."""
    try:
        descriptor = open_regular(path)
    except OSError:
        return None
    try:
        return os.read(descriptor, count)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Flush a folder to the disk, so that a new name in it is kept."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # not every file system can
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
