"""The shape of each picture's pixels."""

from __future__ import annotations

from fractions import Fraction

from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

_MAX_REORDERED = 16


class PixelAspects:
    """The aspect of each picture's pixels.

    What the container says holds throughout. Else it is the picture's own, which changes in mid-stream where a
    broadcast goes from one programme to the next. PyAV shows only the decoder's, which is ahead of the pictures that it
    gives: a change waits for the picture of the packet that brought it.

    Args:
        stream: opened, nothing decoded yet.
    """

    def __init__(self, stream: VideoStream) -> None:
        self._context = stream.codec_context
        self._current = stream.sample_aspect_ratio or None
        self._is_fixed = self._current != (self._context.sample_aspect_ratio or None)
        self._next: tuple[int | None, Fraction | None] | None = None
        self._num_waited = 0

    def note(self, packet: Packet[Stream]) -> None:
        """Look at the decoder after a packet that may have changed it."""
        if self._is_fixed:
            return
        coded = self._context.sample_aspect_ratio or None
        if coded != (self._current if self._next is None else self._next[1]):
            self._next, self._num_waited = (packet.pts, coded), 0

    def of(self, image: VideoFrame) -> Fraction | None:
        """Return the aspect of the next picture that the decoder has given."""
        if self._next is not None:
            self._num_waited += 1
            if self._next[0] in {None, image.pts} or self._num_waited > _MAX_REORDERED:
                self._current, self._next = self._next[1], None
        return self._current
