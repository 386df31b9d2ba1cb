"""The sound of a clip: which packets of the source hold it, and how it gets into the MP4."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

import av
from av.packet import Packet
from av.stream import Stream

from consumers.clock import Deadline
from consumers.media.aac import encode_aac
from consumers.media.mp4 import Mp4Writer
from consumers.media.packets import FAULTS, SOUND_WARMUP_S, PacketSource
from consumers.media.spool import PacketQueue
from consumers.media.timeline import Timeline, longest_gap_s
from schemas.profile import Limits
from schemas.records import Span

_AUDIO_IN_MP4 = frozenset({"aac", "mp3", "opus", "ac3", "eac3", "alac", "flac"})
_MAX_LAG_S = 10
_AUDIBLE_S = Fraction(1, 10)
_MAX_EARLY_PACKETS = 4096
_NOMINAL_FRAME_S = 0.04


@dataclass(slots=True)
class Sound:
    """Packets for the clip, and which part of it they cover, in seconds from its start."""

    packets: Iterable[Packet[Stream]]
    begin_s: Fraction
    end_s: Fraction


class ClipSound:
    """The source's packets of sound around one clip.

    Args:
        stream: they belong to.
        span: the clip.
    """

    def __init__(self, stream: av.AudioStream | None, span: Span) -> None:
        self._stream = stream
        self._start_s, self._end_s = span.start_pts * span.time_base, span.end_pts * span.time_base
        self._packets = PacketQueue()
        self._first_s: Fraction | None = None
        self._last_s = self._start_s

    def add(self, packet: Packet[Stream]) -> None:
        """Take the next packet."""
        self._packets.append(packet)
        begin_s = (packet.pts or 0) * packet.time_base
        end_s = begin_s + (packet.duration or 0) * packet.time_base
        if self._first_s is None or end_s <= self._start_s:
            self._first_s = begin_s
        self._last_s = max(self._last_s, begin_s, end_s)

    @property
    def begin_s(self) -> Fraction:
        """Where the source's sound begins, in seconds from the start of the clip."""
        first_s = self._end_s if self._first_s is None else self._first_s
        return max(Fraction(0), first_s - self._start_s)

    @property
    def end_s(self) -> Fraction:
        """Where it ends."""
        return min(self._last_s, self._end_s) - self._start_s

    def lost_s(self, sound: Sound | None) -> Fraction:
        """Return how much of the source's sound ``sound`` lacks, 0 where that cannot be heard."""
        written_s = Fraction(0) if sound is None else sound.end_s - sound.begin_s
        lost_s = self.end_s - self.begin_s - written_s
        return lost_s if lost_s > _AUDIBLE_S else Fraction(0)

    def write(self, writer: Mp4Writer, *, encodes: bool) -> Sound | None:
        """Add the sound to ``writer``, copied where MP4 can hold it and ``encodes`` is False; None where there is none.

        To be called once: the packets are used up.

        Raises:
            av.FFmpegError: the muxer or the encoder refused it.
        """
        if self._stream is None or not self._packets:
            return None
        if encodes or self._stream.codec.canonical_name not in _AUDIO_IN_MP4:
            encoded = encode_aac(writer.container, self._frames(self._stream), start_s=self._start_s, end_s=self._end_s)
            return None if encoded is None else Sound(encoded.packets.drain(), encoded.begin_s, encoded.end_s)
        heard = (p for p in self._packets.drain() if _end_s(p) > self._start_s)
        first = next(heard, None)
        if first is None:
            return None
        stream = writer.container.add_stream_from_template(self._stream, opaque=True)
        start_s = self._start_s

        def shifted() -> Iterator[Packet[Stream]]:
            for packet in itertools.chain([first], heard):
                offset = round(start_s / packet.time_base)
                packet.stream = stream
                packet.pts = (packet.pts or 0) - offset
                packet.dts = packet.dts - offset if packet.dts is not None else packet.pts
                yield packet

        return Sound(shifted(), self.begin_s, self.end_s)

    def _frames(self, stream: av.AudioStream) -> Iterator[av.AudioFrame]:
        stream.codec_context.flush_buffers()
        for packet in itertools.chain(self._packets.drain(), [None]):
            try:
                frames = stream.codec_context.decode(packet)
            except FAULTS:
                continue
            for number, frame in enumerate(frames):
                if packet is not None and number == 0 and frame.pts is None and packet.pts is not None:
                    # Of a packet's first frame the decoder does not always tell what the packet does.
                    frame.pts, frame.time_base = packet.pts, packet.time_base
                if isinstance(frame, av.AudioFrame):
                    yield frame


def _end_s(packet: Packet[Stream]) -> Fraction:
    return ((packet.pts or 0) + (packet.duration or 0)) * packet.time_base


class SoundInOrder:
    """Reads a video's sound from front to back, where timestamps do not name places.

    Where a clock begins anew, a packet of sound belongs to the stretch whose pictures, read around it, are near in
    time. Ask for clips in order of time.

    Args:
        stream: seekable; stays open and the caller's.
        limits: as in the pass over the same video.
        deadline: checked at every read and every packet.

    Attributes:
        audio: the stream of sound.
    """

    def __init__(self, stream: BinaryIO, limits: Limits, deadline: Deadline) -> None:
        source = PacketSource(stream, limits, deadline)
        self._video = source.video
        self.audio = source.audio
        self._packets = source.read_all()
        self._timeline = Timeline(
            Fraction(self._video.time_base or 1), _NOMINAL_FRAME_S, longest_gap_s(source.container_format)
        )
        self._segment = self._sound_segment = 0
        # Where the pictures of the present stretch begin, how far they have been read, and where those before ended.
        self._start_s: Fraction | None = None
        self._reached_s: Fraction | None = None
        self._before_s: Fraction | None = None
        # Read, but of a stretch that has not begun or a clip that is still to come.
        self._early: deque[Packet[Stream]] = deque(maxlen=_MAX_EARLY_PACKETS)
        self._placed: deque[tuple[int, Packet[Stream]]] = deque()

    def read(self, span: Span, segment: int) -> Iterator[Packet[Stream]]:
        """Yield the packets of sound around ``span``, in the stretch ``segment``: how often the clock began anew."""
        start_s = span.start_pts * span.time_base - SOUND_WARMUP_S
        end_s = span.end_pts * span.time_base
        self._forget(segment, start_s)
        index = 0
        while True:
            while index < len(self._placed):
                number, packet = self._placed[index]
                begin_s = (packet.pts or 0) * packet.time_base
                if number > segment or (number == segment and begin_s >= end_s):
                    return
                index += 1
                if number == segment and _end_s(packet) > start_s:
                    yield packet
                # Those just before its end the next clip needs as well.
                index -= self._forget(segment, begin_s - SOUND_WARMUP_S)
            if self._is_behind(segment, end_s) or not self._advance():
                return

    def _forget(self, segment: int, before_s: Fraction) -> int:
        """Drop what ends before a time of the stretch, and all of the stretches before; return how many that were."""
        num_dropped = 0
        while self._placed and (self._placed[0][0], _end_s(self._placed[0][1])) <= (segment, before_s):
            self._placed.popleft()
            num_dropped += 1
        return num_dropped

    def _is_behind(self, segment: int, end_s: Fraction) -> bool:
        """Return whether nothing more can belong to what ends at ``end_s`` of the stretch."""
        reached_s = self._reached_s
        if reached_s is None or self._segment < segment:
            return False
        lag_s = reached_s - end_s if self._segment == segment else reached_s - (self._start_s or 0)
        return lag_s > _MAX_LAG_S

    def _advance(self) -> bool:
        """Read one packet more; False at the end."""
        packet = next(self._packets, None)
        if packet is None:
            has_more = bool(self._early)
            self._placed.extend((self._segment, early) for early in self._early)
            self._early.clear()
            return has_more
        if packet.stream is self._video:
            self._note(packet)
            while self._early and (number := self._segment_of(self._early[0])) is not None:
                self._placed.append((number, self._early.popleft()))
        elif packet.pts is not None:
            number = None if self._early else self._segment_of(packet)
            if number is None:
                self._early.append(packet)
            else:
                self._placed.append((number, packet))
        return True

    def _note(self, packet: Packet[Stream]) -> None:
        # By the times that the pass goes by, so that both count the same new beginnings.
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None:
            return
        place = self._timeline.place(stamp, packet.duration, is_keyframe=packet.is_keyframe)
        now_s = stamp * packet.time_base
        if place.jumped:
            self._segment += 1
            self._before_s, self._start_s = self._reached_s, now_s
        elif self._start_s is None:
            self._start_s = now_s
        self._reached_s = now_s

    def _segment_of(self, packet: Packet[Stream]) -> int | None:
        """Return the stretch that a packet belongs to, None if that has not begun."""
        if self._reached_s is None or self._start_s is None:
            return None
        begin_s = (packet.pts or 0) * packet.time_base
        here_s = abs(begin_s - self._reached_s)
        # Sound keeps its order: once it has followed the pictures into a stretch, no more of the one before comes.
        if self._before_s is not None and self._sound_segment < self._segment:
            before_s = abs(begin_s - self._before_s)
            if before_s < here_s and before_s <= _MAX_LAG_S:
                return self._segment - 1
        if here_s <= _MAX_LAG_S or self._start_s <= begin_s <= self._reached_s:
            self._sound_segment = self._segment
            return self._segment
        return None
