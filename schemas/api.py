"""What the REST interface says and takes about consumers and the service, version 1."""

from __future__ import annotations

from datetime import datetime

from pydantic import ConfigDict, Field

from schemas.api_types import In, Out, Reason

_MAX_TTL_S = 30 * 86400


class Problem(Out):
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


class DesiredOut(Out):
    """What was asked for, by whom, when and why."""

    state: str = Field(description="running, paused or stopped; what holds now, after an expired time to live.")
    actor: str
    reason: str | None
    at: datetime
    until: datetime | None = Field(description="When it turns back into running by itself.")


class ErrorOut(Out):
    """An error that ended a run."""

    at: datetime
    error_class: str
    message: str


class RangeOut(Out):
    """Offsets from start up to, not including, end."""

    start: int
    end: int


class PositionOut(Out):
    """What is committed: everything below the watermark, and these ranges above it."""

    watermark: int
    done: list[RangeOut] = Field(description="At most the first 100 ranges.")
    num_ranges: int
    sequence: int
    epoch: int


class LagOut(Out):
    """How far behind a consumer is, all its shards together: each process of it tells the same."""

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


class LagPointOut(Out):
    """One point of the lag's history."""

    at: datetime
    records: int
    seconds: float
    records_per_s: float


class ShardLagOut(Out):
    """How far behind one of the processes is that share a consumer."""

    shard: str = Field(description="Its number from 0, and how many there are: 0/3.")
    records: int
    watermark: int
    committed_at: datetime


class LagReport(Out):
    """The lag now, and over the last hour."""

    verdict: str | None
    lag: LagOut | None = Field(description="Null until the first measurement.")
    shards: list[ShardLagOut] = Field(description="Of each shard, where the consumer is divided; else empty.")
    time_to_catch_up_s: float | None
    error: str | None = Field(description="Why the last measurement failed, if it did.")
    history: list[LagPointOut]


class ThroughputOut(Out):
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


class ThroughputReport(Out):
    """Rates over 1, 5 and 15 minutes; videos, clips, seconds and bytes are those of this process."""

    windows: list[ThroughputOut]
    time_to_catch_up_s: float | None


class InFlightOut(Out):
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


class ConsumerSummary(Out):
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
    num_replays: int = Field(description="Rows that somebody asked for once more, and that are not finished since.")
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


class StageOut(Out):
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


class StagesReport(Out):
    """The stages in the order of the pipeline."""

    stages: list[StageOut]
    bottleneck: str | None
    num_in_flight: int


class CommitOut(Out):
    """One commit, as its snapshot tells it."""

    sequence: int
    epoch: int
    committed_at: datetime
    snapshot_id: int
    watermark: int
    num_videos: int | None = Field(description="Null for commits of another process.")
    num_clips: int | None


class TroubleOut(Out):
    """A retry, or a video that failed for good."""

    at: datetime
    kind: str
    row_id: int
    video_id: str
    stage: str | None
    error_class: str | None
    message: str


class WishIn(In):
    """Why, and for how long."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_extra={"example": {"reason": "store maintenance", "ttl_s": 3600}}
    )

    reason: Reason | None = None
    ttl_s: float | None = Field(None, gt=0, le=_MAX_TTL_S, description="Seconds until it resumes by itself.")


class ReasonIn(In):
    """Why."""

    reason: Reason | None = None


class StateOut(Out):
    """What is desired, and what is the case; the second follows the first."""

    consumer: str
    desired: DesiredOut
    observed: str


class TrailOut(Out):
    """One thing an operator did."""

    entry_id: str
    action: str
    consumer: str
    actor: str
    origin: str
    at: datetime
    reason: str | None
    detail: dict[str, str]


class LoginIn(In):
    """A bearer token, to be exchanged for a cookie."""

    token: str = Field(min_length=1, max_length=512)


class SessionOut(Out):
    """Who one is, and the value for X-CSRF-Token in requests that change something."""

    actor: str
    role: str
    csrf_token: str | None = Field(description="Null for a bearer token, which needs none.")


class HealthOut(Out):
    """A probe's answer."""

    status: str


class VersionOut(Out):
    """What runs."""

    version: str
    started_at: datetime
