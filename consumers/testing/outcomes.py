"""Rows and outcomes to test with."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction

from schemas.records import (
    BlobReference,
    ClipMedia,
    ClipOutcome,
    CutMethod,
    Failure,
    FailureKind,
    RawVideo,
    Span,
    Stage,
    VideoOutcome,
)

_START = datetime(2026, 1, 1, tzinfo=UTC)


def make_video(row_id: int, size_bytes: int | None = 1000, *, defect: str | None = None) -> RawVideo:
    """Return a row of a raw table; with ``defect``, one whose reference cannot be understood."""
    return RawVideo(
        row_id=row_id,
        snapshot_id=1,
        committed_at=_START,
        source_table="default.raw",
        video_id=f"video-{row_id}",
        blob=BlobReference(f"memory://videos/{row_id}.mp4") if defect is None else None,
        size_bytes=size_bytes,
        defect=defect,
    )


def kept_outcome(video: RawVideo, num_clips: int = 1, clip_bytes: int = 10) -> VideoOutcome:
    """Return an outcome with ``num_clips`` kept clips of ``clip_bytes`` each."""
    return VideoOutcome(clips=tuple(_clip(video, index, clip_bytes) for index in range(num_clips)))


def rejected_outcome(video: RawVideo) -> VideoOutcome:
    """Return an outcome whose only clip does not move enough."""
    clip = ClipOutcome(f"{video.row_id}-0", 0, _span(0), rejected_by=Stage.MOTION, reason="motion_below_min")
    return VideoOutcome(clips=(clip,))


def failed_outcome(kind: FailureKind = FailureKind.PERMANENT, message: str = "not a video") -> VideoOutcome:
    """Return the outcome of a video that could not be processed."""
    code = "not_a_video" if kind is FailureKind.PERMANENT else "object_unavailable"
    return VideoOutcome(failure=Failure(kind, Stage.OPEN, code, message))


def _span(index: int) -> Span:
    return Span(float(index), index + 1.0, index * 25, index * 25 + 25, Fraction(1, 25), index * 25, index * 25 + 25)


def _clip(video: RawVideo, index: int, clip_bytes: int) -> ClipOutcome:
    media = ClipMedia(CutMethod.STREAM_COPY, bytes(clip_bytes), None, 25, 0, has_audio=False)
    return ClipOutcome(f"{video.row_id}-{index}", index, _span(index), media=media)
