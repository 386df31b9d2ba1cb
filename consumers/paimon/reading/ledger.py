"""Reading the ledger: what became of the videos, why clips were rejected, and the dead letters."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog, store_errors
from consumers.paimon.commit.generation import SourceName
from consumers.paimon.commit.ledger_index import of_consumer
from consumers.paimon.commit.markers import MAX_SNAPSHOTS_WALKED, read_division
from consumers.paimon.scan import stream
from consumers.paimon.tables import TableNames
from consumers.ports import SourceHead
from schemas.positions import Position
from schemas.records import VideoStatus
from schemas.shards import Shard, Share


@dataclass(frozen=True, slots=True)
class LedgerSummary:
    """Totals over the latest run of each source row.

    Attributes:
        videos: rows by status (``curated``, ``rejected``, ``failed``).
        clips_kept: kept clips.
        rejections: rejected clips by (stage, reason).
        failures: failed videos by (stage, error class).
    """

    videos: Mapping[str, int]
    clips_kept: int
    rejections: Mapping[tuple[str, str], int]
    failures: Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class FailedVideo:
    """A dead letter."""

    source_row_id: int
    video_id: str
    source_uri: str | None
    stage: str
    error_class: str
    message: str
    attempts: int
    processed_at: datetime


@dataclass(frozen=True, slots=True)
class CommittedState:
    """What a consumer has committed, by the newest markers of its shards in the curated table.

    Attributes:
        shards: share and position of each shard that has committed, by index.
        num_shards: how many there are.
        sequence: the highest commit number.
        epoch: the highest.
        snapshot_id: of the newest commit.
    """

    shards: tuple[tuple[Share, Position], ...]
    num_shards: int
    sequence: int
    epoch: int
    snapshot_id: int

    @property
    def position(self) -> Position:
        """The position of an undivided consumer; of shards what is below all their watermarks."""
        if self.num_shards == 1:
            return self.shards[0][1]
        if len(self.shards) < self.num_shards:
            return Position()
        return Position(min(position.watermark for _, position in self.shards))

    def num_missing(self, head: SourceHead) -> int:
        """Return how many rows below ``head`` are not finished, over all shards."""
        seen = {share.shard.index for share, _ in self.shards}
        unseen = (Share(Shard(index, self.num_shards)) for index in range(self.num_shards) if index not in seen)
        started = sum(head.num_missing(position, share) for share, position in self.shards)
        return started + sum(head.num_missing(Position(), share) for share in unseen)


class LedgerReader:
    """Reads the ledger rows of one consumer as of the latest snapshot.

    Args:
        config: the catalog.
        names: the tables.
        consumer: whose rows.

    Raises:
        ConfigurationError: a table is missing.
        StoreUnavailableError: the store did not answer.
    """

    def __init__(self, config: CatalogConfig, names: TableNames, consumer: str) -> None:
        catalog = open_catalog(config)
        self._ledger = load_table(catalog, config, names.ledger)
        self._curated = load_table(catalog, config, names.curated)
        self._consumer = consumer
        self._name = SourceName(self._ledger, self._curated, consumer, f"{config.database}.{names.raw}")

    def committed(self) -> CommittedState | None:
        """Return what the consumer has committed, None when it never has or its marker has expired.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        with store_errors("curated table"):
            manager = self._curated.snapshot_manager()
            latest = manager.get_latest_snapshot()
            division, _ = read_division(manager, self._consumer, latest, MAX_SNAPSHOTS_WALKED)
        if division is None:
            return None
        markers = division.markers
        return CommittedState(
            shards=division.shards(),
            num_shards=division.count,
            sequence=max(marker.sequence for marker in markers.values()),
            epoch=max(marker.epoch for marker in markers.values()),
            snapshot_id=division.newest.snapshot_id,
        )

    def summary(self) -> LedgerSummary:
        """Return the totals; reads every ledger row of the consumer, keeping a few bytes of each.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        videos: Counter[str] = Counter()
        rejections: Counter[tuple[str, str]] = Counter()
        failures: Counter[tuple[str, str]] = Counter()
        num_kept = 0
        columns = ("status", "num_clips_kept", "clips", "failure_stage", "failure_class")
        for row in self._latest_rows(columns):
            videos[row["status"]] += 1
            num_kept += row["num_clips_kept"]
            for clip in row["clips"] or ():
                if not clip["kept"]:
                    rejections[clip["rejected_by"], clip["reason"]] += 1
            if row["status"] == VideoStatus.FAILED:
                failures[row["failure_stage"], row["failure_class"]] += 1
        return LedgerSummary(videos, num_kept, rejections, failures)

    def failed(self, limit: int = 100) -> list[FailedVideo]:
        """Return the newest ``limit`` dead letters, the newest first.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        columns = (
            "status",
            "video_id",
            "source_uri",
            "failure_stage",
            "failure_class",
            "failure_message",
            "attempts",
            "processed_at",
        )
        found = (
            FailedVideo(
                row["source_row_id"],
                row["video_id"],
                row["source_uri"],
                row["failure_stage"],
                row["failure_class"],
                row["failure_message"],
                row["attempts"],
                row["processed_at"],
            )
            for row in self._latest_rows(columns)
            if row["status"] == VideoStatus.FAILED
        )
        return heapq.nlargest(limit, found, key=lambda video: (video.processed_at, video.source_row_id))

    def _latest_rows(self, columns: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
        """Yield the row of the latest run of each source row.

        Only rows that were superseded are remembered: there are few of those.
        """
        mine = of_consumer(self._consumer, self._name.now())
        with store_errors("ledger"):
            head = self._ledger.snapshot_manager().get_latest_snapshot()
            newest: dict[int, int] = {}

            def of_later_runs(builder: Any) -> Any:
                return builder.and_predicates([mine(builder), builder.greater_than("run", 1)])

            for batch in stream(self._ledger, ("source_row_id", "run"), head, of_later_runs):
                for row in batch.to_pylist():
                    newest[row["source_row_id"]] = max(row["run"], newest.get(row["source_row_id"], 1))
            for batch in stream(self._ledger, ("source_row_id", "run", *columns), head, mine):
                for row in batch.to_pylist():
                    if row["run"] == newest.get(row["source_row_id"], 1):
                        yield row
