"""Rows of row-tracked tables that get other ids, or are deleted, after they were curated."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from pypaimon import Schema

from consumers.errors import SourceChangedError, StopError
from consumers.paimon.catalog import CatalogConfig, open_catalog
from consumers.paimon.commit.rescale import Rescaler
from consumers.paimon.commit.side import STEPS
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.reading.audit import AuditReport, audit
from consumers.paimon.reading.known_rows import KnownRows
from consumers.paimon.scan import ROW_ID
from consumers.paimon.source.row_source import RowIdSource
from consumers.paimon.tables import RawColumns, create_tables
from consumers.ports import CommitBatch
from consumers.testing import SimulatedCrashError
from schemas.positions import OffsetRange
from schemas.records import ProcessedVideo, RawVideo, VideoOutcome
from schemas.shards import Shard
from tests.support.consuming import consume, ledgered, standing
from tests.support.interop import BY_URI, JavaTable, requires_interop
from tests.support.rewrites import RowIds, rewrite
from tests.support.warehouse import (
    AT,
    NAMES,
    PROFILE,
    append,
    append_raw,
    create_raw,
    delete_rows,
    expire_all_but_newest,
    failed,
    make_warehouse,
    rows_of,
    table,
)

_STORY = ("source_row_id", "run", "status", "video_id")


@pytest.fixture
def config(tmp_path: Path) -> CatalogConfig:
    """A warehouse with videos a to f, curated."""
    config = make_warehouse(tmp_path / "warehouse")
    for names in ("abc", "def"):
        append_raw(config, names)
    consume(config)
    return config


def _clips(names: str) -> Counter[str]:
    return Counter(dict.fromkeys(names, 2))


def _audited(config: CatalogConfig, columns: RawColumns | None = None) -> AuditReport:
    report = audit(config, NAMES, "main", columns=columns)
    assert report.is_clean, report
    return report


def _story(config: CatalogConfig, name: str) -> list[tuple[object, ...]]:
    return [row[:3] for row in ledgered(config, _STORY) if row[3] == name]


def _new(config: CatalogConfig) -> list[str]:
    seen: list[str] = []
    consume(config, seen=seen)
    return seen


@pytest.mark.parametrize("kind", ["COMPACT", "OVERWRITE"])
@pytest.mark.parametrize("is_expired", [False, True])
def test_rows_that_get_new_ids_are_curated_once(config: CatalogConfig, kind: str, is_expired: bool) -> None:
    rewrite(config, NAMES.raw, kind, RowIds.NEW)
    append_raw(config, "g")
    if is_expired:
        expire_all_but_newest(config, NAMES.raw)
    assert _new(config) == ["g"]
    assert standing(config) == _clips("abcdefg")
    assert _story(config, "b") == [(1, 1, "curated"), (7, 1, "moved")]
    assert _audited(config).pending == 0
    assert _new(config) == []


def test_rows_that_move_twice_and_go_are_the_same_video_still(config: CatalogConfig) -> None:
    for _ in range(2):
        rewrite(config, NAMES.raw, "OVERWRITE", RowIds.NEW)
        assert _new(config) == []
    # a to f have ids 12 to 17 by now.
    delete_rows(config, NAMES.raw, [13, 15])
    assert _new(config) == []
    assert standing(config) == _clips("acef")
    assert _story(config, "b") == [(1, 1, "curated"), (1, 2, "retired"), (7, 1, "moved"), (13, 1, "moved")]
    rewrite(config, NAMES.raw, "COMPACT", RowIds.NEW)
    assert _new(config) == []
    assert standing(config) == _clips("acef")
    assert _audited(config).pending == 0


def test_rows_that_move_and_go_before_anybody_looks(config: CatalogConfig) -> None:
    append_raw(config, "gh")
    rewrite(config, NAMES.raw, "OVERWRITE", RowIds.NEW)
    # a to h have ids 8 to 15 now.
    delete_rows(config, NAMES.raw, [9, 14])
    append_raw(config, "i")
    assert _new(config) == ["h", "i"]
    assert standing(config) == _clips("acdefhi")
    _audited(config)


def test_videos_that_are_there_twice_are_told_apart_by_number(config: CatalogConfig) -> None:
    append_raw(config, "ab")
    assert _new(config) == ["a", "b"]
    assert standing(config)["a"] == 4
    rewrite(config, NAMES.raw, "OVERWRITE", RowIds.NEW, without=[0, 7])
    assert _new(config) == []
    assert standing(config) == Counter({**_clips("abcdef")})
    _audited(config)


def test_row_that_another_engine_writes_in_an_overwrite_is_a_new_video(config: CatalogConfig) -> None:
    rewrite(config, NAMES.raw, "OVERWRITE", RowIds.NEW, without=[0, 1, 2, 3, 4])
    assert _new(config) == []
    assert standing(config) == _clips("f")


@pytest.mark.parametrize("is_whole_file", [False, True])
def test_deleted_rows_lose_their_clips_and_the_ledger_says_so(config: CatalogConfig, is_whole_file: bool) -> None:
    delete_rows(config, NAMES.raw, [0, 1, 2] if is_whole_file else [1])
    gone = "abc" if is_whole_file else "b"
    report = consume(config)
    assert report.counts.num_retired == len(gone)
    assert standing(config) == _clips("abcdef") - _clips(gone)
    assert _story(config, "b") == [(1, 1, "curated"), (1, 2, "retired")]
    assert _audited(config).pending == 0
    assert consume(config).counts.num_retired == 0
    assert len(_story(config, "b")) == 2


def test_deleted_and_registered_again_is_a_new_video(config: CatalogConfig) -> None:
    delete_rows(config, NAMES.raw, [1])
    append_raw(config, "b")
    assert _new(config) == ["b"]
    assert standing(config) == _clips("abcdef")
    assert _story(config, "b") == [(1, 1, "curated"), (1, 2, "retired"), (6, 1, "curated")]
    _audited(config)


@pytest.mark.parametrize("how", ["truncate", "overwrite"])
def test_a_table_that_is_emptied_loses_every_clip(config: CatalogConfig, how: str) -> None:
    if how == "truncate":
        commit = table(config, NAMES.raw).new_batch_write_builder().new_commit()
        commit.truncate_table()
        commit.close()
    else:
        rewrite(config, NAMES.raw, "OVERWRITE", RowIds.NEW, without=range(6))
    assert _new(config) == []
    assert standing(config) == Counter()
    assert _audited(config).ledger_rows == 12


def test_removal_that_is_told_again_before_it_is_committed_is_written_once(config: CatalogConfig) -> None:
    delete_rows(config, NAMES.raw, [1, 4])
    sink = PaimonSink(config, NAMES, "main", PROFILE)
    position = sink.open().position
    told: list[RawVideo] = []
    for _ in range(2):
        # Nothing is committed in between: what is in hand is told again.
        source = KnownRows(RowIdSource(config, NAMES.raw), config, NAMES, "main")
        source.head()
        told += source.removed()
    assert [video.row_id for video in told] == [1, 4, 1, 4]
    videos = tuple(ProcessedVideo(video, VideoOutcome(is_takedown=True), 0, AT) for video in told)
    assert sink.commit(CommitBatch(videos, position)).num_ledger_rows == 2
    sink.close()
    assert _story(config, "b") == [(1, 1, "curated"), (1, 2, "retired")]
    assert standing(config) == _clips("acdf")
    _audited(config)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("is_expired", [False, True])
def test_removals_and_moves_survive_a_process_that_dies_at_any_step(
    config: CatalogConfig, step: str, is_expired: bool
) -> None:
    rewrite(config, NAMES.raw, "OVERWRITE", RowIds.NEW, without=[3])
    append_raw(config, "g")
    delete_rows(config, NAMES.raw, [6])
    with pytest.raises(SimulatedCrashError):
        consume(config, die_at=step)
    if is_expired:
        PaimonSink(config, NAMES, "other", PROFILE).open()
        for name in (NAMES.ledger, NAMES.curated):
            expire_all_but_newest(config, name)
    assert set(_new(config)) <= {"g"}
    assert standing(config) == _clips("bcefg")
    assert _story(config, "a") == [(0, 1, "curated"), (0, 2, "retired")]
    assert _story(config, "b") == [(1, 1, "curated"), (7, 1, "moved")]
    assert _story(config, "d") == [(3, 1, "curated"), (3, 2, "retired")]
    assert _audited(config).pending == 0
    assert _new(config) == []
    assert len(_story(config, "a")) == 2


@pytest.mark.parametrize("step", ["after_ledger_publish", "before_curated_write", "after_curated_write"])
def test_dead_letter_whose_commit_was_cut_in_two_is_the_same_one_after_it_has_moved(
    config: CatalogConfig, step: str
) -> None:
    append_raw(config, "g")

    def die(at: str) -> None:
        if at == step:
            raise SimulatedCrashError

    sink = PaimonSink(config, NAMES, "main", PROFILE, on_step=die)
    position = sink.open().position
    [video] = (item for item in RowIdSource(config, NAMES.raw).read([OffsetRange(6, 7)]) if isinstance(item, RawVideo))
    broken = replace(failed(6), video=video)
    with pytest.raises(SimulatedCrashError):
        sink.commit(CommitBatch((broken,), position.with_offset(6)))
    sink.close()
    rewrite(config, NAMES.raw, "OVERWRITE", RowIds.NEW)
    assert _new(config) == []
    assert _story(config, "g") == [(6, 1, "failed"), (13, 1, "moved")]
    assert _audited(config).pending == 0


def test_rows_that_are_gone_are_looked_for_only_after_something_else_than_an_append(
    config: CatalogConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(self: object) -> None:
        raise StopError("the ledger is read")

    append_raw(config, "g")
    consume(config)
    with monkeypatch.context() as patch:
        patch.setattr("consumers.paimon.reading.known_rows.KnownRows._load", forbidden)
        for name in "hij":
            append_raw(config, name)
        assert _new(config) == ["h", "i", "j"]
        assert _new(config) == []
    delete_rows(config, NAMES.raw, [0])
    assert consume(config).counts.num_retired == 1


def test_rows_that_have_lost_their_ids_are_not_taken_for_deleted_ones(tmp_path: Path) -> None:
    config = CatalogConfig({"warehouse": str(tmp_path / "warehouse")}, "db")
    schema = pa.schema([("video_id", pa.string()), ("uri", pa.string())])
    columns = RawColumns(video="uri", size_bytes=None, etag=None, metadata=())
    create_raw(config, NAMES.raw, schema, {"bucket": "-1", "row-tracking.enabled": "true"})
    create_tables(open_catalog(config), config, NAMES, columns)
    append(config, NAMES.raw, [{"video_id": name, "uri": f"file:///videos/{name}.mp4"} for name in "abc"], schema)
    consume(config, columns)
    rewrite(config, NAMES.raw, "COMPACT", RowIds.LOST)
    for _ in range(2):
        with pytest.raises(SourceChangedError, match=r"3 of 3 rows of file data-.*\.parquet have no row id"):
            consume(config, columns)
    assert standing(config) == _clips("abc")


def test_shards_retire_their_own_rows(config: CatalogConfig) -> None:
    Rescaler(config, NAMES, "main").rescale(2)
    shards = [Shard(index, 2) for index in range(2)]
    for shard in shards:
        consume(config, shard=shard)
    rewrite(config, NAMES.raw, "OVERWRITE", RowIds.NEW, without=[2, 3])
    append_raw(config, "g")
    # Moved rows change shards: d had id 3 and e has 8 now, where it had 4.
    seen: list[str] = []
    for _ in range(2):
        for shard in shards:
            consume(config, shard=shard, seen=seen)
    assert seen == ["g"]
    assert standing(config) == _clips("abefg")
    assert _audited(config).pending == 0


class _Meanwhile(list[str]):
    """Does something once, while the first video is in hand."""

    def __init__(self, what: Callable[[], object]) -> None:
        super().__init__()
        self._what = what

    def append(self, name: str) -> None:
        super().append(name)
        if len(self) == 1:
            self._what()


@pytest.mark.parametrize("kind", ["COMPACT", "OVERWRITE"])
@pytest.mark.parametrize("num_rounds", [0, 1])
def test_row_that_moves_to_another_shard_before_it_is_committed_has_its_clips_once(
    tmp_path: Path, kind: str, num_rounds: int
) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    append_raw(config, "abc")
    consume(config)
    Rescaler(config, NAMES, "main").rescale(2)
    shards = [Shard(index, 2) for index in range(2)]
    append_raw(config, "def")

    def move() -> None:
        # The rows with ids 0 to 6 get 7 to 13, and each goes to the other shard.
        append_raw(config, "g")
        rewrite(config, NAMES.raw, kind, RowIds.NEW)
        for _ in range(num_rounds):
            consume(config, shard=shards[1])

    consume(config, shard=shards[0], seen=_Meanwhile(move))
    for _ in range(3):
        for shard in shards:
            consume(config, shard=shard)
    assert standing(config) == _clips("abcdefg")
    assert _audited(config).pending == 0


def test_dropped_partition_loses_its_clips(tmp_path: Path) -> None:
    config = CatalogConfig({"warehouse": str(tmp_path / "warehouse")}, "db")
    catalog = open_catalog(config, create=True)
    catalog.create_database(config.database, True)
    schema = pa.schema([("video_id", pa.string()), ("uri", pa.string()), ("day", pa.string())])
    options = {"bucket": "-1", "row-tracking.enabled": "true", "data-evolution.enabled": "true"}
    partitioned = Schema.from_pyarrow_schema(schema, partition_keys=["day"], options=options)
    catalog.create_table(f"{config.database}.{NAMES.raw}", partitioned, False)
    columns = RawColumns(video="uri", size_bytes=None, etag=None, metadata=())
    create_tables(catalog, config, NAMES, columns)
    rows = [{"video_id": name, "uri": f"file:///videos/{name}.mp4", "day": str(ord(name) % 2)} for name in "abcd"]
    append(config, NAMES.raw, rows, schema)
    consume(config, columns)
    commit = table(config, NAMES.raw).new_batch_write_builder().new_commit()
    commit.truncate_partitions([{"day": "0"}])
    commit.close()
    assert consume(config, columns).counts.num_retired == 2
    assert standing(config) == _clips("ac")
    _audited(config, columns)


@pytest.mark.parametrize("seed", [0, 2, 13, 15, 21])
def test_any_history_leaves_the_clips_of_what_stands_and_curates_nothing_twice(tmp_path: Path, seed: int) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    pick = random.Random(seed)
    seen: list[str] = []
    num_videos = 0

    def append_some() -> None:
        nonlocal num_videos
        names = [f"v{num_videos + number}" for number in range(pick.randint(1, 3))]
        num_videos += len(names)
        append_raw(config, names)

    def delete_some() -> None:
        row_ids = [row[ROW_ID] for row in rows_of(config, NAMES.raw, [ROW_ID])]
        delete_rows(config, NAMES.raw, pick.sample(row_ids, min(len(row_ids) - 1, 2)))

    def move_all() -> None:
        rewrite(config, NAMES.raw, pick.choice(["COMPACT", "OVERWRITE"]), RowIds.NEW)

    def die() -> None:
        # What was processed and not committed is processed again: of that run nothing is counted.
        with suppress(SimulatedCrashError):
            consume(config, die_at=pick.choice(STEPS))

    append_some()
    for _ in range(25):
        weighted = [append_some, append_some, delete_some, move_all, die, lambda: consume(config, seen=seen)]
        pick.choice(weighted)()
        if pick.random() < 0.1:
            expire_all_but_newest(config, NAMES.raw)
    consume(config, seen=seen)
    stand = {row["video_id"] for row in rows_of(config, NAMES.raw, ["video_id"])}
    assert standing(config) == Counter(dict.fromkeys(stand, 2))
    latest = {row[0]: row[2:] for row in ledgered(config, _STORY)}
    curated = Counter(video_id for status, video_id in latest.values() if status == "curated")
    assert set(curated.values()) <= {1}
    assert len(set(seen)) == len(seen)
    report = _audited(config)
    assert report.pending == 0


# Tables that Java wrote, given to the consumer one snapshot after the other.

_JAVA = {
    "row_tracked_updated": ("01234", ""),
    "row_tracked_deleted": ("0234", "1"),
    "row_tracked_compacted": ("01234", ""),
    "data_evolution_updated_deleted_materialized": ("1234", "0"),
    "data_evolution_reassigned_partition_dropped": ("13", "02"),
    "data_evolution_managed_blob": ("01", ""),
}


@requires_interop
@pytest.mark.parametrize("name", _JAVA)
@pytest.mark.parametrize("stride", [1, 2, 10])
def test_tables_that_java_wrote_end_right_snapshot_by_snapshot(tmp_path: Path, name: str, stride: int) -> None:
    java = JavaTable(name, tmp_path)
    columns = BY_URI if name.startswith("row_tracked") else RawColumns()
    create_tables(open_catalog(java.config), java.config, NAMES, columns)
    seen: list[str] = []
    for newest in [*range(1, java.num_snapshots, stride), java.num_snapshots]:
        java.show(newest)
        consume(java.config, columns, seen=seen)
        report = audit(java.config, NAMES, "main", columns=columns)
        assert report.is_clean, (newest, report)
        assert report.pending == 0
    assert len(set(seen)) == len(seen)
    stand, gone = _JAVA[name]
    assert standing(java.config) == Counter({f"v{number}": 2 for number in stand})
    retired = {row[3] for row in ledgered(java.config, _STORY) if row[2] == "retired"}
    assert retired == {f"v{number}" for number in gone if f"v{number}" in seen}
    if stride == 1:
        assert sorted(seen) == sorted(f"v{number}" for number in stand + gone)
