from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.paimon.landing import digest_set
from consumers.paimon.landing.digest_set import DigestSet
from consumers.paimon.landing.plan import FolderTimes, KeyCursor, SettleTracker, Sighting, WatchState

_AT = datetime(2026, 5, 6, tzinfo=UTC)
_keys = st.text("abc", min_size=1, max_size=4)


def _listed(bucket: set[str], after: str | None) -> list[str]:
    return sorted(key for key in bucket if after is None or key > after)


@given(st.lists(st.lists(_keys, max_size=8), max_size=8), st.integers(0, 5), st.integers(1, 4))
def test_keys_that_sort_among_the_last_few_are_always_listed(
    arrivals: list[list[str]], look_back: int, page: int
) -> None:
    bucket: set[str] = set()
    after: str | None = None
    for arrived in arrivals:
        last = sorted(bucket)[-look_back:] if look_back else []
        due = {key for key in arrived if not bucket or (key > last[0] if last else key > max(bucket))}
        bucket |= set(arrived)
        listed = _listed(bucket, after)
        cursor = KeyCursor(after, look_back)
        for start in range(0, len(listed), page):
            cursor.saw(listed[start : start + page])
        assert due <= set(listed)
        after = cursor.next_after
        assert len(_listed(bucket, after)) <= max(look_back, 0) or after is None


def test_listing_of_nothing_new_does_not_move_the_cursor_back() -> None:
    assert KeyCursor("k", 3).next_after == "k"
    cursor = KeyCursor("k", 3)
    cursor.saw(["l", "m"])
    assert cursor.next_after == "k"


@given(st.none() | st.text(), st.none() | st.datetimes(timezones=st.just(UTC)))
def test_state_survives_storage(after: str | None, at: datetime | None) -> None:
    state = WatchState(after, at)
    assert WatchState.from_json(state.to_json()) == state


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"after": 1, "relisted_at": "never"}'])
def test_state_that_is_something_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not the state of a watch"):
        WatchState.from_json(text)


def test_relisting_is_due_at_first_and_then_once_per_interval() -> None:
    assert WatchState().is_relisting_due(_AT, 60)
    state = WatchState().relisted("k", _AT)
    assert not state.advanced("l").is_relisting_due(_AT + timedelta(seconds=59), 60)
    assert state.is_relisting_due(_AT + timedelta(seconds=60), 60)


@given(
    st.lists(st.tuples(st.floats(0.1, 3), st.integers(0, 2)), min_size=1, max_size=20),
    st.floats(0.5, 5),
)
def test_file_is_complete_only_after_it_stayed_the_same_for_the_settle_time(
    looks: list[tuple[float, int]], settle_s: float
) -> None:
    tracker, now_s = SettleTracker(settle_s), 0.0
    unchanged_since, last = 0.0, None
    for step_s, size in looks:
        now_s += step_s
        if size != last:
            unchanged_since, last = now_s, size
        is_complete = tracker.look("f", Sighting(size, 1), now_s)
        assert is_complete == (now_s - unchanged_since >= settle_s)
        assert tracker.pending == (() if is_complete else ("f",))
        if is_complete:
            return


def test_file_from_before_the_watch_is_complete_by_its_age() -> None:
    tracker = SettleTracker(5)
    assert tracker.look("old", Sighting(1, 1), 100, age_s=60)
    assert not tracker.look("fresh", Sighting(1, 1), 100, age_s=2)
    assert not tracker.look("from a clock that is ahead", Sighting(1, 1), 100, age_s=-60)
    assert tracker.look("fresh", Sighting(1, 1), 105)


def test_folder_is_read_again_when_its_time_changes_or_was_too_fresh_to_trust() -> None:
    folders = FolderTimes()
    second = 1_000_000_000
    assert folders.is_due("f", 10 * second)
    folders.read("f", 10 * second, now_ns=11 * second)
    assert folders.is_due("f", 10 * second)
    folders.read("f", 10 * second, now_ns=13 * second)
    assert not folders.is_due("f", 10 * second)
    assert folders.is_due("f", 14 * second)
    folders.forget_times()
    assert folders.is_due("f", 10 * second)


@given(st.lists(st.text(max_size=3)), st.lists(st.text(max_size=3)))
def test_digest_set_holds_what_was_added_and_nothing_else(added: list[str], asked: list[str]) -> None:
    texts = DigestSet()
    texts.add(added)
    assert [text in texts for text in asked] == [text in added for text in asked]


def test_digest_set_finds_texts_that_were_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest_set, "_MOST_RECENT", 100)
    texts = DigestSet()
    # Enough of them that some digests end in a zero byte, which numpy leaves out.
    texts.add(str(number) for number in range(2000))
    assert all(str(number) in texts for number in range(2000))
    assert not any(str(number) in texts for number in range(2000, 4000))


def test_digest_set_beyond_its_memory_remembers_all() -> None:
    texts = DigestSet(most_in_memory=100)
    texts.add(f"video {number}" for number in range(1050))
    assert all(f"video {number}" in texts for number in range(1050))
    assert not any(f"film {number}" in texts for number in range(1050))
