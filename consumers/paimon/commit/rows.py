"""Outcomes as rows of the ledger and curated tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import pyarrow as pa

from consumers.paimon.commit.staging import descriptor_of
from schemas.profile import Profile
from schemas.records import (
    AESTHETIC_SCORE,
    MOTION_MEAN_MAGNITUDE,
    NSFW_PROBABILITY,
    TECHNICAL_QUALITY,
    ClipOutcome,
    ProcessedVideo,
    RawVideo,
    Score,
)
from schemas.tables import CURATED, LEDGER


@dataclass(frozen=True, slots=True)
class Lineage:
    """What every row says of the commit that wrote it."""

    consumer: str
    epoch: int
    sequence: int
    profile: Profile

    def columns(self) -> dict[str, Any]:
        """Return the columns that both tables share."""
        return {
            "consumer": self.consumer,
            "epoch": self.epoch,
            "commit_sequence": self.sequence,
            "profile": self.profile.name,
            "profile_fingerprint": self.profile.fingerprint,
        }


def ledger_rows(
    videos: Sequence[tuple[ProcessedVideo, int]],
    lineage: Lineage,
    watermark: int | None = None,
    same_as: Mapping[int, int] | None = None,
) -> pa.Table:
    """Return one ledger row per video and run number.

    Args:
        videos: with the run number of each.
        lineage: of the commit.
        watermark: of the position that it leads to, where the source's offsets have gaps.
        same_as: by row id, the row that had the same bytes before.
    """
    first_rows, shared = same_as or {}, lineage.columns()
    rows = [
        _ledger_row(video, run, shared)
        | {"source_watermark": watermark, "source_same_as_row_id": first_rows.get(video.video.row_id)}
        for video, run in videos
    ]
    return pa.Table.from_pylist(rows, schema=LEDGER.schema)


def curated_rows(videos: Sequence[ProcessedVideo], lineage: Lineage) -> pa.Table:
    """Return one curated row per kept clip."""
    shared = lineage.columns()
    rows = [_curated_row(video, clip, shared) for video in videos for clip in video.outcome.clips if clip.kept]
    return pa.Table.from_pylist(rows, schema=CURATED.schema)


def kept_clip_ids(video: ProcessedVideo) -> frozenset[str]:
    """Return the ids of the clips that stand in the curated table for ``video``."""
    return frozenset(clip.clip_id for clip in video.outcome.clips if clip.kept)


def _source(video: RawVideo) -> dict[str, Any]:
    blob = video.blob
    return {
        "source_table": video.source_table,
        "source_row_id": video.row_id,
        "source_snapshot_id": video.snapshot_id,
        "video_id": video.video_id,
        "source_uri": None if blob is None else blob.uri,
        "source_offset_bytes": None if blob is None else blob.offset_bytes,
        "source_length_bytes": None if blob is None else blob.length_bytes,
    }


def _ledger_row(video: ProcessedVideo, run: int, shared: Mapping[str, Any]) -> dict[str, Any]:
    outcome, media, failure = video.outcome, video.outcome.media, video.outcome.failure
    num_kept = sum(clip.kept for clip in outcome.clips)
    row = {
        **_source(video.video),
        **shared,
        "source_committed_at": video.video.committed_at,
        "row_kind": video.video.row_kind.value,
        "source_key": video.video.key,
        "status": outcome.status.value,
        "num_clips_kept": num_kept,
        "num_clips_rejected": len(outcome.clips) - num_kept,
        "clips": [_ledger_clip(clip) for clip in outcome.clips],
        "attempts": video.attempts,
        "run": run,
        "timings": [
            {
                "stage": t.stage.value,
                "wall_s": t.wall_s,
                "cpu_s": t.cpu_s,
                "num_in": t.num_in,
                "num_out": t.num_out,
                "queue_s": t.queue_s if t.calls else None,
                "mean_batch": t.mean_batch,
            }
            for t in outcome.timings
        ],
        "bytes_read": outcome.bytes_read,
        "processed_at": video.processed_at,
    }
    if outcome.version is not None:
        row |= {
            "source_size_bytes": outcome.version.size_bytes,
            "source_etag": outcome.version.etag,
            "source_is_replaced": outcome.is_replaced,
        }
    if failure is not None:
        row |= {
            "failure_stage": failure.stage.value,
            "failure_class": failure.error_class,
            "failure_message": failure.message,
        }
    if media is not None:
        row |= {
            "container_format": media.container_format,
            "codec": media.codec,
            "width_px": media.width_px,
            "height_px": media.height_px,
            "fps": media.fps,
            "duration_s": media.duration_s,
            "num_frames": media.num_frames,
            "num_corrupt_frames": media.num_corrupt_frames,
            "rotation_degrees": media.rotation_degrees,
            "has_audio": media.has_audio,
        }
    return row


def _ledger_clip(clip: ClipOutcome) -> dict[str, Any]:
    return {
        "clip_id": clip.clip_id,
        "clip_index": clip.index,
        "start_s": clip.span.start_s,
        "end_s": clip.span.end_s,
        "start_frame": clip.span.start_frame,
        "end_frame": clip.span.end_frame,
        "kept": clip.kept,
        "rejected_by": None if clip.rejected_by is None else clip.rejected_by.value,
        "reason": clip.reason,
        "scores": [
            {
                "stage": s.stage.value,
                "name": s.name,
                "value": s.value,
                "method": s.method,
                "model_id": s.model_id,
                "model_revision": s.model_revision,
            }
            for s in clip.scores
        ],
    }


def _curated_row(video: ProcessedVideo, clip: ClipOutcome, shared: Mapping[str, Any]) -> dict[str, Any]:
    if clip.media is None or video.video.blob is None:
        raise ValueError(f"clip {clip.clip_id} of row {video.video.row_id} is kept, but has no media or no source")
    span, cut, media = clip.span, clip.media, video.outcome.media
    row = {
        **_source(video.video),
        **shared,
        "clip_id": clip.clip_id,
        "ingest_date": video.video.committed_at.astimezone(UTC).date().isoformat(),
        "clip_index": clip.index,
        "start_s": span.start_s,
        "end_s": span.end_s,
        "duration_s": span.duration_s,
        "start_pts": span.start_pts,
        "end_pts": span.end_pts,
        "time_base": f"{span.time_base.numerator}/{span.time_base.denominator}",
        "start_frame": span.start_frame,
        "end_frame": span.end_frame,
        **_score_columns(clip.scores),
        "clip": cut.data if cut.staged is None else descriptor_of(cut.staged),
        "thumbnail_jpeg": cut.thumbnail_jpeg,
        "cut_method": cut.cut_method.value,
        "num_frames": cut.num_frames,
        "num_hidden_frames": cut.num_hidden_frames,
        "has_audio": cut.has_audio,
        "processed_at": video.processed_at,
    }
    if media is not None:
        row |= {"width_px": media.width_px, "height_px": media.height_px, "fps": media.fps, "codec": media.codec}
    if clip.caption is not None:
        row |= {
            "caption": clip.caption.text,
            "caption_method": clip.caption.method,
            "caption_is_model_generated": clip.caption.is_model_generated,
            "caption_model_id": clip.caption.model_id,
            "caption_model_revision": clip.caption.model_revision,
        }
    return row


_SCORE_COLUMNS = {
    NSFW_PROBABILITY: ("nsfw_score", "nsfw"),
    MOTION_MEAN_MAGNITUDE: ("motion_score", "motion"),
    AESTHETIC_SCORE: ("aesthetic_score", "aesthetic"),
    TECHNICAL_QUALITY: ("technical_quality", "technical_quality"),
}


def _score_columns(scores: Sequence[Score]) -> Mapping[str, Any]:
    """Return the columns of the scores that have some; a formula's parts, say, are in the ledger only."""
    columns: dict[str, Any] = {}
    for score in scores:
        if score.name in _SCORE_COLUMNS:
            value_column, prefix = _SCORE_COLUMNS[score.name]
            columns |= {value_column: score.value, f"{prefix}_method": score.method}
            if score.model_id is not None:
                columns |= {f"{prefix}_model_id": score.model_id, f"{prefix}_model_revision": score.model_revision}
    return columns
