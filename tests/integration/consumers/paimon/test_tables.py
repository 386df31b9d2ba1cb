from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from pypaimon import Schema

from consumers.errors import ConfigurationError
from consumers.paimon.catalog import CatalogConfig, open_catalog
from consumers.paimon.tables import RawColumns, TableNames, check_table, create_tables
from schemas.tables import CONTROL, CURATED, LEDGER, TableSpec
from tests.support.warehouse import NAMES, create_raw, make_warehouse, table


def _create(config: CatalogConfig, name: str, spec: TableSpec, schema: pa.Schema, options: dict[str, str]) -> None:
    catalog = open_catalog(config, create=True)
    catalog.create_database(config.database, True)
    made = Schema.from_pyarrow_schema(schema, partition_keys=list(spec.partition_keys) or None, options=options)
    catalog.create_table(f"{config.database}.{name}", made, False)


@pytest.fixture
def config(tmp_path: Path) -> CatalogConfig:
    return CatalogConfig({"warehouse": str(tmp_path / "warehouse")}, "db")


def test_missing_tables_are_created_once(config: CatalogConfig) -> None:
    catalog = open_catalog(config, create=True)
    first = create_tables(catalog, config, NAMES)
    assert set(first.created) == {f"db.{name}" for name in (NAMES.raw, NAMES.curated, NAMES.ledger, NAMES.control)}
    second = create_tables(catalog, config, NAMES)
    assert (second.created, set(second.existing)) == ((), set(first.created))


def test_column_of_another_type_is_refused_and_nothing_is_created(config: CatalogConfig) -> None:
    index = CURATED.schema.get_field_index("motion_score")
    schema = CURATED.schema.set(index, pa.field("motion_score", pa.string()))
    _create(config, NAMES.curated, CURATED, schema, dict(CURATED.options))
    catalog = open_catalog(config)
    with pytest.raises(
        ConfigurationError, match=r"table db\.curated_clips: motion_score: found STRING, needed DOUBLE; change it"
    ):
        create_tables(catalog, config, NAMES)
    assert catalog.list_tables("db") == [NAMES.curated]


def test_missing_column_is_refused(config: CatalogConfig) -> None:
    schema = LEDGER.schema.remove(LEDGER.schema.get_field_index("run"))
    _create(config, NAMES.ledger, LEDGER, schema, dict(LEDGER.options))
    with pytest.raises(ConfigurationError, match="run: found no such column, needed INT NOT NULL"):
        create_tables(open_catalog(config), config, NAMES)


def test_additional_column_is_welcome_if_it_may_be_null(config: CatalogConfig) -> None:
    schema = LEDGER.schema.append(pa.field("label", pa.string()))
    _create(config, NAMES.ledger, LEDGER, schema, dict(LEDGER.options))
    assert f"db.{NAMES.ledger}" in create_tables(open_catalog(config), config, NAMES).existing


def test_additional_column_that_must_not_be_null_is_refused(config: CatalogConfig) -> None:
    schema = LEDGER.schema.append(pa.field("label", pa.string(), nullable=False))
    _create(config, NAMES.ledger, LEDGER, schema, dict(LEDGER.options))
    with pytest.raises(ConfigurationError, match="label: found STRING NOT NULL"):
        create_tables(open_catalog(config), config, NAMES)


def test_table_that_would_drop_empty_commits_is_refused(config: CatalogConfig) -> None:
    options = {**LEDGER.options, "snapshot.ignore-empty-commit": "true"}
    _create(config, NAMES.ledger, LEDGER, LEDGER.schema, options)
    with pytest.raises(ConfigurationError, match=r"option snapshot\.ignore-empty-commit: found true, needed false"):
        create_tables(open_catalog(config), config, NAMES)


def test_partitioning_that_differs_is_refused(config: CatalogConfig) -> None:
    _create(config, NAMES.curated, LEDGER, CURATED.schema, dict(CURATED.options))
    with pytest.raises(ConfigurationError, match="partition key: found none, needed ingest_date"):
        create_tables(open_catalog(config), config, NAMES)


def test_raw_table_of_the_users_own_shape_is_accepted_with_its_mapping(config: CatalogConfig) -> None:
    create_raw(config, "mine", pa.schema([("uri", pa.string())]), {"bucket": "-1", "row-tracking.enabled": "true"})
    columns = RawColumns(video_id=None, video="uri", size_bytes=None, etag=None, metadata=())
    names = TableNames(raw="mine")
    assert "db.mine" in create_tables(open_catalog(config), config, names, columns).existing


def test_two_tables_of_one_name_are_refused(config: CatalogConfig) -> None:
    with pytest.raises(ConfigurationError, match="four different names"):
        create_tables(open_catalog(config, create=True), config, TableNames(ledger="same", curated="same"))


def test_tables_made_by_init_fit_their_own_specs(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    for name, spec in ((NAMES.curated, CURATED), (NAMES.ledger, LEDGER), (NAMES.control, CONTROL)):
        check_table(table(config, name), spec)


def test_warehouse_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"warehouse /.*nowhere: does not exist; make the folder"):
        open_catalog(CatalogConfig({"warehouse": str(tmp_path / "nowhere")}))
    with pytest.raises(ConfigurationError, match="does not exist"):
        open_catalog(CatalogConfig({"warehouse": str(tmp_path / "nowhere" / "deep")}), create=True)


def test_warehouse_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="is not a folder"):
        open_catalog(CatalogConfig({"warehouse": str(tmp_path / "file")}))


def test_catalog_without_warehouse_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no warehouse is set"):
        open_catalog(CatalogConfig({}))


def test_printed_catalog_shows_no_secret() -> None:
    config = CatalogConfig({"warehouse": "/w", "s3.secret-key": "hush", "s3.access-key": "mine", "token": "t0k"})
    assert "/w" in repr(config)
    assert not any(secret in repr(config) + str(config) for secret in ("hush", "mine", "t0k"))
