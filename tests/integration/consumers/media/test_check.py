"""The check of a finished clip tells a right one from wrong ones."""

from __future__ import annotations

import io
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from consumers.clock import Deadline, SystemClock
from consumers.media.check import Expected, find_fault
from consumers.media.look import ClipLook, small_picture
from consumers.media.samples import write_video
from tests.support.odd_media import SHOTS, SMALL


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Expected]:
    """Two shots of a second with sound, and what they are."""
    path: Path = write_video(tmp_path_factory.mktemp("check") / "v.mp4", SHOTS, **SMALL, audio=True, gop=500)
    with av.open(str(path)) as container:
        images = list(container.decode(container.streams.video[0]))
    look = ClipLook(small_picture(images[0]), small_picture(images[-1]), (160, 96), Fraction(1))
    return path.read_bytes(), Expected(48, 0, Fraction(2), look, (Fraction(0), Fraction(2)))


def encoded(expected: Expected) -> Expected:
    """Return what an encoded clip has to be where ``expected`` is that of a copy."""
    assert expected.look is not None
    return replace(expected, encoded_last=expected.look.last)


def fault(data: bytes, expected: Expected) -> str | None:
    return find_fault(io.BytesIO(data), expected, Deadline(SystemClock(), 60))


@pytest.mark.parametrize("is_encoded", [True, False])
def test_right_clip_passes(clip: tuple[bytes, Expected], is_encoded: bool) -> None:
    data, expected = clip
    assert fault(data, encoded(expected) if is_encoded else expected) is None


@pytest.mark.parametrize("is_encoded", [True, False])
def test_wrong_clip_is_told_by_what_is_wrong(clip: tuple[bytes, Expected], is_encoded: bool) -> None:
    data, right = clip
    right = encoded(right) if is_encoded else right
    look = right.look
    assert look is not None
    mirrored = np.ascontiguousarray(look.last[::-1])
    for wrong, words in (
        (replace(right, num_frames=47), "shows 48 frames, not 47"),
        (replace(right, duration_s=Fraction(5)), "lasts 2.000 s, not 5.000 s"),
        (replace(right, sound=(Fraction(0), Fraction(1))), "its sound is from"),
        (replace(right, look=replace(look, first=look.last)), "its first picture is not the source's"),
        (replace(right, look=replace(look, last=mirrored)), "its last picture is not the source's"),
        (replace(right, look=replace(look, size=(96, 160))), "shows 160 x 96 pixels, the source 96 x 160"),
        (
            replace(right, look=replace(look, pixel_aspect=Fraction(4, 3))),
            "its pixels is 1, in the source 4/3",
        ),
    ):
        assert words in (fault(data, wrong) or "")


def test_missing_sound_and_unreadable_bytes_are_faults(clip: tuple[bytes, Expected], tmp_path: Path) -> None:
    data, expected = clip
    silent = write_video(tmp_path / "v.mp4", SHOTS, **SMALL, gop=500).read_bytes()
    assert fault(silent, expected) == "it has no sound, the source has"
    assert "cannot be read back" in (fault(data[: len(data) // 2], expected) or "")
