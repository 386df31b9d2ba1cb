from __future__ import annotations

import weakref
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from consumers.stages.base import SampledFrame
from consumers.stages.frames import FrameSelector, choose_nearest, thin_by_gap, uniform_times
from consumers.stages.view import FrameView
from schemas.profile import FramesParams

_PIXELS = np.zeros((1, 1, 3), dtype=np.uint8)


@dataclass(eq=False)
class _View:
    """A frame that costs a megabyte until it is shrunk."""

    index: int
    time_s: float
    is_keyframe: bool = False
    held_bytes: int = 1024 * 1024

    def sampled(self) -> SampledFrame:
        return SampledFrame(self.time_s, self.index, self.is_keyframe, _PIXELS)

    def shrink(self) -> None:
        self.held_bytes = 0


def _select(times_s: list[float], params: FramesParams, keyframes: frozenset[int] = frozenset()) -> list[SampledFrame]:
    selector = FrameSelector(params)
    for index, time_s in enumerate(times_s):
        selector.add(cast(FrameView, _View(index, time_s, index in keyframes)))
    return list(selector.select())


def _tolerance(num: int) -> float:
    return 1 / 16 if num <= 3 else 1 / (8 * (num - 1)) if num <= 5 else 1 / (4 * (num - 1))


@given(
    num_frames=st.integers(1, 1500),
    num=st.integers(1, 64),
    fps=st.sampled_from([1.0, 24.0, 60.0]),
    start=st.floats(0, 9),
)
@example(num_frames=501, num=24, fps=24.0, start=0.0)
def test_uniform_frames_of_a_clip_of_any_length_lie_within_the_stated_tolerance(
    num_frames: int, num: int, fps: float, start: float
) -> None:
    times_s = [start + k / fps for k in range(num_frames)]
    chosen = [frame.time_s for frame in _select(times_s, FramesParams(num_frames=num))]
    assert len(chosen) == min(num, num_frames)
    assert chosen == sorted(set(chosen))
    if num_frames < num:
        return
    duration_s = times_s[-1] - times_s[0]
    allowed_s = max(_tolerance(num) * duration_s, 0.5 / fps) + 1e-9
    if num_frames >= 2 * num:
        for time_s, ideal_s in zip(chosen, uniform_times(times_s[0], times_s[-1], num), strict=True):
            assert abs(time_s - ideal_s) <= allowed_s
    if num >= 2:
        assert (chosen[0], chosen[-1]) == (times_s[0], times_s[-1])


def test_the_middle_and_both_ends_of_a_short_clip_are_exact() -> None:
    times_s = [k / 10 for k in range(9)]
    assert [frame.pts for frame in _select(times_s, FramesParams(num_frames=1))] == [4]
    assert [frame.pts for frame in _select(times_s, FramesParams(num_frames=2))] == [0, 8]
    assert [frame.pts for frame in _select(times_s, FramesParams(num_frames=3))] == [0, 4, 8]


def test_a_rate_gives_that_many_frames_per_second_and_at_most_64() -> None:
    params = FramesParams(frames_per_second=1.0)
    assert len(_select([k / 25 for k in range(25 * 10)], params)) == 10
    assert len(_select([k / 5 for k in range(5 * 600)], params)) == 64
    assert len(_select([k / 25 for k in range(10)], params)) == 1


@given(num_frames=st.integers(1, 1500), data=st.data())
def test_keyframes_of_a_clip_are_taken_with_its_first_frame_and_thinned_evenly(
    num_frames: int, data: st.DataObject
) -> None:
    every = data.draw(st.integers(1, 40))
    keyframes = frozenset(range(0, num_frames, every))
    chosen = _select([k / 24 for k in range(num_frames)], FramesParams(method="keyframe"), keyframes)
    indices = [frame.pts for frame in chosen]
    assert indices[0] == 0
    assert len(indices) == len(keyframes) if len(keyframes) <= 64 else 32 <= len(indices) <= 64
    assert set(indices) <= keyframes
    assert len({after - before for before, after in pairwise(indices)}) <= 1


def test_a_clip_without_usable_frames_gives_none() -> None:
    assert _select([], FramesParams()) == []


def test_three_hours_in_one_scene_hold_no_more_memory_than_a_short_clip() -> None:
    held: weakref.WeakSet[_View] = weakref.WeakSet()
    selector = FrameSelector(FramesParams(num_frames=64))
    for index in range(3 * 3600):
        view = _View(index, float(index))
        held.add(view)
        selector.add(cast(FrameView, view))
        del view
        if index % 100 == 0:
            assert len(held) <= 400
            assert sum(one.held_bytes for one in held) <= 66 * 1024 * 1024
    assert len(selector.select()) == 64


def test_a_fork_goes_its_own_way() -> None:
    selector = FrameSelector(FramesParams(num_frames=2))
    for index in range(3):
        selector.add(cast(FrameView, _View(index, float(index))))
    fork = selector.fork()
    selector.add(cast(FrameView, _View(3, 3.0)))
    assert [frame.pts for frame in fork.select()] == [0, 2]
    assert [frame.pts for frame in selector.select()] == [0, 3]


@given(st.lists(st.floats(0, 100), max_size=80), st.integers(1, 70))
def test_each_target_gets_another_candidate_in_order(candidates: list[float], num: int) -> None:
    candidates = sorted(candidates)
    chosen = choose_nearest(candidates, uniform_times(0.0, 100.0, num))
    assert len(chosen) == min(len(candidates), num)
    assert chosen == sorted(set(chosen))
    assert all(0 <= index < len(candidates) for index in chosen)


@given(st.lists(st.floats(0, 100), max_size=80), st.floats(0.01, 50))
def test_thinned_times_keep_the_first_and_the_gap_and_open_none_of_twice_that(times: list[float], gap_s: float) -> None:
    times = sorted(times)
    kept = [times[index] for index in thin_by_gap(times, gap_s)]
    assert kept[:1] == times[:1]
    # Two neighbours may be nearer where the one after them is far; on average none are.
    assert all(later - before >= gap_s for before, later in zip(kept, kept[2:], strict=False))
    longest_s = max((later - before for before, later in pairwise(times)), default=0.0)
    assert all(later - before <= max(2 * gap_s, longest_s) for before, later in pairwise(kept))
