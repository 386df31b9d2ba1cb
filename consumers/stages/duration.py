"""Stage 2, duration filter: a closed interval in seconds, judged per clip."""

from __future__ import annotations

from consumers.stages.base import ClipEvidence, StageResult
from schemas.profile import DurationParams, FilterMode
from schemas.records import Score, Stage


class DurationFilter:
    """Keeps clips whose length lies in ``[min_s, max_s]``.

    Score ``duration_s``, in seconds. Reasons: ``duration_below_min``, ``duration_above_max``.

    Args:
        params: bounds and mode.
    """

    stage = Stage.DURATION

    def __init__(self, params: DurationParams) -> None:
        self._params = params

    def judge(self, clip: ClipEvidence) -> StageResult:
        """Return the clip's length and whether it lies within the bounds."""
        length_s = clip.span.duration_s
        reason = None
        if self._params.mode is FilterMode.FILTER:
            if length_s < self._params.min_s:
                reason = "duration_below_min"
            elif self._params.max_s is not None and length_s > self._params.max_s:
                reason = "duration_above_max"
        return StageResult((Score(self.stage, "duration_s", length_s, "pts"),), reason)
