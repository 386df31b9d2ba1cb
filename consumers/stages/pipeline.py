"""The order of the stages that judge a clip, and the judging itself.

Filters that need no model come first and those that ask one after them, each group in the order of the seven; the
caption comes last. So a clip that does not move costs no model anything. Which clips are kept does not depend on the
order; of a clip that several filters would reject, the row names the first in this order, and it has no scores of the
later ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Final

from consumers.clock import Deadline
from consumers.models.calls import ClipModels
from consumers.pool_report import VideoProgress
from consumers.stages.aesthetic import TechnicalQualityFilter
from consumers.stages.base import ClipEvidence, ClipStage
from consumers.stages.caption import TemplateCaptioner
from consumers.stages.duration import DurationFilter
from consumers.stages.meter import StageMeter
from consumers.stages.model_stages import AestheticModelFilter, ModelCaptioner, NsfwModelFilter
from consumers.stages.motion_filter import MotionFilter
from consumers.stages.nsfw import UnscoredNsfwFilter
from consumers.stages.presence import FramePresence
from schemas.models import ModelsParams
from schemas.profile import Profile
from schemas.records import Caption, MediaInfo, Score, Stage

JUDGING_STAGES: Final = (Stage.DURATION, Stage.FRAMES, Stage.NSFW, Stage.MOTION, Stage.AESTHETIC, Stage.CAPTION)
"""The six of the seven stages that see one clip at a time; scene segmentation makes the clips."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What all stages together say about a clip; kept if ``rejected_by`` is None."""

    scores: tuple[Score, ...]
    rejected_by: Stage | None
    reason: str | None
    caption: Caption | None


NOTHING_YET: Final = Verdict((), None, None, None)


@dataclass(frozen=True, slots=True)
class StagePlan:
    """The stages that judge the clips of one video: ``local`` ones in the pass itself, then those that ask a model."""

    local: tuple[ClipStage, ...]
    remote: tuple[ClipStage, ...] = ()


def plan_stages(profile: Profile, media: MediaInfo, models: ClipModels, deadline: Deadline) -> StagePlan:
    """Return the judging stages of a video, with models where there are any and the built-ins elsewhere.

    Args:
        profile: their parameters.
        media: of the video at hand, as far as it is known at its first clip.
        models: those that ``profile.models`` names.
        deadline: of the video.
    """
    local: list[ClipStage] = [DurationFilter(profile.duration), FramePresence()]
    remote: list[ClipStage] = []
    params = profile.models or ModelsParams()
    if models.nsfw is not None and params.nsfw is not None:
        remote.append(NsfwModelFilter(profile.nsfw, models.nsfw, params.nsfw, deadline))
    else:
        local.append(UnscoredNsfwFilter(profile.nsfw))
    local.append(MotionFilter(profile.motion))
    if models.aesthetic is not None and params.aesthetic is not None:
        remote.append(AestheticModelFilter(profile.aesthetic, models.aesthetic, params.aesthetic, deadline))
    else:
        local.append(TechnicalQualityFilter(profile.aesthetic))
    if models.captioner is not None and params.captioner is not None:
        remote.append(ModelCaptioner(models.captioner, params.captioner, deadline))
    else:
        (remote or local).append(TemplateCaptioner(media, motion_is_relative=profile.motion.relative))
    return StagePlan(tuple(local), tuple(remote))


def judge(
    clip: ClipEvidence,
    stages: Sequence[ClipStage],
    meters: Mapping[Stage, StageMeter],
    so_far: Verdict = NOTHING_YET,
    progress: VideoProgress | None = None,
) -> Verdict:
    """Return the verdict on ``clip``: stage after stage until one rejects it; the later ones do not see it.

    Args:
        clip: what the pass found out.
        stages: in order.
        meters: one for each stage; counts clips in and out.
        so_far: what the stages before these said, none of which has rejected the clip.
        progress: told which stage is being asked; for stages that wait for a model.

    Raises:
        VideoError: a stage could not judge the clip.
    """
    scores = list(so_far.scores)
    caption = so_far.caption
    for stage in stages:
        meter = meters[stage.stage]
        meter.num_in += 1
        with meter, nullcontext() if progress is None else progress.asking(stage.stage):
            result = stage.judge(clip)
        if result.call is not None:
            meter.add_call(result.call, result.model_cpu_s)
        scores.extend(result.scores)
        caption = result.caption or caption
        if result.reason is not None:
            return Verdict(tuple(scores), stage.stage, result.reason, None)
        meter.num_out += 1
    return Verdict(tuple(scores), None, None, caption)
