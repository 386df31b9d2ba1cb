"""What a long history costs: one consumer's commits, many of them, and the look-ups behind them.

Usage: ``python -m benchmarks.history [--commits N] [--json]``.
Measures at three lengths of history, N / 15, N / 3 and N commits of the real sink on disk, with maintenance going on
between commits, and prints a line for each row and length: the CPU milliseconds of one operation and their ``ratio`` to
those at the first length. ``disk`` is the bytes of metadata (manifests and snapshots) on disk.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

from consumers.paimon.catalog import CatalogConfig, open_catalog
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.tables import TableNames, create_tables
from consumers.ports import CommitBatch
from schemas.positions import OffsetRange, Position
from schemas.profile import Profile, clip_id
from schemas.records import (
    MOTION_MEAN_MAGNITUDE,
    BlobReference,
    ClipMedia,
    ClipOutcome,
    CutMethod,
    ProcessedVideo,
    RawVideo,
    Score,
    Span,
    Stage,
    VideoOutcome,
)

_NAMES = TableNames()
_PROFILE = Profile()
_AT = datetime(2026, 1, 1, tzinfo=UTC)
# Commits that each length is measured over: more than one merge of manifests falls among them.
_MEASURED = 40


def _video(row_id: int) -> ProcessedVideo:
    span = Span(0.0, 1.0, 0, 100, Fraction(1, 100), 0, 1)
    source = f"sluice.{_NAMES.raw}"
    clip = ClipOutcome(
        clip_id(source, row_id, span, _PROFILE.fingerprint),
        0,
        span,
        scores=(Score(Stage.MOTION, MOTION_MEAN_MAGNITUDE, 0.5, "farneback/full"),),
        media=ClipMedia(CutMethod.STREAM_COPY, b"clip", b"jpeg", 1, 0, False),
    )
    raw = RawVideo(row_id, 1, _AT, source, f"v{row_id}", BlobReference(f"file:///videos/v{row_id}.mp4"))
    return ProcessedVideo(raw, VideoOutcome(clips=(clip,)), 1, _AT)


class History:
    """A warehouse whose history grows commit by commit.

    Args:
        folder: where it lies.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = CatalogConfig({"warehouse": str(folder)})
        create_tables(open_catalog(self.config, create=True), self.config, _NAMES)
        self._sink = PaimonSink(self.config, _NAMES, "bench", _PROFILE)
        self._position: Position = self._sink.open().position
        self.num_commits = 0

    def commit(self) -> None:
        """Commit one video with one clip."""
        row_id = self.num_commits
        after = self._position.union([OffsetRange(row_id, row_id + 1)])
        self._sink.commit(CommitBatch((_video(row_id),), after))
        self._position = after
        self.num_commits += 1

    def start_known(self) -> None:
        """Take over as the consumer's newest incarnation."""
        self._sink.close()
        self._sink = PaimonSink(self.config, _NAMES, "bench", _PROFILE)
        self._sink.open()

    def metadata_bytes(self) -> int:
        """Return the bytes of manifests, lists and snapshots of ledger and curated table."""
        folders = [
            self.folder / "sluice.db" / name / kind
            for name in (_NAMES.ledger, _NAMES.curated)
            for kind in ("manifest", "snapshot")
        ]
        return sum(entry.stat().st_size for folder in folders for entry in os.scandir(folder))

    def close(self) -> None:
        """Release resources."""
        self._sink.close()


def _cpu_ms(work: Callable[[], object], times: int) -> float:
    """Return the mean CPU milliseconds of one call: of this process, all threads."""
    spent = []
    for _ in range(times):
        start_s = time.process_time()
        work()
        spent.append(time.process_time() - start_s)
    return 1000 * statistics.fmean(spent)


def measure(history: History) -> dict[str, float]:
    """Return what each operation costs at this length of history."""
    rows = {"commit_cpu": _cpu_ms(history.commit, _MEASURED), "start_known": _cpu_ms(history.start_known, 3)}
    rows["disk"] = float(history.metadata_bytes())
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.history", description="What a long history costs.")
    parser.add_argument("--commits", type=int, default=3000, help="length of the longest history")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    options = parser.parse_args(arguments)
    lengths = [options.commits // 15, options.commits // 3, options.commits]
    if lengths[0] < 2 * _MEASURED:
        parser.error(f"--commits must be at least {30 * _MEASURED}")
    first: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="sluice-history-") as folder:
        history = History(Path(folder))
        for length in lengths:
            while history.num_commits < length - _MEASURED:
                history.commit()
            for name, value in measure(history).items():
                first.setdefault(name, value)
                unit = "bytes" if name == "disk" else "cpu_ms"
                line = {"row": name, "commits": length, unit: round(value, 2), "ratio": round(value / first[name], 2)}
                print(json.dumps(line) if options.json else line, flush=True)
        history.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
