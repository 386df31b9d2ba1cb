"""Looks at each piece of an object before libav gets it, and at no more than the headers in it."""

from __future__ import annotations

from typing import BinaryIO, Final

from consumers.media.bounds import Bytes, size_of
from consumers.media.index_bounds import (
    EBML_MARK,
    FLV_MARK,
    MXF_HEADER_MARK,
    FlvBounds,
    MxfBounds,
    check_avi,
    check_matroska,
)
from consumers.media.mp4_bounds import Mp4Bounds

_MXF_RUN_IN_BYTES: Final = 65_536 + len(MXF_HEADER_MARK)
_HOPS_IN_PIECE: Final = 1_000_000
_HOPS_ELSEWHERE: Final = 64


class HeaderCheck:
    """Holds what the headers of one object declare against bounds, as the demuxer comes to them.

    It reads what the demuxer is about to read, by the same reader, whose windows hold it: nothing of the media, and of
    an MP4's index the places where its tables begin. Beyond what the demuxer reads itself that is 64 headers of up to
    16 bytes for a jump in the object, and one window for each table of an index that is longer than all windows.

    Args:
        stream: seekable; what it is positioned at stays the same.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._content = Bytes(stream, size_of(stream))
        self._mp4: Mp4Bounds | None = None
        self._marked: MxfBounds | FlvBounds | None = None
        self._is_begun = False
        self._end = 0
        self._tail = b""

    def look(self, start: int, piece: bytes) -> None:
        """Look at the headers that begin in ``piece``, which lies at ``start``. The stream's position is lost.

        Raises:
            IndexTooLargeError: one declares more than there can be.
            ObjectUnavailableError: or whatever else the stream's ``read`` raised.
        """
        self._content.hold(start, piece)
        try:
            if not self._is_begun:
                self._is_begun = True
                self._begin()
            if self._mp4 is not None:
                is_next = self._mp4.next_box is not None and self._mp4.next_box >= start
                self._mp4.follow(start + len(piece), _HOPS_IN_PIECE if is_next else _HOPS_ELSEWHERE)
            if self._marked is not None:
                # The mark of an index may lie across two pieces.
                before = self._tail if start == self._end else b""
                self._marked.look(start - len(before), before + piece)
                self._end, self._tail = start + len(piece), piece[-self._marked.longest_mark + 1 :]
        finally:
            self._content.hold(0, b"")

    def _begin(self) -> None:
        head = self._content.at(0, min(_MXF_RUN_IN_BYTES, self._content.size))
        if head.startswith(EBML_MARK):
            check_matroska(self._content)
        elif head.startswith(b"RIFF"):
            check_avi(self._content)
        elif MXF_HEADER_MARK in head:
            self._marked = MxfBounds(self._content)
        elif head.startswith(FLV_MARK):
            self._marked = FlvBounds(self._content)
        else:
            # Whatever it begins with: libav finds the boxes of an MP4 behind others, too.
            self._mp4 = Mp4Bounds(self._content)
