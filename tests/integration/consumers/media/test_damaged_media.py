"""Damage, odd files and hostile ones: each ends with a true error or with frames, and soon."""

from __future__ import annotations

import io
import random
from pathlib import Path

import av
import numpy as np
import pytest

from consumers.clock import Deadline, SystemClock
from consumers.errors import (
    DeadlineExceededError,
    NoFramesError,
    NotAVideoError,
    NoVideoStreamError,
    ObjectUnavailableError,
    TooLongError,
    TooManyFramesError,
    TooManyPixelsError,
    TruncatedError,
    VideoError,
)
from consumers.media.samples import Shot, write_video
from consumers.stages.single_pass import SinglePass
from schemas.profile import Limits, Profile
from tests.support.passes import ONE_CLIP, run_pass

_SIZE = {"width": 160, "height": 120}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """12 seconds of H.264 in an MP4 whose index stands in front of the data."""
    path = tmp_path_factory.mktemp("whole") / "whole.mp4"
    write_video(path, [Shot(6, seed=1), Shot(6, seed=2)], **_SIZE, container_options={"movflags": "+faststart"})
    return path.read_bytes()


def test_an_empty_object_is_not_a_video() -> None:
    with pytest.raises(NotAVideoError, match="empty"):
        run_pass(b"")


@pytest.mark.parametrize(
    "content", [b"just a text file\n" * 500, b"ffconcat version 1.0\nfile 'secret.mp4'\n", b"\0" * 4096]
)
def test_text_playlists_and_zeros_are_not_videos(content: bytes) -> None:
    with pytest.raises(NotAVideoError, match=f"{len(content)} bytes"):
        run_pass(content)


def test_a_playlist_that_names_a_local_file_does_not_open_it(tmp_path: Path, whole: bytes) -> None:
    (tmp_path / "inner.mp4").write_bytes(whole)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:12\n#EXTINF:12,\n{tmp_path / 'inner.mp4'}\n#EXT-X-ENDLIST\n"
    for content in (playlist, f"ffconcat version 1.0\nfile '{tmp_path / 'inner.mp4'}'\n"):
        with pytest.raises(NotAVideoError):
            run_pass(content.encode())


def test_an_mp4_cut_off_before_its_index_is_truncated_and_names_both_lengths(tmp_path: Path) -> None:
    content = write_video(tmp_path / "a.mp4", [Shot(2)], **_SIZE).read_bytes()
    cut = content[: len(content) // 2]
    with pytest.raises(TruncatedError, match=f"'mdat' ends at byte .*, the object at {len(cut)}"):
        run_pass(cut)


def test_an_mp4_whose_index_is_missing_says_so(tmp_path: Path) -> None:
    content = write_video(tmp_path / "a.mp4", [Shot(2)], **_SIZE).read_bytes()
    with pytest.raises(NotAVideoError, match="no 'moov'"):
        run_pass(content[: content.rindex(b"moov") - 4])


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_file_whose_data_end_early_is_truncated_and_both_figures_are_named(whole: bytes, share: float) -> None:
    with pytest.raises(TruncatedError, match=r"the data end at \d+\.\d s, the container declares 12\.0 s"):
        run_pass(whole[: int(len(whole) * share)])


def test_a_matroska_file_cut_in_half_is_truncated(tmp_path: Path) -> None:
    content = write_video(tmp_path / "a.mkv", [Shot(8)], **_SIZE).read_bytes()
    with pytest.raises(TruncatedError, match=r"declares 8\.0 s"):
        run_pass(content[: len(content) // 2])


def test_a_file_that_lacks_its_last_frames_only_is_processed(whole: bytes) -> None:
    clips, media = run_pass(whole[: int(len(whole) * 0.985)])
    assert clips
    assert media.duration_s > 11


@pytest.mark.parametrize("seed", range(12))
def test_flipped_bits_end_with_a_true_error_or_with_frames(whole: bytes, seed: int) -> None:
    rng = random.Random(seed)
    damaged = bytearray(whole)
    for _ in range(rng.choice([1, 10, 200])):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    try:
        clips, media = run_pass(bytes(damaged))
    except VideoError:
        return
    assert media.num_frames > 0
    assert clips[-1].span.end_frame == media.num_frames


def test_damage_in_the_stream_costs_the_frames_up_to_the_next_keyframe_only(whole: bytes) -> None:
    damaged = bytearray(whole)
    start = len(damaged) // 2
    rng = random.Random(3)
    for offset in range(start, start + 400):
        damaged[offset] = rng.randrange(256)
    clips, media = run_pass(bytes(damaged), ONE_CLIP)
    assert 0 < media.num_corrupt_frames <= 60
    assert media.num_frames > 250
    assert clips[0].motion.num_pairs > 10


def test_sound_alone_has_no_video_stream(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(NoVideoStreamError, match="audio"):
        run_pass(path)


def test_a_frame_over_the_limit_is_refused_with_both_figures(whole: bytes) -> None:
    with pytest.raises(TooManyPixelsError, match="160 x 120 is 19200 pixels, the limit is 19199"):
        run_pass(whole, limits=Limits(max_pixels=19199))


def test_a_video_with_more_frames_than_the_limit_is_refused_as_it_is_decoded(whole: bytes) -> None:
    with pytest.raises(TooManyFramesError, match="more than 100 frames"):
        run_pass(whole, limits=Limits(max_frames=100))


def test_a_video_over_the_duration_limit_is_refused_before_it_is_decoded(whole: bytes) -> None:
    with pytest.raises(TooLongError, match=r"declares 12\.0 s, the limit is 11 s"):
        run_pass(whole, limits=Limits(max_duration_s=11))


def test_a_video_that_declares_no_duration_is_measured_as_it_is_decoded(tmp_path: Path) -> None:
    path = write_video(tmp_path / "live.mkv", [Shot(4)], **_SIZE, container_options={"live": "1"})
    with pytest.raises(TooLongError, match="decoded so far"):
        run_pass(path, limits=Limits(max_duration_s=3))


def test_a_single_frame_is_a_clip_without_motion(tmp_path: Path) -> None:
    (clip,), media = run_pass(write_video(tmp_path / "one.mp4", [Shot(1)], **_SIZE, fps=1))
    assert media.num_frames == 1
    assert len(clip.frames) == 1
    assert clip.motion.mean_magnitude is None
    assert clip.span.end_s == pytest.approx(1.0)


def test_a_change_of_size_begins_a_new_clip_and_time_goes_on(tmp_path: Path) -> None:
    parts = [
        write_video(tmp_path / f"{width}.ts", [Shot(2, seed=width)], width=width, height=120).read_bytes()
        for width in (160, 320)
    ]
    clips, media = run_pass(b"".join(parts), ONE_CLIP)
    assert [clip.frames[0].rgb.shape[1] for clip in clips] == [160, 320]
    assert media.duration_s == pytest.approx(4.0, abs=0.2)
    assert clips[1].span.start_s == pytest.approx(2.0, abs=0.1)


def test_a_variable_frame_rate_is_timed_by_its_timestamps(tmp_path: Path) -> None:
    timestamps = [k * 512 for k in range(24)] + [24 * 512 + k * 6400 for k in range(24)]
    path = write_video(tmp_path / "vfr.mp4", [Shot(2)], **_SIZE, timestamps=timestamps)
    (clip,), media = run_pass(path, ONE_CLIP)
    assert media.num_frames == 48
    assert clip.span.end_s == pytest.approx(media.duration_s)
    assert media.duration_s == pytest.approx((24 * 512 + 24 * 6400) / 12800, abs=0.51)
    middle = clip.frames[1].time_s
    assert middle == pytest.approx(clip.frames[2].time_s / 2, abs=0.5)


class _Failing(io.BytesIO):
    """Serves reads up to a number, then raises."""

    def __init__(self, content: bytes, error: Exception, num_good_reads: int) -> None:
        super().__init__(content)
        self._error = error
        self._left = num_good_reads

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise self._error
        return super().read(min(size or -1, 4096))


@pytest.mark.parametrize("num_good_reads", [0, 1, 5, 20])
def test_a_store_that_fails_in_mid_read_is_never_taken_for_a_broken_video(whole: bytes, num_good_reads: int) -> None:
    for error in (ObjectUnavailableError("the store said 503"), ConnectionResetError("the store said 503")):
        stream = _Failing(whole, error, num_good_reads)
        with pytest.raises(ObjectUnavailableError, match="the store said 503"):
            list(SinglePass(stream, Profile(), Limits(), Deadline(SystemClock(), 60)).clips())


class _Clock(SystemClock):
    def __init__(self) -> None:
        self.ticks = 0

    def monotonic_s(self) -> float:
        self.ticks += 1
        return float(self.ticks)


@pytest.mark.parametrize("seconds", [1, 20, 100])
def test_the_deadline_ends_the_pass_wherever_it_strikes(whole: bytes, seconds: int) -> None:
    with pytest.raises(DeadlineExceededError, match=f"{seconds} s"):
        list(SinglePass(io.BytesIO(whole), Profile(), Limits(), Deadline(_Clock(), seconds)).clips())


def test_a_stream_without_one_good_frame_says_so(tmp_path: Path) -> None:
    content = bytearray(write_video(tmp_path / "a.mkv", [Shot(1)], **_SIZE, codec="libx264").read_bytes())
    with av.open(io.BytesIO(bytes(content))) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    assert packets
    for position, size in packets:
        body = position + 12
        content[body : body + size - 12] = b"\xff" * (size - 12)
    with pytest.raises((NoFramesError, NotAVideoError)):
        run_pass(bytes(content))
