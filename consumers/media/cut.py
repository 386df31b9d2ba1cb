"""Cutting one clip out of a video: exact to the frame, with its sound, as an MP4."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import IO, BinaryIO, Literal, cast

import av
from av.packet import Packet
from av.stream import Stream

from consumers.clock import Deadline
from consumers.errors import CutFailedError, NoFramesError, TruncatedError
from consumers.media.copying import CopySelection
from consumers.media.decode import VideoDecoder
from consumers.media.encode import encode_aac, encode_h264
from consumers.media.mp4 import Mp4Writer, track_timescale
from consumers.media.packets import FAULTS, PacketSource
from consumers.media.reader import StreamView
from consumers.media.spool import PacketQueue
from schemas.profile import Limits
from schemas.records import CutMethod, Span, Stage

CutMode = Literal["auto", "h264", "copy", "none"]

_VIDEO_IN_MP4 = frozenset({"h264", "hevc", "av1", "vp9", "mpeg4"})
_AUDIO_IN_MP4 = frozenset({"aac", "mp3", "opus", "ac3", "eac3", "alac", "flac"})


@dataclass(frozen=True, slots=True)
class CutResult:
    """A clip.

    Attributes:
        file: an MP4 with its index first, at position 0, for the caller to close; in memory while it is small, else in
            an unnamed temporary file. None for :attr:`CutMethod.REFERENCE`.
        size_bytes: its length.
        method: how it came about.
        num_frames: frames that a player shows.
        num_hidden_frames: frames in the bytes that the edit list hides: from the keyframe before the clip up to it, and
            those after its end that its last frames refer to. 0 unless ``method`` is :attr:`CutMethod.EDIT_LIST`.
        has_audio: whether there is sound.
    """

    file: IO[bytes] | None
    size_bytes: int
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

    Memory is bounded whatever the length of a clip: packets and result move to temporary files as they grow.

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
        self._deadline = deadline
        self._limits = limits or Limits()
        self._mode = mode
        self._in_order: _InOrder | None = None
        self._source = PacketSource(stream, self._limits, deadline) if mode != "none" else None

    def cut(
        self,
        span: Span,
        *,
        starts_on_keyframe: bool,
        pixel_aspect: Fraction | None = None,
        has_guessed_times: bool = False,
    ) -> CutResult:
        """Return the clip of ``span``.

        Args:
            span: from the pass over the same video.
            starts_on_keyframe: whether the pass saw a keyframe at its start; without, no exact copy is tried.

            pixel_aspect: width of the clip's pixels over their height before turning, square if None.
            has_guessed_times: the packets' timestamps are not the frames' times: frames are counted, none copied.

        Raises:
            CutFailedError: not one frame of the span can be decoded, or no MP4 can be made of it.
            DeadlineExceededError: the deadline passed.
        """
        if self._source is None:
            return CutResult(None, 0, CutMethod.REFERENCE, span.end_frame - span.start_frame, 0, False)
        try:
            result = None
            by_time = not has_guessed_times and self._source.can_seek(span)
            if self._source.video_codec in _VIDEO_IN_MP4 and by_time:
                if self._mode == "copy":
                    result = self._copy(self._source, span, exact=False)
                elif self._mode == "auto" and starts_on_keyframe:
                    result = self._copy(self._source, span, exact=True)
            return result or self._encode(self._source, span, pixel_aspect, by_time=by_time)
        except FAULTS as error:
            raise CutFailedError(
                f"the clip from {span.start_s:.3f} to {span.end_s:.3f} s could not be cut: {error}"
            ) from error

    # -- copying ---------------------------------------------------------------------------------------------------

    def _copy(self, source: PacketSource, span: Span, *, exact: bool) -> CutResult | None:
        """Return the clip made of the source's own packets, or None where that would not be right."""
        selection, audio = CopySelection(span), PacketQueue()
        for packet in source.read(span):
            if packet.stream is not source.video:
                audio.append(packet)
                continue
            if packet.pts is None or packet.dts is None:
                return None
            selection.add(packet, packet.pts)
        num_frames, num_hidden = selection.num_shown, selection.num_hidden
        if num_frames != span.end_frame - span.start_frame:
            return None
        if exact and not selection.is_clean(source.video_codec):
            return None
        file, has_audio = self._remux(source, span, selection.packets, audio, hides=num_hidden > 0)
        if self._count(file) != num_frames:
            file.close()
            return None
        method = CutMethod.STREAM_COPY if num_hidden == 0 else CutMethod.EDIT_LIST
        return _result(file, method, num_frames, num_hidden, has_audio)

    def _remux(
        self, source: PacketSource, span: Span, video: PacketQueue, audio: PacketQueue, *, hides: bool
    ) -> tuple[IO[bytes], bool]:
        timescale = track_timescale(span.time_base)
        writer = Mp4Writer(timescale)
        stream = writer.container.add_stream_from_template(source.video, opaque=True)
        pictures = (_shifted(packet, stream, span.start_pts) for packet in video.drain())
        sound = _sound(source, span, writer, audio)
        shown = int((span.end_pts - span.start_pts) * span.time_base * timescale)
        file = writer.finish(pictures, sound or (), shown=shown if hides else None)
        return file, sound is not None

    def _count(self, file: IO[bytes]) -> int:
        """Return how many frames decode from ``file``, -1 where one does not."""
        count = 0
        with av.open(cast(BinaryIO, StreamView(cast(BinaryIO, file))), mode="r") as container:
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

    def _encode(self, source: PacketSource, span: Span, pixel_aspect: Fraction | None, *, by_time: bool) -> CutResult:
        audio = PacketQueue()
        if by_time:
            frames = _frames_by_time(source, span, audio)
            result = self._encode_frames(source, span, frames, audio, pixel_aspect)
            if result is not None and result.num_frames == span.end_frame - span.start_frame:
                return result
            audio = PacketQueue()
            audio.extend(packet for packet in source.read(span) if packet.stream is not source.video)
        # Damage, or timestamps that cannot be trusted: count frames from the beginning, as the pass did.
        if self._in_order is None or self._in_order.next_index > span.start_frame:
            self._in_order = _InOrder(self._stream, self._limits, self._deadline)
        result = self._encode_frames(source, span, self._in_order.frames(span), audio, pixel_aspect)
        if result is None:
            raise CutFailedError(f"not one frame from {span.start_s:.3f} to {span.end_s:.3f} s could be decoded")
        return result

    def _encode_frames(
        self,
        source: PacketSource,
        span: Span,
        frames: Iterator[av.VideoFrame],
        audio: PacketQueue,
        pixel_aspect: Fraction | None,
    ) -> CutResult | None:
        writer = Mp4Writer()
        video, num_frames = encode_h264(
            writer.container,
            frames,
            start_pts=span.start_pts,
            end_pts=span.end_pts,
            time_base=span.time_base,
            rate=source.video.average_rate,
            pixel_aspect=pixel_aspect,
        )
        if not num_frames:
            return None
        sound = _sound(source, span, writer, audio)
        file = writer.finish(video.drain(), sound or ())
        return _result(file, CutMethod.REENCODE_H264, num_frames, 0, sound is not None)


def _result(file: IO[bytes], method: CutMethod, num_frames: int, num_hidden: int, has_audio: bool) -> CutResult:
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    return CutResult(file, size_bytes, method, num_frames, num_hidden, has_audio)


def _frames_by_time(source: PacketSource, span: Span, audio: PacketQueue) -> Iterator[av.VideoFrame]:
    """Yield the frames of the span up to the first damage; packets of sound met on the way go to ``audio``."""
    context = source.video.codec_context
    try:
        for packet in source.read(span):
            if packet.stream is not source.video:
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


def _sound(source: PacketSource, span: Span, writer: Mp4Writer, audio: PacketQueue) -> Iterable[Packet[Stream]] | None:
    """Add the sound of the span to ``writer`` and return its packets, None where there is none."""
    if source.audio is None or not audio:
        return None
    start, end = span.start_pts * span.time_base, span.end_pts * span.time_base
    if source.audio.codec.canonical_name not in _AUDIO_IN_MP4:
        encoded = encode_aac(writer.container, _audio_frames(source.audio, audio), start_s=start, end_s=end)
        return encoded.drain() if encoded else None
    heard = (p for p in audio.drain() if ((p.pts or 0) + (p.duration or 0)) * p.time_base > start)
    first = next(heard, None)
    if first is None:
        return None
    stream = writer.container.add_stream_from_template(source.audio, opaque=True)
    return (_shifted(packet, stream, round(start / packet.time_base)) for packet in itertools.chain([first], heard))


def _audio_frames(stream: av.AudioStream, audio: PacketQueue) -> Iterator[av.AudioFrame]:
    for packet in itertools.chain(audio.drain(), [None]):
        try:
            frames = stream.codec_context.decode(packet)
        except FAULTS:
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


def _shifted(packet: Packet[Stream], stream: Stream, start: int) -> Packet[Stream]:
    packet.stream = stream
    packet.pts = (packet.pts or 0) - start
    packet.dts = packet.dts - start if packet.dts is not None else packet.pts
    return packet
