"""Manifests stay few as commits go, and nothing that a reader sees changes by it."""

from __future__ import annotations

import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from pypaimon.manifest.manifest_file_manager import ManifestFileManager
from pypaimon.manifest.manifest_list_manager import ManifestListManager

from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.merging import FAN_IN, Manifests, UnknownFormatError
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.commit.table_committer import TableCommitter
from consumers.paimon.scan import ROW_ID, RangeReader
from schemas.positions import OffsetRange, Position
from schemas.tables import CONTROL
from tests.support.warehouse import (
    AT,
    NAMES,
    PROFILE,
    batch,
    clip_counts,
    delete_rows,
    ledger_counts,
    make_warehouse,
    rows_of,
    table,
)

NUM_COMMITS = 45


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> CatalogConfig:
    """A warehouse with many small commits; the clips of two rows are deleted by another engine half-way."""
    config = make_warehouse(tmp_path_factory.mktemp("warehouse"))
    sink = PaimonSink(config, NAMES, "films", PROFILE)
    position = sink.open().position
    for row_id in range(NUM_COMMITS):
        made = batch(position, [row_id], num_kept=2)
        sink.commit(made)
        position = made.position
        if row_id == NUM_COMMITS // 2:
            delete_rows(config, NAMES.curated, [4, 7])
    sink.close()
    return config


def _manifests(found: Any) -> list[Any]:
    return list(ManifestListManager(found).read_all(found.snapshot_manager().get_latest_snapshot()))


@pytest.mark.parametrize("name", [NAMES.ledger, NAMES.curated])
def test_number_of_manifests_stays_bounded(config: CatalogConfig, name: str) -> None:
    assert len(_manifests(table(config, name))) <= 2 * FAN_IN


def test_rows_are_there_once_and_deletions_hold(config: CatalogConfig) -> None:
    assert ledger_counts(config) == Counter({(row_id, 1): 1 for row_id in range(NUM_COMMITS)})
    clips = clip_counts(config)
    assert clips == Counter(dict.fromkeys(range(NUM_COMMITS), 2)) - Counter({2: 1, 3: 1})


def test_row_ids_are_those_that_the_commits_gave(config: CatalogConfig) -> None:
    rows = rows_of(config, NAMES.curated, [ROW_ID, "source_row_id"])
    assert {(row[ROW_ID], row["source_row_id"]) for row in rows} == {
        (row_id, row_id // 2) for row_id in range(2 * NUM_COMMITS) if row_id not in {4, 7}
    }


@pytest.mark.parametrize("name", [NAMES.ledger, NAMES.curated])
def test_descriptions_are_what_pypaimon_would_have_written(config: CatalogConfig, name: str) -> None:
    found = table(config, name)
    manager = ManifestFileManager(found)
    described = _manifests(found)
    assert any(meta.num_added_files >= FAN_IN for meta in described), "nothing was merged"
    for meta in described:
        expected = manager._build_meta(meta.file_name, manager.read(meta.file_name, drop_stats=False), meta.file_size)
        for field in ("min_row_id", "max_row_id", "num_added_files", "num_deleted_files", "schema_id", "min_bucket"):
            assert getattr(meta, field) == getattr(expected, field), field
        for field in ("max_bucket", "min_level", "max_level", "total_buckets"):
            assert getattr(meta, field) == getattr(expected, field), field
        stats, wanted = meta.partition_stats, expected.partition_stats
        columns = range(len(found.partition_keys_fields))
        for least, expected_least in ((stats.min_values, wanted.min_values), (stats.max_values, wanted.max_values)):
            assert [least.get_field(column) for column in columns] == list(expected_least.values)
        assert stats.null_counts == wanted.null_counts


def test_a_range_of_row_ids_is_read_at_the_cost_of_few_manifests(config: CatalogConfig) -> None:
    found = table(config, NAMES.curated)
    reader = RangeReader(found, ["source_row_id"])
    wanted = OffsetRange(60, 64)
    reader.pin(found.snapshot_manager().get_latest_snapshot(), wanted)
    assert len(reader._manifests) == 1
    assert reader.read(wanted).rows[ROW_ID].to_pylist() == [60, 61, 62, 63]


def test_updates_of_a_keyed_table_cancel_out(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    found = table(config, NAMES.control)
    committer = TableCommitter(found, str(uuid.uuid4()), lambda manager, latest: None)
    for number in range(25):
        row = {"kind": "k", "key": f"{number % 3}", "value": f"{number}", "actor": "a", "reason": None, "at": AT}
        messages = committer.write(pa.Table.from_pylist([row], schema=CONTROL.schema), number)
        committer.publish(messages, number, {"n": "1"})
    committer.close()
    assert {(row["key"], row["value"]) for row in rows_of(config, NAMES.control, ["key", "value"])} == {
        ("0", "24"),
        ("1", "22"),
        ("2", "23"),
    }


def test_another_writer_in_between_costs_the_merge_and_no_row(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    sink = PaimonSink(config, NAMES, "films", PROFILE)
    position = sink.open().position
    other = TableCommitter(table(config, NAMES.ledger), str(uuid.uuid4()), lambda manager, latest: None)
    commit = sink._ledger.committer._commit.file_store_commit
    publish = commit.snapshot_commit.commit
    numbers = iter(range(1000))

    def overtaken(*arguments: Any) -> bool:
        number = next(numbers)
        if number % 2 == 0:
            other.publish([], number, {"other": "1"})
        return bool(publish(*arguments))

    commit.snapshot_commit.commit = overtaken
    for row_id in range(25):
        made = batch(position, [row_id])
        sink.commit(made)
        position = made.position
    sink.close()
    other.close()
    assert ledger_counts(config) == Counter({(row_id, 1): 1 for row_id in range(25)})
    assert len(_manifests(table(config, NAMES.ledger))) <= 2 * FAN_IN


def test_a_manifest_with_fields_of_a_later_format_is_left_alone(config: CatalogConfig, tmp_path: Path) -> None:
    found = table(make_warehouse(tmp_path / "warehouse"), NAMES.ledger)
    source = table(config, NAMES.ledger)
    meta = _manifests(source)[0]
    path = Path(str(source.table_path).removeprefix("file:")) / "manifest" / meta.file_name
    with path.open("rb") as file:
        reader = fastavro.reader(file)
        schema, records = reader.writer_schema, list(reader)
    schema["fields"].append({"name": "_TOMORROW", "type": ["null", "int"], "default": None})
    target = Path(str(found.table_path).removeprefix("file:")) / "manifest"
    target.mkdir(exist_ok=True)
    with (target / "later").open("wb") as file:
        fastavro.writer(file, schema, records)
    meta.file_name = "later"
    with pytest.raises(UnknownFormatError, match="_TOMORROW"):
        Manifests(found).merge([meta])
    assert [entry.name for entry in target.iterdir()] == ["later"]


def test_position_survives(config: CatalogConfig) -> None:
    sink = PaimonSink(config, NAMES, "films", PROFILE)
    assert sink.open().position == Position(NUM_COMMITS)
    sink.close()
