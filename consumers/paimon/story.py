"""One video's whole story, and lists of dead letters, from the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog, store_errors
from consumers.paimon.ledger_index import of_consumer
from consumers.paimon.scan import stream
from consumers.paimon.tables import TableNames
from schemas.records import VideoStatus
from schemas.tables import LEDGER

_LETTER_COLUMNS = (
    "source_row_id",
    "video_id",
    "source_uri",
    "status",
    "failure_stage",
    "failure_class",
    "failure_message",
    "attempts",
    "run",
    "processed_at",
)
_REJECTED_COLUMNS = (
    "source_row_id",
    "video_id",
    "source_uri",
    "status",
    "duration_s",
    "num_clips_rejected",
    "clips",
    "run",
    "processed_at",
)
# How many source rows are looked at together, and how many at most for one answer: a page costs the same however long
# the ledger is.
_WINDOW_ROWS = 2000
_MAX_WINDOWS = 10


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which dead letters; None does not restrict. ``before_row_id`` begins the next page."""

    stage: str | None = None
    error_class: str | None = None
    before_row_id: int | None = None


class StoryReader:
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
        self._ledger = load_table(open_catalog(config), config, names.ledger)
        self._mine = of_consumer(consumer, f"{config.database}.{names.raw}")

    def runs(self, row_id: int) -> list[dict[str, Any]]:
        """Return every ledger row of one source row, the first run first.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        rows = self._rows(LEDGER.schema.names, lambda builder: [builder.equal("source_row_id", row_id)])
        return sorted(rows, key=lambda row: int(row["run"]))

    def dead_letters(self, wanted: LetterFilter, limit: int) -> list[dict[str, Any]]:
        """Return source rows whose latest run failed, the highest row id first.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        newest: dict[int, Mapping[str, Any]] = {}
        for row in self._rows(_LETTER_COLUMNS, lambda builder: _letter_filter(builder, wanted)):
            known = newest.get(row["source_row_id"])
            if known is None or known["run"] < row["run"]:
                newest[row["source_row_id"]] = row
        chosen = [
            dict(row)
            for row in newest.values()
            if row["status"] == VideoStatus.FAILED
            and (wanted.stage is None or row["failure_stage"] == wanted.stage)
            and (wanted.error_class is None or row["failure_class"] == wanted.error_class)
        ]
        return sorted(chosen, key=lambda row: -int(row["source_row_id"]))[:limit]

    def rejected(self, before: int, limit: int) -> tuple[list[dict[str, Any]], int | None]:
        """Return ledger rows of source rows whose latest run kept no clip, the highest row id first.

        Args:
            before: only rows below this one.
            limit: at most so many.

        Returns:
            The rows, and where to go on; None when there are no more. A page may be short, or empty, where many rows
            had to be looked at.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        found: list[dict[str, Any]] = []
        for _ in range(_MAX_WINDOWS):
            start = max(0, before - _WINDOW_ROWS)
            for row in self._newest_of_window(start, before):
                if row["status"] == VideoStatus.REJECTED:
                    found.append(row)
                if len(found) == limit:
                    return found, int(row["source_row_id"]) or None
            before = start
            if not before:
                return found, None
        return found, before

    def _newest_of_window(self, start: int, end: int) -> list[dict[str, Any]]:
        """Return the latest run of every source row of the window, the highest row id first."""
        newest: dict[int, dict[str, Any]] = {}
        rows = self._rows(
            _REJECTED_COLUMNS,
            lambda builder: [
                builder.greater_or_equal("source_row_id", start),
                builder.less_than("source_row_id", end),
            ],
        )
        for row in rows:
            known = newest.get(row["source_row_id"])
            if known is None or known["run"] < row["run"]:
                newest[row["source_row_id"]] = row
        return [newest[row_id] for row_id in sorted(newest, reverse=True)]

    def _rows(self, columns: Sequence[str], where: Any) -> list[dict[str, Any]]:
        with store_errors("ledger"):
            head = self._ledger.snapshot_manager().get_latest_snapshot()

            def predicate(builder: Any) -> Any:
                return builder.and_predicates([self._mine(builder), *where(builder)])

            batches = stream(self._ledger, tuple(columns), head, predicate)
            return [row for batch in batches for row in batch.to_pylist()]


def _letter_filter(builder: Any, wanted: LetterFilter) -> list[Any]:
    # Failures, and every row of a later run: one of those may be what superseded a failure.
    failed_or_later = builder.or_predicates(
        [builder.equal("status", VideoStatus.FAILED.value), builder.greater_than("run", 1)]
    )
    if wanted.before_row_id is None:
        return [failed_or_later]
    return [failed_or_later, builder.less_than("source_row_id", wanted.before_row_id)]
