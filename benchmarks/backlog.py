"""How fast one consumer gets through a backlog when the pool costs nothing: reading, the loop, both tables' commits.

Usage: ``python -m benchmarks.backlog [--videos N] [--rounds R] [--json]``. Prints the case ``noop_videos_per_s``:
videos per second through the real source, loop and sink on a warehouse on disk, each video with one kept clip, and
beside it the same ledger rows and clips written by pypaimon alone, in commits of as many videos. The two sides take
turns, each time with a warehouse of its own; ``ratio`` is consumer to pypaimon, with its spread over the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from consumers.clock import SystemClock
from consumers.loop.commit_policy import CommitPolicy
from consumers.loop.config import ProcessorConfig
from consumers.loop.processor import Processor
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.rows import Lineage, curated_rows, ledger_rows
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.commit.table_committer import TableCommitter
from consumers.paimon.reading.known_rows import KnownRows
from consumers.paimon.source.row_source import RowIdSource
from consumers.paimon.tables import RawColumns
from consumers.pool_report import NOTHING_TO_REPORT, PoolReport
from schemas.positions import Position
from schemas.profile import clip_id
from schemas.records import ProcessedVideo, RawVideo, VideoOutcome, VideoTask
from tests.support.warehouse import NAMES, PROFILE, append_raw, make_warehouse, processed, table

_CLIPS_PER_COMMIT = 500
_ROWS_PER_SNAPSHOT = 10_000


class NoopPool:
    """A pool whose workers are done before they begin: each video has one kept clip."""

    capacity = 64

    def __init__(self) -> None:
        self._template = processed(0, num_kept=1, num_rejected=0).outcome
        self._fingerprint = PROFILE.fingerprint

    def start(self) -> None:
        """Do nothing."""

    def submit(self, task: VideoTask) -> Future[VideoOutcome]:
        """Return the outcome."""
        done: Future[VideoOutcome] = Future()
        done.set_result(self.outcome(task.video))
        return done

    def outcome(self, video: RawVideo) -> VideoOutcome:
        """Return what comes out of ``video``."""
        clip = self._template.clips[0]
        own_id = clip_id(video.source_table, video.row_id, clip.span, self._fingerprint)
        return replace(self._template, clips=(replace(clip, clip_id=own_id),))

    def report(self) -> PoolReport:
        """Return that nothing is in hand."""
        return NOTHING_TO_REPORT

    def close(self) -> None:
        """Do nothing."""


def _warehouse(folder: Path, num_videos: int) -> CatalogConfig:
    config = make_warehouse(folder)
    for start in range(0, num_videos, _ROWS_PER_SNAPSHOT):
        append_raw(config, [f"v{n}" for n in range(start, min(start + _ROWS_PER_SNAPSHOT, num_videos))])
    return config


def consume(config: CatalogConfig, num_videos: int) -> float:
    """Return the seconds that a consumer takes for the backlog."""
    source = KnownRows(RowIdSource(config, NAMES.raw), config, NAMES, "main", RawColumns())
    sink = PaimonSink(config, NAMES, "main", PROFILE)
    processor = Processor(
        source,
        sink,
        NoopPool(),
        SystemClock(),
        config=ProcessorConfig(commit=CommitPolicy(max_clips=_CLIPS_PER_COMMIT)),
    )
    started_s = time.monotonic()
    report = processor.run(until_caught_up=True)
    took_s = time.monotonic() - started_s
    sink.close()
    if report.counts.num_clips_committed != num_videos:
        raise RuntimeError(f"{report.counts.num_clips_committed} clips are committed, not {num_videos}")
    return took_s


def write_alone(config: CatalogConfig, num_videos: int) -> float:
    """Return the seconds that pypaimon takes for the same rows, in as many commits."""
    videos = _finished(config, num_videos)
    committers = [
        TableCommitter(table(config, name), "alone", lambda manager, latest: None)
        for name in (NAMES.ledger, NAMES.curated)
    ]
    started_s = time.monotonic()
    for number, start in enumerate(range(0, num_videos, _CLIPS_PER_COMMIT), 1):
        part = videos[start : start + _CLIPS_PER_COMMIT]
        lineage = Lineage("main", 1, number, PROFILE)
        for committer, rows in zip(
            committers,
            (ledger_rows([(video, 1) for video in part], lineage, None), curated_rows(part, lineage)),
            strict=True,
        ):
            committer.publish(committer.write(rows, number), number, {"by": "benchmark"})
    took_s = time.monotonic() - started_s
    for committer in committers:
        committer.close()
    return took_s


def _finished(config: CatalogConfig, num_videos: int) -> list[ProcessedVideo]:
    pool, source = NoopPool(), RowIdSource(config, NAMES.raw)
    rows = source.read(list(Position().missing(num_videos)))
    now = datetime.now(UTC)
    return [ProcessedVideo(row, pool.outcome(row), 1, now) for row in rows if isinstance(row, RawVideo)]


def measure(side: Callable[[CatalogConfig, int], float], num_videos: int) -> float:
    """Return videos per second of one side, in a warehouse of its own."""
    with tempfile.TemporaryDirectory(prefix="sluice-backlog-") as folder:
        return num_videos / side(_warehouse(Path(folder) / "warehouse", num_videos), num_videos)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.backlog", description="A backlog and a pool that costs nothing.")
    parser.add_argument("--videos", type=int, default=10_000, help="rows of the raw table")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side is measured")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(arguments)
    pairs = [(measure(consume, options.videos), measure(write_alone, options.videos)) for _ in range(options.rounds)]
    ratios = [ours / alone for ours, alone in pairs]
    line = {
        "benchmark": "backlog",
        "case": "noop_videos_per_s",
        "value": round(statistics.median(ours for ours, _ in pairs), 1),
        "unit": "videos/s",
        "baseline": round(statistics.median(alone for _, alone in pairs), 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
    }
    print(json.dumps(line) if options.json else "  ".join(f"{key} {value}" for key, value in line.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
