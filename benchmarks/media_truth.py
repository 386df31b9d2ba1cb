"""What a media file shows and sounds like, decoded plainly from front to back: the truth that clips are held against.

Nothing of the service's own reading is used here: a sequential decode, one packet after the other, with libav's rule
for timestamps that cannot be trusted, and the whole display matrix. Sources and clips are read by the same code.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, cast

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

SOUND_RATE_HZ = 16_000
BACK_STEP_S = 1
"""A clock that goes back by more than this begins anew."""
JOINT_BACK_STEP_S = 0.1
"""The same at a keyframe after other pictures, and of sound, whose packets are all alike."""
FORWARD_STEP_S = {"mpegts": 10, "mpeg": 10}
"""A clock that goes ahead of the last picture's end by more than this begins anew, by container."""
FORWARD_STEP_ELSEWHERE_S = 60
_HD_WIDTH_PX, _HD_HEIGHT_PX = 1280, 720
_BT601, _BT709, _UNTAGGED = 5, 1, 2
_MAX_ERRORS_IN_A_ROW = 64
_SOUND_GAP_S = 0.05

Source = Path | BinaryIO


@dataclass(frozen=True, slots=True)
class Tags:
    """How a picture's numbers stand for colours, as libav numbers them; 2 is "not said" but for the range's 0."""

    matrix: int
    range: int
    primaries: int
    transfer: int


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded picture.

    Attributes:
        index: counts decoded pictures from 0.
        clock_s: its time on the container's own clock, in seconds.
        elapsed_s: seconds after the first picture; goes on where the clock begins anew.
        end_s: ``elapsed_s`` after its duration, or after a nominal one.
        segment: how often the clock began anew before it.
        rgb: ``(height, width, 3)`` uint8, as displayed, untagged HD taken as BT.709.
        pixel_aspect: width over height of a displayed pixel.
        tags: colour tags.
        is_rgb: whether it is stored as RGB.
        is_corrupt: whether the decoder says so.
    """

    index: int
    clock_s: Fraction
    elapsed_s: Fraction
    end_s: Fraction
    segment: int
    rgb: NDArray[np.uint8]
    pixel_aspect: Fraction
    tags: Tags
    is_rgb: bool
    is_corrupt: bool


@dataclass(frozen=True, slots=True)
class Sound:
    """A stretch of mono sound at :data:`SOUND_RATE_HZ`, from ``clock_s`` on the container's clock."""

    clock_s: float
    segment: int
    samples: NDArray[np.float32]

    @property
    def end_s(self) -> float:
        """Where it ends on the container's clock."""
        return self.clock_s + len(self.samples) / SOUND_RATE_HZ


def pictures(source: Source) -> Iterator[Picture]:
    """Yield every picture that can be decoded, in order of presentation.

    Raises:
        av.FFmpegError: the container cannot be opened.
        ValueError: it holds no video.
    """
    with _open(source) as container:
        stream = next(
            (one for one in container.streams.video if "attached_pic" not in {flag.name for flag in one.disposition}),
            None,
        )
        if stream is None:
            raise ValueError("no video stream")
        stream.codec_context.thread_count = 1
        own_aspect, coded_aspect = stream.sample_aspect_ratio, stream.codec_context.sample_aspect_ratio
        fixed_aspect = own_aspect if own_aspect and own_aspect != coded_aspect else None
        rate = stream.guessed_rate or stream.average_rate or Fraction(25)
        clock = _Clock(Fraction(1) / rate, FORWARD_STEP_S.get(container.format.name, FORWARD_STEP_ELSEWHERE_S))
        guess = _BestEffort()
        time_base = Fraction(stream.time_base or 1)
        # A decoder holds pictures back: its aspect is that of the packet just read, not of the picture that it gives.
        aspects: dict[int | None, Fraction | None] = {}

        def note_aspect(packet: av.Packet[Any]) -> None:
            aspects[packet.pts] = stream.codec_context.sample_aspect_ratio

        for index, frame in enumerate(_decoded(container, stream, note_aspect)):
            image = cast(av.VideoFrame, frame)
            stamp = guess.stamp(image.pts, image.dts)
            duration = Fraction(image.duration or 0) * time_base
            stamp_s = None if stamp is None else stamp * time_base
            clock_s, elapsed_s, end_s = clock.place(stamp_s, duration, is_key=bool(image.key_frame))
            orientation = _orientation(image)
            aspect = aspects.pop(image.pts, stream.codec_context.sample_aspect_ratio)
            aspect = fixed_aspect or aspect or Fraction(1)
            yield Picture(
                index=index,
                clock_s=clock_s,
                elapsed_s=elapsed_s,
                end_s=end_s,
                segment=clock.segment,
                rgb=_displayed(image, orientation),
                pixel_aspect=1 / aspect if orientation[0] else aspect,
                tags=Tags(image.colorspace, image.color_range, image.color_primaries, image.color_trc),
                is_rgb=image.format.is_rgb,
                is_corrupt=image.is_corrupt,
            )


def sounds(source: Source) -> list[Sound]:
    """Return the best sound stream, decoded; empty where there is none.

    Raises:
        av.FFmpegError: the container cannot be opened.
    """
    with _open(source) as container:
        stream = container.streams.best("audio")
        if not isinstance(stream, av.AudioStream) or cast(object, stream.codec_context) is None:
            return []
        resampler: av.AudioResampler | None = None
        shape: tuple[object, ...] | None = None
        stretches: list[tuple[float, int, list[NDArray[np.float32]]]] = []
        end_s, segment = 0.0, 0
        for frame in _decoded(container, stream):
            chunk = cast(av.AudioFrame, frame)
            now = (chunk.format.name, chunk.layout.name, chunk.sample_rate)
            if resampler is None or now != shape:
                resampler, shape = av.AudioResampler("fltp", "mono", SOUND_RATE_HZ), now
            begin_s = end_s if chunk.pts is None else float(chunk.pts * (chunk.time_base or stream.time_base or 0))
            if stretches and (begin_s < end_s - JOINT_BACK_STEP_S or begin_s > end_s + FORWARD_STEP_S["mpegts"]):
                segment += 1
            if not stretches or abs(begin_s - end_s) > _SOUND_GAP_S:
                stretches.append((begin_s, segment, []))
                end_s = begin_s
            chunk.pts = None
            for piece in resampler.resample(chunk):
                stretches[-1][2].append(np.array(piece.to_ndarray()[0], dtype=np.float32))
                end_s += piece.samples / SOUND_RATE_HZ
    return [Sound(begin, number, np.concatenate(pieces)) for begin, number, pieces in stretches if pieces]


def count_with_hidden(source: Source) -> int:
    """Return how many pictures an MP4's bytes hold, those that its edit list hides included."""
    with _open(source, {"ignore_editlist": "1"}) as container:
        return sum(1 for _ in _decoded(container, container.streams.video[0]))


def track_duration_s(source: Source) -> float | None:
    """Return how long the video track says that it is, in seconds."""
    with _open(source) as container:
        stream = container.streams.video[0]
        if stream.duration is None or stream.time_base is None:
            return None
        return float(stream.duration * stream.time_base)


class _BestEffort:
    """libav's rule (``guess_correct_pts``): whichever of both clocks has been at fault less often so far."""

    def __init__(self) -> None:
        self._faults = {"pts": 0, "dts": 0}
        self._last: dict[str, int] = {}

    def stamp(self, pts: int | None, dts: int | None) -> int | None:
        """Return the timestamp of the next picture."""
        for name, value, other in (("dts", dts, pts), ("pts", pts, dts)):
            if value is not None:
                self._faults[name] += name in self._last and value <= self._last[name]
            fallback = value if value is not None else other
            if fallback is not None:
                self._last[name] = fallback
        if pts is not None and (dts is None or self._faults["pts"] <= self._faults["dts"]):
            return pts
        return dts


class _Clock:
    def __init__(self, nominal_s: Fraction, forward_s: int) -> None:
        self._nominal_s = nominal_s
        self._forward_s = forward_s
        self._offset_s: Fraction | None = None
        self._clock_end_s = self._end_s = self._elapsed_s = Fraction(0)
        self._is_after_key = True
        self.segment = 0

    def place(
        self, clock_s: Fraction | None, duration_s: Fraction, *, is_key: bool
    ) -> tuple[Fraction, Fraction, Fraction]:
        """Return the time on the clock, the time elapsed, and the end of it, of the next picture."""
        if clock_s is None:
            clock_s = self._clock_end_s
        if self._offset_s is None:
            self._offset_s = clock_s
        elapsed_s = clock_s - self._offset_s
        back_step_s = JOINT_BACK_STEP_S if is_key and not self._is_after_key else BACK_STEP_S
        self._is_after_key = is_key
        if elapsed_s < self._elapsed_s - Fraction(back_step_s) or clock_s > self._clock_end_s + self._forward_s:
            if self._end_s:
                self.segment += 1
                self._offset_s = clock_s - self._end_s
            elapsed_s = clock_s - self._offset_s
        self._elapsed_s = max(elapsed_s, self._elapsed_s)
        length_s = duration_s if duration_s > 0 else self._nominal_s
        self._end_s, self._clock_end_s = self._elapsed_s + length_s, clock_s + length_s
        return clock_s, self._elapsed_s, self._end_s


def _open(source: Source, options: dict[str, str] | None = None) -> InputContainer:
    if not isinstance(source, Path):
        source.seek(0)
    file: Any = str(source) if isinstance(source, Path) else source
    container: InputContainer = av.open(file, mode="r", metadata_errors="replace", options=options or {})
    return container


def _decoded(
    container: InputContainer,
    stream: av.VideoStream | av.AudioStream,
    after_packet: Callable[[av.Packet[Any]], None] = lambda packet: None,
) -> Iterator[av.frame.Frame]:
    """Yield the frames of a stream; packets that cannot be read or decoded are passed over."""
    packets = container.demux(stream)
    errors_in_a_row = 0
    while errors_in_a_row < _MAX_ERRORS_IN_A_ROW:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            frames = packet.decode() if packet.size or packet.dts is None else []
            after_packet(packet)
            errors_in_a_row = 0
        except (av.FFmpegError, IndexError) as error:
            if isinstance(error, av.EOFError):
                return
            errors_in_a_row += 1
            continue
        yield from cast(Any, frames)


def _orientation(image: av.VideoFrame) -> tuple[bool, bool, bool]:
    """Return whether to transpose, then to mirror left and right, then to mirror up and down, for display."""
    matrix = next(
        (bytes(cast(Any, one)) for one in cast(Any, image.side_data) if one.type.name == "DISPLAYMATRIX"), b""
    )
    if len(matrix) < 36:
        return False, False, False
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix[:36])
    if a * d == b * c:
        return False, False, False
    # A point (x, y) goes to (a x + c y, b x + d y); the nearest of the eight ways to lay a rectangle is taken.
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, a < 0, d < 0
    return True, c < 0, b < 0


def _displayed(image: av.VideoFrame, orientation: tuple[bool, bool, bool]) -> NDArray[np.uint8]:
    matrix = image.colorspace
    if matrix == _UNTAGGED and not image.format.is_rgb:
        is_hd = max(image.width, image.height) >= _HD_WIDTH_PX or min(image.width, image.height) >= _HD_HEIGHT_PX
        matrix = _BT709 if is_hd else _BT601
    if not image.format.is_rgb and not image.format.has_palette:
        # Fewer colours than pixels are spread evenly; on the direct way each is repeated, half a pixel off.
        image = image.reformat(format="yuv444p", threads=1)
    rgb = np.asarray(image.reformat(format="rgb24", src_colorspace=matrix, threads=1).to_ndarray(), dtype=np.uint8)
    transposed, mirrored, flipped = orientation
    rgb = rgb.transpose(1, 0, 2) if transposed else rgb
    rgb = rgb[:, ::-1] if mirrored else rgb
    return np.ascontiguousarray(rgb[::-1] if flipped else rgb)
