"""Checkpoints: what an engine needs to go on, kept beside the trace and replaced atomically.

One file: a magic line, a line of JSON (whose run it belongs to, and names, types and shapes of the
arrays), a line with the CRC-32 of the JSON line and the arrays in hexadecimal, then the raw bytes
of the arrays. Reading never runs code and checks every length against the file's size before
anything is allocated.
"""

import json
import math
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = b"suspalign-checkpoint 1\n"
MAX_HEADER = 2**20
_TYPES = ("<f8", "<f4", "<i8")
_PIECE = 2**24

Arrays = dict[str, NDArray[Any]]


class CheckpointError(OSError):
    """A checkpoint is damaged, or belongs to another trace."""


def checkpoint_path(trace: Path) -> Path:
    """Path of the checkpoint beside a trace file."""
    return trace.with_name(trace.name + ".ckpt")


def write(path: Path, run_id: str, arrays: Arrays) -> None:
    """Write a checkpoint: a new file, flushed to the disk, then renamed over the old one.

    The checksum is computed while the arrays are written, so that the disk alone sets the time.
    """
    values = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    layout = [[name, v.dtype.str, list(np.shape(arrays[name]))] for name, v in values.items()]
    header = json.dumps({"run_id": run_id, "arrays": layout}).encode() + b"\n"
    temporary = path.with_name(path.name + ".new")
    try:
        with open(temporary, "wb") as file, ThreadPoolExecutor(1) as beside:
            checksum = beside.submit(_checksum, header, values)
            file.write(MAGIC + header + b"%08x\n" % 0)
            for value in values.values():
                file.write(_bytes(value))
            file.seek(len(MAGIC + header))
            file.write(b"%08x\n" % checksum.result())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def read(path: Path, run_id: str) -> Arrays | None:
    """Read the checkpoint of a run; None where there is none.

    Raises
    ------
    CheckpointError
        If the file is damaged or belongs to another run.
    """
    if not path.exists():
        return None
    with open(path, "rb") as file:
        if file.readline(len(MAGIC)) != MAGIC:
            raise CheckpointError(f"{path} is not a checkpoint this package reads")
        try:
            line = file.readline(MAX_HEADER)
            expected = file.readline(9)
            header = json.loads(line)
            owner = header["run_id"]
            layout = [
                (str(name), str(kind), tuple(int(n) for n in shape))
                for name, kind, shape in header["arrays"]
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} is damaged: its header does not read") from error
        if any(kind not in _TYPES or min(shape, default=0) < 0 for _, kind, shape in layout):
            raise CheckpointError(f"{path} is damaged: it lists what cannot be an array")
        sizes = [np.dtype(kind).itemsize * math.prod(shape) for _, kind, shape in layout]
        if sum(sizes) != os.fstat(file.fileno()).st_size - file.tell():
            raise CheckpointError(f"{path} is damaged: it is not as long as it says")
        arrays, found = {}, zlib.crc32(line)
        for name, kind, shape in layout:
            value = np.empty(shape, dtype=kind)
            view = _bytes(value)
            for start in range(0, len(view), _PIECE):
                file.readinto(view[start : start + _PIECE])
            found = zlib.crc32(view, found)
            arrays[name] = value
    if b"%08x\n" % found != expected:
        raise CheckpointError(f"{path} is damaged: its checksum does not match")
    if owner != run_id:
        raise CheckpointError(f"{path} belongs to another trace, not to the one beside it")
    return arrays


def _checksum(header: bytes, values: Arrays) -> int:
    checksum = zlib.crc32(header)
    for value in values.values():
        checksum = zlib.crc32(_bytes(value), checksum)
    return checksum


def _bytes(value: NDArray[Any]) -> memoryview:
    flat: Any = value.reshape(-1)
    return memoryview(flat).cast("B") if value.size else memoryview(b"")


def _sync_directory(directory: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
