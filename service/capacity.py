"""How much machine a load needs: pure arithmetic over a small table of rates, each with its source.

CPU rates were measured during development on one thread of an x86 server core (PyAV 18.1, OpenCV 5.0, 114 s of H.264,
x264 medium, medians, repeats within 10 percent). GPU rates are not ours: they are what the authors of Data-Juicer
published for the same seven stages, and stand here until ``benchmarks.gpu`` has run on your GPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

SECONDS_PER_DAY = 86400


class Resolution(StrEnum):
    """Frame size of the mean video."""

    P360 = "360p"
    P720 = "720p"
    P1080 = "1080p"


class Gpu(StrEnum):
    """GPUs for which a rate of the model stages has been published."""

    RTX_5090 = "rtx-5090"
    L20 = "l20"
    NONE = "none"


CPU_MS_PER_VIDEO_SECOND = {Resolution.P360: 33.6, Resolution.P720: 74.0, Resolution.P1080: 155.0}
"""One decode pass: exact scene scores, 224 px model inputs, flow at long side 256. Milliseconds of CPU, measured."""

ENCODE_MS_PER_CLIP_SECOND = {Resolution.P360: 88.0, Resolution.P720: 341.0, Resolution.P1080: 808.0}
"""Cutting a clip that has to be encoded again (x264 veryfast). Milliseconds of CPU, measured."""

ENCODED_SHARE = 6 / 23
"""Share of cuts that do not fall on a keyframe, and so need encoding; the others are copied. Measured on 23 cuts."""

VIDEO_SECONDS_PER_GPU_SECOND = {Gpu.RTX_5090: 25.0, Gpu.L20: 20.0}
"""Their whole pipeline of the same seven stages. Published by the authors of Data-Juicer: 2 million videos on 360
RTX 5090, and 6,865 videos on 8 L20, with their models and their preprocessing; not measured by us."""

ASSUMED_MBIT_PER_S = {Resolution.P360: 1.0, Resolution.P720: 3.0, Resolution.P1080: 6.0}
"""Bit rate where the caller knows none: an assumption, not a measurement."""


@dataclass(frozen=True, slots=True)
class Load:
    """What has to be processed.

    Attributes:
        videos_per_day: videos landing, above 0.
        mean_seconds: mean length of a video, above 0.
        resolution: frame size of the mean video.
        kept_share: share of the video seconds that ends in kept clips, 0 to 1.
        mean_clip_seconds: mean length of a clip, above 0.
        mbit_per_s: mean bit rate; None takes :data:`ASSUMED_MBIT_PER_S`.
        gpu: what runs the models; ``none`` for the stages without weights.
        utilisation: share of a machine that is planned to be busy; the rest is for peaks and catching up. Above 0 to 1.
        commit_interval_s: ``consumer.commit_interval_s``.

    Raises:
        ValueError: a figure is out of its range.
    """

    videos_per_day: float
    mean_seconds: float
    resolution: Resolution = Resolution.P720
    kept_share: float = 0.5
    mean_clip_seconds: float = 5.0
    mbit_per_s: float | None = None
    gpu: Gpu = Gpu.RTX_5090
    utilisation: float = 0.7
    commit_interval_s: float = 10.0

    def __post_init__(self) -> None:
        for name in ("videos_per_day", "mean_seconds", "mean_clip_seconds", "commit_interval_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be above 0: {getattr(self, name)}")
        if not 0 <= self.kept_share <= 1:
            raise ValueError(f"kept_share must be from 0 to 1: {self.kept_share}")
        if not 0 < self.utilisation <= 1:
            raise ValueError(f"utilisation must be above 0 and at most 1: {self.utilisation}")
        if self.mbit_per_s is not None and not 0 < self.mbit_per_s < math.inf:
            raise ValueError(f"mbit_per_s must be above 0: {self.mbit_per_s}")


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a :class:`Load` needs.

    Attributes:
        video_seconds_per_second: seconds of video that land in a second.
        cpu_cores: cores of workers, to order; whole.
        gpus: GPUs, to order; whole, 0 without models.
        read_bytes_per_day: fetched from the object store.
        read_bytes_per_second: the same, as a mean rate.
        curated_bytes_per_day: clips written.
        clips_per_day: rows of the curated table.
        ledger_rows_per_day: rows of the ledger.
        commits_per_day: at most so many, each a snapshot of the ledger and one of the curated table.
    """

    video_seconds_per_second: float
    cpu_cores: int
    gpus: int
    read_bytes_per_day: float
    read_bytes_per_second: float
    curated_bytes_per_day: float
    clips_per_day: float
    ledger_rows_per_day: float
    commits_per_day: int


def plan(load: Load) -> Capacity:
    """Return what ``load`` needs. Linear in the load but for the rounding up of whole cores and GPUs."""
    video_s_per_day = load.videos_per_day * load.mean_seconds
    rate = video_s_per_day / SECONDS_PER_DAY
    encode_ms = ENCODE_MS_PER_CLIP_SECOND[load.resolution] * ENCODED_SHARE * load.kept_share
    cpu_s = (CPU_MS_PER_VIDEO_SECOND[load.resolution] + encode_ms) / 1000
    gpu_rate = VIDEO_SECONDS_PER_GPU_SECOND.get(load.gpu)
    bytes_per_video_s = (load.mbit_per_s or ASSUMED_MBIT_PER_S[load.resolution]) * 1e6 / 8
    return Capacity(
        video_seconds_per_second=rate,
        cpu_cores=math.ceil(rate * cpu_s / load.utilisation),
        gpus=0 if gpu_rate is None else math.ceil(rate / gpu_rate / load.utilisation),
        read_bytes_per_day=video_s_per_day * bytes_per_video_s,
        read_bytes_per_second=rate * bytes_per_video_s,
        curated_bytes_per_day=video_s_per_day * load.kept_share * bytes_per_video_s,
        clips_per_day=video_s_per_day * load.kept_share / load.mean_clip_seconds,
        ledger_rows_per_day=load.videos_per_day,
        commits_per_day=math.ceil(SECONDS_PER_DAY / load.commit_interval_s),
    )
