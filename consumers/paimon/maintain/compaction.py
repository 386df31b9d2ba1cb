"""Many small data files into few: the ledger's, and those of a table with a primary key.

Like manifests (:mod:`consumers.paimon.commit.merging`), ten files of a size become one of the next, so that a row is
rewritten a few times in its life and never again once its file is full. Each result is a snapshot of its own, of kind
COMPACT, without a marker: it says nothing of any consumer. A process that dies in between leaves a file that nothing
refers to.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pypaimon.manifest.manifest_file_manager import ManifestFileManager
from pypaimon.manifest.manifest_list_manager import ManifestListManager
from pypaimon.manifest.schema.manifest_entry import ManifestEntry
from pypaimon.read.split import DataSplit
from pypaimon.write.writer.key_value_data_writer import KeyValueDataWriter

from consumers.paimon.commit.table_committer import TableCommitter
from consumers.paimon.maintain.row_groups import MOST_ROWS, parts_due

PROPERTIES = {"sluice.maintenance": "compact"}
_ADD, _DELETE = 0, 1
_COMPACT = 1
"""File source of Paimon's: not written by an append."""
_NEVER_NULL = ("_SEQUENCE_NUMBER", "_VALUE_KIND")
# Rows of Paimon's key-value files that stand for a row that is there: inserted, or the new state after an update.
_INSERT, _UPDATE_AFTER = 0, 2


@dataclass(frozen=True, slots=True)
class Compacted:
    """How many data files became how many, and of how many bytes; of a dry run only what would be merged."""

    num_before: int = 0
    num_after: int = 0
    num_bytes: int = 0

    def __add__(self, other: Compacted) -> Compacted:
        return Compacted(
            self.num_before + other.num_before, self.num_after + other.num_after, self.num_bytes + other.num_bytes
        )


class AppendCompaction:
    """Compacts a table without keys, partitions, row ids and deletion vectors, as the ledger is.

    Files are merged in the order of their making, so that each still holds the rows of a stretch of time, and sorted
    inside.

    Args:
        table: the pypaimon table.
        sort_columns: by which the rows of a new file are sorted.
        most_rows: a file with so many rows is left as it is.
    """

    def __init__(self, table: Any, sort_columns: Sequence[str], most_rows: int = MOST_ROWS) -> None:
        # Files of older releases say nothing of their values; those that replace them do.
        self._table = table.copy({"metadata.stats-mode": "full"})
        self._sort = [(column, "ascending") for column in sort_columns]
        self._most_rows = most_rows

    def run(self, *, dry: bool = False) -> Compacted:
        """Merge what is due.

        Raises:
            Exception: whatever the store raises, or another engine has compacted the same files; nothing is lost.
        """
        total = Compacted()
        head = self._table.snapshot_manager().get_latest_snapshot()
        if head is None or not _is_plain(self._table, head):
            return total
        due = self._due(entries_of(self._table, head))
        if dry:
            return sum((Compacted(len(part), 1, _num_bytes(part)) for part in due), total)
        committer = TableCommitter(self._table, f"sluice-maintenance-{uuid.uuid4()}", _any)
        try:
            for identifier, part in enumerate(due):
                total += self._merge(committer, part, identifier)
        finally:
            committer.close()
        return total

    def _due(self, entries: list[Any]) -> list[list[Any]]:
        entries = sorted(entries, key=lambda entry: (entry.file.creation_time.get_millisecond(), entry.file.file_name))
        sizes = [(int(entry.file.row_count), int(entry.file.file_size)) for entry in entries]
        return [[entries[at] for at in part] for part in parts_due(sizes, self._most_rows)]

    def _merge(self, committer: TableCommitter, part: list[Any], identifier: int) -> Compacted:
        first = part[0]
        split = DataSplit([entry.file for entry in part], first.partition, first.bucket, raw_convertible=True)
        for entry in part:
            entry.file.set_file_path(self._table.table_path, entry.partition, entry.bucket)
        rows = self._table.new_read_builder().new_read().to_arrow([split])
        if rows.num_rows != sum(entry.file.row_count for entry in part):
            raise ValueError(f"{rows.num_rows} rows were read from files that hold others; nothing was compacted")
        made = [file for message in committer.write(rows.sort_by(self._sort), identifier) for file in message.new_files]
        made = [
            replace(
                file,
                file_source=_COMPACT,
                min_sequence_number=min(entry.file.min_sequence_number for entry in part),
                max_sequence_number=max(entry.file.max_sequence_number for entry in part),
            )
            for file in made
        ]
        committer.replace(exchange(part, made), identifier, PROPERTIES)
        return Compacted(len(part), len(made), _num_bytes(part))


class KeyedCompaction:
    """Compacts an unpartitioned table with a primary key and one bucket, as the control table is, into one file.

    The newest row of each key stays, under the sequence number that it has; what is written meanwhile has a higher one.

    Args:
        table: the pypaimon table.
        least_files: so few are left as they are.
    """

    def __init__(self, table: Any, least_files: int = 10) -> None:
        self._table = table
        self._least_files = least_files

    def run(self, *, dry: bool = False) -> Compacted:
        """Merge what is due.

        Raises:
            Exception: whatever the store raises, or another engine has compacted the same files; nothing is lost.
        """
        head = self._table.snapshot_manager().get_latest_snapshot()
        if head is None or head.index_manifest is not None or self._table.partition_keys:
            return Compacted()
        entries = entries_of(self._table, head)
        if len(entries) < self._least_files or len({entry.bucket for entry in entries}) > 1:
            return Compacted()
        if dry:
            return Compacted(len(entries), 1, _num_bytes(entries))
        rows = self._newest(entries)
        committer = TableCommitter(self._table, f"sluice-maintenance-{uuid.uuid4()}", _any)
        try:
            made = self._write(rows, entries[0].bucket)
            committer.replace(exchange(entries, made), 1, PROPERTIES)
        finally:
            committer.close()
        return Compacted(len(entries), len(made), _num_bytes(entries))

    def _newest(self, entries: list[Any]) -> pa.Table:
        """Return the newest row of each key, as the key-value files hold it, sorted by key."""
        tables = []
        for entry in entries:
            entry.file.set_file_path(self._table.table_path, entry.partition, entry.bucket)
            with self._table.file_io.new_input_stream(entry.file.physical_path()) as stream:
                tables.append(pq.read_table(BytesIO(stream.read())))
        # Writers differ in whether they say of a column that it is never null.
        schema = pa.schema([field.with_nullable(field.name not in _NEVER_NULL) for field in tables[0].schema])
        rows = pa.concat_tables([each.select(schema.names).cast(schema) for each in tables]).combine_chunks()
        keys = [name for name in rows.column_names if name.startswith("_KEY_")]
        rows = rows.sort_by([*((key, "ascending") for key in keys), ("_SEQUENCE_NUMBER", "ascending")])
        is_last = pa.array([True] * rows.num_rows)
        if rows.num_rows > 1:
            is_other = pa.array([False] * (rows.num_rows - 1))
            for key in keys:
                column = rows.column(key).combine_chunks()
                is_other = pc.or_(is_other, pc.not_equal(column.slice(0, len(column) - 1), column.slice(1)))
            is_last = pa.concat_arrays([is_other, pa.array([True])])
        rows = rows.filter(is_last)
        return rows.filter(pc.is_in(rows.column("_VALUE_KIND"), pa.array([_INSERT, _UPDATE_AFTER], pa.int8())))

    def _write(self, rows: pa.Table, bucket: int) -> list[Any]:
        if rows.num_rows == 0:
            return []
        writer = KeyValueDataWriter(self._table, (), bucket, 0, self._table.options)
        # Past the writer's own numbering: the rows keep theirs.
        writer._write_data_to_file(rows)
        options = self._table.table_schema.options
        num_levels = int(options.get("num-levels") or 1 + int(options.get("num-sorted-run.compaction-trigger") or 5))
        return [replace(file, level=num_levels - 1, file_source=_COMPACT) for file in writer.committed_files]


def entries_of(table: Any, snapshot: Any) -> list[Any]:
    """Return the manifest entries of all data files of ``snapshot``."""
    manifests = ManifestListManager(table).read_all(snapshot)
    return list(ManifestFileManager(table).read_entries_parallel(manifests, drop_stats=False)) if manifests else []


def exchange(before: Sequence[Any], after: Sequence[Any]) -> list[Any]:
    """Return the manifest entries that take the files ``before`` out and put ``after`` in their place."""
    first = before[0]
    return [
        *(ManifestEntry(_DELETE, entry.partition, entry.bucket, entry.total_buckets, entry.file) for entry in before),
        *(ManifestEntry(_ADD, first.partition, first.bucket, first.total_buckets, file) for file in after),
    ]


def _num_bytes(entries: Sequence[Any]) -> int:
    return sum(int(entry.file.file_size) for entry in entries)


def _is_plain(table: Any, head: Any) -> bool:
    """Whether rows can be written anew without losing what hangs on the old files: row ids, deletion vectors."""
    options = table.options
    return not (
        table.primary_keys
        or table.partition_keys
        or options.row_tracking_enabled()
        or options.deletion_vectors_enabled()
        or head.index_manifest is not None
    )


def _any(manager: Any, latest: Any | None) -> None:
    """Publish on top of whatever there is: the files that are taken out are checked for."""
