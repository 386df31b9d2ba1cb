"""Compaction on real tables: the same rows in fewer files, whatever else is written or dies meanwhile."""

from __future__ import annotations

import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pypaimon.manifest.manifest_list_manager import ManifestListManager

from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.commit.table_committer import TableCommitter
from consumers.paimon.maintain.compaction import AppendCompaction, KeyedCompaction
from consumers.paimon.maintain.maintainer import LEDGER_SORT
from consumers.paimon.reading.audit import audit
from consumers.paimon.scan import stream
from schemas.positions import Position
from schemas.tables import CONTROL
from tests.support.warehouse import AT, NAMES, PROFILE, append, append_raw, batch, ledger_counts, make_warehouse, table

NUM_COMMITS = 25


@pytest.fixture
def config(tmp_path: Path) -> CatalogConfig:
    made = make_warehouse(tmp_path / "warehouse")
    append_raw(made, [f"v{number}" for number in range(NUM_COMMITS)])
    commit(made, range(NUM_COMMITS))
    return made


def commit(config: CatalogConfig, rows: range) -> None:
    sink = PaimonSink(config, NAMES, "films", PROFILE)
    position = sink.open().position
    for row_id in rows:
        made = batch(position, [row_id])
        sink.commit(made)
        position = made.position
    sink.close()


def content(found: Any) -> list[str]:
    head = found.snapshot_manager().get_latest_snapshot()
    columns = [field.name for field in found.fields]
    return sorted(repr(row) for rows in stream(found, columns, head) for row in rows.to_pylist())


def num_files(found: Any) -> int:
    splits = found.new_read_builder().new_scan().plan().splits()
    return sum(len(split.files) for split in splits)


def test_ledger_becomes_few_files_with_the_same_rows(config: CatalogConfig) -> None:
    found = table(config, NAMES.ledger)
    before = content(found)
    would = AppendCompaction(found, LEDGER_SORT).run(dry=True)
    did = AppendCompaction(found, LEDGER_SORT).run()
    assert would == did
    assert did.num_before == NUM_COMMITS
    again = table(config, NAMES.ledger)
    assert num_files(again) == 1
    assert content(again) == before
    head = again.snapshot_manager().get_latest_snapshot()
    assert head.commit_kind == "COMPACT"
    assert "sluice.consumer" not in head.properties
    assert head.total_record_count == NUM_COMMITS
    assert AppendCompaction(again, LEDGER_SORT).run().num_before == 0


def test_consumer_and_audit_go_on_after_a_compaction(config: CatalogConfig) -> None:
    running = PaimonSink(config, NAMES, "films", PROFILE)
    position = running.open().position
    AppendCompaction(table(config, NAMES.ledger), LEDGER_SORT).run()
    append_raw(config, [f"v{NUM_COMMITS}"])
    running.commit(batch(position, [NUM_COMMITS]))
    running.close()
    assert ledger_counts(config) == Counter({(row_id, 1): 1 for row_id in range(NUM_COMMITS + 1)})
    sink = PaimonSink(config, NAMES, "films", PROFILE)
    assert sink.open().position == Position(NUM_COMMITS + 1)
    sink.close()
    assert audit(config, NAMES, "films").is_clean


def test_files_carry_their_least_and_greatest_values(config: CatalogConfig) -> None:
    found = table(config, NAMES.ledger)
    AppendCompaction(found, LEDGER_SORT, most_rows=10).run()
    again = table(config, NAMES.ledger)
    manifests = ManifestListManager(again).read_all(again.snapshot_manager().get_latest_snapshot())
    assert manifests
    builder = again.new_read_builder()
    wanted = builder.new_predicate_builder().equal("source_row_id", 3)
    splits = builder.with_filter(wanted).new_scan().plan().splits()
    assert sum(len(split.files) for split in splits) == 1
    assert num_files(again) == 3


def test_a_commit_in_between_is_built_upon(config: CatalogConfig) -> None:
    found = table(config, NAMES.ledger)
    compaction = AppendCompaction(found, LEDGER_SORT)
    exchange, calls = TableCommitter.replace, iter(range(9))

    def overtaken(self: TableCommitter, *arguments: Any) -> None:
        if next(calls) == 0:
            commit(config, range(NUM_COMMITS, NUM_COMMITS + 3))
        exchange(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TableCommitter, "replace", overtaken)
        compaction.run()
    assert ledger_counts(config) == Counter({(row_id, 1): 1 for row_id in range(NUM_COMMITS + 3)})


def test_two_compactions_of_the_same_files_lose_nothing(config: CatalogConfig) -> None:
    before = content(table(config, NAMES.ledger))
    exchange, calls = TableCommitter.replace, iter(range(9))

    def overtaken(self: TableCommitter, *arguments: Any) -> None:
        if next(calls) == 0:
            AppendCompaction(table(config, NAMES.ledger), LEDGER_SORT).run()
        exchange(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TableCommitter, "replace", overtaken)
        with pytest.raises(RuntimeError, match="conflict"):
            AppendCompaction(table(config, NAMES.ledger), LEDGER_SORT).run()
    assert content(table(config, NAMES.ledger)) == before


def test_tables_with_row_ids_are_not_touched(config: CatalogConfig) -> None:
    found = table(config, NAMES.curated)
    head = found.snapshot_manager().get_latest_snapshot().id
    assert AppendCompaction(found, ["clip_id"]).run().num_before == 0
    assert found.snapshot_manager().get_latest_snapshot().id == head


def _write(config: CatalogConfig, key: str, value: str) -> None:
    committer = TableCommitter(table(config, NAMES.control), str(uuid.uuid4()), lambda manager, latest: None)
    row = {"kind": "k", "key": key, "value": value, "actor": "a", "reason": None, "at": AT}
    committer.publish(committer.write(pa.Table.from_pylist([row], schema=CONTROL.schema), 1), 1, {"n": "1"})
    committer.close()


def test_keyed_table_becomes_one_file_and_later_words_count(config: CatalogConfig) -> None:
    for number in range(12):
        _write(config, f"{number % 5}", f"{number}")
    found = table(config, NAMES.control)
    before = content(found)
    assert len(before) == 5
    assert KeyedCompaction(found, least_files=13).run().num_before == 0
    would = KeyedCompaction(found, least_files=12).run(dry=True)
    assert KeyedCompaction(found, least_files=12).run() == would
    again = table(config, NAMES.control)
    assert num_files(again) == 1
    assert content(again) == before
    for round_ in range(3):
        for number in range(5):
            _write(config, f"{number}", f"later {round_}/{number}")
        late = {row["key"]: row["value"] for row in _rows(config)}
        assert late == {f"{number}": f"later {round_}/{number}" for number in range(5)}
        assert KeyedCompaction(table(config, NAMES.control), least_files=2).run().num_before == 6
        assert {row["key"]: row["value"] for row in _rows(config)} == late


def _rows(config: CatalogConfig) -> list[dict[str, Any]]:
    found = table(config, NAMES.control)
    head = found.snapshot_manager().get_latest_snapshot()
    return [row for rows in stream(found, ["key", "value"], head) for row in rows.to_pylist()]


def test_a_word_spoken_while_a_keyed_table_is_compacted_counts(config: CatalogConfig) -> None:
    for number in range(6):
        _write(config, "state", f"{number}")
    exchange, calls = TableCommitter.replace, iter(range(9))

    def overtaken(self: TableCommitter, *arguments: Any) -> None:
        if next(calls) == 0:
            _write(config, "state", "last")
        exchange(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TableCommitter, "replace", overtaken)
        KeyedCompaction(table(config, NAMES.control), least_files=2).run()
    assert [row["value"] for row in _rows(config)] == ["last"]


def test_files_of_writers_that_say_more_of_their_columns_are_compacted_as_well(config: CatalogConfig) -> None:
    _write(config, "ours", "1")
    row = {"kind": "k", "key": "theirs", "value": "2", "actor": "a", "reason": None, "at": AT}
    append(config, NAMES.control, [row], CONTROL.schema)
    assert KeyedCompaction(table(config, NAMES.control), least_files=2).run().num_before == 2
    assert {row["key"]: row["value"] for row in _rows(config)} == {"ours": "1", "theirs": "2"}
