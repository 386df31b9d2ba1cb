"""Clips of sources of many kinds against an independent decode, copied or encoded again."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from consumers.media.samples import Shot, write_video
from schemas.records import ClipCheck, CutMethod
from tests.support.clips import decode_clip
from tests.support.judging import clean, have_sound, methods, with_sound
from tests.support.odd_media import SHOTS, SMALL, joined, late


@pytest.mark.parametrize("suffix", ["ts", "flv", "mkv", "mp4"])
def test_sound_is_in_every_clip_whatever_the_container(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"v.{suffix}", SHOTS, **SMALL, audio=True, gop=500, options={"bf": "2"})
    assert have_sound(clean(path))


@pytest.mark.parametrize(
    ("suffix", "video", "sound"),
    [
        ("mpg", "mpeg2video", "mp2"),
        ("wmv", "wmv2", "wmav2"),
        ("mxf", "mpeg2video", "pcm_s16le"),
        ("avi", "mpeg4", "libmp3lame"),
        ("mov", "mjpeg", "pcm_s16le"),
        ("mkv", "mpeg4", "flac"),
        ("ts", "mpeg2video", "ac3"),
    ],
)
def test_other_codecs_keep_their_sound(tmp_path: Path, suffix: str, video: str, sound: str) -> None:
    pix_fmt = "yuvj420p" if video == "mjpeg" else "yuv420p"
    name = "p.wmv" if video == "wmv2" else "p.mkv"
    options = {"b": "2M"}
    pictures = write_video(tmp_path / name, SHOTS, **SMALL, fps=25, codec=video, pix_fmt=pix_fmt, options=options)
    assert have_sound(clean(with_sound(pictures, tmp_path / f"v.{suffix}", sound)))


def test_sound_follows_a_clock_that_begins_anew(tmp_path: Path) -> None:
    parts = []
    for number in range(2):
        part = write_video(tmp_path / f"{number}.ts", [Shot(2.5, seed=number + 1)], **SMALL, fps=25, audio=True)
        parts.append(part.read_bytes())
    path = tmp_path / "v.ts"
    path.write_bytes(b"".join(parts))
    outcome = clean(path)
    assert len(outcome.clips) == 2
    assert have_sound(outcome)


@pytest.mark.parametrize(("codec", "layout"), [("pcm_s16le", "7.1"), ("pcm_s16le", "hexadecagonal"), ("flac", "7.1")])
def test_sound_of_any_layout_is_cut(tmp_path: Path, codec: str, layout: str) -> None:
    pictures = write_video(tmp_path / "p.mp4", SHOTS, **SMALL, fps=25, gop=500)
    assert have_sound(clean(with_sound(pictures, tmp_path / "v.mkv", codec, layout)))


def test_late_first_frame_keeps_its_sound(tmp_path: Path) -> None:
    assert have_sound(clean(late(tmp_path / "v.mp4", 0.4, audio=True)))


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_aspect_that_only_the_container_tells_is_kept(tmp_path: Path, codec: str) -> None:
    plain = write_video(tmp_path / "p.mp4", SHOTS, **SMALL, codec=codec)
    path = tmp_path / "v.mp4"
    with av.open(str(plain)) as given, av.open(str(path), "w") as target:
        video = given.streams.video[0]
        stream: Any = target.add_stream_from_template(video, opaque=True)
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for packet in given.demux(video):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    outcome = clean(path)
    assert CutMethod.STREAM_COPY in methods(outcome)


@pytest.mark.parametrize("suffix", ["mkv", "flv", "mp4"])
def test_long_last_frame_lasts_in_the_clip(tmp_path: Path, suffix: str) -> None:
    stamps = [round(k * 512) for k in range(24)] + [12288 + 12800 * 3 + 512 * k for k in range(24)]
    path = write_video(tmp_path / f"v.{suffix}", SHOTS, **SMALL, timestamps=stamps, options={"bf": "2"})
    outcome = clean(path)
    first = outcome.clips[0]
    assert first.span.duration_s == pytest.approx(3.96, abs=0.1)


def test_h264_with_b_frames_in_matroska_is_copied(tmp_path: Path) -> None:
    options = {"preset": "veryfast", "bf": "3"}
    path = write_video(tmp_path / "v.mkv", SHOTS, **SMALL, gop=24, options=options)
    assert methods(clean(path)) == [CutMethod.STREAM_COPY] * 2


def test_frames_that_share_a_time_are_encoded_and_counted(tmp_path: Path) -> None:
    plain = write_video(tmp_path / "p.mkv", SHOTS, **SMALL, fps=25)
    path = tmp_path / "v.mkv"
    with av.open(str(plain)) as given, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(given.streams.video[0], opaque=True)
        for number, packet in enumerate(given.demux(given.streams.video[0])):
            if packet.dts is None:
                continue
            packet.stream = stream
            if number == 10:
                packet.pts = packet.dts = (packet.pts or 0) - 40
            target.mux(packet)
    outcome = clean(path)
    counted = [score.value for score in outcome.clips[0].scores if score.name == "frames_sharing_time"]
    assert counted == [1.0]


def test_clips_that_pass_at_once_are_counted(tmp_path: Path) -> None:
    outcome = clean(write_video(tmp_path / "v.mp4", SHOTS, **SMALL, gop=24))
    assert outcome.clip_checks == {ClipCheck.PASSED: 2}


def test_joined_recordings_with_their_own_clocks_are_clean(tmp_path: Path) -> None:
    assert len(clean(joined(tmp_path / "v.ts", [0, 600])).clips) == 2


def test_clip_of_copied_sound_decodes(tmp_path: Path) -> None:
    outcome = clean(write_video(tmp_path / "v.mp4", SHOTS, **SMALL, gop=24, audio=True))
    for clip in outcome.clips:
        assert clip.media is not None
        assert clip.media.data is not None
        assert len(decode_clip(io.BytesIO(clip.media.data).getvalue()).sound) > 0
