"""The whole CPU pass against bare decoding: seconds of video per core-second, and their ratio.

Usage: ``python -m benchmarks.pipeline [--media DIR] [--rounds N] [--json]``. Prints a line per file, then the totals,
as JSON objects with ``--json``. Both sides run in this process with one thread, in turns, and count CPU time (user and
system), so a busy machine changes the figures little and their ratio less. A file that cannot be decoded gets a line
that says why, and counts for neither side.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import av

from consumers.clock import Deadline, SystemClock
from consumers.errors import VideoError
from consumers.media.samples import write_samples
from consumers.stages.single_pass import SinglePass
from schemas.profile import Limits, Profile
from schemas.records import MediaInfo

SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m4v", ".flv", ".mpg", ".mpeg"}
_HD_HEIGHT_PX = 720


@dataclass(frozen=True, slots=True)
class Measured:
    """CPU seconds of both sides on one file, summed over the rounds, and the seconds of video they covered."""

    name: str
    width_px: int
    height_px: int
    video_s: float
    decode_cpu_s: float
    pass_cpu_s: float


def bare_decode(path: Path) -> None:
    """Decode every frame with PyAV and do nothing with it: the limit that the pass is held against."""
    with av.open(str(path), metadata_errors="replace") as container:
        video = container.streams.video[0]
        video.thread_type = "NONE"
        video.codec_context.thread_count = 1
        for packet in container.demux(video):
            with contextlib.suppress(av.FFmpegError):
                packet.decode()


def whole_pass(path: Path) -> MediaInfo:
    """Run the single pass with the default profile and return what it found out."""
    with path.open("rb") as stream:
        single_pass = SinglePass(stream, Profile(), Limits(), _deadline())
        for _ in single_pass.clips():
            pass
        return single_pass.media


def measure(path: Path, rounds: int) -> Measured:
    """Return both sides' cost on ``path``, run in turns.

    Raises:
        VideoError: the file cannot be processed.
    """
    media = whole_pass(path)
    decode_cpu_s = pass_cpu_s = 0.0
    for _ in range(rounds):
        decode_cpu_s += _cpu_seconds(bare_decode, path)
        pass_cpu_s += _cpu_seconds(whole_pass, path)
    return Measured(path.name, media.width_px, media.height_px, media.duration_s * rounds, decode_cpu_s, pass_cpu_s)


def rates(measured: Sequence[Measured]) -> dict[str, float]:
    """Return seconds of video per core-second of both sides over ``measured`` (not empty), and their ratio."""
    video_s = sum(one.video_s for one in measured)
    decode_cpu_s = sum(one.decode_cpu_s for one in measured)
    pass_cpu_s = sum(one.pass_cpu_s for one in measured)
    return {
        "decode_video_s_per_core_s": round(video_s / decode_cpu_s, 2),
        "pass_video_s_per_core_s": round(video_s / pass_cpu_s, 2),
        "ratio": round(decode_cpu_s / pass_cpu_s, 3),
    }


def find_media(folder: Path) -> list[Path]:
    """Return the video files below ``folder``, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code: 0, or 2 where there is nothing to measure."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.pipeline", description="The whole CPU pass against bare decoding."
    )
    parser.add_argument("--media", type=Path, help="folder of videos; without it, samples made here")
    parser.add_argument("--rounds", type=int, default=2, help="how often each side runs on each file")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.media is None:
        with tempfile.TemporaryDirectory() as folder:
            write_samples(Path(folder))
            return report(Path(folder), options.rounds, options.json)
    if not options.media.is_dir():
        parser.error(f"--media {options.media}: no such folder")
    return report(options.media, options.rounds, options.json)


def report(folder: Path, rounds: int, as_json: bool) -> int:
    """Measure every video in ``folder`` and print the lines; returns the exit code."""
    paths = find_media(folder)
    if not paths:
        sys.stderr.write(f"nothing to measure: no video files in {folder}\n")
        return 2
    measured: list[Measured] = []
    for path in paths:
        try:
            one = measure(path, rounds)
        except VideoError as error:
            _print({"file": path.name, "error": error.error_class(), "message": str(error)}, as_json)
            continue
        measured.append(one)
        _print({"file": one.name, **_rounded(one), **rates([one])}, as_json)
    hd = [one for one in measured if min(one.width_px, one.height_px) == _HD_HEIGHT_PX]
    for label, group in (("all", measured), ("720p", hd)):
        if group:
            _print({"total": label, "num_files": len(group), **rates(group)}, as_json)
    return 0


def _rounded(one: Measured) -> dict[str, float | int]:
    fields = asdict(one)
    return {key: round(value, 3) for key, value in fields.items() if key != "name"}


def _print(line: dict[str, object], as_json: bool) -> None:
    print(json.dumps(line) if as_json else "  ".join(f"{key} {value}" for key, value in line.items()), flush=True)


def _deadline() -> Deadline:
    return Deadline(SystemClock(), Limits().deadline_s)


def _cpu_seconds(work: Callable[[Path], object], path: Path) -> float:
    start_s = time.process_time()
    work(path)
    return time.process_time() - start_s


if __name__ == "__main__":
    sys.exit(main())
