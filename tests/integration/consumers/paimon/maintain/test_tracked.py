"""The curated table is kept in order on real tables: no row and no row id changes, and what was deleted goes."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from pypaimon.manifest.manifest_file_manager import ManifestFileManager
from pypaimon.manifest.manifest_list_manager import ManifestListManager

from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.commit.table_committer import TableCommitter
from consumers.paimon.maintain.compaction import Compacted
from consumers.paimon.maintain.orphans import Orphans
from consumers.paimon.maintain.tracked import TrackedCompaction, TrackedReport
from consumers.paimon.reading.audit import audit
from consumers.paimon.scan import ROW_ID, stream
from schemas.positions import Position
from tests.support.warehouse import (
    NAMES,
    PROFILE,
    append_raw,
    batch,
    clip_counts,
    delete_rows,
    expire_all_but_newest,
    make_warehouse,
    table,
)

NUM_COMMITS, CLIPS = 25, 2
WHO = ("source_row_id",)


@pytest.fixture
def config(tmp_path: Path) -> CatalogConfig:
    made = make_warehouse(tmp_path / "warehouse")
    append_raw(made, [f"v{number}" for number in range(NUM_COMMITS)])
    commit(made, range(NUM_COMMITS))
    return made


def commit(config: CatalogConfig, rows: Sequence[int]) -> None:
    sink = PaimonSink(config, NAMES, "films", PROFILE)
    position = sink.open().position
    for row_id in rows:
        made = batch(position, [row_id], CLIPS)
        sink.commit(made)
        position = made.position
    sink.close()


def curated(config: CatalogConfig) -> Any:
    return table(config, NAMES.curated)


def compaction(config: CatalogConfig, *, urgent: Sequence[int] = (), most_rows: int = 50_000) -> TrackedCompaction:
    return TrackedCompaction(curated(config), "clip_id", WHO, lambda row: row["source_row_id"] in urgent, most_rows)


def content(found: Any) -> list[str]:
    columns = [*(field.name for field in found.fields), ROW_ID]
    head = found.snapshot_manager().get_latest_snapshot()
    return sorted(repr(row) for rows in stream(found, columns, head) for row in rows.to_pylist())


def files(found: Any) -> list[Any]:
    head = found.snapshot_manager().get_latest_snapshot()
    manifests = ManifestListManager(found).read_all(head)
    return [entry.file for entry in ManifestFileManager(found).read_entries_parallel(manifests)]


def bytes_in_files(found: Any) -> bytes:
    """All bytes of the BLOB files of the newest snapshot; they are written as they are."""
    folder = Path(found.table_path)
    names = {file.file_name for file in files(found) if file.file_name.endswith(".blob")}
    paths = [Path(where) / name for where, _, here in os.walk(folder) for name in here if name in names]
    return b"".join(path.read_bytes() for path in sorted(paths))


def test_small_files_become_few_with_the_same_rows_and_row_ids(config: CatalogConfig) -> None:
    before = content(curated(config))
    num_records = curated(config).snapshot_manager().get_latest_snapshot().total_record_count
    would = compaction(config).run(dry=True)
    did = compaction(config).run()
    assert would == did
    assert (did.compacted.num_before, did.compacted.num_after) == (2 * NUM_COMMITS, 2)
    found = curated(config)
    assert len(files(found)) == 2
    assert content(found) == before
    head = found.snapshot_manager().get_latest_snapshot()
    assert head.commit_kind == "COMPACT"
    assert head.total_record_count == num_records
    assert head.next_row_id == CLIPS * NUM_COMMITS
    assert compaction(config).run() == TrackedReport()


def test_consumer_and_audit_go_on_after_it(config: CatalogConfig) -> None:
    running = PaimonSink(config, NAMES, "films", PROFILE)
    position = running.open().position
    compaction(config).run()
    append_raw(config, [f"v{NUM_COMMITS}"])
    running.commit(batch(position, [NUM_COMMITS], CLIPS))
    running.close()
    assert clip_counts(config) == Counter(dict.fromkeys(range(NUM_COMMITS + 1), CLIPS))
    sink = PaimonSink(config, NAMES, "films", PROFILE)
    assert sink.open().position == Position(NUM_COMMITS + 1)
    sink.close()
    assert audit(config, NAMES, "films").is_clean


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_deleted_and_compacted_rows_read_the_same(config: CatalogConfig, seed: int) -> None:
    chance = random.Random(seed)
    num_rows = CLIPS * NUM_COMMITS
    for _ in range(4):
        standing = sorted(int(row[ROW_ID]) for row in rows(config))
        delete_rows(config, NAMES.curated, chance.sample(standing, chance.randint(1, 6)))
        before = content(curated(config))
        compaction(config, urgent=chance.sample(range(num_rows), 10), most_rows=chance.choice([8, 20, 50_000])).run()
        assert content(curated(config)) == before


def rows(config: CatalogConfig) -> list[dict[str, Any]]:
    found = curated(config)
    head = found.snapshot_manager().get_latest_snapshot()
    return [row for part in stream(found, [ROW_ID, "source_row_id"], head) for row in part.to_pylist()]


@pytest.mark.parametrize("is_merged", [False, True])
def test_bytes_of_a_deleted_clip_leave_the_files_and_its_neighbours_stay(
    config: CatalogConfig, is_merged: bool
) -> None:
    if is_merged:
        compaction(config).run()
    [victim, _] = [row[ROW_ID] for row in rows(config) if row["source_row_id"] == 7]
    assert b"clip 7/1" in bytes_in_files(curated(config))
    delete_rows(config, NAMES.curated, [victim])
    before = content(curated(config))
    if is_merged:
        assert compaction(config).run() == TrackedReport()
    would = compaction(config, urgent=[7]).run(dry=True)
    did = compaction(config, urgent=[7]).run()
    assert would == did
    assert did.purged.num_rows == 1
    found = curated(config)
    assert b"clip 7/1" not in bytes_in_files(found)
    assert b"clip 7/2" in bytes_in_files(found)
    assert content(found) == before
    assert compaction(config, urgent=[7]).run() == TrackedReport()
    assert list(compaction(config).with_bytes(found.snapshot_manager().get_latest_snapshot())) == []


def test_a_file_without_any_row_left_goes_altogether(config: CatalogConfig) -> None:
    compaction(config, most_rows=10).run()
    gone = [row[ROW_ID] for row in rows(config) if row["source_row_id"] < 5]
    delete_rows(config, NAMES.curated, gone)
    before, num_files = content(curated(config)), len(files(curated(config)))
    # Readers of older snapshots come first.
    assert compaction(config, most_rows=10).run() == TrackedReport()
    expire_all_but_newest(config, NAMES.curated)
    did = compaction(config, most_rows=10).run()
    assert did.compacted.num_after == 0
    assert len(files(curated(config))) == num_files - 2
    assert content(curated(config)) == before
    commit(config, [])
    assert clip_counts(config) == Counter(dict.fromkeys(range(5, NUM_COMMITS), CLIPS))


def test_a_file_without_any_row_left_is_no_gap_between_those_that_are_merged(config: CatalogConfig) -> None:
    delete_rows(config, NAMES.curated, [row[ROW_ID] for row in rows(config) if row["source_row_id"] in (7, 8)])
    before = content(curated(config))
    assert compaction(config).run().compacted == Compacted(2 * NUM_COMMITS, 2, ANY)
    assert content(curated(config)) == before
    assert b"clip 7/1" not in bytes_in_files(curated(config))


def test_a_row_that_is_deleted_meanwhile_stays_deleted(config: CatalogConfig) -> None:
    exchange, calls = TableCommitter.replace, iter(range(99))
    victim = rows(config)[0][ROW_ID]

    def overtaken(self: TableCommitter, *arguments: Any, **named: Any) -> None:
        if next(calls) == 0:
            delete_rows(config, NAMES.curated, [victim])
        exchange(self, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TableCommitter, "replace", overtaken)
        assert compaction(config).run() == TrackedReport()
    left = content(curated(config))
    assert len(left) == CLIPS * NUM_COMMITS - 1
    assert compaction(config).run().purged.num_rows == 1
    assert content(curated(config)) == left


def test_rows_of_other_files_may_be_deleted_meanwhile(config: CatalogConfig) -> None:
    compaction(config, most_rows=10).run()
    first, *_, last = [row[ROW_ID] for row in rows(config)]
    delete_rows(config, NAMES.curated, [first])
    exchange, calls = TableCommitter.replace, iter(range(99))

    def overtaken(self: TableCommitter, *arguments: Any, **named: Any) -> None:
        if next(calls) == 0:
            delete_rows(config, NAMES.curated, [last])
        exchange(self, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TableCommitter, "replace", overtaken)
        did = compaction(config, urgent=[0], most_rows=10).run()
    assert did.purged.num_rows == 1
    assert {first, last}.isdisjoint(row[ROW_ID] for row in rows(config))
    assert len(rows(config)) == CLIPS * NUM_COMMITS - 2


def test_a_commit_in_between_is_built_upon(config: CatalogConfig) -> None:
    exchange, calls = TableCommitter.replace, iter(range(99))
    append_raw(config, [f"v{NUM_COMMITS + number}" for number in range(3)])

    def overtaken(self: TableCommitter, *arguments: Any, **named: Any) -> None:
        if next(calls) == 0:
            commit(config, range(NUM_COMMITS, NUM_COMMITS + 3))
        exchange(self, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TableCommitter, "replace", overtaken)
        assert compaction(config).run().compacted.num_after == 2
    assert clip_counts(config) == Counter(dict.fromkeys(range(NUM_COMMITS + 3), CLIPS))
    assert audit(config, NAMES, "films").is_clean


def test_a_consumer_may_delete_rows_of_a_file_that_was_just_merged(config: CatalogConfig) -> None:
    victims = [row[ROW_ID] for row in rows(config)[:3]]
    compaction(config).run()
    delete_rows(config, NAMES.curated, victims)
    assert set(victims).isdisjoint(row[ROW_ID] for row in rows(config))
    assert len(rows(config)) == CLIPS * NUM_COMMITS - 3


class Killed(BaseException):
    """The process dies."""


@pytest.mark.parametrize("num_written", [0, 1, 2, 3, 5, 7, 9])
def test_a_kill_at_any_file_loses_nothing_and_the_next_round_completes(
    config: CatalogConfig, num_written: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = rows(config)[14][ROW_ID]
    delete_rows(config, NAMES.curated, [victim])
    before = content(curated(config))
    dying = compaction(config, urgent=[7], most_rows=20)
    file_io, calls = type(dying._table.file_io), iter(range(99))
    open_stream, write_parquet = file_io.new_output_stream, file_io.write_parquet

    def counted(work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if next(calls) == num_written:
                raise Killed
            return work(*arguments, **named)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(file_io, "new_output_stream", counted(open_stream))
        patch.setattr(file_io, "write_parquet", counted(write_parquet))
        with pytest.raises(Killed):
            dying.run()
    found = curated(config)
    assert content(found) == before
    for snapshot in found.snapshot_manager().list_snapshots():
        list(stream(found, [ROW_ID], snapshot))
    compaction(config, urgent=[7], most_rows=20).run()
    assert content(curated(config)) == before
    assert b"clip 7/1" not in bytes_in_files(curated(config))
    Orphans(curated(config)).run(datetime.now(UTC) + timedelta(days=2))
    assert content(curated(config)) == before
    commit(config, [])
    assert sum(clip_counts(config).values()) == CLIPS * NUM_COMMITS - 1
