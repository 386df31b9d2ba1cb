"""The order of the stages that judge a clip, and the judging itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from consumers.stages.aesthetic import TechnicalQualityFilter
from consumers.stages.base import ClipEvidence, ClipStage
from consumers.stages.caption import TemplateCaptioner
from consumers.stages.duration import DurationFilter
from consumers.stages.meter import StageMeter
from consumers.stages.motion_filter import MotionFilter
from consumers.stages.nsfw import UnscoredNsfwFilter
from consumers.stages.presence import FramePresence
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


def built_in_stages(profile: Profile, media: MediaInfo) -> tuple[ClipStage, ...]:
    """Return the judging stages in order, those that need no model weights.

    Args:
        profile: their parameters.
        media: of the video at hand, as far as it is known at its first clip.
    """
    return (
        DurationFilter(profile.duration),
        FramePresence(),
        UnscoredNsfwFilter(profile.nsfw),
        MotionFilter(profile.motion),
        TechnicalQualityFilter(profile.aesthetic),
        TemplateCaptioner(media, motion_is_relative=profile.motion.relative),
    )


def judge(clip: ClipEvidence, stages: Sequence[ClipStage], meters: Mapping[Stage, StageMeter]) -> Verdict:
    """Return the verdict on ``clip``: stage after stage until one rejects it; the later ones do not see it.

    Args:
        clip: what the pass found out.
        stages: in order.
        meters: one for each stage; counts clips in and out.
    """
    scores: list[Score] = []
    caption: Caption | None = None
    for stage in stages:
        meter = meters[stage.stage]
        meter.num_in += 1
        with meter:
            result = stage.judge(clip)
        scores.extend(result.scores)
        caption = result.caption or caption
        if result.reason is not None:
            return Verdict(tuple(scores), stage.stage, result.reason, None)
        meter.num_out += 1
    return Verdict(tuple(scores), None, None, caption)
