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
    state.clear()
    assert state.is_empty
    state.add_video(0, 0, 100.0)
    assert state.due_at_s() == 105.0


@pytest.mark.parametrize("bad", [{"interval_s": -1}, {"max_clips": 0}, {"max_bytes": 0}, {"max_videos": 0}])
def test_a_senseless_bound_is_refused_by_name(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        CommitPolicy(**bad)
