"""The raw table as a source whose offsets are row ids."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from consumers.errors import StoreUnavailableError
from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog, store_errors
from consumers.paimon.scan import ROW_ID, SEQUENCE_NUMBER, FileSpan, RangeReader, RangeRows
from consumers.paimon.snapshots import read_snapshot, snapshot_time
from consumers.paimon.source.identity import SourceIdentity
from consumers.paimon.source.raw_rows import read_raw_row
from consumers.paimon.tables import RawColumns, check_raw_table, check_row_ids
from consumers.ports import SourceHead
from schemas.positions import OffsetRange
from schemas.records import RawVideo, SkippedRange
from schemas.source_mark import SourceMark

# Rows held at once, as Arrow, where a large file makes reading ahead worth it.
_MOST_ROWS = 32_768


class RowIdSource:
    """Reads ranges of row ids of the raw table's latest snapshot, in chunks.

    A row's commit time is that of the snapshot that brought it, while that snapshot is retained; afterwards the
    creation time of the data file that holds the row (after a compaction that is the compaction's time).

    Args:
        config: the catalog.
        table: name of the raw table.
        columns: how its columns are mapped.
        chunk_rows: rows read at a time; up to 32,768 where a large file makes each read of a part of it dear.
        pin_rows: how many row ids ahead are read from one snapshot before the next look at the latest one.

    Attributes:
        name: the table's full name.
        source_table: the name that rows carry: the table's own, unless :meth:`resume` said otherwise.
        location: where the table is.
        latest: the newest snapshot that was looked at.

    Raises:
        ConfigurationError: the table is missing, has no row tracking or does not fit the mapping.
        StoreUnavailableError: the store did not answer.
    """

    def __init__(
        self,
        config: CatalogConfig,
        table: str,
        columns: RawColumns | None = None,
        *,
        chunk_rows: int = 1024,
        pin_rows: int = 65_536,
    ) -> None:
        self._config, self._table_name = config, table
        self._columns = columns or RawColumns()
        self.name = f"{config.database}.{table}"
        self.source_table = self.name
        self._chunk_rows = chunk_rows
        self._pin_rows = max(pin_rows, chunk_rows)
        raw = self._load()
        self.location: str = raw.table_path
        self._manager = raw.snapshot_manager()
        self._snapshots = _Snapshots(self._manager)
        self._brought: tuple[OffsetRange, bool] | None = None
        self.latest: Any | None = None
        self._identity = SourceIdentity(raw, self.name)

    def _load(self) -> Any:
        """Load the table as it is now, and read by its newest schema from now on."""
        raw = load_table(open_catalog(self._config), self._config, self._table_name)
        check_row_ids(raw)
        self._kind = check_raw_table(raw, self._columns)
        self._schema_id = int(raw.table_schema.id)
        # Managed blobs come as references into Paimon's own files, never as bytes.
        self._reader = RangeReader(raw.copy({"blob-as-descriptor": "true"}), self._columns.names())
        return raw

    def head(self) -> SourceHead:
        """Return the current end: one metadata read, whatever the backlog, and a second one where there is more.

        Raises:
            ConfigurationError: the table is gone, or was altered so that it does not fit the mapping.
            SourceChangedError: it was rolled back, or dropped and made anew.
            StoreUnavailableError: the store did not answer.
        """
        latest = self._latest()
        if latest is None:
            return SourceHead(None, 0, None)
        return SourceHead(latest.id, latest.next_row_id or 0, snapshot_time(latest), mark=self._identity.mark)

    def resume(self, source_table: str, mark: SourceMark | None) -> None:
        """Let rows be of ``source_table`` from now on, and hold the table to ``mark``."""
        self.source_table = source_table
        self._identity.resume(mark)

    def _latest(self) -> Any | None:
        """Return the latest snapshot after it was checked: same table, a schema that fits."""
        with store_errors(f"table {self.name}"):
            latest = self._manager.get_latest_snapshot()
            if latest is None:
                # No snapshot yet, or no table any more?
                self._load()
            elif latest.schema_id > self._schema_id:
                self._load()
            self._identity.check(latest)
        self.latest = latest
        return latest

    def is_landed(self, row_id: int, snapshot_id: int) -> bool | None:
        """Return whether an append gave a row its id; None where nobody can tell any more.

        Args:
            row_id: the row.
            snapshot_id: the snapshot that the row itself names: the one that brought it, or changed it last.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        if self._brought is not None and self._brought[0].start <= row_id < self._brought[0].end:
            return self._brought[1]
        before, after = self._snapshots.get(max(snapshot_id - 1, 0)), self._snapshots.get(snapshot_id)
        if before is None or after is None or not before.next_row_id <= row_id < after.next_row_id:
            # It was changed since, or its id was given later.
            found = None if self.latest is None else self._snapshots.brought(row_id, int(self.latest.id))
            if found is None:
                return None
            before, after = found
        if before.next_row_id <= row_id < after.next_row_id:
            self._brought = (OffsetRange(before.next_row_id, after.next_row_id), after.is_append)
        return after.is_append

    def has_only_appends(self, after_id: int, until_id: int) -> bool:
        """Return whether the snapshots after ``after_id`` up to ``until_id`` are there and do nothing but append.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        before = self._snapshots.get(after_id)
        for snapshot_id in range(after_id + 1, until_id + 1):
            found = self._snapshots.get(snapshot_id)
            if before is None or found is None or not found.is_append or found.index_manifest != before.index_manifest:
                return False
            before = found
        return True

    def removed(self) -> Iterator[RawVideo]:
        """Yield nothing: rows alone do not tell (see :mod:`consumers.paimon.reading.known_rows`)."""
        return iter(())

    def read(self, ranges: Sequence[OffsetRange]) -> Iterator[RawVideo | SkippedRange]:
        """Yield, in order of offset, an item for every offset in ``ranges`` below the head.

        Raises:
            StoreUnavailableError: the store did not answer; what was yielded stays valid.
        """
        skipped: OffsetRange | None = None
        for item in self._items(sorted(ranges)):
            if isinstance(item, RawVideo):
                if skipped is not None:
                    yield SkippedRange(skipped)
                    skipped = None
                yield item
            elif skipped is not None and skipped.end == item.start:
                skipped = OffsetRange(skipped.start, item.end)
            else:
                if skipped is not None:
                    yield SkippedRange(skipped)
                skipped = item
        if skipped is not None:
            yield SkippedRange(skipped)

    def _items(self, ranges: Sequence[OffsetRange]) -> Iterator[RawVideo | OffsetRange]:
        for index, wanted in enumerate(ranges):
            if index == 0:
                self._pin(wanted.start)
            start = wanted.start
            while start < wanted.end:
                found = self._read(OffsetRange(start, min(start + self._chunk_rows, wanted.end)))
                if found is None:
                    return
                end = min(found.read.end, wanted.end)
                yield from self._items_of(found, OffsetRange(start, end))
                start = end

    def _pin(self, start: int) -> None:
        latest = self._latest()
        if latest is not None:
            with store_errors(f"table {self.name}"):
                self._reader.pin(latest, OffsetRange(start, start + self._pin_rows))

    def _read(self, chunk: OffsetRange) -> RangeRows | None:
        """Read a chunk, and more where that costs nothing more; None beyond the end of the table."""
        end = self._reader.end_of(chunk)
        if end is None or end < chunk.end:
            self._pin(chunk.start)
            end = self._reader.end_of(chunk)
        if end is None or end <= chunk.start:
            return None
        chunk = OffsetRange(chunk.start, end)
        try:
            return self._reader.read(chunk, _MOST_ROWS)
        except Exception:
            # The pinned snapshot has expired with its files, or the store failed: one look at the latest tells.
            self._pin(chunk.start)
            with store_errors(f"table {self.name}, rows {chunk.start} to {end - 1}"):
                return self._reader.read(chunk, _MOST_ROWS)

    def _items_of(self, found: RangeRows, wanted: OffsetRange) -> Iterator[RawVideo | OffsetRange]:
        """Yield the rows of ``wanted``, and between them the ranges that hold none."""
        next_id = wanted.start
        for batch in found.rows.to_batches(max_chunksize=self._chunk_rows):
            for row in batch.to_pylist():
                row_id = row[ROW_ID]
                if row_id >= wanted.end:
                    break
                if row_id > next_id:
                    yield OffsetRange(next_id, row_id)
                yield self._video(row, found.files)
                next_id = row_id + 1
        if next_id < wanted.end:
            yield OffsetRange(next_id, wanted.end)

    def _video(self, row: Mapping[str, Any], files: Sequence[FileSpan]) -> RawVideo:
        row_id, snapshot_id = row[ROW_ID], row[SEQUENCE_NUMBER]
        found = read_raw_row(row, self._columns, self._kind)
        return RawVideo(
            row_id=row_id,
            snapshot_id=snapshot_id,
            committed_at=self._snapshots.committed_at(snapshot_id, row_id, files),
            source_table=self.source_table,
            video_id=str(row_id) if found.video_id is None else found.video_id,
            blob=found.blob,
            size_bytes=found.size_bytes,
            etag=found.etag,
            metadata=found.metadata,
            defect=found.defect,
        )


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """What is kept of a snapshot: with millions of rows there are thousands."""

    committed_at: datetime
    next_row_id: int
    is_append: bool
    index_manifest: str | None


class _Snapshots:
    """Snapshots of the table, each read once, the least recently used forgotten."""

    _MAX_KEPT = 4096

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._known: OrderedDict[int, _Snapshot | None] = OrderedDict()

    def get(self, snapshot_id: int) -> _Snapshot | None:
        """Return a snapshot, None where it has expired; of what came before the first, that there was no row."""
        if snapshot_id == 0:
            return _Snapshot(datetime.fromtimestamp(0, UTC), 0, is_append=True, index_manifest=None)
        if snapshot_id not in self._known:
            try:
                found = read_snapshot(self._manager, snapshot_id)
            except Exception as error:
                raise StoreUnavailableError(f"snapshot {snapshot_id}: {error}") from error
            self._known[snapshot_id] = found and _Snapshot(
                snapshot_time(found), int(found.next_row_id or 0), found.commit_kind == "APPEND", found.index_manifest
            )
            if len(self._known) > self._MAX_KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(snapshot_id)
        return self._known[snapshot_id]

    def committed_at(self, snapshot_id: int, row_id: int, files: Sequence[FileSpan]) -> datetime:
        """Return when the row was committed, or else when the newest file that holds it was written."""
        known = self.get(snapshot_id)
        if known is not None:
            return known.committed_at
        return max(
            (file.created_at for file in files if file.rows.start <= row_id < file.rows.end),
            default=datetime.fromtimestamp(0, UTC),
        )

    def brought(self, row_id: int, newest_id: int) -> tuple[_Snapshot, _Snapshot] | None:
        """Return the snapshot that gave a row its id and the one before it, None where either has expired."""
        low, high = 0, newest_id
        while high - low > 1:
            middle = (low + high) // 2
            found = self.get(middle)
            low, high = (low, middle) if found is not None and found.next_row_id > row_id else (middle, high)
        before, after = self.get(low), self.get(high)
        return None if before is None or after is None else (before, after)
