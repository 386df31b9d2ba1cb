"""Says why an object could not be opened as a video."""

from __future__ import annotations

import io
from typing import BinaryIO

from consumers.errors import EncryptedError, NotAVideoError, NoVideoStreamError, TruncatedError, VideoError
from consumers.media.encryption import looks_encrypted

_NUM_BOXES_LOOKED_AT = 64
_SNIFFED_BYTES = 64

_PICTURES = (
    (0, b"GIF8", "a GIF"),
    (8, b"WEBP", "a WebP picture or animation"),
    (0, b"\x89PNG", "a PNG picture or animation"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"BM", "a BMP picture"),
    (0, b"II*\0", "a TIFF picture"),
    (0, b"MM\0*", "a TIFF picture"),
    (4, b"ftypavif", "an AVIF picture"),
    (4, b"ftypheic", "a HEIC picture"),
)
_SOUND = (
    (0, b"ID3", "MP3"),
    (0, b"\xff\xfb", "MP3"),
    (0, b"\xff\xf3", "MP3"),
    (0, b"\xff\xf2", "MP3"),
    (0, b"\xff\xf1", "AAC"),
    (0, b"\xff\xf9", "AAC"),
    (0, b"fLaC", "FLAC"),
    (8, b"WAVE", "WAV"),
    (8, b"AIF", "AIFF"),
    (0, b"caff", "CAF"),
    (0, b"#!AMR", "AMR"),
    (0, b".snd", "AU"),
    (0, b"\x0b\x77", "AC-3"),
    (0, b"MThd", "MIDI"),
)
_OTHERS = (
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a ZIP archive or an office document"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"7z\xbc\xaf", "a 7z archive"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"#EXTM3U", "a playlist, which only names videos"),
    (0, b"ffconcat", "a list of files, which only names videos"),
    (0, b"<?xml", "an XML document"),
)


def explain_unreadable(stream: BinaryIO, reason: str) -> VideoError:
    """Return the error that names what is wrong with an object that libav refused to open.

    Args:
        stream: seekable, over the whole object.
        reason: what libav said.

    Returns:
        A :class:`TruncatedError` for an MP4 or MOV whose boxes reach beyond the end of the object, an
        :class:`EncryptedError` where it says that it is encrypted, a :class:`NoVideoStreamError` for a file of sound,
        else a :class:`NotAVideoError`.
    """
    num_bytes = stream.seek(0, io.SEEK_END)
    if num_bytes == 0:
        return NotAVideoError("the object is empty (0 bytes)")
    stream.seek(0)
    head = stream.read(_SNIFFED_BYTES)
    if (known := _recognised(head, num_bytes)) is not None:
        return known
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return _explain_mp4(stream, num_bytes, reason)
    if looks_encrypted(stream):
        return EncryptedError()
    return NotAVideoError(
        f"not a video in a container that is understood ({num_bytes} bytes{_looks_like_text(head)}): {reason}"
    )


def _explain_mp4(stream: BinaryIO, num_bytes: int, reason: str) -> VideoError:
    names, declared = _walk_boxes(stream, num_bytes)
    if declared > num_bytes:
        return TruncatedError(
            f"an MP4 or MOV cut off: its last box '{names[-1]}' ends at byte {declared}, the object at {num_bytes}"
        )
    if looks_encrypted(stream):
        return EncryptedError()
    if "moov" not in names:
        return NotAVideoError(
            f"an MP4 or MOV without its index (no 'moov' among its boxes: {', '.join(names)}), {num_bytes} bytes"
        )
    return NotAVideoError(f"an MP4 or MOV whose index cannot be read ({num_bytes} bytes): {reason}")


def _recognised(head: bytes, num_bytes: int) -> VideoError | None:
    for offset, mark, name in _SOUND:
        if head[offset:].startswith(mark):
            return NoVideoStreamError(f"a file of sound alone ({name}, {num_bytes} bytes): there is no picture in it")
    for offset, mark, name in _PICTURES:
        if head[offset:].startswith(mark):
            return NotAVideoError(f"{name}, not a video ({num_bytes} bytes); where it moves, convert it to MP4 first")
    for offset, mark, name in _OTHERS:
        if head[offset:].startswith(mark):
            return NotAVideoError(f"{name}, not a video ({num_bytes} bytes)")
    return None


def _looks_like_text(head: bytes) -> str:
    printable = sum(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)
    return ", it looks like text" if printable == len(head) else ""


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
