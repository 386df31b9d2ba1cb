"""The verdict of stage 5, motion filter: keeps clips that move enough, and not too much."""

from __future__ import annotations

from typing import Final

from consumers.stages.base import ClipEvidence, StageResult
from schemas.profile import FilterMode, MotionParams
from schemas.records import MOTION_MEAN_MAGNITUDE, Score, Stage

_DECIMALS: Final = 6
"""The last bits of the mean depend on where its arrays lie in memory, and a retry should give the same row."""


class MotionFilter:
    """Keeps clips whose mean flow magnitude lies in ``[min_score, max_score]``.

    Score ``motion_mean_magnitude``, in pixels of the source frame, or in frame diagonals if relative, to 6 decimals.
    Reasons: ``motion_below_min``, ``motion_above_max``, and ``motion_unmeasured`` for a clip with fewer than two
    samples: one picture cannot move. Where everything passes (a minimum of 0 and no maximum) such a clip passes too.

    Args:
        params: bounds and mode.
    """

    stage = Stage.MOTION

    def __init__(self, params: MotionParams) -> None:
        self._params = params

    def judge(self, clip: ClipEvidence) -> StageResult:
        """Return the measured motion and whether it lies within the bounds."""
        measured = clip.motion.mean_magnitude
        value = None if measured is None else round(measured, _DECIMALS)
        score = Score(self.stage, MOTION_MEAN_MAGNITUDE, value, clip.motion.method)
        reason = self._reason(value) if self._params.mode is FilterMode.FILTER else None
        return StageResult((score,), reason)

    def _reason(self, value: float | None) -> str | None:
        low, high = self._params.min_score, self._params.max_score
        if value is None:
            return None if low == 0 and high is None else "motion_unmeasured"
        if value < low:
            return "motion_below_min"
        if high is not None and value > high:
            return "motion_above_max"
        return None
