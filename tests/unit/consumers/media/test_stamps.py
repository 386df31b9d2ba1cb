from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from consumers.media.stamps import BestEffortStamps


@given(st.lists(st.integers(1, 100), min_size=1), st.integers(0, 5))
def test_times_that_go_forward_are_believed_whatever_the_decoding_times(steps: list[int], delay: int) -> None:
    stamps, pts = BestEffortStamps(), 0
    for step in steps:
        pts += step
        assert stamps.stamp(pts, pts - delay) == pts
    assert not stamps.has_guessed


def test_presentation_times_that_jump_back_give_way_to_decoding_times_that_do_not() -> None:
    # As libav gives them for H.264 with B-frames in AVI, which knows only decoding times.
    given_times = [(24, 48), (96, 72), (72, 96), (120, 120), (48, 144), (192, 168), (168, 192), (216, 216), (144, 240)]
    stamps = BestEffortStamps()
    guessed = [stamps.stamp(pts, dts) for pts, dts in given_times]
    assert guessed == [24, 96, 96, 120, 144, 168, 192, 216, 240]
    assert stamps.has_guessed


def test_frames_without_a_presentation_time_have_their_decoding_time() -> None:
    stamps = BestEffortStamps()
    assert [stamps.stamp(None, dts) for dts in (0, 40, 80)] == [0, 40, 80]
    assert stamps.stamp(None, None) is None


@given(st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 50)), st.integers(0, 3)), min_size=2))
def test_where_decoding_times_go_forward_guesses_end_up_going_forward(frames: list[tuple[int | None, int]]) -> None:
    stamps, dts, times = BestEffortStamps(), 1000, []
    for pts, step in frames:
        dts += step + 1
        stamp = stamps.stamp(pts, dts)
        if stamp == dts:
            times.append(stamp)
    assert all(later > earlier for earlier, later in pairwise(times))
