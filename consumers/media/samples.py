"""Sample videos, drawn and encoded here: for the demo, the tests and the benchmarks. The same bytes each time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import cv2
import numpy as np
from numpy.typing import NDArray

_AUDIO_RATE_HZ = 48_000


@dataclass(frozen=True, slots=True)
class Shot:
    """A stretch of video without a cut.

    Attributes:
        duration_s: length in seconds.
        look: ``moving`` is textured and pans, ``static`` is textured and stands still, ``dark`` pans
            too and is almost black.
        seed: decides texture, colour and direction.
        speed_px: pan per frame, in pixels.
    """

    duration_s: float
    look: Literal["moving", "static", "dark"] = "moving"
    seed: int = 0
    speed_px: int = 2


def write_video(
    path: Path,
    shots: Sequence[Shot],
    *,
    width: int = 640,
    height: int = 360,
    fps: Fraction | int = 24,
    gop: int = 48,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    audio: bool = False,
    options: Mapping[str, str] | None = None,
    timestamps: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 12800),
    container_options: Mapping[str, str] | None = None,
) -> Path:
    """Write ``shots`` one after the other as one video file; the suffix of ``path`` decides the container.

    Args:
        path: file to write.
        shots: what it shows.
        width: in pixels.
        height: in pixels.
        fps: frames per second.
        gop: most frames from one keyframe to the next; encoders put more of them at cuts unless ``options`` forbid it.
        codec: name of the encoder.
        pix_fmt: pixel format that is encoded.
        audio: add a tone as AAC (Opus in WebM).
        options: the encoder's own options, in addition to a fast preset for x264.
        timestamps: PTS of each frame in units of ``time_base``, for a variable frame rate or a late start; evenly
            spaced from 0 if None.
        time_base: seconds per unit of PTS; used with ``timestamps`` only.
        container_options: the muxer's own options.

    Returns:
        ``path``.
    """
    encoder_options = {"preset": "ultrafast", "crf": "23"} if codec == "libx264" else {}
    with av.open(str(path), "w", options=dict(container_options or {})) as container:
        video = container.add_stream(codec, rate=Fraction(fps), options={**encoder_options, **(options or {})})
        if not isinstance(video, av.VideoStream):
            raise ValueError(f"{codec} is not a video encoder")
        video.width, video.height, video.pix_fmt = width, height, pix_fmt
        video.codec_context.gop_size = gop
        video.codec_context.thread_count = 1
        if timestamps is not None:
            video.codec_context.time_base = time_base
        sound = None
        if audio:
            sound = container.add_stream("libopus" if path.suffix == ".webm" else "aac", rate=_AUDIO_RATE_HZ)
        num_frames = 0
        for picture in draw(shots, width, height, fps):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = num_frames if timestamps is None else timestamps[num_frames]
            frame.time_base = 1 / Fraction(fps) if timestamps is None else time_base
            container.mux(video.encode(frame))
            num_frames += 1
        container.mux(video.encode(None))
        if sound is not None:
            for chunk in _tone(float(num_frames / Fraction(fps))):
                container.mux(sound.encode(chunk))
            container.mux(sound.encode(None))
    return path


def draw(shots: Sequence[Shot], width: int, height: int, fps: Fraction | int) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of ``shots``: ``(height, width, 3)`` uint8 RGB. Each is a view that must not be written to."""
    for shot in shots:
        rng = np.random.default_rng(shot.seed)
        margin = 256
        coarse = rng.integers(0, 256, ((height + margin) // 24 + 2, (width + margin) // 24 + 2, 1)).astype(np.float32)
        tint = _tint(shot.seed)
        canvas = cv2.resize(coarse, (width + margin, height + margin), interpolation=cv2.INTER_CUBIC)[..., None] * tint
        canvas += rng.normal(0, 6, (height + margin, width + margin, 1)).astype(np.float32)
        if shot.look == "dark":
            canvas *= 0.18
        texture = np.clip(canvas, 0, 255).astype(np.uint8)
        speed = 0 if shot.look == "static" else shot.speed_px
        for index in range(round(shot.duration_s * fps)):
            x, y = _bounce(index * speed, margin), _bounce(index * speed // 2, margin)
            yield texture[y : y + height, x : x + width]


def write_samples(folder: Path, *, count: int | None = None) -> list[Path]:
    """Write the sample set into ``folder`` (created if missing): what a crawl brings in, good and bad.

    Args:
        folder: where to.
        count: only the first so many; all if None.

    Returns:
        The paths written, in order of name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, shots, audio in _SAMPLES[:count]:
        path = folder / name
        if not shots:
            path.write_text("This is a text file, whatever its name says.\n" * 64)
        else:
            write_video(path, shots, audio=audio)
        if "truncated" in name:
            path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 5])
        paths.append(path)
    return paths


_SAMPLES: tuple[tuple[str, tuple[Shot, ...], bool], ...] = (
    ("01_three_shots.mp4", (Shot(3, seed=1), Shot(2, seed=2, speed_px=3), Shot(3, seed=3)), True),
    ("02_one_good_of_three.mp4", (Shot(2, "static", seed=4), Shot(3, seed=5), Shot(2, "dark", seed=6)), True),
    ("03_static.mp4", (Shot(5, "static", seed=7),), False),
    ("04_dark.mp4", (Shot(4, "dark", seed=8),), False),
    ("05_two_shots.mp4", (Shot(2.5, seed=9, speed_px=4), Shot(2.5, seed=10)), False),
    ("06_truncated.mp4", (Shot(4, seed=11),), False),
    ("07_not_a_video.mp4", (), False),
    ("08_one_long_shot.mp4", (Shot(8, seed=12),), True),
)


def _tint(seed: int) -> NDArray[np.float32]:
    """Return RGB factors around 0.8 whose hue differs strongly between neighbouring seeds."""
    angle = 2 * math.pi * (seed * 0.381966 % 1)
    return np.array([0.6 + 0.4 * math.cos(angle + 2 * math.pi * k / 3) for k in range(3)], np.float32)


def _bounce(distance: int, span: int) -> int:
    """Return a position in ``[0, span)`` that runs to and fro."""
    step = distance % (2 * span - 2)
    return step if step < span else 2 * span - 2 - step


def _tone(duration_s: float) -> Iterator[av.AudioFrame]:
    """Yield a quiet 440 Hz tone with a click every second, as mono float frames of 1024 samples."""
    for start in range(0, round(duration_s * _AUDIO_RATE_HZ), 1024):
        sample = np.arange(start, start + 1024)
        wave = 0.1 * np.sin(2 * np.pi * 440 * sample / _AUDIO_RATE_HZ) + 0.5 * (sample % _AUDIO_RATE_HZ < 480)
        chunk = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None, :], format="fltp", layout="mono")
        chunk.sample_rate, chunk.pts, chunk.time_base = _AUDIO_RATE_HZ, start, Fraction(1, _AUDIO_RATE_HZ)
        yield chunk
