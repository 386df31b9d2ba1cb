"""Shards and changes of their number, in a model: every offset is done once, whatever happens in between."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.members.sharding import share_of
from consumers.ports import SourceHead
from consumers.testing import FakeSource, make_video
from schemas.positions import OffsetRange, Position
from schemas.records import RawVideo
from schemas.shards import Base, Shard, Share, bases_from_json, bases_to_json, owned_part, rebased

_shards = st.integers(1, 5).flatmap(lambda count: st.builds(Shard, st.integers(0, count - 1), st.just(count)))
_offsets = st.sets(st.integers(0, 60))


def _position(offsets: set[int]) -> Position:
    return Position.from_ranges(OffsetRange(offset, offset + 1) for offset in offsets)


@pytest.mark.parametrize("text", ["3/3", "5/2", "0/0", "-1/2", "1", "1/2/3", "a/b", "0/2000", ""])
def test_shard_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="shard"):
        Shard.parse(text)


@settings(deadline=None)
@given(_shards, st.integers(0, 50), st.integers(1, 50))
def test_owned_offsets_are_counted_and_listed_alike(shard: Shard, start: int, length: int) -> None:
    offsets = OffsetRange(start, start + length)
    owned = [offset for offset in range(start, start + length) if shard.owns(offset)]
    assert shard.num_owned(offsets) == len(owned)
    assert list(owned_part(shard, [offsets])) == owned


@settings(deadline=None)
@given(_shards, _offsets)
def test_filled_position_covers_exactly_the_own_offsets_and_is_compact(shard: Shard, numbers: set[int]) -> None:
    position = shard.fill(_position(numbers).ranges())
    own = range(shard.index, 62 * shard.count, shard.count)
    assert {offset // shard.count for offset in own if position.covers(offset)} == numbers
    assert len(position.ranges()) == len(_position(numbers).ranges())


@settings(deadline=None)
@given(_shards, st.lists(st.tuples(_shards, _offsets), max_size=3), _offsets, st.integers(0, 80))
def test_missing_offsets_are_counted_one_by_one(
    shard: Shard, old: list[tuple[Shard, set[int]]], done: set[int], end: int
) -> None:
    bases = tuple(Base(each, _position(offsets)) for each, offsets in old)
    share, position = Share(shard, bases), _position(done)
    expected = sum(shard.owns(offset) and not share.covers(position, offset) for offset in range(end))
    assert share.num_missing(position, end) == expected
    assert bases_from_json(bases_to_json(bases)) == bases


def test_rows_of_others_pass_as_ranges_that_are_not_counted_as_gone() -> None:
    source = FakeSource(7)
    source.delete(3)
    items = list(share_of(source, Share(Shard(1, 3))).read([OffsetRange(0, 7)]))
    assert [item.row_id for item in items if isinstance(item, RawVideo)] == [1, 4]
    skipped = [(item.range, item.is_expected) for item in items if not isinstance(item, RawVideo)]
    assert skipped == [
        (OffsetRange(0, 1), True),
        (OffsetRange(2, 3), True),
        (OffsetRange(3, 4), False),
        (OffsetRange(5, 7), True),
    ]
    assert share_of(source, Share()) is source


class _Model:
    """Shards over a source that grows: what is written, by whom, and the positions that are durable."""

    def __init__(self) -> None:
        self.source = FakeSource()
        self.num_rows = 0
        self.written: Counter[int] = Counter()
        self.shards: dict[int, tuple[Share, Position]] = {0: (Share(), Position())}

    def append(self, count: int) -> None:
        self.source.append(*(make_video(self.num_rows + n) for n in range(count)))
        self.num_rows += count

    def commit(self, shard: int, choose: list[bool]) -> None:
        """Read everything that is left and finish the rows that ``choose`` picks: those not finished are a crash's."""
        share, position = self.shards[shard % len(self.shards)]
        gaps = list(position.missing(self.head().next_offset))
        done: list[OffsetRange] = []
        for number, item in enumerate(share_of(self.source, share).read(gaps)):
            if not isinstance(item, RawVideo):
                done.append(item.range)
            elif choose and choose[number % len(choose)]:
                self.written[item.row_id] += 1
                done.append(OffsetRange(item.row_id, item.row_id + 1))
        after = position.union(done)
        self.shards[shard % len(self.shards)] = (share.pruned(after), after)

    def rescale(self, count: int) -> None:
        floor, bases = rebased(self.shards.values())
        self.shards = {index: (Share(Shard(index, count), bases), floor) for index in range(count)}

    def head(self) -> SourceHead:
        return self.source.head()


_step = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 9)),
    st.tuples(st.just("commit"), st.tuples(st.integers(0, 5), st.lists(st.booleans(), min_size=1, max_size=5))),
    st.tuples(st.just("rescale"), st.integers(1, 4)),
)


@settings(deadline=None)
@given(st.lists(_step, max_size=25))
def test_any_interleaving_of_commits_and_rescales_does_every_offset_once(steps: list[tuple[str, object]]) -> None:
    model = _Model()
    for name, argument in steps:
        if name == "commit":
            model.commit(*argument)  # type: ignore[misc]
        else:
            getattr(model, name)(argument)
        end = model.num_rows
        left = sum(share.num_missing(position, end) for share, position in model.shards.values())
        assert left == end - sum(model.written.values())
    for shard in range(len(model.shards)):
        model.commit(shard, [True])
    assert model.written == Counter(range(model.num_rows))
    assert all(share.bases == () or model.num_rows == 0 for share, _ in model.shards.values())
