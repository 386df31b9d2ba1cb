"""Stage 1, scene segmentation: cuts where PySceneDetect's ContentDetector finds them.

Semantics and defaults of PySceneDetect 0.7.2, ``detect(path, ContentDetector(threshold, min_scene_len),
start_in_scene=True)``: the score of a frame is the mean absolute difference of hue, saturation and value to the frame
before, on frames downscaled to 256 pixels on the long side; cuts closer than the shortest scene are merged.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from schemas.profile import SceneParams

_LONG_SIDE_PX: Final = 256
_TICKS_PER_SECOND: Final = 1_000_000
_FALLBACK_RATE: Final = 25.0


def scoring_size(width: int, height: int) -> tuple[int, int]:
    """Return width and height at which frames of this size are scored: the long side at most 256 pixels."""
    factor = max(height, width) / _LONG_SIDE_PX
    if factor <= 1:
        return width, height
    return max(1, round(width / factor)), max(1, round(height / factor))


class SceneScorer:
    """Scores each frame of a video against the one before it."""

    def __init__(self) -> None:
        self._previous: NDArray[np.uint8] | None = None

    def score(self, bgr: NDArray[np.uint8]) -> float:
        """Return how much ``bgr`` differs from the frame before: 0 to 255, 0 for the first frame and after a reset.

        Args:
            bgr: ``(height, width, 3)`` uint8, downscaled linearly to :func:`scoring_size`, the same for each frame.
        """
        hsv = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV), dtype=np.uint8)
        previous, self._previous = self._previous, hsv
        if previous is None:
            return 0.0
        num_pixels = hsv.shape[0] * hsv.shape[1]
        # Sums of bytes are exact in a float64, so this equals the mean over an int32 difference to the last bit.
        hue, saturation, value, _ = cv2.sumElems(cv2.absdiff(hsv, previous))
        return float((hue / num_pixels + saturation / num_pixels + value / num_pixels) / 3.0)

    def reset(self) -> None:
        """Forget the frame before: the next one begins anew."""
        self._previous = None


class Verdict(Enum):
    """What :class:`CutFinder` says of a frame."""

    GOES_ON = "goes_on"
    """The frame belongs to the open scene."""
    CUT = "cut"
    """A scene begins with this frame."""
    MAYBE = "maybe"
    """A scene may begin with this frame; a later frame confirms it or sets another such mark in its place."""
    CONFIRMED = "confirmed"
    """A scene began with the frame marked last; the present frame belongs to it."""


class CutFinder:
    """Decides from scores where scenes begin, keeping the shortest scene as PySceneDetect's merging flash filter does.

    A burst of high scores (a flash, a fast fade) less than the shortest scene apart becomes one cut, at the burst's
    last frame, and that is known only when it has been quiet for as long. The first scene is never cut short.

    Distances count frames at the average rate, ``round(seconds * rate)``, as the peer counts them: for a variable
    frame rate that is not the number of frames decoded.

    Args:
        params: threshold and shortest scene.
        fps: average frame rate, None if unknown.
    """

    def __init__(self, params: SceneParams, fps: float | None) -> None:
        self._threshold = params.threshold
        self._min_frames = params.min_scene_len_frames
        self._fps = fps or _FALLBACK_RATE
        self._last_above: int | None = None
        self._burst_start: int | None = None
        self._has_cut = False
        self._start: int | None = None

    def is_below_scene(self, time_s: float) -> bool:
        """Return whether from the first frame to one at ``time_s`` it is less than the shortest scene."""
        now = round(time_s * _TICKS_PER_SECOND)
        return self._num_frames(now if self._start is None else self._start, now) < self._min_frames

    def step(self, time_s: float, score: float) -> Verdict:
        """Take the next frame.

        Args:
            time_s: seconds since the first frame, not before the last one's.
            score: of :class:`SceneScorer`.
        """
        now = round(time_s * _TICKS_PER_SECOND)
        above = score >= self._threshold
        if self._last_above is None or self._start is None:
            self._last_above = self._start = now
        long_enough = self._num_frames(self._last_above, now) >= self._min_frames
        if above:
            self._last_above = now
        if self._burst_start is not None:
            return self._step_in_burst(above, long_enough, self._num_frames(self._burst_start, self._last_above))
        if not above:
            return Verdict.GOES_ON
        if long_enough:
            self._has_cut = True
            return Verdict.CUT
        if self._has_cut:
            self._burst_start = now
        return Verdict.GOES_ON

    def _step_in_burst(self, above: bool, quiet_long_enough: bool, burst_frames: int) -> Verdict:
        if burst_frames < self._min_frames:
            return Verdict.GOES_ON
        if above:
            return Verdict.MAYBE
        if quiet_long_enough:
            self._burst_start = None
            return Verdict.CONFIRMED
        return Verdict.GOES_ON

    def _num_frames(self, start: int, end: int) -> int:
        return round((end - start) / _TICKS_PER_SECOND * self._fps)
