"""The packets of one video that make up a clip, read from its source in decode order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from typing import BinaryIO, cast

import av
from av.packet import Packet
from av.stream import Stream

from consumers.clock import Deadline
from consumers.media.decode import open_video
from consumers.media.guard import GuardedStream
from consumers.media.reader import StreamView
from consumers.media.timeline import JITTER_S
from schemas.profile import Limits
from schemas.records import Span, Stage

FAULTS = (av.FFmpegError, ValueError, OverflowError)
"""What libav and PyAV raise where the data are at fault."""

SOUND_WARMUP_S = Fraction(1, 5)
"""Packets of sound so long before a clip are read as well: decoders need some to begin cleanly."""

_INDEXED = frozenset({"mov", "matroska", "avi"})
_MAX_AUDIO_LAG_S = 5
_MAX_REORDER_PACKETS = 64
_SEEK_BACK_S = (0, 2, 20)


class PacketSource:
    """One open video: its picture stream, as :func:`~consumers.media.decode.open_video` picks it, and its best sound.

    Args:
        stream: seekable; stays open and the caller's.
        limits: as in the pass over the same video.
        deadline: checked at every read and every packet.

    Attributes:
        video: the picture stream.
        audio: the sound stream, None without one that can be decoded.
        has_unknown_sound: there is sound, and no decoder for it.
        container_format: its name in libav.
        video_codec: name of the pictures' codec.

    Raises:
        VideoError: the video cannot be opened.
    """

    video: av.VideoStream
    audio: av.AudioStream | None
    has_unknown_sound: bool
    container_format: str
    video_codec: str

    def __init__(self, stream: BinaryIO, limits: Limits, deadline: Deadline) -> None:
        self._stream = stream
        self._limits = limits
        self._deadline = deadline
        self._open()

    def _open(self) -> None:
        self._guard = GuardedStream(cast(BinaryIO, StreamView(self._stream)), lambda: self._deadline.check(Stage.CUT))
        self._container, self.video = open_video(cast(BinaryIO, self._guard), self._limits)
        self.container_format = self._container.format.name
        self.video_codec = self.video.codec.canonical_name
        self._is_indexed = self.container_format.split(",")[0] in _INDEXED
        sound = self._container.streams.best("audio")
        # A broken header leaves a stream without a codec, whatever the type says.
        usable = isinstance(sound, av.AudioStream) and cast(object, sound.codec_context) is not None
        self.audio = cast(av.AudioStream, sound) if usable else None
        self.has_unknown_sound = self.audio is None and bool(self._container.streams.audio)

    def can_seek(self, span: Span) -> bool:
        """Return whether timestamps name places in this video: there is an index, and they never began anew."""
        origin = self.video.start_time or 0
        expected_s = float((span.start_pts - origin) * span.time_base)
        return self._is_indexed and abs(span.start_s - expected_s) <= JITTER_S

    def read(self, span: Span) -> Iterator[Packet[Stream]]:
        """Yield the packets of both streams from a keyframe before the span until nothing more belongs to it.

        Raises:
            DeadlineExceededError: no time left.
            ObjectUnavailableError: or whatever else the stream's ``read`` raised.
        """
        start, end = span.start_pts * span.time_base, span.end_pts * span.time_base
        video_done, audio_done = False, self.audio is None
        num_late = 0
        before: Packet[Stream] | None = None
        for packet in self._rewind(span):
            if packet.stream is self.video:
                if packet.pts is not None and packet.pts >= span.end_pts:
                    num_late += 1
                decoded_at = packet.dts if packet.dts is not None else packet.pts
                behind = decoded_at is not None and decoded_at >= span.end_pts
                video_done = video_done or behind or num_late > _MAX_REORDER_PACKETS
                if decoded_at is not None and decoded_at * span.time_base > end + _MAX_AUDIO_LAG_S:
                    audio_done = True
                if not video_done:
                    yield packet
            elif packet.pts is not None:
                begin = packet.pts * packet.time_base
                audio_done = audio_done or begin >= end
                if begin < end and begin + (packet.duration or 0) * packet.time_base > start - SOUND_WARMUP_S:
                    # Not every container says how long a packet lasts: the one before may reach into the clip.
                    if before is not None and not before.duration:
                        yield before
                    before = None
                    yield packet
                else:
                    before = packet
            if video_done and audio_done:
                return

    def read_all(self) -> Iterator[Packet[Stream]]:
        """Yield all packets of both streams from the front; to be called before anything else is read."""
        return self._demux()

    def _rewind(self, span: Span) -> Iterator[Packet[Stream]]:
        """Return the packets from a keyframe at or before the span, in decode order."""
        for back_s in _SEEK_BACK_S:
            try:
                target = span.start_pts - round(back_s / span.time_base)
                self._container.seek(target, stream=self.video, backward=True)
                packets = self._demux()
                ahead: list[Packet[Stream]] = []
                for packet in packets:
                    ahead.append(packet)
                    if packet.stream is self.video and packet.is_keyframe:
                        break
                first = ahead[-1] if ahead else None
            except FAULTS:
                continue
            if first is None or first.stream is not self.video or first.pts is None:
                continue
            if first.pts <= span.start_pts:
                return itertools.chain(ahead, packets)
        self._open()
        return self._demux()

    def _demux(self) -> Iterator[Packet[Stream]]:
        streams = [self.video] if self.audio is None else [self.video, self.audio]
        packets = self._container.demux(*streams)
        while True:
            self._deadline.check(Stage.CUT)
            try:
                packet = next(packets)
            except (StopIteration, *FAULTS):
                self._guard.raise_if_failed()
                return
            if packet.size:
                yield packet
