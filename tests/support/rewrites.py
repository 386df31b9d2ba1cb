"""What other engines do to a table with row ids, and pypaimon cannot: rewriting files, with ids kept, new, or lost."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import replace
from enum import Enum
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pypaimon.manifest.index_manifest_file import IndexManifestFile
from pypaimon.manifest.schema.manifest_entry import ManifestEntry

from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.scan import ROW_ID, SEQUENCE_NUMBER
from tests.support.warehouse import table

_BATCH = 2**63 - 1


class RowIds(Enum):
    """What becomes of the row ids of rows that are rewritten."""

    PHYSICAL = "in a column of the new file, which has no first row id"
    NEW = "new ones at the end, as for new rows"
    LOST = "none"


def rewrite(
    config: CatalogConfig, name: str, kind: str, row_ids: RowIds, *, without: Collection[int] = (), order: int = 1
) -> None:
    """Rewrite all files of a table without partitions into one, as one snapshot.

    Args:
        config: the catalog.
        name: the table, without managed BLOB columns.
        kind: of the snapshot, ``COMPACT`` or ``OVERWRITE``.
        row_ids: what becomes of them.
        without: row ids of rows that are left out.
        order: -1 writes the rows from the last to the first.
    """
    found = table(config, name)
    columns = [field.name for field in found.fields]
    builder = found.copy({"blob-as-descriptor": "true"}).new_read_builder().with_projection([*columns, ROW_ID])
    splits = builder.new_scan().plan().splits()
    rows = builder.new_read().to_arrow_batch_reader(splits).read_all().sort_by(ROW_ID)
    kept = rows.filter(pa.array([row_id not in without for row_id in rows.column(ROW_ID).to_pylist()]))
    kept = kept.take(pa.array(range(kept.num_rows), pa.int64())[::order])
    head = found.snapshot_manager().get_latest_snapshot()
    scanner = builder.new_scan().file_scanner
    entries = scanner.plan_files()
    deleted = [replace(entry, kind=1) for entry in entries]
    commit = found.new_batch_write_builder().new_commit()
    added = [] if kept.num_rows == 0 else [_written(found, entries[0], kept, columns, row_ids)]
    # Deletion vectors go with the files that they are of.
    indexes = IndexManifestFile(found).read(head.index_manifest) if head.index_manifest else []
    outdated = [replace(entry, kind=1) for entry in indexes]
    commit.file_store_commit._try_commit(kind, _BATCH, lambda latest: deleted + added, index_deletes=outdated)
    commit.close()


def _written(found: Any, like: ManifestEntry, rows: pa.Table, columns: list[str], row_ids: RowIds) -> ManifestEntry:
    name = f"data-{uuid.uuid4()}-0.parquet"
    data = rows.select(columns)
    write_cols = None
    if row_ids is RowIds.PHYSICAL:
        data = data.append_column(ROW_ID, rows.column(ROW_ID).cast(pa.int64()))
        data = data.append_column(SEQUENCE_NUMBER, pa.nulls(rows.num_rows, pa.int64()))
        write_cols = [*columns, ROW_ID, SEQUENCE_NUMBER]
    path = f"{found.table_path}/bucket-0/{name}"
    with found.file_io.new_output_stream(path) as stream:
        pq.write_table(data, stream)
    file = replace(
        like.file,
        file_name=name,
        file_size=found.file_io.get_file_size(path),
        row_count=rows.num_rows,
        first_row_id=None,
        # 0: an append, whose rows get new ids; 1: a compaction.
        file_source=0 if row_ids is RowIds.NEW else 1,
        write_cols=write_cols,
        value_stats_cols=[],
        file_path=path,
        extra_files=[],
    )
    return replace(like, kind=0, file=file)
