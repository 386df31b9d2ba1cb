"""What the check of finished clips costs: cutting with it against cutting with less, in CPU seconds.

Usage: ``python -m benchmarks.clip_check [--rounds N] [--seconds S] [--json]``. One clip of a made video of 720p with
sound is cut again and again, the ways taking turns so that a busy machine slows all of them alike. Per kind of clip one
row: the median CPU time of each way, and their ratio.

``copied``: the check against decoding and counting the frames, which is the least that a copy needs. ``encoded``: the
check against none. ``pass``: decoding and judging with the pictures kept that clips are held against, against without.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import av
import numpy as np

from consumers.clock import Deadline, SystemClock
from consumers.media import cut
from consumers.media.check import Expected, find_fault
from consumers.media.cut import ClipCutter, CutMode
from consumers.media.reader import StreamView
from consumers.media.samples import Shot, write_video
from consumers.stages import clip_builder
from consumers.stages.base import ClipEvidence
from consumers.stages.single_pass import SinglePass
from schemas.profile import Limits, Profile
from schemas.records import CutMethod

_DEADLINE_S = 600
_X264 = {"preset": "veryfast", "x264-params": "scenecut=40:open-gop=0"}

Work = Callable[[], None]


def count_frames(file: IO[bytes], expected: Expected, deadline: Deadline) -> str | None:
    """Stand in for the check: decode and count."""
    with av.open(cast(BinaryIO, StreamView(cast(BinaryIO, file))), mode="r") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        num_frames = sum(1 for _ in container.decode(stream))
    return None if num_frames == expected.num_frames else f"{num_frames} frames"


def no_check(file: IO[bytes], expected: Expected, deadline: Deadline) -> str | None:
    """Stand in for the check: none."""
    return None


def evidence(data: bytes) -> list[ClipEvidence]:
    """Return the clips of a video, after one pass over it."""
    one_pass = SinglePass(io.BytesIO(data), Profile(), Limits(), Deadline(SystemClock(), _DEADLINE_S))
    return list(one_pass.clips())


def cut_once(data: bytes, clip: ClipEvidence, mode: CutMode, method: CutMethod) -> None:
    """Cut one clip and let go of it.

    Raises:
        RuntimeError: it came about in another way, or not at once: the figures would be of something else.
    """
    cutter = ClipCutter(io.BytesIO(data), mode, Deadline(SystemClock(), _DEADLINE_S))
    result = cutter.cut(
        clip.span,
        starts_on_keyframe=clip.starts_on_keyframe,
        pixel_aspect=clip.pixel_aspect,
        has_guessed_times=clip.has_guessed_times,
        look=clip.look,
    )
    if result.method is not method or result.failed_checks:
        raise RuntimeError(f"cut as {result.method}, wanted {method}; failed checks: {result.failed_checks}")
    if result.file is not None:
        result.file.close()


@contextmanager
def replaced(module: Any, name: str, value: object) -> Iterator[None]:
    """Put ``value`` in the place of a module's name."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def taking_turns(ways: Sequence[Work], rounds: int) -> list[float]:
    """Return the median CPU time of each way, in seconds, after one round that does not count."""
    found: list[list[float]] = [[] for _ in ways]
    for turn in range(rounds + 1):
        # Who goes first changes, as the second finds warmer caches.
        for index in range(len(ways)) if turn % 2 else reversed(range(len(ways))):
            began_s = time.process_time()
            ways[index]()
            if turn:
                found[index].append(time.process_time() - began_s)
    return [statistics.median(times) for times in found]


def measure(rounds: int, seconds: float, *, width: int = 1280, height: int = 720) -> Iterator[dict[str, Any]]:
    """Yield a row per kind of clip."""
    with tempfile.TemporaryDirectory() as folder:
        shots = [Shot(seconds, seed=1), Shot(seconds, seed=2), Shot(1, seed=3)]
        path = write_video(Path(folder) / "v.mp4", shots, width=width, height=height, gop=48, audio=True, options=_X264)
        data = path.read_bytes()
    clips = evidence(data)
    # The second begins and ends on a keyframe.
    clip = clips[1]

    def cutting(mode: CutMode, method: CutMethod, check: object = find_fault) -> Work:
        def work() -> None:
            with replaced(cut, "find_fault", check):
                cut_once(data, clip, mode, method)

        return work

    def with_look() -> None:
        evidence(data)

    def without_look() -> None:
        nothing = np.zeros((1, 1, 3), dtype=np.uint8)
        with replaced(clip_builder, "small_picture", lambda image: nothing):
            evidence(data)

    for kind, ways in (
        ("copied", [cutting("auto", CutMethod.STREAM_COPY), cutting("auto", CutMethod.STREAM_COPY, count_frames)]),
        ("encoded", [cutting("h264", CutMethod.REENCODE_H264), cutting("h264", CutMethod.REENCODE_H264, no_check)]),
        ("pass", [with_look, without_look]),
    ):
        times = taking_turns(ways, rounds)
        yield {
            "kind": kind,
            "clip_s": round(clip.span.duration_s, 3),
            "rounds": rounds,
            "cpu_s": round(times[0], 4),
            "least_cpu_s": round(times[1], 4),
            "ratio": round(times[0] / times[1], 4),
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.clip_check", description="What the check of clips costs.")
    parser.add_argument("--rounds", type=int, default=15, help="times that each way is taken (default 15)")
    parser.add_argument("--seconds", type=float, default=10, help="length of the clip (default 10)")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    options = parser.parse_args(arguments)
    for row in measure(options.rounds, options.seconds):
        print(
            json.dumps(row) if options.json else "  ".join(f"{key} {value}" for key, value in row.items()), flush=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
