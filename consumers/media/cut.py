"""Cutting one clip out of a video: exact to the frame, with its sound, as an MP4 that has been read back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import IO, BinaryIO, Literal, cast

import av
import numpy as np
from numpy.typing import NDArray

from consumers.clock import Deadline
from consumers.errors import CutFailedError, NoFramesError, TruncatedError
from consumers.media.check import Expected, find_fault
from consumers.media.copying import CopySelection
from consumers.media.decode import VideoDecoder
from consumers.media.encode import encode_h264
from consumers.media.look import ClipLook
from consumers.media.mp4 import Mp4Writer, lasting, track_timescale
from consumers.media.packets import FAULTS, PacketSource
from consumers.media.reader import StreamView
from consumers.media.sound import ClipSound, SoundInOrder
from schemas.profile import Limits
from schemas.records import CutMethod, Score, Span, Stage

CutMode = Literal["auto", "h264", "copy", "none"]

_VIDEO_IN_MP4 = frozenset({"h264", "hevc", "av1", "vp9", "mpeg4"})

LOST_SOUND_S = "lost_sound_s"
"""Name of the score of a clip without some of its source's sound: how many seconds of it."""
DROPPED_HDR_METADATA = "dropped_hdr_metadata"
"""Name of the score of a clip that was encoded again without what its source tells of high dynamic range: how many."""


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
        losses: what the source has and the clip has not, as scores of :attr:`Stage.CUT`.
        failed_checks: what was wrong with the clip as it was made at first.
    """

    file: IO[bytes] | None
    size_bytes: int
    method: CutMethod
    num_frames: int
    num_hidden_frames: int
    has_audio: bool
    losses: tuple[Score, ...] = ()
    failed_checks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Job:
    span: Span
    pixel_aspect: Fraction | None
    look: ClipLook | None


_Made = tuple[CutResult, Expected]


class ClipCutter:
    """Cuts clips out of one video. Ask in order of time: the source is then read once from front to back.

    ``auto`` copies the packets where that is exact and clean: the clip begins on a closed keyframe, ends where no
    packet of a neighbour is needed to decode it, and the codec fits MP4. ``copy`` copies from the keyframe before and
    hides the surplus with an edit list. Everything else is encoded again. Sound is copied packet by packet, or encoded
    as AAC where MP4 cannot hold it; what cannot be decoded is left out, and told as a loss.

    Each clip is read back and held against its source: number of frames, first and last picture, size, aspect, length
    of pictures and sound; of a copy all frames are decoded. Whatever refuses a copy, be it the muxer or this check, has
    the clip encoded again, with its sound; a clip that no way passes the check has failed.

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
        self._sound_in_order: SoundInOrder | None = None
        self._sound_reached = 0
        self._source = PacketSource(stream, self._limits, deadline) if mode != "none" else None

    def cut(
        self,
        span: Span,
        *,
        starts_on_keyframe: bool,
        pixel_aspect: Fraction | None = None,
        has_guessed_times: bool = False,
        look: ClipLook | None = None,
    ) -> CutResult:
        """Return the clip of ``span``.

        Args:
            span: from the pass over the same video.
            starts_on_keyframe: whether the pass saw a keyframe at its start; without, no exact copy is tried.
            pixel_aspect: width of the clip's pixels over their height before turning, square if None.
            has_guessed_times: the packets' timestamps are not the frames' times: frames are counted, none copied.
            look: what the pass saw, for the check; None checks no pictures.

        Raises:
            CutFailedError: not one frame of the span can be decoded, or no way makes an MP4 that passes the check.
            DeadlineExceededError: the deadline passed.
        """
        if self._source is None:
            return CutResult(None, 0, CutMethod.REFERENCE, span.end_frame - span.start_frame, 0, False)
        job = _Job(span, pixel_aspect, look)
        faults: list[str] = []
        refusal = ""
        for make in self._ways(self._source, job, starts_on_keyframe, by_time=not has_guessed_times):
            try:
                made = make(bool(faults))
                if made is None:
                    continue
                fault = _closing_on_error(made, self._deadline)
            except FAULTS as error:
                refusal = str(error)
                continue
            if fault is None:
                return replace(made[0], failed_checks=tuple(faults))
            faults.append(fault)
        reason = "; then: ".join(faults) or refusal
        raise CutFailedError(f"the clip from {span.start_s:.3f} to {span.end_s:.3f} s could not be cut: {reason}")

    def _ways(
        self, source: PacketSource, job: _Job, starts_on_keyframe: bool, *, by_time: bool
    ) -> Iterator[Callable[[bool], _Made | None]]:
        """Yield ways to make the clip, the best first; each is told whether a check has failed before."""
        by_time = by_time and source.can_seek(job.span)
        if by_time and source.video_codec in _VIDEO_IN_MP4:
            if self._mode == "copy":
                yield lambda _: self._copy(source, job, exact=False)
            elif self._mode == "auto" and starts_on_keyframe:
                yield lambda _: self._copy(source, job, exact=True)
        if by_time:
            yield lambda encodes_sound: self._encode_by_time(source, job, encodes_sound)
        # Damage, or timestamps that cannot be trusted: count frames from the beginning, as the pass did.
        yield lambda encodes_sound: self._encode_in_order(source, job, encodes_sound)
        if not by_time:
            yield lambda _: self._encode_in_order(source, job, True)

    # -- copying ---------------------------------------------------------------------------------------------------

    def _copy(self, source: PacketSource, job: _Job, *, exact: bool) -> _Made | None:
        """Return the clip made of the source's own packets, or None where that would not be right."""
        span = job.span
        selection, sound = CopySelection(span), ClipSound(source.audio, span)
        for packet in source.read(span):
            if packet.stream is not source.video:
                sound.add(packet)
                continue
            if packet.pts is None:
                return None
            selection.add(packet, packet.pts)
        num_frames, num_hidden = selection.num_shown, selection.num_hidden
        if num_frames != span.end_frame - span.start_frame:
            return None
        if exact and not selection.is_clean(source.video_codec):
            return None
        timescale = track_timescale(span.time_base)
        writer = Mp4Writer(timescale)
        stream = writer.container.add_stream_from_template(source.video, opaque=True)
        if job.pixel_aspect is not None:
            # The container's word goes before the bitstream's, and is not in the stream's parameters.
            stream.codec_context.sample_aspect_ratio = job.pixel_aspect
        method = CutMethod.STREAM_COPY if num_hidden == 0 else CutMethod.EDIT_LIST
        shown = int((span.end_pts - span.start_pts) * span.time_base * timescale) if num_hidden else None
        pictures = lasting(selection.drain(stream), span.end_pts - span.start_pts)
        result = CutResult(None, 0, method, num_frames, num_hidden, False)
        duration_s = (span.end_pts - span.start_pts) * span.time_base
        return self._finished(source, job, result, writer, pictures, sound, duration_s=duration_s, shown=shown)

    # -- encoding --------------------------------------------------------------------------------------------------

    def _encode_by_time(self, source: PacketSource, job: _Job, encodes_sound: bool) -> _Made | None:
        sound = ClipSound(source.audio, job.span)
        frames = _frames_by_time(source, job.span, sound)
        made = self._encode(source, job, frames, lambda: sound, encodes_sound)
        if made is not None and made[0].num_frames != job.span.end_frame - job.span.start_frame:
            _close(made)
            return None
        return made

    def _encode_in_order(self, source: PacketSource, job: _Job, encodes_sound: bool) -> _Made:
        span = job.span
        if self._in_order is None or self._in_order.next_index > span.start_frame:
            self._in_order = _InOrder(self._stream, self._limits, self._deadline)
        in_order = self._in_order
        made = self._encode(
            source,
            job,
            in_order.frames(span),
            lambda: self._sound_of(source, span, in_order.num_restarts),
            encodes_sound,
        )
        if made is None:
            raise CutFailedError(f"not one frame from {span.start_s:.3f} to {span.end_s:.3f} s could be decoded")
        return made

    def _sound_of(self, source: PacketSource, span: Span, num_restarts: int) -> ClipSound:
        """Return the sound around ``span``, before which the clock began anew so many times."""
        if source.audio is None:
            return ClipSound(None, span)
        if source.can_seek(span):
            sound = ClipSound(source.audio, span)
            packets = source.read(span)
        else:
            if self._sound_in_order is None or span.start_frame < self._sound_reached:
                self._sound_in_order = SoundInOrder(self._stream, self._limits, self._deadline)
            self._sound_reached = span.end_frame
            sound = ClipSound(self._sound_in_order.audio, span)
            packets = self._sound_in_order.read(span, num_restarts)
        for packet in packets:
            if packet.stream is not source.video:
                sound.add(packet)
        return sound

    def _encode(
        self,
        source: PacketSource,
        job: _Job,
        frames: Iterator[av.VideoFrame],
        find_sound: Callable[[], ClipSound],
        encodes_sound: bool,
    ) -> _Made | None:
        span = job.span
        writer = Mp4Writer()
        video = encode_h264(
            writer.container,
            frames,
            start_pts=span.start_pts,
            end_pts=span.end_pts,
            time_base=span.time_base,
            rate=source.video.average_rate,
            pixel_aspect=job.pixel_aspect,
        )
        if not video.num_frames:
            return None
        losses = []
        if video.dropped_metadata:
            kinds = ", ".join(video.dropped_metadata)
            losses.append(Score(Stage.CUT, DROPPED_HDR_METADATA, float(len(video.dropped_metadata)), kinds))
        result = CutResult(None, 0, CutMethod.REENCODE_H264, video.num_frames, 0, False, tuple(losses))
        pictures = lasting(video.packets.drain(), video.length)
        return self._finished(
            source,
            job,
            result,
            writer,
            pictures,
            find_sound(),
            duration_s=video.duration_s,
            encodes_sound=encodes_sound,
            encoded_last=video.last,
        )

    def _finished(
        self,
        source: PacketSource,
        job: _Job,
        result: CutResult,
        writer: Mp4Writer,
        pictures: Iterator[av.Packet[av.stream.Stream]],
        clip_sound: ClipSound,
        *,
        duration_s: Fraction,
        shown: int | None = None,
        encodes_sound: bool = False,
        encoded_last: NDArray[np.uint8] | None = None,
    ) -> _Made:
        """Write pictures and sound, and return the clip with what it has to be."""
        sound = clip_sound.write(writer, encodes=encodes_sound)
        file = writer.finish(pictures, () if sound is None else sound.packets, shown=shown)
        losses = result.losses
        lost_s = clip_sound.lost_s(sound)
        if sound is None and source.has_unknown_sound:
            lost_s = Fraction(job.span.duration_s)
        if lost_s:
            losses = (*losses, Score(Stage.CUT, LOST_SOUND_S, float(lost_s), "not decodable"))
        size_bytes = file.seek(0, os.SEEK_END)
        file.seek(0)
        result = replace(result, file=file, size_bytes=size_bytes, has_audio=sound is not None, losses=losses)
        expected = Expected(
            num_frames=result.num_frames,
            num_hidden_frames=result.num_hidden_frames,
            duration_s=duration_s,
            look=job.look,
            sound=None if sound is None else (sound.begin_s, sound.end_s),
            encoded_last=encoded_last,
        )
        return result, expected


def _closing_on_error(made: _Made, deadline: Deadline) -> str | None:
    """Return what the check finds; the file of a clip that fails it is closed."""
    result, expected = made
    fault: str | None = "unchecked"
    try:
        fault = None if result.file is None else find_fault(result.file, expected, deadline)
    finally:
        if fault is not None:
            _close(made)
        elif result.file is not None:
            result.file.seek(0)
    return fault


def _close(made: _Made) -> None:
    if made[0].file is not None:
        made[0].file.close()


def _frames_by_time(source: PacketSource, span: Span, sound: ClipSound) -> Iterator[av.VideoFrame]:
    """Yield the frames of the span up to the first damage; packets of sound met on the way go to ``sound``."""
    context = source.video.codec_context
    try:
        for packet in source.read(span):
            if packet.stream is not source.video:
                sound.add(packet)
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


class _InOrder:
    """One decode from front to back that serves clip after clip by frame number."""

    def __init__(self, stream: BinaryIO, limits: Limits, deadline: Deadline) -> None:
        self._frames = VideoDecoder(cast(BinaryIO, StreamView(stream)), limits, deadline).frames()
        self.next_index = 0
        self.num_restarts = 0

    def frames(self, span: Span) -> Iterator[av.VideoFrame]:
        """Yield the undamaged frames of ``span``, which must not begin before :attr:`next_index`."""
        while self.next_index < span.end_frame:
            try:
                frame = next(self._frames)
            except (StopIteration, TruncatedError, NoFramesError):
                return
            self.next_index = frame.index + 1
            self.num_restarts += frame.restarts
            if frame.index >= span.start_frame and frame.is_usable:
                frame.image.pts = frame.pts
                yield frame.image


def _is_within(span: Span, frame: av.VideoFrame) -> bool:
    return frame.pts is not None and span.start_pts <= frame.pts < span.end_pts
