"""Reading the curated table: clips without their bytes, newest first or in order, and the bytes of one clip."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pypaimon.table.row.blob import BlobDescriptor

from consumers.errors import ConfigurationError
from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog, store_errors
from consumers.paimon.reading.tags import tagged
from consumers.paimon.scan import ROW_ID, SEQUENCE_NUMBER, RangeReader, files_of_partition
from schemas.positions import OffsetRange
from schemas.records import CutMethod
from schemas.tables import CURATED

_MOST_ROWS = 32_768
_MOST_FILES = 64
# How far the clocks of those who write files and those who process videos may differ.
_CLOCK_SKEW = timedelta(minutes=5)
_CHUNK_BYTES = 1024 * 1024
_BYTES = ("clip", "thumbnail_jpeg")
_COLUMNS = tuple(name for name in CURATED.schema.names if name not in _BYTES)


@dataclass(frozen=True, slots=True)
class ClipFilter:
    """Which clips; None does not restrict. ``ingest_date`` is ``YYYY-MM-DD`` in UTC."""

    consumer: str | None = None
    ingest_date: str | None = None
    source_row_id: int | None = None
    clip_id: str | None = None

    def admits(self, row: Mapping[str, Any]) -> bool:
        """Return whether ``row`` meets every restriction."""
        wanted = {
            "consumer": self.consumer,
            "ingest_date": self.ingest_date,
            "source_row_id": self.source_row_id,
            "clip_id": self.clip_id,
        }
        return all(value is None or row[name] == value for name, value in wanted.items())


@dataclass(frozen=True, slots=True)
class ClipPlace:
    """Where a clip is: its row id in the curated table, and whether it has bytes there, or only a reference."""

    row_id: int
    has_media: bool


@dataclass(frozen=True, slots=True)
class ClipBytes:
    """The MP4 of one clip, read where it is wanted.

    Attributes:
        num_bytes: how long it is.
        read: returns the bytes from one position to another, exclusive.
    """

    num_bytes: int
    read: Callable[[int, int], bytes]

    def chunks(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from ``start`` to ``end``, exclusive, at most a megabyte at a time."""
        for position in range(start, end, _CHUNK_BYTES):
            yield self.read(position, min(position + _CHUNK_BYTES, end))


@dataclass(frozen=True, slots=True)
class ClipRecord:
    """One clip: its row id in the curated table, and every column but the bytes."""

    row_id: int
    values: Mapping[str, Any]

    @property
    def has_media(self) -> bool:
        """Whether it has bytes of its own; else its row is a reference into the source object."""
        return bool(self.values["cut_method"] != CutMethod.REFERENCE)

    @property
    def place(self) -> ClipPlace:
        """Where it is."""
        return ClipPlace(self.row_id, self.has_media)


class ClipReader:
    """Reads the curated table as of one snapshot.

    Args:
        config: the catalog.
        table: name of the curated table.
        chunk_rows: rows read first; each further read takes twice as many, up to 32,768.
        tag: name of the state that is read; None is the newest one.

    Raises:
        ConfigurationError: there is no such table, or no such tag.
        StoreUnavailableError: the store did not answer.
    """

    def __init__(self, config: CatalogConfig, table: str, *, chunk_rows: int = 512, tag: str | None = None) -> None:
        self._name = f"{config.database}.{table}"
        self._chunk_rows = chunk_rows
        self._tag = tag
        self._table = load_table(open_catalog(config), config, table)
        # Large clips are read from their blob files by range.
        self._by_descriptor = self._table.copy({"blob-as-descriptor": "true"})
        self._pin()

    def _pin(self) -> None:
        with store_errors(f"table {self._name}"):
            manager = self._table.snapshot_manager()
            self._head = manager.get_latest_snapshot() if self._tag is None else tagged(self._table, self._tag)
        self._end = 0 if self._head is None else self._head.next_row_id or 0
        self._readers: dict[tuple[tuple[str, ...], bool, bool], RangeReader] = {}

    def newest(self) -> ClipReader:
        """Return a reader of the newest snapshot, on the same open table; one of each thread.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        reader = copy(self)
        reader._pin()
        return reader

    @property
    def snapshot_id(self) -> int:
        """The snapshot that is read, 0 for an empty table."""
        return 0 if self._head is None else int(self._head.id)

    @property
    def end(self) -> int:
        """The row id after the last one."""
        return self._end

    def clips(
        self, wanted: ClipFilter | None = None, *, newest_first: bool = False, limit: int | None = None
    ) -> Iterator[ClipRecord]:
        """Yield clips in order of commit, or the newest first; no further than it is pulled.

        Raises:
            StoreUnavailableError: the store did not answer, or the snapshot has expired with its files.
        """
        chosen = wanted or ClipFilter()
        num_left = limit
        for chunk in self._chunks(newest_first):
            rows = self._read(_COLUMNS, chunk, whole_files=True).to_pylist()
            for row in reversed(rows) if newest_first else rows:
                if num_left == 0:
                    return
                if chosen.admits(row):
                    yield _record(row)
                    num_left = None if num_left is None else num_left - 1

    def columns(self, names: Sequence[str], rows: OffsetRange) -> list[dict[str, Any]]:
        """Return some columns of the rows that exist of a range, and ``_ROW_ID``, in order of it.

        Raises:
            StoreUnavailableError: the store did not answer, or the snapshot has expired with its files.
        """
        found: list[dict[str, Any]] = self._read(tuple(names), rows, whole_files=True).to_pylist()
        return found

    def records(self, row_ids: Sequence[int]) -> list[ClipRecord]:
        """Return the clips of those rows that exist, in the order given; best of rows that are near each other.

        Raises:
            StoreUnavailableError: the store did not answer, or the snapshot has expired with its files.
        """
        if not row_ids:
            return []
        rows = self._read(_COLUMNS, OffsetRange(min(row_ids), max(row_ids) + 1), whole_files=True)
        wanted = rows.filter(pc.is_in(rows.column(ROW_ID), pa.array(row_ids, pa.int64())))
        found = {record.row_id: record for record in map(_record, wanted.to_pylist())}
        return [found[row_id] for row_id in row_ids if row_id in found]

    def record(self, row_id: int) -> ClipRecord | None:
        """Return the clip of one row; None where there is none, or none any more.

        Raises:
            StoreUnavailableError: the store did not answer, or the snapshot has expired with its files.
        """
        if not 0 <= row_id < self._end:
            return None
        return next(map(_record, self._read(_COLUMNS, OffsetRange(row_id, row_id + 1)).to_pylist()), None)

    def places_of_video(
        self, source_row_id: int, clip_ids: Collection[str], ingest_date: str, since: datetime
    ) -> dict[str, ClipPlace]:
        """Return the places of clips of one video, by clip id; those that are not in the table are left out.

        Looks at 64 files of its partition that were written since its clips were made, the oldest of them first:
        until a compaction it is the first one.

        Args:
            source_row_id: the video's.
            clip_ids: which clips.
            ingest_date: their partition.
            since: when they were made, before they were committed.

        Raises:
            StoreUnavailableError: the store did not answer, or the snapshot has expired with its files.
        """
        found: dict[str, ClipPlace] = {}
        if self._head is None:
            return found
        with store_errors(f"table {self._name}"):
            files = files_of_partition(self._table, self._head, "ingest_date", ingest_date)
        later = [file for file in files if file.created_at >= since - _CLOCK_SKEW]
        for file in sorted(later, key=lambda file: file.created_at)[:_MOST_FILES]:
            if len(found) == len(clip_ids):
                break
            for row in self.columns(("clip_id", "source_row_id", "cut_method"), file.rows):
                if row["source_row_id"] == source_row_id and row["clip_id"] in clip_ids:
                    found[row["clip_id"]] = ClipPlace(row[ROW_ID], row["cut_method"] != CutMethod.REFERENCE)
        return found

    def media(self, record: ClipRecord) -> bytes | None:
        """Return the MP4 of one clip, None where only a reference is kept.

        Raises:
            ConfigurationError: the clip has been deleted since it was listed.
            StoreUnavailableError: the store did not answer.
        """
        return self._bytes(record, "clip")

    def open_media(self, record: ClipRecord) -> ClipBytes | None:
        """Return the MP4 of one clip as something to read from; raises and returns None as :meth:`media` does.

        Reading from it raises StoreUnavailableError where the store does not answer, or the file has gone meanwhile.
        """
        rows = OffsetRange(record.row_id, record.row_id + 1)
        found = self._read(("clip",), rows, by_descriptor=True).column("clip").to_pylist()
        if not found:
            raise self._gone(record)
        if found[0] is None:
            return None
        blob = BlobDescriptor.deserialize(found[0])

        def read(start: int, end: int) -> bytes:
            with store_errors(f"table {self._name}"), self._table.file_io.new_input_stream(blob.uri) as stream:
                stream.seek(blob.offset + start)
                data: bytes = stream.read(end - start)
            return data

        return ClipBytes(blob.length, read)

    def thumbnail(self, record: ClipRecord) -> bytes | None:
        """Return the JPEG of one clip; raises what :meth:`media` does."""
        return self._bytes(record, "thumbnail_jpeg")

    def _bytes(self, record: ClipRecord, column: str) -> bytes | None:
        rows = self._read((column,), OffsetRange(record.row_id, record.row_id + 1)).to_pylist()
        if not rows:
            raise self._gone(record)
        data: bytes | None = rows[0][column]
        return data

    def _gone(self, record: ClipRecord) -> ConfigurationError:
        return ConfigurationError(f"table {self._name}: row {record.row_id} is not there any more; list again")

    def _read(
        self, columns: tuple[str, ...], rows: OffsetRange, *, whole_files: bool = False, by_descriptor: bool = False
    ) -> pa.Table:
        with store_errors(f"table {self._name}"):
            reader = self._readers.get((columns, whole_files, by_descriptor))
            if reader is None:
                table = self._by_descriptor if by_descriptor else self._table
                reader = RangeReader(table, columns, whole_files=whole_files)
                reader.pin(self._head, OffsetRange(0, self._end))
                self._readers[columns, whole_files, by_descriptor] = reader
            return reader.read(rows).rows

    def _chunks(self, newest_first: bool) -> Iterator[OffsetRange]:
        """Yield ranges that grow: a short list ends early, and a long one does not decode a large file many times."""
        done, size = 0, self._chunk_rows
        while done < self._end:
            size_here = min(size, self._end - done)
            start = self._end - done - size_here if newest_first else done
            yield OffsetRange(start, start + size_here)
            done += size_here
            size = min(2 * size, max(self._chunk_rows, _MOST_ROWS))


def _record(row: dict[str, Any]) -> ClipRecord:
    values = {name: value for name, value in row.items() if name not in (ROW_ID, SEQUENCE_NUMBER)}
    return ClipRecord(row[ROW_ID], values)
