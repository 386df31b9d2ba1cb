"""Takes videos and cut clips apart in tests."""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from consumers.clock import Deadline, SystemClock
from consumers.media.decode import VideoDecoder
from schemas.profile import Limits
from schemas.records import Span


@dataclass(frozen=True)
class Frame:
    """One frame as displayed; times in seconds, from the first frame."""

    pts: int
    end_pts: int
    time_s: float
    is_keyframe: bool
    is_usable: bool
    pixel_aspect: Fraction | None
    rgb: NDArray[np.uint8]


@dataclass(frozen=True)
class Source:
    """A video, decoded from front to back."""

    frames: tuple[Frame, ...]
    time_base: Fraction

    def span(self, start: int, end: int) -> Span:
        """Return the span of the frames from ``start`` up to ``end``."""
        first = self.frames[start]
        end_pts = self.frames[end].pts if end < len(self.frames) else self.frames[-1].end_pts
        end_s = first.time_s + float((end_pts - first.pts) * self.time_base)
        return Span(first.time_s, end_s, first.pts, end_pts, self.time_base, start, end)


def read_source(path: Path) -> Source:
    """Decode a whole file the way the pass does."""
    decoder = VideoDecoder(io.BytesIO(path.read_bytes()), Limits(), Deadline(SystemClock(), 60))
    frames = []
    for frame in decoder.frames():
        rgb = frame.orientation.upright(np.asarray(frame.image.to_ndarray(format="rgb24"), dtype=np.uint8))
        frames.append(
            Frame(
                frame.pts,
                frame.end_pts,
                frame.time_s,
                frame.is_keyframe,
                frame.is_usable,
                frame.pixel_aspect,
                rgb,
            )
        )
    return Source(tuple(frames), decoder.time_base)


@dataclass(frozen=True)
class DecodedClip:
    """A clip's bytes, decoded. Times in seconds."""

    pictures: list[NDArray[np.uint8]]
    times_s: list[float]
    sound: NDArray[np.float32]
    sound_start_s: float
    sound_rate_hz: int


def decode_clip(data: bytes) -> DecodedClip:
    """Decode pictures and, as mono, sound."""
    pictures, times_s, chunks = [], [], []
    sound_start_s, rate = 0.0, 0
    with av.open(io.BytesIO(data), mode="r") as container:
        for frame in container.decode(container.streams.video[0]):
            pictures.append(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4))
            times_s.append(float(frame.time))
    with av.open(io.BytesIO(data), mode="r") as container:
        if container.streams.audio:
            for sound in container.decode(container.streams.audio[0]):
                if not chunks:
                    sound_start_s, rate = float(sound.time or 0), sound.sample_rate
                chunks.append(sound.to_ndarray().mean(axis=0))
    return DecodedClip(
        pictures, times_s, np.concatenate(chunks) if chunks else np.zeros(0, np.float32), sound_start_s, rate
    )


def opencv_pictures(data: bytes, path: Path) -> list[NDArray[np.uint8]]:
    """Decode the clip with OpenCV, by way of a file at ``path``."""
    path.write_bytes(data)
    capture = cv2.VideoCapture(str(path))
    pictures = []
    while True:
        found, bgr = capture.read()
        if not found:
            return pictures
        pictures.append(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))


def psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio in dB, infinite for equal pictures."""
    error = float(np.mean((one.astype(np.float32) - other) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def is_faststart(data: bytes) -> bool:
    """Return whether the index precedes the media data and nothing is fragmented."""
    return 0 < data.find(b"moov") < data.find(b"mdat") and data.find(b"moof") < 0


def increases(values: list[float]) -> bool:
    """Return whether each value is above the one before."""
    return all(later > earlier for earlier, later in pairwise(values))
