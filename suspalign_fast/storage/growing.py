"""A file that gets its place once it is laid out, and grows there while others read it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from ..base import words
from . import foreign, lock, paths
from .output import Output

#: Bytes that a file may need beyond its known size.
ROOM = 2**16


class Growing:
    """One writer's file: locked, put in its place whole, abandoned as soon as a write fails.

    Parameters
    ----------
    path : Path
        Links followed.
    held : Lock, optional
        Locks of the writer, to which that of the new file is added; by default its own.

    Attributes
    ----------
    path : Path
    """

    def __init__(self, path: Path, held: lock.Lock | None = None) -> None:
        self.path = path
        self._lock = lock.Lock(path) if held is None else held
        self._owns_lock = held is None
        self._outputs: list[Output] = []

    @contextmanager
    def laid_out(self, size: int, *, overwrite: bool) -> Iterator[Path]:
        """Make the file beside its place; put it there, for others to read, when the block ends.

        Raises OSError if it cannot be written, or another one is in its place that must stay.

        Parameters
        ----------
        size : int
            Bytes that it will have, about. There must be room for them: libhdf5 crashes where it
            cannot write what it has of a new file.
        """
        replacement = paths.Replacement(self.path)
        try:
            self._lock.add(replacement.path)
            paths.check_room(replacement.path, size + ROOM)
            self._outputs.append(Output(replacement.path, "w"))
            yield replacement.path
            self.file.swmr_mode = True
            self._inode = os.stat(replacement.path)
            replacement.put(overwrite=overwrite)
        except BaseException as error:
            for output in self._outputs:
                output.abandon()
            self.release()
            if isinstance(error, FileExistsError | foreign.NotCopiedError):
                raise
            if isinstance(error, OSError | RuntimeError):  # libhdf5 raises both
                raise OSError(f"{self.path} cannot be written: {one_line(error)}") from error
            raise
        finally:
            replacement.discard()

    def carry_over(self, new: Path) -> None:
        """Copy what others put into the file that is in the place to the one being laid out."""
        self._output.close()
        foreign.carry_over(self.path, new)
        self._outputs.append(Output(new, "r+"))

    @property
    def _output(self) -> Output:
        return self._outputs[-1]

    @property
    def file(self) -> h5py.File:
        """The file, open for writing."""
        return self._output.file

    @property
    def is_open(self) -> bool:
        """Whether it may still be written to."""
        return bool(self._outputs) and self._output.is_open

    @contextmanager
    def writing(self, done: str) -> Iterator[None]:
        """Turn a failed write into one clear error and leave the file as the failure left it.

        Parameters
        ----------
        done : str
            What the file holds by now, for the error.
        """
        self._output.check_process()
        try:
            with self._output.abandoned_on_failure():
                self._check_place()
                yield
        except Exception as error:
            raise OSError(f"writing {self.path} failed after {done}: {one_line(error)}") from error

    def _check_place(self) -> None:
        """Raise OSError unless the file is where the run began it."""
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            raise FileNotFoundError(f"{self.path} was removed while the run wrote it") from None
        if not os.path.samestat(there, self._inode):
            raise OSError(f"{self.path} was replaced by another file while the run wrote it")

    def sync(self) -> None:
        """Flush the file to the disk."""
        os.fsync(self._output.descriptor)

    def close(self) -> None:
        """Write what libhdf5 still holds, and close the file."""
        if self._output.is_open:
            self._output.close()

    def release(self) -> None:
        """Release the lock, if it is the file's own."""
        if self._owns_lock:
            self._lock.release()


def one_line(error: BaseException) -> str:
    """Return the message of an error on one line."""
    return words.plain(error) or type(error).__name__
