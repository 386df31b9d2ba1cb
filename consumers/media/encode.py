"""Encoding a clip again: H.264 for pictures, AAC for sound, both with the source's own times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.container import OutputContainer
from numpy.typing import NDArray

from consumers.media.display import (
    BT709,
    UPRIGHT,
    displayed_matrix,
    is_rgb,
    orientation_of,
)
from consumers.media.spool import PacketQueue

_MAX_TIMESCALE = 1_000_000
_AAC_RATES_HZ = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000})
_AAC_FRAME_SAMPLES = 1024
_LIMITED_RANGE = 1
_COLOUR_FILTER = "LANCZOS"
_X264 = {"preset": "veryfast", "crf": "18"}
_AVX512 = frozenset({"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"})
"""What a processor has to have for x264 to take its code for AVX-512."""


def encode_h264(
    output: OutputContainer,
    frames: Iterable[av.VideoFrame],
    *,
    start_pts: int,
    end_pts: int,
    time_base: Fraction,
    rate: Fraction | None,
    pixel_aspect: Fraction | None,
) -> tuple[PacketQueue, int]:
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
        The packets and the number of frames in them; no stream is added where there are no frames.

    Raises:
        av.FFmpegError: the encoder refused the frames.
    """
    step = time_base if time_base.denominator <= _MAX_TIMESCALE else Fraction(1, 90_000)
    packets = PacketQueue()
    stream: av.VideoStream | None = None
    waiting: av.VideoFrame | None = None
    num_frames = 0
    for source in frames:
        pts = round(((source.pts or 0) - start_pts) * time_base / step)
        if waiting is not None and waiting.pts is not None and pts <= waiting.pts:
            continue
        frame = _upright_420(source, None if stream is None else (stream.width, stream.height))
        frame.pts, frame.time_base, frame.pict_type = pts, step, 0
        if stream is None:
            stream = output.add_stream("libx264", rate=rate or Fraction(25), options=_x264_options())
            _match(stream, frame, step)
            if pixel_aspect:
                turned = orientation_of(source).transposes
                stream.codec_context.sample_aspect_ratio = 1 / pixel_aspect if turned else pixel_aspect
        elif waiting is not None:
            waiting.duration = pts - (waiting.pts or 0)
            packets.extend(stream.encode(waiting))
        waiting = frame
        num_frames += 1
    if stream is not None and waiting is not None:
        waiting.duration = max(1, round((end_pts - start_pts) * time_base / step) - (waiting.pts or 0))
        packets.extend(stream.encode(waiting))
        packets.extend(stream.encode(None))
    return packets, num_frames


def encode_aac(
    output: OutputContainer, frames: Iterable[av.AudioFrame], *, start_s: Fraction, end_s: Fraction
) -> PacketQueue:
    """Encode the part of ``frames`` from ``start_s`` up to ``end_s`` as AAC in a new stream of ``output``.

    Cut to the sample; a gap at the start stays a gap. Times are seconds on the clock of the frames' timestamps.

    Returns:
        The packets, none (and no stream) where no sound lies in the interval.

    Raises:
        av.FFmpegError: the encoder refused the frames.
    """
    packets = PacketQueue()
    stream: av.AudioStream | None = None
    resampler: av.AudioResampler | None = None
    num_samples = 0
    first = Fraction(0)
    for frame in _sounding(frames, start_s, end_s):
        if stream is None or resampler is None:
            rate = frame.sample_rate if frame.sample_rate in _AAC_RATES_HZ else 48_000
            layout = "mono" if frame.layout.nb_channels == 1 else "stereo"
            stream = output.add_stream("aac", rate=rate, options={"b": "128k"})
            stream.layout = layout
            resampler = av.AudioResampler("fltp", layout, rate, frame_size=_AAC_FRAME_SAMPLES)
            first = max(_begin(frame) - start_s, Fraction(0))
        frame.pts = None
        for piece in resampler.resample(frame):
            num_samples += _encode_piece(stream, piece, first, num_samples, packets)
    if stream is not None and resampler is not None:
        for piece in resampler.resample(None):
            num_samples += _encode_piece(stream, piece, first, num_samples, packets)
        packets.extend(stream.encode(None))
    return packets


def _encode_piece(
    stream: av.AudioStream, piece: av.AudioFrame, first: Fraction, offset: int, packets: PacketQueue
) -> int:
    piece.pts, piece.time_base = round(first * stream.rate) + offset, Fraction(1, stream.rate)
    packets.extend(stream.encode(piece))
    return piece.samples


def _sounding(frames: Iterable[av.AudioFrame], start_s: Fraction, end_s: Fraction) -> Iterator[av.AudioFrame]:
    """Yield ``frames`` without the samples outside of ``[start_s, end_s)``."""
    for frame in frames:
        if frame.pts is None:
            continue
        begin = _begin(frame)
        skip = max(0, round((start_s - begin) * frame.sample_rate))
        stop = min(frame.samples, round((end_s - begin) * frame.sample_rate))
        if stop <= skip:
            continue
        if skip == 0 and stop == frame.samples:
            yield frame
            continue
        samples = frame.to_ndarray()
        channels = 1 if frame.format.is_planar else frame.layout.nb_channels
        part = np.ascontiguousarray(samples[:, skip * channels : stop * channels])
        cut = av.AudioFrame.from_ndarray(cast(Any, part), format=frame.format.name, layout=frame.layout)
        cut.sample_rate, cut.time_base = frame.sample_rate, Fraction(1, frame.sample_rate)
        cut.pts = round(begin * frame.sample_rate) + skip
        yield cut


def _begin(frame: av.AudioFrame) -> Fraction:
    return (frame.pts or 0) * Fraction(frame.time_base or 1)


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
