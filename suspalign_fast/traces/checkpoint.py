"""Checkpoints: what an engine needs to go on, kept beside the trace and replaced atomically.

One file: a magic line, a line of JSON (whose run it belongs to, and names, types and shapes of the
arrays), a line with the CRC-32 of the JSON line and the arrays in hexadecimal, then the raw bytes
of the arrays. Reading never runs code, and reads into the arrays of an engine that wait for them:
what a file says of itself decides about no memory.
"""

import json
import os
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..storage import paths

MAGIC = b"suspalign-checkpoint 1\n"
MAX_HEADER = 2**20
_PIECE = 2**24

Arrays = dict[str, NDArray[Any]]


class CheckpointError(OSError):
    """A checkpoint is damaged, belongs to another trace, or cannot be written."""


def checkpoint_path(trace: Path) -> Path:
    """Path of the checkpoint beside a trace file."""
    return trace.with_name(trace.name + ".ckpt")


def is_there(trace: Path) -> bool:
    """Whether there is something where the checkpoint of a trace would be."""
    return os.path.lexists(checkpoint_path(trace))


def check_place(trace: Path) -> None:
    """Raise FileExistsError if what is no checkpoint stands where that of a trace would."""
    path = checkpoint_path(trace)
    if _is_foreign(path):
        raise FileExistsError(
            f"{path} exists and is not a checkpoint of this package: choose another path for the "
            "trace, or move that file"
        )


def remove(trace: Path) -> None:
    """Remove the checkpoint of a trace; leave what is none."""
    path = checkpoint_path(trace)
    if not _is_foreign(path):
        path.unlink(missing_ok=True)


def _is_foreign(path: Path) -> bool:
    return os.path.lexists(path) and paths.first_bytes(path, len(MAGIC)) != MAGIC


def write(trace: Path, run_id: str, arrays: Arrays) -> None:
    """Write the checkpoint of a trace: a new file, flushed to the disk, renamed over the old one.

    The checksum is computed while the arrays are written, so that the disk alone sets the time.

    Raises CheckpointError if it cannot be written; the old one then stays.
    """
    path = checkpoint_path(trace)
    try:
        check_place(trace)
        temporary = paths.Replacement(trace)
        try:
            with open(temporary.path, "wb") as file:
                _write_to(file, run_id, arrays)
            os.replace(temporary.path, path)
        finally:
            temporary.discard()
        paths.sync_folder(path.parent)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written: {error.strerror or error}") from error


def _write_to(file: BinaryIO, run_id: str, arrays: Arrays) -> None:
    values = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    layout = [[name, v.dtype.str, list(np.shape(arrays[name]))] for name, v in values.items()]
    header = json.dumps({"run_id": run_id, "arrays": layout}).encode() + b"\n"
    checksum = _beside(lambda: _checksum(header, values))
    file.write(MAGIC + header + b"%08x\n" % 0)
    for value in values.values():
        file.write(_bytes(value))
    file.seek(len(MAGIC + header))
    file.write(b"%08x\n" % checksum())
    file.flush()
    os.fsync(file.fileno())


def _beside(work: Callable[[], int]) -> Callable[[], int]:
    """Start to compute a number in another thread; return what waits for it."""
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    try:
        thread.start()
    except RuntimeError:  # the interpreter is about to end and starts no more threads
        return work

    def wait() -> int:
        thread.join()
        return results[0]

    return wait


def read_into(trace: Path, run_id: str, arrays: Arrays) -> bool:
    """Fill arrays from the checkpoint of a trace; return False where there is none.

    Raises CheckpointError if the file is damaged, belongs to another run or does not fit the
    arrays.

    Parameters
    ----------
    arrays : dict of ndarray
        What the checkpoint must hold, by name, type and shape; undefined after an error.
    """
    path = checkpoint_path(trace)
    try:
        descriptor = paths.open_regular(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    with open(descriptor, "rb") as file:
        if file.readline(len(MAGIC)) != MAGIC:
            raise CheckpointError(f"{path} is not a checkpoint this package reads")
        try:
            _read_from(file, os.fstat(descriptor).st_size, run_id, arrays)
        except _Foreign:
            raise CheckpointError(
                f"{path} belongs to another trace, not to the one beside it"
            ) from None
        except Exception as error:  # whatever a file that is not ours makes of its header
            raise CheckpointError(f"{path} is damaged: {error or type(error).__name__}") from error
    return True


class _Foreign(Exception):
    """The checkpoint is of another run."""


def _read_from(file: BinaryIO, size: int, run_id: str, arrays: Arrays) -> None:
    line = file.readline(MAX_HEADER)
    expected = file.readline(9)
    try:
        header = json.loads(line)
        owner, layout = header["run_id"], header["arrays"]
    except Exception as error:
        raise ValueError("its header does not read") from error
    wanted = [[name, a.dtype.str, list(a.shape)] for name, a in arrays.items()]
    if owner == run_id and sorted(layout) != sorted(wanted):
        raise ValueError("it does not hold the arrays of its run")
    ordered = [arrays[name] for name, _, _ in layout] if owner == run_id else []
    if ordered and sum(array.nbytes for array in ordered) != size - file.tell():
        raise ValueError("it is not as long as it says")
    found = zlib.crc32(line)
    for value in ordered:
        view = _bytes(value)
        for start in range(0, len(view), _PIECE):
            file.readinto(view[start : start + _PIECE])  # type: ignore[attr-defined]
        found = zlib.crc32(view, found)
    if owner != run_id:
        raise _Foreign
    if b"%08x\n" % found != expected:
        raise ValueError("its checksum does not match")


def _checksum(header: bytes, values: Arrays) -> int:
    checksum = zlib.crc32(header)
    for value in values.values():
        checksum = zlib.crc32(_bytes(value), checksum)
    return checksum


def _bytes(value: NDArray[Any]) -> memoryview:
    """View a contiguous array as bytes."""
    assert value.flags.c_contiguous
    flat: Any = value.reshape(-1)
    return memoryview(flat).cast("B") if value.size else memoryview(b"")
