"""A table with a primary key that is altered to tell its changes in another way, under a consumer and before it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from consumers.errors import ConfigurationError, UnfollowedSnapshotError
from consumers.paimon.source.changelog_source import ChangelogSource
from consumers.paimon.source.offsets import first_offset
from consumers.paimon.tables import RawColumns
from schemas.positions import OffsetRange, Position
from schemas.records import RawVideo, RowKind
from tests.support.changelog import KeyedTable, read_all
from tests.support.interop import JavaTable, requires_interop

_JAVA = RawColumns(video_id="id", etag=None, metadata=())
_ENDS = {"x": "b", "z": "d"}


def _source(java: JavaTable) -> ChangelogSource:
    return ChangelogSource(java.config, "raw_videos", _JAVA)


def _standing(videos: Sequence[RawVideo]) -> dict[str, str]:
    found: dict[str, str] = {}
    for video in videos:
        assert video.video_id is not None
        assert video.blob is not None
        if video.row_kind is RowKind.DELETE:
            # What is gone and was never told is not told to be gone.
            del found[video.video_id]
        else:
            found[video.video_id] = video.blob.uri.removeprefix("file:///videos/").removesuffix(".mp4")
    return found


def _followed(java: JavaTable, snapshot_ids: Sequence[int], *, is_running: bool) -> list[RawVideo]:
    """Read up to each of the snapshots in turn, as one process or as one after the other."""
    position, met = Position(), list[RawVideo]()
    source: ChangelogSource | None = None
    for snapshot_id in snapshot_ids:
        java.show(snapshot_id)
        source = source if source is not None and is_running else _source(java)
        end = source.head().next_offset
        met += read_all(source, list(position.missing(end)))
        position = Position(end)
    return met


@requires_interop
@pytest.mark.parametrize("is_running", [True, False])
@pytest.mark.parametrize("at", range(2, 9))
@pytest.mark.parametrize(
    "producers", [("none", "lookup"), ("lookup", "none"), ("lookup", "input"), ("input", "lookup")]
)
def test_no_row_is_lost_or_told_twice_whenever_lookup_is_set_or_unset(
    tmp_path: Path, producers: tuple[str, str], at: int, is_running: bool
) -> None:
    java = JavaTable("primary_key_lookup", tmp_path)
    java.alter(1, changelog_producer=producers[0])
    java.alter(at, changelog_producer=producers[1])
    met = _followed(java, range(1, java.num_snapshots + 1), is_running=is_running)
    assert _standing(met) == _ENDS
    told = [(video.video_id, video.blob, video.row_kind) for video in met]
    assert len(set(told)) == len(told)


@requires_interop
@pytest.mark.parametrize("at", range(2, 6))
def test_full_compaction_that_is_set_while_rows_wait_for_one_stops_until_it_has_come(tmp_path: Path, at: int) -> None:
    java = JavaTable("primary_key_full_compaction", tmp_path)
    java.alter(1, changelog_producer="none")
    java.alter(at, changelog_producer="full-compaction")
    met = _followed(java, range(1, at), is_running=False)
    position = Position(first_offset(at))
    for snapshot_id in range(at, 5):
        java.show(snapshot_id)
        source = _source(java)
        with pytest.raises(
            UnfollowedSnapshotError,
            match=rf"raw_videos: snapshot {at} \(APPEND.*full-compaction, those before it by none.*compact the whole",
        ):
            read_all(source, list(position.missing(source.head().next_offset)))
    java.show(5)
    source = _source(java)
    rest = read_all(source, list(position.missing(source.head().next_offset)))
    assert _standing([*met, *rest]) == _ENDS
    # Whoever stops in the middle goes on there, and up to the compaction there is nothing else.
    for number, video in enumerate(rest, 1):
        again = list(Position(video.row_id + 1).missing(source.head().next_offset))
        assert read_all(_source(java), again) == rest[number:]


@requires_interop
def test_producer_that_is_set_back_goes_on_where_it_stopped(tmp_path: Path) -> None:
    java = JavaTable("primary_key_full_compaction", tmp_path)
    java.alter(1, changelog_producer="none")
    java.alter(3, changelog_producer="full-compaction")
    java.alter(4, changelog_producer="none")
    met = _followed(java, [2], is_running=False)
    java.show(3)
    source = _source(java)
    position = Position(first_offset(3))
    with pytest.raises(UnfollowedSnapshotError, match="set changelog-producer = none again"):
        read_all(source, list(position.missing(source.head().next_offset)))
    java.show(5)
    source = _source(java)
    met += read_all(source, list(position.missing(source.head().next_offset)))
    assert _standing(met) == _ENDS


def test_snapshot_that_says_how_changes_were_told_has_expired(tmp_path: Path) -> None:
    keyed = KeyedTable(tmp_path / "warehouse", "none")
    for name in "abc":
        keyed.change(f"+I{name}")
    keyed.alter({"changelog-producer": "lookup"})
    keyed.rewrite_snapshot(3, schemaId=1)
    keyed.expire_below(3)
    with pytest.raises(UnfollowedSnapshotError, match=r"snapshot 3 .*lookup, the table had another.*snapshot 2.*expir"):
        read_all(keyed.source(), [OffsetRange(first_offset(3), first_offset(4))])


def test_input_that_is_set_while_a_writer_knows_of_none_loses_nothing(tmp_path: Path) -> None:
    keyed = KeyedTable(tmp_path / "warehouse", "none")
    keyed.change("+Ia")
    late = keyed.table
    keyed.alter({"changelog-producer": "input"})
    # As Java's writers do: files of the schema that they know, snapshots of the newest.
    keyed.change("+Ib", "-Da", by=late)
    keyed.rewrite_snapshot(2, schemaId=1)
    keyed.change("+Ic")
    begun = [OffsetRange(first_offset(1), first_offset(4))]
    assert {(video.video_id, video.row_kind) for video in read_all(keyed.source(), begun)} == {
        ("a", RowKind.INSERT),
        ("b", RowKind.INSERT),
        ("a", RowKind.DELETE),
        ("c", RowKind.INSERT),
    }


@pytest.mark.parametrize("option", ["num-levels", "num-sorted-run.compaction-trigger"])
def test_number_of_levels_that_is_none_is_named(tmp_path: Path, option: str) -> None:
    keyed = KeyedTable(tmp_path / "warehouse", "full-compaction")
    keyed.set_options({option: "many"})
    with pytest.raises(ConfigurationError, match=rf"keyed_videos: option {option} = 'many' is no whole number"):
        keyed.source()
