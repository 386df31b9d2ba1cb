"""Which row of a key is its newest, and which came before: what retires clips.

A table with a primary key tells a video's whole life: inserted, replaced, deleted. Of all rows of a key that the
ledger has, the one with the highest offset holds; clips of the others may not stand in the curated table. The rule
looks at offsets and never at the order of completion, so a late result of an older version changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from consumers.paimon.catalog import store_errors
from consumers.paimon.commit.ledger_index import LedgerIndex, of_consumer
from consumers.paimon.commit.offset_index import MOST_RECENT, OffsetIndex
from consumers.paimon.scan import ROW_ID, stream
from schemas.records import ProcessedVideo, RowKind

# Row ids in one filter; more are asked for in several scans.
_MAX_IN_FILTER = 500


class VersionIndex(OffsetIndex):
    """The offsets of every key of the source in the ledger.

    Args:
        index: the ledger's rows.
        most_recent: so many rows at most wait to be sorted in.
    """

    def __init__(self, index: LedgerIndex, most_recent: int = MOST_RECENT) -> None:
        super().__init__(index.keys, index.row_ids, most_recent)

    def newest(self, key: str) -> int | None:
        """Return the offset that holds for ``key``, None where the ledger does not know it."""
        return max(self.offsets(key), default=None)

    def superseded(self, keys: Iterable[str]) -> set[int]:
        """Return the offsets of all rows of ``keys`` but the newest of each."""
        found: set[int] = set()
        for key in set(keys):
            offsets = self.offsets(key)
            found |= offsets - {max(offsets, default=-1)}
        return found


class Versions:
    """The versions in the ledger, which is read when the first key is met.

    Args:
        ledger: the pypaimon table.
        consumer: whose rows.
        source: of which raw table.
    """

    def __init__(self, ledger: Any, consumer: str, source: str) -> None:
        self._ledger = ledger
        self._consumer = consumer
        self._source = source
        self._index: VersionIndex | None = None

    def noted(self, videos: Sequence[ProcessedVideo]) -> VersionIndex | None:
        """Return the versions in the ledger, these videos', which it holds by now, included; None without any key.

        They are noted when the ledger is known to hold them, and not where it was written: an answer that was lost
        must not make a difference.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        keys = keys_of(videos)
        if self._index is None and keys:
            with store_errors("ledger"):
                head = self._ledger.snapshot_manager().get_latest_snapshot()
                index = LedgerIndex.read(self._ledger, head, self._consumer, self._source)
            self._index = VersionIndex(index)
        if self._index is not None:
            self._index.add(keys)
        return self._index


def clip_row_ids(curated: Any, snapshot: Any | None, consumer: str, source: str, offsets: Iterable[int]) -> list[int]:
    """Return the row ids in the curated table of the clips that stand there for ``offsets`` of the source."""
    wanted = sorted(offsets)
    found: list[int] = []
    for start in range(0, len(wanted), _MAX_IN_FILTER):
        part = wanted[start : start + _MAX_IN_FILTER]

        def of_offsets(builder: Any, part: list[int] = part) -> Any:
            mine = of_consumer(consumer, source)(builder)
            return builder.and_predicates([mine, builder.is_in("source_row_id", part)])

        for batch in stream(curated, (ROW_ID,), snapshot, of_offsets):
            found += batch.column(ROW_ID).to_pylist()
    return found


def keys_of(videos: Iterable[ProcessedVideo]) -> list[tuple[str, int]]:
    """Return key and offset of each of ``videos`` that is a version of a video with a key."""
    return [
        (video.video.key, video.video.row_id)
        for video in videos
        if video.video.key is not None and video.video.row_kind is not RowKind.MOVE
    ]


def is_removed(video: ProcessedVideo) -> bool:
    """Return whether it is a row without a key that was committed under this very offset before, and is gone."""
    return video.video.row_kind is RowKind.DELETE and video.video.key is None
