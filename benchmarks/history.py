"""What a long history costs: one consumer's commits, many of them, and the look-ups behind them.

Usage: ``python -m benchmarks.history [--commits N] [--no-maintenance] [--json]``.
Measures at three lengths of history, N / 100, N / 10 and N commits of the real sink on disk, and prints a line for each
row and length: the CPU milliseconds of one operation and their ``ratio`` to those at the first length. Beside each
commit five objects are registered, every fourth video is a dead letter, with every tenth commit a person asks for
something, and whenever an hour of such commits is over the tables are maintained, with snapshots kept for an hour.
``audit`` is per raw row.

Three rows are told from the second length on, where snapshots have begun to expire: ``disk`` is by how many bytes the
folders of ledger, curated and control table have grown per 1,000 commits over the last three rounds of maintenance,
``metadata`` the bytes of their manifests, lists and snapshots, ``files`` the number of data files, kept ones included.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

from consumers.clock import SystemClock
from consumers.paimon.catalog import CatalogConfig, open_catalog
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.control import PaimonControlStore
from consumers.paimon.landing.objects import ObjectInfo
from consumers.paimon.maintain.expiry import Retention
from consumers.paimon.maintain.maintainer import Maintainer
from consumers.paimon.reading.story import LetterFilter
from consumers.paimon.tables import TableNames, create_tables
from consumers.ports import CommitBatch
from schemas.control import AuditEntry
from schemas.positions import OffsetRange, Position
from schemas.profile import Profile, clip_id
from schemas.records import (
    MOTION_MEAN_MAGNITUDE,
    BlobReference,
    ClipMedia,
    ClipOutcome,
    CutMethod,
    Failure,
    FailureKind,
    ProcessedVideo,
    RawVideo,
    Score,
    Span,
    Stage,
    VideoOutcome,
)
from service import wiring
from service.library import ClipQuery
from service.paimon_library import PaimonLibrary
from service.settings import load_settings

_NAMES = TableNames()
_PROFILE = Profile()
_AT = datetime(2026, 1, 1, tzinfo=UTC)
_OBJECTS_PER_COMMIT = 5
_REQUEST_ONE_IN, _FAILED_ONE_IN, _HOUR_ONE_IN = 10, 4, 360
_ROUNDS_COMPARED = 3
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
    failure = Failure(FailureKind.PERMANENT, Stage.OPEN, "not_a_video", "it is a text file")
    outcome = VideoOutcome(clips=(clip,)) if row_id % _FAILED_ONE_IN else VideoOutcome(failure=failure)
    raw = RawVideo(row_id, 1, _AT, source, f"v{row_id}", BlobReference(f"file:///videos/v{row_id}.mp4"))
    return ProcessedVideo(raw, outcome, 1, _AT)


class History:
    """A warehouse whose history grows commit by commit.

    Args:
        folder: where it lies.
        is_maintained: maintain it as the service would.
    """

    def __init__(self, folder: Path, is_maintained: bool) -> None:
        self.folder = folder
        self.config = CatalogConfig({"warehouse": str(folder / "warehouse")})
        create_tables(open_catalog(self.config, create=True), self.config, _NAMES)
        settings_file = folder / "sluice.toml"
        settings_file.write_text(f'[catalog]\nwarehouse = "{folder / "warehouse"}"\n[consumer]\nid = "bench"\n')
        self.settings = load_settings(settings_file)
        self._is_maintained = is_maintained
        self._retention = Retention(timedelta(0), _HOUR_ONE_IN, 100_000)
        self._sink = PaimonSink(self.config, _NAMES, "bench", _PROFILE)
        self._position: Position = self._sink.open().position
        self._control = PaimonControlStore(self.config, _NAMES.control)
        self._progress = wiring.progress_reader(self.settings)
        self._registrar = wiring.registrar(self.settings)
        # What a process does once is not what a start costs.
        self.start_known()
        self._num_objects = 0
        self._bytes_after_rounds: list[int] = []
        self.num_commits = 0

    def grow(self) -> None:
        """Commit once more, with all that goes on beside it."""
        self.commit()
        self._registrar.add([self._object() for _ in range(_OBJECTS_PER_COMMIT)])
        if self.num_commits % _REQUEST_ONE_IN == 0:
            self.request()
        if self._is_maintained and self.num_commits % _HOUR_ONE_IN == 0:
            self.maintain()

    def maintain(self) -> None:
        """Make one round of maintenance."""
        Maintainer(self.config, _NAMES, self._retention, SystemClock()).run()
        self._bytes_after_rounds.append(sum(size for _, size in self._files()))

    def commit(self) -> None:
        """Commit one video with one clip, or a failed one."""
        row_id = self.num_commits
        after = self._position.union([OffsetRange(row_id, row_id + 1)])
        self._sink.commit(CommitBatch((_video(row_id),), after))
        self._position = after
        self.num_commits += 1

    def request(self) -> None:
        """Write what an operator has asked for."""
        now = datetime.now(UTC)
        entry_id = f"{now:%Y%m%dT%H%M%S.%f}Z-{uuid.uuid4().hex[:8]}"
        self._control.write(AuditEntry(entry_id, "replay", "bench", "operator", "127.0.0.1", now))

    def register_one(self) -> None:
        """Register one object with what the control plane keeps for it."""
        self._registrar.add([self._object()])

    def start_known(self) -> None:
        """Take over as the consumer's newest incarnation."""
        self._sink.close()
        self._sink = PaimonSink(self.config, _NAMES, "bench", _PROFILE)
        self._sink.open()

    def start_new(self) -> None:
        """Find out where a consumer stands that has never been there; nothing is claimed, so that nothing is held."""
        sink = PaimonSink(self.config, _NAMES, "never-seen", _PROFILE)
        sink._recover()
        sink.close()

    def probe(self) -> None:
        """Look where source and consumer are, as the lag prober does every two seconds."""
        self._progress.last_commit()
        head = self._progress.head()
        self._progress.origin(head.next_offset - 1)

    def newest_clips(self) -> None:
        """Open the page of clips, in a library that knows nothing."""
        PaimonLibrary(self.settings).clips(ClipQuery(), 256)

    def dead_letters(self) -> None:
        """Open the page of dead letters."""
        PaimonLibrary(self.settings).dead_letters(LetterFilter(), 50)

    def trail(self) -> None:
        """Read the newest requests."""
        self._control.audit_trail("bench", 100)

    def audit(self) -> None:
        """Compare all tables."""
        wiring.audit(self.settings)

    @property
    def num_rows(self) -> int:
        """Rows of the raw table."""
        return self._num_objects

    def _object(self) -> ObjectInfo:
        self._num_objects += 1
        return ObjectInfo(f"file:///videos/v{self._num_objects}.mp4", 1000, "1", _AT)

    def _files(self) -> Iterator[tuple[Path, int]]:
        """Yield the files of the tables that Sluice owns, with their sizes."""
        for name in (_NAMES.ledger, _NAMES.curated, _NAMES.control):
            for folder, _, names in os.walk(self.folder / "warehouse" / "sluice.db" / name):
                for path in (Path(folder) / each for each in names):
                    yield path, path.stat().st_size

    def store(self) -> dict[str, float]:
        """Return what is on disk; nothing before enough rounds of maintenance have been made to tell its growth."""
        after = self._bytes_after_rounds
        if len(after) <= _ROUNDS_COMPARED:
            return {}
        grown = (after[-1] - after[-1 - _ROUNDS_COMPARED]) / (_ROUNDS_COMPARED * _HOUR_ONE_IN)
        files = list(self._files())
        of_metadata = [size for path, size in files if path.parent.name in ("manifest", "snapshot", "index")]
        num_data = sum(path.parent.name.startswith("bucket-") for path, _ in files)
        return {"disk": 1000 * grown, "metadata": float(sum(of_metadata)), "files": float(num_data)}

    def close(self) -> None:
        """Release resources."""
        self._sink.close()
        self._control.close()
        self._registrar.close()


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
    history.register_one()
    rows = {
        "commit_cpu": _cpu_ms(history.commit, _MEASURED),
        "start_known": _cpu_ms(history.start_known, 3),
        "start_new": _cpu_ms(history.start_new, 2),
        "newest_clips": _cpu_ms(history.newest_clips, 2),
        "dead_letters": _cpu_ms(history.dead_letters, 2),
        "control_write": _cpu_ms(history.request, 10),
        "trail": _cpu_ms(history.trail, 3),
        "register_one": _cpu_ms(history.register_one, 10),
        "probe": _cpu_ms(history.probe, 10),
        "audit": _cpu_ms(history.audit, 1) / history.num_rows,
    }
    return rows | history.store()


_UNITS = {"disk": "bytes_per_1000", "metadata": "bytes", "files": "files", "audit": "cpu_ms_per_row"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.history", description="What a long history costs.")
    parser.add_argument("--commits", type=int, default=20_000, help="length of the longest history")
    parser.add_argument("--no-maintenance", action="store_true", help="nothing but what commits do by themselves")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    options = parser.parse_args(arguments)
    lengths = [options.commits // 100, options.commits // 10, options.commits]
    if lengths[0] < 2 * _MEASURED:
        parser.error(f"--commits must be at least {200 * _MEASURED}")
    first: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="sluice-history-") as folder:
        history = History(Path(folder), not options.no_maintenance)
        for length in lengths:
            while history.num_commits < length - _MEASURED:
                history.grow()
            for name, value in measure(history).items():
                first.setdefault(name, value)
                line = {
                    "row": name,
                    "commits": length,
                    _UNITS.get(name, "cpu_ms"): round(value, 3),
                    "ratio": round(value / max(first[name], 1e-9), 2),
                }
                print(json.dumps(line) if options.json else line, flush=True)
        history.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
