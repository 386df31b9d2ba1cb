"""Cutting one clip out of a video: exact to the frame, with its sound, as an MP4 in memory."""

from __future__ import annotations

import io
import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO, Literal, cast

import av
from av.packet import Packet
from av.stream import Stream

from consumers.clock import Deadline
from consumers.errors import CutFailedError, NoFramesError, TruncatedError
from consumers.media.decode import VideoDecoder, open_video
from consumers.media.encode import encode_aac, encode_h264
from consumers.media.guard import GuardedStream
from consumers.media.mp4 import Mp4Writer, track_timescale
from consumers.media.reader import StreamView
from consumers.media.timeline import JITTER_S
from schemas.profile import Limits
from schemas.records import CutMethod, Span, Stage

CutMode = Literal["auto", "h264", "copy", "none"]

_VIDEO_IN_MP4 = frozenset({"h264", "hevc", "av1", "vp9", "mpeg4"})
_AUDIO_IN_MP4 = frozenset({"aac", "mp3", "opus", "ac3", "eac3", "alac", "flac"})
_INDEXED = frozenset({"mov", "matroska", "avi"})
_MAX_AUDIO_LAG_S = 5
_MAX_REORDER_PACKETS = 64
_SEEK_BACK_S = (0, 2, 20)
_SOUND_WARMUP_S = Fraction(1, 5)
_FAULTS = (av.FFmpegError, ValueError, OverflowError)


@dataclass(frozen=True, slots=True)
class CutResult:
    """A clip's bytes.

    Attributes:
        data: an MP4 with its index first; None for :attr:`CutMethod.REFERENCE`.
        method: how it came about.
        num_frames: frames that a player shows.
        num_hidden_frames: frames in the bytes that the edit list hides: from the keyframe before the clip up to it, and
            those after its end that its last frames refer to. 0 unless ``method`` is :attr:`CutMethod.EDIT_LIST`.
        has_audio: whether there is sound.
    """

    data: bytes | None
    method: CutMethod
    num_frames: int
    num_hidden_frames: int
    has_audio: bool


class ClipCutter:
    """Cuts clips out of one video. Ask in order of time: the source is then read once from front to back.

    ``auto`` copies the packets where that is exact and clean: the clip begins on a closed keyframe, ends where no
    packet of a neighbour is needed to decode it, the codec fits MP4, and decoding the result gives the expected number
    of frames. Everywhere else it encodes again. ``copy`` copies from the keyframe before and hides the surplus with an
    edit list, and encodes again where the codec does not fit MP4 or the result does not decode. Sound is copied packet
    by packet, or encoded as AAC where MP4 cannot hold it; sound that cannot be decoded is left out.

    Args:
        stream: seekable; stays open and the caller's. Not touched if ``mode`` is ``none``.
        mode: as in :class:`~schemas.profile.ClipOutputParams`.
        deadline: checked while cutting.
        limits: as in the pass over the same video; the defaults if None.

    Raises:
        VideoError: the video cannot be opened, as :func:`~consumers.media.decode.open_video`.
    """

    def __init__(self, stream: BinaryIO, mode: CutMode, deadline: Deadline, limits: Limits | None = None) -> None:
        self._stream = stream
        self._mode = mode
        self._deadline = deadline
        self._limits = limits or Limits()
        self._in_order: _InOrder | None = None
        if mode != "none":
            self._open()

    def cut(self, span: Span, *, starts_on_keyframe: bool) -> CutResult:
        """Return the clip of ``span``.

        Args:
            span: from the pass over the same video.
            starts_on_keyframe: whether the pass saw a keyframe at its start; without, no exact copy is tried.

        Raises:
            CutFailedError: not one frame of the span can be decoded, or no MP4 can be made of it.
            DeadlineExceededError: the deadline passed.
        """
        if self._mode == "none":
            return CutResult(None, CutMethod.REFERENCE, span.end_frame - span.start_frame, 0, False)
        try:
            result = None
            if self._video_codec in _VIDEO_IN_MP4 and self._can_seek(span):
                if self._mode == "copy":
                    result = self._copy(span, exact=False)
                elif self._mode == "auto" and starts_on_keyframe:
                    result = self._copy(span, exact=True)
            return result or self._encode(span)
        except _FAULTS as error:
            raise CutFailedError(
                f"the clip from {span.start_s:.3f} to {span.end_s:.3f} s could not be cut: {error}"
            ) from error

    def _open(self) -> None:
        self._guard = GuardedStream(cast(BinaryIO, StreamView(self._stream)), lambda: self._deadline.check(Stage.CUT))
        self._container, self._video = open_video(cast(BinaryIO, self._guard), self._limits)
        self._video_codec = self._video.codec.canonical_name
        self._is_indexed = self._container.format.name.split(",")[0] in _INDEXED
        sound = self._container.streams.best("audio")
        # A broken header leaves a stream without a codec, whatever the type says.
        usable = isinstance(sound, av.AudioStream) and cast(object, sound.codec_context) is not None
        self._audio = cast(av.AudioStream, sound) if usable else None

    def _can_seek(self, span: Span) -> bool:
        """Return whether timestamps name places in this video: there is an index, and they never began anew."""
        origin = self._video.start_time or 0
        expected_s = float((span.start_pts - origin) * span.time_base)
        return self._is_indexed and abs(span.start_s - expected_s) <= JITTER_S

    # -- reading ---------------------------------------------------------------------------------------------------

    def _rewind(self, span: Span) -> Iterator[Packet[Stream]]:
        """Return the packets from a keyframe at or before the span, in decode order."""
        for back_s in _SEEK_BACK_S:
            try:
                target = span.start_pts - round(back_s / span.time_base)
                self._container.seek(target, stream=self._video, backward=True)
                packets = self._demux()
                ahead: list[Packet[Stream]] = []
                for packet in packets:
                    ahead.append(packet)
                    if packet.stream is self._video and packet.is_keyframe:
                        break
                first = ahead[-1] if ahead else None
            except _FAULTS:
                continue
            if first is None or first.stream is not self._video or first.pts is None:
                continue
            if first.pts <= span.start_pts:
                return itertools.chain(ahead, packets)
        self._open()
        return self._demux()

    def _demux(self) -> Iterator[Packet[Stream]]:
        streams = [self._video] if self._audio is None else [self._video, self._audio]
        packets = self._container.demux(*streams)
        while True:
            self._deadline.check(Stage.CUT)
            try:
                packet = next(packets)
            except (StopIteration, *_FAULTS):
                self._guard.raise_if_failed()
                return
            if packet.size:
                yield packet

    def _read(self, span: Span) -> Iterator[Packet[Stream]]:
        """Yield the packets of both streams from a keyframe before the span until nothing more belongs to it."""
        start, end = span.start_pts * span.time_base, span.end_pts * span.time_base
        video_done, audio_done = False, self._audio is None
        num_late = 0
        for packet in self._rewind(span):
            if packet.stream is self._video:
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
                if begin < end and begin + (packet.duration or 0) * packet.time_base > start - _SOUND_WARMUP_S:
                    yield packet
            if video_done and audio_done:
                return

    # -- copying ---------------------------------------------------------------------------------------------------

    def _copy(self, span: Span, *, exact: bool) -> CutResult | None:
        """Return the clip made of the source's own packets, or None where that would not be right."""
        video: list[Packet[Stream]] = []
        audio: list[Packet[Stream]] = []
        num_needed = 0
        for packet in self._read(span):
            if packet.stream is not self._video:
                audio.append(packet)
                continue
            if packet.pts is None or packet.dts is None:
                return None
            if packet.is_keyframe and packet.pts <= span.start_pts:
                video.clear()
            video.append(packet)
            if span.start_pts <= packet.pts < span.end_pts:
                num_needed = len(video)
        video = video[:num_needed]
        if not video or not video[0].is_keyframe:
            return None
        first_pts = video[0].pts or 0
        # Pictures shown before their keyframe need the one before that; the clip does not.
        video = [packet for packet in video if (packet.pts or 0) >= first_pts]
        num_hidden = sum(not span.start_pts <= (packet.pts or 0) < span.end_pts for packet in video)
        num_frames = len(video) - num_hidden
        if exact and (num_hidden or num_frames != num_needed or not _is_closed(video[0], self._video_codec)):
            return None
        packets = deque(video)
        video.clear()
        data, has_audio = self._remux(span, packets, audio, hides=num_hidden > 0)
        if num_frames != span.end_frame - span.start_frame or self._count(data) != num_frames:
            return None
        method = CutMethod.STREAM_COPY if num_hidden == 0 else CutMethod.EDIT_LIST
        return CutResult(data, method, num_frames, num_hidden, has_audio)

    def _remux(
        self, span: Span, video: deque[Packet[Stream]], audio: list[Packet[Stream]], *, hides: bool
    ) -> tuple[bytes, bool]:
        timescale = track_timescale(span.time_base)
        writer = Mp4Writer(timescale)
        stream = writer.container.add_stream_from_template(self._video, opaque=True)
        for packet in video:
            _shift(packet, stream, span.start_pts)
        sound = self._sound(span, writer, audio)
        audio.clear()
        has_audio = bool(sound)
        shown = int((span.end_pts - span.start_pts) * span.time_base * timescale)
        return writer.finish(video, sound, shown=shown if hides else None), has_audio

    def _count(self, data: bytes) -> int:
        """Return how many frames decode from ``data``, -1 where one does not."""
        count = 0
        with av.open(io.BytesIO(data), mode="r") as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            try:
                for frame in container.decode(stream):
                    self._deadline.check(Stage.CUT)
                    if frame.is_corrupt or (count == 0 and frame.pts != 0):
                        return -1
                    count += 1
            except av.FFmpegError:
                return -1
        return count

    # -- encoding --------------------------------------------------------------------------------------------------

    def _encode(self, span: Span) -> CutResult:
        if self._can_seek(span):
            audio: list[Packet[Stream]] = []
            result = self._encode_frames(span, self._frames_by_time(span, audio), audio)
            if result is not None and result.num_frames == span.end_frame - span.start_frame:
                return result
            audio = [packet for packet in self._read(span) if packet.stream is not self._video]
        else:
            audio = []
        # Damage, or timestamps that cannot be trusted: count frames from the beginning, as the pass did.
        if self._in_order is None or self._in_order.next_index > span.start_frame:
            self._in_order = _InOrder(self._stream, self._limits, self._deadline)
        result = self._encode_frames(span, self._in_order.frames(span), audio)
        if result is None:
            raise CutFailedError(f"not one frame from {span.start_s:.3f} to {span.end_s:.3f} s could be decoded")
        return result

    def _encode_frames(
        self, span: Span, frames: Iterator[av.VideoFrame], audio: list[Packet[Stream]]
    ) -> CutResult | None:
        writer = Mp4Writer()
        video, num_frames = encode_h264(
            writer.container,
            frames,
            start_pts=span.start_pts,
            end_pts=span.end_pts,
            time_base=span.time_base,
            rate=self._video.average_rate,
            pixel_aspect=self._video.sample_aspect_ratio,
        )
        if not num_frames:
            return None
        sound = self._sound(span, writer, audio)
        has_audio = bool(sound)
        return CutResult(writer.finish(video, sound), CutMethod.REENCODE_H264, num_frames, 0, has_audio)

    def _frames_by_time(self, span: Span, audio: list[Packet[Stream]]) -> Iterator[av.VideoFrame]:
        """Yield the frames of the span up to the first damage; packets of sound met on the way go to ``audio``."""
        context = self._video.codec_context
        try:
            for packet in self._read(span):
                if packet.stream is not self._video:
                    audio.append(packet)
                    continue
                for frame in context.decode(packet):
                    if frame.is_corrupt:
                        return
                    if _is_within(span, frame):
                        yield frame
            for frame in context.decode(None):
                if _is_within(span, frame):
                    yield frame
        except av.FFmpegError:
            return

    def _sound(self, span: Span, writer: Mp4Writer, audio: list[Packet[Stream]]) -> deque[Packet[Stream]]:
        """Add the sound of the span to ``writer`` and return its packets, none where there is none."""
        if self._audio is None or not audio:
            return deque()
        start, end = span.start_pts * span.time_base, span.end_pts * span.time_base
        if self._audio.codec.canonical_name in _AUDIO_IN_MP4:
            overlapping = [p for p in audio if ((p.pts or 0) + (p.duration or 0)) * p.time_base > start]
            if overlapping:
                stream = writer.container.add_stream_from_template(self._audio, opaque=True)
                for packet in overlapping:
                    _shift(packet, stream, round(start / packet.time_base))
            return deque(overlapping)
        return encode_aac(writer.container, self._audio_frames(audio), start_s=start, end_s=end)

    def _audio_frames(self, audio: list[Packet[Stream]]) -> Iterator[av.AudioFrame]:
        for packet in [*audio, None]:
            try:
                frames = self._audio.codec_context.decode(packet) if self._audio else []
            except _FAULTS:
                continue
            yield from (frame for frame in frames if isinstance(frame, av.AudioFrame))


class _InOrder:
    """One decode from front to back that serves clip after clip by frame number."""

    def __init__(self, stream: BinaryIO, limits: Limits, deadline: Deadline) -> None:
        self._frames = VideoDecoder(cast(BinaryIO, StreamView(stream)), limits, deadline).frames()
        self.next_index = 0

    def frames(self, span: Span) -> Iterator[av.VideoFrame]:
        """Yield the undamaged frames of ``span``, which must not begin before :attr:`next_index`."""
        while self.next_index < span.end_frame:
            try:
                frame = next(self._frames)
            except (StopIteration, TruncatedError, NoFramesError):
                return
            self.next_index = frame.index + 1
            if frame.index >= span.start_frame and frame.is_usable:
                frame.image.pts = frame.pts
                yield frame.image


def _is_within(span: Span, frame: av.VideoFrame) -> bool:
    return frame.pts is not None and span.start_pts <= frame.pts < span.end_pts


def _shift(packet: Packet[Stream], stream: Stream, start: int) -> None:
    packet.stream = stream
    packet.pts = (packet.pts or 0) - start
    packet.dts = packet.dts - start if packet.dts is not None else packet.pts


def _is_closed(packet: Packet[Stream], codec: str) -> bool:
    """Return whether nothing from this keyframe on refers to a picture before it.

    H.264 also marks open recovery points as keyframes; only an IDR picture (NAL unit type 5) cuts all references.
    """
    return codec != "h264" or 5 in _nal_types(bytes(packet))


def _nal_types(data: bytes) -> set[int]:
    """Return the H.264 NAL unit types in a packet, whether framed by 4-byte lengths or by start codes."""
    if data[:4] == b"\x00\x00\x00\x01" or data[:3] == b"\x00\x00\x01":
        return {part[0] & 31 for part in data.split(b"\x00\x00\x01")[1:] if part}
    types = set()
    position = 0
    while position + 4 < len(data):
        types.add(data[position + 4] & 31)
        position += 4 + int.from_bytes(data[position : position + 4], "big")
    return types
