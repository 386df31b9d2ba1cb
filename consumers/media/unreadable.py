"""Says why an object could not be opened as a video."""

from __future__ import annotations

import io
from typing import BinaryIO

from consumers.errors import NotAVideoError, TruncatedError, VideoError

_NUM_BOXES_LOOKED_AT = 64


def explain_unreadable(stream: BinaryIO, reason: str) -> VideoError:
    """Return the error that names what is wrong with an object that libav refused to open.

    Args:
        stream: seekable, over the whole object.
        reason: what libav said.

    Returns:
        A :class:`TruncatedError` for an MP4 or MOV whose boxes reach beyond the end of the object, else a
        :class:`NotAVideoError`.
    """
    num_bytes = stream.seek(0, io.SEEK_END)
    if num_bytes == 0:
        return NotAVideoError("the object is empty (0 bytes)")
    stream.seek(0)
    head = stream.read(16)
    if head[4:8] not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return NotAVideoError(f"not a video in a container that is understood ({num_bytes} bytes): {reason}")
    names, declared = _walk_boxes(stream, num_bytes)
    if declared > num_bytes:
        return TruncatedError(
            f"an MP4 or MOV cut off: its last box '{names[-1]}' ends at byte {declared}, the object at {num_bytes}"
        )
    if "moov" not in names:
        return NotAVideoError(
            f"an MP4 or MOV without its index (no 'moov' among its boxes: {', '.join(names)}), {num_bytes} bytes"
        )
    return NotAVideoError(f"an MP4 or MOV whose index cannot be read ({num_bytes} bytes): {reason}")


def _walk_boxes(stream: BinaryIO, num_bytes: int) -> tuple[list[str], int]:
    """Return the names of the top-level boxes and where the last of them ends by its own size."""
    names: list[str] = []
    offset = 0
    while offset < num_bytes and len(names) < _NUM_BOXES_LOOKED_AT:
        stream.seek(offset)
        header = stream.read(16)
        size = int.from_bytes(header[:4], "big")
        if size == 1 and len(header) == 16:
            size = int.from_bytes(header[8:16], "big")
        names.append(header[4:8].decode("latin-1", "replace"))
        if size == 0:
            return names, num_bytes
        offset += max(size, 8)
    return names, offset
