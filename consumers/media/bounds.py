"""Holds what a container's headers declare against what the object can hold, before libav reads them.

libav takes memory for what an index declares: 35 bytes for each sample, whether or not there are bytes for it, so that
an MP4 of 700 bytes takes 3 GB. Only the places that declare something are looked at: boxes of an MP4
(:mod:`~consumers.media.mp4_bounds`), elements of a Matroska, chunks of an AVI, index segments of an MXF
and the list of keyframes of an FLV (:mod:`~consumers.media.index_bounds`). Other containers are not looked into.
"""

from __future__ import annotations

import io
from typing import BinaryIO

from consumers.errors import IndexTooLargeError

MAX_INDEX_ENTRIES = 10_000_000
"""Samples that all tracks may declare together: five times the most frames that are taken, some 0.4 GB of memory."""
HARMLESS_COUNT = 1_000_000
"""A table that declares fewer entries than that, and holds less, is damaged; it takes no memory to speak of."""
MAX_INDEX_BYTES = 256 << 20
"""The longest index of an MP4 (its ``moov`` box), and the most that the attachments of a Matroska may take."""
MAX_UNPACKED_BYTES = 64 << 20
"""The longest index that an MP4 may have compressed, by what it declares and by what comes out."""


class Bytes:
    """Reads an object at places: from a piece that has been read already where it lies in that, else by range.

    Args:
        stream: seekable; its position is lost.
        size: of the object, in bytes.
    """

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self.size = size
        self._start = 0
        self._piece = b""

    def hold(self, start: int, piece: bytes) -> None:
        """Take the bytes at ``start`` from ``piece`` until the next call."""
        self._start, self._piece = start, piece

    def at(self, offset: int, count: int) -> bytes:
        """Return up to ``count`` bytes at ``offset``, fewer at the end of the object.

        Raises:
            ObjectUnavailableError: or whatever else the stream's ``read`` raised.
        """
        begin = offset - self._start
        if begin >= 0 and begin + count <= len(self._piece):
            return self._piece[begin : begin + count]
        self._stream.seek(offset)
        parts = []
        while count > 0 and (part := self._stream.read(count)):
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


class EntryCount:
    """Counts the entries that libav will make of one object, over all its indexes."""

    def __init__(self) -> None:
        self._total = 0

    def add(self, count: int, what: str) -> None:
        """Count ``count`` entries that ``what`` declares.

        Raises:
            IndexTooLargeError: they are too many by now.
        """
        self._total += count
        if self._total > MAX_INDEX_ENTRIES:
            others = f", with what was declared before {self._total:,}" if self._total > count else ""
            raise IndexTooLargeError(
                f"{what} declares {count:,} samples{others}; the limit is {MAX_INDEX_ENTRIES:,} in one object, as each "
                "takes memory before anything is decoded"
            )


def check_count(what: str, count: int, possible: int, holder: str) -> None:
    """Return unless a table declares far more entries than there is room for.

    Args:
        what: the table, for a person.
        count: entries that it declares.
        possible: entries for which there are bytes.
        holder: where those bytes are, for a person.

    Raises:
        IndexTooLargeError: it does.
    """
    if count > HARMLESS_COUNT and count > possible:
        raise IndexTooLargeError(f"{what} declares {count:,} entries, and {holder} can hold {possible:,} at most")


def size_of(stream: BinaryIO) -> int:
    """Return the length of ``stream`` in bytes; its position stays."""
    here = stream.tell()
    size = stream.seek(0, io.SEEK_END)
    stream.seek(here)
    return size
