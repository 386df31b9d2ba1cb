"""Raw tables that are rolled back, dropped and made anew, or altered, while a consumer reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pypaimon.schema.data_types import AtomicType, PyarrowFieldParser
from pypaimon.schema.schema_change import SchemaChange

from consumers.errors import ConfigurationError, SourceChangedError
from consumers.paimon.catalog import CatalogConfig, open_catalog
from consumers.paimon.commit.generation import remembered
from consumers.paimon.commit.reposition import Repositioner
from consumers.paimon.commit.rescale import Rescaler
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.reading.audit import audit
from consumers.paimon.reading.progress import PaimonProgress
from consumers.paimon.source.row_source import RowIdSource
from consumers.paimon.source.sources import open_source
from consumers.paimon.tables import RawColumns, TableNames, create_tables
from schemas.positions import OffsetRange
from schemas.records import RawVideo
from schemas.shards import Shard
from schemas.source_mark import UNKNOWN, SourceMark
from tests.support.changelog import COLUMNS, KEYED, KeyedTable
from tests.support.consuming import consume, ledgered
from tests.support.rewrites import RowIds, rewrite
from tests.support.warehouse import (
    AT,
    NAMES,
    PROFILE,
    append,
    append_raw,
    delete_rows,
    expire_all_but_newest,
    make_warehouse,
    rows_of,
    table,
)

_RAW = f"db.{NAMES.raw}"


@pytest.fixture
def config(tmp_path: Path) -> CatalogConfig:
    """A warehouse with five snapshots of two videos each, a to j."""
    config = make_warehouse(tmp_path / "warehouse")
    for names in ("ab", "cd", "ef", "gh", "ij"):
        append_raw(config, names)
    return config


def _rolled_back(config: CatalogConfig) -> None:
    table(config, NAMES.raw).rollback_to(2)


def _rolled_back_to_a_tag(config: CatalogConfig) -> None:
    raw = table(config, NAMES.raw)
    raw.create_tag("before", 2, ignore_if_exists=True)
    raw.rollback_to("before")


def _dropped_and_made_anew(config: CatalogConfig) -> None:
    open_catalog(config).drop_table(_RAW)
    create_tables(open_catalog(config), config, NAMES)


_EVENTS = [_rolled_back, _rolled_back_to_a_tag, _dropped_and_made_anew]


def _states(config: CatalogConfig) -> tuple[object, ...]:
    heads = (table(config, name).snapshot_manager().get_latest_snapshot() for name in (NAMES.ledger, NAMES.curated))
    return (*(head.total_record_count for head in heads), ledgered(config))


@pytest.mark.parametrize("event", _EVENTS)
@pytest.mark.parametrize("num_after", [0, 2, 4, 12])
def test_numbers_that_are_given_again_stop_the_consumer_at_its_start(
    config: CatalogConfig, event: Callable[[CatalogConfig], None], num_after: int
) -> None:
    consume(config)
    before = _states(config)
    event(config)
    for number in range(num_after):
        append_raw(config, [f"new{number}"])
    with pytest.raises(
        SourceChangedError, match=r"table db\.raw_videos: was read up to snapshot 5 of .* UTC, and "
    ) as told:
        consume(config)
    assert "--accept-new-table" in str(told.value)
    assert _states(config) == before
    progress = PaimonProgress(config, NAMES, "main")
    progress.last_commit()
    with pytest.raises(SourceChangedError):
        progress.head()


@pytest.mark.parametrize("event", _EVENTS)
@pytest.mark.parametrize("num_after", [0, 4])
def test_numbers_that_are_given_again_stop_a_running_consumer(
    config: CatalogConfig, event: Callable[[CatalogConfig], None], num_after: int
) -> None:
    source = RowIdSource(config, NAMES.raw, chunk_rows=1)
    assert source.head().next_offset == 10
    reading = source.read([OffsetRange(0, 10)])
    next(reading)
    event(config)
    for number in range(num_after):
        append_raw(config, [f"new{number}"])
    with pytest.raises(SourceChangedError, match="was read up to snapshot 5"):
        source.head()
    with pytest.raises(SourceChangedError, match="was read up to snapshot 5"):
        list(source.read([OffsetRange(4, 10)]))


@pytest.mark.parametrize("event", _EVENTS)
def test_accepted_table_is_curated_from_its_first_row_on_and_kept_apart(
    config: CatalogConfig, event: Callable[[CatalogConfig], None]
) -> None:
    consume(config)
    event(config)
    append_raw(config, ["new0", "new1", "new2"])
    num_rows = len(rows_of(config, NAMES.raw, ["video_id"]))
    consume(config, generation=2)
    append_raw(config, ["new3"])
    seen: list[str] = []
    consume(config, seen=seen)
    assert seen == ["new3"]
    rows = ledgered(config)
    assert [row_id for source, row_id in rows if source == f"{_RAW}#2"] == list(range(num_rows + 1))
    assert [row_id for source, row_id in rows if source == _RAW] == list(range(10))
    clips = rows_of(config, NAMES.curated, ["clip_id", "source_table"])
    assert len({clip["clip_id"] for clip in clips}) == len(clips) == 2 * (10 + num_rows + 1)
    report = audit(config, NAMES, "main")
    assert report.is_clean
    assert (report.rows, report.ledger_rows, report.pending) == (num_rows + 1, num_rows + 1, 0)
    event(config)
    append_raw(config, ["again"])
    with pytest.raises(SourceChangedError):
        consume(config, generation=2)
    consume(config, generation=3)
    assert remembered(config, NAMES, "main")[0] == f"{_RAW}#3"


def test_generation_outlives_the_markers(config: CatalogConfig) -> None:
    consume(config)
    _dropped_and_made_anew(config)
    append_raw(config, ["new0", "new1"])
    consume(config, generation=2)
    PaimonSink(config, NAMES, "other", PROFILE).open()
    for name in (NAMES.ledger, NAMES.curated):
        expire_all_but_newest(config, name)
    append_raw(config, ["new2"])
    seen: list[str] = []
    consume(config, seen=seen)
    assert seen == ["new2"]
    assert audit(config, NAMES, "main").is_clean


def test_acceptance_that_is_cut_off_between_ledger_and_curated_goes_on(config: CatalogConfig) -> None:
    consume(config)
    _dropped_and_made_anew(config)
    append_raw(config, ["new0"])

    class _CutError(BaseException):
        pass

    def on_step(step: str) -> None:
        if step == "after_ledger_claim":
            raise _CutError

    with pytest.raises(_CutError):
        PaimonSink(config, NAMES, "main", PROFILE, generation=2, on_step=on_step).open()
    seen: list[str] = []
    consume(config, seen=seen)
    assert seen == ["new0"]
    assert audit(config, NAMES, "main").is_clean


def test_shards_begin_anew_one_after_the_other_and_can_be_rescaled(config: CatalogConfig) -> None:
    consume(config)
    Rescaler(config, NAMES, "main").rescale(2)
    shards = [Shard(index, 2) for index in range(2)]
    for shard in shards:
        consume(config, shard=shard)
    _dropped_and_made_anew(config)
    append_raw(config, "xyz")
    seen: list[str] = []
    for shard in shards:
        with pytest.raises(SourceChangedError):
            consume(config, shard=shard)
    consume(config, shard=shards[0], generation=2, seen=seen)
    assert seen == ["x", "z"]
    Rescaler(config, NAMES, "main").rescale(1)
    consume(config, seen=seen)
    assert seen == ["x", "z", "y"]
    assert audit(config, NAMES, "main").is_clean


def test_look_ups_and_replays_are_of_the_table_that_was_accepted(config: CatalogConfig) -> None:
    consume(config)
    _dropped_and_made_anew(config)
    append_raw(config, ["new0"])
    consume(config, generation=2)
    move = Repositioner(config, NAMES, "main").to_offset(1)
    assert (move.current.watermark, move.num_left_done) == (1, 0)
    assert Repositioner(config, NAMES, "main").again([0]).num_left_done == 1


@pytest.mark.parametrize("row_ids", [RowIds.PHYSICAL, RowIds.LOST])
def test_compaction_that_its_engine_rolls_back_changes_nothing(config: CatalogConfig, row_ids: RowIds) -> None:
    consume(config)
    rewrite(config, NAMES.raw, "COMPACT", row_ids)
    source = open_source(config, NAMES.raw)
    source.resume(*remembered(config, NAMES, "main"))
    assert source.head().snapshot_id == 6
    table(config, NAMES.raw).rollback_to(5)
    assert source.head().snapshot_id == 5
    append_raw(config, "k")
    seen: list[str] = []
    consume(config, seen=seen)
    assert seen == ["k"]


def test_table_that_was_made_anew_is_told_by_its_creation_where_snapshots_have_expired(config: CatalogConfig) -> None:
    consume(config)
    _dropped_and_made_anew(config)
    for number in range(12):
        append_raw(config, [f"new{number}"])
    expire_all_but_newest(config, NAMES.raw)
    with pytest.raises(SourceChangedError, match=r"it is a table created at \d+ ms now, and was one created at \d+ ms"):
        consume(config)


def test_expired_snapshots_of_the_same_table_are_no_change(config: CatalogConfig) -> None:
    consume(config)
    append_raw(config, "k")
    delete_rows(config, NAMES.raw, [10])
    expire_all_but_newest(config, NAMES.raw)
    consume(config)
    append_raw(config, "l")
    seen: list[str] = []
    consume(config, seen=seen)
    assert seen == ["l"]


def test_marker_of_an_earlier_version_goes_by_the_rows(config: CatalogConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("consumers.paimon.source.identity.SourceIdentity.check", lambda self, latest: None)
        consume(config)
    assert remembered(config, NAMES, "main") == (_RAW, SourceMark(UNKNOWN, 0, UNKNOWN, 10, 0))
    append_raw(config, "k")
    seen: list[str] = []
    consume(config, seen=seen)
    assert seen == ["k"]
    mark = remembered(config, NAMES, "main")[1]
    assert mark is not None
    assert (mark.snapshot_id, mark.next_offset) == (6, 11)


@pytest.mark.parametrize("event", _EVENTS)
def test_marker_of_an_earlier_version_does_not_hide_another_table(
    config: CatalogConfig, monkeypatch: pytest.MonkeyPatch, event: Callable[[CatalogConfig], None]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("consumers.paimon.source.identity.SourceIdentity.check", lambda self, latest: None)
        consume(config)
    before = _states(config)
    event(config)
    append_raw(config, [f"new{number}" for number in range(20)])
    with pytest.raises(SourceChangedError, match=r"are of other videos \(row 9 was j, and is new"):
        consume(config)
    assert _states(config) == before


def _expire_the_markers(config: CatalogConfig, names: TableNames) -> None:
    PaimonSink(config, names, "other", PROFILE).open()
    for name in (names.ledger, names.curated):
        expire_all_but_newest(config, name)


def _expire_the_markers(config: CatalogConfig, names: TableNames) -> None:
    PaimonSink(config, names, "other", PROFILE).open()
    for name in (names.ledger, names.curated):
        expire_all_but_newest(config, name)


@pytest.mark.parametrize("num_after", [0, 1, 3])
def test_table_that_was_made_anew_is_told_by_the_rows_when_every_marker_has_expired(
    config: CatalogConfig, num_after: int
) -> None:
    consume(config)
    before = ledgered(config)
    _expire_the_markers(config, NAMES)
    _dropped_and_made_anew(config)
    # The ledger's newest rows have ids that this table has not given yet.
    append_raw(config, [f"new{number}" for number in range(num_after)])
    for _ in range(2):
        with pytest.raises(SourceChangedError, match=r"read up to row 9, and it has row ids .*--accept-new-table"):
            consume(config)
    assert ledgered(config) == before
    seen: list[str] = []
    consume(config, generation=2, seen=seen)
    assert len(seen) == num_after
    assert audit(config, NAMES, "main").is_clean


@pytest.mark.parametrize("num_after", [1, 2, 3])
def test_keyed_table_that_was_set_back_is_told_by_the_rows_when_every_marker_has_expired(
    tmp_path: Path, num_after: int
) -> None:
    keyed = KeyedTable(tmp_path / "warehouse")
    for change in ("+Ia", "+Ib", "+Ic", "+Id"):
        keyed.change(change)
    for _ in range(2):
        # Recovered from the rows, the position stands in a marker again, and what was read of the table with it.
        assert consume(keyed.config, COLUMNS, names=KEYED).lag == 0
        _expire_the_markers(keyed.config, KEYED)
    keyed.table.rollback_to(2)
    for number in range(num_after):
        keyed.change(f"+I{number}")
    with pytest.raises(SourceChangedError, match=r"read up to snapshot 4 of .*UTC, and .*--accept-new-table"):
        consume(keyed.config, COLUMNS, names=KEYED)


# Absent is not empty.


@pytest.mark.parametrize("is_read", [False, True])
def test_dropped_raw_table_is_an_error_and_not_an_empty_one(config: CatalogConfig, is_read: bool) -> None:
    source, progress = open_source(config, NAMES.raw), PaimonProgress(config, NAMES, "main")
    if is_read:
        source.head()
        progress.head()
    open_catalog(config).drop_table(_RAW)
    for look in (source.head, progress.head, lambda: list(source.read([OffsetRange(0, 5)]))):
        with pytest.raises(ConfigurationError, match=r"table db\.raw_videos does not exist in warehouse"):
            look()


def test_dropped_keyed_table_is_an_error_and_not_an_empty_one(tmp_path: Path) -> None:
    keyed = KeyedTable(tmp_path / "warehouse")
    keyed.change("+Ia")
    source = open_source(keyed.config, KEYED.raw, COLUMNS)
    source.head()
    open_catalog(keyed.config).drop_table(f"db.{KEYED.raw}")
    with pytest.raises(ConfigurationError, match=r"table db\.keyed_videos does not exist in warehouse"):
        source.head()


def test_keyed_table_that_is_set_back_is_an_error(tmp_path: Path) -> None:
    keyed = KeyedTable(tmp_path / "warehouse")
    for change in ("+Ia", "+Ib", "+Ic"):
        keyed.change(change)
    source = open_source(keyed.config, KEYED.raw, COLUMNS)
    source.head()
    keyed.table.rollback_to(1)
    keyed.change("+Id")
    keyed.change("+Ie")
    with pytest.raises(SourceChangedError, match=r"was read up to snapshot 3 of .*snapshot 3 is another one"):
        source.head()


# A schema that changes while it is read.


def _alter(config: CatalogConfig, *changes: SchemaChange) -> None:
    for change in changes:
        open_catalog(config).alter_table(_RAW, [change])


_TEXT = RawColumns(video="uri", metadata=())


def _append(config: CatalogConfig, **row: str) -> None:
    """Append a row by the newest schema, with what its columns need besides."""
    schema = PyarrowFieldParser.from_paimon_schema(table(config, NAMES.raw).fields)
    append(config, NAMES.raw, [{"landed_at": AT, **row}], schema)


def _read(source: RowIdSource, start: int) -> list[RawVideo]:
    return [item for item in source.read([OffsetRange(start, 100)]) if isinstance(item, RawVideo)]


def test_column_that_is_renamed_away_stops_a_running_consumer_with_the_sentence_of_the_start(
    config: CatalogConfig,
) -> None:
    source = RowIdSource(config, NAMES.raw, _TEXT)
    source.head()
    _alter(config, SchemaChange.rename_column("etag", "checksum"))
    _append(config, video_id="k", uri="file:///videos/k.mp4", checksum="x")
    sentence = r"table db\.raw_videos: column etag is mapped in the settings, but the table has .*checksum"
    with pytest.raises(ConfigurationError, match=sentence):
        source.head()
    with pytest.raises(ConfigurationError, match=sentence):
        list(source.read([OffsetRange(10, 11)]))


def test_column_that_is_dropped_and_added_again_is_read_as_the_new_one(config: CatalogConfig) -> None:
    source = RowIdSource(config, NAMES.raw, _TEXT)
    assert [video.etag for video in _read(source, 9)] == ["etag-j"]
    _alter(config, SchemaChange.drop_column("etag"), SchemaChange.add_column("etag", AtomicType("STRING")))
    _append(config, video_id="k", uri="file:///videos/k.mp4", etag="new")
    assert [(video.video_id, video.etag) for video in _read(source, 9)] == [("j", None), ("k", "new")]


def test_columns_that_change_places_are_read_by_their_new_names(config: CatalogConfig) -> None:
    source = RowIdSource(config, NAMES.raw, _TEXT)
    source.head()
    _alter(
        config,
        SchemaChange.rename_column("etag", "away"),
        SchemaChange.rename_column("uri", "etag"),
        SchemaChange.rename_column("away", "uri"),
    )
    _append(config, video_id="k", uri="file:///videos/k.mp4", etag="new")
    (video,) = _read(source, 10)
    assert video.blob is not None
    assert (video.blob.uri, video.etag) == ("file:///videos/k.mp4", "new")


def test_columns_that_nobody_maps_may_come_and_go(config: CatalogConfig) -> None:
    source = RowIdSource(config, NAMES.raw)
    source.head()
    _alter(config, SchemaChange.add_column("note", AtomicType("STRING")))
    _append(config, video_id="k", uri="file:///videos/k.mp4", note="n")
    assert [video.video_id for video in _read(source, 9)] == ["j", "k"]
