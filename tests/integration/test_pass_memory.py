"""An hour takes no more memory than a minute."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

_WORKER = """
import re, sys
from pathlib import Path
from consumers.clock import Deadline, SystemClock
from consumers.stages.single_pass import SinglePass
from schemas.profile import Limits, Profile

profile = Profile.model_validate({"scene": {"threshold": float(sys.argv[2])}})
with open(sys.argv[1], "rb") as stream:
    single_pass = SinglePass(stream, profile, Limits(), Deadline(SystemClock(), 600))
    num_clips = sum(1 for _ in single_pass.clips())
# Not ru_maxrss: that one is inherited from the process that started this one.
peak_kb = re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]
print(num_clips, round(single_pass.media.duration_s), peak_kb)
"""
_FRAMES_PER_GROUP = 15
_SECONDS_PER_FRAME = 2


def _write(path: Path, duration_s: int) -> Path:
    """Write 720p H.264 of half a frame per second: one group of pictures, encoded once and repeated."""
    rng = np.random.default_rng(0)
    picture = np.repeat(np.repeat(rng.integers(0, 256, (45, 80, 3), dtype=np.uint8), 16, axis=0), 16, axis=1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(1, _SECONDS_PER_FRAME))
        stream.width, stream.height = 1280, 720
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, 1000)
        stream.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "30"}
        packets = []
        for index in range(_FRAMES_PER_GROUP):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, 8 * index, axis=1), format="rgb24")
            frame.pts, frame.time_base = index * _SECONDS_PER_FRAME * 1000, Fraction(1, 1000)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        group = [(bytes(packet), packet.is_keyframe) for packet in packets]
        for index in range(duration_s // _SECONDS_PER_FRAME):
            content, is_keyframe = group[index % len(group)]
            packet = av.Packet(content)
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts = packet.dts = index * _SECONDS_PER_FRAME * 1000
            packet.duration = _SECONDS_PER_FRAME * 1000
            packet.is_keyframe = is_keyframe
            container.mux(packet)
    return path


def _peak(path: Path, threshold: float) -> tuple[int, int, int]:
    done = subprocess.run(
        [sys.executable, "-c", _WORKER, str(path), str(threshold)], check=True, capture_output=True, text=True
    )
    num_clips, duration_s, peak = map(int, done.stdout.split())
    return num_clips, duration_s, peak


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_an_hour_of_720p_in_one_scene_takes_no_more_memory_than_a_minute(tmp_path: Path) -> None:
    num_clips, duration_s, minute_peak = _peak(_write(tmp_path / "minute.mp4", 60), 255)
    assert (num_clips, duration_s) == (1, 60)
    num_clips, duration_s, hour_peak = _peak(_write(tmp_path / "hour.mp4", 3600), 255)
    assert (num_clips, duration_s) == (1, 3600)
    print(f"peak of a minute {minute_peak / 1024:.0f} MB, of an hour {hour_peak / 1024:.0f} MB")
    assert hour_peak <= 1.3 * minute_peak
