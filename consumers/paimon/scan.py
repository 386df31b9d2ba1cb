"""Streaming reads: a pinned snapshot batch by batch, or one range of row ids of the latest one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pypaimon.manifest.manifest_list_manager import ManifestListManager

from consumers.errors import SourceChangedError
from schemas.positions import OffsetRange

ROW_ID = "_ROW_ID"
SEQUENCE_NUMBER = "_SEQUENCE_NUMBER"

# How often a large file may be decoded on the way through it.
_READS_PER_FILE = 16
# Files that others write anew have new names each time.
_MOST_BOUNDS = 10_000


def stream(
    table: Any,
    columns: Sequence[str],
    snapshot: Any | None,
    where: Callable[[Any], Any] | None = None,
    *,
    partitions: Callable[[Any], Any] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of ``snapshot`` batch by batch; none for None.

    Args:
        table: the pypaimon table.
        columns: what is read.
        snapshot: which state of the table.
        where: makes the row filter from a predicate builder; prunes files only by statistics, and not on tables with
            data evolution.
        partitions: makes the partition filter.
    """
    if snapshot is None:
        return
    pinned = table.copy({"scan.snapshot-id": str(snapshot.id)})
    builder = pinned.new_read_builder()
    predicates = builder.new_predicate_builder()
    builder = builder.with_projection(list(columns))
    if where is not None:
        builder = builder.with_filter(where(predicates))
    if partitions is not None:
        builder = builder.with_partition_filter(partitions(predicates))
    splits = builder.new_scan().plan().splits()
    if splits:
        yield from builder.new_read().to_arrow_batch_reader(splits)


@dataclass(frozen=True, slots=True)
class FileSpan:
    """The range in which the row ids of a data file lie, and when it was written."""

    rows: OffsetRange
    created_at: datetime


@dataclass(frozen=True, slots=True)
class RangeRows:
    """Rows of the range of row ids that was read, sorted by row id, and the files they came from."""

    read: OffsetRange
    rows: pa.Table
    files: tuple[FileSpan, ...]


class RangeReader:
    """Reads ranges of row ids of one snapshot at the cost of the files in the range.

    pypaimon reads the whole list of manifests for every plan; here it is read once for a window of row ids, and only
    the part that matters to the window is kept.

    Args:
        table: a pypaimon table with row tracking.
        columns: what is read, beside ``_ROW_ID`` and ``_SEQUENCE_NUMBER``.
        whole_files: ranges are mostly of whole files. pypaimon then leaves the files' page indexes alone, which it
            parses more slowly than it decodes the pages that they would save; for single rows of large files they pay.
    """

    def __init__(self, table: Any, columns: Sequence[str], *, whole_files: bool = False) -> None:
        self._table = table.copy({"parquet.filter.columnindex.enabled": "false"}) if whole_files else table
        self._columns = [ROW_ID, SEQUENCE_NUMBER, *columns]
        self._lists = ManifestListManager(table)
        # Of files whose rows carry their ids themselves, in any order: which there are at most, once read.
        self._bounds: dict[str, OffsetRange] = {}
        self._snapshot: Any | None = None
        self._window = OffsetRange(0, 1)
        self._manifests: list[Any] = []

    def pin(self, snapshot: Any, window: OffsetRange) -> None:
        """Read ``window`` from ``snapshot`` from now on."""
        if self._snapshot is None or self._snapshot.id != snapshot.id or not _includes(self._window, window):
            self._manifests = [item for item in self._lists.read_all(snapshot) if _may_hold(item, window)]
            self._snapshot, self._window = snapshot, window

    def end_of(self, wanted: OffsetRange) -> int | None:
        """Return the end of the part of ``wanted`` that is below the pinned snapshot's end; None: pin anew first."""
        if self._snapshot is None or not _includes(self._window, wanted):
            return None
        return min(wanted.end, self._snapshot.next_row_id or 0)

    def read(self, wanted: OffsetRange, most_rows: int | None = None) -> RangeRows:
        """Return the rows that exist of ``wanted``, which lies inside the pinned window.

        Args:
            wanted: the range of row ids.
            most_rows: read further, up to this many row ids and the window's end, where ``wanted`` is a small part of
                a large file: pypaimon decodes a file from its start whatever part of it is asked for.

        Raises:
            SourceChangedError: a file holds rows without an id.
        """
        builder, splits = self._plan(wanted)
        read = wanted
        if most_rows is not None:
            rows_of_files = max((file.row_count for split in splits for file in split.files), default=0)
            num_rows = min(max(len(wanted), rows_of_files // _READS_PER_FILE), max(most_rows, len(wanted)))
            end = min(wanted.start + num_rows, self._window.end, self._snapshot.next_row_id if self._snapshot else 0)
            if end > wanted.end:
                read = OffsetRange(wanted.start, end)
                builder, splits = self._plan(read)
        if not splits:
            return RangeRows(read, pa.table({ROW_ID: pa.array([], pa.int64())}), ())
        rows = builder.new_read().to_arrow_batch_reader(splits).read_all()
        return RangeRows(read, rows.sort_by(ROW_ID), tuple(self._files(splits)))

    def _plan(self, wanted: OffsetRange) -> tuple[Any, list[Any]]:
        builder = self._table.new_read_builder().with_projection(self._columns)
        predicates = builder.new_predicate_builder()
        builder = builder.with_filter(predicates.between(ROW_ID, wanted.start, wanted.end - 1))
        scan = builder.new_scan()
        overlapping = [manifest for manifest in self._manifests if _may_hold(manifest, wanted)]
        scan.file_scanner.manifest_scanner = lambda: (overlapping, self._snapshot)
        splits = scan.plan().splits()
        if self._table.options.data_evolution_enabled():
            return builder, splits
        # pypaimon looks at row ids of files only where the columns of a row may be in several.
        near = (split.filter_file(partial(self._is_near, wanted, split)) for split in splits)
        return builder, [split for split in near if split is not None]

    def _is_near(self, wanted: OffsetRange, split: Any, file: Any) -> bool:
        bounds = self._bounds_of(split, file)
        return bounds.start < wanted.end and wanted.start < bounds.end

    def _bounds_of(self, split: Any, file: Any) -> OffsetRange:
        """Return the range in which the row ids of ``file`` lie; reads them, once, where only its rows tell."""
        if file.first_row_id is not None:
            return OffsetRange(file.first_row_id, file.first_row_id + file.row_count)
        known = self._bounds.get(file.file_name)
        if known is None:
            alone = [split.filter_file(lambda other: other.file_name == file.file_name)]
            builder = self._table.new_read_builder().with_projection([ROW_ID])
            ids = builder.new_read().to_arrow_batch_reader(alone).read_all().column(ROW_ID)
            if ids.null_count:
                raise SourceChangedError(
                    f"table {self._table.identifier.get_full_name()}: {ids.null_count} of {file.row_count} rows of "
                    f"file {file.file_name} have no row id, so that nobody can tell whether they were read; roll the "
                    "table back to before the compaction that wrote it, or write these rows anew and delete the old"
                )
            least, greatest = pc.min_max(ids).values()
            known = OffsetRange(least.as_py(), greatest.as_py() + 1) if len(ids) else OffsetRange(0, 1)
            if len(self._bounds) >= _MOST_BOUNDS:
                self._bounds.clear()
            self._bounds[file.file_name] = known
        return known

    def _files(self, splits: Sequence[Any]) -> Iterator[FileSpan]:
        for split in splits:
            for file in split.files:
                if file.row_count:
                    yield _span(file, self._bounds_of(split, file))


def files_of_partition(table: Any, snapshot: Any, column: str, value: str) -> tuple[FileSpan, ...]:
    """Return the row ids that each data file of one partition holds, as of ``snapshot``; no file is read.

    Files of BLOB columns, which lie beside those of the same rows, are left out.
    """
    builder = table.copy({"scan.snapshot-id": str(snapshot.id)}).new_read_builder()
    builder = builder.with_partition_filter(builder.new_predicate_builder().equal(column, value))
    splits = builder.new_scan().plan().splits()
    files = (file for split in splits for file in split.files if not file.file_name.endswith(".blob"))
    return tuple(_span(file, OffsetRange(file.first_row_id, file.first_row_id + file.row_count)) for file in files)


def _span(file: Any, rows: OffsetRange) -> FileSpan:
    return FileSpan(rows, datetime.fromtimestamp(file.creation_time_epoch_millis() / 1000, UTC))


def _includes(outer: OffsetRange, inner: OffsetRange) -> bool:
    return outer.start <= inner.start and inner.end <= outer.end


def _may_hold(manifest: Any, wanted: OffsetRange) -> bool:
    if manifest.min_row_id is None or manifest.max_row_id is None:
        return True
    return bool(manifest.min_row_id < wanted.end and manifest.max_row_id >= wanted.start)
