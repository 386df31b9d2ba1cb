"""Stages 4, 6 and 7 with models: what a model's answer means for a clip."""

from __future__ import annotations

from typing import Final

from consumers.clock import Deadline
from consumers.models.base import reduce_scores
from consumers.models.calls import ClipModel, ClipRefusedError, identity, needed_frames
from consumers.stages.base import ClipEvidence, StageResult
from schemas.models import AestheticModelParams, CaptionerParams, NsfwModelParams, OpenAIChatParams
from schemas.profile import AestheticParams, FilterMode, NsfwParams
from schemas.records import AESTHETIC_SCORE, NSFW_PROBABILITY, Caption, Score, Stage

_DECIMALS: Final = 4
"""The last bits of float32 depend on the other clips in the batch, and a retry should give the same row."""


class NsfwModelFilter:
    """Keeps clips whose nsfw probability, reduced over their frames, is at most ``max_score``.

    Score ``nsfw_probability``, 0 to 1, to 4 decimals. Reason: ``nsfw_above_max``.

    Args:
        params: bound, reduction and mode.
        model: a probability per frame.
        model_params: which model it is.
        deadline: of the video.
    """

    stage = Stage.NSFW

    def __init__(
        self, params: NsfwParams, model: ClipModel[list[float]], model_params: NsfwModelParams, deadline: Deadline
    ) -> None:
        self._params = params
        self._model = model
        self._identity = identity(model_params)
        self._deadline = deadline

    def judge(self, clip: ClipEvidence) -> StageResult:
        """Return the probability and whether it is low enough."""
        answer = self._model.ask([frame.rgb for frame in clip.frames], self._deadline)
        value = round(reduce_scores(answer.value, self._params.reduce, self.stage), _DECIMALS)
        score = Score(self.stage, NSFW_PROBABILITY, value, f"softmax/{self._params.reduce}", *self._identity)
        rejected = self._params.mode is FilterMode.FILTER and value > self._params.max_score
        return StageResult((score,), "nsfw_above_max" if rejected else None, None, answer.call, answer.cpu_s)


class AestheticModelFilter:
    """Keeps clips whose aesthetic score, reduced over their frames, lies in ``[min_score, max_score]``.

    Score ``aesthetic_score``, the model's rating / 10, to 4 decimals. Reasons: ``aesthetic_below_min``,
    ``aesthetic_above_max``.

    Args:
        params: bounds, reduction and mode.
        model: a score per frame.
        model_params: which model it is.
        deadline: of the video.
    """

    stage = Stage.AESTHETIC

    def __init__(
        self,
        params: AestheticParams,
        model: ClipModel[list[float]],
        model_params: AestheticModelParams,
        deadline: Deadline,
    ) -> None:
        self._params = params
        self._model = model
        self._identity = identity(model_params)
        self._deadline = deadline

    def judge(self, clip: ClipEvidence) -> StageResult:
        """Return the score and whether it lies within the bounds."""
        answer = self._model.ask([frame.rgb for frame in clip.frames], self._deadline)
        value = round(reduce_scores(answer.value, self._params.reduce, self.stage), _DECIMALS)
        score = Score(self.stage, AESTHETIC_SCORE, value, f"rating/{self._params.reduce}", *self._identity)
        reason = self._reason(value) if self._params.mode is FilterMode.FILTER else None
        return StageResult((score,), reason, None, answer.call, answer.cpu_s)

    def _reason(self, value: float) -> str | None:
        if value < self._params.min_score:
            return "aesthetic_below_min"
        return "aesthetic_above_max" if value > self._params.max_score else None


class ModelCaptioner:
    """Describes a clip in a model's words. A clip that the model refuses is rejected by itself: ``caption_refused``.

    Args:
        model: a caption per clip.
        params: which model it is, and how many frames it looks at.
        deadline: of the video.
    """

    stage = Stage.CAPTION

    def __init__(self, model: ClipModel[str], params: CaptionerParams | OpenAIChatParams, deadline: Deadline) -> None:
        self._model = model
        self._params = params
        self._identity = identity(params)
        self._deadline = deadline

    def judge(self, clip: ClipEvidence) -> StageResult:
        """Return the caption."""
        try:
            answer = self._model.ask(needed_frames([frame.rgb for frame in clip.frames], self._params), self._deadline)
        except ClipRefusedError:
            return StageResult(reason="caption_refused")
        caption = Caption(answer.value, self._params.kind, True, *self._identity)
        return StageResult(caption=caption, call=answer.call, model_cpu_s=answer.cpu_s)
