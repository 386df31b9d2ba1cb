"""Which rows of a row-tracked table's files are deleted: its deletion vectors, read and written anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pypaimon.deletionvectors.bitmap_deletion_vector import BitmapDeletionVector
from pypaimon.manifest.index_manifest_entry import IndexManifestEntry
from pypaimon.manifest.index_manifest_file import IndexManifestFile
from pypaimon.table.row.generic_row import GenericRow
from pypaimon.write.table_delete import TableDeleteByRowId

_DELETE = 1

Bucket = tuple[tuple[Any, ...], int]
"""Values of the partition columns, and the number of the bucket."""


@dataclass(frozen=True, slots=True)
class BucketDeletions:
    """Deleted rows of one bucket: positions by data file, and the index entries that say so."""

    positions: Mapping[str, frozenset[int]] = field(default_factory=dict)
    entries: tuple[Any, ...] = ()


class Deletions:
    """Reads and writes the deletion vectors of one table.

    Args:
        table: the pypaimon table.
    """

    def __init__(self, table: Any) -> None:
        self._table = table
        self._vectors = TableDeleteByRowId(table)
        self._manifests = IndexManifestFile(table)

    def read(self, snapshot: Any | None) -> dict[Bucket, BucketDeletions]:
        """Return what is deleted as of ``snapshot``, by bucket."""
        if snapshot is None:
            return {}
        buckets = {
            (tuple(entry.partition.values), entry.bucket)
            for entry in self._entries(snapshot)
            if entry.index_file.dv_ranges
        }
        found = {}
        for partition, bucket in buckets:
            row = GenericRow(list(partition), self._table.partition_keys_fields)
            entries, vectors = self._vectors._read_existing_deletion_vectors(row, bucket, snapshot.id)
            positions = {name: frozenset(vector.bit_map()) for name, vector in vectors.items()}
            found[partition, bucket] = BucketDeletions(
                {name: rows for name, rows in positions.items() if rows}, tuple(entries)
            )
        return found

    def noted(self, snapshot: Any | None, bucket: Bucket) -> tuple[set[str], dict[str, int]]:
        """Return the index files of a bucket, and how many rows of each data file they delete: one file is read."""
        entries = [
            entry for entry in self._entries(snapshot) if (tuple(entry.partition.values), entry.bucket) == bucket
        ]
        counts = {
            name: int(vector.cardinality)
            for entry in entries
            for name, vector in (entry.index_file.dv_ranges or {}).items()
            if vector.cardinality
        }
        return {entry.index_file.file_name for entry in entries}, counts

    def exchange(
        self, bucket: Bucket, known: BucketDeletions, gone: Iterable[str], after: Mapping[str, Iterable[int]]
    ) -> tuple[list[Any], list[Any]]:
        """Write the deletions of a bucket anew, and return the index entries that go and those that come.

        Args:
            bucket: which.
            known: what is deleted.
            gone: data files that go.
            after: deleted positions of the data files that come in their place.
        """
        gone = set(gone)
        vectors = {name: _vector(rows) for name, rows in known.positions.items() if name not in gone}
        vectors |= {name: _vector(rows) for name, rows in after.items()}
        partition = GenericRow(list(bucket[0]), self._table.partition_keys_fields)
        deletes = [
            IndexManifestEntry(_DELETE, entry.partition, entry.bucket, entry.index_file) for entry in known.entries
        ]
        if not vectors:
            return deletes, []
        return deletes, [self._vectors._write_deletion_vector_index(partition, bucket[1], vectors)]

    def _entries(self, snapshot: Any | None) -> list[Any]:
        if snapshot is None or snapshot.index_manifest is None:
            return []
        return [
            entry
            for entry in self._manifests.read(snapshot.index_manifest)
            if entry.index_file.index_type == IndexManifestFile.DELETION_VECTORS_INDEX
        ]


def _vector(positions: Iterable[int]) -> Any:
    vector = BitmapDeletionVector()
    for position in positions:
        vector.delete(position)
    return vector
