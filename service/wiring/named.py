"""What the settings name: catalog, tables, columns, shard, and what may be read."""

from __future__ import annotations

from consumers.errors import ConfigurationError
from consumers.media.allow_list import AllowList
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.tables import RawColumns, TableNames
from schemas.shards import Shard
from service.settings import Settings


def catalog_config(settings: Settings) -> CatalogConfig:
    """Return how to reach the catalog."""
    return CatalogConfig(
        {**settings.catalog.options, "warehouse": settings.catalog.warehouse}, settings.tables.database
    )


def table_names(settings: Settings) -> TableNames:
    """Return the names of the four tables."""
    tables = settings.tables
    return TableNames(raw=tables.raw, curated=tables.curated, ledger=tables.ledger, control=tables.control)


def raw_columns(settings: Settings) -> RawColumns:
    """Return which column of the raw table holds what."""
    columns = settings.raw_columns
    return RawColumns(
        video_id=columns.video_id,
        video=columns.video,
        size_bytes=columns.size_bytes,
        etag=columns.etag,
        metadata=columns.metadata,
    )


def shard(settings: Settings) -> Shard:
    """Return which part of the rows this process does.

    Raises:
        ConfigurationError: it follows the number of processes, and only a running service knows.
    """
    if settings.consumer.member is not None:
        raise ConfigurationError(
            f"setting consumer.shard: is {settings.consumer.shard}, and this command needs a fixed one: give "
            "SLUICE_CONSUMER__SHARD as i/n, or ask the running service (SLUICE_URL and SLUICE_TOKEN)"
        )
    return Shard.parse(settings.consumer.shard)


def with_shard(settings: Settings, part: Shard) -> Settings:
    """Return ``settings`` for a process that does ``part``."""
    return settings.model_copy(update={"consumer": settings.consumer.model_copy(update={"shard": str(part)})})


def allow_list(settings: Settings) -> AllowList:
    """Return what may be read: the warehouse, and what the settings name."""
    config, named = catalog_config(settings), settings.input.allow
    # Where a REST catalog has a warehouse that it knows by a name, only it knows.
    return AllowList(named if config.is_name else (config.warehouse, *named))
