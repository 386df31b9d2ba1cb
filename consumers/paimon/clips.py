"""Reading the curated table: clips without their bytes, newest first or in order, and the bytes of one clip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from consumers.errors import ConfigurationError
from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog, store_errors
from consumers.paimon.scan import ROW_ID, SEQUENCE_NUMBER, RangeReader
from schemas.positions import OffsetRange
from schemas.tables import CURATED

_MOST_ROWS = 32_768
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
class ClipRecord:
    """One clip: its row id in the curated table, and every column but the bytes."""

    row_id: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ClipBytes:
    """The bytes of one clip: an MP4 (None where only a reference is kept) and a JPEG thumbnail."""

    clip: bytes | None
    thumbnail_jpeg: bytes | None


class ClipReader:
    """Reads the curated table as of one snapshot.

    Args:
        config: the catalog.
        table: name of the curated table.
        chunk_rows: rows read first; each further read takes twice as many, up to 32,768.

    Raises:
        ConfigurationError: there is no such table.
        StoreUnavailableError: the store did not answer.
    """

    def __init__(self, config: CatalogConfig, table: str, *, chunk_rows: int = 512) -> None:
        self._name = f"{config.database}.{table}"
        self._chunk_rows = chunk_rows
        curated = load_table(open_catalog(config), config, table)
        self._rows = RangeReader(curated, _COLUMNS)
        self._bytes = RangeReader(curated, _BYTES)
        with store_errors(f"table {self._name}"):
            self._head = curated.snapshot_manager().get_latest_snapshot()
            self._end = 0 if self._head is None else self._head.next_row_id or 0
            if self._end:
                self._rows.pin(self._head, OffsetRange(0, self._end))
                self._bytes.pin(self._head, OffsetRange(0, self._end))

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
            with store_errors(f"table {self._name}"):
                rows = self._rows.read(chunk).rows.to_pylist()
            for row in reversed(rows) if newest_first else rows:
                if num_left == 0:
                    return
                row_id = row.pop(ROW_ID)
                row.pop(SEQUENCE_NUMBER)
                if chosen.admits(row):
                    yield ClipRecord(row_id, row)
                    num_left = None if num_left is None else num_left - 1

    def read(self, record: ClipRecord) -> ClipBytes:
        """Return the bytes of one clip.

        Raises:
            ConfigurationError: the clip has been deleted since it was listed.
            StoreUnavailableError: the store did not answer.
        """
        with store_errors(f"table {self._name}, row {record.row_id}"):
            rows = self._bytes.read(OffsetRange(record.row_id, record.row_id + 1)).rows.to_pylist()
        if not rows:
            raise ConfigurationError(f"table {self._name}: row {record.row_id} is not there any more; list again")
        return ClipBytes(rows[0]["clip"], rows[0]["thumbnail_jpeg"])

    def _chunks(self, newest_first: bool) -> Iterator[OffsetRange]:
        """Yield ranges that grow: a short list ends early, and a long one does not decode a large file many times."""
        done, size = 0, self._chunk_rows
        while done < self._end:
            size_here = min(size, self._end - done)
            start = self._end - done - size_here if newest_first else done
            yield OffsetRange(start, start + size_here)
            done += size_here
            size = min(2 * size, max(self._chunk_rows, _MOST_ROWS))
