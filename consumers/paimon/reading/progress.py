"""How far a consumer is, told by the snapshots of the tables alone."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog, store_errors
from consumers.paimon.commit.markers import (
    MAX_SNAPSHOTS_WALKED,
    Division,
    Marker,
    newer_division,
    newest_marker,
    read_division,
)
from consumers.paimon.commit.recovery import standing_of
from consumers.paimon.snapshots import earliest_snapshot_id, identity_of, read_snapshot, snapshot_time
from consumers.paimon.source.changelog_source import ChangelogSource
from consumers.paimon.source.offsets import snapshot_of
from consumers.paimon.source.retention import RetentionRules
from consumers.paimon.source.sources import open_source, protector
from consumers.paimon.tables import RawColumns, TableNames
from consumers.ports import CommitMark, Retention, RowOrigin, SourceHead
from schemas.positions import OffsetRange, Position
from schemas.records import RawVideo
from schemas.shards import WHOLE, Shard, Share

_MAX_ROWS_SAMPLED = 64


class PaimonProgress:
    """Implements :class:`~consumers.ports.ProgressReader`. Not thread-safe: its prober owns it.

    What has been seen once is not read again: a call looks at the snapshots since the last one, and looks for the
    snapshot that brought a row from where the last search ended.

    Args:
        config: the catalog.
        names: the tables.
        consumer: the consumer's name.
        columns: how the raw table's columns are mapped.
        shard: whose commits; those of its siblings are passed over.

    Raises:
        ConfigurationError: a table is missing or does not fit.
        StoreUnavailableError: the store did not answer.
    """

    def __init__(
        self,
        config: CatalogConfig,
        names: TableNames,
        consumer: str,
        columns: RawColumns | None = None,
        shard: Shard = WHOLE,
    ) -> None:
        self._consumer = consumer
        self._shard = shard
        self._source = open_source(config, names.raw, columns, chunk_rows=_MAX_ROWS_SAMPLED)
        self._protect = protector(config, names.raw, consumer, shard)
        catalog = open_catalog(config)
        raw = load_table(catalog, config, names.raw)
        self._raw = raw.snapshot_manager()
        self._rules = RetentionRules(raw) if isinstance(self._source, ChangelogSource) else None
        self._curated = load_table(catalog, config, names.curated).snapshot_manager()
        self._curated_name = f"{config.database}.{names.curated}"
        self._raw_name = f"{config.database}.{names.raw}"
        self._seen_id = 0
        self._seen: tuple[object, ...] = ()
        self._last: CommitMark | None = None
        self._division: Division | None = None
        self._divided: tuple[int, tuple[object, ...]] = (0, ())
        # Where the last searches ended, as (offset, snapshot id): the next ones begin there.
        self._found: deque[tuple[int, int]] = deque(maxlen=4)

    def head(self) -> SourceHead:
        """Return the current end of the source, held to what the consumer's newest commit remembers of it."""
        return self._source.head()

    def last_commit(self) -> CommitMark | None:
        """Return the consumer's newest commit among the retained snapshots.

        Where that is what keeps the source's snapshots from expiring, it is also said again what is needed: whoever
        watches a consumer keeps its place, be it paused or gone.
        """
        last = self._last_commit()
        if self._protect is not None:
            self._protect(Position() if last is None else last.position)
        return last

    def _last_commit(self) -> CommitMark | None:
        with store_errors(f"table {self._curated_name}"):
            latest = self._curated.get_latest_snapshot()
            if latest is None:
                return None
            if not self._is_after_seen(latest):
                self._seen_id, self._last = 0, None
            walk = newest_marker(
                self._curated, self._consumer, latest, self._seen_id, MAX_SNAPSHOTS_WALKED, self._is_own
            )
            if walk.marker is not None:
                self._source.resume(walk.marker.source, walk.marker.mark)
                self._last = _mark(walk.marker, self._shard)
            self._seen_id, self._seen = int(latest.id), identity_of(latest)
        return self._last

    def commits(self) -> tuple[CommitMark, ...]:
        """Return the newest commit of each of the consumer's shards: one read, and one for each that is new."""
        if self._shard.is_whole:
            last = self._last_commit()
            return () if last is None else (last,)
        with store_errors(f"table {self._curated_name}"):
            latest = self._curated.get_latest_snapshot()
            division = None
            if latest is not None and self._division is not None and self._is_after(self._divided, latest):
                division = newer_division(self._curated, self._consumer, latest, self._division, self._divided[0])
            if division is None:
                division, _ = read_division(self._curated, self._consumer, latest, MAX_SNAPSHOTS_WALKED)
            self._division = division
            self._divided = (0, ()) if latest is None else (int(latest.id), identity_of(latest))
        return () if division is None else _commits_of(division)

    def _is_after_seen(self, latest: Any) -> bool:
        """Return whether the table was not set back since the last look; numbers are given again after that."""
        return self._is_after((self._seen_id, self._seen), latest)

    def _is_after(self, look: tuple[int, tuple[object, ...]], latest: Any) -> bool:
        seen_id, seen = look
        if seen_id == 0:
            return True
        then = latest if latest.id <= seen_id else read_snapshot(self._curated, seen_id)
        return then is None or (latest.id >= seen_id and identity_of(then) == seen)

    def recent_commits(self, limit: int) -> list[CommitMark]:
        """Return the consumer's newest retained commits, newest first; looks at 1000 snapshots at most."""
        found: list[CommitMark] = []
        with store_errors(f"table {self._curated_name}"):
            latest = self._curated.get_latest_snapshot()
            last_id = 0 if latest is None else int(latest.id)
            for snapshot_id in range(last_id, max(0, last_id - MAX_SNAPSHOTS_WALKED), -1):
                snapshot = read_snapshot(self._curated, snapshot_id)
                if snapshot is None or len(found) >= limit:
                    break
                marker = Marker.of_snapshot(snapshot, self._consumer)
                if marker is not None and self._is_own(marker):
                    found.append(_mark(marker, self._shard))
        return found

    def _is_own(self, marker: Marker) -> bool:
        return marker.shard.count == self._shard.count and (marker.is_division or marker.shard == self._shard)

    def origin(self, offset: int) -> RowOrigin | None:
        """Return the commit of the row at ``offset``: the first snapshot whose next row id is above it.

        Snapshots that add no rows, such as compactions, do not move the next row id and so are never taken for it.
        """
        if isinstance(self._source, ChangelogSource):
            return self._source.origin(offset)
        with store_errors(f"table {self._raw_name}"):
            latest = self._raw.get_latest_snapshot()
            if latest is None or (latest.next_row_id or 0) <= offset:
                return None
            low, high = self._bracket(offset, latest)
            while high.id - low > 1:
                middle_id = (low + high.id) // 2
                middle = read_snapshot(self._raw, middle_id)
                if middle is not None and (middle.next_row_id or 0) > offset:
                    high = middle
                else:
                    low = middle_id
            self._found.append((offset, int(high.id)))
            is_exact = high.id == 1 or read_snapshot(self._raw, high.id - 1) is not None
            return RowOrigin(int(high.id), snapshot_time(high), is_exact)

    def _bracket(self, offset: int, latest: Any) -> tuple[int, Any]:
        """Return a snapshot id too early for ``offset`` (perhaps expired) and a snapshot late enough."""
        starts = [found_id for known, found_id in self._found if known <= offset and found_id <= latest.id]
        if starts:
            low, step = max(starts) - 1, 1
            # Forward from where the last search ended, in growing steps.
            while low + step < latest.id:
                snapshot = read_snapshot(self._raw, low + step)
                if snapshot is not None and (snapshot.next_row_id or 0) > offset:
                    return low, snapshot
                low, step = low + step, step * 2
            return low, latest
        high, step = latest, 1
        while high.id - step > 0:
            snapshot = read_snapshot(self._raw, high.id - step)
            if snapshot is None or (snapshot.next_row_id or 0) <= offset:
                return int(high.id - step), high
            high, step = snapshot, step * 2
        return 0, high

    def retention(self, offset: int) -> Retention | None:
        """Return what becomes of the snapshot of ``offset``; None where rows outlive their snapshots."""
        if self._rules is None:
            return None
        needed_id = snapshot_of(offset)
        if needed_id == 0:
            # A consumer that has finished nothing begins with the oldest snapshot that is left.
            with store_errors(f"table {self._raw_name}"):
                earliest = read_snapshot(self._raw, earliest_snapshot_id(self._raw))
            needed_id = 1 if earliest is None else int(earliest.id)
        return self._rules.of(needed_id)

    def mean_bytes(self, offsets: OffsetRange) -> float | None:
        """Return the mean object size of the first rows in ``offsets``, in bytes."""
        if not isinstance(self._source, ChangelogSource):
            offsets = OffsetRange(offsets.start, min(offsets.end, offsets.start + _MAX_ROWS_SAMPLED))
        items = self._source.read([offsets])
        videos = islice((item for item in items if isinstance(item, RawVideo)), _MAX_ROWS_SAMPLED)
        sizes = [video.size_bytes for video in videos if video.size_bytes is not None]
        return sum(sizes) / len(sizes) if sizes else None


def _mark(marker: Marker, shard: Shard) -> CommitMark:
    return CommitMark(
        position=marker.position,
        sequence=marker.sequence,
        epoch=marker.epoch,
        committed_at=marker.committed_at or datetime.fromtimestamp(0, UTC),
        snapshot_id=marker.snapshot_id,
        share=Share(shard, marker.share.bases),
        replays=standing_of(marker, shard).replays,
    )


def _commits_of(division: Division) -> tuple[CommitMark, ...]:
    """Return the newest commit of each shard; of one that has none, an empty one at the time of the newest of all."""
    nothing = replace(division.newest, position=Position(), share=Share(), replays=Position(), sequence=0)
    # A shard may not have begun yet with a table that was accepted in the place of its own.
    markers = {index: each for index, each in division.markers.items() if each.source == nothing.source}
    return tuple(_mark(markers.get(index, nothing), Shard(index, division.count)) for index in range(division.count))
