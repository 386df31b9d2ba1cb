"""One consumer curates a source into a pair of tables: a second one would put every clip there twice.

Its rows are told apart by their ``consumer`` column, but whoever reads the curated table for its clips meets each of
them twice, under one id. So a second one is refused unless it is asked for.
"""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc

from consumers.errors import ConfigurationError
from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog, store_errors
from consumers.paimon.commit.markers import MAX_SNAPSHOTS_WALKED, newest_marker
from consumers.paimon.scan import stream
from consumers.paimon.snapshots import read_snapshot
from consumers.paimon.tables import TableNames
from schemas.source_mark import generation_of
from schemas.tables import PROPERTY_CONSUMER, PROPERTY_SOURCE


def check_only_consumer(config: CatalogConfig, names: TableNames, consumer: str) -> None:
    """Check that ``consumer``, where it has never run, is the first to curate the raw table into these tables.

    One that has run costs two metadata reads; a new one a look at 1000 snapshots at most, and at two columns of the
    ledger.

    Raises:
        ConfigurationError: another consumer has curated it there, or a table is missing.
        StoreUnavailableError: the store did not answer.
    """
    catalog, raw_name = open_catalog(config), f"{config.database}.{names.raw}"
    ledger = load_table(catalog, config, names.ledger)
    with store_errors(f"consumer {consumer}"):
        manager = ledger.snapshot_manager()
        head = manager.get_latest_snapshot()
        if newest_marker(manager, consumer, head, 0, MAX_SNAPSHOTS_WALKED).marker is not None:
            return
        known = _by_markers(manager, head, raw_name) | _by_rows(ledger, head, raw_name)
    if known and consumer not in known:
        raise ConfigurationError(
            f"consumer {consumer}: table {config.database}.{names.curated} holds the clips of {raw_name} by consumer "
            f"{', '.join(sorted(known))} already, and would hold each of them twice; run that one, or name other "
            "curated and ledger tables for this one; `sluice run --second-consumer` insists"
        )


def _by_markers(manager: Any, head: Any | None, raw_name: str) -> set[str]:
    """Return the consumers over ``raw_name`` that the newest snapshots name, be it that they have curated nothing."""
    known: set[str] = set()
    newest = 0 if head is None else head.id
    for snapshot_id in range(newest, max(0, newest - MAX_SNAPSHOTS_WALKED), -1):
        snapshot = read_snapshot(manager, snapshot_id)
        if snapshot is None:
            break
        properties = snapshot.properties or {}
        if PROPERTY_CONSUMER in properties and generation_of(properties.get(PROPERTY_SOURCE, ""), raw_name) is not None:
            known.add(properties[PROPERTY_CONSUMER])
    return known


def _by_rows(ledger: Any, head: Any | None, raw_name: str) -> set[str]:
    known: set[str] = set()
    for batch in stream(ledger, ("consumer", "source_table"), head):
        sources = pc.unique(batch.column("source_table")).to_pylist()
        wanted = [source for source in sources if generation_of(source, raw_name) is not None]
        if wanted:
            known.update(pc.unique(batch.filter(pc.field("source_table").isin(wanted)).column("consumer")).to_pylist())
    return known
