"""A second name for the same bytes: rows whose object has the etag and the size of one before.

It is recorded and rejects nothing: the ledger names the row that was there first. What tells is the version that was
read of each object, so that only etags that are made of the content count (see
:attr:`~schemas.object_version.ObjectVersion.content_key`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from consumers.paimon.catalog import store_errors
from consumers.paimon.commit.ledger_index import digests, of_consumer
from consumers.paimon.commit.offset_index import OffsetIndex
from consumers.paimon.scan import stream
from schemas.object_version import ObjectVersion
from schemas.records import ProcessedVideo

COLUMN = "source_same_as_row_id"
_COLUMNS = ("source_row_id", "source_size_bytes", "source_etag")


class SameBytes:
    """Finds the first row of the same bytes, among the ledger's rows of one consumer over one source.

    The ledger is read when the first row comes that has such an etag; from then on it takes 24 bytes for each of them.
    What other shards commit after that is not seen.

    Args:
        ledger: the pypaimon table; one of an earlier version, without the columns, is left alone.
        consumer: whose rows.
        source: of which raw table.
    """

    def __init__(self, ledger: Any, consumer: str, source: str) -> None:
        self._ledger = ledger
        self._consumer = consumer
        self._source = source
        self._is_kept = {COLUMN, *_COLUMNS} <= {field.name for field in ledger.fields}
        self._index: OffsetIndex | None = None

    def first_rows(self, videos: Sequence[ProcessedVideo]) -> dict[int, int]:
        """Return, by row id, the least other row of the same bytes, of those of ``videos`` that have one.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        keys = _keys(videos)
        if not keys or not self._is_kept:
            return {}
        if self._index is None:
            with store_errors("ledger"):
                self._index = self._read()
        met: dict[str, set[int]] = {}
        found: dict[int, int] = {}
        for key, row_id in sorted(keys, key=lambda pair: pair[1]):
            others = (self._index.offsets(key) | met.setdefault(key, set())) - {row_id}
            met[key].add(row_id)
            if others:
                found[row_id] = min(others)
        return found

    def add(self, videos: Iterable[ProcessedVideo]) -> None:
        """Note rows that the ledger has by now; again changes nothing."""
        if self._index is not None:
            self._index.add(_keys(videos))

    def _read(self) -> OffsetIndex:
        head = self._ledger.snapshot_manager().get_latest_snapshot()
        mine = of_consumer(self._consumer, self._source)

        def where(builder: Any) -> Any:
            return builder.and_predicates([mine(builder), builder.is_not_null("source_etag")])

        keys, offsets = [np.empty(0, dtype="S16")], [np.empty(0, dtype=np.int64)]
        for batch in stream(self._ledger, _COLUMNS, head, where):
            versions = zip(*(batch.column(name).to_pylist() for name in _COLUMNS[1:]), strict=True)
            told = [_key_of(size_bytes, etag) for size_bytes, etag in versions]
            is_known = [key is not None for key in told]
            keys.append(digests([key for key in told if key is not None]))
            offsets.append(np.asarray(batch.column("source_row_id").filter(pa.array(is_known)).to_numpy()))
        return OffsetIndex(np.concatenate(keys), np.concatenate(offsets))


def _key_of(size_bytes: int | None, etag: str | None) -> str | None:
    return None if size_bytes is None or etag is None else ObjectVersion(size_bytes, etag).content_key


def _keys(videos: Iterable[ProcessedVideo]) -> list[tuple[str, int]]:
    versions = ((video.outcome.version, video.video.row_id) for video in videos)
    return [
        (version.content_key, row_id)
        for version, row_id in versions
        if version is not None and version.content_key is not None
    ]
