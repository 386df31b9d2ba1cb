import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.loop.commit_policy import CommitPolicy, CommitPolicyState

times = st.floats(0, 1e6)
videos = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 10_000), st.floats(0, 100)), min_size=1, max_size=20)


def test_nothing_gathered_is_never_due():
    state = CommitPolicyState(CommitPolicy(interval_s=0))
    assert state.is_empty
    assert state.due_at_s() is None
    assert not state.is_due(1e9)


@given(videos, st.floats(0, 1000))
def test_any_progress_is_due_within_the_interval(gathered, interval_s):
    state = CommitPolicyState(CommitPolicy(interval_s=interval_s))
    now_s = 0.0
    for clips, num_bytes, pause_s in gathered:
        now_s += pause_s
        state.add_video(clips, num_bytes, now_s)
    first_s = gathered[0][2]
    assert state.due_at_s() == first_s + interval_s
    assert state.is_due(first_s + interval_s)


@given(videos, st.integers(1, 200), st.integers(1, 50_000), st.integers(1, 20))
def test_a_batch_is_due_early_exactly_when_a_bound_is_reached(gathered, max_clips, max_bytes, max_videos):
    state = CommitPolicyState(CommitPolicy(1e9, max_clips, max_bytes, max_videos))
    for index, (clips, num_bytes, _) in enumerate(gathered):
        state.add_video(clips, num_bytes, 0.0)
        so_far = gathered[: index + 1]
        reached = (
            sum(c for c, _, _ in so_far) >= max_clips
            or sum(b for _, b, _ in so_far) >= max_bytes
            or len(so_far) >= max_videos
        )
        assert state.is_due(0.0) is reached


def test_skipped_offsets_alone_become_due():
    state = CommitPolicyState(CommitPolicy(interval_s=5))
    state.touch(10.0)
    assert not state.is_due(14.9)
    assert state.is_due(15.0)


def test_a_cleared_state_starts_a_new_interval():
    state = CommitPolicyState(CommitPolicy(interval_s=5, max_clips=1))
    state.add_video(1, 100, 0.0)
    state.formed(0.0)
    assert state.is_empty
    state.add_video(0, 0, 100.0)
    assert state.due_at_s() == 105.0


def test_a_lone_video_is_due_at_once_when_there_is_nothing_else_to_do():
    state = CommitPolicyState(CommitPolicy(interval_s=60))
    state.add_video(1, 100, 7.0)
    assert not state.is_due(7.0)
    assert state.is_due(7.0, is_early=True)


@given(
    st.lists(st.floats(0, 300), min_size=1, max_size=200),
    st.floats(0.1, 3600),
    st.integers(1, 6),
    st.booleans(),
)
def test_a_trickle_makes_no_more_commits_than_intervals_and_no_video_waits_longer_than_one(
    pauses_s, interval_s, max_early, is_removal
):
    state = CommitPolicyState(CommitPolicy(interval_s=interval_s, max_early=max_early))
    now_s, commits_s, waits_s, open_since_s = 0.0, [], [], []

    def commit(at_s):
        commits_s.append(at_s)
        waits_s.extend(at_s - since_s for since_s in open_since_s)
        open_since_s.clear()
        state.formed(at_s)

    for pause_s in pauses_s:
        next_s = now_s + pause_s
        due_at_s = state.due_at_s(is_early=True)
        if due_at_s is not None and due_at_s <= next_s:
            commit(max(now_s, due_at_s))
        now_s = next_s
        state.add_video(1, 100, now_s, is_removal=is_removal)
        open_since_s.append(now_s)
        if state.is_due(now_s, is_early=True):
            commit(now_s)
    if open_since_s:
        commit(state.due_at_s(is_early=True))
    assert max(waits_s) <= interval_s * (1 + 1e-9) + 1e-6
    for first, start_s in enumerate(commits_s):
        for last in range(first, len(commits_s)):
            assert last - first + 1 <= max_early + 1 + (commits_s[last] - start_s) / interval_s + 1e-6


def test_a_steady_trickle_is_committed_once_an_interval():
    state = CommitPolicyState(CommitPolicy(interval_s=60))
    num_commits = 0
    for second in range(0, 3600, 5):
        state.add_video(1, 100, float(second))
        if state.is_due(float(second), is_early=True):
            num_commits += 1
            state.formed(float(second))
    assert num_commits <= 60 + 4


def test_offsets_that_held_nothing_to_do_wait_for_the_next_commit_for_long():
    state = CommitPolicyState(CommitPolicy(interval_s=5, passed_interval_s=600))
    state.passed(10.0)
    assert not state.is_empty
    assert not state.is_due(600.0, is_early=True)
    assert state.is_due(610.0)
    state.add_video(1, 100, 20.0)
    assert state.due_at_s() == 25.0


def test_a_removal_is_told_until_the_batch_is_formed():
    state = CommitPolicyState(CommitPolicy())
    state.add_video(0, 0, 0.0, is_removal=True)
    state.add_video(0, 0, 0.0)
    assert state.holds_removal
    state.formed(0.0)
    assert not state.holds_removal


BAD = [
    {"interval_s": -1},
    {"passed_interval_s": -1},
    {"max_clips": 0},
    {"max_bytes": 0},
    {"max_videos": 0},
    {"max_early": 0},
]


@pytest.mark.parametrize("bad", BAD)
def test_a_senseless_bound_is_refused_by_name(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        CommitPolicy(**bad)
