"""The ledger tells which version of an object was read, where its table has the columns for that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from consumers.paimon.catalog import CatalogConfig, open_catalog
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.tables import create_tables
from consumers.ports import CommitBatch
from schemas.object_version import ObjectVersion
from schemas.positions import OffsetRange, Position
from schemas.tables import LEDGER
from tests.support.warehouse import NAMES, PROFILE, clip_counts, create_raw, make_warehouse, processed, rows_of

_COLUMNS = ["source_size_bytes", "source_etag", "source_is_replaced"]


@pytest.fixture
def earlier(tmp_path: Path) -> CatalogConfig:
    """A warehouse whose ledger an earlier version made."""
    config = CatalogConfig({"warehouse": str(tmp_path / "earlier")}, "db")
    schema = pa.schema([field for field in LEDGER.schema if field.name not in LEDGER.later])
    create_raw(config, NAMES.ledger, schema, dict(LEDGER.options))
    create_tables(open_catalog(config), config, NAMES)
    return config


def _commit(config: CatalogConfig) -> None:
    sink = PaimonSink(config, NAMES, "main", PROFILE)
    sink.open()
    video = processed(0)
    outcome = replace(video.outcome, version=ObjectVersion(1234, "an-etag"), is_replaced=True)
    sink.commit(CommitBatch((replace(video, outcome=outcome),), Position().with_range(OffsetRange(0, 1))))
    sink.close()


def test_version_that_was_read_is_in_the_ledger(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    _commit(config)
    [row] = rows_of(config, NAMES.ledger, _COLUMNS)
    assert row == {"source_size_bytes": 1234, "source_etag": "an-etag", "source_is_replaced": True}


def test_ledger_of_an_earlier_version_works_without(earlier: CatalogConfig) -> None:
    _commit(earlier)
    assert clip_counts(earlier) == {0: 1}
    assert len(rows_of(earlier, NAMES.ledger, ["source_row_id"])) == 1
