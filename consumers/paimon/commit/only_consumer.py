"""One consumer curates a source into a pair of tables: a second one would put every clip there twice.

Its rows are told apart by their ``consumer`` column, but whoever reads the curated table for its clips meets each of
them twice, under one id. So a second one is refused unless it is asked for: at its start, and once more with each
attempt at its first commit, which is published on top of the very snapshot that was looked at or not at all. Of two
that start at the same instant the second one sees the first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow.compute as pc

from consumers.errors import ConfigurationError
from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog, store_errors
from consumers.paimon.commit.markers import newest_as_of
from consumers.paimon.scan import stream
from consumers.paimon.snapshots import read_snapshot
from consumers.paimon.tables import TableNames
from schemas.source_mark import generation_of
from schemas.tables import PROPERTY_SOURCE


def check_only_consumer(config: CatalogConfig, names: TableNames, consumer: str) -> None:
    """Check that ``consumer``, where it has never run, is the first to curate the raw table into these tables.

    One that has run costs a metadata read for each table; a new one a look at 1000 snapshots at most, and where markers
    have expired at two columns of the tables.

    Raises:
        ConfigurationError: another consumer has curated it there, or a table is missing.
        StoreUnavailableError: the store did not answer.
    """
    catalog = open_catalog(config)
    for name in (names.ledger, names.curated):
        table = load_table(catalog, config, name)
        with store_errors(f"consumer {consumer}"):
            manager = table.snapshot_manager()
            OnlyConsumer(table, consumer, config, names).check(manager, manager.get_latest_snapshot())


class OnlyConsumer:
    """Refuses the first commit of a consumer to a table into which another one curates the same source.

    Args:
        table: the ledger or the curated table.
        consumer: whose commit.
        config: the catalog.
        names: the tables, for the source and for messages.
    """

    def __init__(self, table: Any, consumer: str, config: CatalogConfig, names: TableNames) -> None:
        self._table = table
        self._consumer = consumer
        self._raw_name = f"{config.database}.{names.raw}"
        self._curated_name = f"{config.database}.{names.curated}"
        self._is_welcome = False

    def after(self, check: Callable[[Any, Any | None], None]) -> Callable[[Any, Any | None], None]:
        """Return a check for each attempt of a committer: ``check``, and then this one."""

        def both(manager: Any, latest: Any | None) -> None:
            check(manager, latest)
            self.check(manager, latest)

        return both

    def check(self, manager: Any, latest: Any | None) -> None:
        """Look for others as of ``latest``, until the consumer has a commit of its own.

        Raises:
            ConfigurationError: there is another.
        """
        if self._is_welcome:
            return
        newest = newest_as_of(manager, latest)
        known, is_complete = {self._consumer} & set(newest.ids), newest.is_complete
        if not known:
            for name, shards in newest.ids.items():
                snapshot = read_snapshot(manager, max(shards.values()))
                is_complete = is_complete and snapshot is not None
                if snapshot is not None and self._is_of_source(snapshot.properties[PROPERTY_SOURCE]):
                    known.add(name)
            if not is_complete:
                known |= self._by_rows(latest)
        self._is_welcome = self._consumer in known
        if known and not self._is_welcome:
            raise ConfigurationError(
                f"consumer {self._consumer}: table {self._curated_name} holds the clips of {self._raw_name} by "
                f"consumer {', '.join(sorted(known))} already, and would hold each of them twice; run that one, or "
                "name other curated and ledger tables for this one; `sluice run --second-consumer` insists"
            )

    def _is_of_source(self, source: str) -> bool:
        return generation_of(source, self._raw_name) is not None

    def _by_rows(self, head: Any | None) -> set[str]:
        known: set[str] = set()
        for batch in stream(self._table, ("consumer", "source_table"), head):
            wanted = list(filter(self._is_of_source, pc.unique(batch.column("source_table")).to_pylist()))
            if wanted:
                mine = batch.filter(pc.field("source_table").isin(wanted))
                known.update(pc.unique(mine.column("consumer")).to_pylist())
        return known
