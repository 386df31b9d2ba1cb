"""Clips are decoded in a process that may die of them, and are what their rows tell or not."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from consumers.media import clip_check
from consumers.media.clip_check import ClipChecker
from consumers.media.samples import Shot, write_video
from schemas.profile import Limits


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return write_video(path, [Shot(1, seed=1)], width=96, height=64, fps=12).read_bytes()


@pytest.fixture
def checker() -> Iterator[ClipChecker]:
    with ClipChecker(deadline_s=20) as made:
        yield made


def test_clip_that_shows_as_many_frames_as_its_row_tells_is_whole(checker: ClipChecker, clip: bytes) -> None:
    assert checker.problem(clip, 12) is None


def test_clip_with_another_number_of_frames_is_told(checker: ClipChecker, clip: bytes) -> None:
    assert checker.problem(clip, 13) == "decodes to 12 frames, its row tells 13"


@pytest.mark.parametrize("data", [b"garbage", b"\0" * 5000, b"x"])
def test_what_is_no_video_does_not_decode(checker: ClipChecker, data: bytes) -> None:
    assert str(checker.problem(data, 1)).startswith("does not decode: ")


def test_clip_that_is_cut_short_does_not_decode(checker: ClipChecker, clip: bytes) -> None:
    assert checker.problem(clip[: len(clip) // 2], 12) is not None


def test_limits_hold(clip: bytes) -> None:
    with ClipChecker(Limits(max_pixels=64), deadline_s=20) as checker:
        assert "6144 pixels, the limit is 64" in str(checker.problem(clip, 12))


def test_decoder_that_dies_costs_its_clip_alone(checker: ClipChecker, clip: bytes) -> None:
    assert checker.problem(clip, 12) is None
    assert checker._child is not None
    os.kill(checker._child.pid, signal.SIGSEGV)
    assert checker.problem(clip, 12) == "ended the process that decoded it (SIGSEGV)"
    assert checker.problem(clip, 12) is None


def test_decoder_that_hangs_is_ended(checker: ClipChecker, clip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_check, "_GRACE_S", 0.0)
    with ClipChecker(deadline_s=0.5) as hasty:
        assert hasty._started() is not None
        assert hasty._child is not None
        os.kill(hasty._child.pid, signal.SIGSTOP)
        assert hasty.problem(clip, 12) == "did not decode within 0.5 s"
        assert hasty._child is None
