"""Many small Parquet files, read without pypaimon's reader, which takes milliseconds for each before its first row.

Until a compaction each commit leaves a file of its own, and a reader of the whole table opens them all. Here are read
those of which nothing but rows has to be known: small, of the columns' present definition, without deleted rows, and
not put together from several files. All others are left to pypaimon.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from consumers.paimon.scan import ROW_ID

_MAX_FILE_BYTES = 1024**2
_NUM_THREADS = 8
# Read ahead, so that threads have something to do and memory stays bounded.
_NUM_AHEAD = 32
_PARQUET, _BLOB = ".parquet", ".blob"


class SmallFiles:
    """Reads small files of one table.

    Args:
        table: the pypaimon table.
        columns: what is read; of system columns ``_ROW_ID`` alone.
        equal: only rows with these values, by column.
        parts: of nested columns, the leaves that are needed, as Parquet names them.
    """

    def __init__(
        self, table: Any, columns: Sequence[str], equal: Mapping[str, str], parts: Mapping[str, Sequence[str]]
    ) -> None:
        self._file_io = table.file_io
        self._schemas = table.schema_manager
        self._has_keys = bool(table.primary_keys)
        self._columns = columns
        self._equal = equal
        self._physical = [name for name in dict.fromkeys((*columns, *equal)) if name != ROW_ID]
        self._leaves = [leaf for name in self._physical for leaf in parts.get(name, (name,))]
        self._present = _definitions(table.fields, self._physical)
        self._has_blobs = any(kind.startswith("BLOB") for _, kind in self._present.values())
        self._is_same: dict[int, bool] = {table.table_schema.id: True}

    def of(self, split: Any) -> tuple[list[Any], Any | None]:
        """Return the files of ``split`` that can be read here, and the split with all others."""
        if self._has_keys:
            return [], split
        deletions = split.data_deletion_files or [None] * len(split.files)
        files = [file for file in split.files if not file.file_name.endswith(_BLOB)]
        deleted = {file.file_name for file, each in zip(split.files, deletions, strict=True) if each is not None}
        alone = _alone(files)
        small = [file for file in alone if self._is_small(file) and file.file_name not in deleted]
        if not small:
            return [], split
        ranges = {(file.first_row_id, file.row_count) for file in small if file.first_row_id is not None}
        names = {file.file_name for file in small}
        starts = np.array(sorted(start for start, _ in ranges), dtype=np.int64)
        ends = np.array([start + count for start, count in sorted(ranges)], dtype=np.int64)

        def is_left(file: Any) -> bool:
            if file.file_name in names:
                return False
            if not file.file_name.endswith(_BLOB) or len(starts) == 0:
                return True
            # BLOB files of rows that are read here go with them; none of their columns is asked for.
            place = int(np.searchsorted(starts, file.first_row_id, side="right")) - 1
            return not (place >= 0 and file.first_row_id < ends[place])

        return small, split.filter_file(is_left)

    def read(self, files: Sequence[Any]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of ``files``, in their order, at least a batch for each that holds any."""
        if not files:
            return
        with ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="audit") as pool:
            ahead: deque[Future[list[pa.RecordBatch]]] = deque()
            for file in files:
                ahead.append(pool.submit(self._read, file))
                if len(ahead) > _NUM_AHEAD:
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()

    def _is_small(self, file: Any) -> bool:
        return (
            file.file_size <= _MAX_FILE_BYTES
            and file.file_name.endswith(_PARQUET)
            and (ROW_ID not in self._columns or file.first_row_id is not None)
            and (not self._has_blobs if file.write_cols is None else set(self._physical) <= set(file.write_cols))
            and self._is_as_now(file.schema_id)
        )

    def _is_as_now(self, schema_id: int) -> bool:
        if schema_id not in self._is_same:
            then = self._schemas.get_schema(schema_id)
            self._is_same[schema_id] = _definitions(then.fields, self._physical) == self._present
        return self._is_same[schema_id]

    def _read(self, file: Any) -> list[pa.RecordBatch]:
        with self._file_io.new_input_stream(file.file_path) as stream:
            # One request instead of several for each column.
            data = stream.read()
        rows = pq.ParquetFile(pa.BufferReader(data)).read(columns=self._leaves, use_threads=False)
        if ROW_ID in self._columns:
            first = file.first_row_id
            rows = rows.append_column(ROW_ID, pa.array(np.arange(first, first + rows.num_rows, dtype=np.int64)))
        for column, value in self._equal.items():
            rows = rows.filter(pc.fill_null(pc.equal(rows.column(column), value), False))
        batches: list[pa.RecordBatch] = rows.select(list(self._columns)).combine_chunks().to_batches()
        return batches


def _alone(files: Sequence[Any]) -> list[Any]:
    """Return the files whose rows are in no other of ``files``."""
    tracked = sorted((file for file in files if file.first_row_id is not None), key=lambda file: file.first_row_id)
    alone = [file for file in files if file.first_row_id is None]
    reached = -1
    for index, file in enumerate(tracked):
        end = file.first_row_id + file.row_count
        following = tracked[index + 1].first_row_id if index + 1 < len(tracked) else end
        if reached <= file.first_row_id and end <= following:
            alone.append(file)
        reached = max(reached, end)
    return alone


def _definitions(fields: Sequence[Any], names: Sequence[str]) -> dict[str, tuple[int, str]]:
    return {field.name: (field.id, str(field.type)) for field in fields if field.name in names}
