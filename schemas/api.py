"""What the control plane's REST interface says and takes, version 1."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

ConsumerId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
ClipId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
# Row ids are 64-bit in the tables.
RowId = Annotated[int, Field(ge=0, le=2**63 - 1)]
Reason = Annotated[str, Field(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")]
_MAX_TTL_S = 30 * 86400


class _Out(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


class _In(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Problem(_Out):
    """RFC 9457 problem details."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "urn:sluice:problem:unknown-consumer",
                "title": "There is no such consumer",
                "status": 404,
                "detail": "consumer 'films' is not hosted here; GET /api/v1/consumers lists those that are",
            }
        }
    )

    type: str = Field(description="Stable code of the problem.")
    title: str
    status: int
    detail: str = Field(description="What was wrong, and what to do.")
    errors: list[str] | None = Field(None, description="One line for each part of the request that does not fit.")


class DesiredOut(_Out):
    """What was asked for, by whom, when and why."""

    state: str = Field(description="running, paused or stopped; what holds now, after an expired time to live.")
    actor: str
    reason: str | None
    at: datetime
    until: datetime | None = Field(description="When it turns back into running by itself.")


class ErrorOut(_Out):
    """An error that ended a run."""

    at: datetime
    error_class: str
    message: str


class RangeOut(_Out):
    """Offsets from start up to, not including, end."""

    start: int
    end: int


class PositionOut(_Out):
    """What is committed: everything below the watermark, and these ranges above it."""

    watermark: int
    done: list[RangeOut] = Field(description="At most the first 100 ranges.")
    num_ranges: int
    sequence: int
    epoch: int


class LagOut(_Out):
    """How far behind."""

    measured_at: datetime
    records: int
    bytes: int | None = Field(description="Estimated from the mean size of other videos; null where rows tell no size.")
    snapshots: int
    seconds: float = Field(description="Age of the oldest uncommitted row; 0 when there is none.")
    is_exact: bool = Field(description="False: the row's snapshot has expired, so it is at least so old.")
    retention_headroom_s: float | None = Field(
        description="Seconds until the snapshot of the oldest uncommitted change may expire by the raw table's own "
        "rules (snapshot.time-retained, snapshot.num-retained.min and .max). Null where nothing is lost by that "
        "(tables with row ids: their rows outlive snapshots), with nothing uncommitted, and where only "
        "snapshots that have not come yet could push it out."
    )
    head_offset: int
    head_snapshot_id: int | None


class LagPointOut(_Out):
    """One point of the lag's history."""

    at: datetime
    records: int
    seconds: float
    records_per_s: float


class LagReport(_Out):
    """The lag now, and over the last hour."""

    verdict: str | None
    lag: LagOut | None = Field(description="Null until the first measurement.")
    time_to_catch_up_s: float | None
    error: str | None = Field(description="Why the last measurement failed, if it did.")
    history: list[LagPointOut]


class ThroughputOut(_Out):
    """Rates over one window."""

    window_s: float
    covered_s: float = Field(description="How much of the window has been observed.")
    records_per_s: float
    arrived_per_s: float
    ratio_to_arrival: float | None
    videos_per_s: float
    clips_per_s: float
    video_s_per_s: float
    bytes_per_s: float


class ThroughputReport(_Out):
    """Rates over 1, 5 and 15 minutes; videos, clips, seconds and bytes are those of this process."""

    windows: list[ThroughputOut]
    time_to_catch_up_s: float | None


class InFlightOut(_Out):
    """A video that is being processed."""

    row_id: int
    video_id: str
    size_bytes: int | None
    admitted_at: datetime
    age_s: float
    num_failures: int
    stage: str | None = Field(
        description="Where it stands: the stage that its worker is at, `decode` for the pass that does all stages "
        "without a model at once, or the model that it waits for; null while it waits for its next attempt."
    )
    stage_s: float | None = Field(description="Seconds since it got there.")
    is_waiting: bool = Field(description="No worker has taken it yet.")


class ConsumerSummary(_Out):
    """One consumer in a line."""

    consumer: str
    verdict: str | None
    observed: str
    desired: DesiredOut
    lag_records: int | None
    lag_seconds: float | None
    records_per_s: float | None = Field(description="Over one minute.")


class ConsumerDetail(ConsumerSummary):
    """Everything about one consumer."""

    position: PositionOut | None
    lag: LagOut | None
    throughput: list[ThroughputOut]
    time_to_catch_up_s: float | None
    in_flight: list[InFlightOut] = Field(description="At most the 100 oldest.")
    num_in_flight: int
    num_uncommitted: int
    bottleneck: str | None = Field(
        description="The stage that the others wait for: where the most waits, and of stages that share workers, or "
        "where nothing waits, the one in which the last videos spent the most time."
    )
    bottleneck_share: float | None = Field(description="Its share of the time of the last videos, 0 to 1.")
    store_error: str | None = Field(description="The store's last error, while it does not answer.")
    breaker_reason: str | None = Field(
        description="Why intake is held: failures look like our side's fault, and single videos probe whether they end."
    )
    last_error: ErrorOut | None = Field(description="What ended the last run that failed.")
    num_restarts: int
    restart_at: datetime | None
    is_superseded: bool = Field(description="A newer copy elsewhere has taken over; resume or restart takes it back.")


class StageOut(_Out):
    """One stage: its totals since this process started, and its queue and workers now."""

    model_config = ConfigDict(
        frozen=True,
        from_attributes=True,
        json_schema_extra={
            "example": {
                "stage": "caption",
                "num_in": 412,
                "num_out": 409,
                "rejected": {"caption_refused": 3},
                "wall_s": 5120.4,
                "cpu_s": 310.2,
                "waiting": 14,
                "replicas": 2,
                "gpu_replicas": 2,
                "mean_batch": 6.5,
            }
        },
    )

    stage: str
    num_in: int
    num_out: int
    rejected: dict[str, int]
    wall_s: float
    cpu_s: float
    waiting: int | None = Field(
        None,
        description="Items that wait for its workers: at scene_segmentation videos that no worker has taken, at a "
        "model clips. Null for stages without workers of their own.",
    )
    replicas: int | None = Field(
        None, description="Its workers that run; those of scene_segmentation do all stages without a model."
    )
    gpu_replicas: int | None = Field(None, description="Those of them that hold a GPU or a share of one.")
    mean_batch: float | None = Field(
        None, description="Mean batch that the last 200 clips were in; null where no model has seen any."
    )


class StagesReport(_Out):
    """The stages in the order of the pipeline."""

    stages: list[StageOut]
    bottleneck: str | None
    num_in_flight: int


class CommitOut(_Out):
    """One commit, as its snapshot tells it."""

    sequence: int
    epoch: int
    committed_at: datetime
    snapshot_id: int
    watermark: int
    num_videos: int | None = Field(description="Null for commits of another process.")
    num_clips: int | None


class TroubleOut(_Out):
    """A retry, or a video that failed for good."""

    at: datetime
    kind: str
    row_id: int
    video_id: str
    stage: str | None
    error_class: str | None
    message: str


class WishIn(_In):
    """Why, and for how long."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_extra={"example": {"reason": "store maintenance", "ttl_s": 3600}}
    )

    reason: Reason | None = None
    ttl_s: float | None = Field(None, gt=0, le=_MAX_TTL_S, description="Seconds until it resumes by itself.")


class ReasonIn(_In):
    """Why."""

    reason: Reason | None = None


class StateOut(_Out):
    """What is desired, and what is the case; the second follows the first."""

    consumer: str
    desired: DesiredOut
    observed: str


class PositionIn(_In):
    """Where to go on."""

    offset: RowId = Field(description="The first offset that is not done.")
    reason: Reason | None = None


class MoveOut(_Out):
    """What a change of position does."""

    dry_run: bool
    offset: int
    watermark: int
    num_read_again: int
    num_left_done: int = Field(description="Not read again: their clips are in the curated table.")
    num_skipped: int = Field(description="Never read; the audit will list them as missing.")


class DeadLetterOut(_Out):
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


class ReasonCount(_Out):
    """Clips that one stage rejected for one reason."""

    stage: str
    reason: str
    num_clips: int


class DeadLetterPage(_Out):
    """Dead letters, the highest row id first."""

    items: list[DeadLetterOut]
    next_before: int | None = Field(description="Pass as `before` for the next page; null on the last.")


class RejectedOut(_Out):
    """A video of which no clip was kept."""

    row_id: int
    video_id: str
    uri: str | None
    duration_s: float | None
    num_clips: int
    reasons: list[ReasonCount] = Field(description="The most frequent first; empty where no clip was found at all.")
    run: int
    processed_at: datetime


class RejectedPage(_Out):
    """Rejected videos, the highest row id first. A page may be short where many rows had to be looked at."""

    items: list[RejectedOut]
    next_before: int | None = Field(description="Pass as `before` for the next page; null on the last.")


class ReplayIn(_In):
    """Which dead letters to process again: these rows, or all that match."""

    row_ids: list[RowId] | None = Field(None, min_length=1, max_length=1000)
    stage: str | None = Field(None, max_length=64)
    error_class: str | None = Field(None, max_length=64)
    reason: Reason | None = None


class ReplayOut(_Out):
    """How many dead letters are processed again once the consumer has drained; an event says when.

    ``num_of_other_shards`` more match, and are left alone: the processes that do those shards have to be asked.
    """

    num_accepted: int
    num_of_other_shards: int = 0


class AuditOut(_Out):
    """Raw, ledger and curated table compared."""

    is_clean: bool
    rows: int
    ledger_rows: int
    clips: int
    pending: int
    missing: int
    duplicated: int
    unaccounted: int
    clips_missing: int
    clips_duplicated: int
    details: list[str]


class TrailOut(_Out):
    """One thing an operator did."""

    entry_id: str
    action: str
    consumer: str
    actor: str
    origin: str
    at: datetime
    reason: str | None
    detail: dict[str, str]


class ClipLink(_Out):
    """Where one curated clip is."""

    clip_id: str
    row_id: int = Field(description="In the curated table.")
    media_url: str | None = Field(description="Null where only a reference is kept.")
    thumbnail_url: str | None


class VideoStory(_Out):
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


class ClipPage(_Out):
    """Clips, the newest first."""

    items: list[ClipOut]
    next_before: int | None = Field(description="Pass as `before` for the next page; null on the last.")


class RegisterIn(_In):
    """Objects that have landed."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_extra={"example": {"uris": ["s3://videos/2026/05/01/a.mp4"]}}
    )

    uris: list[Annotated[str, Field(min_length=1, max_length=2048)]] = Field(min_length=1, max_length=500)


class RegisterOut(_Out):
    """How many objects got a row, and how many had one."""

    num_added: int
    num_already_present: int


class LoginIn(_In):
    """A bearer token, to be exchanged for a cookie."""

    token: str = Field(min_length=1, max_length=512)


class SessionOut(_Out):
    """Who one is, and the value for X-CSRF-Token in requests that change something."""

    actor: str
    role: str
    csrf_token: str | None = Field(description="Null for a bearer token, which needs none.")


class HealthOut(_Out):
    """A probe's answer."""

    status: str


class VersionOut(_Out):
    """What runs."""

    version: str
    started_at: datetime
