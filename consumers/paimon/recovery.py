"""Where a consumer stands: by its newest marker, or where that has expired by the rows it wrote. Never from hope."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from consumers.errors import ConfigurationError
from consumers.paimon.fence import Marker, newest_marker
from consumers.paimon.ledger_index import LedgerIndex, as_ranges, contained, curated_digests, of_consumer
from consumers.paimon.scan import stream
from schemas.positions import Position

MAX_SNAPSHOTS_WALKED = 1000
"""Snapshot files read in search of a marker, before the rows are read instead."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What one table says of a consumer. ``marker`` is None when the rows had to tell, or there is nothing."""

    position: Position = field(default_factory=Position)
    sequence: int = 0
    epoch: int = 0
    marker: Marker | None = None


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """What the ledger's latest run says of a source row."""

    run: int
    status: str
    kept: frozenset[str]


@dataclass(frozen=True)
class Recovery:
    """Reads back what one consumer has written.

    Attributes:
        ledger: the pypaimon table.
        curated: the pypaimon table.
        consumer: whose trail.
        source: full name of the raw table that it tails.
    """

    ledger: Any
    curated: Any
    consumer: str
    source: str

    def standing(self, ledger_head: Any | None, curated_head: Any | None) -> tuple[Standing, Standing]:
        """Return what ledger and curated table say as of the given snapshots.

        Raises:
            ConfigurationError: the consumer has tailed another source so far.
        """
        is_ledger_known, ledger = self._marker(self.ledger, ledger_head)
        is_curated_known, curated = self._marker(self.curated, curated_head)
        if is_ledger_known and is_curated_known:
            return _of_marker(ledger), _of_marker(curated)
        by_ledger, by_curated = self.reconcile(ledger_head, curated_head)
        return (
            by_ledger if ledger is None else _of_marker(ledger),
            by_curated if curated is None else _of_marker(curated),
        )

    def _marker(self, table: Any, head: Any | None) -> tuple[bool, Marker | None]:
        walk = newest_marker(table.snapshot_manager(), self.consumer, head, 0, MAX_SNAPSHOTS_WALKED)
        if walk.marker is not None and walk.marker.source != self.source:
            raise ConfigurationError(
                f"consumer {self.consumer} has tailed table {walk.marker.source} so far; give the one on table "
                f"{self.source} another name"
            )
        return walk.is_complete, walk.marker

    def reconcile(self, ledger_head: Any | None, curated_head: Any | None) -> tuple[Standing, Standing]:
        """Return what the rows say: the ledger covers its rows; curated covers those whose kept clips it holds all.

        Offsets that hold no row are in no table; they are read again and skipped again.
        """
        index = LedgerIndex.read(self.ledger, ledger_head, self.consumer, self.source)
        present = contained(index.clips, curated_digests(self.curated, curated_head, self.consumer, self.source))
        lacking = np.zeros(len(index.row_ids), dtype=np.bool_)
        lacking[index.clip_owners[~present]] = True
        # A superseded run's clips were never meant to stand in the curated table.
        covered = index.row_ids[index.latest() & ~lacking]
        return (
            Standing(Position.from_ranges(as_ranges(index.row_ids)), index.max_sequence, index.max_epoch),
            Standing(Position.from_ranges(as_ranges(covered)), index.max_sequence, index.max_epoch),
        )

    def entries_between(self, head: Any | None, curated: Position, ledgered: Position) -> dict[int, LedgerEntry]:
        """Return, by row id, the ledger's latest entry of each row that ``ledgered`` covers and ``curated`` does not.

        These are the rows of a commit that a crash cut in two: as many as one batch holds.
        """
        gaps = list(curated.missing(ledgered.end))
        if not gaps:
            return {}
        first, last = gaps[0].start, gaps[-1].end - 1

        def in_gaps(builder: Any) -> Any:
            mine = of_consumer(self.consumer, self.source)(builder)
            return builder.and_predicates([mine, builder.between("source_row_id", first, last)])

        entries: dict[int, LedgerEntry] = {}
        for batch in stream(self.ledger, ("source_row_id", "run", "status", "clips"), head, in_gaps):
            for row in batch.to_pylist():
                row_id = row["source_row_id"]
                if curated.covers(row_id) or (row_id in entries and entries[row_id].run >= row["run"]):
                    continue
                kept = frozenset(clip["clip_id"] for clip in row["clips"] or () if clip["kept"])
                entries[row_id] = LedgerEntry(row["run"], row["status"], kept)
        return entries


def _of_marker(marker: Marker | None) -> Standing:
    if marker is None:
        return Standing()
    return Standing(marker.position, marker.sequence, marker.epoch, marker)
