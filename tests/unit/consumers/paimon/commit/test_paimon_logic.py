from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.errors import FencedError, StopError
from consumers.paimon.commit.fence import AlreadyPublishedError, Fence
from consumers.paimon.commit.ledger_index import LedgerIndex, as_ranges, contained, digests
from consumers.paimon.commit.markers import Marker, newest_marker
from schemas.positions import OffsetRange, Position

_offsets = st.frozensets(st.integers(0, 60))


def _ranges(offsets: frozenset[int]) -> list[OffsetRange]:
    return list(as_ranges(np.array(sorted(offsets), dtype=np.int64)))


def _offsets_of(ranges: list[OffsetRange]) -> list[int]:
    return [offset for item in ranges for offset in range(item.start, item.end)]


@given(_offsets)
def test_ranges_hold_exactly_the_offsets_they_were_made_of(offsets: frozenset[int]) -> None:
    ranges = _ranges(offsets)
    assert _offsets_of(ranges) == sorted(offsets)
    assert all(a.end < b.start for a, b in pairwise(ranges))


_clip_id = st.one_of(st.text(max_size=40), st.binary(min_size=16, max_size=16).map(bytes.hex))


@given(st.lists(_clip_id, max_size=20), st.lists(_clip_id, max_size=20))
def test_digests_tell_which_ids_are_in_a_set(wanted: list[str], within: list[str]) -> None:
    within = within + wanted[::2]
    found = contained(digests(wanted), np.sort(digests(within)))
    assert found.tolist() == [clip_id in within for clip_id in wanted]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4)), max_size=20))
def test_latest_run_is_the_highest_of_each_row(rows: list[tuple[int, int]]) -> None:
    index = LedgerIndex(
        np.array([row for row, _ in rows], dtype=np.int64),
        np.array([run for _, run in rows], dtype=np.int32),
        np.zeros(len(rows), dtype="S16"),
        np.empty(0, dtype=np.int64),
        digests([]),
        0,
        0,
    )
    newest = {row: max(run for other, run in rows if other == row) for row, _ in rows}
    assert index.latest().tolist() == [run == newest[row] for row, run in rows]


@dataclass
class _Snapshot:
    id: int
    commit_user: str = "foreign"
    properties: dict[str, str] | None = None
    commit_identifier: int = 0
    commit_kind: str = "APPEND"
    uuid: str | None = None
    time_millis: int = 1_700_000_000_000


@dataclass
class _Snapshots:
    """A snapshot folder: what is not in it has expired."""

    kept: dict[int, _Snapshot] = field(default_factory=dict)
    num_reads: int = 0

    def add(self, snapshot_id: int, user: str = "foreign", marker: Marker | None = None) -> _Snapshot:
        snapshot = _Snapshot(snapshot_id, user)
        if marker is not None:
            snapshot = _Snapshot(snapshot_id, user, replace(marker, commit_user=user).to_properties(), marker.sequence)
        self.kept[snapshot_id] = snapshot
        return snapshot

    def get_snapshot_by_id(self, snapshot_id: int) -> Any:
        self.num_reads += 1
        if snapshot_id not in self.kept:
            raise FileNotFoundError(snapshot_id)
        return self.kept[snapshot_id]


def _marker(epoch: int = 1, sequence: int = 5, consumer: str = "main") -> Marker:
    return Marker(consumer, "db.raw", epoch, sequence, Position(3, (OffsetRange(5, 7),)), "me")


def test_marker_survives_the_snapshot_properties() -> None:
    snapshot = _Snapshot(9, "me", _marker().to_properties(), 5)
    found = Marker.of_snapshot(snapshot, "main")
    assert found == Marker("main", "db.raw", 1, 5, Position(3, (OffsetRange(5, 7),)), "me", 9)
    assert Marker.of_snapshot(snapshot, "other") is None


@pytest.mark.parametrize(
    ("user", "identifier", "kind"), [("other", 5, "APPEND"), ("me", 6, "APPEND"), ("other", 2**63 - 1, "COMPACT")]
)
def test_marker_counts_only_in_the_commit_that_it_was_made_for(user: str, identifier: int, kind: str) -> None:
    assert Marker.of_snapshot(_Snapshot(9, user, _marker().to_properties(), identifier, kind), "main") is None


def test_marker_of_an_earlier_version_counts_by_its_commit_users_prefix() -> None:
    properties = _marker().to_properties()
    del properties["sluice.commit_user"]
    by_us = _Snapshot(9, "sluice-main-1234", properties, 5)
    assert Marker.of_snapshot(by_us, "main") is not None
    assert Marker.of_snapshot(replace(by_us, commit_user="8d573d06"), "main") is None
    assert Marker.of_snapshot(replace(by_us, commit_kind="COMPACT"), "main") is None


def test_damaged_marker_stops_rather_than_counts_as_none() -> None:
    properties = {**_marker().to_properties(), "sluice.position": "{"}
    with pytest.raises(StopError, match="snapshot 9: the marker of consumer main is damaged"):
        Marker.of_snapshot(_Snapshot(9, "me", properties, 5), "main")


def test_walk_finds_the_newest_marker_and_reads_no_further() -> None:
    snapshots = _Snapshots()
    snapshots.add(1, "me", _marker(sequence=1))
    snapshots.add(2, "me", _marker(sequence=2))
    latest = [snapshots.add(number) for number in (3, 4)][-1]
    walk = newest_marker(snapshots, "main", latest, 0, 100)
    assert walk.marker is not None
    assert walk.marker.sequence == 2
    assert snapshots.num_reads == 2


@pytest.mark.parametrize(("first", "limit", "is_complete"), [(1, 100, True), (2, 100, False), (1, 3, False)])
def test_walk_says_whether_a_marker_may_have_existed(first: int, limit: int, is_complete: bool) -> None:
    snapshots = _Snapshots()
    latest = [snapshots.add(number) for number in range(first, 6)][-1]
    walk = newest_marker(snapshots, "main", latest, 0, limit)
    assert (walk.marker, walk.is_complete) == (None, is_complete)


def test_fence_lets_foreign_commits_pass_and_stops_at_a_copy() -> None:
    snapshots, fence = _Snapshots(), Fence("main", "me", "db.t")
    fence.seen(snapshots.add(1, "me", _marker()))
    fence.check(snapshots, snapshots.add(2))
    fence.check(snapshots, snapshots.add(3, "else", _marker(consumer="other")))
    with pytest.raises(FencedError, match="epoch 2"):
        fence.check(snapshots, snapshots.add(4, "copy", _marker(epoch=2)))


def test_fence_sees_a_copy_behind_later_foreign_commits() -> None:
    snapshots, fence = _Snapshots(), Fence("main", "me", "db.t")
    fence.seen(snapshots.add(1, "me", _marker()))
    snapshots.add(2, "copy", _marker(epoch=2))
    with pytest.raises(FencedError):
        fence.check(snapshots, snapshots.add(3))


def test_fence_says_when_the_commit_under_way_is_already_there() -> None:
    snapshots, fence = _Snapshots(), Fence("main", "me", "db.t")
    fence.seen(snapshots.add(1, "me", _marker()))
    fence.committing = 6
    fence.check(snapshots, snapshots.add(2))
    with pytest.raises(AlreadyPublishedError):
        fence.check(snapshots, snapshots.add(3, "me", _marker(sequence=6)))
    assert fence.own is not None
    assert fence.own.snapshot_id == 3
