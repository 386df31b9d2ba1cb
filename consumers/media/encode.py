"""Encoding a clip's pictures again, as H.264 with the source's own times."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from numpy.typing import NDArray

from consumers.media.display import (
    BT709,
    UPRIGHT,
    displayed_matrix,
    hdr_metadata,
    is_rgb,
    orientation_of,
)
from consumers.media.look import small_picture
from consumers.media.spool import PacketQueue

_MAX_TIMESCALE = 1_000_000
_LIMITED_RANGE = 1
_COLOUR_FILTER = "LANCZOS"
_X264 = {"preset": "veryfast", "crf": "18"}
_AVX512 = frozenset({"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"})
"""What a processor has to have for x264 to take its code for AVX-512."""


@dataclass(frozen=True, slots=True)
class EncodedPictures:
    """Packets of H.264 in decode order, each with its duration.

    Attributes:
        packets: of ``num_frames`` frames.
        num_frames: frames encoded.
        duration_s: ``length`` in seconds.
        length: from the first frame to the end of the last, in units of the packets.
        last: the last frame, as :func:`~consumers.media.look.small_picture`; None without frames.
        dropped_metadata: names of what the first frame tells of high dynamic range and H.264 here does not.
    """

    packets: PacketQueue
    num_frames: int
    length: int
    duration_s: Fraction
    last: NDArray[np.uint8] | None
    dropped_metadata: tuple[str, ...]


def encode_h264(
    output: OutputContainer,
    frames: Iterable[av.VideoFrame],
    *,
    start_pts: int,
    end_pts: int,
    time_base: Fraction,
    rate: Fraction | None,
    pixel_aspect: Fraction | None,
) -> EncodedPictures:
    """Encode ``frames`` as H.264 4:2:0 in a new stream of ``output``.

    Pictures are turned and mirrored as they are displayed, and keep their numbers and colour tags: only RGB is
    converted, and untagged HD gets the tag of the matrix that players show it with. Odd sides lose their last row or
    column, and a size that changes on the way is scaled to the first one. Frames keep their times, less ``start_pts``;
    one that does not come later than its predecessor is left out, as no MP4 can hold it.

    Args:
        output: where the stream is added.
        frames: in order of presentation.
        start_pts: becomes 0, in units of ``time_base``.
        end_pts: where the last frame ends.
        time_base: of the frames' timestamps.
        rate: average frames per second, for rate control only.
        pixel_aspect: width of a pixel over its height before turning, square if None.

    Returns:
        No stream is added where there are no frames.

    Raises:
        av.FFmpegError: the encoder refused the frames.
    """
    step = time_base if time_base.denominator <= _MAX_TIMESCALE else Fraction(1, 90_000)
    packets = PacketQueue()
    stream: av.VideoStream | None = None
    waiting: av.VideoFrame | None = None
    latest: av.VideoFrame | None = None
    num_frames = 0
    dropped_metadata: tuple[str, ...] = ()
    # Of the frames that the encoder holds: it does not pass durations on.
    durations: dict[int, int] = {}

    def encode(frame: av.VideoFrame, until: int) -> None:
        frame.duration = durations[frame.pts or 0] = max(1, until - (frame.pts or 0))
        take(frame)

    def take(frame: av.VideoFrame | None) -> None:
        if stream is not None:
            for packet in stream.encode(frame):
                packet.duration = durations.pop(packet.pts or 0, 0)
                packets.append(packet)

    for source in frames:
        pts = round(((source.pts or 0) - start_pts) * time_base / step)
        if waiting is not None and waiting.pts is not None and pts <= waiting.pts:
            continue
        frame = _upright_420(source, None if stream is None else (stream.width, stream.height))
        frame.pts, frame.time_base, frame.pict_type = pts, step, 0
        if stream is None:
            stream = output.add_stream("libx264", rate=rate or Fraction(25), options=_x264_options())
            _match(stream, frame, step)
            dropped_metadata = hdr_metadata(source)
            if pixel_aspect:
                turned = orientation_of(source).transposes
                stream.codec_context.sample_aspect_ratio = 1 / pixel_aspect if turned else pixel_aspect
        elif waiting is not None:
            encode(waiting, pts)
        waiting, latest = frame, source
        num_frames += 1
    length = round((end_pts - start_pts) * time_base / step)
    if waiting is not None:
        # Guessed times may reach beyond the end.
        length = max(length, (waiting.pts or 0) + 1)
        encode(waiting, length)
        take(None)
    last = None if latest is None else small_picture(latest)
    return EncodedPictures(packets, num_frames, length, length * step, last, dropped_metadata)


@cache
def _x264_options() -> dict[str, str]:
    """Return the encoder's options: those under which equal frames give equal bytes on this machine.

    x264's macroblock tree for AVX-512 reads memory that nobody has written: with B-frames the same pictures came out in
    thirteen ways in forty runs, depending on what the heap held before. Its code for AVX2 does not, and costs the
    encoder about nine percent there.
    """
    try:
        cpu = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return _X264
    flags = next((line.split() for line in cpu.splitlines() if line.startswith("flags")), [])
    return {**_X264, "x264-params": "asm=AVX2"} if _AVX512.issubset(flags) else _X264


def _match(stream: av.VideoStream, frame: av.VideoFrame, step: Fraction) -> None:
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = frame.width, frame.height, "yuv420p"
    context.time_base = step
    context.thread_count = 1
    context.color_range, context.colorspace = frame.color_range, frame.colorspace
    context.color_primaries, context.color_trc = frame.color_primaries, frame.color_trc


def _upright_420(frame: av.VideoFrame, size: tuple[int, int] | None) -> av.VideoFrame:
    """Return ``frame`` as displayed, 8 bit 4:2:0, with even sides, scaled to ``size`` (width, height) if it differs."""
    orientation = orientation_of(frame)
    is_odd = bool(frame.width % 2 or frame.height % 2)
    # In 4:2:0 colours stand at the left of their pixels: turned or mirrored as they are, they would move by one.
    is_moved = is_odd or orientation != UPRIGHT
    matrix = displayed_matrix(frame)
    if is_rgb(frame.format):
        upright = _from_rgb(frame, matrix)
    else:
        upright = frame.reformat(format="yuv444p" if is_moved else "yuv420p", interpolation=_COLOUR_FILTER, threads=1)
    if is_moved:
        turned = [orientation.upright(plane) for plane in _planes(upright)]
        if is_odd:
            turned = [even_sided(plane) for plane in turned]
        upright = _joined(turned, like=upright)
    if upright.format.name != "yuv420p":
        upright = upright.reformat(format="yuv420p", interpolation=_COLOUR_FILTER, threads=1)
    upright.colorspace = matrix if matrix == BT709 or is_rgb(frame.format) else frame.colorspace
    if size is not None and (upright.width, upright.height) != size:
        upright = upright.reformat(width=size[0], height=size[1], threads=1)
    return upright


def _from_rgb(frame: av.VideoFrame, matrix: int) -> av.VideoFrame:
    """Return ``frame`` as 4:4:4: on the direct way to 4:2:0 libav takes each second colour instead of averages."""
    converted = frame.reformat(format="yuv444p", dst_colorspace=matrix, dst_color_range=_LIMITED_RANGE, threads=1)
    converted.colorspace, converted.color_range = matrix, _LIMITED_RANGE
    converted.color_primaries, converted.color_trc = frame.color_primaries, frame.color_trc
    return converted


def _planes(frame: av.VideoFrame) -> list[NDArray[np.uint8]]:
    return [
        np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in frame.planes
    ]


def _joined(planes: list[NDArray[np.uint8]], like: av.VideoFrame) -> av.VideoFrame:
    """Return a picture of these planes, in the pixel format and with the tags of ``like``."""
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, like.format.name)
    for source, target in zip(planes, frame.planes, strict=True):
        rows = np.zeros((target.height, target.line_size), dtype=np.uint8)
        rows[:, : target.width] = source
        target.update(rows.tobytes())
    frame.colorspace, frame.color_range = like.colorspace, like.color_range
    frame.color_primaries, frame.color_trc = like.color_primaries, like.color_trc
    return frame


def even_sided(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return ``pixels`` without the last row or column where their number is odd; a single one is doubled instead."""
    for axis in (0, 1):
        length = pixels.shape[axis]
        if length == 1:
            pixels = np.repeat(pixels, 2, axis=axis)
        elif length % 2:
            pixels = np.delete(pixels, length - 1, axis=axis)
    return np.ascontiguousarray(pixels)
