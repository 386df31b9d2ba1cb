"""Tables without row ids as a source: their changes, snapshot by snapshot.

An offset is a snapshot's id and a number within it, as one integer. Half of a snapshot's numbers are for the rows that
it changed, and half for the rows that the table held as of it, which are read only where a consumer begins: it takes
the oldest retained snapshot as a whole, and from there on changes alone. Numbers that no row has are skipped ranges, so
positions stay compact. Of a snapshot that overwrites rows the changes are the difference of the states before and
after it, as far as changes tell of them.

Snapshots expire. Unlike with row ids nothing then tells what was in them, so a consumer file in the source table keeps
those that are still needed, and a position whose snapshots are gone is an error with a stated choice.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import pyarrow as pa
from pypaimon.read.streaming_table_scan import AsyncStreamingTableScan

from consumers.errors import PositionExpiredError, UnfollowedSnapshotError
from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog, store_errors
from consumers.paimon.snapshots import earliest_snapshot_id, read_snapshot, snapshot_time
from consumers.paimon.source.difference import difference
from consumers.paimon.source.guard import OnExpired
from consumers.paimon.source.identity import SourceIdentity
from consumers.paimon.source.keyed import check_keyed_table, first_levels, is_told_by_compaction
from consumers.paimon.source.moved_keys import removals_first
from consumers.paimon.source.offsets import WHOLE_TABLE, Wanted, first_offset, from_offset, snapshot_of
from consumers.paimon.source.raw_rows import RawRow, read_raw_row
from consumers.paimon.tables import RawColumns, check_raw_table
from consumers.ports import RowOrigin, SourceHead
from schemas.positions import OffsetRange
from schemas.records import RawVideo, RowKind, SkippedRange
from schemas.source_mark import SourceMark

_log = logging.getLogger(__name__)

_KIND = "_row_kind"
_UPDATE_BEFORE = "-U"
_OVERWRITE = "OVERWRITE"
_TOLD = frozenset({"APPEND", "COMPACT", "ANALYZE"})
"""Kinds of snapshots whose changes, if they have any, Paimon tells by itself."""


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
        self._load()
        self.location: str = self._table.table_path
        self._manager = self._table.snapshot_manager()
        self._identity = SourceIdentity(self._table, self._name)
        self._num_changes = lru_cache(maxsize=65_536)(self._count_changes)
        self._counted = (0, 0)

    def _load(self) -> None:
        """Load the table as it is now, and read by its newest schema from now on."""
        raw = self._load_table()
        self._kind = check_raw_table(raw, self._columns)
        check_keyed_table(raw)
        self._schema_id = int(raw.table_schema.id)
        # Else Paimon hands the bytes of the videos themselves where a column holds descriptors.
        self._table = raw.copy({"blob-as-descriptor": "true"})
        self._begins_with = first_levels(self._table)
        self._keys: tuple[str, ...] = tuple(self._table.primary_keys)
        names = dict.fromkeys((*self._columns.names(), *self._keys))
        self._builder = self._table.new_stream_read_builder().with_projection(list(names)).with_include_row_kind(True)
        # Made here and driven one snapshot at a time: left to itself it merges snapshots, or waits for ever for one
        # that has expired.
        self._scan = AsyncStreamingTableScan(self._table, prefetch_enabled=False)

    def head(self) -> SourceHead:
        """Return the current end: one metadata read, and two for each snapshot that is new.

        Raises:
            ConfigurationError: the table is gone, or was altered so that it cannot be followed.
            SourceChangedError: it was rolled back, or dropped and made anew.
            StoreUnavailableError: the store did not answer.
        """
        with store_errors(f"table {self.source_table}"):
            latest = self._manager.get_latest_snapshot()
            if latest is None or latest.schema_id > self._schema_id:
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
        """Return when the row at ``offset`` was committed, or the oldest retained snapshot where that is gone.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        with store_errors(f"table {self.source_table}"):
            latest = self._manager.get_latest_snapshot()
            if latest is None or snapshot_of(offset) > latest.id:
                return None
            snapshot = read_snapshot(self._manager, snapshot_of(offset))
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
        for wanted in self._wanted(below, earliest):
            snapshot = read_snapshot(self._manager, wanted.snapshot_id)
            if snapshot is None:
                # It expired between the look and the read; the next one finds out what is left.
                if self._on_expired is OnExpired.EARLIEST:
                    return
                for part in wanted.ranges:
                    self._expired(part, self._earliest())
                return
            yield from self._of_snapshot(snapshot, wanted)

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

    def _of_snapshot(self, snapshot: Any, wanted: Wanted) -> Iterator[RawVideo | OffsetRange]:
        """Yield the rows that are wanted of one snapshot, and between them the ranges that hold none."""
        first = first_offset(wanted.snapshot_id)
        rows = self._whole_table(snapshot) if wanted.is_whole_table else self._changes(snapshot)
        offset = first + WHOLE_TABLE if wanted.is_whole_table else first
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

    def _changes(self, snapshot: Any) -> Iterator[Mapping[str, Any]]:
        if self._is_overwrite(snapshot):
            yield from self._overwritten(snapshot)
        elif self._scan.follow_up_scanner.should_scan(snapshot):
            splits = self._scan._create_follow_up_plan(snapshot).splits()
            if self._table.cross_partition_update:
                yield from removals_first(sorted(splits, key=_order), _partition, self._rows, self._keys, _KIND)
            else:
                yield from self._rows(splits)

    def _is_overwrite(self, snapshot: Any) -> bool:
        """Return whether ``snapshot`` replaces rows rather than telling changes.

        Raises:
            UnfollowedSnapshotError: it is of a kind that is not known, or replaces rows that have no key.
        """
        kind = str(snapshot.commit_kind)
        if kind in _TOLD:
            return self._ends_overwrite(snapshot)
        if kind == _OVERWRITE and self._keys:
            return True
        what = (
            "replaces rows of a table without a primary key: which videos it removed cannot be told"
            if kind == _OVERWRITE
            else "is of a kind that is not known"
        )
        raise UnfollowedSnapshotError(
            f"table {self.source_table}: snapshot {snapshot.id} ({kind}, {snapshot_time(snapshot):%Y-%m-%d %H:%M:%S} "
            f"UTC) {what}. To go on behind it, without its rows: `sluice position {first_offset(int(snapshot.id) + 1)}`"
        )

    def _ends_overwrite(self, snapshot: Any) -> bool:
        """Return whether ``snapshot`` holds the compaction that came with an overwrite, of which no changelog tells."""
        if not self._keys or str(snapshot.commit_kind) != "COMPACT" or snapshot.changelog_manifest_list:
            return False
        if not is_told_by_compaction(self._table):
            return False
        before = read_snapshot(self._manager, snapshot.id - 1)
        return before is not None and (str(before.commit_kind), before.commit_user, before.commit_identifier) == (
            _OVERWRITE,
            snapshot.commit_user,
            snapshot.commit_identifier,
        )

    def _overwritten(self, snapshot: Any) -> Iterator[Mapping[str, Any]]:
        before = read_snapshot(self._manager, snapshot.id - 1)
        if before is None and snapshot.id > 1:
            raise UnfollowedSnapshotError(
                f"table {self.source_table}: snapshot {snapshot.id} overwrites rows, and snapshot {snapshot.id - 1}, "
                "which tells what they were, has expired. To go on behind it, without its rows: "
                f"`sluice position {first_offset(int(snapshot.id) + 1)}`"
            )
        # Where compactions tell changes, what none had told before was never known, and what one tells later comes.
        yield from difference(
            lambda: iter(()) if before is None else self._whole_table(before),
            lambda: self._whole_table(snapshot),
            self._keys,
            _KIND,
        )

    def _whole_table(self, snapshot: Any) -> Iterator[Mapping[str, Any]]:
        """Yield what a stream begins with as of ``snapshot``, which is what one that began before knows by then."""
        yield from self._rows(self._plan(snapshot, self._begins_with))

    def _plan(self, snapshot: Any, is_wanted: Callable[[int], bool]) -> list[Any]:
        scan = self._table.copy({"scan.snapshot-id": str(snapshot.id)}).new_read_builder().new_scan()
        scanner = scan.file_scanner
        # Files of level 0 are the newest, which a batch reader leaves out of some tables.
        scanner.skip_level0 = False
        admits = scanner._filter_manifest_entry
        scanner._filter_manifest_entry = lambda entry: is_wanted(entry.file.level or 0) and admits(entry)
        splits = list(scan.plan().splits())
        for split in splits:
            # pypaimon does not count the removals in what it writes, and would read one that was not merged as a row.
            if self._keys and not split.data_deletion_files and any(not file.level for file in split.files):
                split.raw_convertible = False
        return splits

    def _rows(self, splits: Sequence[Any]) -> Iterator[Mapping[str, Any]]:
        # The same rows in the same order each time: snapshots do not change, but a plan is made by several threads.
        for split in sorted(splits, key=_order):
            for batch in self._builder.new_read().to_arrow_batch_reader([split]):
                yield from pa.Table.from_batches([batch]).to_pylist()

    def _video(self, row: Mapping[str, Any], offset: int, snapshot: Any) -> RawVideo | None:
        """Return the row as a video; None for what a row was before an update, which says nothing new."""
        if row[_KIND] == _UPDATE_BEFORE:
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
            row_kind=RowKind(row[_KIND]),
            key=json.dumps([str(row[name]) for name in self._keys]) if self._keys else None,
        )

    def _earliest(self) -> int:
        return earliest_snapshot_id(self._manager)

    def _count_changes(self, snapshot_id: int) -> int:
        snapshot = read_snapshot(self._manager, snapshot_id)
        if snapshot is None:
            return 0
        if str(snapshot.commit_kind) == _OVERWRITE or self._ends_overwrite(snapshot):
            # An upper bound, until they are read past: the rows before, and those after.
            before = read_snapshot(self._manager, snapshot_id - 1)
            return int((snapshot.total_record_count or 0) + ((before and before.total_record_count) or 0))
        if not self._scan.follow_up_scanner.should_scan(snapshot):
            return 0
        count = snapshot.changelog_record_count or snapshot.delta_record_count
        return int(count or 0)


def _order(split: Any) -> tuple[str, int, int, str]:
    # All rows of a key are in one bucket, where sequence numbers tell which came first.
    names = ",".join(sorted(file.file_name for file in split.files))
    return _partition(split), split.bucket, min(f.min_sequence_number for f in split.files), names


def _partition(split: Any) -> str:
    return str(list(split.partition.values))
