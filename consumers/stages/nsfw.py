"""Stage 4, NSFW filter, without a model: nothing is scored, and a stated policy says what happens to the clip."""

from __future__ import annotations

from consumers.stages.base import ClipEvidence, StageResult
from schemas.profile import FilterMode, NsfwParams
from schemas.records import NSFW_PROBABILITY, Score, Stage


class UnscoredNsfwFilter:
    """Holds back every clip, or lets every clip pass, as ``NsfwParams.unscored`` says; the score has no value.

    Reason: ``nsfw_unscored``.

    Args:
        params: policy and mode; score-only mode lets every clip pass.
    """

    stage = Stage.NSFW

    def __init__(self, params: NsfwParams) -> None:
        self._holds = params.unscored == "hold" and params.mode is FilterMode.FILTER

    def judge(self, clip: ClipEvidence) -> StageResult:
        """Return the policy's verdict, which is the same for every clip."""
        score = Score(self.stage, NSFW_PROBABILITY, None, "unscored")
        return StageResult((score,), "nsfw_unscored" if self._holds else None)
