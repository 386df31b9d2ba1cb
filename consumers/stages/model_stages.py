"""Stages 4, 6 and 7 with models: what a model's answer means for a clip."""

from __future__ import annotations

from collections.abc import Callable
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


class _FrameScores:
    """A model's scores of a clip's frames as one score of the clip.

    Args:
        stage: whose.
        params: reduction and mode.
        model: a score per frame.
        model_params: which model it is.
        deadline: of the video.
    """

    def __init__(
        self,
        stage: Stage,
        params: NsfwParams | AestheticParams,
        model: ClipModel[list[float]],
        model_params: NsfwModelParams | AestheticModelParams,
        deadline: Deadline,
    ) -> None:
        self._stage = stage
        self._params = params
        self._model = model
        self._identity = identity(model_params)
        self._deadline = deadline

    def judge(self, clip: ClipEvidence, name: str, method: str, reason: Callable[[float], str | None]) -> StageResult:
        """Return the score ``name``, and what ``reason`` says of it where the stage filters."""
        answer = self._model.ask([frame.rgb for frame in clip.frames], self._deadline)
        value = round(reduce_scores(answer.value, self._params.reduce, self._stage), _DECIMALS)
        score = Score(self._stage, name, value, f"{method}/{self._params.reduce}", *self._identity)
        found = reason(value) if self._params.mode is FilterMode.FILTER else None
        return StageResult((score,), found, None, answer.call, answer.cpu_s)


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
        self._scores = _FrameScores(self.stage, params, model, model_params, deadline)

    def judge(self, clip: ClipEvidence) -> StageResult:
        """Return the probability and whether it is low enough."""
        return self._scores.judge(clip, NSFW_PROBABILITY, "softmax", self._reason)

    def _reason(self, value: float) -> str | None:
        return "nsfw_above_max" if value > self._params.max_score else None


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
        self._scores = _FrameScores(self.stage, params, model, model_params, deadline)

    def judge(self, clip: ClipEvidence) -> StageResult:
        """Return the score and whether it lies within the bounds."""
        return self._scores.judge(clip, AESTHETIC_SCORE, "rating", self._reason)

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
