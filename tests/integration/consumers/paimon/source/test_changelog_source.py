"""Tables that are read change by change: each change once, in order, and nothing silent about expiry."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from consumers.errors import ConfigurationError, PositionExpiredError, StoreUnavailableError, UnfollowedSnapshotError
from consumers.paimon.catalog import open_catalog
from consumers.paimon.reading.progress import PaimonProgress
from consumers.paimon.source.changelog_source import ChangelogSource
from consumers.paimon.source.guard import OnExpired, SnapshotGuard
from consumers.paimon.source.offsets import first_offset, snapshot_of
from consumers.paimon.source.retention import RetentionRules
from consumers.paimon.source.sources import open_source, protector
from consumers.paimon.tables import RawColumns, create_tables
from consumers.testing import FakeClock
from schemas.positions import OffsetRange, Position
from schemas.records import RawVideo, RowKind
from schemas.shards import EVERYTHING, Shard
from tests.support.changelog import COLUMNS, KEYED, KeyedTable, read_all
from tests.support.warehouse import NAMES, append, create_raw, make_warehouse


@pytest.fixture
def keyed(tmp_path: Path) -> KeyedTable:
    return KeyedTable(tmp_path / "warehouse")


def _changes(videos: list[RawVideo]) -> list[str]:
    return [f"{video.row_kind.value}{video.video_id}@{video.snapshot_id}" for video in videos]


def _after(source: ChangelogSource, position: Position) -> list[RawVideo]:
    return read_all(source, list(position.missing(source.head().next_offset)))


def test_table_without_snapshots_has_no_head_and_no_rows(keyed: KeyedTable) -> None:
    source = keyed.source()
    assert (source.head().snapshot_id, source.head().next_offset) == (None, 0)
    assert list(source.read([OffsetRange(0, 100)])) == []


def test_changes_are_read_in_order_with_kind_and_key(keyed: KeyedTable) -> None:
    keyed.change("+Ia", "+Ib")
    keyed.change("+Ua", "+Ic")
    keyed.change("-Db")
    source = keyed.source()
    begun = Position(first_offset(1))
    videos = _after(source, begun)
    assert sorted(_changes(videos)[:2]) == ["+Ia@1", "+Ib@1"]
    assert sorted(_changes(videos)[2:4]) == ["+Ic@2", "+Ua@2"]
    assert _changes(videos)[4:] == ["-Db@3"]
    assert [snapshot_of(video.row_id) for video in videos] == [1, 1, 2, 2, 3]
    assert {video.key for video in videos if video.video_id == "a"} == {'["a"]'}
    assert source.head().num_missing(begun, EVERYTHING) == 5
    assert source.head().num_missing(begun.with_offset(videos[0].row_id), EVERYTHING) == 4


@pytest.mark.parametrize("producer", ["input", "none"])
def test_fresh_consumer_takes_the_oldest_snapshot_whole_and_then_the_changes(tmp_path: Path, producer: str) -> None:
    keyed = KeyedTable(tmp_path / "warehouse", producer)
    keyed.change("+Ia", "+Ib", "+Ic")
    keyed.change("-Db")
    keyed.change("+Ua")
    keyed.expire_below(2)
    source = keyed.source()
    # Rows that a delete hides are counted until they are read past.
    assert 3 <= source.head().num_missing(Position(), EVERYTHING) <= 5
    videos = read_all(source)
    assert _changes(videos) == ["+Ia@2", "+Ic@2", "+Ua@3"]
    keyed.change("-Da")
    assert _changes(read_all(source)) == ["+Ia@2", "+Ic@2", "+Ua@3", "-Da@4"]
    # Cut off in the middle of the first snapshot it goes on there, and after it with changes alone.
    middle = Position(videos[1].row_id)
    assert _changes(_after(source, middle)) == ["+Ic@2", "+Ua@3", "-Da@4"]
    assert 3 <= source.head().num_missing(middle, EVERYTHING) <= 5


@pytest.mark.parametrize("producer", ["lookup", "full-compaction"])
def test_changes_that_a_compaction_brings_are_read_once_and_appends_hold_none(keyed: KeyedTable, producer: str) -> None:
    keyed.change("+Ia", "+Ib")
    keyed.change("+Ua")
    keyed.change("-Db")
    keyed.move_changelogs_into_compactions(producer)
    source = keyed.source()
    begun = Position(first_offset(1))
    videos = _after(source, begun)
    assert sorted(_changes(videos)[:2]) == ["+Ia@2", "+Ib@2"]
    assert _changes(videos)[2:] == ["+Ua@4", "-Db@6"]
    assert source.head().num_missing(begun, EVERYTHING) == 4
    # Who begins with a whole snapshot does not read the changes that made it, nor what no compaction has merged yet.
    keyed.expire_below(4)
    assert [change[2:] for change in _changes(read_all(keyed.source()))] == ["b@6"]


def test_offsets_are_the_same_in_every_read_and_from_every_place(keyed: KeyedTable) -> None:
    for number in range(12):
        keyed.change(*(f"+I{number}-{n}" for n in range(3)))
    source = keyed.source()
    videos = read_all(source)
    assert len(videos) == 36
    assert [(v.row_id, v.video_id) for v in read_all(keyed.source())] == [(v.row_id, v.video_id) for v in videos]
    done = Position.from_ranges(
        [OffsetRange(0, videos[4].row_id), *(OffsetRange(v.row_id, v.row_id + 1) for v in videos[5::2])]
    )
    left = _after(source, done)
    assert [video.row_id for video in left] == [video.row_id for video in videos[4:] if not done.covers(video.row_id)]
    assert source.head().num_missing(done, EVERYTHING) == len(left)


def test_position_that_has_expired_is_an_error_that_names_the_choice(keyed: KeyedTable) -> None:
    for number in range(5):
        keyed.change(f"+I{number}")
    keyed.expire_below(4)
    position = Position(first_offset(2))
    with pytest.raises(
        PositionExpiredError, match=r"snapshots 2 to 3 are needed.*left is 4.*on_expired = \"earliest\""
    ):
        _after(keyed.source(), position)
    # With that choice the keys that stand are read, whatever has expired: the table as it was there.
    videos = _after(keyed.source(OnExpired.EARLIEST), position)
    assert sorted(_changes(videos)[:4]) == ["+I0@4", "+I1@4", "+I2@4", "+I3@4"]
    assert _changes(videos)[4:] == ["+I4@5"]
    # What is finished may expire.
    assert _changes(_after(keyed.source(), Position(first_offset(4)))) == ["+I3@4", "+I4@5"]


def test_snapshots_that_expire_while_they_are_read_are_looked_for_again(keyed: KeyedTable) -> None:
    for name in "abcd":
        keyed.change(f"+I{name}")
    source = keyed.source(OnExpired.EARLIEST)
    end = source.head().next_offset
    items = source.read([OffsetRange(first_offset(2), end)])
    first = next(items)
    assert isinstance(first, RawVideo)
    keyed.expire_below(4)
    # Ended without a word, the rest would pass for read.
    with pytest.raises(StoreUnavailableError, match="snapshot 3 has just gone"):
        list(items)
    rest = _after(source, Position(first.row_id + 1))
    assert sorted(_changes(rest)) == ["+Ia@4", "+Ib@4", "+Ic@4", "+Id@4"]
    with pytest.raises(PositionExpiredError, match="snapshots 2 to 3 are needed"):
        _after(keyed.source(), Position(first.row_id + 1))


def test_snapshot_that_is_missing_among_others_is_an_error_with_a_choice(keyed: KeyedTable) -> None:
    for name in "abc":
        keyed.change(f"+I{name}")
    (Path(keyed.table.snapshot_manager().snapshot_dir) / "snapshot-2").unlink()
    with pytest.raises(UnfollowedSnapshotError, match=r"keyed_videos: snapshot 2 is needed and not there.*`sluice pos"):
        read_all(keyed.source())
    assert _changes(_after(keyed.source(), Position(first_offset(3)))) == ["+Ic@3"]


def test_compactions_are_no_work(keyed: KeyedTable) -> None:
    keyed.change("+Ia")
    path = Path(keyed.table.snapshot_manager().get_snapshot_path(1))
    text = path.read_text()
    compacted = text.replace('"id": 1', '"id": 2').replace('"APPEND"', '"COMPACT"')
    lines = [line for line in compacted.splitlines() if "changelogManifestList" not in line]
    path.with_name("snapshot-2").write_text("\n".join(lines))
    path.with_name("LATEST").write_text("2")
    source = keyed.source()
    assert source.head().snapshot_id == 2
    assert _changes(_after(source, Position(first_offset(1)))) == ["+Ia@1"]
    assert source.head().num_missing(Position(first_offset(2)), EVERYTHING) == 0


def test_append_table_without_row_ids_is_read_snapshot_by_snapshot(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    schema = pa.schema([("video", pa.string())])
    create_raw(config, "plain", schema, {"bucket": "-1"})
    columns = RawColumns(video_id=None, size_bytes=None, etag=None, metadata=())
    for name in ("a", "b"):
        append(config, "plain", [{"video": f"s3://v/{name}{n}.mp4"} for n in range(2)], schema)
    source = open_source(config, "plain", columns)
    assert isinstance(source, ChangelogSource)
    videos = read_all(source)
    assert [video.blob.uri[-6:] for video in videos if video.blob] == ["a0.mp4", "a1.mp4", "b0.mp4", "b1.mp4"]
    assert {(video.key, video.row_kind) for video in videos} == {(None, RowKind.INSERT)}
    assert [video.video_id for video in videos] == [str(video.row_id) for video in videos]


def test_source_is_chosen_by_the_table(keyed: KeyedTable) -> None:
    assert isinstance(open_source(keyed.config, KEYED.raw, COLUMNS), ChangelogSource)
    assert not isinstance(open_source(keyed.config, NAMES.raw), ChangelogSource)


def test_snapshots_that_are_needed_are_protected_also_by_who_only_watches(keyed: KeyedTable) -> None:
    keyed.change("+Ia")
    protect = protector(keyed.config, KEYED.raw, "main", Shard())
    assert protect is not None
    file = Path(keyed.table.table_path) / "consumer" / "consumer-sluice-main"
    protect(Position())
    assert '"nextSnapshot": 1' in file.read_text()
    protect(Position(first_offset(7) + 3))
    # With the one before it, of which an overwrite may have to be told.
    assert '"nextSnapshot": 6' in file.read_text()
    file.unlink()
    progress = PaimonProgress(keyed.config, KEYED, "main", COLUMNS)
    assert progress.last_commit() is None
    assert '"nextSnapshot": 1' in file.read_text()
    origin = progress.origin(first_offset(1))
    assert origin is not None
    assert (origin.snapshot_id, origin.is_exact) == (1, True)
    assert progress.mean_bytes(OffsetRange(0, first_offset(2))) == 100.0
    assert protector(keyed.config, NAMES.raw, "main", Shard(0, 3)) is None
    with pytest.raises(ConfigurationError, match="by one process"):
        protector(keyed.config, KEYED.raw, "main", Shard(0, 3))


def test_snapshots_of_a_branch_are_read_and_protected_there(keyed: KeyedTable) -> None:
    keyed.change("+Ia")
    keyed.table.create_tag("begun")
    keyed.table.branch_manager().create_branch("trial", "begun")
    keyed.change("-Da")
    branch = f"{KEYED.raw}$branch_trial"
    source = ChangelogSource(keyed.config, branch, COLUMNS)
    assert _changes(read_all(source)) == ["+Ia@1"]
    protect = protector(keyed.config, branch, "main", Shard())
    assert protect is not None
    protect(Position())
    path = Path(keyed.table.table_path)
    assert [file.relative_to(path).parts[:2] for file in path.rglob("consumer-*")] == [("branch", "branch-trial")]


def test_file_is_touched_once_a_minute_while_nothing_moves(keyed: KeyedTable) -> None:
    keyed.change("+Ia")
    clock = FakeClock()
    guard = SnapshotGuard(keyed.table, "main", clock)
    file = Path(keyed.table.table_path) / "consumer" / "consumer-sluice-main"
    guard.protect(0)
    file.unlink()
    clock.advance(59)
    guard.protect(0)
    assert not file.exists()
    clock.advance(1)
    guard.protect(0)
    assert file.exists()


def test_existing_raw_table_with_a_primary_key_is_accepted(keyed: KeyedTable) -> None:
    made = create_tables(open_catalog(keyed.config), keyed.config, KEYED, COLUMNS)
    assert made.created == ()


def test_headroom_follows_the_table_s_rules_and_ends_with_an_expired_snapshot(keyed: KeyedTable) -> None:
    for name in "abcd":
        keyed.change(f"+I{name}")
    progress = PaimonProgress(keyed.config, KEYED, "main", COLUMNS)
    unread = progress.retention(first_offset(2))
    assert unread is not None
    assert (unread.needed_id, unread.newest_id) == (2, 4)
    assert (unread.time_retained_s, unread.num_retained_min, unread.num_retained_max) == (3600.0, 10, 2**31 - 1)
    first = progress.origin(first_offset(2))
    assert first is not None
    assert unread.needed_at == first.committed_at
    assert progress.retention(first_offset(5)) is None
    # A consumer that has finished nothing begins with the oldest that is left.
    keyed.expire_below(3)
    begun, lost = progress.retention(0), progress.retention(first_offset(2))
    assert begun is not None
    assert begun.needed_id == 3
    assert lost is not None
    assert lost.needed_at is None


def test_options_of_the_table_rule_its_headroom_and_wrong_ones_are_named(keyed: KeyedTable) -> None:
    keyed.change("+Ia")
    for retained, seconds in (("3 d", 3 * 86400.0), ("90 min", 5400.0)):
        rules = RetentionRules(keyed.table.copy({"snapshot.time-retained": retained, "snapshot.num-retained.min": "2"}))
        found = rules.of(1)
        assert found is not None
        assert (found.time_retained_s, found.num_retained_min) == (seconds, 2)
    with pytest.raises(ConfigurationError, match=r"snapshot\.time-retained = 'soon'"):
        RetentionRules(keyed.table.copy({"snapshot.time-retained": "soon"}))


def test_table_with_row_ids_has_no_headroom(keyed: KeyedTable) -> None:
    assert PaimonProgress(keyed.config, NAMES, "main").retention(0) is None
