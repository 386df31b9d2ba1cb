"""An hour takes no more memory than a minute."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.long_video import SlowVideo, write_slow_video

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
_VIDEO = SlowVideo(seconds_per_frame=2, frames_per_group=15, block_px=16, shift_px=8, crf=30)


def _peak(path: Path, threshold: float) -> tuple[int, int, int]:
    done = subprocess.run(
        [sys.executable, "-c", _WORKER, str(path), str(threshold)], check=True, capture_output=True, text=True
    )
    num_clips, duration_s, peak = map(int, done.stdout.split())
    return num_clips, duration_s, peak


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_an_hour_of_720p_in_one_scene_takes_no_more_memory_than_a_minute(tmp_path: Path) -> None:
    num_clips, duration_s, minute_peak = _peak(write_slow_video(tmp_path / "minute.mp4", 60, _VIDEO), 255)
    assert (num_clips, duration_s) == (1, 60)
    num_clips, duration_s, hour_peak = _peak(write_slow_video(tmp_path / "hour.mp4", 3600, _VIDEO), 255)
    assert (num_clips, duration_s) == (1, 3600)
    print(f"peak of a minute {minute_peak / 1024:.0f} MB, of an hour {hour_peak / 1024:.0f} MB")
    assert hour_peak <= 1.3 * minute_peak
