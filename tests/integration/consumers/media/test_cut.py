"""Cuts clips and holds every decoded frame against the source's."""

import io
import os
import subprocess
import sys
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import scenedetect

from consumers.clock import Deadline, SystemClock
from consumers.errors import CutFailedError, DeadlineExceededError
from consumers.media import spool
from consumers.media.cut import ClipCutter, CutMode, CutResult
from consumers.media.samples import Shot, write_video
from schemas.records import CutMethod, Span
from tests.support.clips import Source, decode_clip, increases, is_faststart, opencv_pictures, psnr, read_source
from tests.support.videos import requires_videos, video

SHOTS = [Shot(1.5, seed=1), Shot(1.5, seed=2)]
SMALL = {"width": 160, "height": 96}
CUT_FRAME = 36


def content(result: CutResult) -> bytes:
    assert result.file is not None
    result.file.seek(0)
    data = result.file.read()
    assert len(data) == result.size_bytes
    return data


def cutter(path: Path, mode: CutMode = "auto") -> ClipCutter:
    return ClipCutter(io.BytesIO(path.read_bytes()), mode, Deadline(SystemClock(), 60))


def cut(path: Path, source: Source, start: int, end: int, mode: CutMode = "auto") -> CutResult:
    first = source.frames[start]
    return cutter(path, mode).cut(
        source.span(start, end), starts_on_keyframe=first.is_keyframe, pixel_aspect=first.pixel_aspect
    )


def assert_holds(result: CutResult, source: Source, start: int, end: int, least_psnr: float) -> None:
    """Assert that the clip shows exactly the frames ``start`` to ``end`` at their times, from 0 on."""
    assert is_faststart(content(result))
    clip = decode_clip(content(result))
    wanted = source.frames[start:end]
    assert len(clip.pictures) == result.num_frames == len(wanted)
    for picture, frame in zip(clip.pictures, wanted, strict=True):
        assert psnr(picture, frame.rgb) >= least_psnr
    times_s = [float((frame.pts - wanted[0].pts) * source.time_base) for frame in wanted]
    assert clip.times_s == pytest.approx(times_s, abs=1e-4)


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Source]:
    """A keyframe at the cut, B-frames, closed GOPs, AAC."""
    path = tmp_path_factory.mktemp("closed") / "v.mp4"
    write_video(path, SHOTS, **SMALL, audio=True, gop=CUT_FRAME, options={"preset": "veryfast", "bf": "3"})
    return path, read_source(path)


@pytest.fixture(scope="module")
def one_gop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Source]:
    """No keyframe but the first."""
    path = tmp_path_factory.mktemp("one_gop") / "v.mp4"
    write_video(path, SHOTS, **SMALL, audio=True, gop=500, options={"preset": "veryfast", "x264-params": "scenecut=0"})
    return path, read_source(path)


@pytest.mark.parametrize(("start", "end"), [(0, CUT_FRAME), (CUT_FRAME, 72), (0, 72)])
def test_clip_between_closed_keyframes_is_copied_bit_for_bit(closed: tuple[Path, Source], start: int, end: int) -> None:
    result = cut(*closed, start, end)
    assert (result.method, result.num_hidden_frames, result.has_audio) == (CutMethod.STREAM_COPY, 0, True)
    assert_holds(result, closed[1], start, end, float("inf"))


@pytest.mark.parametrize(("start", "end"), [(10, 30), (CUT_FRAME, 50), (0, 20), (71, 72)])
def test_clip_with_an_end_that_is_no_keyframe_is_encoded_again(
    closed: tuple[Path, Source], start: int, end: int
) -> None:
    result = cut(*closed, start, end)
    assert result.method is CutMethod.REENCODE_H264
    assert_holds(result, closed[1], start, end, 33)


def test_neighbours_pictures_are_not_in_the_bytes_of_a_reencoded_clip(one_gop: tuple[Path, Source]) -> None:
    path, source = one_gop
    result = cut(path, source, CUT_FRAME, 72)
    assert result.method is CutMethod.REENCODE_H264
    assert_holds(result, source, CUT_FRAME, 72, 33)
    assert psnr(decode_clip(content(result)).pictures[0], source.frames[CUT_FRAME - 1].rgb) < 20


def test_h264_mode_encodes_even_where_a_copy_would_do(closed: tuple[Path, Source]) -> None:
    result = cut(*closed, 0, CUT_FRAME, "h264")
    assert result.method is CutMethod.REENCODE_H264
    assert_holds(result, closed[1], 0, CUT_FRAME, 33)


def test_copy_mode_hides_what_precedes_and_follows_and_says_how_much(one_gop: tuple[Path, Source]) -> None:
    path, source = one_gop
    result = cut(path, source, 40, 60, "copy")
    assert result.method is CutMethod.EDIT_LIST
    assert result.num_hidden_frames >= 40
    assert_holds(result, source, 40, 60, float("inf"))


def test_none_mode_reads_nothing_and_gives_the_reference() -> None:
    class Untouchable(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise AssertionError("read")

    span = Span(0, 1, 0, 100, Fraction(1, 100), 0, 25)
    result = ClipCutter(Untouchable(), "none", Deadline(SystemClock(), 1)).cut(span, starts_on_keyframe=True)
    assert (result.file, result.method, result.num_frames) == (None, CutMethod.REFERENCE, 25)


def test_open_gop_is_not_copied_because_its_leading_pictures_need_the_neighbour(tmp_path: Path) -> None:
    options = {"preset": "veryfast", "bf": "3", "x264-params": "open-gop=1:scenecut=0:b-adapt=0"}
    path = write_video(tmp_path / "v.mp4", [Shot(3, seed=1)], **SMALL, gop=24, options=options)
    source = read_source(path)
    keyframes = [index for index, frame in enumerate(source.frames) if frame.is_keyframe]
    assert len(keyframes) >= 2
    result = cut(path, source, keyframes[1], 72)
    assert result.method is CutMethod.REENCODE_H264
    assert_holds(result, source, keyframes[1], 72, 33)


@pytest.mark.parametrize("mode", ["auto", "h264", "copy"])
def test_variable_frame_rate_and_late_start_keep_their_times(tmp_path: Path, mode: CutMode) -> None:
    rng = np.random.default_rng(3)
    stamps = (50_000 + np.cumsum(rng.integers(200, 2000, 72))).tolist()
    path = write_video(tmp_path / "v.mp4", SHOTS, **SMALL, gop=CUT_FRAME, timestamps=stamps)
    source = read_source(path)
    for start, end in ((0, CUT_FRAME), (CUT_FRAME, 72), (12, 50)):
        assert_holds(cut(path, source, start, end, mode), source, start, end, 33)


@pytest.mark.parametrize(("start", "end"), [(0, CUT_FRAME), (10, 60)])
def test_sound_stays_in_step_with_the_pictures(closed: tuple[Path, Source], start: int, end: int) -> None:
    path, source = closed
    result = cut(path, source, start, end)
    whole, clip = decode_clip(path.read_bytes()), decode_clip(content(result))
    assert clip.sound_rate_hz == whole.sound_rate_hz == 48_000
    offset_s = source.span(start, end).start_s
    window = 2400
    # The same piece of sound, 0.2 s into the clip, found in the source by correlation.
    at = round((0.2 - clip.sound_start_s) * 48_000)
    piece = clip.sound[at : at + window]
    around = round((offset_s + 0.2 - whole.sound_start_s) * 48_000)
    errors = {
        shift: float(np.abs(whole.sound[around + shift : around + shift + window] - piece).mean())
        for shift in range(-300, 301)
    }
    # A 440 Hz tone repeats every 109 samples, so only the nearest match counts.
    best = min(errors, key=lambda shift: (round(errors[shift], 3), abs(shift)))
    assert abs(best) <= 48


def test_sound_covers_the_clip_to_a_packet(one_gop: tuple[Path, Source]) -> None:
    path, source = one_gop
    clip = decode_clip(content(cut(path, source, 20, 60)))
    assert clip.sound_start_s == pytest.approx(0, abs=0.03)
    assert len(clip.sound) / 48_000 == pytest.approx(source.span(20, 60).duration_s, abs=0.05)


def test_vp8_and_opus_in_webm_become_h264_with_sound(tmp_path: Path) -> None:
    options = {"deadline": "realtime", "cpu-used": "8", "b": "2M"}
    path = write_video(tmp_path / "v.webm", SHOTS, **SMALL, codec="libvpx", audio=True, options=options)
    source = read_source(path)
    result = cut(path, source, CUT_FRAME, 72, "copy")
    assert (result.method, result.has_audio) == (CutMethod.REENCODE_H264, True)
    assert_holds(result, source, CUT_FRAME, 72, 33)


def test_odd_sides_lose_one_row_and_one_column(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", SHOTS, width=161, height=97, pix_fmt="yuv444p")
    source = read_source(path)
    clip = decode_clip(content(cut(path, source, 5, 30, "h264")))
    assert clip.pictures[0].shape == (96, 160, 3)
    assert psnr(clip.pictures[7], source.frames[12].rgb[:96, :160]) > 30


def test_opencv_and_pyscenedetect_see_the_exact_frames(one_gop: tuple[Path, Source], tmp_path: Path) -> None:
    path, source = one_gop
    for mode, start, end in (("auto", 0, 72), ("h264", 20, 60), ("copy", 20, 60)):
        result = cut(path, source, start, end, mode)  # type: ignore[arg-type]
        pictures = opencv_pictures(content(result), tmp_path / "clip.mp4")
        assert len(pictures) == end - start
        assert psnr(pictures[0], source.frames[start].rgb) > 33
        scenes = scenedetect.detect(str(tmp_path / "clip.mp4"), scenedetect.ContentDetector(), start_in_scene=True)
        assert [begin.frame_num for begin, _ in scenes] == [0, CUT_FRAME - start]


def test_clips_in_any_order_come_out_the_same(closed: tuple[Path, Source]) -> None:
    path, source = closed
    spans = [source.span(0, 20), source.span(20, 50), source.span(50, 72)]
    forward, backward = cutter(path, "h264"), cutter(path, "h264")
    there = [forward.cut(span, starts_on_keyframe=False) for span in spans]
    back = [backward.cut(span, starts_on_keyframe=False) for span in reversed(spans)]
    assert [content(result) for result in there] == [content(result) for result in back[::-1]]


def test_damaged_frames_are_left_out_and_the_rest_is_a_sound_file(one_gop: tuple[Path, Source], tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", [Shot(3, seed=1)], **SMALL, gop=12, options={"x264-params": "scenecut=0"})
    data = bytearray(path.read_bytes())
    middle = (data.find(b"mdat") + data.find(b"moov")) // 2
    data[middle : middle + 1500] = bytes(1500)
    path.write_bytes(bytes(data))
    source = read_source(path)
    usable = [frame for frame in source.frames if frame.is_usable]
    assert 0 < len(usable) < 72
    result = cut(path, source, 0, len(source.frames))
    assert result.method is CutMethod.REENCODE_H264
    clip = decode_clip(content(result))
    assert len(clip.pictures) == result.num_frames == len(usable)
    assert increases(clip.times_s)
    assert min(psnr(picture, frame.rgb) for picture, frame in zip(clip.pictures, usable, strict=True)) > 33


def test_span_without_a_frame_is_a_cut_failure(closed: tuple[Path, Source]) -> None:
    path, source = closed
    span = Span(50.0, 51.0, 50 * 12288, 51 * 12288, source.time_base, 1200, 1224)
    with pytest.raises(CutFailedError, match=r"from 50\.000 to 51\.000 s"):
        cutter(path).cut(span, starts_on_keyframe=False)


class TickingClock:
    """Every look at it costs a millisecond."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.now_s, UTC)

    def monotonic_s(self) -> float:
        self.now_s += 0.001
        return self.now_s


def test_cutting_beyond_the_deadline_ends(closed: tuple[Path, Source]) -> None:
    path, source = closed
    tool = ClipCutter(io.BytesIO(path.read_bytes()), "h264", Deadline(TickingClock(), 0.03))
    with pytest.raises(DeadlineExceededError, match="longer than"):
        tool.cut(source.span(0, 72), starts_on_keyframe=False)


@requires_videos
@pytest.mark.parametrize(
    ("name", "start", "end", "mode", "method"),
    [
        ("decord_rotated_90.mov", 0, 1, "auto", CutMethod.STREAM_COPY),
        ("decord_rotated_90.mov", 1, 3, "auto", CutMethod.REENCODE_H264),
        ("torchcodec_h265.mp4", 6, 10, "copy", CutMethod.STREAM_COPY),
        ("torchcodec_av1.mkv", 0, 125, "auto", CutMethod.STREAM_COPY),
        ("torchcodec_av1.mkv", 30, 60, "auto", CutMethod.REENCODE_H264),
        ("pyscenedetect_delayed_start.mp4", 0, 24, "auto", CutMethod.STREAM_COPY),
        ("pyscenedetect_delayed_start.mp4", 9, 20, "h264", CutMethod.REENCODE_H264),
        ("moviepy_no_duration.webm", 24, 49, "auto", CutMethod.REENCODE_H264),
        ("decord_unordered.mov", 0, 4, "auto", CutMethod.STREAM_COPY),
        ("torchcodec_nasa_13013.mp4", 127, 202, "auto", CutMethod.REENCODE_H264),
    ],
)
def test_real_video_is_cut_exactly(name: str, start: int, end: int, mode: CutMode, method: CutMethod) -> None:
    source = read_source(video(name))
    result = cut(video(name), source, start, end, mode)
    assert result.method is method
    assert_holds(result, source, start, end, 30 if method is CutMethod.REENCODE_H264 else float("inf"))


def test_pixels_that_are_not_square_stay_so(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", SHOTS, **SMALL, options={"x264-params": "sar=4/3"})
    source = read_source(path)
    for mode in ("auto", "h264"):
        result = cut(path, source, 0, 72, mode)
        with av.open(io.BytesIO(content(result)), mode="r") as container:
            assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


@pytest.mark.parametrize("mode", ["auto", "h264", "copy"])
def test_clip_is_the_same_whether_it_was_made_in_memory_or_on_disk(
    closed: tuple[Path, Source], mode: CutMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, source = closed
    spans = [(0, CUT_FRAME), (10, 30)]
    in_memory = [content(cut(path, source, start, end, mode)) for start, end in spans]
    monkeypatch.setattr(spool, "PACKETS_IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(spool, "FILE_IN_MEMORY_BYTES", 1)
    assert [content(cut(path, source, start, end, mode)) for start, end in spans] == in_memory


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone fills fresh memory with a given byte")
def test_clip_does_not_depend_on_what_memory_held_before(closed: tuple[Path, Source]) -> None:
    """An encoder that reads what it has not written makes another clip of the same frames on a retry."""
    path, _ = closed
    found = set()
    for byte in (0, 1, 85, 170, 254):
        # Every allocation comes from the heap, filled with this byte.
        tunables = f"glibc.malloc.perturb={byte}:glibc.malloc.mmap_threshold=1000000000"
        done = subprocess.run(
            [sys.executable, "-m", "tests.support.cut_hash", str(path)],
            env={**os.environ, "GLIBC_TUNABLES": tunables},
            cwd=Path(__file__).parents[4],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1
