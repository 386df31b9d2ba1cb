"""Decodes one video, packet by packet: what is damaged is dropped, the rest is not lost.

Everything that opens a video uses :func:`open_video`, so that decoding and cutting see the same stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO, ClassVar, cast

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from consumers.clock import Deadline
from consumers.errors import (
    EncryptedError,
    NoFramesError,
    NoVideoStreamError,
    TooLongError,
    TooManyFramesError,
    TooManyPixelsError,
    TruncatedError,
    VideoError,
)
from consumers.media.aspect import PixelAspects
from consumers.media.display import UPRIGHT, Orientation, orientation_of
from consumers.media.encryption import is_encrypted_packet, is_encrypted_stream, looks_encrypted
from consumers.media.guard import GuardedStream
from consumers.media.stamps import BestEffortStamps
from consumers.media.structure import is_whole
from consumers.media.timeline import Timeline, longest_gap_s
from consumers.media.unreadable import explain_unreadable
from schemas.profile import Limits
from schemas.records import DecoderKind, Stage

BUFFER_BYTES = 1024 * 1024
"""How much libav reads at once: less costs round trips to a store, more re-reads what lies around an index."""

CONTAINER_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,mxf,nut,ivf,h264,hevc,m4v,mpegvideo,obu,dv,rm"
)
"""Containers that hold a video and nothing that names other files (no playlists, no concat, no SDP, no images)."""

_HEADER_STATES_DURATION = {"mov", "matroska", "avi", "flv", "asf"}
"""Containers whose header declares the duration; others have it guessed from the bit rate or the last bytes."""

_MAX_DEMUX_ERRORS_IN_A_ROW = 64
_NEEDS_SEQUENCE_HEADER = frozenset(
    {"h264", "hevc", "vvc", "av1", "mpeg1video", "mpeg2video", "mpeg4", "cavs", "vc1", "wmv3", "theora"}
)
_FALLBACK_RATE = 25.0
_ATTACHED_PICTURE = "attached_pic"


def open_video(stream: BinaryIO, limits: Limits, hwaccel: HWAccel | None = None) -> tuple[InputContainer, VideoStream]:
    """Open the container and pick the video stream: the first that can be decoded and is no cover picture.

    Args:
        stream: seekable, at its beginning. An exception out of its ``read`` comes out of here unchanged.
        limits: ``max_pixels`` also bounds what libav allocates while it probes.
        hwaccel: hardware to decode with; None is the CPU.

    Returns:
        The container, for the caller to close, and its stream, set to one decode thread.

    Raises:
        NotAVideoError: no container that is understood, or an empty object.
        TruncatedError: an MP4 or MOV whose boxes reach beyond the end of the object.
        NoVideoStreamError: nothing in it can be decoded as video.
        EncryptedError: its track names the key that it is encrypted with.
        TooManyPixelsError: the declared frame is larger than ``limits.max_pixels``.
        TooLongError: the declared duration is longer than ``limits.max_duration_s``.
    """
    max_pixels = str(limits.max_pixels)
    try:
        container = av.open(
            stream,
            mode="r",
            options={"format_whitelist": CONTAINER_FORMATS, "max_pixels": max_pixels},
            metadata_errors="replace",
            buffer_size=BUFFER_BYTES,
            hwaccel=hwaccel,
        )
    except (av.FFmpegError, ValueError) as error:
        # Memory does not suffice here where a damaged header asks for absurd amounts of it.
        raise explain_unreadable(stream, getattr(error, "strerror", None) or str(error)) from error
    try:
        picked = _pick_stream(container)
        if is_encrypted_stream(picked):
            raise EncryptedError()
        num_pixels = picked.width * picked.height
        if num_pixels > limits.max_pixels:
            raise _too_many_pixels(picked.width, picked.height, limits)
        declared_s = declared_duration_s(container, picked)
        if declared_s is not None and declared_s > limits.max_duration_s:
            raise TooLongError(f"declares {declared_s:.1f} s, the limit is {limits.max_duration_s:g} s")
        picked.thread_type = "NONE"
        picked.codec_context.thread_count = 1
        picked.codec_context.options = {"max_pixels": max_pixels}
    except BaseException:
        container.close()
        raise
    return container, picked


def declared_duration_s(container: InputContainer, stream: VideoStream) -> float | None:
    """Return the duration that the stream declares, else the one of its container, in seconds; None without either.

    Where libav would guess it from the first and last timestamps there is none: the clock may jump in between.
    """
    if container.format.name.split(",")[0] not in _HEADER_STATES_DURATION:
        return None
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / av.time_base


def _pick_stream(container: InputContainer) -> VideoStream:
    named = container.format.name
    without_decoder = 0
    for stream in container.streams.video:
        if _ATTACHED_PICTURE in {flag.name for flag in stream.disposition}:
            continue
        # A broken header leaves a stream without a codec, whatever the type says.
        if cast(object, stream.codec_context) is not None and stream.time_base:
            return stream
        without_decoder += 1
    if without_decoder:
        raise NoVideoStreamError(
            "its pictures are in a format that cannot be decoded here, or its header is damaged: no decoder for any of "
            f"the {without_decoder} video streams of this container ({named})"
        )
    kinds = {stream.type for stream in container.streams}
    has_cover = "video" in kinds
    others = ", ".join(sorted(kinds - {"video"}))
    if not others and not has_cover:
        raise NoVideoStreamError(f"the container ({named}) holds nothing: no video, no sound")
    cover = "a cover picture" if has_cover else ""
    held = " and ".join(part for part in (others, cover) if part)
    raise NoVideoStreamError(f"the container ({named}) holds no video, only {held}")


def _too_many_pixels(width: int, height: int, limits: Limits) -> TooManyPixelsError:
    return TooManyPixelsError(
        f"a frame of {width} x {height} is {width * height} pixels, the limit is {limits.max_pixels}"
    )


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """One decoded frame and its place.

    Attributes:
        index: counts decoded frames from 0, damaged ones included.
        image: libav's frame, not rotated.
        pts: the stream's timestamp, as good as it can be guessed; ``end_pts`` the one after its duration.
        time_s: seconds after the first frame, never stepping back; ``end_s`` after its duration.
        orientation: how it is displayed.
        pixel_aspect: width over height of a pixel of ``image``; None where nothing says that it is not square.
        is_keyframe: whether it decodes without any other frame.
        is_usable: False from a decoding error up to the next clean keyframe: what it shows may be wrong.
        breaks: the picture's size, aspect or orientation changed, or it restarts; no clip reaches across.
        restarts: the timestamps began anew here.
    """

    index: int
    image: VideoFrame
    pts: int
    end_pts: int
    time_s: float
    end_s: float
    orientation: Orientation
    pixel_aspect: Fraction | None
    is_keyframe: bool
    is_usable: bool
    breaks: bool
    restarts: bool

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as displayed, in pixels."""
        return self.orientation.size(self.image.width, self.image.height)


class VideoDecoder:
    """Decodes one video from beginning to end.

    Args:
        stream: seekable, at its beginning; stays the caller's to close.
        limits: bounds on pixels and duration.
        deadline: checked at every read and every packet.
        hwaccel: for subclasses that decode with hardware.

    Raises:
        VideoError: as :func:`open_video`, and whatever error the stream's ``read`` raised.
    """

    kind: ClassVar[DecoderKind] = "cpu"

    def __init__(self, stream: BinaryIO, limits: Limits, deadline: Deadline, *, hwaccel: HWAccel | None = None) -> None:
        self._limits = limits
        self._deadline = deadline
        self._guard = GuardedStream(stream, lambda: deadline.check(Stage.DECODE))
        try:
            self._container, self._stream = open_video(cast(BinaryIO, self._guard), limits, hwaccel)
        except Exception:
            self._guard.raise_if_failed()
            raise
        # Read now: libav frees them with the container.
        rate = self._stream.guessed_rate or self._stream.average_rate
        self.fps = float(rate) if rate else None
        self.time_base = Fraction(self._stream.time_base or 1)
        self.container_format = self._container.format.name
        self.codec = self._stream.codec_context.codec.canonical_name
        self.has_audio = bool(self._container.streams.audio)
        self.declared_size = (self._stream.width, self._stream.height)
        self.num_frames = 0
        self.num_damaged = 0
        self.duration_s = 0.0
        self._stamps = BestEffortStamps()
        self._has_overlaps = False
        self._aspects = PixelAspects(self._stream)
        self._tick_s = [float(stream.time_base or 0) for stream in self._container.streams]
        self._tainted = False
        self._reached_s = 0.0

    def frames(self) -> Iterator[DecodedFrame]:
        """Yield every frame in order of presentation; decodes no further than it is pulled.

        Raises:
            DeadlineExceededError: no time left.
            ObjectUnavailableError: or whatever else the stream's ``read`` raised.
            TooManyPixelsError: a frame is larger than the limit.
            TooLongError: the frames so far are longer than the limit.
            TruncatedError: the data end well before the declared duration. Raised after the last frame.
            EncryptedError: the container says that its pictures are encrypted.
            NoFramesError: not one frame could be decoded.
        """
        timeline = Timeline(self.time_base, 1 / (self.fps or _FALLBACK_RATE), longest_gap_s(self.container_format))
        shape: tuple[int, int, Orientation, Fraction | None] | None = None
        orientation, rotation = UPRIGHT, 0
        for image in self._images():
            if image.width * image.height > self._limits.max_pixels:
                raise _too_many_pixels(image.width, image.height, self._limits)
            stamp = self._stamps.stamp(image.pts, image.dts)
            place = timeline.place(stamp, image.duration, is_keyframe=bool(image.key_frame))
            self._has_overlaps = self._has_overlaps or place.overlaps
            if self.num_frames >= self._limits.max_frames:
                raise TooManyFramesError(f"more than {self._limits.max_frames} frames, which is the limit")
            if place.end_s > self._limits.max_duration_s:
                raise TooLongError(
                    f"{place.end_s:.1f} s decoded so far, the limit is {self._limits.max_duration_s:g} s"
                )
            if image.is_corrupt:
                self._tainted = True
            elif image.key_frame:
                self._tainted = False
            # The matrix itself costs more to look at than its angle, and changes at keyframes, if anywhere.
            if image.key_frame or shape is None or image.rotation != rotation:
                orientation, rotation = orientation_of(image), image.rotation
            aspect = self._aspects.of(image)
            before, shape = shape, (image.width, image.height, orientation, aspect)
            frame = DecodedFrame(
                index=self.num_frames,
                image=image,
                pts=place.pts,
                end_pts=place.end_pts,
                time_s=place.time_s,
                end_s=place.end_s,
                orientation=orientation,
                pixel_aspect=aspect,
                is_keyframe=bool(image.key_frame),
                is_usable=not self._tainted,
                restarts=place.jumped,
                breaks=place.jumped or (before is not None and before != shape),
            )
            self.num_frames += 1
            self.num_damaged += self._tainted
            self.duration_s = place.end_s
            yield frame
        self._check_completeness()

    @property
    def has_guessed_times(self) -> bool:
        """Whether some frame so far had to be given another time than its packet says, or shares it with another."""
        return self._stamps.has_guessed or self._has_overlaps

    def close(self) -> None:
        """Close the container, not the stream. Idempotent."""
        self._container.close()

    def _images(self) -> Iterator[VideoFrame]:
        for packet in self._packets():
            if (self.num_frames == 0 or packet.is_keyframe) and is_encrypted_packet(packet):
                raise EncryptedError()
            images = self._decode(packet)
            if packet.is_keyframe:
                self._aspects.note(packet)
            yield from images
        yield from self._decode(None)

    def _decode(self, packet: Packet[Stream] | None) -> list[VideoFrame]:
        """Return what decoding a packet gives, or at the end (None) what the decoder still holds."""
        try:
            return self._stream.codec_context.decode(packet)
        except MemoryError:
            # libav's is an FFmpegError as well, and says nothing about the video.
            raise
        except av.FFmpegError:
            if packet is not None:
                self._note_damage()
            return []

    def _packets(self) -> Iterator[Packet[Stream]]:
        errors_in_a_row = 0
        while errors_in_a_row < _MAX_DEMUX_ERRORS_IN_A_ROW:
            try:
                for packet in self._container.demux():
                    self._deadline.check(Stage.DECODE)
                    self._guard.raise_if_failed()
                    errors_in_a_row = 0
                    if not packet.size:
                        continue
                    self._note_reach(packet)
                    if packet.stream_index == self._stream.index:
                        yield packet
                break
            except IndexError:
                # PyAV has met a packet of a stream that was not there when the container was opened, and dropped it.
                continue
            except av.FFmpegError:
                self._guard.raise_if_failed()
                self._deadline.check(Stage.DECODE)
                self._note_damage()
                errors_in_a_row += 1
        self._guard.raise_if_failed()

    def _note_damage(self) -> None:
        self._tainted = True
        self.num_damaged += 1

    def _note_reach(self, packet: Packet[Stream]) -> None:
        ticks = packet.pts if packet.pts is not None else packet.dts
        # Damage can make streams appear that were not there when the container was opened.
        if ticks is not None and packet.stream_index < len(self._tick_s):
            tick_s = self._tick_s[packet.stream_index]
            self._reached_s = max(self._reached_s, (ticks + (packet.duration or 0)) * tick_s)

    def _check_completeness(self) -> None:
        # Any stream may be the longest, so the data of all of them count, not only the frames.
        container = self._container
        if container.duration is not None and container.format.name.split(",")[0] in _HEADER_STATES_DURATION:
            declared_s = container.duration / av.time_base
            # Where timestamps go astray the frames still tell how much there was.
            # Some writers count what they declare from the first timestamp, others from 0.
            start_s = (container.start_time or 0) / av.time_base
            reached_s = max(self._reached_s - min(start_s, 0.0), self.duration_s)
            missing_s = declared_s - reached_s
            if missing_s > max(1.0, 0.05 * declared_s) and not is_whole(cast(BinaryIO, self._guard)):
                raise TruncatedError(
                    f"the data end at {max(0.0, reached_s):.1f} s, the container declares {declared_s:.1f} s"
                )
        if self.num_frames == 0:
            raise self._no_frames()

    def _no_frames(self) -> VideoError:
        """Return what is wrong with a stream of which not one frame could be decoded."""
        if looks_encrypted(cast(BinaryIO, self._guard)):
            return EncryptedError()
        hint = ""
        if not self._stream.width:
            # libav tells no size of frames that it refuses for their size.
            hint = f"; perhaps they are over the limit of {self._limits.max_pixels} pixels"
            if self.codec in _NEEDS_SEQUENCE_HEADER and not self._stream.codec_context.extradata:
                hint = (
                    f"; the header without which no {self.codec} picture can be decoded is missing: perhaps the object "
                    "is a piece out of the middle of a recording"
                )
        return NoFramesError(f"not one frame could be decoded ({self.num_damaged} errors{hint})")
