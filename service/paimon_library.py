"""The tables behind :class:`service.library.Library`: bounded searches, caches, and one writer at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any

from consumers.clock import Clock, SystemClock
from consumers.paimon.commit.reposition import Move
from consumers.paimon.commit.takedown import Takedown
from consumers.paimon.landing.raw_writer import RegisterReport, Registrar
from consumers.paimon.reading.audit_report import AuditReport
from consumers.paimon.reading.clips import ClipBytes, ClipPlace, ClipReader, ClipRecord
from consumers.paimon.reading.story import LetterFilter, VideoFilter
from consumers.paimon.reading.takedowns import Certificate, TargetKind
from consumers.paimon.scan import ROW_ID
from consumers.ports import CommitMark
from schemas.positions import OffsetRange, Position
from schemas.records import RawVideo
from service import takedowns, wiring
from service.library import ClipList, ClipQuery
from service.settings import Settings

SEARCH_S = 1.0
"""About how long a search looks before it says where to go on, in seconds."""
_FIRST_ROWS, _MOST_ROWS = 256, 32_768
_MAX_CACHED_BYTES = 16 * 1024**2
# A clip's columns are some 6 kB, and a page shows 24.
_MAX_KNOWN_CLIPS = 1000


class PaimonLibrary:
    """Implements :class:`Library` on the tables that the settings name.

    Args:
        settings: of the service.
        clock: time, for searches that end after some.

    Raises:
        ConfigurationError: a table is missing or does not fit.
        StoreUnavailableError: the store did not answer.
    """

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._story = wiring.story_reader(settings)
        self._repositioner = wiring.repositioner(settings)
        self._progress = wiring.progress_reader(settings)
        self._progress_lock = threading.Lock()
        self._audit_lock = threading.Lock()
        self._register_lock = threading.Lock()
        # Made with the first request: it reads the raw table once.
        self._registrar: Registrar | None = None
        self._cache_lock = threading.Lock()
        self._clips = wiring.clip_reader(settings)
        # With the snapshot in which each was last seen: a clip may be taken down.
        self._known: OrderedDict[str, tuple[ClipRecord, int]] = OrderedDict()
        self._pictures = _Pictures()

    def dead_letters(self, wanted: LetterFilter, limit: int) -> tuple[list[dict[str, Any]], int | None]:
        """Return ledger rows of source rows whose latest run failed, the highest row id first, and where to go on."""
        return self._story.dead_letters(wanted, limit, within_s=SEARCH_S)

    def all_dead_letters(self, wanted: LetterFilter, limit: int) -> list[dict[str, Any]]:
        """Return those that :meth:`dead_letters` would over all its pages, however long that takes."""
        return self._story.dead_letters(wanted, limit)[0]

    def videos(self, wanted: VideoFilter, limit: int) -> tuple[list[dict[str, Any]], int | None]:
        """Return the latest ledger rows of videos, the highest row id first, and where to go on."""
        return self._story.videos(wanted, limit, within_s=SEARCH_S)

    def rejected(self, before: int | None, limit: int) -> tuple[list[dict[str, Any]], int | None]:
        """Return ledger rows of source rows whose latest run kept no clip, and where to go on."""
        return self._story.rejected(before, limit, within_s=SEARCH_S)

    def audit(self, num_decoded: int = 0) -> AuditReport | None:
        """Compare the tables, one audit at a time."""
        if not self._audit_lock.acquire(blocking=False):
            return None
        try:
            return wiring.audit(self._settings, deep=num_decoded > 0, sample=num_decoded)
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
        """Return at most ``limit`` clips; fewer where many had to be looked at."""
        reader = self._clips.newest()
        end = reader.end if query.before is None else min(query.before, reader.end)
        found: list[ClipRecord] = []
        for start, rows in self._search(reader, ClipQuery.COLUMNS, end):
            matching = [int(row[ROW_ID]) for row in reversed(rows) if query.admits(row)]
            num_left = limit - len(found)
            found += reader.records(matching[:num_left])
            if len(matching) > num_left:
                # The next one begins the next page.
                return self._listed(found, reader, matching[num_left] + 1)
            end = start
        return self._listed(found, reader, end or None)

    def clip(self, clip_id: str, row_id: int | None = None) -> ClipRecord | None:
        """Return one clip; without the row that it is said to be in, it is looked for among the newest."""
        reader = self._clips.newest()
        with self._cache_lock:
            known, seen_in = self._known.get(clip_id, (None, -1))
        if known is not None and seen_in == reader.snapshot_id:
            return known
        for place in (row_id, None if known is None else known.row_id):
            record = None if place is None else reader.record(place)
            if record is not None and record.values["clip_id"] == clip_id:
                break
        else:
            record = self._find(reader, clip_id)
        if record is None:
            with self._cache_lock:
                self._known.pop(clip_id, None)
        else:
            self._remember(record, reader)
        return record

    def clip_places(
        self, source_row_id: int, clip_ids: Collection[str], landed_at: datetime, processed_at: datetime
    ) -> dict[str, ClipPlace]:
        """Return the places of clips of one video that are in the curated table, by clip id."""
        with self._cache_lock:
            known = {clip_id: self._known[clip_id] for clip_id in clip_ids if clip_id in self._known}
        reader = self._clips.newest()
        if len(known) == len(clip_ids) and all(seen_in == reader.snapshot_id for _, seen_in in known.values()):
            return {clip_id: record.place for clip_id, (record, _) in known.items()}
        return reader.places_of_video(source_row_id, set(clip_ids), f"{landed_at:%Y-%m-%d}", processed_at)

    def media(self, record: ClipRecord) -> ClipBytes | None:
        """Return the MP4 of one clip as something to read from, None where only a reference is kept."""
        return self._clips.newest().open_media(record)

    def thumbnail(self, record: ClipRecord) -> bytes | None:
        """Return the JPEG of one clip, None where it has none."""
        with self._cache_lock:
            known = self._pictures.get(record.row_id)
        if known is not None:
            return known
        data = self._clips.newest().thumbnail(record)
        if data is not None:
            with self._cache_lock:
                self._pictures.add(record.row_id, data)
        return data

    def register(self, uris: Sequence[str]) -> RegisterReport:
        """Register objects that are allow-listed; patterns and folders are none."""
        allowed = wiring.allow_list(self._settings)
        for uri in uris:
            # Checked before anything is opened: the answer must not tell what exists elsewhere.
            allowed.check(uri)
        with self._register_lock:
            # Nothing is expanded: a pattern could lead anywhere before the result is looked at.
            objects = wiring.name_objects(self._settings, uris)
            if self._registrar is None:
                self._registrar = wiring.registrar(self._settings)
            num_added = self._registrar.add(objects)
            return RegisterReport(num_added, len({(item.uri, item.etag) for item in objects}) - num_added)

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

    def plan_takedown(
        self, kind: TargetKind, value: str, actor: str, origin: str, at: datetime, reason: str | None
    ) -> Takedown:
        """Return what is to be taken down, not yet stored."""
        return takedowns.plan(self._settings, kind, value, actor, origin, at, reason)[0]

    def take_down(self, takedown: Takedown) -> None:
        """Store a takedown."""
        wiring.takedown_store(self._settings).add(takedown)

    def obey_takedowns(self) -> None:
        """Do what takedowns ask of this consumer, which must not run."""
        takedowns.obey(self._settings)

    def takedowns(self, takedown_id: str | None = None) -> list[Certificate]:
        """Return the certificate of one takedown, or of all, the newest first."""
        return wiring.takedown_reader(self._settings).certificates(takedown_id)

    def _find(self, reader: ClipReader, clip_id: str) -> ClipRecord | None:
        for _, rows in self._search(reader, ("clip_id",), reader.end):
            for row in rows:
                if row["clip_id"] == clip_id:
                    return reader.record(int(row[ROW_ID]))
        return None

    def _search(
        self, reader: ClipReader, columns: tuple[str, ...], end: int
    ) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """Yield columns of the rows below ``end``, the newest part first, until it has taken long enough.

        With each part comes the row id that it begins at. Parts grow as long as they come quickly: how much a second
        holds depends on the files, which may be many and small.
        """
        started_s = last_s = self._clock.monotonic_s()
        num_rows = _FIRST_ROWS
        while end > 0 and last_s - started_s < SEARCH_S:
            start = max(0, end - num_rows)
            yield start, reader.columns(columns, OffsetRange(start, end))
            now_s = self._clock.monotonic_s()
            if now_s - last_s < SEARCH_S / 8:
                num_rows = min(2 * num_rows, _MOST_ROWS)
            end, last_s = start, now_s

    def _listed(self, found: list[ClipRecord], reader: ClipReader, next_before: int | None) -> ClipList:
        for record in found:
            self._remember(record, reader)
        return ClipList(found, next_before)

    def _remember(self, record: ClipRecord, reader: ClipReader) -> None:
        with self._cache_lock:
            self._known[str(record.values["clip_id"])] = (record, reader.snapshot_id)
            if len(self._known) > _MAX_KNOWN_CLIPS:
                self._known.popitem(last=False)


class _Pictures:
    """Pictures by row, those that were wanted last. Not thread-safe."""

    def __init__(self) -> None:
        self._pictures: OrderedDict[int, bytes] = OrderedDict()
        self._num_bytes = 0

    def get(self, row_id: int) -> bytes | None:
        """Return the picture of a row, None where it is not kept."""
        found = self._pictures.get(row_id)
        if found is not None:
            self._pictures.move_to_end(row_id)
        return found

    def add(self, row_id: int, picture: bytes) -> None:
        """Keep a picture, and let go of those that were not wanted for the longest time."""
        self._num_bytes += len(picture) - len(self._pictures.pop(row_id, b""))
        self._pictures[row_id] = picture
        while self._num_bytes > _MAX_CACHED_BYTES:
            _, gone = self._pictures.popitem(last=False)
            self._num_bytes -= len(gone)
