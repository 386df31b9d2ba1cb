"""Creating the tables, and refusing existing ones that do not fit, before anything is created."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pypaimon import Schema

from consumers.errors import ConfigurationError
from consumers.paimon.catalog import CatalogConfig, find_table, store_errors
from consumers.paimon.column_types import ColumnType
from consumers.paimon.table_options import check_branches
from schemas.tables import CONTROL, CURATED, LEDGER, RAW, TableSpec

_NEEDED_OPTIONS = ("row-tracking.enabled", "data-evolution.enabled", "snapshot.ignore-empty-commit")


@dataclass(frozen=True)
class TableNames:
    """Names of the four tables within the database."""

    raw: str = "raw_videos"
    curated: str = "curated_clips"
    ledger: str = "curation_ledger"
    control: str = "sluice_control"


@dataclass(frozen=True)
class RawColumns:
    """Which columns of the raw table hold what; the defaults fit the table that ``sluice init`` creates.

    Attributes:
        video_id: a text or integer column; None takes the row id as text.
        video: a managed or descriptor BLOB, BYTES of serialized descriptors, or STRING of URIs.
        size_bytes: an integer column, or None.
        etag: a text column, or None.
        metadata: columns passed on as text; a MAP of text is spread into its keys.
    """

    video_id: str | None = "video_id"
    video: str = "video"
    size_bytes: str | None = "size_bytes"
    etag: str | None = "etag"
    metadata: tuple[str, ...] = ("metadata",)

    def names(self) -> tuple[str, ...]:
        """Return every mapped column, once."""
        named = (self.video_id, self.video, self.size_bytes, self.etag, *self.metadata)
        return tuple(dict.fromkeys(name for name in named if name is not None))


class VideoColumnKind(StrEnum):
    """What a raw table's video column holds."""

    BLOB = "BLOB"
    DESCRIPTOR_BYTES = "BYTES"
    URI = "STRING"


_VIDEO_KINDS = {
    "BLOB": VideoColumnKind.BLOB,
    "VARBINARY": VideoColumnKind.DESCRIPTOR_BYTES,
    "VARCHAR": VideoColumnKind.URI,
}


@dataclass(frozen=True)
class CreatedTables:
    """Full names (``database.table``) of what was created, and of what was there and fits."""

    created: tuple[str, ...]
    existing: tuple[str, ...]


def create_tables(
    catalog: Any, config: CatalogConfig, names: TableNames, raw_columns: RawColumns | None = None
) -> CreatedTables:
    """Create the database and the tables that are missing.

    All existing tables are checked first: when one of them does not fit, nothing has been created.

    Args:
        catalog: from :func:`~consumers.paimon.catalog.open_catalog`.
        config: names the database.
        names: names the tables.
        raw_columns: how an existing raw table's columns are mapped.

    Raises:
        ConfigurationError: a table does not fit; names table and column, what was found and what is needed.
        StoreUnavailableError: the store did not answer.
    """
    columns = raw_columns or RawColumns()
    specs = {names.raw: RAW, names.curated: CURATED, names.ledger: LEDGER, names.control: CONTROL}
    if len(specs) < 4:
        raise ConfigurationError(f"the four tables need four different names: {names}")
    existing = []
    for name, spec in specs.items():
        table = find_table(catalog, config, name)
        if table is None:
            continue
        if spec is RAW:
            check_raw_table(table, columns)
        else:
            check_table(table, spec)
        existing.append(f"{config.database}.{name}")
    created = []
    with store_errors(f"database {config.database} in {config.warehouse}"):
        catalog.create_database(config.database, True)
        for name, spec in specs.items():
            full_name = f"{config.database}.{name}"
            if full_name not in existing:
                catalog.create_table(full_name, _paimon_schema(spec), True)
                created.append(full_name)
    return CreatedTables(tuple(created), tuple(existing))


def check_table(table: Any, spec: TableSpec) -> None:
    """Check that ``table`` can take rows of ``spec``. Additional columns are welcome if they may be null.

    Raises:
        ConfigurationError: it cannot.
    """
    name = _name(table)
    needed = {field.name: field.type for field in _paimon_schema(spec).fields}
    found = {field.name: field.type for field in table.fields}
    for column, kind in needed.items():
        if column not in found and column in spec.later:
            continue
        if column not in found:
            raise _misfit(name, column, "no such column", str(kind))
        if not ColumnType.of(found[column]).takes(ColumnType.of(kind)):
            raise _misfit(name, column, str(found[column]), str(kind))
    for column, kind in found.items():
        if column not in needed and not kind.nullable:
            raise _misfit(name, column, str(kind), "no such column, or one that may be null")
    for what, is_, must in (
        ("primary key", tuple(table.primary_keys), spec.primary_keys),
        ("partition key", tuple(table.partition_keys), spec.partition_keys),
    ):
        if is_ != must:
            raise _misfit(name, what, ", ".join(is_) or "none", ", ".join(must) or "none")
    options = table.table_schema.options
    for option in _NEEDED_OPTIONS:
        if spec.options.get(option, options.get(option)) != options.get(option):
            raise _misfit(name, f"option {option}", options.get(option, "not set"), spec.options[option])


def has_row_ids(table: Any) -> bool:
    """Return whether the rows of ``table`` have ids that grow with each commit; others are read change by change."""
    return not table.primary_keys and bool(table.options.row_tracking_enabled())


def check_row_ids(table: Any) -> None:
    """Check that ``table`` can be read by row ids.

    Raises:
        ConfigurationError: it cannot.
    """
    if not has_row_ids(table):
        raise ConfigurationError(
            f"table {_name(table)}: has no row ids to tell new rows by; needed: an append table created with "
            "'row-tracking.enabled' = 'true'"
        )


def check_raw_table(table: Any, columns: RawColumns) -> VideoColumnKind:
    """Check that ``table`` can be tailed and return what its video column holds.

    Raises:
        ConfigurationError: a mapped column is missing or of a type that cannot be read, or rows are in other branches.
    """
    name = _name(table)
    check_branches(name, table.table_schema.options)
    found = {field.name: field.type for field in table.fields}
    for column in columns.names():
        if column not in found:
            raise ConfigurationError(
                f"table {name}: column {column} is mapped in the settings, but the table has "
                f"{', '.join(found)}; name one of these"
            )
    _expect(name, columns.video_id, found, ("VARCHAR", "CHAR", "BIGINT", "INT"))
    _expect(name, columns.size_bytes, found, ("BIGINT", "INT"))
    _expect(name, columns.etag, found, ("VARCHAR", "CHAR"))
    kind = _VIDEO_KINDS.get(ColumnType.of(found[columns.video]).name)
    if kind is None:
        needed = "BLOB, BYTES of serialized descriptors, or STRING of URIs"
        raise _misfit(name, columns.video, str(found[columns.video]), needed)
    return kind


def _expect(name: str, column: str | None, found: Mapping[str, Any], kinds: tuple[str, ...]) -> None:
    if column is not None and ColumnType.of(found[column]).name not in kinds:
        needed = ("STRING", *kinds) if "VARCHAR" in kinds else kinds
        raise _misfit(name, column, str(found[column]), " or ".join(needed))


def _misfit(table: str, column: str, found: str, needed: str) -> ConfigurationError:
    return ConfigurationError(
        f"table {table}: {column}: found {found}, needed {needed}; change it, or name another table in the settings"
    )


def _paimon_schema(spec: TableSpec) -> Any:
    return Schema.from_pyarrow_schema(
        spec.schema,
        partition_keys=list(spec.partition_keys) or None,
        primary_keys=list(spec.primary_keys) or None,
        options=dict(spec.options),
    )


def _name(table: Any) -> str:
    return str(table.identifier.get_full_name())
