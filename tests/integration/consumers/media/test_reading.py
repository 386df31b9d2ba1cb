"""What files show whose times, shape or colours are told in unusual ways: each made here, one per kind of fault."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from scenedetect import ContentDetector, detect

from benchmarks import media
from benchmarks.media_truth import pictures
from consumers.media.samples import Shot, write_video
from schemas.records import Stage, VideoOutcome, VideoStatus
from tests.support.clips import decode_clip
from tests.support.odd_media import (
    MIRRORED,
    SHOTS,
    SINGULAR,
    SMALL,
    TURNED,
    TURNED_AND_MIRRORED,
    UPSIDE_DOWN_MIRRORED,
    joined,
    late,
    with_matrix,
)
from tests.support.passes import run_pass
from tests.support.videos import FAULTS, requires_faults


def judged_clean(path: Path) -> VideoOutcome:
    """Return what becomes of ``path``, after every clip was found equal to an independent decode."""
    outcome = media.curate(path)
    assert outcome.failure is None, outcome.failure
    assert media.judged(path, outcome)["problems"] == []
    return outcome


def clip_bytes(outcome: VideoOutcome, index: int = 0) -> bytes:
    found = outcome.clips[index].media
    assert found is not None
    assert found.data is not None
    return found.data


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_frames_out_of_order_in_avi_stand_at_their_own_times(tmp_path: Path, codec: str) -> None:
    # AVI knows only decoding times.
    options = {"bf": "3", "preset": "veryfast"} if codec == "libx264" else {"bf": "2"}
    path = write_video(tmp_path / "v.avi", SHOTS, **SMALL, codec=codec, options=options)
    clips, found = run_pass(path)
    assert found.num_frames == 48
    assert [clip.span.start_frame for clip in clips] == [0, 24]
    outcome = judged_clean(path)
    # The very first times are a guess, and two frames may share one.
    shown = [time for k in range(2) for time in decode_clip(clip_bytes(outcome, k)).times_s]
    assert len(shown) >= 46
    scenes = detect(str(path), ContentDetector(threshold=27.0, min_scene_len=15), start_in_scene=True)
    assert float(clips[1].span.start_pts * clips[1].span.time_base) == pytest.approx(scenes[1][0].seconds, abs=0.001)


@pytest.mark.parametrize(
    "matrix", [MIRRORED, UPSIDE_DOWN_MIRRORED, TURNED, TURNED_AND_MIRRORED], ids=lambda matrix: str(matrix[:5])
)
@pytest.mark.parametrize("mode", ["auto", "h264"])
def test_a_display_matrix_counts_as_a_whole(tmp_path: Path, matrix: tuple[int, ...], mode: str) -> None:
    plain = write_video(tmp_path / "plain.mp4", SHOTS, **SMALL, options={"sc_threshold": "0"})
    path = with_matrix(plain, matrix, tmp_path / "v.mp4")
    shown = next(pictures(path)).rgb
    (first, _), found = run_pass(path)
    assert (found.width_px, found.height_px) == (shown.shape[1], shown.shape[0])
    assert np.mean(np.abs(first.frames[0].rgb.astype(int) - shown)) < 2
    judged_clean(path)


def test_a_matrix_that_displays_nothing_is_none(tmp_path: Path) -> None:
    plain = write_video(tmp_path / "plain.mp4", SHOTS, **SMALL)
    path = with_matrix(plain, SINGULAR, tmp_path / "v.mp4")
    clips, found = run_pass(path)
    assert (found.width_px, found.height_px, found.rotation_degrees) == (160, 96, 0)
    assert np.array_equal(clips[0].frames[0].rgb, run_pass(plain)[0][0].frames[0].rgb)


@pytest.mark.parametrize("suffix", ["webm", "mkv", "flv", "mp4", "ts"])
def test_a_file_that_starts_late_is_no_broken_off_one(tmp_path: Path, suffix: str) -> None:
    codec: dict[str, Any] = {"codec": "libvpx", "options": {"deadline": "realtime"}} if suffix == "webm" else {}
    path = late(tmp_path / f"v.{suffix}", 10.0, **codec)
    outcome = judged_clean(path)
    assert outcome.media is not None
    assert outcome.media.num_frames == 48
    assert outcome.media.duration_s == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize("starts_s", [(0, 600), (0, 600, 1200), (600, 0), (0, 12)])
def test_a_clock_that_jumps_begins_anew(tmp_path: Path, starts_s: tuple[float, ...]) -> None:
    path = joined(tmp_path / "v.ts", starts_s)
    outcome = judged_clean(path)
    assert [(clip.span.start_frame, clip.span.end_frame) for clip in outcome.clips] == [
        (25 * k, 25 * k + 25) for k in range(len(starts_s))
    ]
    assert [clip.span.start_s for clip in outcome.clips] == pytest.approx(list(range(len(starts_s))), abs=0.001)
    assert outcome.media is not None
    assert outcome.media.duration_s == pytest.approx(len(starts_s), abs=0.001)


def test_a_pause_is_no_jump(tmp_path: Path) -> None:
    path = joined(tmp_path / "v.ts", (0, 4))
    clips, found = run_pass(path)
    assert found.duration_s == pytest.approx(5.0, abs=0.01)
    assert [clip.span.start_s for clip in clips] == pytest.approx([0, 4], abs=0.01)


def test_an_aspect_that_changes_is_each_clips_own(tmp_path: Path) -> None:
    path = joined(tmp_path / "v.ts", (0, 1, 2), ("1/1", "4/3", "16/15"))
    outcome = judged_clean(path)
    aspects = []
    for index in range(3):
        with av.open(decoded_file(clip_bytes(outcome, index))) as container:
            aspects.append(container.streams.video[0].sample_aspect_ratio)
    assert aspects == [1, Fraction(4, 3), Fraction(16, 15)]


def decoded_file(data: bytes) -> Any:
    import io

    return io.BytesIO(data)


def test_an_aspect_that_changes_without_a_cut_ends_the_clip(tmp_path: Path) -> None:
    parts = []
    for number, aspect in enumerate(("1/1", "4/3")):
        part = write_video(
            tmp_path / f"{number}.ts",
            [Shot(1, "static", seed=1)],
            **SMALL,
            fps=25,
            timestamps=[97_200 * number + 3600 * k for k in range(25)],
            time_base=Fraction(1, 90_000),
            options={"x264-params": f"sar={aspect}", "bf": "2", "preset": "veryfast"},
        )
        parts.append(part.read_bytes())
    path = tmp_path / "v.ts"
    path.write_bytes(b"".join(parts))
    outcome = judged_clean(path)
    assert [clip.span.start_frame for clip in outcome.clips] == [0, 25]


@pytest.mark.parametrize("size", [(160, 96), (161, 97), (1280, 720)])
def test_rgb_becomes_video_with_tags_that_fit(tmp_path: Path, size: tuple[int, int]) -> None:
    shots = [Shot(0.5, seed=1, speed_px=4)]
    path = write_video(tmp_path / "v.mov", shots, width=size[0], height=size[1], codec="png", pix_fmt="rgb24")
    outcome = judged_clean(path)
    with av.open(decoded_file(clip_bytes(outcome))) as container:
        frame = next(container.decode(video=0))
    assert (frame.format.name, frame.colorspace, frame.color_range) == ("yuv420p", 1 if size[1] >= 720 else 6, 1)


@pytest.mark.parametrize("matrix", [None, TURNED])
def test_untagged_hd_is_shown_as_players_show_it(tmp_path: Path, matrix: tuple[int, ...] | None) -> None:
    path = write_video(tmp_path / "v.mp4", [Shot(0.5, seed=1)], width=1280, height=720, options={"sc_threshold": "0"})
    if matrix is not None:
        path = with_matrix(path, matrix, tmp_path / "turned.mp4")
    (clip,), _ = run_pass(path)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    shown = frame.reformat(398, 224, "rgb24", src_colorspace=1, interpolation="BICUBIC").to_ndarray()
    assert np.mean(clip.frames[0].rgb, axis=(0, 1)) == pytest.approx(np.mean(shown, axis=(0, 1)), abs=0.1)
    judged_clean(path)


def test_tags_and_odd_sides_survive_turning(tmp_path: Path) -> None:
    options = {"x264-params": "colormatrix=bt2020nc:colorprim=bt2020:transfer=smpte2084", "sc_threshold": "0"}
    plain = write_video(tmp_path / "plain.mp4", SHOTS[:1], width=161, height=97, pix_fmt="yuv444p", options=options)
    path = with_matrix(plain, TURNED_AND_MIRRORED, tmp_path / "v.mp4")
    outcome = media.curate(path)
    # Forced to be encoded: a copy would keep everything anyhow.
    assert outcome.status is VideoStatus.CURATED
    assert media.judged(path, outcome)["problems"] == []


def test_times_never_step_back_within_a_clip(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi", SHOTS, **SMALL, options={"bf": "3", "preset": "veryfast"})
    outcome = media.curate(path)
    for index in range(len(outcome.clips)):
        times_s = decode_clip(clip_bytes(outcome, index)).times_s
        assert all(later > earlier for earlier, later in pairwise(times_s))


def test_frames_that_share_a_time_are_counted_in_the_clips_record(tmp_path: Path) -> None:
    stamps = [533 * (k if k < 30 else k - 1) for k in range(48)]
    path = write_video(tmp_path / "v.mkv", [Shot(2, seed=1)], **SMALL, timestamps=stamps, options={"bf": "0"})
    (clip,) = media.curate(path).clips
    notes = {score.name: score.value for score in clip.scores if score.stage is Stage.DECODE}
    assert notes == {"frames_sharing_time": 1}


def test_an_assumed_colour_matrix_is_recorded(tmp_path: Path) -> None:
    hd = write_video(tmp_path / "hd.mp4", [Shot(0.2, seed=1)], width=1280, height=720)
    sd = write_video(tmp_path / "sd.mp4", [Shot(0.2, seed=1)], **SMALL)
    notes = [[(n.name, n.value, n.method) for n in run_pass(path)[0][0].notes()] for path in (hd, sd)]
    assert notes == [[("colour_matrix", 1.0, "untagged_hd_as_bt709")], []]


@requires_faults
@pytest.mark.parametrize(
    "name",
    ["hd_rot90.mp4", "nk_hflip.mp4", "starts_at_10s.webm", "still_end.avi", "x264rgb.mp4", "zero_matrix.mp4"],
)
def test_a_file_that_was_read_wrongly_is_read_right(name: str) -> None:
    assert FAULTS is not None
    judged_clean(FAULTS / name)
