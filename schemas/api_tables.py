"""What the REST interface says and takes about the tables: positions, dead letters, videos and clips, version 1."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from schemas.api_types import In, Out, Reason, RowId


class PositionIn(In):
    """Where to go on."""

    offset: RowId = Field(description="The first offset that is not done.")
    reason: Reason | None = None


class MoveOut(Out):
    """What a change of position does."""

    dry_run: bool
    offset: int
    watermark: int
    num_read_again: int
    num_left_done: int = Field(description="Not read again: their clips are in the curated table.")
    num_skipped: int = Field(description="Never read; the audit will list them as missing.")


class DeadLetterOut(Out):
    """A video that failed for good."""

    row_id: int
    video_id: str
    uri: str | None
    stage: str
    error_class: str
    message: str
    attempts: int
    run: int
    processed_at: datetime


class ReasonCount(Out):
    """Clips that one stage rejected for one reason."""

    stage: str
    reason: str
    num_clips: int


class DeadLetterPage(Out):
    """Dead letters, the highest row id first."""

    items: list[DeadLetterOut]
    next_before: int | None = Field(description="Pass as `before` for the next page; null on the last.")


class RejectedOut(Out):
    """A video of which no clip was kept."""

    row_id: int
    video_id: str
    uri: str | None
    duration_s: float | None
    num_clips: int
    reasons: list[ReasonCount] = Field(description="The most frequent first; empty where no clip was found at all.")
    run: int
    processed_at: datetime


class RejectedPage(Out):
    """Rejected videos, the highest row id first. A page may be short where many rows had to be looked at."""

    items: list[RejectedOut]
    next_before: int | None = Field(description="Pass as `before` for the next page; null on the last.")


class VideoOut(Out):
    """What became of a video in its latest run."""

    row_id: int
    video_id: str
    uri: str | None
    status: str
    duration_s: float | None
    num_clips_kept: int
    num_clips_rejected: int
    stage: str | None = Field(description="Where it failed; null where it did not.")
    error_class: str | None = Field(description="Why it failed; null where it did not.")
    run: int
    processed_at: datetime


class VideoPage(Out):
    """Videos that have been processed, the highest row id first. A page may be short where many had to be looked at."""

    items: list[VideoOut]
    next_before: int | None = Field(description="Pass as `before` for the next page; null on the last.")


class ReplayIn(In):
    """Which dead letters to process again: these rows, or all that match."""

    row_ids: list[RowId] | None = Field(None, min_length=1, max_length=1000)
    stage: str | None = Field(None, max_length=64)
    error_class: str | None = Field(None, max_length=64)
    reason: Reason | None = None


class ReplayOut(Out):
    """How many dead letters are processed again; an event says when the tables hold it."""

    num_accepted: int
    num_of_other_shards: int = Field(
        0, description="So many more match, and are left alone: the processes that do those shards have to be asked."
    )
    num_busy: int = Field(0, description="So many more are being processed already.")
    num_expired: int = Field(
        0, description="So many more can not be: their changes have expired in the raw table; register them anew."
    )


class AuditOut(Out):
    """Raw, ledger and curated table compared."""

    is_clean: bool
    rows: int = Field(description="Of a table that is read change by change, those that stand in it.")
    ledger_rows: int
    clips: int
    pending: int = Field(
        description="Rows or changes beyond the position, and deleted rows with clips to be taken out; not an error."
    )
    missing: int = Field(description="Rows that the position covers and the ledger lacks.")
    mismatched: int = Field(description="Rows of which the ledger tells another video or version than stands there.")
    duplicated: int
    unaccounted: int = Field(description="Clips that no ledger row keeps, or whose row was deleted.")
    clips_missing: int
    clips_duplicated: int
    clips_retired: int = Field(description="Clips of older versions and of deleted videos; not an error.")
    files_missing: int
    files_damaged: int = Field(description="Files of another size than their table tells.")
    clips_checked: int = Field(description="Clips that were decoded.")
    clips_broken: int = Field(description="Clips without bytes, or that are not what their row tells.")
    details: list[str] = Field(description="Examples: which table, row and file.")


class ClipLink(Out):
    """Where one curated clip is."""

    clip_id: str
    row_id: int = Field(description="In the curated table.")
    media_url: str | None = Field(description="Null where only a reference is kept.")
    thumbnail_url: str | None


class VideoStory(Out):
    """One video's whole story."""

    row_id: int
    video_id: str | None
    uri: str | None
    landed_snapshot_id: int | None
    landed_at: datetime | None
    status: str = Field(description="waiting, in_flight, curated, rejected, failed, or deleted.")
    runs: list[dict[str, Any]] = Field(description="Its ledger rows: spans, scores, verdicts, timings, attempts.")
    clips: list[ClipLink] = Field(description="Those of its clips that are in the curated table.")


class ClipOut(ClipLink):
    """One curated clip, without its bytes."""

    values: dict[str, Any] = Field(description="Every column of the curated table but the bytes.")


class ClipPage(Out):
    """Clips, the newest first."""

    items: list[ClipOut]
    next_before: int | None = Field(description="Pass as `before` for the next page; null on the last.")


class RegisterIn(In):
    """Objects that have landed."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_extra={"example": {"uris": ["s3://videos/2026/05/01/a.mp4"]}}
    )

    uris: list[Annotated[str, Field(min_length=1, max_length=2048)]] = Field(min_length=1, max_length=500)


class RegisterOut(Out):
    """How many objects got a row, and how many had one."""

    num_added: int
    num_already_present: int


class TakedownIn(In):
    """A video that is to have no clips any more."""

    kind: Literal["video_id", "uri", "row"] = Field(description="What `value` is.")
    value: str = Field(min_length=1, max_length=2000, pattern=r"^[^\x00-\x1f\x7f]*$")
    reason: Reason | None = None


class TakedownObeyedOut(Out):
    """What one shard of a consumer has done for a takedown."""

    consumer: str
    shard: str
    at: datetime
    num_rows: int
    num_clips: int
    ledger_snapshot_id: int
    curated_snapshot_id: int = Field(description="Since this snapshot no clip stands.")


class TakedownOut(Out):
    """A takedown, and how far it is done."""

    takedown_id: str
    target: str
    by: str
    origin: str
    at: datetime
    reason: str | None
    video_ids: list[str]
    uris: list[str]
    parts: list[str] = Field(description="Parts of objects, as `uri offset+length`.")
    obeyed: list[TakedownObeyedOut]
    clips_standing: int
    has_old_snapshots: bool = Field(description="Snapshots are retained in which its clips can still be read.")
    bytes_due_at: datetime | None = Field(
        description="When the bytes of its clips are to be off the store; null where another engine sees to it."
    )
    bytes_rewritten_at: datetime | None = Field(
        description="Since when no file of the newest snapshot holds them; null while one may."
    )
    bytes_gone_at: datetime | None = Field(
        description="Since when no file of the store holds them, those of older snapshots included; null while one may."
    )
    is_overdue: bool = Field(description="They should be off the store, and are not known to be.")


class TakedownPage(Out):
    """Takedowns, the newest first."""

    items: list[TakedownOut]
