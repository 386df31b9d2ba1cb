"""One video's whole story, and lists of videos: all, dead letters, rejected; from the ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from consumers.clock import Clock, SystemClock
from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog, store_errors
from consumers.paimon.commit.generation import SourceName
from consumers.paimon.commit.ledger_index import of_consumer
from consumers.paimon.reading.ledger_walk import Condition, newest_windows
from consumers.paimon.scan import stream
from consumers.paimon.tables import TableNames
from schemas.object_names import readable
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
_VIDEO_COLUMNS = (
    "source_row_id",
    "video_id",
    "source_uri",
    "status",
    "duration_s",
    "num_clips_kept",
    "num_clips_rejected",
    "failure_stage",
    "failure_class",
    "run",
    "processed_at",
)
# Row ids in one filter; more are asked for one after another.
_MAX_IN_FILTER = 500


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which dead letters; None does not restrict. ``before_row_id`` begins the next page."""

    stage: str | None = None
    error_class: str | None = None
    before_row_id: int | None = None
    row_ids: tuple[int, ...] | None = None

    def admits(self, row: Mapping[str, Any]) -> bool:
        """Return whether the latest run of a source row is a dead letter of these."""
        return (
            row["status"] == VideoStatus.FAILED
            and (self.stage is None or row["failure_stage"] == self.stage)
            and (self.error_class is None or row["failure_class"] == self.error_class)
        )


@dataclass(frozen=True, slots=True)
class VideoFilter:
    """Which videos; None does not restrict.

    Attributes:
        status: what became of it in its latest run.
        uri: exactly this object.
        video_id: exactly this id.
        text: part of the id, or of the URI as a person knows the file, case ignored.
        before_row_id: begins the next page.
    """

    status: VideoStatus | None = None
    uri: str | None = None
    video_id: str | None = None
    text: str | None = None
    before_row_id: int | None = None

    def admits(self, row: Mapping[str, Any]) -> bool:
        """Return whether the latest run of a source row is one of these."""
        return (
            (self.status is None or row["status"] == self.status)
            and (self.uri is None or row["source_uri"] == self.uri)
            and (self.video_id is None or row["video_id"] == self.video_id)
            and (self.text is None or self._is_named(row["video_id"], row["source_uri"] or ""))
        )

    def _is_named(self, video_id: str, uri: str) -> bool:
        text = (self.text or "").casefold()
        names = (video_id, uri, readable(uri))
        return any(text in name.casefold() for name in names)


class StoryReader:
    """Reads the ledger rows of one consumer as of the latest snapshot.

    Args:
        config: the catalog.
        names: the tables.
        consumer: whose rows.
        clock: time, for searches that end after some.

    Raises:
        ConfigurationError: a table is missing.
        StoreUnavailableError: the store did not answer.
    """

    def __init__(self, config: CatalogConfig, names: TableNames, consumer: str, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._consumer = consumer
        catalog = open_catalog(config)
        self._ledger, curated = (load_table(catalog, config, name) for name in (names.ledger, names.curated))
        self._name = SourceName(self._ledger, curated, consumer, f"{config.database}.{names.raw}")

    def _mine(self) -> Any:
        return of_consumer(self._consumer, self._name.now())

    def runs(self, row_id: int) -> list[dict[str, Any]]:
        """Return every ledger row of one source row, the first run first.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        rows = self._rows(LEDGER.schema.names, lambda builder: [builder.equal("source_row_id", row_id)])
        return sorted(rows, key=lambda row: int(row["run"]))

    def dead_letters(
        self, wanted: LetterFilter, limit: int, *, within_s: float | None = None
    ) -> tuple[list[dict[str, Any]], int | None]:
        """Return source rows whose latest run failed, the highest row id first.

        Args:
            wanted: which.
            limit: at most so many.
            within_s: about how long to look, in seconds; None looks through all of them.

        Returns:
            The rows, and where to go on; None when there are no more. A page may be short, or empty, where many rows
            had to be looked at.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        before = wanted.before_row_id
        if wanted.row_ids is None:
            return self._page(_LETTER_COLUMNS, _letters(wanted), wanted.admits, before, limit, within_s)
        found: list[dict[str, Any]] = []
        row_ids = sorted(set(wanted.row_ids), reverse=True)
        for first in range(0, len(row_ids), _MAX_IN_FILTER):
            where = _letters(wanted, row_ids[first : first + _MAX_IN_FILTER])
            found += self._page(_LETTER_COLUMNS, where, wanted.admits, before, limit - len(found), within_s)[0]
        return found, None

    def videos(
        self, wanted: VideoFilter, limit: int, *, within_s: float | None = None
    ) -> tuple[list[dict[str, Any]], int | None]:
        """Return the latest run of each source row that is wanted, the highest row id first.

        Rows that have no run yet are in no ledger.

        Args:
            wanted: which.
            limit: at most so many.
            within_s: about how long to look, in seconds; None looks through all of them.

        Returns:
            The rows, and where to go on; None when there are no more. A page may be short, or empty, where many rows
            had to be looked at.

        Raises:
            StoreUnavailableError: the store did not answer.
        """

        def where(it: Any) -> list[Any]:
            # URI and id belong to a source row whatever its run; its status does not.
            found = [
                it.equal(column, value)
                for column, value in (("source_uri", wanted.uri), ("video_id", wanted.video_id))
                if value is not None
            ]
            if wanted.status is not None:
                found.append(_may_have_ended(it, wanted.status))
            return found

        return self._page(_VIDEO_COLUMNS, where, wanted.admits, wanted.before_row_id, limit, within_s)

    def rejected(
        self, before: int | None, limit: int, *, within_s: float | None = None
    ) -> tuple[list[dict[str, Any]], int | None]:
        """Return ledger rows of source rows whose latest run kept no clip, the highest row id first.

        Args:
            before: only rows below this one; None begins with the newest.
            limit: at most so many.
            within_s: about how long to look, in seconds; None looks through all of them.

        Returns:
            The rows, and where to go on; None when there are no more. A page may be short, or empty, where many rows
            had to be looked at.

        Raises:
            StoreUnavailableError: the store did not answer.
        """

        def where(it: Any) -> list[Any]:
            return [_may_have_ended(it, VideoStatus.REJECTED)]

        return self._page(
            _REJECTED_COLUMNS, where, lambda row: row["status"] == VideoStatus.REJECTED, before, limit, within_s
        )

    def _page(
        self,
        columns: Sequence[str],
        where: Condition,
        admits: Callable[[Mapping[str, Any]], bool],
        before: int | None,
        limit: int,
        within_s: float | None,
    ) -> tuple[list[dict[str, Any]], int | None]:
        with store_errors("ledger"):
            head = self._ledger.snapshot_manager().get_latest_snapshot()
        bounds = {} if before is None else {"before": before}
        until_s = None if within_s is None else self._clock.monotonic_s() + within_s
        found: list[dict[str, Any]] = []
        mine = self._mine()
        for window, rows in newest_windows(self._ledger, head, columns, lambda it: [mine(it), *where(it)], **bounds):
            for row in filter(admits, rows):
                if len(found) == limit:
                    return found, int(row["source_row_id"]) + 1
                found.append(row)
            if until_s is not None and window.start > 0 and self._clock.monotonic_s() >= until_s:
                return found, window.start
        return found, None

    def _rows(self, columns: Sequence[str], where: Any) -> list[dict[str, Any]]:
        with store_errors("ledger"):
            head = self._ledger.snapshot_manager().get_latest_snapshot()
            mine = self._mine()

            def predicate(builder: Any) -> Any:
                return builder.and_predicates([mine(builder), *where(builder)])

            batches = stream(self._ledger, tuple(columns), head, predicate)
            return [row for batch in batches for row in batch.to_pylist()]


def _may_have_ended(it: Any, status: VideoStatus) -> Any:
    """Return what lets through rows of ``status``, and every later run, which may have superseded such a row."""
    return it.or_predicates([it.equal("status", status.value), it.greater_than("run", 1)])


def _letters(wanted: LetterFilter, row_ids: Sequence[int] | None = None) -> Condition:
    def where(it: Any) -> list[Any]:
        # Failures that are asked for, and every row of a later run: one of those may be what superseded a failure.
        # That a stage is named at all tells whole files without failures, by their statistics.
        asked = [it.is_not_null("failure_stage")]
        if wanted.stage is not None:
            asked.append(it.equal("failure_stage", wanted.stage))
        if wanted.error_class is not None:
            asked.append(it.equal("failure_class", wanted.error_class))
        found = [it.or_predicates([it.and_predicates(asked), it.greater_than("run", 1)])]
        return found if row_ids is None else [*found, it.is_in("source_row_id", list(row_ids))]

    return where
