"""One round of maintenance over the tables that Sluice owns, or what it would do."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from consumers.clock import Clock
from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog, store_errors
from consumers.paimon.commit.takedown import TakedownStore
from consumers.paimon.maintain.compaction import AppendCompaction, Compacted, KeyedCompaction
from consumers.paimon.maintain.expiry import Expired, Expiry, Retention
from consumers.paimon.maintain.orphans import Orphans, Swept
from consumers.paimon.maintain.purge import Purge, PurgeReport
from consumers.paimon.maintain.row_groups import UnknownLayoutError
from consumers.paimon.maintain.table_files import TableFiles
from consumers.paimon.maintain.tracked import Purged, TrackedReport
from consumers.paimon.tables import TableNames

logger = logging.getLogger(__name__)

PURGE_WITHIN = timedelta(days=4)
LEDGER_SORT = ("consumer", "source_table", "source_row_id", "run")
"""By which the rows of a compacted ledger file are sorted."""


@dataclass(frozen=True, slots=True)
class TableReport:
    """What one round did to one table, or would do.

    Attributes:
        table: its full name.
        compacted: data files that became fewer, or were written anew without what was deleted from them.
        purged: deleted rows whose bytes have left the newest snapshot.
        expired: snapshots and what went with them.
        orphans: files that nothing referred to.
        takedowns: of the curated table, those whose bytes are not off the store yet.
        left_alone: why nothing was done, None where it was.
    """

    table: str
    compacted: Compacted = field(default_factory=Compacted)
    purged: Purged = field(default_factory=Purged)
    expired: Expired = field(default_factory=Expired)
    orphans: Swept = field(default_factory=Swept)
    takedowns: PurgeReport = field(default_factory=PurgeReport)
    left_alone: str | None = None


class Maintainer:
    """Keeps ledger, curated and control table in order. Not thread-safe.

    Args:
        config: the catalog.
        names: the tables.
        retention: which snapshots stay.
        clock: time.
        is_stopped: asked between any two steps; True ends the round there.
        purge_within: how long after a takedown its bytes may be on the store.

    Raises:
        ConfigurationError: a table is missing.
        StoreUnavailableError: the store did not answer.
    """

    def __init__(
        self,
        config: CatalogConfig,
        names: TableNames,
        retention: Retention,
        clock: Clock,
        is_stopped: Callable[[], bool] = lambda: False,
        purge_within: timedelta = PURGE_WITHIN,
    ) -> None:
        catalog = open_catalog(config)
        self._ledger, self._curated, self._control = (
            load_table(catalog, config, name) for name in (names.ledger, names.curated, names.control)
        )
        self._retention = retention
        self._clock = clock
        self._is_stopped = is_stopped
        self._purge_within = purge_within
        self._takedowns = TakedownStore(config, names.control)

    def run(self, *, dry: bool = False, sweep: bool = True) -> list[TableReport]:
        """Compact, expire and sweep up, table by table.

        Args:
            dry: change nothing; the reports say what would be done.
            sweep: look for orphans, which lists every file.

        Raises:
            StoreUnavailableError: the store did not answer; what was done stays done.
        """
        reports = []
        for table in (self._ledger, self._curated, self._control):
            if self._is_stopped():
                break
            name = table.identifier.get_full_name()
            with store_errors(f"maintenance of table {name}"):
                reports.append(self._maintain(table, name, self._clock.now(), dry=dry, sweep=sweep))
        return reports

    def _maintain(self, table: Any, name: str, now: datetime, *, dry: bool, sweep: bool) -> TableReport:
        reason = left_alone(table)
        if reason is not None:
            return TableReport(name, left_alone=reason)
        if table is self._curated:
            return self._keep(table, name, now, Purge.read(table, self._takedowns), dry=dry, sweep=sweep)
        compaction = AppendCompaction(table, LEDGER_SORT) if table is self._ledger else KeyedCompaction(table)
        report = TableReport(name, _told(name, compaction.run(dry=dry), dry))
        return self._expire(table, report, now, dry=dry, sweep=sweep)

    def _keep(self, table: Any, name: str, now: datetime, purge: Purge, *, dry: bool, sweep: bool) -> TableReport:
        """Maintain the curated table, whose deleted rows lose their bytes as well."""
        compaction, done = purge.compaction(), TrackedReport()
        is_known = True
        try:
            done = compaction.run(dry=dry, is_stopped=self._is_stopped)
        except UnknownLayoutError as error:
            is_known = False
            logger.warning("table %s: its files are not compacted, and keep what was deleted: %s", name, error)
        if done.purged.num_rows and not dry:
            logger.info("table %s: %d deleted rows have no bytes in it any more", name, done.purged.num_rows)
        if is_known and not dry and not self._is_stopped():
            purge = purge.note_rewritten(compaction, now)
        report = TableReport(name, _told(name, done.compacted, dry), done.purged)
        report = self._expire(table, report, now, dry=dry, sweep=sweep, expire_before=purge.expire_before)
        if not dry and not self._is_stopped():
            purge = purge.note_gone(now)
        takedowns = purge.report(self._purge_within, now)
        for takedown in takedowns.overdue:
            logger.warning(
                "takedown %s: its bytes are still on the store%s",
                takedown,
                "" if report.expired.held_by is None else f": snapshots stay for the {report.expired.held_by}",
            )
        return replace(report, takedowns=takedowns)

    def _expire(
        self, table: Any, report: TableReport, now: datetime, *, dry: bool, sweep: bool, expire_before: int = 0
    ) -> TableReport:
        if self._is_stopped():
            return report
        expired = Expiry(table, self._retention, expire_before=expire_before).run(now, dry=dry)
        if expired.num_snapshots and not dry:
            logger.info("table %s: %d snapshots expired", report.table, expired.num_snapshots)
        swept = Swept() if not sweep or self._is_stopped() else Orphans(table).run(now, dry=dry)
        return replace(report, expired=expired, orphans=swept)


def _told(name: str, compacted: Compacted, dry: bool) -> Compacted:
    if compacted.num_before and not dry:
        logger.info("table %s: %d data files became %d", name, compacted.num_before, compacted.num_after)
    return compacted


def left_alone(table: Any) -> str | None:
    """Return why ``table`` is not maintained, None where it is."""
    if table.catalog_environment.supports_version_management:
        return "its catalog keeps the snapshots"
    files = TableFiles(table)
    if files.has("branch"):
        return "it has branches, which share its files"
    if files.has("changelog"):
        return "it keeps changes for longer than snapshots, which is another engine's work"
    return None
