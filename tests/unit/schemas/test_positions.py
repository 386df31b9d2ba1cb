import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.positions import OffsetRange, Position

offsets = st.integers(min_value=0, max_value=40)
ranges = st.tuples(offsets, st.integers(min_value=1, max_value=10)).map(lambda p: OffsetRange(p[0], p[0] + p[1]))
some_ranges = st.lists(ranges, max_size=8)


def offsets_of(position: Position) -> set[int]:
    return {offset for r in position.ranges() for offset in range(r.start, r.end)}


@given(some_ranges)
def test_position_of_any_ranges_finishes_exactly_their_offsets(given_ranges: list[OffsetRange]) -> None:
    expected = {offset for r in given_ranges for offset in range(r.start, r.end)}
    position = Position.from_ranges(given_ranges)
    assert offsets_of(position) == expected
    assert {offset for offset in range(60) if position.covers(offset)} == expected


@given(st.lists(offsets, unique=True), st.randoms())
def test_order_of_completion_does_not_change_the_position(finished: list[int], random: object) -> None:
    one = Position()
    for offset in finished:
        one = one.with_offset(offset)
    other = Position()
    for offset in sorted(finished):
        other = other.with_range(OffsetRange(offset, offset + 1))
    assert one == other


@given(some_ranges, offsets)
def test_missing_is_the_complement_below_the_end(given_ranges: list[OffsetRange], end: int) -> None:
    position = Position.from_ranges(given_ranges)
    missing = {offset for gap in position.missing(end) for offset in range(gap.start, gap.end)}
    assert missing == set(range(end)) - offsets_of(position)
    assert position.num_missing(end) == len(missing)


@given(some_ranges, some_ranges)
def test_includes_is_the_subset_relation(a: list[OffsetRange], b: list[OffsetRange]) -> None:
    one, other = Position.from_ranges(a), Position.from_ranges(b)
    assert one.includes(other) == (offsets_of(other) <= offsets_of(one))


@given(some_ranges)
def test_position_survives_its_stored_form(given_ranges: list[OffsetRange]) -> None:
    position = Position.from_ranges(given_ranges)
    assert Position.from_json(position.to_json()) == position


@given(some_ranges)
def test_end_is_after_the_highest_finished_offset(given_ranges: list[OffsetRange]) -> None:
    position = Position.from_ranges(given_ranges)
    assert position.end == max(offsets_of(position), default=-1) + 1


@pytest.mark.parametrize(
    "text", ["", "[]", '{"watermark": 1}', '{"watermark": 3, "done": [[1, 2]]}', '{"watermark": "x"}']
)
def test_text_that_is_no_position_is_refused_and_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="not a position"):
        Position.from_json(text)


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (3, 3), (4, 2)])
def test_range_that_holds_nothing_is_refused(start: int, end: int) -> None:
    with pytest.raises(ValueError, match="not a range"):
        OffsetRange(start, end)


@given(some_ranges, some_ranges)
def test_without_takes_out_exactly_what_is_named(given_ranges: list[OffsetRange], taken: list[OffsetRange]) -> None:
    left = Position.from_ranges(given_ranges).without(taken)
    assert offsets_of(left) == offsets_of(Position.from_ranges(given_ranges)) - offsets_of(Position.from_ranges(taken))
