"""Stage 3, frame extraction: which frames stand for a clip, chosen in one pass and in bounded memory.

A clip's length is known only at its end, by when its frames are gone. So candidates are kept on the way, no further
apart than a fixed share of the clip so far, and the best are chosen at the end. The first and the last usable frame are
always candidates. Semantics after Data-Juicer's frame extraction: uniform in time, 1 is the middle, 2 the ends, 3 and
more include both ends; or the keyframes.

Tolerance: an inner uniform frame is at most a sixteenth of the clip from its ideal time for up to 3 frames per clip,
``1 / (8 * (n - 1))`` of it for 4 and 5, ``1 / (4 * (n - 1))`` for more, or half a frame interval where that is longer.
A clip of so few frames that this share is below one frame interval is met exactly.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Final

from consumers.stages.base import SampledFrame
from consumers.stages.view import FrameView
from schemas.profile import FramesParams

MAX_FRAMES_PER_CLIP: Final = 64
_HELD_BYTES: Final = 64 * 1024 * 1024
"""Full pictures held per clip: all the candidates for 3 frames of 720p, so that only the chosen are converted."""


def uniform_times(start_s: float, end_s: float, num: int) -> list[float]:
    """Return ``num`` times over the closed interval: the middle for 1, else evenly spaced with both ends."""
    if num == 1:
        return [(start_s + end_s) / 2]
    step_s = (end_s - start_s) / (num - 1)
    return [start_s + k * step_s for k in range(num)]


def choose_nearest(candidates: Sequence[float], targets: Sequence[float]) -> list[int]:
    """Return the index of a candidate for each target, each used at most once, in order.

    Takes the nearest that leaves enough candidates for the targets after it. With fewer candidates than targets, all
    are returned.

    Args:
        candidates: times, ascending.
        targets: times, ascending.
    """
    if len(candidates) <= len(targets):
        return list(range(len(candidates)))
    chosen: list[int] = []
    index = 0
    for k, target in enumerate(targets):
        last = len(candidates) - (len(targets) - k)
        while index < last and abs(candidates[index + 1] - target) <= abs(candidates[index] - target):
            index += 1
        chosen.append(index)
        index += 1
    return chosen


def thin_by_gap(times: Sequence[float], min_gap_s: float) -> list[int]:
    """Return the indices that stay when times closer than ``min_gap_s`` to the last one kept are dropped.

    One stays all the same where dropping it would open a gap of more than twice that.
    """
    kept = [0] if times else []
    for index in range(1, len(times)):
        last_s = times[kept[-1]]
        opens_gap = index + 1 < len(times) and times[index + 1] - last_s > 2 * min_gap_s
        if times[index] - last_s >= min_gap_s or opens_gap:
            kept.append(index)
    return kept


class FrameSelector:
    """Chooses the frames of one clip.

    Args:
        params: which and how many.
    """

    def __init__(self, params: FramesParams) -> None:
        self._params = params
        self._candidates: list[FrameView] = []
        self._latest: FrameView | None = None
        self._keyframe_stride = 1
        self._num_keyframes = 0
        wanted = params.num_frames if params.frames_per_second is None else MAX_FRAMES_PER_CLIP
        self._share = 1 / (8 * max(wanted - 1, 2)) if wanted <= 5 else 1 / (4 * (wanted - 1))
        # At a fixed rate a few candidates per wanted frame will do, whatever the 64 of a long clip would need.
        self._rate_gap_s = 0.0 if params.frames_per_second is None else 1 / (8 * params.frames_per_second)

    def add(self, view: FrameView) -> None:
        """Take the next usable frame of the clip."""
        self._latest = view
        if not self._candidates:
            self._candidates.append(view)
        elif self._params.method == "keyframe":
            self._add_keyframe(view)
        else:
            self._add_uniform(view)

    def fork(self) -> FrameSelector:
        """Return a copy that goes its own way from here; the pictures are shared."""
        twin = copy.copy(self)
        twin._candidates = list(self._candidates)
        return twin

    def select(self) -> tuple[SampledFrame, ...]:
        """Return the clip's frames in order of time, none twice; empty if no frame was usable."""
        if self._latest is None:
            return ()
        views = list(self._candidates)
        if self._params.method == "uniform":
            if views[-1] is not self._latest:
                views.append(self._latest)
            times = [view.time_s for view in views]
            num = self._num_wanted(times[-1] - times[0])
            views = [views[index] for index in choose_nearest(times, uniform_times(times[0], times[-1], num))]
        return tuple(view.sampled() for view in views)

    def _num_wanted(self, duration_s: float) -> int:
        if self._params.frames_per_second is None:
            return self._params.num_frames
        return min(MAX_FRAMES_PER_CLIP, max(1, round(duration_s * self._params.frames_per_second)))

    def _add_uniform(self, view: FrameView) -> None:
        duration_s = view.time_s - self._candidates[0].time_s
        gap_s = view.time_s - self._candidates[-1].time_s
        if gap_s < max(min(self._rate_gap_s, duration_s / 16), self._share * duration_s):
            return
        self._candidates.append(view)
        if len(self._candidates) > 1.5 / self._share:
            times = [candidate.time_s for candidate in self._candidates]
            self._candidates = [self._candidates[index] for index in thin_by_gap(times, self._share * duration_s)]
        self._bound_memory()

    def _add_keyframe(self, view: FrameView) -> None:
        # The first frame counts as one: it opens the clip, and cutting makes a keyframe of it.
        if not view.is_keyframe:
            return
        self._num_keyframes += 1
        if self._num_keyframes % self._keyframe_stride:
            return
        self._candidates.append(view)
        if len(self._candidates) > MAX_FRAMES_PER_CLIP:
            self._candidates = self._candidates[::2]
            self._keyframe_stride *= 2
        self._bound_memory()

    def _bound_memory(self) -> None:
        # The newest stays whole: it may turn out to be the clip's last, which motion needs at full size.
        held_bytes = [view.held_bytes for view in self._candidates[:-1]]
        excess = sum(held_bytes) - _HELD_BYTES
        for view, num_bytes in zip(self._candidates[:-1], held_bytes, strict=True):
            if excess <= 0:
                return
            if num_bytes:
                view.shrink()
                excess -= num_bytes
