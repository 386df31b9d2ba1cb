"""Videos of an hour that are written in a moment: 720p H.264 with few frames a minute."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

_WIDTH_PX, _HEIGHT_PX = 1280, 720
_TIME_BASE = Fraction(1, 1000)


@dataclass(frozen=True)
class SlowVideo:
    """What the frames are like: noise in blocks of ``block_px``, moved by ``shift_px`` from frame to frame."""

    seconds_per_frame: int
    frames_per_group: int
    block_px: int
    shift_px: int
    crf: int


def write_slow_video(path: Path, duration_s: int, video: SlowVideo) -> Path:
    """Write one group of pictures, encoded once and repeated to the end."""
    blocks = (_HEIGHT_PX // video.block_px, _WIDTH_PX // video.block_px, 3)
    noise = np.random.default_rng(0).integers(0, 256, blocks, dtype=np.uint8)
    picture = np.repeat(np.repeat(noise, video.block_px, axis=0), video.block_px, axis=1)
    step = video.seconds_per_frame * 1000
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(1, video.seconds_per_frame))
        stream.width, stream.height = _WIDTH_PX, _HEIGHT_PX
        stream.pix_fmt = "yuv420p"
        stream.time_base = _TIME_BASE
        stream.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": str(video.crf)}
        packets = []
        for index in range(video.frames_per_group):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, video.shift_px * index, axis=1), format="rgb24")
            frame.pts, frame.time_base = index * step, _TIME_BASE
            packets += stream.encode(frame)
        packets += stream.encode(None)
        group = [(bytes(packet), packet.is_keyframe) for packet in packets]
        for index in range(duration_s // video.seconds_per_frame):
            content, is_keyframe = group[index % len(group)]
            packet = av.Packet(content)
            packet.stream, packet.time_base = stream, _TIME_BASE
            packet.pts = packet.dts = index * step
            packet.duration = step
            packet.is_keyframe = is_keyframe
            container.mux(packet)
    return path
