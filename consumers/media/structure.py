"""Whether a container is all there, by what it says of its own length in bytes."""

from __future__ import annotations

import io
from typing import BinaryIO, Final

_EBML: Final = 0x1A45DFA3
_SEGMENT: Final = 0x18538067
_MAX_CHUNKS: Final = 4096


def is_whole(stream: BinaryIO) -> bool:
    """Return whether a container states its length in bytes and the object has as many.

    What its clock declares can be longer than its data in an AVI that ends with frames dropped by its writer, or in a
    Matroska file that starts late. False for other containers, and where no length is stated.

    Args:
        stream: seekable, over the whole object; its position is lost.

    Raises:
        ObjectUnavailableError: or whatever else the stream's ``read`` raised.
    """
    num_bytes = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    head = stream.read(4)
    if head == b"RIFF":
        return _is_whole_riff(stream, num_bytes)
    if head == _EBML.to_bytes(4, "big"):
        return _is_whole_matroska(stream, num_bytes)
    return False


def _is_whole_riff(stream: BinaryIO, num_bytes: int) -> bool:
    """Follow the chunks: one up to 1 GB, further ones beyond. An index, which is written last, closes the first."""
    offset = end = 0
    for _ in range(_MAX_CHUNKS):
        if offset + 8 > num_bytes:
            break
        stream.seek(offset)
        header = stream.read(8)
        size = int.from_bytes(header[4:8], "little")
        if header[:4] != b"RIFF" or size == 0:
            break
        end = offset + 8 + size
        offset = end + size % 2
    return 0 < end <= num_bytes


def _is_whole_matroska(stream: BinaryIO, num_bytes: int) -> bool:
    offset = 0
    for _ in range(2):
        stream.seek(offset)
        header = stream.read(12)
        element, after_id = _vint(header, keeps_marker=True)
        size, header_bytes = _vint(header[after_id:], keeps_marker=False)
        if size is None:
            return False
        offset += after_id + header_bytes + size
        if element == _SEGMENT:
            return offset <= num_bytes
    return False


def _vint(data: bytes, *, keeps_marker: bool) -> tuple[int | None, int]:
    """Return EBML's number at the start of ``data``, None where it is unknown, and its length (RFC 8794, section 4)."""
    length = 9 - int(data[0]).bit_length() if data and data[0] else 9
    if length > 8 or len(data) < length:
        return None, length
    value = int.from_bytes(data[:length], "big")
    if keeps_marker:
        return value, length
    value &= (1 << (7 * length)) - 1
    return (None if value == (1 << (7 * length)) - 1 else value), length
