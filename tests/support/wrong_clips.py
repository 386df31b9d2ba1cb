"""Clips that are wrong in one way each: what a judge of clips has to see."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np

from schemas.records import VideoOutcome

Change = Callable[[list[av.VideoFrame]], Iterable[av.VideoFrame]]


def with_clip(outcome: VideoOutcome, data: bytes, *, index: int = 0) -> VideoOutcome:
    """Return ``outcome`` with other bytes for one clip; the row about it stays as it was."""
    clips = list(outcome.clips)
    media = clips[index].media
    assert media is not None
    clips[index] = replace(clips[index], media=replace(media, data=data))
    return replace(outcome, clips=tuple(clips))


def clip_data(outcome: VideoOutcome, index: int = 0) -> bytes:
    """Return the bytes of one clip."""
    media = outcome.clips[index].media
    assert media is not None
    assert media.data is not None
    return media.data


def remade(
    data: bytes,
    change: Change = lambda frames: frames,
    *,
    sound_late_s: float = 0.0,
    has_sound: bool = True,
    aspect: Fraction | None = None,
    matrix: int | None = None,
    full_range: bool = False,
) -> bytes:
    """Decode a clip and encode it again, changed. Matrix and range are only written down: the pixels stay."""
    buffer = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(buffer, "w", format="mp4") as target:
        frames = list(source.decode(source.streams.video[0]))
        time_base = Fraction(source.streams.video[0].time_base or 1)
        video = target.add_stream("libx264", rate=24, options={"crf": "10"})
        video.width, video.height, video.pix_fmt = frames[0].width, frames[0].height, "yuv420p"
        video.codec_context.time_base = time_base
        if aspect is not None:
            video.codec_context.sample_aspect_ratio = aspect
        if matrix is not None:
            video.codec_context.colorspace = matrix
        if full_range:
            video.codec_context.color_range = 2
        sound = None
        if has_sound and source.streams.audio:
            sound = target.add_stream("aac", rate=48_000)
        for frame in change(frames):
            frame.pict_type = 0
            frame.time_base = time_base
            target.mux(video.encode(frame))
        target.mux(video.encode(None))
        if sound is not None:
            source.seek(0)
            shift = round(sound_late_s * 48_000)
            for heard in source.decode(source.streams.audio[0]):
                heard.pts = (heard.pts or 0) + shift
                target.mux(sound.encode(heard))
            target.mux(sound.encode(None))
    return buffer.getvalue()


def one_late(frames: list[av.VideoFrame]) -> Iterable[av.VideoFrame]:
    """Show each picture where the next one belongs."""
    times = [frame.pts for frame in frames]
    pictures = [frames[0], *frames[:-1]]
    return [_at(picture, pts) for picture, pts in zip(pictures, times, strict=True)]


def without_one(frames: list[av.VideoFrame]) -> Iterable[av.VideoFrame]:
    """Leave out the tenth."""
    return frames[:10] + frames[11:]


def mirrored(frames: list[av.VideoFrame]) -> Iterable[av.VideoFrame]:
    """Mirror left and right."""
    for frame in frames:
        turned = np.ascontiguousarray(frame.to_ndarray(format="rgb24")[:, ::-1])
        yield _at(av.VideoFrame.from_ndarray(turned, format="rgb24").reformat(format="yuv420p"), frame.pts)


def slower(frames: list[av.VideoFrame]) -> Iterable[av.VideoFrame]:
    """Let each frame last 1 percent longer."""
    return [_at(frame, round((frame.pts or 0) * 1.01)) for frame in frames]


def _at(frame: av.VideoFrame, pts: int | None) -> av.VideoFrame:
    copy = frame.reformat(format="yuv420p", width=frame.width, height=frame.height)
    if copy is frame:
        copy = av.VideoFrame.from_ndarray(frame.to_ndarray(format="yuv420p"), format="yuv420p")
        copy.colorspace, copy.color_range = frame.colorspace, frame.color_range
    copy.pts = pts
    return copy
