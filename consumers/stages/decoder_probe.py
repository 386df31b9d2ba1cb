"""Compares two ways of decoding on small videos that are made here: the same clips to the last pixel, or not the same.

Each sample has a cut, B-frames where the codec has them, and a height that is no multiple of 16, so that what surrounds
the picture in the decoder's memory would show.
"""

from __future__ import annotations

import io
import math
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import av
import numpy as np

from consumers.clock import Deadline, SystemClock
from consumers.media.decode import VideoDecoder
from consumers.media.nvdec import NvdecGaveUpError
from consumers.media.samples import Shot, write_video
from consumers.stages.base import ClipEvidence
from consumers.stages.single_pass import OpenDecoder, SinglePass
from schemas.profile import Limits, Profile
from schemas.records import MediaInfo

_SHOTS: Final = (Shot(0.75, seed=1, speed_px=3), Shot(0.75, seed=2))
_SIZE: Final[dict[str, Any]] = {"width": 320, "height": 184, "gop": 12}
_SAMPLES: Final[dict[str, tuple[dict[str, Any], ...]]] = {
    "h264": (
        {"codec": "libx264", "options": {"preset": "veryfast"}},
        {"codec": "libx264", "options": {"preset": "veryfast"}, "pix_fmt": "yuvj420p"},
    ),
    "hevc": ({"codec": "libx265", "options": {"preset": "veryfast", "x265-params": "log-level=none:pools=none"}},),
    "vp9": ({"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},),
}
# Every frame of such a clip, at its own size.
_PROFILE: Final = Profile.model_validate({"frames": {"num_frames": 64, "size_px": 1024}})
_DEADLINE_S: Final = 60.0
_MOTION_TOLERANCE: Final = 1e-9
"""Farneback's flow depends in its last bits on where in memory the pictures lie, on equal pictures as well."""


class HardwareDecoder(Protocol):
    """A way to decode that is not the CPU's, such as :class:`~consumers.media.nvdec.Nvdec`."""

    def open(self, stream: BinaryIO, limits: Limits, deadline: Deadline, codecs: frozenset[str]) -> VideoDecoder:
        """Return a decoder of one video.

        Raises:
            NvdecGaveUpError: it is not for this video; as its ``frames`` may do at any time.
        """
        ...


@dataclass(frozen=True, slots=True)
class CodecReport:
    """What the samples of one codec show.

    Attributes:
        problem: why whole videos do not come out as on the CPU; None if they do.
        misses_damage: a picture that is damaged inside comes out otherwise than on the CPU, without a word.
    """

    problem: str | None
    misses_damage: bool = False


def probe(hardware: HardwareDecoder) -> dict[str, CodecReport]:
    """Decode samples of every codec both ways and return what they show, by codec. Takes a second or two."""
    return {codec: _probe_codec(hardware, codec) for codec in _SAMPLES}


def _probe_codec(hardware: HardwareDecoder, codec: str) -> CodecReport:
    way = partial(hardware.open, codecs=frozenset({codec}))
    try:
        whole = make_samples(codec)
    except av.FFmpegError as error:
        return CodecReport(f"no sample could be made ({error})")
    for data in whole:
        try:
            problem = find_difference(data, way)
        except NvdecGaveUpError as error:
            problem = str(error)
        if problem is not None:
            return CodecReport(problem)
    try:
        return CodecReport(None, misses_damage=find_difference(damage(whole[0]), way) is not None)
    except NvdecGaveUpError:
        # Then the CPU begins it again.
        return CodecReport(None)


def make_samples(codec: str) -> list[bytes]:
    """Return the sample videos of ``codec`` as MP4.

    Raises:
        av.FFmpegError: this libav has no encoder for it.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sample.mp4"
        return [write_video(path, _SHOTS, **_SIZE, **how).read_bytes() for how in _SAMPLES[codec]]


def damage(video: bytes) -> bytes:
    """Return an MP4 with whole headers, of one of whose pictures all but the beginning is turned into noise."""
    with av.open(io.BytesIO(video), mode="r") as container:
        packets = [packet for packet in container.demux(video=0) if packet.size and not packet.is_keyframe]
        largest = max(packets, key=lambda packet: packet.size)
        position, size = largest.pos or 0, largest.size
    damaged = bytearray(video)
    for index in range(position + size * 3 // 10, position + size):
        damaged[index] ^= 0xA5
    return bytes(damaged)


def find_difference(video: bytes, way: OpenDecoder) -> str | None:
    """Return how what ``way`` makes of a video differs from what the CPU makes of it; None where nothing differs.

    Cuts, times, usable frames, every pixel of them and the motion are compared, and have to be equal.

    Raises:
        NvdecGaveUpError: ``way`` leaves the video to the CPU.
    """
    expected_clips, expected_media = _run(video, VideoDecoder)
    try:
        clips, media = _run(video, way)
    except NvdecGaveUpError:
        raise
    # Whatever a decoder under trial raises must not end the worker.
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if media.num_frames != expected_media.num_frames:
        return f"it gives {media.num_frames} frames, the CPU {expected_media.num_frames}"
    cuts, expected_cuts = ([clip.span.start_frame for clip in each] for each in (clips, expected_clips))
    if cuts != expected_cuts:
        return f"it cuts at frames {cuts}, the CPU at {expected_cuts}"
    for clip, expected in zip(clips, expected_clips, strict=True):
        if problem := _compare(clip, expected):
            return problem
    return None


def _run(video: bytes, way: OpenDecoder) -> tuple[list[ClipEvidence], MediaInfo]:
    one_pass = SinglePass(io.BytesIO(video), _PROFILE, Limits(), Deadline(SystemClock(), _DEADLINE_S), way)
    return list(one_pass.clips()), one_pass.media


def _compare(clip: ClipEvidence, expected: ClipEvidence) -> str | None:
    where = f"clip {clip.index}"
    if clip.span != expected.span or clip.starts_on_keyframe != expected.starts_on_keyframe:
        return f"{where} has other timestamps or keyframes than on the CPU"
    if [frame.pts for frame in clip.frames] != [frame.pts for frame in expected.frames]:
        return f"{where} has other usable frames than on the CPU"
    for frame, original in zip(clip.frames, expected.frames, strict=True):
        if not np.array_equal(frame.rgb, original.rgb):
            levels = int(np.abs(frame.rgb.astype(np.int16) - original.rgb).max())
            return f"the frame at {frame.time_s:.3f} s differs from the CPU's by up to {levels} of 255 levels"
    found, wanted = clip.motion.mean_magnitude, expected.motion.mean_magnitude
    if found is None or wanted is None or not math.isclose(found, wanted, rel_tol=_MOTION_TOLERANCE):
        return f"{where} has a motion of {found} pixels, on the CPU {wanted}"
    return None
