"""Whatever the chain of commits: the marker that is found by what commits say of others is that found one by one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from consumers.paimon.commit.markers import Marker, newest_as_of, newest_marker, read_division
from consumers.paimon.commit.newest import NewestMarkers
from schemas.positions import Position
from schemas.shards import Shard, Share
from schemas.tables import PROPERTY_NEWEST


@dataclass
class _Snapshot:
    id: int
    commit_user: str = "foreign"
    properties: dict[str, str] | None = None
    commit_identifier: int = 0
    commit_kind: str = "APPEND"
    time_millis: int = 0


@dataclass
class _Chain:
    """Snapshots as real writers would make them; what is not in it has expired."""

    kept: dict[int, _Snapshot] = field(default_factory=dict)
    num_reads: int = 0

    @property
    def latest(self) -> _Snapshot | None:
        return self.kept[max(self.kept)] if self.kept else None

    def get_snapshot_by_id(self, snapshot_id: int) -> Any:
        self.num_reads += 1
        if snapshot_id not in self.kept:
            raise FileNotFoundError(snapshot_id)
        return self.kept[snapshot_id]

    def foreign(self) -> None:
        self._add(_Snapshot(self._next))

    def copy(self) -> None:
        """As Java's ``compact_manifest`` does."""
        before = self.latest
        self._add(_Snapshot(self._next, "java", None if before is None else before.properties, 2**63 - 1, "COMPACT"))

    def commit(self, consumer: str, shard: Shard, *, is_division: bool = False, is_old: bool = False) -> None:
        number = self._next
        user = f"sluice-{consumer}-{number}"
        marker = Marker(
            consumer, "db.raw", 1, number, Position(number), user, share=Share(shard), is_division=is_division
        )
        properties = marker.to_properties()
        if not is_old:
            properties[PROPERTY_NEWEST] = newest_as_of(self, self.latest).to_json()
        self._add(_Snapshot(number, user, properties, number))

    def expire(self, num_left: int) -> None:
        for snapshot_id in sorted(self.kept)[:-num_left]:
            del self.kept[snapshot_id]

    @property
    def _next(self) -> int:
        return max(self.kept, default=0) + 1

    def _add(self, snapshot: _Snapshot) -> None:
        self.kept[snapshot.id] = snapshot


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.sampled_from("abc"), st.integers(0, 2), st.booleans()),
        st.tuples(st.just("divide"), st.sampled_from("abc"), st.integers(1, 3), st.booleans()),
        st.tuples(st.sampled_from(["foreign", "copy"]), st.none(), st.just(1), st.booleans()),
        st.tuples(st.just("expire"), st.none(), st.integers(1, 12), st.booleans()),
    ),
    max_size=30,
)


def _made(steps: list[tuple[str, str | None, int, bool]], *, is_old: bool = False) -> _Chain:
    chain, counts = _Chain(), {"a": 1, "b": 1, "c": 1}
    for what, consumer, number, is_old_version in steps:
        old = is_old or is_old_version
        if what == "foreign":
            chain.foreign()
        elif what == "copy":
            chain.copy()
        elif what == "expire":
            chain.expire(number)
        elif consumer is not None and what == "divide":
            counts[consumer] = number
            chain.commit(consumer, Shard(0, number), is_division=True, is_old=old)
        elif consumer is not None:
            chain.commit(consumer, Shard(number % counts[consumer], counts[consumer]), is_old=old)
    return chain


@given(_STEPS, st.sampled_from("abcd"))
def test_newest_marker_is_the_one_that_a_look_at_each_snapshot_finds(
    steps: list[tuple[str, str | None, int, bool]], consumer: str
) -> None:
    chain = _made(steps)
    for shard in (Shard(), *(Shard(index, 3) for index in range(3))):
        found = newest_marker(chain, consumer, chain.latest, 0, 1000, lambda m, s=shard: m.concerns(s))  # type: ignore[misc]
        each = newest_marker(chain, consumer, chain.latest, 0, 1000, lambda m, s=shard: m.concerns(s), is_each=True)  # type: ignore[misc]
        if each.is_complete and each.marker is not None:
            assert found == each
        else:
            # What a commit tells of others outlives their snapshots: it can only know more.
            assert found.marker is None


@given(_STEPS, st.sampled_from("abcd"))
def test_division_is_the_one_that_old_commits_without_a_word_of_others_give(
    steps: list[tuple[str, str | None, int, bool]], consumer: str
) -> None:
    chain, plain = _made(steps), _made(steps, is_old=True)
    found, expected = (read_division(each, consumer, each.latest, 1000) for each in (chain, plain))
    assert (found[0] is None) == (expected[0] is None)
    if found[0] is not None and expected[0] is not None:
        strip = {index: (m.snapshot_id, m.position) for index, m in found[0].markers.items()}
        assert strip == {index: (m.snapshot_id, m.position) for index, m in expected[0].markers.items()}
        assert found[0].count == expected[0].count
        assert found[0].is_complete >= expected[0].is_complete


def test_consumer_that_has_finished_is_found_in_two_reads_however_many_commits_others_have_made_since() -> None:
    chain = _Chain()
    for index in (2, 0, 1):
        chain.commit("films", Shard(index, 3))
    for _ in range(3000):
        chain.commit("books", Shard())
    chain.num_reads = 0
    walk = newest_marker(chain, "films", chain.latest, 0, 1000, lambda marker: marker.shard == Shard(0, 3))
    assert walk.marker is not None
    assert walk.marker.snapshot_id == 2
    assert chain.num_reads <= 2
    division, is_known = read_division(chain, "films", chain.latest, 1000)
    assert is_known
    assert division is not None
    assert {index: marker.snapshot_id for index, marker in division.markers.items()} == {2: 1, 0: 2, 1: 3}
    assert newest_marker(chain, "posters", chain.latest, 0, 1000).is_complete


def test_what_is_told_stays_small_and_says_when_it_leaves_something_out() -> None:
    chain = _Chain()
    chain.commit("films", Shard())
    snapshot = chain.latest
    assert snapshot is not None
    assert snapshot.properties is not None
    told = NewestMarkers({f"consumer {number}": {"0/1": number} for number in range(5000)})
    told = told.after(replace(snapshot, id=6000))
    assert sum(map(len, told.ids.values())) == 4096
    assert told.ids["films"] == {"0/1": 6000}
    assert "consumer 0" not in told.ids
    assert not told.is_complete
    assert NewestMarkers.from_json(told.to_json()) == told
