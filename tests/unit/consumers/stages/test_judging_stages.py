from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from consumers.clock import Deadline, SystemClock
from consumers.media.samples import Shot, draw
from consumers.models.calls import ClipModels
from consumers.stages.aesthetic import TechnicalQualityFilter, measure
from consumers.stages.base import ClipEvidence, ClipStage, MotionMeasurement, SampledFrame
from consumers.stages.caption import TemplateCaptioner
from consumers.stages.duration import DurationFilter
from consumers.stages.meter import StageMeter
from consumers.stages.motion_filter import MotionFilter
from consumers.stages.nsfw import UnscoredNsfwFilter
from consumers.stages.pipeline import JUDGING_STAGES, Verdict, judge, plan_stages
from consumers.stages.presence import FramePresence
from schemas.profile import AestheticParams, DurationParams, FilterMode, MotionParams, NsfwParams, Profile
from schemas.records import MediaInfo, Span, Stage

MEDIA = MediaInfo("mov,mp4", "h264", 640, 360, 24.0, 3.0, 72, 0, 0, False)
SCORE_ONLY = FilterMode.SCORE_ONLY


def picture(seed: int = 1) -> NDArray[np.uint8]:
    return next(draw([Shot(1, seed=seed)], 398, 224, 24))


def flat(*rgb: int) -> NDArray[np.uint8]:
    return np.full((224, 398, 3), rgb, np.uint8)


def clip(
    *pictures: NDArray[np.uint8], duration_s: float = 3.0, motion: float | None = 2.0, start_s: float = 0.0
) -> ClipEvidence:
    end_s = start_s + duration_s
    span = Span(start_s, end_s, round(start_s * 1000), round(end_s * 1000), Fraction(1, 1000), 0, 72)
    frames = tuple(SampledFrame(float(k), k * 1000, k == 0, rgb) for k, rgb in enumerate(pictures))
    measurement = MotionMeasurement(motion, 0 if motion is None else 5, "farneback/long_side_256")
    return ClipEvidence(0, span, frames, measurement, True)


def built_in_stages(profile: Profile) -> tuple[ClipStage, ...]:
    plan = plan_stages(profile, MEDIA, ClipModels(), Deadline(SystemClock(), 60))
    assert plan.remote == ()
    return plan.local


def verdict(evidence: ClipEvidence, profile: Profile) -> Verdict:
    meters = {stage: StageMeter(stage) for stage in JUDGING_STAGES}
    return judge(evidence, built_in_stages(profile), meters)


def test_duration_bounds_are_closed() -> None:
    stage = DurationFilter(DurationParams(min_s=2, max_s=4))
    reasons = [stage.judge(clip(duration_s=length)).reason for length in (1.99, 2.0, 3.0, 4.0, 4.01)]
    assert reasons == ["duration_below_min", None, None, None, "duration_above_max"]


@given(st.floats(0, 1e5), st.floats(0, 1e5), st.floats(0, 1e5) | st.none())
def test_duration_filter_keeps_exactly_the_interval(length_s: float, min_s: float, more_s: float | None) -> None:
    params = DurationParams(min_s=min_s, max_s=None if more_s is None else min_s + more_s)
    result = DurationFilter(params).judge(clip(duration_s=length_s))
    assert (result.reason is None) == (params.min_s <= length_s and (params.max_s is None or length_s <= params.max_s))
    assert result.scores[0].value == length_s


@pytest.mark.parametrize(
    ("params", "motion", "reason"),
    [
        (MotionParams(), 0.24, "motion_below_min"),
        (MotionParams(), 0.25, None),
        (MotionParams(max_score=8), 8.0, None),
        (MotionParams(max_score=8), 8.1, "motion_above_max"),
        (MotionParams(), None, "motion_unmeasured"),
        (MotionParams(min_score=0, max_score=8), None, "motion_unmeasured"),
        (MotionParams(min_score=0), None, None),
        (MotionParams(mode=SCORE_ONLY), 0.0, None),
        (MotionParams(mode=SCORE_ONLY), None, None),
    ],
)
def test_motion_filter_verdict(params: MotionParams, motion: float | None, reason: str | None) -> None:
    result = MotionFilter(params).judge(clip(motion=motion))
    assert result.reason == reason
    assert (result.scores[0].value, result.scores[0].method) == (motion, "farneback/long_side_256")


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        (NsfwParams(), "nsfw_unscored"),
        (NsfwParams(unscored="pass"), None),
        (NsfwParams(unscored="hold", mode=SCORE_ONLY), None),
    ],
)
def test_nsfw_without_a_model_scores_nothing_and_follows_the_policy(params: NsfwParams, reason: str | None) -> None:
    result = UnscoredNsfwFilter(params).judge(clip(picture()))
    assert result.reason == reason
    assert (result.scores[0].value, result.scores[0].method, result.scores[0].model_id) == (None, "unscored", None)


def test_clip_without_frames_is_rejected_by_frame_extraction() -> None:
    assert FramePresence().judge(clip()).reason == "no_frames"
    assert FramePresence().judge(clip(picture())).reason is None


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (128, 128, 128), (200, 30, 30)])
def test_blank_frame_has_no_quality(colour: tuple[int, int, int]) -> None:
    assert measure(flat(*colour)).score == 0


def test_dark_noise_is_below_the_default_bound_and_a_textured_picture_well_above() -> None:
    rng = np.random.default_rng(0)
    noise = np.clip(rng.normal(8, 3, (224, 398, 3)), 0, 255).astype(np.uint8)
    bound = AestheticParams().min_technical_quality
    assert measure(noise).score < bound
    assert measure(picture()).score > 2 * bound


def test_black_and_white_costs_a_fifth_at_most() -> None:
    rgb = picture()
    gray = np.repeat(rgb.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
    measured = measure(gray)
    assert measured.colourfulness == 0
    assert measured.score > 0.7 * measure(rgb).score


def test_blur_lowers_sharpness_and_score() -> None:
    rgb = picture()
    blurred = rgb.copy()
    for _ in range(6):
        blurred = ((blurred.astype(np.uint16) + np.roll(blurred, 2, 0) + np.roll(blurred, 2, 1)) // 3).astype(np.uint8)
    assert measure(blurred).sharpness < measure(rgb).sharpness / 2
    assert measure(blurred).score < measure(rgb).score


def test_colourfulness_follows_the_published_formula() -> None:
    half = np.concatenate([flat(255, 0, 0), flat(0, 0, 255)])
    # rg is 255 and 0, yb 127.5 and -255: spreads 127.5 and 191.25, means 127.5 and -63.75.
    expected = np.hypot(127.5, 191.25) + 0.3 * np.hypot(127.5, -63.75)
    assert measure(half).colourfulness == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("reduce", "kept"), [("max", True), ("avg", False), ("min", False)])
def test_quality_is_reduced_over_the_frames(reduce: str, kept: bool) -> None:
    params = AestheticParams.model_validate({"reduce": reduce, "min_technical_quality": 0.5})
    result = TechnicalQualityFilter(params).judge(clip(picture(), flat(0, 0, 0)))
    assert (result.reason is None) == kept


def test_quality_is_named_for_what_it_is_and_comes_with_its_parts() -> None:
    scores = TechnicalQualityFilter(AestheticParams()).judge(clip(picture())).scores
    assert [score.name for score in scores] == [
        "technical_quality",
        "colourfulness",
        "rms_contrast",
        "sharpness",
        "exposure",
    ]
    assert {score.model_id for score in scores} == {None}


def test_quality_in_score_only_mode_rejects_nothing() -> None:
    result = TechnicalQualityFilter(AestheticParams(mode=SCORE_ONLY)).judge(clip(flat(0, 0, 0)))
    assert result.reason is None
    assert result.scores[0].value == 0


def test_caption_states_measured_facts_and_is_marked_as_a_template() -> None:
    result = TemplateCaptioner(MEDIA, motion_is_relative=False).judge(clip(flat(10, 30, 160), motion=0.1))
    assert result.caption is not None
    assert result.caption.text == (
        "A 3.0 s clip of 640x360 pixels at 24 frames per second, dark, blue on average, hardly any motion."
    )
    assert (result.caption.method, result.caption.is_model_generated) == ("template", False)


def test_caption_reads_relative_motion_in_diagonals() -> None:
    result = TemplateCaptioner(MEDIA, motion_is_relative=True).judge(clip(flat(90, 90, 90), motion=0.02))
    assert result.caption is not None
    assert result.caption.text.endswith("medium-bright, gray on average, fast motion.")


def test_first_stage_that_rejects_ends_the_judging() -> None:
    profile = Profile(nsfw=NsfwParams(unscored="pass"))
    found = verdict(clip(flat(0, 0, 0), motion=0.1), profile)
    assert (found.rejected_by, found.reason, found.caption) == (Stage.MOTION, "motion_below_min", None)
    assert [score.name for score in found.scores] == ["duration_s", "nsfw_probability", "motion_mean_magnitude"]


def test_good_clip_passes_all_stages_with_scores_and_caption() -> None:
    found = verdict(clip(picture()), Profile(nsfw=NsfwParams(unscored="pass")))
    assert found.rejected_by is None
    assert found.caption is not None
    assert {score.stage for score in found.scores} == {Stage.DURATION, Stage.NSFW, Stage.MOTION, Stage.AESTHETIC}


def test_all_filters_in_score_only_mode_keep_a_bad_clip_and_record_why_it_is_bad() -> None:
    profile = Profile(
        duration=DurationParams(min_s=100, mode=SCORE_ONLY),
        nsfw=NsfwParams(mode=SCORE_ONLY),
        motion=MotionParams(mode=SCORE_ONLY),
        aesthetic=AestheticParams(mode=SCORE_ONLY),
    )
    found = verdict(clip(flat(0, 0, 0), motion=None), profile)
    assert found.rejected_by is None
    values = {score.name: score.value for score in found.scores}
    assert values["duration_s"] == 3.0
    assert values["motion_mean_magnitude"] is None
    assert values["technical_quality"] == 0


def test_meters_count_clips_in_and_out() -> None:
    profile = Profile(nsfw=NsfwParams(unscored="pass"))
    meters = {stage: StageMeter(stage) for stage in JUDGING_STAGES}
    stages = built_in_stages(profile)
    for evidence in (clip(picture()), clip(picture(), motion=0.0), clip()):
        judge(evidence, stages, meters)
    counts = [(meters[stage].num_in, meters[stage].num_out) for stage in JUDGING_STAGES]
    assert counts == [(3, 3), (3, 2), (2, 2), (2, 1), (1, 1), (1, 1)]
