"""Opening HDF5 files that may be anything, with errors that name path and reason.

The class of a type is checked before anything looks at its values: h5py would take some opaque
types for pointers to Python objects. Links are followed only inside the file.
"""

import contextlib
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5s, h5t
from numpy.typing import NDArray

from ..base import words
from . import lock
from .dataset import Stored, Variable
from .paths import AnyPath, absolute, open_regular
from .untrusted import CHUNKED, COMPACT, CONTIGUOUS, SIZE, PatchedFile, Superblock, layout_classes

MAX_ATTRIBUTE = 2**20


class Reader:
    """An HDF5 file open for reading, also while another process writes it.

    Raises OSError if it does not exist or is not an HDF5 file.

    Parameters
    ----------
    live : bool, optional
        Whether a writer has it open; by default the file's lock tells.
    is_lasting : bool, optional
        Whether it stays open while others may write to the file: libhdf5 then neither locks it nor
        knows that it is the same file.

    Attributes
    ----------
    path : Path
    size, stored : int
        Length of the file when it was opened, and its bytes on the disk.
    is_live, is_killed : bool
        Whether a writer has it open, or left it without closing it.
    is_cut : bool
        Whether some of it is missing, for which zeros stand in.
    """

    def __init__(
        self, path: AnyPath, *, live: bool | None = None, is_lasting: bool = False
    ) -> None:
        self.path: Path = absolute(path)
        self._live, self._is_lasting = live, is_lasting
        self.is_live = self.is_killed = self.is_cut = False
        try:
            self._descriptor = open_regular(self.path, follow=True)
        except PermissionError as error:
            raise PermissionError(f"{self.path} cannot be read: {error.strerror}") from error
        except OSError as error:
            raise FileNotFoundError(f"{self.path} does not exist or is not a file") from error
        try:
            self._file = self._opened()
        except (OSError, ValueError, RuntimeError) as error:
            os.close(self._descriptor)
            raise OSError(f"{self.path} is not a readable HDF5 file: {error}") from error
        except BaseException:
            os.close(self._descriptor)
            raise

    def _opened(self) -> h5py.File:
        status = os.fstat(self._descriptor)
        self.size: int = status.st_size
        #: Bytes on the disk: a file may have holes.
        self.stored: int = min(self.size, 512 * getattr(status, "st_blocks", 2**62))
        block = Superblock(os.pread(self._descriptor, SIZE, 0), self.size)
        if not block.is_being_written:
            place = PatchedFile(self._descriptor, b"") if self._is_lasting else self.path
            return h5py.File(place, "r", libver="latest")
        live = lock.is_held(self.path) if self._live is None else self._live
        self.is_cut = block.is_cut
        if live is False:  # nobody will complete what is damaged
            self.is_killed = True
            return h5py.File(PatchedFile(self._descriptor, block.closed()), "r", libver="latest")
        self.is_live = True
        return h5py.File(self.path, "r", libver="latest", swmr=True)

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        try:
            self._file.close()
        finally:
            os.close(self._descriptor)

    def root(self) -> h5py.Group:
        """Return the root group."""
        return h5py.Group(self._file.id)

    def check_group(self, name: str) -> None:
        """Raise KeyError unless the file itself has a group of that name."""
        self._group(name)

    def _group(self, name: str) -> Any:
        node: Any = self._file.id
        for part in filter(None, name.split("/")):
            if _info(node, part, name).type != h5o.TYPE_GROUP:
                raise KeyError(f"{name!r} is not a group")
            node = h5g.open(node, part.encode())
        return node

    def has(self, name: str) -> bool:
        """Whether the file itself has a group or dataset of a name in an existing group."""
        parent, _, last = name.rpartition("/")
        return _is_here(self._group(parent), last.encode())

    def attribute(self, node: str, name: str) -> Any:
        """Read an attribute of the root ("") or a group: text as str, numbers as int or float.

        Raises KeyError if there is none of that name. Raises ValueError if it is not a single text
        or number of bounded size.
        """
        return attribute_of(self._group(node), name)

    def format_name(self) -> str:
        """What the root says the file is in its attribute "format"; empty where it does not.

        Raises OSError if its attributes are damaged.
        """
        try:
            return str(self.attribute("", "format"))
        except (KeyError, ValueError):
            return ""
        except Exception as error:  # whatever libhdf5 makes of damage
            raise OSError(f"{self.path} is a damaged HDF5 file: {words.plain(error)}") from error

    def dataset(self, name: str) -> Stored:
        """Return a dataset that is safe to read.

        Raises KeyError if there is none of that name. Raises ValueError if it is not of 64-bit
        numbers, needs other filters, or claims more than the file holds.
        """
        return Stored(self, name, self._opened_dataset(name))

    def variable(self, name: str) -> Variable:
        """Return a dataset of numbers or texts, parts of which may never have been written.

        Raises KeyError if there is none of that name. Raises ValueError if it is of another type,
        needs other filters, or its chunks are too large.
        """
        return Variable(self, name, self._opened_dataset(name))

    def _opened_dataset(self, name: str) -> Any:
        parent, _, last = name.rpartition("/")
        group = self._group(parent)
        info = _info(group, last, name)
        if info.type != h5o.TYPE_DATASET:
            raise KeyError(f"{name!r} is not a dataset")
        if not self._is_plain(info):
            raise ValueError(f"{name!r} keeps its values elsewhere")
        return h5d.open(group, last.encode())

    def datasets(self) -> list[str]:
        """Return the names of the datasets that the root itself has."""
        root = self._file.id
        names: list[bytes] = list(root)
        return [
            name.decode(errors="replace")
            for name in names
            if _is_here(root, name) and h5o.get_info(root, name).type == h5o.TYPE_DATASET
        ]

    def attributes(self, name: str = "") -> dict[str, Any]:
        """Return the attributes of the root or of a dataset that are short texts or numbers."""
        node = self._opened_dataset(name) if name else self._file.id
        every: dict[str, Any] = {}
        for found in _attribute_names(node):
            with contextlib.suppress(KeyError, ValueError):
                every[found] = attribute_of(node, found, may_be_vector=True)
        return every

    def is_plain(self, name: str) -> bool:
        """Whether a name leads to a group, or to a dataset that is safe to open."""
        parent, _, last = name.rpartition("/")
        group = self._group(parent)
        return _is_here(group, last.encode()) and self._is_plain(_info(group, last, name))

    def _is_plain(self, info: Any) -> bool:
        if info.type == h5o.TYPE_GROUP:
            return True
        if info.type != h5o.TYPE_DATASET:
            return False
        classes = layout_classes(self.read_at, info.addr)
        return len(classes) == 1 and classes[0] in (COMPACT, CONTIGUOUS, CHUNKED)

    def attribute_names(self) -> list[str]:
        """Return the names of the attributes of the root, of any type."""
        return _attribute_names(self._file.id)

    def read(self, name: str) -> NDArray[Any]:
        """Read a whole dataset after the checks of `dataset`."""
        return self.dataset(name).rows()

    def current_size(self) -> int:
        """Size of the file by now: a writer may have added to it."""
        return os.fstat(self._descriptor).st_size

    def read_at(self, address: int, size: int) -> bytes:
        """Read bytes at a place of the file, fewer where it ends."""
        if not 0 <= address < self.current_size():
            raise ValueError("an address outside the file")
        return os.pread(self._descriptor, size, address)


def _is_here(group: Any, name: bytes) -> bool:
    """Whether a group itself holds something under a name: a link may lead anywhere."""
    return bool(group.links.exists(name)) and group.links.get_info(name).type == h5l.TYPE_HARD


def _info(group: Any, part: str, name: str) -> Any:
    """What a group holds under a name, unopened."""
    if not _is_here(group, part.encode()):
        raise KeyError(f"{name!r} is missing")
    return h5o.get_info(group, part.encode())


def attribute_of(node: Any, name: str, *, may_be_vector: bool = False) -> Any:
    """Read an attribute of an open node as `Reader.attribute` does, or one of a few numbers."""
    if not h5a.exists(node, name.encode()):
        raise KeyError(f"attribute {name!r} is missing")
    handle = h5a.open(node, name.encode())
    space, kind = handle.get_space(), handle.get_type()
    size = kind.get_size()
    if may_be_vector and space.get_simple_extent_ndims() == 1:
        return _numbers(handle, name)
    if space.get_simple_extent_type() != h5s.SCALAR:
        raise ValueError(f"attribute {name!r} is not a single value")
    if kind.get_class() == h5t.STRING and not kind.is_variable_str() and size <= MAX_ATTRIBUTE:
        text = np.empty((), f"S{size}")
        handle.read(text, kind)
        return text.item().decode().strip()
    if kind.get_class() == h5t.INTEGER and size <= 8:
        signed = kind.get_sign() != h5t.SGN_NONE
        return _number(handle, np.int64 if signed else np.uint64)
    if kind.get_class() == h5t.FLOAT and size <= 8:
        return _number(handle, np.float64)
    raise ValueError(f"attribute {name!r} is neither a short text of fixed length nor a number")


def _number(handle: h5a.AttrID, dtype: Any) -> int | float:
    value = np.empty((), dtype)
    handle.read(value, h5t.py_create(value.dtype))
    number: int | float = value.item()
    return number


def _attribute_names(node: Any) -> list[str]:
    names: list[bytes] = []
    h5a.iterate(node, lambda found, *_: names.append(found))
    return [name.decode(errors="replace") for name in names]


def _numbers(handle: Any, name: str) -> NDArray[Any]:
    """Read an attribute of integers or floats along one axis."""
    kind, (count,) = handle.get_type(), handle.get_space().get_simple_extent_dims()
    dtype = {h5t.INTEGER: np.int64, h5t.FLOAT: np.float64}.get(kind.get_class())
    if dtype is None or kind.get_size() > 8 or not 0 < count <= MAX_ATTRIBUTE // 8:
        raise ValueError(f"attribute {name!r} is not of a few numbers")
    values = np.empty(count, dtype)
    handle.read(values, h5t.py_create(values.dtype))
    return values
