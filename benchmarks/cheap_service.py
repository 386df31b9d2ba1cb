"""`sluice` with workers that judge a video by its row id and open nothing: what is left is the service itself.

``python -m benchmarks.cheap_service run ...`` takes what `sluice` takes. Of three videos one is curated with two clips,
one with one, and one is rejected; one in fifty cannot be read.
"""

from __future__ import annotations

import random
import sys
from fractions import Fraction
from unittest.mock import patch

from benchmarks.forked import sluice
from consumers.pool_report import VideoProgress
from schemas.profile import Profile, clip_id
from schemas.records import (
    MOTION_MEAN_MAGNITUDE,
    Caption,
    ClipMedia,
    ClipOutcome,
    CutMethod,
    Failure,
    FailureKind,
    RawVideo,
    Score,
    Span,
    Stage,
    StageTiming,
    VideoOutcome,
    VideoTask,
)
from service.settings import Settings
from service.wiring import consuming

_FAILED_ONE_IN = 50
_CLIP_BYTES, _THUMBNAIL_BYTES = 8192, 4096
_WORDS = ("dog", "river", "bicycle", "crowd", "train", "kitchen", "snow", "harbour", "guitar", "market")
_FINGERPRINT = Profile().fingerprint


class CheapWorker:
    """A processor that makes its outcomes up."""

    def process(self, task: VideoTask, progress: VideoProgress) -> VideoOutcome:
        """Return what becomes of the video, the same for the same row at each time."""
        video = task.video
        if video.row_id % _FAILED_ONE_IN == 0:
            message = f"{video.video_id} is a text file"
            return VideoOutcome(failure=Failure(FailureKind.PERMANENT, Stage.OPEN, "not_a_video", message))
        chance = random.Random(video.row_id)
        num_kept = video.row_id % 3
        clips = tuple(_clip(video, index, chance, is_kept=index < num_kept) for index in range(max(1, num_kept)))
        timings = tuple(StageTiming(stage, 0.001, 0.001, 10, 9) for stage in Stage)
        return VideoOutcome(clips=clips, timings=timings, bytes_read=1_000_000)


def _clip(video: RawVideo, index: int, chance: random.Random, *, is_kept: bool) -> ClipOutcome:
    span = Span(float(index), index + 1.0, index * 25, index * 25 + 25, Fraction(1, 25), index * 25, index * 25 + 25)
    scores = (Score(Stage.MOTION, MOTION_MEAN_MAGNITUDE, chance.random(), "farneback/full"),)
    known = clip_id(video.source_table, video.row_id, span, _FINGERPRINT)
    if not is_kept:
        return ClipOutcome(known, index, span, scores, rejected_by=Stage.MOTION, reason="motion_below_min")
    picture = chance.randbytes(_THUMBNAIL_BYTES)
    media = ClipMedia(CutMethod.STREAM_COPY, chance.randbytes(_CLIP_BYTES), picture, 25, 0, has_audio=False)
    caption = Caption(f"a {chance.choice(_WORDS)}, take {video.row_id}", "template", is_model_generated=False)
    return ClipOutcome(known, index, span, scores, caption=caption, media=media, num_frames_sampled=3)


def _no_media(settings: Settings) -> type[CheapWorker]:
    return CheapWorker


def main() -> int:
    """Run `sluice` with the arguments of this process; return its exit code."""
    with patch.object(consuming, "processor_factory", _no_media):
        return sluice(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
