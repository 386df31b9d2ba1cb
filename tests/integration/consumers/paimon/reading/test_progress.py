"""Lag read from the tables alone: compaction snapshots, expired snapshots, a consumer that is not there."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from consumers.lag import num_waiting, oldest_waiting
from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog
from consumers.paimon.commit.rescale import Rescaler
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.commit.table_committer import TableCommitter
from consumers.paimon.reading.progress import PaimonProgress
from consumers.paimon.tables import TableNames, create_tables
from consumers.ports import CommitBatch
from schemas.positions import OffsetRange, Position
from schemas.profile import Profile
from schemas.shards import Shard

NAMES = TableNames()


class RawTable:
    """The raw table, written to one snapshot at a time."""

    def __init__(self, config: CatalogConfig) -> None:
        self.table: Any = load_table(open_catalog(config), config, NAMES.raw)
        self._committer = TableCommitter(self.table, "writer", lambda manager, latest: None)
        self._sequence = 0
        self._rows = 0

    def append(self, num_rows: int) -> None:
        rows = [
            {"video_id": f"v{self._rows + n}", "uri": "u", "size_bytes": 100, "landed_at": datetime.now(UTC)}
            for n in range(num_rows)
        ]
        self._rows += num_rows
        self._sequence += 1
        messages = self._committer.write(pa.Table.from_pylist(rows), self._sequence) if rows else []
        self._committer.publish(messages, self._sequence, {"by": "test"})

    def snapshot_path(self, snapshot_id: int) -> Path:
        return Path(self.table.snapshot_manager().get_snapshot_path(snapshot_id))


@pytest.fixture
def config(tmp_path: Path) -> CatalogConfig:
    config = CatalogConfig({"warehouse": str(tmp_path)})
    create_tables(open_catalog(config), config, NAMES)
    return config


@pytest.fixture
def raw(config: CatalogConfig) -> RawTable:
    return RawTable(config)


@pytest.fixture
def progress(config: CatalogConfig) -> PaimonProgress:
    return PaimonProgress(config, NAMES, "c1")


def commit(config: CatalogConfig, consumer: str, position: Position) -> None:
    sink = PaimonSink(config, NAMES, consumer, Profile())
    sink.open()
    sink.commit(CommitBatch((), position))
    sink.close()


def test_empty_tables_have_no_head_no_commit_and_no_rows(progress: PaimonProgress) -> None:
    assert progress.head().next_offset == 0
    assert progress.last_commit() is None
    assert progress.origin(0) is None
    assert progress.recent_commits(10) == []


def test_row_is_traced_to_the_snapshot_that_brought_it(raw: RawTable, progress: PaimonProgress) -> None:
    for _ in range(20):
        raw.append(3)
    for offset in (0, 1, 30, 31, 59, 5):
        origin = progress.origin(offset)
        assert origin is not None
        assert (origin.snapshot_id, origin.is_exact) == (offset // 3 + 1, True)
    assert progress.origin(60) is None


def test_snapshots_without_rows_in_between_are_not_taken_for_the_origin(
    raw: RawTable, progress: PaimonProgress
) -> None:
    raw.append(2)
    for _ in range(10):
        raw.append(0)
    raw.append(2)
    assert [progress.origin(offset).snapshot_id for offset in (0, 1, 2, 3)] == [1, 1, 12, 12]  # type: ignore[union-attr]


def test_row_whose_snapshot_has_expired_is_at_least_as_old_as_the_oldest_one(
    raw: RawTable, progress: PaimonProgress
) -> None:
    for _ in range(8):
        raw.append(1)
    for snapshot_id in range(1, 5):
        raw.snapshot_path(snapshot_id).unlink()
    origin = progress.origin(1)
    assert origin is not None
    assert (origin.snapshot_id, origin.is_exact) == (5, False)
    later = progress.origin(6)
    assert later is not None
    assert (later.snapshot_id, later.is_exact) == (7, True)


def test_commits_are_those_of_this_consumer_alone(config: CatalogConfig, progress: PaimonProgress) -> None:
    commit(config, "c1", Position(5))
    commit(config, "other", Position(100))
    last = progress.last_commit()
    assert last is not None
    assert last.position == Position(5)
    commit(config, "c1", Position(5, (OffsetRange(8, 9),)))
    commit(config, "other", Position(101))
    last = progress.last_commit()
    assert last is not None
    assert (last.position, last.epoch) == (Position(5, (OffsetRange(8, 9),)), 2)
    assert [mark.epoch for mark in progress.recent_commits(10)] == [2, 2, 1, 1]


def test_lag_of_shards_is_the_consumers_whichever_of_them_is_asked(config: CatalogConfig, raw: RawTable) -> None:
    raw.append(30)
    shards = [Shard(index, 3) for index in range(3)]
    readers = [PaimonProgress(config, NAMES, "c1", shard=shard) for shard in shards]
    assert [reader.commits() for reader in readers] == [()] * 3
    sinks = [PaimonSink(config, NAMES, "c1", Profile(), shard=shard) for shard in shards]
    # The third shard has never been started.
    for sink in sinks[:2]:
        sink.open()
    for position in ((Position(30), Position(9)), (Position(30), Position(21))):
        for sink, each in zip(sinks[:2], position, strict=True):
            sink.commit(CommitBatch((), each))
        for reader in readers:
            commits = reader.commits()
            assert [str(mark.share.shard) for mark in commits] == ["0/3", "1/3", "2/3"]
            assert commits == PaimonProgress(config, NAMES, "c1", shard=Shard(2, 3)).commits()
            head = reader.head()
            of_each = [num_waiting(head, [mark]) for mark in commits]
            assert of_each == [0, 7 if position[1] == Position(9) else 3, 10]
            assert num_waiting(head, commits) == sum(of_each)
            assert oldest_waiting(head, commits) == 2
    sinks[2].open()
    sinks[2].commit(CommitBatch((), Position(30)))
    assert {
        (num_waiting(reader.head(), reader.commits()), oldest_waiting(reader.head(), reader.commits()))
        for reader in readers
    } == {(3, 22)}
    Rescaler(config, NAMES, "c1").rescale(2)
    assert {len(reader.commits()) for reader in readers} == {2}
    assert {num_waiting(reader.head(), reader.commits()) for reader in readers} == {3}


def test_probe_of_shards_reads_as_many_snapshots_as_are_new(config: CatalogConfig, raw: RawTable) -> None:
    raw.append(30)
    sinks = [PaimonSink(config, NAMES, "c1", Profile(), shard=Shard(index, 3)) for index in range(3)]
    for sink in sinks:
        sink.open()
        sink.commit(CommitBatch((), Position(10)))
    reader = PaimonProgress(config, NAMES, "c1", shard=Shard(0, 3))
    assert len(reader.commits()) == 3
    manager = reader._curated
    seen_id = manager.get_latest_snapshot().id
    sinks[1].commit(CommitBatch((), Position(20)))
    for snapshot_id in range(1, seen_id + 1):
        Path(manager.get_snapshot_path(snapshot_id)).unlink()
    assert [mark.position.watermark for mark in reader.commits()] == [10, 20, 10]


def test_consumer_that_has_gone_is_still_measured(config: CatalogConfig, progress: PaimonProgress) -> None:
    commit(config, "c1", Position(5))
    commit(config, "other", Position(7))
    assert progress.last_commit() == progress.last_commit()
    fresh = PaimonProgress(config, NAMES, "c1").last_commit()
    assert fresh is not None
    assert fresh.position == Position(5)


def test_sizes_of_the_backlog_are_sampled(raw: RawTable, progress: PaimonProgress) -> None:
    raw.append(100)
    assert progress.mean_bytes(OffsetRange(10, 100)) == 100.0
