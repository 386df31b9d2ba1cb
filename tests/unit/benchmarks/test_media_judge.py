import json
import os
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import media
from benchmarks.media_sound import SOUND_RATE_HZ, best_lag
from consumers.media.samples import Shot, write_video
from schemas.records import CutMethod, VideoOutcome
from tests.support.wrong_clips import clip_data, mirrored, one_late, remade, slower, with_clip, without_one

SHOTS = [Shot(1.5, seed=1, speed_px=4), Shot(1.5, seed=2, speed_px=4)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("judge") / "a.mp4", SHOTS, width=320, height=180, audio=True)


@pytest.fixture(scope="module")
def outcome(source: Path) -> VideoOutcome:
    made = media.curate(source)
    assert len(made.clips) == 2
    return made


def test_right_clips_are_clean(source: Path, outcome: VideoOutcome) -> None:
    row = media.judged(source, outcome)
    assert (row["verdict"], row["problems"]) == ("clean", [])
    assert (row["num_frames"], row["num_compared"], row["num_kept"]) == (72, 72, 2)
    assert row["min_sound_correlation"] > 0.85


def test_a_clip_encoded_again_is_clean(source: Path, outcome: VideoOutcome) -> None:
    again = with_clip(outcome, remade(clip_data(outcome)))
    assert media.judged(source, _as_encoded(again))["problems"] == []


WRONG: dict[str, tuple[Callable[[VideoOutcome], bytes], str]] = {
    "another clip's pictures": (lambda made: clip_data(made, 1), "frames differ from the source"),
    "one frame late": (lambda made: remade(clip_data(made), one_late), "one frame late"),
    "a frame missing": (lambda made: remade(clip_data(made), without_one), "1 of 36 frames are missing"),
    "mirrored": (lambda made: remade(clip_data(made), mirrored), "frames differ from the source"),
    "slower": (lambda made: remade(clip_data(made), slower), "beside their times"),
    "sound late": (lambda made: remade(clip_data(made), sound_late_s=0.2), "ms late"),
    "no sound": (lambda made: remade(clip_data(made), has_sound=False), "has no sound, the source has"),
    "another aspect": (lambda made: remade(clip_data(made), aspect=Fraction(4, 3)), "the aspect of a pixel is 4/3"),
    "another range": (lambda made: remade(clip_data(made), full_range=True), "colours are off"),
    "tagged as RGB": (lambda made: remade(clip_data(made), matrix=0), "is tagged as RGB"),
    "no video": (lambda made: b"\0" * 1000, "cannot be read"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_clip_differs(name: str, source: Path, outcome: VideoOutcome) -> None:
    make, problem = WRONG[name]
    row = media.judged(source, _as_encoded(with_clip(outcome, make(outcome))))
    assert row["verdict"] == "differs"
    assert any(problem in said for said in row["problems"]), row["problems"]


def _as_encoded(outcome: VideoOutcome) -> VideoOutcome:
    # Otherwise each change of a pixel would be a finding, and not the one in question.
    first = outcome.clips[0]
    assert first.media is not None
    changed = replace(first, media=replace(first.media, cut_method=CutMethod.REENCODE_H264))
    return replace(outcome, clips=(changed, *outcome.clips[1:]))


def test_a_copy_with_any_other_pixel_differs(source: Path, outcome: VideoOutcome) -> None:
    row = media.judged(source, with_clip(outcome, remade(clip_data(outcome))))
    assert row["verdict"] == "differs"


def test_a_lost_clip_a_rejected_one_and_a_wrong_row_differ(source: Path, outcome: VideoOutcome) -> None:
    first, second = outcome.clips
    assert first.media is not None
    lost = media.judged(source, replace(outcome, clips=(first,)))
    assert lost["problems"] == ["the clips end at frame 36, the video at 72"]
    refused = media.judged(source, replace(outcome, clips=(replace(first, media=None, reason="cut_failed"), second)))
    assert refused["problems"] == ["clip 0: was not kept: cut_failed"]
    mute = replace(first, media=replace(first.media, has_audio=False, num_frames=35, thumbnail_jpeg=None))
    told = " ".join(media.judged(source, replace(outcome, clips=(mute, second)))["problems"])
    for problem in ("the row says has_audio False", "the row says 35 frames", "has no thumbnail"):
        assert problem in told


def test_a_folder_is_judged_file_by_file_and_counted(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "good.mp4").write_bytes(source.read_bytes())
    (tmp_path / "text.mp4").write_text("This is a text file, whatever its name says.\n" * 64)
    (tmp_path / "notes.md").write_text("A document.\n")
    assert media.main(["--media", str(tmp_path), "--json"]) == 0
    good, text, total = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (good["file"], good["verdict"]) == ("good.mp4", "clean")
    assert (text["verdict"], text["error"]) == ("failed", "not_a_video")
    assert total == {"total": "all", "num_files": 2, "clean": 1, "differs": 0, "failed": 1}


def die(path: Path) -> dict[str, Any]:
    os._exit(11)


def test_a_crash_is_a_row(source: Path) -> None:
    row = media.judge_apart(source, die)
    assert (row["verdict"], row["error"]) == ("failed", "crash")


def test_a_folder_without_files_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert media.main(["--media", str(tmp_path)]) == 2
    assert "nothing to judge" in capsys.readouterr().err


@pytest.mark.parametrize("late", [-0.12, 0.0, 0.3])
def test_the_lag_between_two_sounds_is_found(late: float) -> None:
    noise = np.random.default_rng(1).normal(0, 1, 3 * SOUND_RATE_HZ).astype(np.float32)
    correlation, lag_s = best_lag(noise, np.roll(noise, round(late * SOUND_RATE_HZ)))
    assert lag_s == pytest.approx(late)
    assert correlation > 0.85
