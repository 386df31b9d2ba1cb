"""What the tables say, for people: videos, clips, dead letters, the audit. Everything is bounded."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from consumers.errors import ConfigurationError
from consumers.paimon.audit import AuditReport
from consumers.paimon.clips import ClipBytes, ClipRecord
from consumers.paimon.raw_writer import RegisterReport
from consumers.paimon.reposition import Move
from consumers.paimon.story import LetterFilter
from consumers.ports import CommitMark
from schemas.positions import OffsetRange, Position
from schemas.records import RawVideo
from service import wiring
from service.settings import Settings

MAX_CLIPS_SCANNED = 100_000
_MAX_CACHED_BYTES = 64 * 1024**2
_MAX_KNOWN_CLIPS = 10_000


@dataclass(frozen=True, slots=True)
class ClipQuery:
    """Which clips; None does not restrict.

    Attributes:
        before: row id in the curated table; only clips below it.
        since: processed at or after.
        until: processed before.
        text: part of the caption, case ignored.
        source_row_id: of this video.
        min_motion: least motion score.
        min_aesthetic: least aesthetic score.
        min_quality: least technical quality.
        max_nsfw: highest NSFW score.
    """

    before: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None
    source_row_id: int | None = None
    min_motion: float | None = None
    min_aesthetic: float | None = None
    min_quality: float | None = None
    max_nsfw: float | None = None

    def admits(self, row: Mapping[str, Any]) -> bool:
        """Return whether a clip meets every restriction. A score that was not measured meets none."""
        at = row["processed_at"]
        return (
            (self.since is None or at >= self.since)
            and (self.until is None or at < self.until)
            and (self.source_row_id is None or row["source_row_id"] == self.source_row_id)
            and (self.text is None or self.text.casefold() in (row["caption"] or "").casefold())
            and _at_least(row["motion_score"], self.min_motion)
            and _at_least(row["aesthetic_score"], self.min_aesthetic)
            and _at_least(row["technical_quality"], self.min_quality)
            and (self.max_nsfw is None or (row["nsfw_score"] is not None and row["nsfw_score"] <= self.max_nsfw))
        )


def _at_least(value: float | None, bound: float | None) -> bool:
    return bound is None or (value is not None and value >= bound)


@dataclass(frozen=True, slots=True)
class ClipList:
    """Clips, the newest first; ``next_before`` is None when there are no more."""

    records: list[ClipRecord]
    next_before: int | None


class Library(Protocol):
    """The tables of one consumer. Thread-safe. Every method may raise :class:`StoreUnavailableError`."""

    def dead_letters(self, wanted: LetterFilter, limit: int) -> list[dict[str, Any]]:
        """Return ledger rows of source rows whose latest run failed, the highest row id first."""
        ...

    def rejected(self, before: int, limit: int) -> tuple[list[dict[str, Any]], int | None]:
        """Return ledger rows of source rows whose latest run kept no clip, and where to go on."""
        ...

    def audit(self) -> AuditReport | None:
        """Compare the tables; None when an audit is under way already."""
        ...

    def raw_video(self, row_id: int) -> RawVideo | None:
        """Return a row of the raw table, None when there is none."""
        ...

    def runs(self, row_id: int) -> list[dict[str, Any]]:
        """Return the ledger rows of a source row."""
        ...

    def clips(self, query: ClipQuery, limit: int) -> ClipList:
        """Return at most ``limit`` clips, from at most :data:`MAX_CLIPS_SCANNED` looked at."""
        ...

    def clip(self, clip_id: str) -> ClipRecord | None:
        """Return one clip."""
        ...

    def clip_bytes(self, record: ClipRecord) -> ClipBytes:
        """Return the bytes of one clip."""
        ...

    def register(self, uris: Sequence[str]) -> RegisterReport:
        """Register objects.

        Raises:
            ConfigurationError: one does not exist or is not on the allow-list; nothing was registered.
        """
        ...

    def head_offset(self) -> int:
        """Return the offset after the last one of the source."""
        ...

    def recent_commits(self, limit: int) -> list[CommitMark]:
        """Return the newest retained commits, the newest first."""
        ...

    def committed(self) -> tuple[Position, int, int]:
        """Return position, sequence and epoch of the last commit."""
        ...

    def plan_move(self, offset: int) -> Move:
        """Plan to go on from ``offset``."""
        ...

    def plan_again(self, row_ids: Sequence[int]) -> Move:
        """Plan to process rows again."""
        ...

    def make_move(self, move: Move) -> None:
        """Make a planned change."""
        ...


class PaimonLibrary:
    """Implements :class:`Library` on the tables that the settings name.

    Raises:
        ConfigurationError: a table is missing or does not fit.
        StoreUnavailableError: the store did not answer.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._story = wiring.story_reader(settings)
        self._repositioner = wiring.repositioner(settings)
        self._progress = wiring.progress_reader(settings)
        self._progress_lock = threading.Lock()
        self._audit_lock = threading.Lock()
        self._register_lock = threading.Lock()
        self._cache_lock = threading.Lock()
        self._known: OrderedDict[str, ClipRecord] = OrderedDict()
        self._bytes: OrderedDict[int, ClipBytes] = OrderedDict()

    def dead_letters(self, wanted: LetterFilter, limit: int) -> list[dict[str, Any]]:
        """Return ledger rows of source rows whose latest run failed, the highest row id first."""
        return self._story.dead_letters(wanted, limit)

    def rejected(self, before: int, limit: int) -> tuple[list[dict[str, Any]], int | None]:
        """Return ledger rows of source rows whose latest run kept no clip, and where to go on."""
        return self._story.rejected(before, limit)

    def audit(self) -> AuditReport | None:
        """Compare the tables, one audit at a time."""
        if not self._audit_lock.acquire(blocking=False):
            return None
        try:
            return wiring.audit(self._settings)
        finally:
            self._audit_lock.release()

    def raw_video(self, row_id: int) -> RawVideo | None:
        """Return a row of the raw table, None when there is none."""
        found = next(iter(wiring.build_source(self._settings).read([OffsetRange(row_id, row_id + 1)])), None)
        return found if isinstance(found, RawVideo) else None

    def runs(self, row_id: int) -> list[dict[str, Any]]:
        """Return the ledger rows of a source row."""
        return self._story.runs(row_id)

    def clips(self, query: ClipQuery, limit: int) -> ClipList:
        """Return at most ``limit`` clips, from at most :data:`MAX_CLIPS_SCANNED` looked at."""
        found: list[ClipRecord] = []
        num_scanned = 0
        for record in wiring.clip_reader(self._settings).clips(newest_first=True):
            if query.before is not None and record.row_id >= query.before:
                continue
            if len(found) == limit or num_scanned == MAX_CLIPS_SCANNED:
                # This one begins the next page.
                return ClipList(found, record.row_id + 1)
            num_scanned += 1
            if query.admits(record.values):
                found.append(record)
                self._remember(record)
        return ClipList(found, None)

    def clip(self, clip_id: str) -> ClipRecord | None:
        """Return one clip; one that was listed lately is not searched for."""
        with self._cache_lock:
            known = self._known.get(clip_id)
        if known is not None:
            return known
        for record in wiring.clip_reader(self._settings).clips(newest_first=True):
            if record.values["clip_id"] == clip_id:
                self._remember(record)
                return record
        return None

    def clip_bytes(self, record: ClipRecord) -> ClipBytes:
        """Return the bytes of one clip; a player's range requests read them from the table once."""
        with self._cache_lock:
            cached = self._bytes.get(record.row_id)
        if cached is not None:
            return cached
        found = wiring.clip_reader(self._settings).read(record)
        with self._cache_lock:
            self._bytes[record.row_id] = found
            while len(self._bytes) > 1 and sum(map(_size, self._bytes.values())) > _MAX_CACHED_BYTES:
                self._bytes.popitem(last=False)
        return found

    def register(self, uris: Sequence[str]) -> RegisterReport:
        """Register objects that are allow-listed; patterns and folders are none."""
        allowed = wiring.allow_list(self._settings)
        for uri in uris:
            # Checked before anything is opened: the answer must not tell what exists elsewhere.
            allowed.check(uri)
        with self._register_lock:
            objects = wiring.find_objects(self._settings, uris)
            if len(objects) > len(set(uris)):
                raise ConfigurationError("one of the URIs is a folder or a pattern; name objects")
            return wiring.register(self._settings, objects)

    def head_offset(self) -> int:
        """Return the offset after the last one of the source."""
        with self._progress_lock:
            return self._progress.head().next_offset

    def recent_commits(self, limit: int) -> list[CommitMark]:
        """Return the newest retained commits, the newest first."""
        with self._progress_lock:
            return self._progress.recent_commits(limit)

    def committed(self) -> tuple[Position, int, int]:
        """Return position, sequence and epoch of the last commit."""
        return self._repositioner.current()

    def plan_move(self, offset: int) -> Move:
        """Plan to go on from ``offset``."""
        return self._repositioner.to_offset(offset)

    def plan_again(self, row_ids: Sequence[int]) -> Move:
        """Plan to process rows again."""
        return self._repositioner.again(row_ids)

    def make_move(self, move: Move) -> None:
        """Make a planned change."""
        self._repositioner.make(move)

    def _remember(self, record: ClipRecord) -> None:
        with self._cache_lock:
            self._known[str(record.values["clip_id"])] = record
            if len(self._known) > _MAX_KNOWN_CLIPS:
                self._known.popitem(last=False)


def _size(found: ClipBytes) -> int:
    return len(found.clip or b"") + len(found.thumbnail_jpeg or b"")
