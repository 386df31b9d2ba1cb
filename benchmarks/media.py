"""The judge: every clip of every file of a folder against an independent decode of its source.

Usage: ``python -m benchmarks.media --media DIR [--json]``. Each file is curated through the real stages with nothing
filtered out, its clips cut as by default, and each clip is compared with its source, decoded by other code than the
service's: number, pictures and times of frames, size, aspect, turning and mirroring, colours and their tags, length,
sound (presence, likeness, sync, length), frames hidden in the bytes, and the thumbnail. Prints a row per file and last
a total, as JSON objects with ``--json``. A file is ``clean``, ``differs`` (the row says where), or ``failed`` (it was
refused, with the reason; whether rightly is for the reader to say). Each file has a process to itself that may crash.

Exit code: 0 where no file differs, 1 where one does, 2 where there is nothing to judge.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av

from benchmarks.media_compare import compare
from consumers.clock import SystemClock
from consumers.stages.curate import VideoCurator
from consumers.testing.blobs import LocalFiles
from schemas.profile import Limits, Profile
from schemas.records import BlobReference, RawVideo, VideoOutcome, VideoTask

SCORE_ONLY = Profile.model_validate(
    {name: {"mode": "score_only"} for name in ("duration", "nsfw", "motion", "aesthetic")} | {"name": "judge"}
)
"""Every clip is kept, whatever its scores."""

_DOCUMENTS = {".md", ".txt", ".json", ".csv", ".html", ".srt", ".vtt", ".py"}
_TIMEOUT_S = 1800


def judge(path: Path) -> dict[str, Any]:
    """Curate the file at ``path`` and return its row, a JSON object."""
    outcome = curate(path)
    row: dict[str, Any] = {"file": path.name, "verdict": "failed"}
    if outcome.media is not None:
        row |= {"container": outcome.media.container_format, "codec": outcome.media.codec}
    if outcome.failure is not None:
        return row | {"error": outcome.failure.error_class, "message": outcome.failure.message}
    return row | judged(path, outcome)


def judged(path: Path, outcome: VideoOutcome) -> dict[str, Any]:
    """Return verdict and findings on an outcome that did not fail."""
    try:
        found = compare(path, outcome)
    except (av.FFmpegError, ValueError) as error:
        return {"verdict": "differs", "problems": [f"the independent decode cannot read it: {error}"]}
    figures = {key: round(value, 3) if isinstance(value, float) else value for key, value in asdict(found).items()}
    return {"verdict": "differs" if found.problems else "clean", **figures}


def curate(path: Path) -> VideoOutcome:
    """Return what the stages make of the file at ``path``, in this process."""
    video = RawVideo(0, 1, datetime.now(UTC), "judge.raw", path.name, BlobReference(str(path)))
    curator = VideoCurator(LocalFiles(), SCORE_ONLY, Limits(), SystemClock())
    return curator.process(VideoTask(video, 1, Limits().deadline_s))


def find_files(folder: Path) -> list[Path]:
    """Return every file below ``folder`` that is no document by its name, sorted."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".") and path.suffix.lower() not in _DOCUMENTS
    )


def report(folder: Path, *, as_json: bool) -> int:
    """Judge every file of ``folder`` and print the rows; returns the exit code."""
    paths = find_files(folder)
    if not paths:
        sys.stderr.write(f"nothing to judge: no files in {folder}\n")
        return 2
    counts = Counter(dict.fromkeys(("clean", "differs", "failed"), 0))
    for path in paths:
        row = judge_apart(path)
        row["file"] = str(path.relative_to(folder))
        counts[row["verdict"]] += 1
        _print(row, as_json)
    _print({"total": "all", "num_files": len(paths), **counts}, as_json)
    return 1 if counts["differs"] else 0


def judge_apart(path: Path, work: Callable[[Path], dict[str, Any]] = judge) -> dict[str, Any]:
    """Judge ``path`` in a process of its own: a crash of a native library is a finding, not the end."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("forkserver")) as pool:
        try:
            return pool.submit(work, path).result(timeout=_TIMEOUT_S)
        except BrokenProcessPool:
            return {"verdict": "failed", "error": "crash", "message": "the process that curated it died"}


def _print(row: dict[str, Any], as_json: bool) -> None:
    print(json.dumps(row) if as_json else "  ".join(f"{key} {value}" for key, value in row.items()), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the judge; returns the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.media", description="Clips against an independent decode.")
    parser.add_argument("--media", type=Path, required=True, help="folder of videos")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    options = parser.parse_args(arguments)
    if not options.media.is_dir():
        parser.error(f"--media {options.media}: no such folder")
    return report(options.media, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
