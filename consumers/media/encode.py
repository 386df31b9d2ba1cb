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

from consumers.media.spool import PacketQueue

_MAX_TIMESCALE = 1_000_000
_AAC_RATES_HZ = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000})
_AAC_FRAME_SAMPLES = 1024
_TAGGED_MATRICES = frozenset({1, 5, 6, 9})
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

    Pictures are turned as they are displayed, odd sides lose their last row or column, and a size that changes on the
    way is scaled to the first one. Frames keep their times, less ``start_pts``; one that does not come later than its
    predecessor is left out, as no MP4 can hold it.

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
                turned = source.rotation % 180 != 0
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
    if frame.rotation % 360 == 0 and frame.width % 2 == 0 and frame.height % 2 == 0:
        upright = frame.reformat(format="yuv420p", threads=1)
    else:
        rgb = even_sided(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))
        matrix = frame.colorspace if frame.colorspace in _TAGGED_MATRICES else 5
        upright = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=matrix, threads=1
        )
        upright.color_primaries, upright.color_trc = frame.color_primaries, frame.color_trc
    if size is not None and (upright.width, upright.height) != size:
        upright = upright.reformat(width=size[0], height=size[1], threads=1)
    return upright


def even_sided(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return ``rgb`` without the last row or column where their number is odd; a single one is doubled instead."""
    for axis in (0, 1):
        length = rgb.shape[axis]
        if length == 1:
            rgb = np.repeat(rgb, 2, axis=axis)
        elif length % 2:
            rgb = np.delete(rgb, length - 1, axis=axis)
    return np.ascontiguousarray(rgb)
