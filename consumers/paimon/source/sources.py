"""The raw table as a source, whichever kind of table it is."""

from __future__ import annotations

from collections.abc import Callable

from consumers.clock import SystemClock
from consumers.errors import ConfigurationError
from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog
from consumers.paimon.source.changelog_source import ChangelogSource
from consumers.paimon.source.guard import OnExpired, SnapshotGuard
from consumers.paimon.source.row_source import RowIdSource
from consumers.paimon.tables import RawColumns, has_row_ids
from schemas.positions import Position
from schemas.shards import Shard


def open_source(
    config: CatalogConfig,
    table: str,
    columns: RawColumns | None = None,
    *,
    chunk_rows: int = 1024,
    on_expired: OnExpired = OnExpired.FAIL,
) -> RowIdSource | ChangelogSource:
    """Return the source that fits the table: by row id where rows have one, else change by change.

    Args:
        config: the catalog.
        table: name of the raw table.
        columns: how its columns are mapped.
        chunk_rows: rows read at a time by row id.
        on_expired: what to do about changes that have expired unread.

    Raises:
        ConfigurationError: the table is missing or does not fit the mapping.
        StoreUnavailableError: the store did not answer.
    """
    if has_row_ids(load_table(open_catalog(config), config, table)):
        return RowIdSource(config, table, columns, chunk_rows=chunk_rows)
    return ChangelogSource(config, table, columns, on_expired=on_expired)


def protector(config: CatalogConfig, table: str, consumer: str, shard: Shard) -> Callable[[Position], None] | None:
    """Return what keeps the snapshots that a position still needs from expiring; None where rows have ids.

    Raises:
        ConfigurationError: the table is missing, or cannot be shared by shards.
        StoreUnavailableError: the store did not answer.
    """
    raw = load_table(open_catalog(config), config, table)
    if has_row_ids(raw):
        return None
    if not shard.is_whole:
        raise ConfigurationError(
            f"table {config.database}.{table}: is read change by change, and the changes of one video must be seen in "
            f"order, by one process; take shard {shard} out of the settings"
        )
    guard = SnapshotGuard(raw, consumer, SystemClock())
    return lambda position: guard.protect(position.watermark)
