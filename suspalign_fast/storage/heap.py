"""Texts of variable length, read past libhdf5, which can loop for ever in a damaged heap.

The format is that of the HDF5 file format specification, section III.E: a collection is a list of
objects, each with its length before it.
"""

from .object_header import ReadAt

SIGNATURE = b"GCOL"
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

        Raises
        ------
        ValueError
            If there is none.
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
        if head[:5] != SIGNATURE + b"\1" or not _HEADER <= size <= MAX_COLLECTION:
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
