"""How a dataset is laid out, read from the bytes of its object header before libhdf5 opens it.

Opening a virtual dataset makes libhdf5 read a heap, and it can loop for ever in a damaged one.
The format is that of the HDF5 file format specification, sections IV.A.1 and IV.A.2.
"""

from collections.abc import Callable, Iterator

COMPACT, CONTIGUOUS, CHUNKED = range(3)
_LAYOUT, _CONTINUATION = 0x08, 0x10
_MAX_BLOCKS, _MAX_BYTES = 256, 2**22

#: Reads so many bytes at a place of the file.
ReadAt = Callable[[int, int], bytes]


def layout_classes(read: ReadAt, address: int) -> list[int]:
    """Return the classes of all layout messages of an object.

    Raises
    ------
    ValueError
        If the header is not one of a known version.
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
