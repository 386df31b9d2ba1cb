"""Tables with a primary key: overwritten, written by Java, with changes that mislead; followed right, or refused."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypaimon import Schema
from pypaimon.schema.data_types import AtomicType
from pypaimon.schema.schema_change import SchemaChange
from pypaimon.table.row.blob import BlobDescriptor

from consumers.errors import ConfigurationError, PositionExpiredError, UnfollowedSnapshotError
from consumers.paimon.catalog import open_catalog
from consumers.paimon.reading.audit import audit
from consumers.paimon.source.changelog_source import ChangelogSource
from consumers.paimon.source.difference import difference
from consumers.paimon.source.guard import OnExpired
from consumers.paimon.source.keyed import check_keyed_table
from consumers.paimon.source.offsets import first_offset
from consumers.paimon.source.sources import open_source
from consumers.paimon.tables import RawColumns, create_tables
from schemas.positions import OffsetRange, Position
from schemas.records import RawVideo, RowKind
from schemas.shards import EVERYTHING
from tests.support.changelog import COLUMNS, KEYED, KeyedTable, read_all
from tests.support.consuming import consume, ledgered, standing
from tests.support.interop import JavaTable, requires_interop
from tests.support.warehouse import NAMES, append, create_raw, make_warehouse, table

_JAVA = RawColumns(video_id="id", etag=None, metadata=())


@pytest.fixture
def keyed(tmp_path: Path) -> KeyedTable:
    return KeyedTable(tmp_path / "warehouse")


def _changes(videos: Sequence[RawVideo]) -> list[str]:
    return [f"{video.row_kind.value}{_name(video)}@{video.snapshot_id}" for video in videos]


def _name(video: RawVideo) -> str:
    assert video.blob is not None
    return video.blob.uri.removeprefix("file:///videos/").removesuffix(".mp4")


def _standing(videos: Sequence[RawVideo]) -> dict[str, str]:
    """Return what a consumer holds that has followed ``videos``: by key, the version that counts."""
    found: dict[str, str] = {}
    for video in videos:
        assert video.video_id is not None
        if video.row_kind is RowKind.DELETE:
            found.pop(video.video_id, None)
        else:
            found[video.video_id] = _name(video)
    return found


def test_overwritten_rows_are_the_difference_of_what_was_and_what_is(keyed: KeyedTable) -> None:
    keyed.change("+Ia", "+Ib", "+Ic")
    keyed.overwrite("a", "b/2", "d")
    source = keyed.source()
    begun = Position(first_offset(2))
    videos = read_all(source, list(begun.missing(source.head().next_offset)))
    assert sorted(_changes(videos)) == ["+Ib/2@2", "+Id@2", "-Dc@2"]
    # Told as at least as many until they are read past, and as none after it.
    assert source.head().num_missing(begun, EVERYTHING) >= 3
    assert source.head().num_missing(Position(source.head().next_offset), EVERYTHING) == 0


def test_emptied_table_removes_every_key(keyed: KeyedTable) -> None:
    keyed.change("+Ia", "+Ib")
    keyed.overwrite()
    videos = read_all(keyed.source())
    assert _standing(videos) == {}
    assert sorted(_changes(videos)[2:]) == ["-Da@2", "-Db@2"]


_keys = st.sampled_from("abc")
_operations = st.lists(
    st.one_of(
        st.tuples(st.just("change"), st.dictionaries(_keys, st.integers(0, 3), min_size=1)),
        st.tuples(st.just("overwrite"), st.dictionaries(_keys, st.integers(1, 3))),
    ),
    min_size=1,
    max_size=7,
)


@settings(max_examples=25, deadline=None)
@given(_operations, st.lists(st.integers(0, 20), max_size=3), st.sampled_from(["none", "input"]))
def test_whoever_follows_the_changes_holds_what_the_table_holds(
    operations: list[tuple[str, dict[str, int]]], stops: list[int], producer: str
) -> None:
    """Version 0 is a removal. The reader stops and begins anew at some of its rows."""
    with tempfile.TemporaryDirectory() as folder:
        keyed = KeyedTable(Path(folder), producer)
        expected: dict[str, str] = {}
        for what, versions in operations:
            if what == "overwrite":
                expected = {key: f"{key}/{version}" for key, version in versions.items()}
                keyed.overwrite(*expected.values())
                continue
            keyed.change(*(f"+I{key}/{n}" if n else f"-D{key}" for key, n in versions.items()))
            for key, version in versions.items():
                if version:
                    expected[key] = f"{key}/{version}"
                else:
                    expected.pop(key, None)
        whole = read_all(keyed.source())
        assert _standing(whole) == expected
        parts: list[RawVideo] = []
        end = keyed.source().head().next_offset
        cuts = sorted({whole[stop].row_id + 1 for stop in stops if stop < len(whole)})
        for start, stop in zip([0, *cuts], [*cuts, end], strict=True):
            parts += read_all(keyed.source(), [OffsetRange(start, stop)])
        assert parts == whole


@given(st.dictionaries(st.integers(0, 8), st.integers(0, 2)), st.dictionaries(st.integers(0, 8), st.integers(0, 2)))
def test_difference_turns_one_state_into_the_other_and_tells_nothing_twice(
    before: dict[int, int], after: dict[int, int]
) -> None:
    def rows(state: dict[int, int]) -> list[dict[str, object]]:
        return [{"key": key, "value": value, "kind": "+I"} for key, value in state.items()]

    changes = list(difference(lambda: iter(rows(before)), lambda: iter(rows(after)), ["key"], "kind"))
    standing = dict(before)
    for change in changes:
        if change["kind"] == "-D":
            del standing[change["key"]]
        else:
            assert standing.get(change["key"]) != change["value"]
            standing[change["key"]] = change["value"]
    assert standing == after
    assert len({change["key"] for change in changes}) == len(changes)


def test_state_before_an_overwrite_that_has_expired_is_an_error_with_a_choice(keyed: KeyedTable) -> None:
    keyed.change("+Ia")
    keyed.overwrite("b")
    keyed.change("+Ic")
    keyed.expire_below(2)
    begun = [OffsetRange(first_offset(2), first_offset(4))]
    with pytest.raises(UnfollowedSnapshotError, match=r"snapshot 2 \(.*replaces rows.*snapshot 1.*has expired.*pos"):
        read_all(keyed.source(), begun)
    # Who begins takes it as a whole, and needs nothing that was before.
    assert _standing(read_all(keyed.source())) == {"b": "b", "c": "c"}
    assert _changes(read_all(keyed.source(), [OffsetRange(first_offset(3), first_offset(4))])) == ["+Ic@3"]


def test_snapshot_of_a_kind_that_is_not_known_is_never_counted_as_read(keyed: KeyedTable) -> None:
    keyed.change("+Ia")
    keyed.change("+Ib")
    keyed.change("+Ic")
    keyed.rewrite_snapshot(2, commitKind="REWRITE")
    with pytest.raises(UnfollowedSnapshotError, match=r"snapshot 2 \(REWRITE, .* UTC\) is of a kind that is not known"):
        read_all(keyed.source())
    beyond = [OffsetRange(first_offset(3), first_offset(4))]
    assert _changes(read_all(keyed.source(), beyond)) == ["+Ic@3"]


def test_overwrite_of_a_table_without_keys_is_an_error_with_a_choice(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path)
    schema = pa.schema([pa.field("name", pa.string()), pa.field("uri", pa.string())])
    create_raw(config, "plain", schema, {"bucket": "-1"})
    columns = RawColumns(video_id="name", video="uri", size_bytes=None, etag=None, metadata=())
    for name, overwrites in (("a", False), ("b", True)):
        builder = table(config, "plain").new_batch_write_builder()
        if overwrites:
            builder = builder.overwrite({})
        writer, commit = builder.new_write(), builder.new_commit()
        writer.write_arrow(pa.Table.from_pylist([{"name": name, "uri": f"file:///{name}.mp4"}], schema=schema))
        commit.commit(writer.prepare_commit())
        writer.close()
        commit.close()
    source = open_source(config, "plain", columns)
    assert isinstance(source, ChangelogSource)
    with pytest.raises(
        UnfollowedSnapshotError, match=r"plain: snapshot 2 \(OVERWRITE.*without a primary key.*position"
    ):
        list(source.read([OffsetRange(0, first_offset(3))]))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"merge-engine": "partial-update"}, "merge-engine partial-update"),
        ({"merge-engine": "aggregation"}, "merge-engine aggregation"),
        ({"merge-engine": "first-row"}, "merge-engine first-row"),
        ({"sequence.field": "size_bytes"}, "sequence.field size_bytes"),
        ({"deletion-vectors.enabled": "true"}, "deletion-vectors.enabled"),
        ({"bucket": "-2"}, "bucket -2"),
        ({"ignore-delete": "true"}, "ignore-delete"),
    ],
)
@pytest.mark.parametrize("producer", ["none", "input"])
def test_table_whose_changes_mislead_is_refused_with_the_producer_to_set(
    tmp_path: Path, producer: str, options: dict[str, str], named: str
) -> None:
    keyed = KeyedTable(tmp_path, producer)
    keyed.set_options(options)
    with pytest.raises(ConfigurationError, match=rf"keyed_videos: {named}.*set changelog-producer = lookup"):
        keyed.source()
    for by_compaction in ("lookup", "full-compaction"):
        keyed.set_options({"changelog-producer": by_compaction})
        check_keyed_table(keyed.table, COLUMNS.names())


@pytest.mark.parametrize("producer", ["none", "input", "lookup", "full-compaction"])
def test_table_whose_rows_expire_untold_is_refused(tmp_path: Path, producer: str) -> None:
    keyed = KeyedTable(tmp_path, producer)
    keyed.set_options({"record-level.expire-time": "1 d", "record-level.time-field": "size_bytes"})
    with pytest.raises(ConfigurationError, match=r"keyed_videos: record-level\.expire-time 1 d: .*unset it"):
        keyed.source()


def test_changelog_that_leaves_out_changes_of_a_mapped_column_is_refused(tmp_path: Path) -> None:
    keyed = KeyedTable(tmp_path, "lookup")
    name = "changelog-producer.row-deduplicate"
    keyed.set_options({name: "true", f"{name}-ignore-fields": "kind"})
    keyed.source()
    keyed.set_options({f"{name}-ignore-fields": "kind, video"})
    with pytest.raises(ConfigurationError, match=r"row-deduplicate-ignore-fields names video: .*take out what is mapp"):
        keyed.source()


def test_what_was_written_before_a_producer_was_set_counts_as_the_table_says(tmp_path: Path) -> None:
    keyed = KeyedTable(tmp_path, "none")
    keyed.set_options({"sequence.field": "size_bytes"})
    keyed.change("+Ia/2", "+Ib/1")
    # Late, and of no account.
    keyed.change("+Ia/1", "+Ib/3")
    keyed.alter({"changelog-producer": "lookup"})
    assert sorted(_changes(read_all(keyed.source()))) == ["+Ia/2@1", "+Ib/1@1", "+Ib/3@2"]


@pytest.mark.parametrize("bucket", ["-1", "4"])
@pytest.mark.parametrize("producer", ["none", "input"])
def test_table_of_several_buckets_is_followed(tmp_path: Path, producer: str, bucket: str) -> None:
    keyed = KeyedTable(tmp_path, producer, bucket=bucket)
    names = [f"v{number}" for number in range(12)]
    keyed.change(*(f"+I{name}" for name in names))
    keyed.change(*(f"+I{name}/2" for name in names[::2]), *(f"-D{name}" for name in names[1::4]))
    expected = {name: f"{name}/2" if n % 2 == 0 else name for n, name in enumerate(names) if n % 4 != 1}
    assert _standing(read_all(keyed.source())) == expected
    keyed.overwrite("v1")
    keyed.change("+Iv2")
    assert _standing(read_all(keyed.source())) == {"v1": "v1", "v2": "v2"}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"merge-engine": "partial-update", "partial-update.remove-record-on-delete": "true"}, "remove-record-on-dele"),
        ({"sequence.field": "nobody"}, "nobody"),
    ],
)
def test_table_that_pypaimon_cannot_merge_is_refused_at_the_start(
    keyed: KeyedTable, options: dict[str, str], named: str
) -> None:
    keyed.set_options({"changelog-producer": "lookup", **options})
    with pytest.raises(ConfigurationError, match=rf"keyed_videos: pypaimon cannot read it.*{named}"):
        keyed.source()


def test_column_that_is_made_anew_is_read_as_the_newest_schema_says(keyed: KeyedTable) -> None:
    keyed.change("+Ia")
    source = keyed.source()
    begun = source.head().next_offset
    catalog = open_catalog(keyed.config)
    name = f"{keyed.config.database}.{KEYED.raw}"
    # A reader of the old schema finds the old column, which new rows do not have.
    catalog.alter_table(name, [SchemaChange.drop_column("video")], False)
    catalog.alter_table(name, [SchemaChange.add_column("video", AtomicType("BYTES"))], False)
    fields = {"id": pa.string(), "size_bytes": pa.int64(), "kind": pa.string(), "video": pa.binary()}
    schema = pa.schema([pa.field(column, kind, nullable=column != "id") for column, kind in fields.items()])
    video = BlobDescriptor("file:///videos/b.mp4", 0, -1).serialize()
    append(keyed.config, KEYED.raw, [{"id": "b", "size_bytes": 1, "kind": "+I", "video": video}], schema)
    videos = read_all(source, [OffsetRange(begun, source.head().next_offset)])
    assert _changes(videos) == ["+Ib@2"]
    catalog.alter_table(name, [SchemaChange.rename_column("video", "clip")], False)
    keyed.overwrite()
    with pytest.raises(ConfigurationError, match="column video is mapped in the settings, but the table has"):
        source.head()


@pytest.mark.parametrize("producer", ["none", "input"])
def test_key_that_moves_to_another_partition_stands_there(tmp_path: Path, producer: str) -> None:
    moved = _Partitioned(tmp_path, producer)
    moved.change(("a", "2", "+I"), ("b", "1", "+I"), ("c", "1", "+I"))
    moved.change(("a", "2", "-D"), ("a", "1", "+I"), ("b", "1", "-D"), ("b", "3", "+I"), ("c", "1", "-D"))
    source = moved.source()
    videos = read_all(source, [OffsetRange(first_offset(1), source.head().next_offset)])
    assert _standing(videos) == {"a": "a-1", "b": "b-3"}
    assert read_all(moved.source(), [OffsetRange(videos[5].row_id, source.head().next_offset)]) == videos[5:]


@pytest.mark.parametrize("producer", ["lookup", "full-compaction"])
def test_moving_keys_whose_changes_compactions_tell_apart_are_refused(tmp_path: Path, producer: str) -> None:
    with pytest.raises(ConfigurationError, match=r"db\.moving: its primary key lacks a partition.*none or input"):
        _Partitioned(tmp_path, producer).source()


class _Partitioned:
    """A table whose key does not hold the partition. Java wants ``bucket`` -1 there, which pypaimon cannot write."""

    _SCHEMA = pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("day", pa.string()),
            pa.field("uri", pa.string()),
            pa.field("kind", pa.string()),
        ]
    )

    def __init__(self, folder: Path, producer: str) -> None:
        self._config = make_warehouse(folder)
        options = {"bucket": "1", "changelog-producer": producer, "rowkind.field": "kind"}
        schema = Schema.from_pyarrow_schema(self._SCHEMA, partition_keys=["day"], primary_keys=["id"], options=options)
        open_catalog(self._config).create_table("db.moving", schema, False)

    def change(self, *rows: tuple[str, str, str]) -> None:
        told = [
            {"id": name, "day": day, "uri": f"file:///videos/{name}-{day}.mp4", "kind": kind}
            for name, day, kind in rows
        ]
        append(self._config, "moving", told, self._SCHEMA)

    def source(self) -> ChangelogSource:
        columns = RawColumns(video_id="id", video="uri", size_bytes=None, etag=None, metadata=())
        return ChangelogSource(self._config, "moving", columns)


def test_many_expired_snapshots_and_no_hint_are_found_by_listing(keyed: KeyedTable) -> None:
    for number in range(4):
        keyed.change(f"+I{number}")
    folder = Path(keyed.table.snapshot_manager().snapshot_dir)
    # As if 500 snapshots had gone before them.
    for number in range(4, 0, -1):
        keyed.rewrite_snapshot(number, id=number + 500)
        (folder / f"snapshot-{number}").rename(folder / f"snapshot-{number + 500}")
    (folder / "LATEST").write_text("504")
    for hint in (None, "1", "502", "900", "nonsense"):
        (folder / "EARLIEST").unlink(missing_ok=True)
        if hint is not None:
            (folder / "EARLIEST").write_text(hint)
        source = keyed.source()
        assert _changes(read_all(source)) == ["+I0@501", "+I1@502", "+I2@503", "+I3@504"]
        with pytest.raises(PositionExpiredError, match="left is 501"):
            read_all(source, [OffsetRange(first_offset(3), first_offset(505))])


def test_keys_that_stand_are_read_where_their_changes_have_expired(keyed: KeyedTable) -> None:
    keyed.change("+Ia", "+Ib")
    keyed.change("+Ic")
    keyed.change("+Ib/2")
    keyed.change("+Id")
    keyed.expire_below(4)
    source = keyed.source(OnExpired.EARLIEST)
    # The first snapshot was done; of c, and of the second version of b, nothing is left but the table itself.
    position = Position(first_offset(2))
    videos = read_all(source, list(position.missing(source.head().next_offset)))
    assert _standing(videos) == {"a": "a", "b": "b/2", "c": "c", "d": "d"}
    # Cut off in the middle it goes on there.
    rest = Position(videos[1].row_id + 1)
    assert read_all(source, list(rest.missing(source.head().next_offset))) == videos[2:]


@requires_interop
@pytest.mark.parametrize(
    ("name", "by_snapshot"),
    [
        ("primary_key_none", {1: "x:a y:b", 2: "x:c y:b z:d", 3: "x:c z:d", 4: "x:b z:d", 5: "x:b z:d"}),
        ("primary_key_input", {1: "x:a y:b", 2: "x:c y:b z:d", 3: "x:c z:d", 4: "x:b z:d", 5: "x:b z:d"}),
        (
            "primary_key_lookup",
            {1: "", 2: "x:a y:b", 3: "x:a y:b", 4: "x:c y:b z:d", 5: "x:c y:b z:d", 6: "x:c z:d", 8: "x:b z:d"},
        ),
        ("primary_key_full_compaction", {1: "", 4: "", 5: "x:b z:d"}),
        ("primary_key_blob_descriptor", {1: "x:a y:b"}),
    ],
)
@pytest.mark.parametrize("begins_at", [1, 2, 4])
def test_tables_of_java_are_followed_snapshot_by_snapshot(
    tmp_path: Path, name: str, by_snapshot: dict[int, str], begins_at: int
) -> None:
    java = JavaTable(name, tmp_path)
    position, met = Position(), list[RawVideo]()
    for snapshot_id, expected in by_snapshot.items():
        if snapshot_id < min(begins_at, java.num_snapshots):
            continue
        java.show(snapshot_id)
        source = ChangelogSource(java.config, "raw_videos", _JAVA)
        end = source.head().next_offset
        met += read_all(source, list(position.missing(end)))
        position = Position(end)
        assert _standing(met) == dict(pair.split(":") for pair in expected.split())
    assert all(video.defect is None for video in met)
    kept = {(video.video_id, _name(video), video.row_kind) for video in met}
    assert len(kept) == len(met), "nothing is told twice"


@requires_interop
def test_removal_that_no_compaction_has_told_is_told_by_the_overwrite(tmp_path: Path) -> None:
    java = JavaTable("primary_key_lookup", tmp_path)
    # The fifth snapshot deletes y, and the compaction that would tell so has not come.
    java.show(5)
    source = ChangelogSource(java.config, "raw_videos", _JAVA)
    met = read_all(source)
    assert _standing(met) == {"x": "c", "y": "b", "z": "d"}
    builder = table(java.config, "raw_videos").new_batch_write_builder().overwrite({})
    writer, commit = builder.new_write(), builder.new_commit()
    commit.commit(writer.prepare_commit())
    writer.close()
    commit.close()
    met += read_all(source, [OffsetRange(first_offset(6), source.head().next_offset)])
    assert _standing(met) == {}


@requires_interop
def test_compaction_of_an_overwrite_is_read_though_no_changelog_tells_of_it(tmp_path: Path) -> None:
    java = JavaTable("primary_key_lookup", tmp_path)
    java.show(2)
    # As Java commits an overwrite: its files, then their compaction, both without a changelog.
    java.rewrite_snapshot(1, commitKind="OVERWRITE")
    java.rewrite_snapshot(2, changelogManifestList=None, changelogRecordCount=None)
    source = ChangelogSource(java.config, "raw_videos", _JAVA)
    assert _standing(read_all(source)) == {"x": "a", "y": "b"}
    assert source.head().num_missing(Position(first_offset(2)), EVERYTHING) >= 2


@requires_interop
@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("primary_key_none", {"x": "b", "z": "d"}),
        ("primary_key_input", {"x": "b", "z": "d"}),
        ("primary_key_lookup", {"x": "b", "z": "d"}),
        ("primary_key_full_compaction", {"x": "b", "z": "d"}),
        ("primary_key_blob_descriptor", {"x": "a", "y": "b"}),
    ],
)
@pytest.mark.parametrize("stride", [1, 2, 10])
def test_tables_of_java_end_right_in_curated_and_ledger(
    tmp_path: Path, name: str, ends: dict[str, str], stride: int
) -> None:
    java = JavaTable(name, tmp_path)
    create_tables(open_catalog(java.config), java.config, NAMES, _JAVA)
    seen: list[str] = []
    for newest in [*range(1, java.num_snapshots, stride), java.num_snapshots]:
        java.show(newest)
        consume(java.config, _JAVA, seen=seen)
        report = audit(java.config, NAMES, "main", columns=_JAVA)
        assert report.is_clean, (newest, report)
    assert standing(java.config) == Counter(dict.fromkeys(ends, 2))
    newest_of: dict[object, object] = {}
    for _, video_id, uri in ledgered(java.config, ("source_row_id", "video_id", "source_uri")):
        newest_of[video_id] = uri
    assert {key: newest_of[key] for key in ends} == {key: f"file:///videos/{video}.mp4" for key, video in ends.items()}
