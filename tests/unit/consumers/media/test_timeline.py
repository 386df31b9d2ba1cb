from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.media.timeline import Timeline


def test_a_late_first_timestamp_is_time_zero() -> None:
    timeline = Timeline(Fraction(1, 12800), 1 / 25)
    first, second = timeline.place(13760, 512), timeline.place(14272, 512)
    assert (first.time_s, second.time_s) == (0.0, 0.04)
    assert (first.pts, first.end_pts) == (13760, 14272)


def test_a_frame_without_timestamp_or_duration_follows_at_the_nominal_rate() -> None:
    timeline = Timeline(Fraction(1, 1000), 1 / 25)
    places = [timeline.place(None, None) for _ in range(3)]
    assert [place.pts for place in places] == [0, 40, 80]
    assert places[-1].end_s == pytest.approx(0.12)


def test_timestamps_that_begin_anew_go_on_in_time_and_are_told() -> None:
    timeline = Timeline(Fraction(1, 1000), 1 / 25)
    timeline.place(0, 40)
    timeline.place(5000, 40)
    again = timeline.place(0, 40)
    assert again.jumped
    assert again.pts == 0
    assert again.time_s == pytest.approx(5.04)
    assert timeline.place(40, 40).time_s == pytest.approx(5.08)


@given(st.lists(st.tuples(st.integers(-(2**40), 2**40) | st.none(), st.integers(-5, 10**6) | st.none()), max_size=50))
def test_time_never_steps_back_whatever_the_timestamps(frames: list[tuple[int | None, int | None]]) -> None:
    timeline = Timeline(Fraction(1, 90000), 1 / 30)
    places = [timeline.place(pts, duration) for pts, duration in frames]
    assert all(after.time_s >= before.time_s for before, after in pairwise(places))
    assert all(place.end_pts > place.pts for place in places)


def test_a_gap_up_to_the_bound_is_a_pause_and_a_longer_one_a_new_beginning() -> None:
    timeline = Timeline(Fraction(1, 1000), 1 / 25, max_gap_s=10)
    timeline.place(0, 40)
    pause = timeline.place(10_040, 40)
    assert (pause.jumped, pause.time_s) == (False, pytest.approx(10.04))
    jump = timeline.place(20_081, 40)
    assert (jump.jumped, jump.time_s) == (True, pytest.approx(10.08))
    assert timeline.place(20_121, 40).time_s == pytest.approx(10.12)


def test_a_pause_that_a_frame_states_as_its_duration_is_no_jump_however_long() -> None:
    timeline = Timeline(Fraction(1, 1000), 1 / 25, max_gap_s=10)
    timeline.place(0, 3_600_000)
    assert not timeline.place(3_600_000, 40).jumped


@pytest.mark.parametrize(("back", "is_keyframe", "jumps"), [(500, True, True), (500, False, False), (90, True, False)])
def test_a_short_step_back_is_a_new_beginning_at_a_keyframe_alone(back: int, is_keyframe: bool, jumps: bool) -> None:
    timeline = Timeline(Fraction(1, 1000), 1 / 25)
    timeline.place(0, 40, is_keyframe=True)
    timeline.place(2000, 40)
    place = timeline.place(2000 - back, 40, is_keyframe=is_keyframe)
    assert (place.jumped, place.overlaps) == (jumps, jumps)
    assert place.time_s == pytest.approx(2.04 if jumps else 2.0)


def test_where_every_frame_is_a_keyframe_none_is_a_new_beginning() -> None:
    timeline = Timeline(Fraction(1, 1000), 1 / 25)
    assert not any(timeline.place(pts, 40, is_keyframe=True).jumped for pts in (0, 2000, 1500, 2040))
