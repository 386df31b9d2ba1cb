"""Objects that are replaced while they are read: is any clip of another version than its scores?

Usage: ``python -m benchmarks.overwrites [--reads N] [--replacements N] [--store disk|s3|both] [--json]``.

One object is read N times through the real stages, from the opener to the cut, while another thread puts other versions
in its place: on disk in turn by a rename and by writing over it, on S3 (moto, which it starts itself) by a put. Half of
the versions have one length. Every version has pictures of its own, so that thumbnail (from the pass that judges) and
bytes (from the pass that cuts) each tell which version they are of. One line per store:

- ``num_whole``: reads that ended with clips, all of one version;
- ``num_mixed``: those with thumbnail and bytes of two versions; ``num_torn``: with bytes of no version;
- ``num_changed``: attempts that ended as ``object_changed``; ``other``: other ends, by name;
- ``num_tried_again``: reads that needed more than one attempt; each read goes on until it has clips.

Exit code: 0 where nothing is mixed or torn and every read came to its clips, else 1.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from consumers.clock import SystemClock
from consumers.media.allow_list import AllowList
from consumers.media.samples import Shot, write_video
from consumers.paimon.stores.blobs import PaimonBlobOpener
from consumers.stages.curate import VideoCurator
from schemas.profile import Limits, Profile
from schemas.records import BlobReference, RawVideo, VideoOutcome, VideoTask
from tests.support.s3_server import S3Server, catalog_options

_PROFILE = Profile.model_validate(
    {name: {"mode": "score_only"} for name in ("duration", "nsfw", "motion", "aesthetic")} | {"name": "overwrites"}
)
_NUM_VERSIONS = 6
_MAX_ATTEMPTS = 50
# Filler of the encoder makes the frames longer than a reader keeps in memory, so that both passes read from the store.
_LONG = {"x264-params": "nal-hrd=cbr:filler=1:bitrate=20000:vbv-maxrate=20000:vbv-bufsize=20000"}
_SIZE_BYTES = 6 * 2**20

Replace = Callable[[bytes], None]


@dataclass(frozen=True)
class Version:
    """One content of the object, and what a curator makes of it when nobody is in its way."""

    content: bytes
    thumbnail: str
    clip: str


def make_versions(folder: Path) -> list[Version]:
    """Write the versions and curate each by itself."""
    versions = []
    for number in range(_NUM_VERSIONS):
        path = write_video(folder / f"{number}.mp4", [Shot(2, seed=number)], width=160, height=96, options=_LONG)
        size = _SIZE_BYTES if number % 2 else _SIZE_BYTES + number * 1000
        path.write_bytes(padded(path.read_bytes(), size))
        outcome = curate(PaimonBlobOpener({}, AllowList([str(folder)])), str(path))
        thumbnail, clip = told(outcome)
        versions.append(Version(path.read_bytes(), thumbnail, clip))
    if len({(v.thumbnail) for v in versions}) < _NUM_VERSIONS or len({v.clip for v in versions}) < _NUM_VERSIONS:
        raise AssertionError("the versions cannot be told apart")
    return versions


def padded(video: bytes, size: int) -> bytes:
    """Return ``video``, an MP4, as one of ``size`` bytes, by a box at its end that demuxers step over."""
    padding = size - len(video)
    return video + padding.to_bytes(4, "big") + b"free" + bytes(padding - 8)


def curate(opener: PaimonBlobOpener, uri: str) -> VideoOutcome:
    """Return what the stages make of the object."""
    video = RawVideo(0, 1, datetime.now(UTC), "overwrites.raw", "v", BlobReference(uri))
    return VideoCurator(opener, _PROFILE, Limits(), SystemClock()).process(VideoTask(video, 1, 60))


def told(outcome: VideoOutcome) -> tuple[str, str]:
    """Return digests of the thumbnails and of the bytes of all clips."""
    media = [clip.media for clip in outcome.clips if clip.media is not None]
    return (
        hashlib.sha256(b"".join(item.thumbnail_jpeg or b"" for item in media)).hexdigest(),
        hashlib.sha256(b"".join(item.data or b"" for item in media)).hexdigest(),
    )


class Writer:
    """Replaces the object again and again, in a thread, until so many replacements are done.

    Args:
        versions: what it puts there.
        replace: how.
        num: how often.
        pause_s: returns how long it waits after each.
    """

    def __init__(self, versions: Sequence[Version], replace: Replace, num: int, pause_s: Callable[[], float]) -> None:
        self._contents = itertools.cycle(version.content for version in versions)
        self._replace, self._num, self._pause_s = replace, num, pause_s
        self.num_done = 0
        self._allowed = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def allow(self, num: int) -> None:
        """Let it go on for ``num`` replacements."""
        for _ in range(num):
            self._allowed.release()

    def join(self) -> None:
        """Wait until all are done."""
        self._thread.join()

    def _run(self) -> None:
        while self.num_done < self._num:
            self._allowed.acquire()
            time.sleep(self._pause_s())
            self._replace(next(self._contents))
            self.num_done += 1


def race(opener: PaimonBlobOpener, uri: str, replace: Replace, num_reads: int, num_replaced: int) -> dict[str, Any]:
    """Read and replace, and return the figures."""
    with tempfile.TemporaryDirectory(prefix="sluice-overwrites-") as folder:
        versions = make_versions(Path(folder))
    by_thumbnail = {version.thumbnail: index for index, version in enumerate(versions)}
    by_clip = {version.clip: index for index, version in enumerate(versions)}
    replace(versions[0].content)
    started_s = time.monotonic()
    curate(opener, uri)
    read_s = time.monotonic() - started_s
    per_read = num_replaced // num_reads
    draw = random.Random(1)
    writer = Writer(versions, replace, per_read * num_reads, lambda: draw.uniform(0, 2 * read_s / max(per_read, 1)))
    counts: Counter[str] = Counter()
    other: Counter[str] = Counter()
    for _ in range(num_reads):
        writer.allow(per_read)
        for attempt in range(_MAX_ATTEMPTS):
            outcome = curate(opener, uri)
            if outcome.failure is None:
                thumbnail, clip = told(outcome)
                pictures, cut = by_thumbnail.get(thumbnail), by_clip.get(clip)
                is_torn = cut is None or pictures is None
                counts["num_torn" if is_torn else "num_whole" if pictures == cut else "num_mixed"] += 1
                counts["num_tried_again"] += attempt > 0
                break
            if outcome.failure.error_class == "object_changed":
                counts["num_changed"] += 1
            else:
                other[f"{outcome.failure.error_class}: {outcome.failure.message}"[:160]] += 1
        else:
            other["given up"] += 1
    writer.join()
    names = ("num_whole", "num_mixed", "num_torn", "num_changed", "num_tried_again")
    return {
        "num_reads": num_reads,
        "num_replacements": writer.num_done,
        **{name: counts[name] for name in names},
        "other": dict(other),
        "wall_s": round(time.monotonic() - started_s, 1),
    }


@contextmanager
def on_disk() -> Iterator[tuple[PaimonBlobOpener, str, Replace]]:
    """Give an object on disk while the context is open."""
    with tempfile.TemporaryDirectory(prefix="sluice-overwrites-") as folder:
        path, new = Path(folder) / "video.mp4", Path(folder) / "video.new"
        ways = itertools.cycle([True, False])

        def replace(content: bytes) -> None:
            if next(ways):
                new.write_bytes(content)
                new.replace(path)
                return
            descriptor = os.open(path, os.O_WRONLY)
            try:
                os.pwrite(descriptor, content, 0)
                os.ftruncate(descriptor, len(content))
            finally:
                os.close(descriptor)

        yield PaimonBlobOpener({}, AllowList([folder])), path.as_uri(), replace


@contextmanager
def on_s3() -> Iterator[tuple[PaimonBlobOpener, str, Replace]]:
    """Give an object on an S3 server while the context is open."""
    with S3Server() as server:
        bucket = server.make_bucket("overwrites")
        client: Any = server.client()

        def replace(content: bytes) -> None:
            client.put_object(Bucket=bucket, Key="video.mp4", Body=content)

        opener = PaimonBlobOpener(catalog_options(server.endpoint), AllowList([f"s3://{bucket}"]))
        yield opener, f"s3://{bucket}/video.mp4", replace


_STORES = {"disk": on_disk, "s3": on_s3}


def run(store: str, num_reads: int, num_replacements: int) -> dict[str, Any]:
    """Run the race on one store and return its figures, ``store`` and ``is_clean`` among them."""
    with _STORES[store]() as (opener, uri, replace):
        figures = race(opener, uri, replace, num_reads, num_replacements)
    is_clean = figures["num_whole"] == num_reads
    return {"case": "overwrites", "store": store, **figures, "is_clean": is_clean}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the races; returns the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.overwrites", description="Objects replaced while they are read.")
    parser.add_argument("--reads", type=int, default=400)
    parser.add_argument("--replacements", type=int, default=1600)
    parser.add_argument("--store", choices=[*_STORES, "both"], default="both")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    options = parser.parse_args(arguments)
    if not 0 < options.reads <= options.replacements:
        parser.error("--reads is 1 or more, and --replacements no fewer")
    is_clean = True
    for store in _STORES if options.store == "both" else [options.store]:
        row = run(store, options.reads, options.replacements)
        is_clean = is_clean and row["is_clean"]
        print(json.dumps(row) if options.json else "  ".join(f"{k} {v}" for k, v in row.items()), flush=True)
    return 0 if is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
