"""Metrics of the stages: workers return timings, the service exports them."""

from __future__ import annotations

from consumers.metrics import buckets
from consumers.metrics.types import FILTER_REASONS, MODEL_STAGES, Metric, each
from schemas.records import ClipCheck, Stage

_STAGES = each(tuple(Stage))
_MODELS = each(MODEL_STAGES)

STAGE_ITEMS_IN = Metric(
    "sluice_stage_items_in_total",
    "counter",
    "Items that a stage was given: videos by decoding and scene segmentation, clips by all others.",
    "Stages",
    ("consumer", "stage"),
    unit="items",
    values=_STAGES,
)
STAGE_ITEMS_OUT = Metric(
    "sluice_stage_items_out_total",
    "counter",
    "Items that a stage passed on: videos by decoding, clips by scene segmentation and all others.",
    "Stages",
    ("consumer", "stage"),
    unit="items",
    values=_STAGES,
)
CLIPS_REJECTED = Metric(
    "sluice_clips_rejected_total",
    "counter",
    "Clips rejected, by the stage that did it and its reason.",
    "Stages",
    ("consumer", "stage", "reason"),
    unit="clips",
    values=tuple((stage.value, reason) for stage, reason in FILTER_REASONS),
)
CLIP_CHECKS = Metric(
    "sluice_clip_checks_total",
    "counter",
    "Clips read back and held against their source: passed, encoded_again (and passed then), rejected (cut_failed).",
    "Stages",
    ("consumer", "result"),
    unit="clips",
    values=each(tuple(ClipCheck)),
)
STAGE_DURATION_SECONDS = Metric(
    "sluice_stage_duration_seconds",
    "histogram",
    "Wall time of one stage on one video, of those that came to it.",
    "Stages",
    ("consumer", "stage"),
    unit="seconds",
    buckets=buckets.STAGE_S,
    values=_STAGES,
)
STAGE_CPU_SECONDS = Metric(
    "sluice_stage_cpu_seconds_total",
    "counter",
    "CPU time of a stage.",
    "Stages",
    ("consumer", "stage"),
    unit="seconds",
    values=_STAGES,
)
DECODED_VIDEOS = Metric(
    "sluice_decoded_videos_total",
    "counter",
    "Videos by what decoded them; one that NVDEC gave up counts for the CPU.",
    "Stages",
    ("consumer", "decoder"),
    unit="videos",
    values=(("cpu",), ("nvdec",)),
    exploration_only=True,
)
DECODE_COST_RATIO = Metric(
    "sluice_decode_cost_ratio",
    "histogram",
    "CPU seconds of decoding per second of video, one observation per video.",
    "Stages",
    unit="ratio",
    buckets=buckets.COST_RATIOS,
)
STAGE_QUEUE_DEPTH = Metric(
    "sluice_stage_queue_depth",
    "gauge",
    "Items that wait for a stage: videos that no worker has taken at scene_segmentation, clips at a model stage.",
    "Stages",
    ("consumer", "stage"),
    unit="items",
    values=_STAGES,
)
STAGE_QUEUE_WAIT_SECONDS = Metric(
    "sluice_stage_queue_wait_seconds",
    "histogram",
    "Time that a clip waited for a model: transport, linger and the batches before its own.",
    "Stages",
    ("consumer", "stage"),
    unit="seconds",
    buckets=buckets.WAIT_S,
    values=_MODELS,
)
STAGE_BATCH_SIZE = Metric(
    "sluice_stage_batch_size",
    "histogram",
    "Clips in the batch that a clip was in, in a model stage; one observation per clip.",
    "Stages",
    ("consumer", "stage"),
    unit="items",
    buckets=buckets.BATCH_SIZES,
    values=_MODELS,
)
GPU_BUSY_SECONDS = Metric(
    "sluice_gpu_busy_seconds_total",
    "counter",
    "Time that GPUs spent on a model stage; stays 0 on CPUs.",
    "Stages",
    ("consumer", "stage"),
    unit="seconds",
    values=_MODELS,
)
GPU_REPLICAS = Metric(
    "sluice_gpu_replicas",
    "gauge",
    "Replicas of a model stage that hold a GPU or a fraction of one.",
    "Stages",
    ("consumer", "stage"),
    unit="replicas",
    values=_MODELS,
)
