"""The first bytes of an HDF5 file: whether a writer has it open, and a view that says nobody has.

A file that a killed run left says for ever that it is being written. Libhdf5 opens such a file only
for readers beside a writer (SWMR), and then waits for damaged metadata to become whole, doubling
its patience up to a hundred times: for ever, and deaf to Ctrl-C. Where no writer is left, the file
is therefore opened through a view in which the superblock says that it was closed.
"""

import io
import os
from collections.abc import Callable, Iterator
from typing import Any

SIGNATURE = b"\x89HDF\r\n\x1a\n"
SIZE = 48
_VERSION, _OFFSET_SIZE, _FLAGS = 8, 9, 11
_END, _CHECKSUM = slice(28, 36), slice(44, 48)
_WRITING = 1


class Superblock:
    """The superblock of a file.

    Attributes
    ----------
    is_current : bool
        Whether it is of the version that this package writes, whose fields are known here.
    is_cut : bool
        Whether the file is shorter than it should be, for want of room: in one that nobody has
        closed.
    """

    def __init__(self, head: bytes, size: int) -> None:
        if not head.startswith(SIGNATURE):
            raise OSError("it does not start like one")
        self._head, self._size = head, size
        self.is_current = len(head) == SIZE and head[_VERSION] == 3 and head[_OFFSET_SIZE] == 8
        if self.is_current and lookup3(head[:44]) != int.from_bytes(head[_CHECKSUM], "little"):
            raise OSError("its superblock is damaged")
        known_end = len(head) == SIZE and head[_VERSION] in (2, 3) and head[_OFFSET_SIZE] == 8
        end = int.from_bytes(head[_END], "little") if known_end else 0
        self.is_cut = end > size
        if self.is_cut and not self.is_being_written:
            raise OSError(f"it is truncated: {size} of {end} bytes are there")

    @property
    def is_being_written(self) -> bool:
        """Whether a writer has the file open, or was killed."""
        return self.is_current and bool(self._head[_FLAGS] & _WRITING)

    def closed(self) -> bytes:
        """Return the superblock of the same file, closed at its present size."""
        head = bytearray(self._head)
        head[_FLAGS] = 0
        head[_END] = self._size.to_bytes(8, "little")
        head[_CHECKSUM] = lookup3(bytes(head[:44])).to_bytes(4, "little")
        return bytes(head)


class PatchedFile(io.RawIOBase):
    """A file, read only, whose first bytes are others.

    Parameters
    ----------
    descriptor : int
        Of the file; it stays the caller's.
    head : bytes
        What stands in for its first bytes.
    """

    def __init__(self, descriptor: int, head: bytes) -> None:
        self._descriptor, self._head = descriptor, head
        self._at = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position."""
        size = os.fstat(self._descriptor).st_size
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: size}[whence]
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; beyond the end of the file are zeros, as libhdf5 has it elsewhere."""
        view = memoryview(buffer).cast("B")
        size = os.fstat(self._descriptor).st_size
        wanted = max(0, min(len(view), size - self._at))
        done = 0
        while done < wanted:
            part = os.pread(self._descriptor, wanted - done, self._at + done)
            if not part:
                break
            view[done : done + len(part)] = part
            done += len(part)
        view[done:] = bytes(len(view) - done)
        if self._at < len(self._head):
            patch = self._head[self._at : self._at + len(view)]
            view[: len(patch)] = patch
        self._at += len(view)
        return len(view)


_WORD = 0xFFFFFFFF


def _rotated(word: int, bits: int) -> int:
    return ((word << bits) | (word >> (32 - bits))) & _WORD


def lookup3(data: bytes) -> int:
    """Return the checksum of HDF5's metadata: ``hashlittle`` of Bob Jenkins' lookup3, from 0."""
    a = b = c = (0xDEADBEEF + len(data)) & _WORD
    whole = max(0, (len(data) - 1) // 12)
    words = [
        int.from_bytes(data[i : i + 4].ljust(4, b"\0"), "little")
        for i in range(0, 12 * (whole + 1), 4)
    ]
    for i in range(0, 3 * whole, 3):
        a, b, c = (x + y & _WORD for x, y in zip((a, b, c), words[i : i + 3], strict=True))
        for bits in (4, 6, 8, 16, 19, 4):
            a = (a - c & _WORD) ^ _rotated(c, bits)
            c = c + b & _WORD
            a, b, c = b, c, a
    if not data:
        return c
    a, b, c = (x + y & _WORD for x, y in zip((a, b, c), words[3 * whole :], strict=True))
    for bits in (14, 11, 25, 16, 4, 14, 24):
        c = (c ^ b) - _rotated(b, bits) & _WORD
        a, b, c = b, c, a
    return b


# --- How a dataset is laid out, read from the bytes of its object header before libhdf5 opens it.
#
# Opening a virtual dataset makes libhdf5 read a heap, and it can loop for ever in a damaged one.
# The format is that of the HDF5 file format specification, sections IV.A.1 and IV.A.2.


COMPACT, CONTIGUOUS, CHUNKED = range(3)
_LAYOUT, _CONTINUATION = 0x08, 0x10
_MAX_BLOCKS, _MAX_BYTES = 256, 2**22

#: Reads so many bytes at a place of the file.
ReadAt = Callable[[int, int], bytes]


def layout_classes(read: ReadAt, address: int) -> list[int]:
    """Return the classes of all layout messages of an object.

    Raises ValueError if the header is not one of a known version.
    """
    return [_layout_class(body) for kind, body in _messages(read, address) if kind == _LAYOUT]


def _layout_class(body: bytes) -> int:
    if len(body) < 3 or not 1 <= body[0] <= 5:
        raise ValueError("a layout of unknown version")
    return body[2] if body[0] < 3 else body[1]


def _messages(read: ReadAt, address: int) -> Iterator[tuple[int, bytes]]:
    """Yield type and body of every message of the object header at an address."""
    head = read(address, 48)
    is_new = head[:4] == b"OHDR"
    if is_new and head[4] == 2:
        flags = head[5]
        at = 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
        width = 1 << (flags & 3)
        size = int.from_bytes(head[at : at + width], "little")
        blocks = [(address + at + width, size)]
        header = 6 if flags & 0x04 else 4
    elif not is_new and head[0] == 1:
        blocks = [(address + 16, int.from_bytes(head[8:12], "little"))]
        header = 8
    else:
        raise ValueError("an object header of unknown version")
    left = _MAX_BYTES
    for number, (start, size) in enumerate(blocks):
        left -= size
        if number >= _MAX_BLOCKS or left < 0:
            raise ValueError("an object header without end")
        block = read(start, size)
        if is_new and number > 0:
            block = block[4:-4]  # between signature and checksum
        for kind, body in _split(block, header):
            if kind == _CONTINUATION:
                blocks.append(
                    (int.from_bytes(body[:8], "little"), int.from_bytes(body[8:16], "little"))
                )
            yield kind, body


def _split(block: bytes, header: int) -> Iterator[tuple[int, bytes]]:
    """Yield type and body of the messages in a block whose message headers have a given size."""
    width = 2 if header == 8 else 1
    at = 0
    while at + header <= len(block):
        kind = int.from_bytes(block[at : at + width], "little")
        size = int.from_bytes(block[at + width : at + width + 2], "little")
        yield kind, block[at + header : at + header + size]
        at += header + size


# --- Texts of variable length, read past libhdf5, which can loop for ever in a damaged heap ------
#
# The format is that of the HDF5 file format specification, section III.E: a collection is a list of
# objects, each with its length before it.


HEAP_SIGNATURE = b"GCOL"
#: Bytes of a collection and of a text, at most.
MAX_COLLECTION, MAX_TEXT = 2**24, 2**20
_HEADER = 16


class Heap:
    """The texts of a file.

    Parameters
    ----------
    read : callable
        Reads so many bytes at a place.
    size : int
        Bytes of the file: collections that do not overlap have no more.
    """

    def __init__(self, read: ReadAt, size: int) -> None:
        self._read, self._left = read, size
        self._collections: dict[int, dict[int, bytes]] = {}

    def text(self, reference: bytes) -> str:
        """Return the text behind the 16 bytes that stand for it in a dataset.

        Raises ValueError if there is none.
        """
        length, address, index = (
            int.from_bytes(reference[at:end], "little") for at, end in ((0, 4), (4, 12), (12, 16))
        )
        if length == 0 or address == 0:
            return ""
        if address not in self._collections:
            self._collections[address] = self._collection(address)
        code = self._collections[address].get(index, b"")
        if not length <= len(code) <= MAX_TEXT:
            raise ValueError("a text is missing")
        return code[:length].rstrip(b"\0").decode(errors="replace")

    def _collection(self, address: int) -> dict[int, bytes]:
        """Return the objects of a collection by their numbers."""
        head = self._read(address, _HEADER)
        size = int.from_bytes(head[8:16], "little")
        if head[:5] != HEAP_SIGNATURE + b"\1" or not _HEADER <= size <= MAX_COLLECTION:
            raise ValueError("texts are damaged")
        self._left -= size
        if self._left < 0:
            raise ValueError("texts are larger than their file")
        block = self._read(address, size)
        found, at = {}, _HEADER
        while at + _HEADER <= len(block):
            index = int.from_bytes(block[at : at + 2], "little")
            length = int.from_bytes(block[at + 8 : at + 16], "little")
            if index == 0:  # the free space at the end
                break
            found[index] = block[at + _HEADER : at + _HEADER + length]
            at += _HEADER + -(-length // 8) * 8
        return found
