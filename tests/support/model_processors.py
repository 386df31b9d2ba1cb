"""Curators over local files with tiny models, for tests of the model stages in the pools; importable by workers."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from consumers.clock import SystemClock
from consumers.media.samples import Shot, write_video
from consumers.models.calls import ClipModels
from consumers.ports import VideoProcessor
from consumers.stages.curate import VideoCurator
from consumers.testing import make_video
from consumers.testing.blobs import LocalFiles
from schemas.models import AestheticModelParams, CaptionerParams, GenerationParams, ModelsParams, NsfwModelParams
from schemas.profile import AestheticParams, ClipOutputParams, FilterMode, FramesParams, Limits, NsfwParams, Profile
from schemas.records import BlobReference, VideoOutcome, VideoTask


def tiny_profile(folder: Path) -> Profile:
    """Return a profile whose three model stages are tiny, score only, and pinned; the checkpoints go to ``folder``."""
    # Not at the top: workers that only curate need no torch.
    from consumers.models.hub import pin
    from tests.support import tiny_models

    models = ModelsParams(
        nsfw=NsfwModelParams(source=str(tiny_models.nsfw(folder / "nsfw"))),
        aesthetic=AestheticModelParams(source=str(tiny_models.aesthetic(folder / "aesthetic"))),
        captioner=CaptionerParams(
            kind="video_blip",
            source=str(tiny_models.blip2(folder / "blip2")),
            generation=GenerationParams(num_beams=1, max_new_tokens=4),
        ),
    )
    return Profile(
        models=pin(models),
        frames=FramesParams(size_px=64),
        nsfw=NsfwParams(mode=FilterMode.SCORE_ONLY),
        aesthetic=AestheticParams(mode=FilterMode.SCORE_ONLY),
        clips=ClipOutputParams(mode="none"),
    )


def make_curator(profile: Profile, models: ClipModels | None = None) -> VideoProcessor:
    return VideoCurator(LocalFiles(), profile, Limits(), SystemClock(), models or ClipModels())


def curators(profile: Profile) -> partial:
    return partial(make_curator, profile)


def write_videos(folder: Path, count: int) -> list[Path]:
    """Write videos of three moving shots each and one that stands still."""
    paths = []
    for index in range(count):
        path = folder / f"{index}.mp4"
        seed = 10 * index
        shots = (
            Shot(1.2, seed=seed + 1, speed_px=4),
            Shot(1.2, "static", seed=seed + 2),
            Shot(1.2, seed=seed + 3, speed_px=4),
            Shot(1.2, seed=seed + 5, speed_px=4),
        )
        write_video(path, shots, width=128, height=96)
        paths.append(path)
    return paths


def task_for(row_id: int, path: Path, *, deadline_s: float = 180.0) -> VideoTask:
    return VideoTask(replace(make_video(row_id, None), blob=BlobReference(str(path))), 1, deadline_s)


def judged(outcome: VideoOutcome) -> list[tuple]:
    """Return all that the stages said of each clip; two pools must agree on it."""
    assert outcome.failure is None, outcome.failure
    return [
        (clip.clip_id, clip.rejected_by, clip.reason, clip.caption, tuple(score for score in clip.scores))
        for clip in outcome.clips
    ]
