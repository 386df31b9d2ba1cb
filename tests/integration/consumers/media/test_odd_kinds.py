"""Sources of kinds that no encoder's defaults make: headers that change, layers, HDR, dropped frames, joined clocks."""

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from benchmarks.media import curate
from consumers.media import spool
from consumers.media.samples import Shot, write_video
from schemas.records import ClipCheck, CutMethod, Stage, VideoOutcome
from tests.support.judging import clean, have_sound, methods, with_sound
from tests.support.mp4_boxes import box, find, joined_descriptions, with_described
from tests.support.odd_media import SHOTS, SMALL, ends_with_dropped_frames, layered, resized, shifted

_COPIED, _ENCODED = CutMethod.STREAM_COPY, CutMethod.REENCODE_H264
_PLAIN: dict[str, Any] = {"bf": "0", "x264-params": "cabac=0:ref=1:8x8dct=0"}
_RICH: dict[str, Any] = {"bf": "0", "preset": "medium", "profile": "high"}
_CLOSED = "log-level=0:bframes=0:scenecut=0:keyint=24:open-gop=0"
_MASTERING = box(b"mdcv", struct.pack(">8H2I", 8500, 39850, 6550, 2300, 35400, 14600, 15635, 16450, 10_000_000, 50))
_LIGHT = box(b"clli", struct.pack(">2H", 1000, 400))
_DOLBY = box(b"dvvC", bytes([1, 0, 8 << 1, 1 << 3 | 5, 1 << 4]) + bytes(19))


@pytest.fixture(params=["in memory", "on disk"])
def where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packets of a clip that is being copied wait in memory or on disk."""
    if request.param == "on disk":
        monkeypatch.setattr(spool, "PACKETS_IN_MEMORY_BYTES", 0)


@pytest.mark.usefixtures("where")
@pytest.mark.parametrize("size", [{"width": 160, "height": 96}, {"width": 192, "height": 160}])
def test_a_track_with_two_descriptions_shows_the_pictures_of_both(tmp_path: Path, size: dict[str, int]) -> None:
    first = write_video(tmp_path / "1.mp4", [Shot(1, seed=1)], **SMALL, options=_PLAIN)
    second = write_video(tmp_path / "2.mp4", [Shot(1, seed=2)], **size, options=_RICH)
    outcome = clean(joined_descriptions(first, second, tmp_path / "v.mp4"))
    # The second clip's packets go with a header that a muxer takes for the whole track: the check finds that out.
    assert methods(outcome) == [_COPIED, _ENCODED]
    assert outcome.clip_checks == {ClipCheck.PASSED: 1, ClipCheck.ENCODED_AGAIN: 1}


@pytest.mark.usefixtures("where")
def test_a_header_that_changes_within_a_clip_goes_with_the_copy(tmp_path: Path) -> None:
    parts = [
        write_video(tmp_path / f"{number}.mp4", [Shot(1, "static", seed=1)], **SMALL, options=options)
        for number, options in enumerate((_PLAIN, _RICH))
    ]
    assert methods(clean(joined_descriptions(parts[0], parts[1], tmp_path / "v.mp4"))) == [_COPIED]


def test_a_second_layer_does_not_cost_the_clip(tmp_path: Path) -> None:
    plain = write_video(tmp_path / "p.mp4", SHOTS, **SMALL, codec="libx265", options={"x265-params": _CLOSED})
    assert len(methods(clean(layered(plain, tmp_path / "v.mp4")))) == 2


def test_what_the_muxer_or_the_check_refuses_is_encoded(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "v.webm",
        SHOTS,
        **SMALL,
        codec="libvpx-vp9",
        pix_fmt="yuv440p",
        gop=24,
        options={"deadline": "realtime", "cpu-used": "8"},
    )
    assert methods(clean(path)) == [_ENCODED] * 2


def ten_bit(path: Path, **options: Any) -> Path:
    return write_video(path, SHOTS, **SMALL, codec="libx265", pix_fmt="yuv420p10le", **options)


def clip_boxes(outcome: VideoOutcome) -> list[bytes | None]:
    data = [clip.media.data or b"" for clip in outcome.clips if clip.media is not None]
    return [find(one, kind) for one in data for kind in (b"mdcv", b"clli", b"dvvC")]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_hdr_metadata_of_the_container_go_with_copies(tmp_path: Path, suffix: str) -> None:
    plain = ten_bit(tmp_path / "p.mp4", gop=24, options={"x265-params": _CLOSED})
    path = with_described(plain, tmp_path / "described.mp4", _MASTERING, _LIGHT, _DOLBY)
    if suffix == "mkv":
        path = shifted(path, tmp_path / "v.mkv", 0)
    outcome = clean(path)
    assert methods(outcome) == [_COPIED] * 2
    assert clip_boxes(outcome) == [_MASTERING[8:], _LIGHT[8:], _DOLBY[8:]] * 2


@pytest.mark.parametrize("is_in_stream", [True, False])
def test_hdr_metadata_that_encoding_drops_are_told(tmp_path: Path, is_in_stream: bool) -> None:
    told = ":master-display=G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(10000000,50):max-cll=1000,400"
    params = "log-level=0:scenecut=0" + (told if is_in_stream else "")
    path = ten_bit(tmp_path / "v.mp4", gop=500, options={"x265-params": params})
    if not is_in_stream:
        path = with_described(path, tmp_path / "described.mp4", _MASTERING, _LIGHT)
    outcome = clean(path)
    assert methods(outcome) == [_ENCODED] * 2
    for clip in outcome.clips:
        (score,) = (score for score in clip.scores if score.name == "dropped_hdr_metadata")
        assert (score.value, score.method) == (2.0, "mastering_display_metadata, content_light_level")


@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_packets_with_several_frames_of_sound_keep_all_of_them(tmp_path: Path, layout: str) -> None:
    pictures = write_video(tmp_path / "p.mp4", SHOTS, **SMALL, fps=25, gop=500)
    assert have_sound(clean(with_sound(pictures, tmp_path / "v.mov", "adpcm_ima_qt", layout)))


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
def test_dropped_frames_of_an_avi_are_pauses(tmp_path: Path, codec: str) -> None:
    stamps = [*range(20), *range(26, 56)]
    options = {"b": "2M"} if codec == "mpeg4" else {"bf": "2", "preset": "veryfast"}
    middle = write_video(
        tmp_path / "m.avi",
        SHOTS,
        **SMALL,
        fps=25,
        codec=codec,
        timestamps=stamps,
        time_base=Fraction(1, 25),
        options=options,
    )
    outcome = clean(middle)
    assert outcome.media is not None
    assert outcome.media.duration_s == pytest.approx(56 / 25)
    plain = write_video(tmp_path / "p.avi", SHOTS, **SMALL, fps=25, codec=codec, options=options)
    path = ends_with_dropped_frames(plain, tmp_path / "e.avi", 60)
    with av.open(str(path)) as container:
        assert (container.duration or 0) / av.time_base == pytest.approx(4.4, abs=0.1)
    assert sum(clip.span.end_frame - clip.span.start_frame for clip in clean(path).clips) == 50


def test_pieces_below_the_shortest_scene_are_no_clips(tmp_path: Path) -> None:
    outcome = curate(resized(tmp_path / "v.ts", [24, *[3] * 8, 24]))
    assert [(clip.span.start_frame, clip.span.end_frame) for clip in outcome.clips] == [(0, 24), (24, 48), (48, 72)]
    assert [clip.reason for clip in outcome.clips] == [None, "pieces_below_scene", None]
    assert outcome.clips[1].rejected_by is Stage.FRAMES
    only = curate(resized(tmp_path / "w.ts", [3] * 10))
    assert [(clip.span.end_frame, clip.reason) for clip in only.clips] == [(30, "pieces_below_scene")]


def test_one_short_piece_beside_a_change_is_a_clip(tmp_path: Path) -> None:
    assert [clip.span.end_frame for clip in clean(resized(tmp_path / "v.ts", [3, 24, 4])).clips] == [3, 27, 31]


@pytest.mark.parametrize(("suffix", "codec", "back_s"), [("mpg", "mpeg2video", 0.9), ("ts", "libx264", 0.4)])
def test_a_clock_that_goes_back_by_less_than_a_second_where_recordings_meet(
    tmp_path: Path, suffix: str, codec: str, back_s: float
) -> None:
    parts = []
    for number, start_s in enumerate((10.0, 12.0 - back_s)):
        # With B-frames libav loses the keyframe at the joint of a transport stream.
        options = {"bf": "2" if suffix == "mpg" else "0"}
        shots = [Shot(2, seed=number + 1)]
        pictures = write_video(tmp_path / f"{number}.mkv", shots, **SMALL, fps=25, codec=codec, options=options)
        sounding = with_sound(pictures, tmp_path / f"{number}s.mkv", "mp2")
        parts.append(shifted(sounding, tmp_path / f"{number}.{suffix}", start_s).read_bytes())
    path = tmp_path / f"v.{suffix}"
    path.write_bytes(b"".join(parts))
    outcome = clean(path)
    assert have_sound(outcome)
    assert [clip.span.duration_s for clip in outcome.clips] == pytest.approx([2, 2], abs=0.05)


def test_a_last_frame_whose_time_steps_back_does_not_shorten_the_clip(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", [Shot(1, seed=1)], **SMALL, fps=25)
    with av.open(str(path)) as container:
        last = [bytes(packet) for packet in container.demux(container.streams.video[0]) if packet.size][-1]
    content = bytearray(path.read_bytes())
    # Before a block's data stand two bytes of its time, in milliseconds after its cluster's, and one of flags.
    place = content.rfind(last) - 3
    (time_ms,) = struct.unpack_from(">h", content, place)
    struct.pack_into(">h", content, place, time_ms - 120)
    path.write_bytes(content)
    outcome = clean(path)
    assert outcome.clips[0].span.duration_s == pytest.approx(0.96, abs=0.01)
