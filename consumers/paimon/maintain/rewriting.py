"""Files of neighbouring row ids written anew as one, without what was deleted from them.

A row id is the start of its file's range and the place in it, so no row may move: deleted rows keep their places, with
every column null, or empty where it must not be null, and stay hidden by a deletion vector. Their bytes are gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pypaimon.read.reader.format_blob_reader import FormatBlobReader
from pypaimon.read.split import DataSplit
from pypaimon.schema.data_types import PyarrowFieldParser, is_blob_file_field
from pypaimon.write.writer.append_only_data_writer import AppendOnlyDataWriter
from pypaimon.write.writer.blob_writer import BlobWriter

from consumers.paimon.maintain.row_groups import RowGroup, packs
from consumers.paimon.scan import ROW_ID
from schemas.positions import OffsetRange

_COMPACT = 1
"""File source of Paimon's: not written by an append."""
# Pages of a few thumbnails: one is read at a time.
_PAGES = {"data_page_size": 256 * 1024, "write_batch_size": 16}
_NO_ROLLING = {"target-file-size": "1 tb", "blob.target-file-size": "1 tb", "blob.copy-buffer-size": "1 mb"}


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What goes and what comes in its place.

    Attributes:
        before: manifest entries of the files that go.
        after: the files that come.
        dead: deleted positions, by the name of the file that they are noted for.
    """

    before: tuple[Any, ...]
    after: tuple[Any, ...]
    dead: dict[str, frozenset[int]]


class Rewriter:
    """Writes groups of row ids anew.

    Args:
        table: the pypaimon table.
    """

    def __init__(self, table: Any) -> None:
        self._table = table.copy(_NO_ROLLING)
        self._columns = [field for field in table.fields if not is_blob_file_field(field)]
        self._blob_columns = [field for field in table.fields if is_blob_file_field(field)]

    def blob_packs(self, part: Sequence[RowGroup]) -> list[list[Any]]:
        """Return the BLOB files of ``part`` that are written anew, by the file that they become."""
        dead = _dead_row_ids(part)
        found = [pack for field in self._blob_columns for pack in packs(part, field.name)]
        return [pack for pack in found if len(pack) > 1 or any(row_id in dead for row_id in _row_ids(pack[0]))]

    def rewrite(self, part: Sequence[RowGroup]) -> Rewritten:
        """Write the files of ``part``, whose row ids follow one another, anew; nothing of it is visible yet.

        Raises:
            ValueError: what was read does not fit what the manifests say; nothing is published.
            Exception: whatever the store raises.
        """
        first = part[0]
        rows = OffsetRange(first.rows.start, part[-1].rows.end)
        dead = _dead_row_ids(part)
        entries = [entry for group in part for entry in group.data]
        written = self._write(self._emptied(self._read(part, rows), rows, dead), first.data[0])
        made = [_placed(written, entries, rows.start)]
        gone = list(entries)
        for pack in self.blob_packs(part):
            gone += pack
            made += self._write_blobs(pack, dead)
        positions = frozenset(row_id - rows.start for row_id in dead)
        return Rewritten(tuple(gone), tuple(made), {written.file_name: positions} if positions else {})

    def read(self, part: Sequence[RowGroup], columns: Sequence[str]) -> pa.Table:
        """Return columns of all rows of ``part``, deleted ones included, with ``_ROW_ID``, in order of it."""
        first = part[0].data[0]
        files = [entry.file for group in part for entry in group.entries]
        for entry in (entry for group in part for entry in group.entries):
            entry.file.set_file_path(self._table.table_path, entry.partition, entry.bucket)
        split = DataSplit(files, first.partition, first.bucket)
        read: pa.Table = self._table.new_read_builder().with_projection([ROW_ID, *columns]).new_read().to_arrow([split])
        return read

    def _read(self, part: Sequence[RowGroup], rows: OffsetRange) -> pa.Table:
        read = self.read(part, [field.name for field in self._columns])
        if not read.column(ROW_ID).combine_chunks().equals(pa.array(range(rows.start, rows.end), pa.int64())):
            raise ValueError(
                f"{read.num_rows} rows were read of row ids {rows}, not each of them; nothing is rewritten"
            )
        return read.drop_columns([ROW_ID])

    def _emptied(self, read: pa.Table, rows: OffsetRange, dead: frozenset[int]) -> pa.Table:
        if not dead:
            return read
        is_dead = pa.array([row_id in dead for row_id in range(rows.start, rows.end)])
        for at, field in enumerate(self._columns):
            if field.name in self._table.partition_keys:
                continue
            column = read.column(at)
            nothing = pa.scalar(None if field.type.nullable else _empty(column.type), column.type)
            read = read.set_column(at, read.schema.field(at), pc.if_else(is_dead, nothing, column))
        return read

    def _write(self, rows: pa.Table, like: Any) -> Any:
        schema = PyarrowFieldParser.from_paimon_schema(self._columns)
        writer = AppendOnlyDataWriter(
            self._table,
            tuple(like.partition.values),
            like.bucket,
            0,
            self._table.options,
            [field.name for field in self._columns],
        )
        writer.parquet_writer_options = {**writer.parquet_writer_options, **_PAGES}
        try:
            for batch in rows.cast(schema).combine_chunks().to_batches():
                writer.write(batch)
            [made] = writer.prepare_commit()
            writer._release_prepared_files()
            return made
        finally:
            writer.close()

    def _write_blobs(self, pack: Sequence[Any], dead: frozenset[int]) -> list[Any]:
        [name] = pack[0].file.write_cols
        field = next(field for field in self._blob_columns if field.name == name)
        kind = PyarrowFieldParser.from_paimon_schema([field]).field(0).type
        first = pack[0]
        writer = BlobWriter(self._table, tuple(first.partition.values), first.bucket, 0, name, self._table.options)
        try:
            for entry in pack:
                entry.file.set_file_path(self._table.table_path, entry.partition, entry.bucket)
                reader = FormatBlobReader(
                    self._table.file_io,
                    entry.file.physical_path(),
                    [name],
                    [field],
                    None,
                    True,
                    file_size=entry.file.file_size,
                )
                try:
                    values = reader.read_values_at(list(range(reader.record_count)))
                finally:
                    reader.close()
                if len(values) != entry.file.row_count:
                    raise ValueError(f"file {entry.file.file_name} holds {len(values)} rows, not as many as it should")
                for row_id, value in zip(_row_ids(entry), values, strict=True):
                    writer.write_blob(None if row_id in dead else value, kind)
            made = writer.prepare_commit()
            writer._release_prepared_files()
        finally:
            writer.close()
        placed, start = [], int(first.file.first_row_id)
        for file in made:
            placed.append(_placed(file, pack, start))
            start += file.row_count
        return placed


def _placed(file: Any, instead_of: Sequence[Any], first_row_id: int) -> Any:
    return replace(
        file,
        first_row_id=first_row_id,
        file_source=_COMPACT,
        min_sequence_number=min(entry.file.min_sequence_number for entry in instead_of),
        max_sequence_number=max(entry.file.max_sequence_number for entry in instead_of),
        # Rows are looked for in files that were written since: no later than the newest of them was.
        creation_time=max((entry.file.creation_time for entry in instead_of), key=lambda made: made.get_millisecond()),
    )


def _dead_row_ids(part: Sequence[RowGroup]) -> frozenset[int]:
    return frozenset(group.rows.start + position for group in part for position in group.dead)


def _row_ids(entry: Any) -> range:
    return range(entry.file.first_row_id, entry.file.first_row_id + entry.file.row_count)


def _empty(kind: pa.DataType) -> Any:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return ""
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return b""
    if pa.types.is_list(kind) or pa.types.is_map(kind):
        return []
    return False if pa.types.is_boolean(kind) else 0
