"""Tables without row ids as a source: their changes, snapshot by snapshot.

An offset is a snapshot's id and a number within it, as one integer. Half of a snapshot's numbers are for the rows that
it changed, and half for the rows that the table held as of it, which are read only where a consumer begins: it takes
the oldest retained snapshot as a whole, and from there on changes alone. Numbers that no row has are skipped ranges, so
positions stay compact.

Snapshots expire. Unlike with row ids nothing then tells what was in them, so a consumer file in the source table keeps
those that are still needed, and a position whose snapshots are gone is an error with a stated choice.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

from consumers.errors import PositionExpiredError, SluiceError, StoreUnavailableError, UnfollowedSnapshotError
from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog, store_errors
from consumers.paimon.snapshots import earliest_snapshot_id, read_snapshot, snapshot_time
from consumers.paimon.source.guard import OnExpired
from consumers.paimon.source.identity import SourceIdentity
from consumers.paimon.source.keyed import check_keyed_table
from consumers.paimon.source.offsets import WHOLE_TABLE, Wanted, first_offset, from_offset, snapshot_of
from consumers.paimon.source.raw_rows import RawRow, read_raw_row
from consumers.paimon.source.snapshot_changes import SnapshotChanges
from consumers.paimon.source.snapshot_reader import KIND, Row
from consumers.paimon.tables import RawColumns, check_raw_table
from consumers.ports import RowOrigin, SourceHead
from schemas.positions import OffsetRange
from schemas.records import RawVideo, RowKind, SkippedRange
from schemas.source_mark import SourceMark

_log = logging.getLogger(__name__)

_UPDATE_BEFORE = "-U"


class ChangelogSource:
    """Implements :class:`~consumers.ports.Source` for tables with a primary key, and for append tables without row ids.

    Args:
        config: the catalog.
        table: name of the raw table.
        columns: how its columns are mapped.
        on_expired: what to do about a position whose snapshots are gone.

    Raises:
        ConfigurationError: the table is missing or does not fit the mapping.
        StoreUnavailableError: the store did not answer.
    """

    def __init__(
        self,
        config: CatalogConfig,
        table: str,
        columns: RawColumns | None = None,
        *,
        on_expired: OnExpired = OnExpired.FAIL,
    ) -> None:
        self._columns = columns or RawColumns()
        self._name = f"{config.database}.{table}"
        self.source_table = self._name
        self._on_expired = on_expired
        self._load_table = partial(load_table, open_catalog(config), config, table)
        raw = self._load()
        self.location: str = raw.table_path
        self._manager = raw.snapshot_manager()
        self._identity = SourceIdentity(raw, self._name)
        self._num_changes = lru_cache(maxsize=65_536)(self._count_changes)
        self._counted = (0, 0)

    def _load(self) -> Any:
        """Load the table as it is now, and read by its newest schema from now on."""
        raw = self._load_table()
        self._kind = check_raw_table(raw, self._columns)
        check_keyed_table(raw, self._columns.names())
        self._changes = SnapshotChanges(raw, self._columns.names())
        return raw

    def head(self) -> SourceHead:
        """Return the current end: one metadata read, and two for each snapshot that is new.

        Raises:
            ConfigurationError: the table is gone, or was altered so that it cannot be followed.
            SourceChangedError: it was rolled back, or dropped and made anew.
            StoreUnavailableError: the store did not answer.
        """
        with store_errors(f"table {self.source_table}"):
            latest = self._manager.get_latest_snapshot()
            if latest is None or latest.schema_id > self._changes.schema_id:
                # Without a snapshot: none yet, or no table any more?
                self._load()
            self._identity.check(latest)
            if latest is None:
                return SourceHead(None, 0, None)
            last_id, num_rows = self._counted
            if latest.id > last_id:
                first = last_id + 1 if last_id else latest.id
                num_rows += sum(self._num_changes(snapshot_id) for snapshot_id in range(first, latest.id + 1))
                self._counted = (latest.id, num_rows)
            return SourceHead(
                latest.id,
                first_offset(latest.id + 1),
                snapshot_time(latest),
                num_rows=num_rows,
                mark=self._identity.mark,
                count=self.num_rows,
            )

    def resume(self, source_table: str, mark: SourceMark | None) -> None:
        """Let rows be of ``source_table`` from now on, and hold the table to ``mark``."""
        self.source_table = source_table
        self._identity.resume(mark)

    def num_rows(self, ranges: Sequence[OffsetRange]) -> int:
        """Return how many rows ``ranges`` hold, without reading them.

        Of the table as a whole, where a consumer begins, that is an upper bound: rows that were replaced or deleted
        are counted until they are read past.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        with store_errors(f"table {self.source_table}"):
            earliest = self._earliest()
            total = 0
            for wanted in self._wanted(sorted(ranges), earliest):
                first = first_offset(wanted.snapshot_id)
                num = self._num_changes(wanted.snapshot_id)
                if wanted.is_whole_table:
                    snapshot = read_snapshot(self._manager, wanted.snapshot_id)
                    first, num = first + WHOLE_TABLE, 0 if snapshot is None else snapshot.total_record_count or 0
                total += sum(max(0, min(part.end, first + num) - part.start) for part in wanted.ranges)
            return total

    def existing(self, seen: Collection[int], head: Any | None) -> Iterator[OffsetRange]:
        """Yield the offsets of the rows up to snapshot ``head`` that a consumer has met or will meet, if retained.

        Args:
            seen: offsets that it has met; the first tells where it began.
            head: the newest snapshot that counts.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        whole = [offset for offset in seen if offset % first_offset(1) >= WHOLE_TABLE]
        first = first_offset(snapshot_of(min(whole))) + WHOLE_TABLE if whole else min(seen, default=0)
        end = 0 if head is None else first_offset(int(head.id) + 1)
        for item in self.read([OffsetRange(first, end)] if first < end else []):
            if isinstance(item, RawVideo):
                yield OffsetRange(item.row_id, item.row_id + 1)

    def origin(self, offset: int) -> RowOrigin | None:
        """Return when the first row from ``offset`` on was committed, or the oldest snapshot where that is gone.

        Snapshots without changes, such as compactions, are passed over: a consumer has read them, and may not have
        committed that.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        with store_errors(f"table {self.source_table}"):
            latest = self._manager.get_latest_snapshot()
            if latest is None or snapshot_of(offset) > latest.id:
                return None
            snapshot_id = snapshot_of(offset)
            if offset - first_offset(snapshot_id) < WHOLE_TABLE and snapshot_id >= self._earliest():
                while snapshot_id < latest.id and first_offset(snapshot_id) + self._num_changes(snapshot_id) <= offset:
                    snapshot_id += 1
                    offset = first_offset(snapshot_id)
            snapshot = read_snapshot(self._manager, snapshot_id)
            is_exact = snapshot is not None
            snapshot = snapshot or read_snapshot(self._manager, self._earliest()) or latest
            return RowOrigin(int(snapshot.id), snapshot_time(snapshot), is_exact)

    def removed(self) -> Iterator[RawVideo]:
        """Yield nothing: deletes come as changes, each at an offset of its own."""
        return iter(())

    def read(self, ranges: Sequence[OffsetRange]) -> Iterator[RawVideo | SkippedRange]:
        """Yield, in order of offset, an item for every offset in ``ranges`` below the head.

        Raises:
            PositionExpiredError: a snapshot that is needed has expired, and that is to be an error.
            StoreUnavailableError: the store did not answer; what was yielded stays valid.
        """
        skipped: OffsetRange | None = None
        with store_errors(f"table {self.source_table}"):
            for item in self._items(sorted(ranges)):
                if isinstance(item, OffsetRange):
                    if skipped is not None and skipped.end == item.start:
                        skipped = OffsetRange(skipped.start, item.end)
                        continue
                    if skipped is not None:
                        yield SkippedRange(skipped, is_expected=True)
                    skipped = item
                    continue
                if skipped is not None:
                    yield SkippedRange(skipped, is_expected=True)
                    skipped = None
                yield item
        if skipped is not None:
            yield SkippedRange(skipped, is_expected=True)

    def _items(self, ranges: Sequence[OffsetRange]) -> Iterator[RawVideo | OffsetRange]:
        latest = self._manager.get_latest_snapshot()
        if latest is None or not ranges:
            return
        end = first_offset(latest.id + 1)
        below = [OffsetRange(part.start, min(part.end, end)) for part in ranges if part.start < end]
        earliest = self._earliest()
        begun = self._beginning(below, earliest)
        if below and below[0].start == 0:
            yield OffsetRange(0, begun)
        else:
            for part in below:
                if part.start < begun:
                    yield self._expired(OffsetRange(part.start, min(part.end, begun)), earliest)
        told_until_id = 0
        for wanted in self._wanted(below, earliest):
            if wanted.snapshot_id <= told_until_id:
                yield from wanted.ranges
                continue
            snapshot = read_snapshot(self._manager, wanted.snapshot_id)
            if snapshot is None:
                raise self._missing(wanted.snapshot_id)
            first = first_offset(wanted.snapshot_id)
            if wanted.is_whole_table:
                first, rows = first + WHOLE_TABLE, self._changes.whole_table(snapshot)
            else:
                changes = self._changes.of(snapshot)
                rows, told_until_id = changes.rows, changes.until_id
            yield from self._of_snapshot(snapshot, rows, first, wanted)

    def _beginning(self, ranges: Sequence[OffsetRange], earliest: int) -> int:
        """Return the first offset that can be read of ``ranges``.

        The table as a whole, as of the oldest snapshot, for a consumer that has not finished anything yet, and for one
        that goes on although changes have expired unread: the keys that stand are in it.
        """
        first = first_offset(earliest)
        is_new = bool(ranges) and ranges[0].start == 0
        has_lost = bool(ranges) and ranges[0].start < first and self._on_expired is OnExpired.EARLIEST
        return first + WHOLE_TABLE if is_new or has_lost else first

    def _wanted(self, ranges: Sequence[OffsetRange], earliest: int) -> Iterator[Wanted]:
        """Yield what is asked for, one retained snapshot at a time."""
        start = self._beginning(ranges, earliest)
        pending: list[OffsetRange] = []
        for part in from_offset(ranges, start):
            for snapshot_id in range(snapshot_of(part.start), snapshot_of(part.end - 1) + 1):
                piece = OffsetRange(
                    max(part.start, first_offset(snapshot_id)), min(part.end, first_offset(snapshot_id + 1))
                )
                if pending and snapshot_of(pending[0].start) != snapshot_id:
                    yield Wanted(snapshot_of(pending[0].start), tuple(pending))
                    pending = []
                pending.append(piece)
        if pending:
            yield Wanted(snapshot_of(pending[0].start), tuple(pending))

    def _missing(self, snapshot_id: int) -> SluiceError:
        """Return what to raise about a snapshot that was there, or is between two that are."""
        latest, earliest = self._manager.get_latest_snapshot(), self._earliest()
        if latest is None or not earliest < snapshot_id < latest.id:
            # It expired, or the table is another one: the next look tells.
            return StoreUnavailableError(f"table {self.source_table}: snapshot {snapshot_id} has just gone")
        return UnfollowedSnapshotError(
            f"table {self.source_table}: snapshot {snapshot_id} is needed and not there, though older and newer ones "
            f"are. To go on behind it, without its rows: `sluice position {first_offset(snapshot_id + 1)}`"
        )

    def _expired(self, lost: OffsetRange, earliest: int) -> OffsetRange:
        first, last = snapshot_of(lost.start), min(snapshot_of(lost.end - 1), earliest - 1)
        what = (
            f"table {self.source_table}: snapshots {first} to {last} are needed and have expired; the oldest that is "
            f"left is {earliest}"
        )
        if self._on_expired is OnExpired.FAIL:
            raise PositionExpiredError(
                f'{what}. Set on_expired = "earliest" in [consumer] to go on with the table as it was there, without '
                "what was removed in between, and retain snapshots for longer"
            )
        _log.warning("%s: goes on with the table as it was there; what was removed in between is not seen", what)
        return lost

    def _of_snapshot(
        self, snapshot: Any, rows: Iterator[Row], offset: int, wanted: Wanted
    ) -> Iterator[RawVideo | OffsetRange]:
        """Yield those of ``rows`` that are wanted, numbered from ``offset`` on, and the ranges that hold none."""
        parts = iter(wanted.ranges)
        part = next(parts, None)
        for row in rows:
            while part is not None and part.end <= offset:
                part = next(parts, None)
            if part is None:
                return
            if part.start <= offset:
                video = self._video(row, offset, snapshot)
                yield OffsetRange(offset, offset + 1) if video is None else video
            offset += 1
        yield from from_offset(wanted.ranges, offset)

    def _video(self, row: Row, offset: int, snapshot: Any) -> RawVideo | None:
        """Return the row as a video; None for what a row was before an update, which says nothing new."""
        if row[KIND] == _UPDATE_BEFORE:
            return None
        found: RawRow = read_raw_row(row, self._columns, self._kind)
        return RawVideo(
            row_id=offset,
            snapshot_id=int(snapshot.id),
            committed_at=snapshot_time(snapshot),
            source_table=self.source_table,
            video_id=str(offset) if found.video_id is None else found.video_id,
            blob=found.blob,
            size_bytes=found.size_bytes,
            etag=found.etag,
            metadata=found.metadata,
            defect=found.defect,
            row_kind=RowKind(row[KIND]),
            key=json.dumps([str(row[name]) for name in self._changes.keys]) if self._changes.keys else None,
        )

    def _earliest(self) -> int:
        return earliest_snapshot_id(self._manager)

    def _count_changes(self, snapshot_id: int) -> int:
        snapshot = read_snapshot(self._manager, snapshot_id)
        return 0 if snapshot is None else self._changes.count(snapshot)
